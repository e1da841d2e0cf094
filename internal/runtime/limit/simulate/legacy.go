package simulate

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"
)

// Legacy is how an application limits with four commands of its own: it adds the request to a sorted set,
// counts the set, removes what is old and sets the time to live, and compares the count with the limit.
type Legacy struct {
	Limit  int64
	Period time.Duration

	// Parallel sends the first three commands at once, in any order, instead of one after the other.
	Parallel bool

	// Collide makes the time in milliseconds the only thing that tells two requests apart.
	Collide bool

	// TripMin and TripMax are the bounds of one command's round trip, drawn evenly; half of it is over
	// when the server runs the command. Zero: commands take no time.
	TripMin, TripMax time.Duration

	Seed uint64
}

// commands of a request, in the order in which they are sent.
const (
	opAdd = iota
	opCount
	opTrim
	opExpire
)

// An op is one command on its way to the server.
type op struct {
	at      int64 // when the server runs it, in microseconds
	order   int   // of commands that run at the same time, the one sent first is run first
	kind    int
	request int
	after   int64 // how long its reply takes
}

type ops []op

func (q ops) Len() int      { return len(q) }
func (q ops) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q ops) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q *ops) Push(x any) { *q = append(*q, x.(op)) }
func (q *ops) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// A set is a sorted set with a time to live. Members are (score, n), with n 0 where they collide.
type set struct {
	members [][2]int64
	ends    int64 // 0: never
}

type legacyRun struct {
	Legacy
	events   []Event
	admitted []bool
	sets     map[string]*set
	waiting  map[int]int // parallel commands of a request that have no reply yet
	queue    ops
	sent     int
	rng      *rand.Rand
}

// admits says for each event whether it is admitted, and how many commands that cost.
func (l Legacy) admits(events []Event) (admitted []bool, commands int64) {
	r := &legacyRun{
		Legacy: l, events: events, admitted: make([]bool, len(events)),
		sets: map[string]*set{}, waiting: map[int]int{}, rng: rand.New(rand.NewPCG(l.Seed, 2)),
	}
	next := 0
	for next < len(events) || len(r.queue) > 0 {
		if next < len(events) && (len(r.queue) == 0 || events[next].At < r.queue[0].at) {
			r.begin(next)
			next++
			continue
		}
		r.run(heap.Pop(&r.queue).(op))
	}
	return r.admitted, int64(len(events)) * 4
}

func (r *legacyRun) begin(request int) {
	at := r.events[request].At
	r.send(at, opAdd, request)
	if r.Parallel {
		r.waiting[request] = 3
		r.send(at, opCount, request)
		r.send(at, opTrim, request)
	}
}

func (r *legacyRun) send(at int64, kind, request int) {
	trip := r.TripMin.Microseconds()
	if spread := r.TripMax.Microseconds() - trip; spread > 0 {
		trip += r.rng.Int64N(spread + 1)
	}
	r.sent++
	heap.Push(&r.queue, op{at: at + trip/2, order: r.sent, kind: kind, request: request, after: trip - trip/2})
}

// run is the server running one command, and the application going on with the reply.
func (r *legacyRun) run(o op) {
	e := r.events[o.request]
	now := e.At / 1000 // the application's clock
	period := r.Period.Milliseconds()
	s := r.sets[e.Key]
	if s == nil || s.ends > 0 && o.at >= s.ends {
		s = &set{}
		r.sets[e.Key] = s
	}
	switch o.kind {
	case opAdd:
		member := [2]int64{now, int64(o.request) + 1}
		if r.Collide {
			member[1] = 0
		}
		if i, found := slices.BinarySearchFunc(s.members, member, func(a, b [2]int64) int { return slices.Compare(a[:], b[:]) }); !found {
			s.members = slices.Insert(s.members, i, member)
		}
	case opCount:
		r.admitted[o.request] = int64(len(s.members)) <= r.Limit
	case opTrim:
		i, _ := slices.BinarySearchFunc(s.members, now-period+1, func(m [2]int64, score int64) int { return int(m[0] - score) })
		s.members = s.members[i:]
	case opExpire:
		s.ends = o.at + (period+999)/1000*1_000_000
	}
	if len(s.members) == 0 {
		delete(r.sets, e.Key)
	}
	switch {
	case o.kind == opExpire:
	case !r.Parallel:
		r.send(o.at+o.after, o.kind+1, o.request)
	default:
		if r.waiting[o.request]--; r.waiting[o.request] == 0 {
			delete(r.waiting, o.request)
			r.send(o.at+o.after, opExpire, o.request)
		}
	}
}
