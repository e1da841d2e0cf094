package rehearsal

import (
	"errors"
	"fmt"

	"github.com/redisopt/redisopt/internal/migrate/mover"
)

// What a copy may hold at most besides what Bounds say.
const (
	maxValueBytes = 1 << 20  // of one string; a larger one is left out
	maxElements   = 1000     // of one collection; of a larger one its ends are copied
	maxBytes      = 64 << 20 // of all keys
	maxPrefixes   = 200      // of keys that are no queue's
)

// Bounds say how much of a Redis is copied. The zero value works.
type Bounds struct {
	// Jobs is the most jobs of one state of a queue, half of them from either end. Default 100; 2 to
	// 10,000.
	Jobs int

	// Keys is the most keys that belong to no queue. Default 500; 0 is the default, negative: none.
	Keys int

	// Scan is the most keys that SCAN walks over. Default 200,000; at least 1,000.
	Scan int64

	// Rate is the most keys that are read in a second. Default 500; negative: as fast as the server
	// answers.
	Rate float64
}

func (b Bounds) withDefaults() Bounds {
	if b.Jobs == 0 {
		b.Jobs = 100
	}
	if b.Keys == 0 {
		b.Keys = 500
	}
	if b.Scan == 0 {
		b.Scan = 200_000
	}
	if b.Rate == 0 {
		b.Rate = 500
	}
	return b
}

// Validate reports all that is wrong with b.
func (b Bounds) Validate() error {
	b = b.withDefaults()
	var errs []error
	if b.Jobs < 2 || b.Jobs > 10_000 {
		errs = append(errs, fmt.Errorf("jobs of each state: got %d, want 2 to 10000", b.Jobs))
	}
	if b.Keys > 100_000 {
		errs = append(errs, fmt.Errorf("keys outside of queues: got %d, want at most 100000", b.Keys))
	}
	if b.Scan < scanPage {
		errs = append(errs, fmt.Errorf("keys to walk over: got %d, want at least %d", b.Scan, scanPage))
	}
	return errors.Join(errs...)
}

// A Scope is what migrations are about, so what has to be copied.
type Scope struct {
	// Queues are copied with their jobs.
	Queues []mover.Endpoint

	// Prefixes are copied whole as far as Bounds.Keys goes, before anything else that is no queue's.
	Prefixes []string

	// Own are keys of redisopt itself that the way back of an open migration needs, taken literally.
	Own []string

	// Others is whether keys outside of Queues and Prefixes are copied: some of every kind.
	Others bool
}
