package cache

import (
	"errors"
	"fmt"
)

// What callers branch on.
var (
	// ErrNotFound is what a loader returns for what does not exist. It is remembered for the negative
	// time to live, and is what GetOrLoad returns until then.
	ErrNotFound = errors.New("not found")

	// ErrKey marks a key, tag or pattern that is not spelled as one.
	ErrKey = errors.New("bad key")

	// ErrValue marks a value that is not what its codec promises.
	ErrValue = errors.New("bad value")

	// ErrClass marks a time to live or class that may not be used so.
	ErrClass = errors.New("bad class")

	// ErrUnavailable marks what the upstream was not asked, or did not answer, because it is down.
	ErrUnavailable = errors.New("upstream not available")

	// ErrBudget marks work that stopped because it had spent the commands it was allowed.
	ErrBudget = errors.New("command budget spent")

	// ErrSuperseded is the cause of a write that was not stored because the value was read before a
	// delete, an invalidation or a newer write.
	ErrSuperseded = errors.New("the value was read before a later delete or write")
)

// A DeniedError refuses a write because of a name that must not be cached unencrypted.
type DeniedError struct {
	Key   string // as the caller spelled it
	Where string // "key" or "field"
	Name  string // the part of the key, or the path of the field; never a value
	Rule  string // the entry of Options.Deny
}

func (e *DeniedError) Error() string {
	if e.Where == "key" {
		return fmt.Sprintf("refused to cache key %q: %q matches the deny rule %q; use a sensitive class, or allow it for the namespace", e.Key, e.Name, e.Rule)
	}
	return fmt.Sprintf("refused to cache key %q: field %q matches the deny rule %q; leave the field out, use a sensitive class, or allow it for the namespace", e.Key, e.Name, e.Rule)
}

// A SizeError refuses a value that the upstream would not take.
type SizeError struct {
	Key   string
	Bytes int // of the request
	Limit int
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("value of key %q: the request would have %d bytes, the upstream takes %d; split the value", e.Key, e.Bytes, e.Limit)
}
