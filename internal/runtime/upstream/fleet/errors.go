package fleet

import (
	"fmt"
	"strings"
	"time"
)

// A FullError means that the connections asked for do not fit below the cap now. Holders say for whom
// one waits.
type FullError struct {
	Asked, Cap int
	Listing    Listing
	Waited     time.Duration
}

// Error says who holds what, and until when at the latest.
func (e *FullError) Error() string {
	held := make([]string, 0, len(e.Listing.Holders))
	for _, m := range e.Listing.Holders {
		held = append(held, fmt.Sprintf("%s %d (%s on %s, until %s unless renewed)", m.Replica, m.Connections,
			orUnknown(m.Version), orUnknown(m.Host), m.Expires.Format(time.RFC3339)))
	}
	text := fmt.Sprintf("%d connections more would exceed the fleet's %d: %d are held", e.Asked, e.Cap, e.Listing.Connections())
	if len(held) > 0 {
		text += " by " + strings.Join(held, ", ")
	}
	if n := len(e.Listing.Waiting); n > 0 {
		text += fmt.Sprintf("; %d in line", n)
	}
	return text
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// An ImpossibleError means that one replica asks for more than the whole fleet may hold; no waiting helps.
type ImpossibleError struct {
	Asked, Cap int
}

// Error says both numbers.
func (e *ImpossibleError) Error() string {
	return fmt.Sprintf("%d connections asked for, but the whole fleet may hold %d", e.Asked, e.Cap)
}

// A SchemaError means that a newer program wrote the lease hash. Nothing was changed.
type SchemaError struct {
	Key        string
	Got, Known int
}

// Error says which schema was found and which is known.
func (e *SchemaError) Error() string {
	return fmt.Sprintf("the fleet's leases in %s have schema %d, this program knows %d; use the newer program", e.Key, e.Got, e.Known)
}

// A DamagedError means that the lease hash holds something that is none of ours. Nothing was changed.
type DamagedError struct {
	Key, Field string
}

// Error says where, and what to do.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("what %s holds at %q is no lease; look at it and remove it, replicas then register anew", e.Key, e.Field)
}

// A Kind is what an Event tells.
type Kind string

// The kinds.
const (
	// Waiting: the fleet is full; Listing says for whom this replica waits. Told at the first attempt and
	// whenever the holders have changed.
	Waiting Kind = "waiting"

	// Joined: this replica has its place. Listing is the fleet as it was just before.
	Joined Kind = "joined"

	// Lost: the place was given away because it was not renewed in time, or taken by a process of the
	// same name. This replica keeps its connections and has registered anew.
	Lost Kind = "lost"

	// Over: what this replica holds does not fit below the cap any more.
	Over Kind = "over"

	// Within: it fits again.
	Within Kind = "within"

	// Duplicate: another live process has the same replica name; Other is it.
	Duplicate Kind = "duplicate"

	// Failed: a command did not succeed; Err says why. It is tried again.
	Failed Kind = "failed"
)

// An Event is one thing that happened to this replica's place.
type Event struct {
	Kind    Kind
	Listing Listing // where the hash was read
	Other   Member  // Duplicate
	Err     error   // Failed
}
