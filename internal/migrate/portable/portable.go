// Package portable reads keys of any type into a form that any Redis takes back, and writes them there
// again: strings, lists, sets, sorted sets and hashes by their values, a portion at a time, so that memory
// stays bounded however large a key is; streams and types of modules as the server's own DUMP, which a
// server of the same or a later version restores. The time at which a key expires is kept.
//
// It knows nothing of where the form is kept: a Sink is a file, another Redis, or a digest.
package portable

import (
	"fmt"
	"time"
)

// The types that are read by their values. All others are one DUMP.
const (
	String = "string"
	List   = "list"
	Set    = "set"
	ZSet   = "zset"
	Hash   = "hash"
)

// A Key is what is known of a key beside its values.
type Key struct {
	Name string
	Type string // as TYPE says: "string", "list", "set", "zset", "hash", "stream" …

	// ExpireAt is when the key expires, to the millisecond; zero means never.
	ExpireAt time.Time
}

// Dumped is true for a key whose only value is a DUMP.
func (k Key) Dumped() bool {
	switch k.Type {
	case String, List, Set, ZSet, Hash:
		return false
	}
	return true
}

// Width is how many values make one element: 2 for a hash (field, value) and a sorted set (member, score).
func (k Key) Width() int {
	if k.Type == Hash || k.Type == ZSet {
		return 2
	}
	return 1
}

// A Sink takes keys, one after the other: Begin, any number of Values, End. The values of a string are
// pieces of it in order; those of a list are its elements in order; those of a set, a hash and a sorted set
// come in any order, and where the server resized its table meanwhile some of them twice.
type Sink interface {
	Begin(k Key) error

	// Values takes some values of the key. The slice is not kept.
	Values(values []string) error
	End() error
}

// A FieldSink is a Sink that also takes when single fields of a hash expire, between its Values and its End. A
// Sink that is none loses that.
type FieldSink interface {
	Sink

	// Expiries takes some fields that expire. The slice is not kept.
	Expiries(fields []FieldExpiry) error
}

// A FieldExpiry says when one field of a hash expires, to the millisecond.
type FieldExpiry struct {
	Field string
	At    time.Time
}

// A ValueError reports values that do not fit the type of their key.
type ValueError struct {
	Key Key
	Why string
}

func (e *ValueError) Error() string { return fmt.Sprintf("%s %q: %s", e.Key.Type, e.Key.Name, e.Why) }
