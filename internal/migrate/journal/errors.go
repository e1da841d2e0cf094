package journal

import (
	"errors"
	"fmt"
)

// ErrFenced means that the lease is no longer held by the token the journal was opened with, so
// nothing was appended, neither here nor in Redis.
var ErrFenced = errors.New("the lease was taken over")

// ErrBroken means that an earlier append did not become durable. The journal must be opened again,
// which reads back what is really there.
var ErrBroken = errors.New("journal must be opened again after a failed append")

// A DamagedError reports a journal whose bytes are not what was written. Where says which copy: the
// path of the local file, or the Redis key of the mirror. What is known of the other copy says whether
// the damaged one can be given up.
type DamagedError struct {
	Where string
	Err   error

	// Lines is how many entries the damaged copy seems to have had, as far as it can still be told.
	Lines int

	// Other is where the other copy is kept; empty where there is no mirror.
	Other string

	// OtherLen is how many entries the other copy has: 0 when there is none, or when OtherErr says why
	// it is not known.
	OtherLen int

	// OtherErr is why the other copy is no help or could not be looked at: a *DamagedError of its own, or
	// what kept it from being read. Nil when it is whole, or missing.
	OtherErr error
}

func (e *DamagedError) Error() string {
	text := fmt.Sprintf("journal %s is damaged: %v", e.Where, e.Err)
	if e.OtherErr != nil {
		text += "; and " + e.OtherErr.Error()
	}
	return text
}

// Unwrap returns what is wrong with either copy.
func (e *DamagedError) Unwrap() []error {
	if e.OtherErr == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.OtherErr}
}

// Replaceable is whether the other copy has all that the damaged one had, so that a journal opened without
// the damaged one is complete. The last line of the damaged copy may be one that was never acknowledged.
func (e *DamagedError) Replaceable() bool {
	return e.OtherErr == nil && e.OtherLen > 0 && e.OtherLen >= e.Lines-1
}

// A ForkError reports that the local file and the mirror agree up to entry Seq-1 and differ from
// there: two operators wrote, or one of the copies belongs to another Redis.
type ForkError struct {
	Path      string // the local file
	Key       string // the Redis key of the mirror
	Seq       int64  // the first entry that differs
	LocalLen  int64  // entries in the local file
	MirrorLen int64  // entries in the mirror
}

func (e *ForkError) Error() string {
	return fmt.Sprintf("journal %s (%d entries) and its copy in Redis, %s (%d entries), differ from entry %d on",
		e.Path, e.LocalLen, e.Key, e.MirrorLen, e.Seq)
}

// A SchemaError reports an entry written by a later version of this program.
type SchemaError struct{ Got int }

func (e *SchemaError) Error() string {
	return fmt.Sprintf("entry has schema %d, this version reads up to %d", e.Got, Schema)
}
