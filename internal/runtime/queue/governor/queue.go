package governor

import (
	"slices"
	"time"
)

// A queue is what is known of one queue. The Governor's mutex guards it.
type queue struct {
	name   string
	keys   [dequeueKeys]any // of a dequeue, and its second argument
	prefix any
	weight int
	served []*group // that it is in

	waiting map[string]pending // jobs that are known to be pending
	unsure  bool               // there may be others
	known   uint64             // grows whenever one of the two is given cause to
	paused  bool               // and known to be
	found   bool               // a look at the key has found jobs since the last dequeue
	doubt   bool               // it had jobs and gave none: find out whether it is paused
	held    time.Time          // Admit said no, and is asked again then
	asking  int                // dequeues under way
	row     int                // jobs that dequeues brought since one brought none

	scheduled, retry due
	completed        expiry
	groups           bool // jobs may wait in groups
	unsynced         bool // nobody has looked whether they do
	groupsAt         time.Time

	own     map[string]claim // jobs taken here and not finished
	takes   uint64           // jobs taken here so far
	foreign watch            // leases of others

	pushes   pushes
	announce announcement
}

func newQueue(name string) *queue {
	q := &queue{name: name, weight: 1, own: map[string]claim{}, waiting: map[string]pending{}}
	for i, part := range []string{pendingPart, pausedPart, activePart, leasePart} {
		q.keys[i] = keyOf(name, part)
	}
	q.prefix = keyOf(name, taskPrefix)
	q.pushes.init()
	// Nothing is known yet.
	q.unsure, q.groups, q.unsynced = true, true, true
	return q
}

// waitingKept is how many jobs are known by their ids; with more, a queue is just believed to have some.
const waitingKept = 4096

// A pending job is one that somebody has not taken yet.
type pending struct {
	known uint64    // of the queue when it became known
	at    time.Time // when that was
	ready time.Time // until then another replica is likely to take it
}

// mayHaveWork is whether a dequeue can have an answer other than "none".
func (q *queue) mayHaveWork() bool { return (len(q.waiting) > 0 || q.unsure) && !q.paused }

// next is when a dequeue is to be sent; zero is never, and what is past is now.
func (q *queue) next(now time.Time) time.Time {
	if !q.mayHaveWork() {
		return time.Time{}
	}
	var first time.Time
	if !q.unsure {
		for _, p := range q.waiting {
			if first.IsZero() || p.ready.Before(first) {
				first = p.ready
			}
			if !first.After(now) {
				break
			}
		}
	}
	if first.Before(q.held) {
		first = q.held
	}
	if first.IsZero() {
		first = now
	}
	return first
}

// open is whether a dequeue is to be sent at now.
func (q *queue) open(now time.Time) bool {
	at := q.next(now)
	return !at.IsZero() && !now.Before(at)
}

// likely is how many dequeues that are sent at now, and no more than most, can each be expected to bring a job.
// Little is expected where the number of jobs is not known, or where others take them too: what brings none takes the
// turn of another queue. shared is as many times as much where the number is not known: queues of which that holds have
// their turns by weight then, and not equal ones.
func (q *queue) likely(now time.Time, most, shared int, others bool) int {
	if q.unsure {
		return min(most, (1+q.row/16)*shared)
	}
	n := -q.asking
	for _, p := range q.waiting {
		if p.ready.After(now) {
			continue
		}
		if n++; n >= 2*most {
			break
		}
	}
	if others {
		n /= 2
	}
	return max(1, min(n, most))
}

// backlog is whether a job that is known has waited for at least d.
func (q *queue) backlog(now time.Time, d time.Duration) bool {
	for _, p := range q.waiting {
		if now.Sub(p.at) >= d {
			return true
		}
	}
	return false
}

// suspect notes that there may be work.
func (q *queue) suspect() {
	q.unsure, q.paused = true, false
	q.known++
}

// arrived notes that jobs have become pending, which another replica is likely to take until ready.
func (q *queue) arrived(now, ready time.Time, ids ...string) {
	q.known++
	if len(q.waiting)+len(ids) > waitingKept {
		clear(q.waiting)
		q.unsure = true
		return
	}
	for _, id := range ids {
		q.waiting[id] = pending{q.known, now, ready}
	}
}

// ask notes that a dequeue is sent, and returns what is known by then.
func (q *queue) ask() uint64 {
	q.asking++
	return q.known
}

// took notes that a dequeue brought a job.
func (q *queue) took(id string) {
	q.asking--
	q.row++
	q.found = false
	delete(q.waiting, id)
}

// none notes that a dequeue found no job: whatever was known when it was sent is gone, and what became
// known meanwhile may be there.
func (q *queue) none(known uint64) {
	q.asking--
	q.row = 0
	for id, p := range q.waiting {
		if p.known <= known {
			delete(q.waiting, id)
			q.pushes.gone(id)
		}
	}
	if q.known == known {
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
	partial bool    // there may be others, later than the first, that are not in times
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
	if d.partial {
		d.ask = true // of the times that are not known some may come before the next one that is
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
