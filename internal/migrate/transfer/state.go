package transfer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// stateSchema is the schema of the file.
const stateSchema = 1

// state is how far a copy is. Where it is behind, keys are copied or compared once more, which changes
// nothing.
type state struct {
	Schema int       `json:"schema"`
	From   string    `json:"from"`
	To     string    `json:"to"`
	Began  time.Time `json:"began"`

	// Empty is true when the target had no key when the copy began: what is there and not at the source
	// is then a key that was deleted meanwhile.
	Empty    bool     `json:"empty"`
	Existing Existing `json:"existing"`

	Pass   int    `json:"pass"`   // under way
	Cursor uint64 `json:"cursor"` // of SCAN, where it goes on
	Broken bool   `json:"broken"` // the pass under way was interrupted
	Done   bool   `json:"done"`

	// SourceRun is the process of the source in which Cursor means something.
	SourceRun string `json:"source_run"`

	Result Result `json:"result"`

	before *Result // of the copy that was done before this one; nil: there was none
}

// load reads the file, and begins where there is none or where the last copy is done.
func load(o Options, now time.Time) (*state, bool, error) {
	text, err := os.ReadFile(o.File)
	if errors.Is(err, fs.ErrNotExist) {
		return begin(o, now), false, nil
	}
	if err != nil {
		return nil, false, err
	}
	var s state
	switch err := json.Unmarshal(text, &s); {
	case err != nil:
		return nil, false, &StateError{o.File, "it is damaged; move it out of the way, and the copy begins anew"}
	case s.Schema != stateSchema:
		return nil, false, &StateError{o.File, fmt.Sprintf("it has schema %d, and this version knows %d", s.Schema, stateSchema)}
	case s.From != o.From || s.To != o.To:
		return nil, false, &StateError{o.File, fmt.Sprintf("it is of a copy from %s to %s", s.From, s.To)}
	case s.Done:
		next := begin(o, now)
		next.before = &s.Result
		return next, false, nil
	case s.Existing != o.Existing && !s.Empty:
		return nil, false, &StateError{o.File, fmt.Sprintf("the copy was begun with existing keys %q; go on with the same", s.Existing)}
	}
	if s.Result.Differences == nil {
		s.Result.Differences = []Difference{}
	}
	return &s, true, nil
}

func begin(o Options, now time.Time) *state {
	return &state{
		Schema: stateSchema, From: o.From, To: o.To, Began: now.UTC(), Existing: o.Existing,
		Result: Result{Passes: []Pass{}, Differences: []Difference{}},
	}
}

// save replaces the file; what it says is on disk when it returns nil.
func (s *state) save(path string) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	part := path + ".part"
	file, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(part, path)
}
