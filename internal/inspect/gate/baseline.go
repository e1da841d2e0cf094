package gate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// BaselineKind names the form of a baseline file and its version.
const BaselineKind = "budget-baseline/v1"

// maxFileBytes bounds what is read from a file of evidence.
const maxFileBytes = 32 << 20

// A Baseline is what a change is compared with. What is nil was not known then.
type Baseline struct {
	// Source names it in messages: a file, or a revision. It is not stored.
	Source string `json:"-"`

	Connections *Span     `json:"connections,omitempty"`
	Idle        *Span     `json:"idle_commands_per_month,omitempty"`
	Processes   []Process `json:"processes"`
	Sites       []Site    `json:"sites"`

	LiveConnections *Span       `json:"live_connections,omitempty"`
	LiveCommands    *Span       `json:"live_commands_per_month,omitempty"`
	Operations      []Operation `json:"operations"`
	Findings        []KnownOne  `json:"findings"`
}

// A KnownOne is a finding that was there before. Its line is left out on purpose: lines move.
type KnownOne struct {
	Rule    string `json:"rule"`
	Subject string `json:"subject,omitempty"`
	File    string `json:"file,omitempty"`
	Anchor  string `json:"anchor,omitempty"`
}

// A VersionError says that a file is of another kind or version than this program reads.
type VersionError struct{ Got, Want string }

// Error names both.
func (e *VersionError) Error() string {
	return fmt.Sprintf("is of the kind %q, and this program reads %q", e.Got, e.Want)
}

// BaselineOf is what later changes are compared with.
func BaselineOf(e Evidence) *Baseline {
	b := &Baseline{Processes: []Process{}, Sites: []Site{}, Operations: []Operation{}, Findings: []KnownOne{}}
	add := func(found []Finding) {
		for _, f := range found {
			b.Findings = append(b.Findings, KnownOne{f.Rule, f.Subject, f.File, f.Anchor})
		}
	}
	if s := e.Static; s != nil {
		b.Connections, b.Idle = &s.Connections, &s.Idle
		b.Processes = append(b.Processes, s.Processes...)
		b.Sites = append(b.Sites, s.Sites...)
		add(s.Findings)
	}
	if l := e.Live; l != nil {
		b.LiveConnections, b.LiveCommands = l.Connections, l.CommandsPerMonth
		add(l.Findings)
	}
	if r := e.Recorded; r != nil {
		b.Operations = append(b.Operations, r.Operations...)
	}
	return b
}

// Write prints b in the form that ReadBaseline reads. Equal evidence gives equal bytes.
func (b *Baseline) Write(w io.Writer) error {
	sorted := *b
	sorted.Findings = slices.Clone(b.Findings)
	slices.SortFunc(sorted.Findings, func(x, y KnownOne) int {
		return strings.Compare(x.key()+"\x00"+x.Anchor, y.key()+"\x00"+y.Anchor)
	})
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(struct {
		Kind string    `json:"kind"`
		Data *Baseline `json:"data"`
	}{BaselineKind, &sorted})
}

// ReadBaseline reads what Write wrote, of at most 32 MiB. A *VersionError says that the file is of
// another version.
func ReadBaseline(r io.Reader) (*Baseline, error) {
	b := &Baseline{}
	if err := readKind(r, BaselineKind, b); err != nil {
		return nil, err
	}
	for _, s := range []*Span{b.Connections, b.Idle, b.LiveConnections, b.LiveCommands} {
		if s != nil && !s.sane() {
			return nil, errors.New("a number in it is negative, or its bounds are crossed")
		}
	}
	for _, s := range b.Sites {
		if !s.Connections.sane() || !s.Idle.sane() || !s.Made.sane() {
			return nil, fmt.Errorf("site %s:%d: a number is negative, or its bounds are crossed", s.File, s.Line)
		}
	}
	return b, nil
}

func (s Span) sane() bool { return s.Min >= 0 && s.Max >= s.Min }

// readKind reads one document of a kind into data.
func readKind(r io.Reader, kind string, data any) error {
	text, err := io.ReadAll(io.LimitReader(r, maxFileBytes+1))
	switch {
	case err != nil:
		return err
	case len(text) > maxFileBytes:
		return fmt.Errorf("is longer than %d bytes", maxFileBytes)
	case len(bytes.TrimSpace(text)) == 0:
		return errors.New("is empty")
	}
	var doc struct {
		Kind string          `json:"kind"`
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return fmt.Errorf("is no JSON of the kind %s: %w", kind, err)
	}
	if doc.Kind != kind {
		return &VersionError{Got: doc.Kind, Want: kind}
	}
	if len(doc.Data) == 0 || string(doc.Data) == "null" {
		return fmt.Errorf("has no data beside its kind %s", kind)
	}
	if err := json.Unmarshal(doc.Data, data); err != nil {
		return fmt.Errorf("is no JSON of the kind %s: %w", kind, err)
	}
	return nil
}
