// Package shed decides what is done without the upstream so that a period's command budget lasts to its
// end: what is first given up, when, and when it comes back.
//
// It is pure arithmetic over numbers and times it is given, needs no Redis, and decides alike on every
// replica that is given the same. There are four levels; each is taken when the one before would not
// last, and no sooner:
//
//	normal     nothing is shed
//	frugal     no cache refresh and no warming; non-critical queues are drained in batches; sweeps half as often
//	tight      non-critical queues are paused, limiters decide locally, the cache is memory alone; sweeps a quarter
//	exhausted  the budget is spent: critical queues rest too, unless they may overspend; sweeps an eighth
//
// A level lasts when what is spent, and the rest of the period at the level's rate, stay below the degrading
// share of the budget. A critical queue, and any queue that one depends on, is never touched before the
// whole budget is spent. At the start of a period everything comes back.
//
// How far above the budget it can get: what is spent between two decisions that know the count, and after
// that the commands that nothing can shed (Rates.Fixed and an eighth of Rates.Sweep) for the rest of the
// period.
//
// It does not flap: a stricter level is taken at once, a milder one after 12 hours at the earliest, later when
// that turned out too mild, so that a month has a change every other day at most.
package shed

import (
	"fmt"
	"slices"
	"time"
)

// A Level is how much is shed. Levels are ordered.
type Level int

// The levels.
const (
	Normal Level = iota
	Frugal
	Tight
	Exhausted
)

// levelNames are the names in documents.
func levelNames() []string { return []string{"normal", "frugal", "tight", "exhausted"} }

// String is the level's name: "frugal".
func (l Level) String() string {
	if l < Normal || l > Exhausted {
		return fmt.Sprintf("Level(%d)", int(l))
	}
	return levelNames()[l]
}

// MarshalText is the level's name.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads a level's name.
func (l *Level) UnmarshalText(text []byte) error {
	i := slices.Index(levelNames(), string(text))
	if i < 0 {
		return fmt.Errorf("got level %q, want normal, frugal, tight or exhausted", text)
	}
	*l = Level(i)
	return nil
}

// SweepFactor is by how much the queues' idle sweeps are slowed: 1, 2, 4, 8. The recovery of a crashed
// worker's job slows with them.
func (l Level) SweepFactor() int { return 1 << max(Normal, min(l, Exhausted)) }

// Rates are commands a second of the whole fleet, billed ones, by what they are for: what each would spend
// if nothing were shed. A negative number means unknown, as it is of what is being shed; then the last
// known one is kept.
type Rates struct {
	Refresh     float64 `json:"refresh"`     // cache refresh ahead of expiry, and warming
	Cache       float64 `json:"cache"`       // the cache's other commands
	Limit       float64 `json:"limit"`       // the limiters
	NonCritical float64 `json:"noncritical"` // queues that are neither critical nor depended on by one that is
	Critical    float64 `json:"critical"`    // the other queues
	Sweep       float64 `json:"sweep"`       // the queues' idle sweeps, as they are at Normal
	Fixed       float64 `json:"fixed"`       // everything else, and what others spend; nothing can shed it
}

// each is the fields, so that they are treated alike.
func (r *Rates) each() []*float64 {
	return []*float64{&r.Refresh, &r.Cache, &r.Limit, &r.NonCritical, &r.Critical, &r.Sweep, &r.Fixed}
}

// at is what is spent a second at a level.
func (r Rates) at(l Level, o Options) float64 {
	sum := r.Fixed + r.Sweep/float64(l.SweepFactor())
	if l < Exhausted || o.Overspend {
		sum += r.Critical
	}
	if l == Frugal {
		sum += r.NonCritical * (1 - o.BatchSaves)
	}
	if l == Normal {
		sum += r.NonCritical + r.Refresh
	}
	if l < Tight {
		sum += r.Cache + r.Limit
	}
	return sum
}

// A Class is one thing that can be shed, in the order in which it is.
type Class string

// The classes.
const (
	Refresh  Class = "cache_refresh"       // no refresh ahead, no warming
	Batched  Class = "noncritical_batched" // non-critical queues run every Options.BatchEvery
	Sweeps   Class = "queue_sweeps"        // idle sweeps are slower
	Paused   Class = "noncritical_paused"  // non-critical queues rest
	Limiter  Class = "limiter_local"       // limiters decide without the upstream
	CacheL1  Class = "cache_memory"        // the cache is memory alone
	Critical Class = "critical_queues"     // critical queues rest
)

// classes is what is shed at a level, and what that saves a second.
func (r Rates) classes(l Level, o Options) []Shed {
	var all []Shed
	add := func(c Class, saves float64) { all = append(all, Shed{Class: c, SavesPerSecond: saves}) }
	if l == Normal {
		return nil
	}
	add(Refresh, r.Refresh)
	if l == Frugal {
		add(Batched, r.NonCritical*o.BatchSaves)
	}
	add(Sweeps, r.Sweep*(1-1/float64(l.SweepFactor())))
	if l >= Tight {
		add(Paused, r.NonCritical)
		add(Limiter, r.Limit)
		add(CacheL1, r.Cache)
	}
	if l == Exhausted && !o.Overspend {
		add(Critical, r.Critical)
	}
	return all
}

// A Shed is one thing that is not done now.
type Shed struct {
	// Class is what.
	Class Class `json:"class"`

	// Why is the reason, for people.
	Why string `json:"why"`

	// Since is from when it has been shed without a break.
	Since time.Time `json:"since"`

	// SavesPerSecond is the commands that it saves a second, and SavesInPeriod until the period ends.
	SavesPerSecond float64 `json:"saves_per_second"`
	SavesInPeriod  float64 `json:"saves_in_period"`
}
