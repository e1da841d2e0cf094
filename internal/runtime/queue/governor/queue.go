package governor

import (
	"slices"
	"time"
)

// A queue is what is known of one queue. The Governor's mutex guards it.
type queue struct {
	name string

	credits int64  // jobs that are known to have become pending and were not taken here
	unsure  bool   // there may be jobs besides those
	gen     uint64 // grows whenever one of the two is given cause to
	paused  bool   // and known to be
	found   bool   // a look at the key has found jobs since the last dequeue
	doubt   bool   // it had jobs and gave none: find out whether it is paused
	held    time.Time
	asking  int // dequeues under way

	scheduled, retry due
	completed        expiry
	groups           bool // jobs may wait in groups
	groupsAt         time.Time

	own     map[string]claim // jobs taken here and not finished
	foreign watch            // leases of others

	pushes   pushes
	announce announcement
}

func newQueue(name string) *queue {
	q := &queue{name: name, own: map[string]claim{}}
	q.pushes.init()
	// Nothing is known yet.
	q.unsure, q.groups = true, true
	return q
}

// mayHaveWork is whether a dequeue can have an answer other than "none".
func (q *queue) mayHaveWork() bool { return (q.credits > 0 || q.unsure) && !q.paused }

// suspect notes that there may be work.
func (q *queue) suspect() {
	q.unsure, q.paused = true, false
	q.gen++
}

// credit notes that n jobs have become pending.
func (q *queue) credit(n int64) {
	q.credits += n
	q.gen++
}

// An ask is a dequeue that is under way.
type ask struct {
	credits int64
	gen     uint64
}

func (q *queue) ask() ask {
	q.asking++
	return ask{q.credits, q.gen}
}

// took notes that a dequeue brought a job.
func (q *queue) took() {
	q.asking--
	q.found = false
	if q.credits > 0 {
		q.credits--
	}
}

// none notes that a dequeue found no job: whatever was known when it was sent is gone, and what became
// known meanwhile may be there.
func (q *queue) none(a ask) {
	q.asking--
	q.credits = max(0, q.credits-a.credits)
	if q.gen == a.gen {
		q.unsure = false
	}
}

// unanswered notes that nobody knows what a dequeue has done.
func (q *queue) unanswered() {
	q.asking--
	q.suspect()
}

// dueTimes is how many different times are remembered; what is later is asked for.
const dueTimes = 1024

// A due is when the delayed jobs of one sorted set are due, in Unix seconds. The Governor's mutex guards it.
type due struct {
	times   []int64 // sorted, each once
	partial bool    // there may be later ones that are not in times
	ask     bool    // the first is to be read from the Redis
	gen     uint64  // grows with every time that is noted

	foreign int64     // said by another replica, which looks after it; 0 is none
	grace   time.Time // when to look after it in its place
}

// note remembers a time; it returns whether it is the earliest now.
func (d *due) note(unix int64) bool {
	d.gen++
	i, known := slices.BinarySearch(d.times, unix)
	if !known {
		d.times = slices.Insert(d.times, i, unix)
	}
	if len(d.times) > dueTimes {
		d.times, d.partial = d.times[:dueTimes], true
	}
	return i == 0 && !known
}

// first notes what the Redis says is the earliest; 0 is none. Before it there is nothing, unless times were
// noted since it was asked.
func (d *due) first(unix int64, gen uint64) {
	d.ask = false
	if d.gen != gen {
		if unix != 0 {
			d.note(unix)
			d.partial = true
		}
		return
	}
	if unix == 0 {
		d.times, d.partial, d.foreign = nil, false, 0
		return
	}
	d.partial = true
	d.note(unix)
	i, _ := slices.BinarySearch(d.times, unix)
	d.times = slices.Delete(d.times, 0, i)
}

// noteForeign remembers a time that another replica looks after, until grace has passed.
func (d *due) noteForeign(unix int64, grace time.Duration) {
	d.gen++
	if d.foreign == 0 || unix < d.foreign {
		d.foreign = unix
		d.grace = time.Unix(unix, 0).Add(grace)
	}
}

// ready is whether a look at the set may find something at now.
func (d *due) ready(now time.Time) bool {
	return len(d.times) > 0 && d.times[0] <= now.Unix() || d.foreign != 0 && !now.Before(d.grace)
}

// next is when it will be ready; zero is never.
func (d *due) next() time.Time {
	var t time.Time
	if len(d.times) > 0 {
		t = time.Unix(d.times[0], 0)
	}
	if d.foreign != 0 && (t.IsZero() || d.grace.Before(t)) {
		t = d.grace
	}
	return t
}

// moved notes that all that was due at now was moved, unless a time was noted since gen.
func (d *due) moved(now time.Time, gen uint64) {
	if d.gen != gen {
		return
	}
	i, _ := slices.BinarySearch(d.times, now.Unix()+1)
	d.times = slices.Delete(d.times, 0, i)
	if d.foreign != 0 {
		// Which others there are was never said.
		d.foreign, d.partial = 0, true
	}
	if len(d.times) == 0 && d.partial {
		d.ask = true
	}
}

// An expiry is when completed jobs outlive their retention, in Unix seconds; 0 is unknown. The Governor's
// mutex guards it.
type expiry struct {
	first, last int64
	partial     bool // there may be others
	ask         bool // the first is to be read from the Redis
}

func (e *expiry) note(unix int64) {
	if e.first == 0 || unix < e.first {
		e.first = unix
	}
	e.last = max(e.last, unix)
}

// ready is whether jobs wait to be deleted, and have waited long enough for it to be worth it.
func (e *expiry) ready(now time.Time, tidy time.Duration) bool {
	return e.first != 0 && now.Unix() >= e.first+int64(tidy/time.Second)
}

// swept notes that everything that had expired at now was deleted.
func (e *expiry) swept(now time.Time) {
	e.first = now.Unix() + 1
	if e.last <= now.Unix() {
		e.first, e.last = 0, 0
		e.ask = e.partial
	}
}
