// Package transfer copies every key of one Redis to another while the application goes on writing to the
// first: a pass over all keys, then passes that compare each key on both sides and copy again what differs,
// until a pass finds nothing or the writes are faster. Keys travel as the server's own DUMP where both sides
// take it, else by their type. What is done is noted in a file, so that a crash at any instant is gone on
// from.
package transfer

import (
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
)

// Existing says what becomes of keys that the target has already.
type Existing string

// What becomes of them. Refuse, the default, wants an empty target.
const (
	Refuse  Existing = ""
	Replace Existing = "replace" // the source's key takes their place
	Keep    Existing = "keep"    // they stay, and are listed where they differ
)

// Options say what is copied where.
type Options struct {
	// Source and Target are the two. Required. The source is only read, but for PauseWrites.
	Source, Target redis.UniversalClient

	// From and To name them in the file, without credentials: a copy that was begun between two goes on
	// only between the same. Required.
	From, To string

	// File keeps how far the copy is. Required.
	File string

	// Existing says what becomes of keys that the target has already. Default Refuse.
	Existing Existing

	// AllowEviction copies although the target may evict keys. Default false.
	AllowEviction bool

	// Passes is the most passes that compare, after the one that copies. Default 3; at least 1.
	Passes int

	// PauseWrites, when positive, has the source hold back all writes of everybody for at most so long
	// during a last pass, so that nothing can differ. Default 0: nobody is held back.
	PauseWrites time.Duration

	// Sample is about how many keys are compared value by value besides. Default 1,000; negative: none.
	Sample int64

	// Pace says how fast; nil: as fast as both answer.
	Pace *migrate.Pace

	// OnProgress, when not nil, is told how far a pass is, from the goroutine of Run.
	OnProgress func(migrate.Progress)
}

func (o Options) withDefaults() Options {
	if o.Passes == 0 {
		o.Passes = 3
	}
	if o.Sample == 0 {
		o.Sample = 1000
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if o.Source == nil || o.Target == nil {
		errs = append(errs, errors.New("source and target: got none"))
	}
	if o.From == "" || o.To == "" || o.File == "" {
		errs = append(errs, errors.New("names of source, target and file: got none"))
	}
	switch o.Existing {
	case Refuse, Replace, Keep:
	default:
		errs = append(errs, fmt.Errorf("existing: got %q, want replace or keep", o.Existing))
	}
	if o.Passes < 1 || o.PauseWrites < 0 {
		errs = append(errs, fmt.Errorf("passes and pause: got %d and %s, want at least 1 and 0s", o.Passes, o.PauseWrites))
	}
	return errors.Join(errs...)
}

// A Pass is what one pass over all keys did.
type Pass struct {
	Pass    int   `json:"pass"`    // 0 copies, the others compare
	Looked  int64 `json:"looked"`  // keys of the source
	Copied  int64 `json:"copied"`  // of them
	Kept    int64 `json:"kept"`    // the target had one of the name, which stays
	Deleted int64 `json:"deleted"` // at the target, because the source has them no more
	Differ  int64 `json:"differ"`  // were found to differ, before they were copied again
}

// A Difference is one key that is not the same on both sides.
type Difference struct {
	Key  string `json:"key"`
	What string `json:"what"` // "missing", "type", "values", "expiry", "extra"
}

// A Result is what a copy came to.
type Result struct {
	Passes []Pass `json:"passes"`

	// ByType is how many keys were copied by their type, because a server did not take DUMP or the key is
	// large, and Why is what a server said; empty when none did.
	ByType int64  `json:"by_type"`
	Why    string `json:"why"`

	// SourceKeys and TargetKeys are how many there are at the end; Compared were found the same by their
	// seals in the last pass, and Sampled of them value by value.
	SourceKeys int64 `json:"source_keys"`
	TargetKeys int64 `json:"target_keys"`
	Compared   int64 `json:"compared"`
	Sampled    int64 `json:"sampled"`

	// Digest is that of the seals of all keys that were found the same, whatever their order.
	Digest string `json:"digest"`

	// Differences are keys that still differ, at most 100; DifferencesTotal counts all.
	Differences      []Difference `json:"differences"`
	DifferencesTotal int64        `json:"differences_total"`

	// PausedMS is how long writes were held back.
	PausedMS int64 `json:"paused_ms"`

	// Interrupted is true when the last pass was: what it saw first may have changed since.
	Interrupted bool `json:"interrupted"`
}

// A DifferError reports a copy that is not the same as its source.
type DifferError struct {
	Count int64
	Keys  []Difference // the first few
}

func (e *DifferError) Error() string {
	text := fmt.Sprintf("%d keys differ between source and target", e.Count)
	for i, d := range e.Keys {
		if i == 3 {
			return text + " …"
		}
		text += fmt.Sprintf(", %q (%s)", d.Key, d.What)
	}
	return text
}

// A PauseError reports that the last passes took longer than writes were held back: what was written after
// that is not known to be at the target.
type PauseError struct{ For, Took time.Duration }

func (e *PauseError) Error() string {
	return fmt.Sprintf("writes were held back for %s and the last passes took %s, so what was written meanwhile may be missing",
		e.For, e.Took.Round(time.Millisecond))
}

// A StateError reports a file that does not fit this copy.
type StateError struct {
	File string
	Why  string
}

func (e *StateError) Error() string { return fmt.Sprintf("%s: %s", e.File, e.Why) }
