package migrate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// planSchema is the version of plan files that this program writes and the newest it reads.
const planSchema = 1

// maxPlanFile is the most bytes a plan file may have.
const maxPlanFile = 32 << 20

// A PlanFile is a plan that somebody can read, approve and carry to where it is run. Its Hash is taken
// over everything else in it, so what is run is what was approved.
type PlanFile struct {
	Schema  int       `json:"schema"`
	Created time.Time `json:"created"`

	// Database is the name that migrations gave the database, empty where none was ever begun.
	Database string `json:"database"`

	// Phases are in the order in which they should be run.
	Phases []PlannedPhase `json:"phases"`

	// Hash is the SHA-256, in 64 lower-case hexadecimal digits, of the file without it, as compact JSON.
	Hash string `json:"hash"`
}

// A PlannedPhase is one phase of a plan file.
type PlannedPhase struct {
	Target Target `json:"target"`

	// Plan is the hash that an Engine gives the phase: of its options and the names of its steps.
	Plan string `json:"plan"`

	// Options is what the phase is made from.
	Options json.RawMessage `json:"options"`

	// Outline is what the phase would do, as it was when the plan was made.
	Outline Outline `json:"outline"`
}

// PlanPhase makes the entry of p in a plan file. It writes nothing.
func PlanPhase(p Phase, o Outline) (PlannedPhase, error) {
	hash, err := PlanOf(p)
	if err != nil {
		return PlannedPhase{}, err
	}
	options, err := json.Marshal(p.Options())
	if err != nil {
		return PlannedPhase{}, fmt.Errorf("options of %s: %w", p.Target(), err)
	}
	return PlannedPhase{Target: p.Target(), Plan: hash, Options: options, Outline: o.Normal()}, nil
}

// PlanOf is the hash of what an Engine would do with p, as a State names it.
func PlanOf(p Phase) (string, error) {
	e := NewEngine(nil, p.Steps()...)
	e.Options = p.Options()
	return e.Plan()
}

// NewPlanFile returns the file of these phases.
func NewPlanFile(database string, now time.Time, phases ...PlannedPhase) (PlanFile, error) {
	f := PlanFile{Schema: planSchema, Created: now.UTC().Truncate(time.Second), Database: database, Phases: phases}
	if f.Phases == nil {
		f.Phases = []PlannedPhase{}
	}
	var err error
	f.Hash, err = f.sum()
	return f, err
}

// sum is the hash of f's content.
func (f PlanFile) sum() (string, error) {
	f.Hash = ""
	content, err := json.Marshal(f)
	if err != nil {
		return "", fmt.Errorf("plan: %w", err)
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:]), nil
}

// Write writes f as indented JSON.
func (f PlanFile) Write(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(f)
}

// ReadPlanFile reads a plan file and refuses, with a *PlanFileError, one that is not what was written:
// edited, cut, or of a newer program.
func ReadPlanFile(r io.Reader) (PlanFile, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxPlanFile+1))
	if err != nil {
		return PlanFile{}, err
	}
	if len(text) > maxPlanFile {
		return PlanFile{}, &PlanFileError{Why: fmt.Sprintf("it has more than %d bytes", maxPlanFile)}
	}
	var probe struct {
		Schema int `json:"schema"`
	}
	if json.Unmarshal(text, &probe) == nil && probe.Schema > planSchema {
		return PlanFile{}, &PlanFileError{Why: fmt.Sprintf("it has schema %d, this version reads up to %d", probe.Schema, planSchema)}
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	var f PlanFile
	if err := dec.Decode(&f); err != nil {
		return PlanFile{}, &PlanFileError{Why: fmt.Sprintf("it is no plan: %v", err)}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return PlanFile{}, &PlanFileError{Why: "something follows the plan"}
	}
	switch sum, err := f.sum(); {
	case f.Schema < 1:
		return PlanFile{}, &PlanFileError{Why: "it has no schema"}
	case err != nil:
		return PlanFile{}, &PlanFileError{Why: err.Error()}
	case sum != f.Hash:
		return PlanFile{}, &PlanFileError{Why: fmt.Sprintf("it was changed since it was made: its hash is %.12s and its content gives %.12s", f.Hash, sum)}
	}
	return f, nil
}

// Of returns the planned phase of t.
func (f PlanFile) Of(t Target) (PlannedPhase, error) {
	for _, p := range f.Phases {
		if p.Target == t {
			return p, nil
		}
	}
	return PlannedPhase{}, &PlanFileError{Why: fmt.Sprintf("it does not plan %s", t)}
}

// Check returns a *PlanFileError when phase, made now, is another than what was planned, or when it
// would lose something of a kind that the plan does not list.
func (p PlannedPhase) Check(phase Phase, now Outline) error {
	hash, err := PlanOf(phase)
	if err != nil {
		return err
	}
	if hash != p.Plan {
		return &PlanFileError{Why: fmt.Sprintf("%s was planned as %.12s and would now be %.12s", p.Target, p.Plan, hash)}
	}
	var more []string
	for _, l := range now.Losses {
		known := slices.ContainsFunc(p.Outline.Losses, func(k Loss) bool { return k.Field == l.Field && k.Why == l.Why })
		if !known && !slices.Contains(more, l.Field) {
			more = append(more, l.Field)
		}
	}
	if len(more) > 0 {
		return &PlanFileError{Why: fmt.Sprintf("%s would now lose %s, which the plan does not say", p.Target, strings.Join(more, ", "))}
	}
	return nil
}

// A PlanFileError reports a plan file that cannot be run as it is.
type PlanFileError struct{ Why string }

func (e *PlanFileError) Error() string { return "plan file: " + e.Why }
