package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Schema is the schema number of result files. Fields are added without raising it.
const Schema = 1

// fileKind marks a result file, whatever it is called.
const fileKind = "redisopt.bench"

// maxFileBytes bounds what is read as a result file.
const maxFileBytes = 256 << 20

// A File is what one call of the benchmark measured: every scenario with its full histograms, and what is
// needed to judge whether two files may be compared.
type File struct {
	Kind   string `json:"kind"`
	Schema int    `json:"schema"`

	// Program is the version of the program that measured.
	Program string `json:"program"`

	// Target says what was measured: "redis over TCP", "embedded, not evidence". It never holds a
	// credential.
	Target string `json:"target"`

	// Evidence is false when the target is no real one, so that nothing may be concluded from it.
	Evidence bool `json:"evidence"`

	// Host is where it was measured from: operating system, architecture and number of CPUs.
	Host string `json:"host"`

	// Made is when the file was made.
	Made time.Time `json:"made"`

	// Seed is the seed of the keys that were chosen.
	Seed uint64 `json:"seed"`

	Scenarios []Measured `json:"scenarios"`
}

// Measured is one scenario of a File.
type Measured struct {
	Name   string  `json:"name"`
	Result *Result `json:"result"`

	// Commands is how many billed commands the target's Redis was sent for all operations, the warm-up
	// left out, and InScript how many of them scripts ran; -1 when nobody counted.
	Commands int64 `json:"commands"`
	InScript int64 `json:"in_script"`

	// Note says what a reader must know: lost or doubled jobs, a load that was not what it should be.
	// Empty when there is nothing.
	Note string `json:"note,omitempty"`

	// Broken says that what the target did was wrong, whatever the speed: a job was lost, an answer was not
	// what was stored. Empty when it was right.
	Broken string `json:"broken,omitempty"`
}

// CommandsPerOperation is the billed commands for each operation that was started; -1 when nobody counted.
func (m Measured) CommandsPerOperation() float64 {
	if m.Commands < 0 || m.Result == nil || m.Result.Started == 0 {
		return -1
	}
	return float64(m.Commands) / float64(m.Result.Started)
}

// A SchemaError reports a result file of another version.
type SchemaError struct {
	Got, Known int
	Program    string // that wrote it; may be empty
}

func (e *SchemaError) Error() string {
	by := ""
	if e.Program != "" {
		by = ", written by version " + e.Program
	}
	return fmt.Sprintf("result file has schema %d%s, this program knows schema %d", e.Got, by, e.Known)
}

// ReadFile reads a result file. It returns a *SchemaError for one of another version, and an error that
// says what is wrong for anything that is no result file.
func ReadFile(path string) (*File, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	text, err := io.ReadAll(io.LimitReader(in, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("%s: more than %d MiB, which no result file is", path, maxFileBytes>>20)
	}
	f, err := ParseFile(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// ParseFile reads the text of a result file.
func ParseFile(text []byte) (*File, error) {
	var head struct {
		Kind    string `json:"kind"`
		Schema  int    `json:"schema"`
		Program string `json:"program"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, fmt.Errorf("no result file: %w", err)
	}
	if head.Kind != fileKind {
		return nil, fmt.Errorf("no result file: kind %q, want %q, as redisopt bench --out writes it", head.Kind, fileKind)
	}
	if head.Schema != Schema {
		return nil, &SchemaError{Got: head.Schema, Known: Schema, Program: head.Program}
	}
	var f File
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("damaged result file: %w", err)
	}
	for i, m := range f.Scenarios {
		if m.Name == "" || m.Result == nil {
			return nil, fmt.Errorf("damaged result file: scenario %d has no name or no result", i+1)
		}
	}
	return &f, nil
}

// WriteFile writes f to path: whole, or not at all.
func (f *File) WriteFile(path string) error {
	f.Kind, f.Schema = fileKind, Schema
	text, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("result file: %w", err)
	}
	out, err := os.CreateTemp(filepath.Dir(path), ".redisopt-bench-*")
	if err != nil {
		return fmt.Errorf("result file: %w", err)
	}
	_, err = out.Write(append(text, '\n'))
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return errors.Join(fmt.Errorf("result file: %w", err), os.Remove(out.Name()))
	}
	if err := os.Rename(out.Name(), path); err != nil {
		return errors.Join(fmt.Errorf("result file: %w", err), os.Remove(out.Name()))
	}
	return nil
}

// Find is the scenario of that name, or nil.
func (f *File) Find(name string) *Measured {
	for i := range f.Scenarios {
		if f.Scenarios[i].Name == name {
			return &f.Scenarios[i]
		}
	}
	return nil
}

// Merge adds what another machine, or another run, measured of the same scenarios; those that only other
// has are taken over.
func (f *File) Merge(other *File) {
	for _, m := range other.Scenarios {
		own := f.Find(m.Name)
		if own == nil {
			f.Scenarios = append(f.Scenarios, m)
			continue
		}
		own.Result.Add(m.Result)
		if own.Commands < 0 || m.Commands < 0 {
			own.Commands, own.InScript = -1, -1
		} else {
			own.Commands, own.InScript = own.Commands+m.Commands, own.InScript+m.InScript
		}
		if own.Broken == "" {
			own.Broken = m.Broken
		}
		if own.Note == "" {
			own.Note = m.Note
		}
	}
	f.Evidence = f.Evidence && other.Evidence
}
