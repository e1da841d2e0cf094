package ramp

import (
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

// A Side is one of the two places.
type Side string

// The sides.
const (
	Old Side = "old"
	New Side = "new"
)

// A Class is how a compared read came out. Those that Counts are differences.
type Class string

// The classes.
const (
	Match   Class = "match"   // both sides have the same, or nothing
	Late    Class = "late"    // they differed, and a moment later no more
	Absent  Class = "absent"  // the new side has nothing yet; a read that finds nothing there asks the old one
	Differs Class = "differs" // both have something, and it is not the same
	Extra   Class = "extra"   // only the new side has something
	Kind    Class = "type"    // the reader there makes another type of the same value, or cannot read it
	Failed  Class = "failed"  // the new side did not answer
	Dropped Class = "dropped" // it was not compared, because too many waited
	Lost    Class = "lost"    // a write could not be kept until the other side would take it
)

// Classes are all classes in the order in which they are listed.
func Classes() []Class {
	return []Class{Match, Late, Absent, Differs, Extra, Kind, Failed, Dropped, Lost}
}

// Counts is whether c is a difference that speaks against the new side.
func (c Class) Counts() bool { return c == Differs || c == Extra || c == Kind || c == Lost }

const (
	slotLength  = 10 * time.Second
	fineFor     = 30 * time.Minute // then slots become minutes
	coarse      = time.Minute
	kept        = 26 * time.Hour // a soak of a day, and what comes before it
	maxExamples = 20             // of differences
	growth      = 1.04           // of the latency bounds, so a percentile is right within 4%
)

// A Ledger counts what the sides did, in slots of 10 s, and of a minute after half an hour, for 26 hours. It
// is safe for concurrent use; its memory does not grow with traffic. It is lost with the process.
type Ledger struct {
	since time.Time

	mu       sync.Mutex
	slots    map[int64]*slot // by when they begin, in Unix seconds
	newest   int64
	examples []Example
	totals   map[string]*Counts // since the start
}

// A slot is what happened in a stretch of time.
type slot struct {
	length time.Duration
	routes map[string]*Counts
}

// Counts are what one route did.
type Counts struct {
	Old      SideCounts      `json:"old"`
	New      SideCounts      `json:"new"`
	Answers  Answers         `json:"answers"`
	Compared map[Class]int64 `json:"compared"`
}

// SideCounts are the calls of one side.
type SideCounts struct {
	Calls  int64 `json:"calls"`  // reads and writes of the engine, those that failed included
	Errors int64 `json:"errors"` // of these, those that were not answered
	Hits   int64 `json:"hits"`
	Misses int64 `json:"misses"`

	// FellBack are calls of the new side that the old one answered instead; Filled are those of them that
	// found nothing on the new side.
	FellBack int64 `json:"fell_back"`
	Filled   int64 `json:"filled"`

	latency map[int]int64
}

// Answers are how long callers waited, whichever side it was.
type Answers struct {
	latency map[int]int64
}

// An Example is a difference, without the key and the values.
type Example struct {
	Route string    `json:"route"`
	Class Class     `json:"class"`
	Key   string    `json:"key"` // its first part and a hash
	At    time.Time `json:"at"`
}

// NewLedger returns an empty Ledger.
func NewLedger() *Ledger {
	return &Ledger{since: time.Now(), slots: map[int64]*slot{}, totals: map[string]*Counts{}}
}

// A Call is one use of a side.
type Call struct {
	Route  string
	Side   Side
	Took   time.Duration // 0: not known
	Failed bool
	Hit    bool
	Miss   bool
}

// Called counts n uses that went alike.
func (l *Ledger) Called(c Call, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, counts := range l.counts(c.Route) {
		s := counts.side(c.Side)
		s.Calls += n
		add := func(to *int64, when bool) {
			if when {
				*to += n
			}
		}
		add(&s.Errors, c.Failed)
		add(&s.Hits, c.Hit)
		add(&s.Misses, c.Miss)
		if c.Took > 0 {
			s.latency[bucketOf(c.Took)] += n
		}
	}
}

// Took counts how long a call took that was counted already.
func (l *Ledger) Took(route string, side Side, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.counts(route) {
		c.side(side).latency[bucketOf(took)]++
	}
}

func (c *Counts) side(s Side) *SideCounts {
	if s == New {
		return &c.New
	}
	return &c.Old
}

// FellBack counts calls of the new side that the old one answered, filled those of them that had found
// nothing on the new side.
func (l *Ledger) FellBack(route string, n, filled int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.counts(route) {
		c.New.FellBack += n
		c.New.Filled += filled
	}
}

// Answered counts how long a caller waited for one answer.
func (l *Ledger) Answered(route string, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.counts(route) {
		c.Answers.latency[bucketOf(took)]++
	}
}

// Compared counts n comparisons of a class; of a difference, key is kept as an example, without what it is.
func (l *Ledger) Compared(route string, class Class, n int64, key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.counts(route) {
		c.Compared[class] += n
	}
	if class.Counts() && key != "" {
		l.examples = append(l.examples, Example{Route: route, Class: class, Key: key, At: time.Now().UTC()})
		if extra := len(l.examples) - maxExamples; extra > 0 {
			l.examples = slices.Delete(l.examples, 0, extra)
		}
	}
}

// counts are those of a route now, and since the start. The lock is held.
func (l *Ledger) counts(route string) [2]*Counts {
	at := time.Now().Truncate(slotLength).Unix()
	s := l.slots[at]
	if s == nil {
		s = &slot{length: slotLength, routes: map[string]*Counts{}}
		l.slots[at] = s
		if at > l.newest {
			l.newest = at
			l.tidy(time.Unix(at, 0))
		}
	}
	c := s.routes[route]
	if c == nil {
		c = newCounts()
		s.routes[route] = c
	}
	total := l.totals[route]
	if total == nil {
		total = newCounts()
		l.totals[route] = total
	}
	return [2]*Counts{c, total}
}

// Totals are what every route did since the start.
func (l *Ledger) Totals() map[string]*Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]*Counts{}
	for route, c := range l.totals {
		out[route] = newCounts()
		out[route].add(c)
	}
	return out
}

func newCounts() *Counts {
	return &Counts{
		Old: SideCounts{latency: map[int]int64{}}, New: SideCounts{latency: map[int]int64{}},
		Answers: Answers{latency: map[int]int64{}}, Compared: map[Class]int64{},
	}
}

// tidy makes minutes of slots that are older than half an hour, and forgets what is too old.
func (l *Ledger) tidy(now time.Time) {
	for at, s := range l.slots {
		age := now.Sub(time.Unix(at, 0))
		switch {
		case age > kept:
			delete(l.slots, at)
		case age > fineFor && s.length == slotLength:
			minute := time.Unix(at, 0).Truncate(coarse).Unix()
			into := l.slots[minute]
			if into == s || into == nil {
				into = &slot{routes: map[string]*Counts{}}
			}
			into.length = coarse
			delete(l.slots, at)
			if at != minute || into != l.slots[minute] {
				for route, c := range s.routes {
					if into.routes[route] == nil {
						into.routes[route] = newCounts()
					}
					into.routes[route].add(c)
				}
			}
			l.slots[minute] = into
		}
	}
}

func (c *Counts) add(o *Counts) {
	for _, pair := range [][2]*SideCounts{{&c.Old, &o.Old}, {&c.New, &o.New}} {
		to, from := pair[0], pair[1]
		to.Calls += from.Calls
		to.Errors += from.Errors
		to.Hits += from.Hits
		to.Misses += from.Misses
		to.FellBack += from.FellBack
		to.Filled += from.Filled
		merge(to.latency, from.latency)
	}
	merge(c.Answers.latency, o.Answers.latency)
	for class, n := range o.Compared {
		c.Compared[class] += n
	}
}

func merge(to, from map[int]int64) {
	for b, n := range from {
		to[b] += n
	}
}

// A Summary is what happened between two times.
type Summary struct {
	From, To time.Time
	Covered  float64 // the share of the time, 0 to 1, in which this process counted
	Routes   map[string]*Counts
	Examples []Example
}

// Summary adds up what happened between two times, to the slot.
func (l *Ledger) Summary(from, to time.Time) Summary {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := Summary{From: from, To: to, Routes: map[string]*Counts{}, Examples: slices.Clone(l.examples)}
	begin := from
	if l.since.After(begin) {
		begin = l.since
	}
	if oldest := time.Now().Add(-kept); oldest.After(begin) {
		begin = oldest
	}
	end := to
	if now := time.Now(); now.Before(end) {
		end = now
	}
	if whole := to.Sub(from); whole > 0 {
		out.Covered = min(1, max(0, end.Sub(begin).Seconds()/whole.Seconds()))
	}
	for at, s := range l.slots {
		// A slot belongs to the window that has its middle.
		middle := time.Unix(at, 0).Add(s.length / 2)
		last := at == l.newest && !time.Unix(at, 0).After(to) // what happens now is not left out
		if middle.Before(from) || middle.After(to) && !last {
			continue
		}
		for route, c := range s.routes {
			if out.Routes[route] == nil {
				out.Routes[route] = newCounts()
			}
			out.Routes[route].add(c)
		}
	}
	return out
}

// bucketOf is the place of a latency among bounds that grow by 4% from 1 µs.
func bucketOf(d time.Duration) int {
	return int(math.Log(max(1, float64(d.Microseconds()))) / math.Log(growth))
}

// Percentile is a latency that the given share, 0 to 1, of the calls did not exceed, right within 4%, and
// how many calls it rests on.
func (s SideCounts) Percentile(share float64) (time.Duration, int64) {
	return percentile(s.latency, share)
}

// Percentile is the same for what callers waited.
func (a Answers) Percentile(share float64) (time.Duration, int64) {
	return percentile(a.latency, share)
}

func percentile(latency map[int]int64, share float64) (time.Duration, int64) {
	var total int64
	for _, n := range latency {
		total += n
	}
	if total == 0 {
		return 0, 0
	}
	need := int64(math.Ceil(share * float64(total)))
	for _, b := range slices.Sorted(maps.Keys(latency)) {
		if need -= latency[b]; need <= 0 {
			return time.Duration(math.Pow(growth, float64(b)+0.5) * float64(time.Microsecond)), total
		}
	}
	return 0, total
}
