package governor

import (
	"context"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// idle is a governor of two queues that are known to be empty, with pushes of the server.
func idle(t *testing.T) (*Governor, *queue) {
	t.Helper()
	client := redis.NewClient(&redis.Options{
		Addr: "127.0.0.1:1", PipelinePoolSize: -1, // no name: a look-up inside a bubble outlives it
		Dialer: func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed },
	})
	t.Cleanup(func() { _ = client.Close() })
	g, err := New(Options{Client: client, Jobs: client, Queues: []string{"a", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	g.bell.mode = tracks
	for _, q := range g.queues {
		q.unsure = false
	}
	return g, g.queues["a"]
}

func keysOf(parts ...string) []string {
	var keys []string
	for _, p := range parts {
		keys = append(keys, keyOf("a", p))
	}
	return keys
}

func TestWhatADequeueSaysAboutAQueue(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(q *queue)
		want bool
	}{
		"a job that was enqueued may be there": {func(q *queue) { q.arrived(time.Now(), time.Time{}, "1") }, true},
		"once it was taken there is none, and nobody has to ask": {func(q *queue) {
			q.arrived(time.Now(), time.Time{}, "1")
			q.ask()
			q.took("1")
		}, false},
		"taking another leaves it there": {func(q *queue) {
			q.arrived(time.Now(), time.Time{}, "1")
			q.ask()
			q.took("2")
		}, true},
		"none means that what was known is gone": {func(q *queue) {
			q.arrived(time.Now(), time.Time{}, "1")
			q.none(q.ask())
		}, false},
		"but not what became known meanwhile": {func(q *queue) {
			a := q.ask()
			q.arrived(time.Now(), time.Time{}, "1")
			q.none(a)
		}, true},
		"nor a doubt that arose meanwhile": {func(q *queue) {
			a := q.ask()
			q.suspect()
			q.none(a)
		}, true},
		"of two dequeues at once, the one that found a job says nothing of the rest": {func(q *queue) {
			q.suspect()
			q.ask()
			q.ask()
			q.took("1")
		}, true},
		"no answer leaves everything open": {func(q *queue) {
			q.ask()
			q.unanswered()
		}, true},
		"too many to remember are believed to be there": {func(q *queue) {
			for i := range waitingKept + 1 {
				q.arrived(time.Now(), time.Time{}, string(rune(i)))
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			_, q := idle(t)
			c.do(q)
			if got := q.mayHaveWork(); got != c.want {
				t.Errorf("may have work: %t, want %t", got, c.want)
			}
		})
	}
}

func TestWhatAPushMeans(t *testing.T) {
	type step func(g *Governor, q *queue)
	push := func(parts ...string) step { return func(g *Governor, _ *queue) { g.pushed(keysOf(parts...)) } }
	mine := func(id string, d deed) step {
		return func(_ *Governor, q *queue) { q.pushes.mine(id, d, time.Now()); q.pushes.landed(id) }
	}
	for name, c := range map[string]struct {
		steps []step
		want  bool
	}{
		"another's enqueue is work":                              {[]step{push("t:1", "pending")}, true},
		"an own enqueue is known already":                        {[]step{mine("1", addedIt), push("t:1", "pending")}, false},
		"an own dequeue is not work":                             {[]step{mine("1", tookIt), push("t:1", "pending", "active", "lease")}, false},
		"an own dequeue and another's enqueue at one time are":   {[]step{mine("1", tookIt), push("t:1", "t:2", "pending", "active", "lease")}, true},
		"what another took is no work any more":                  {[]step{push("t:1", "pending"), push("t:1", "pending", "active", "lease")}, false},
		"what another took before it was heard of may be work":   {[]step{push("t:1", "pending", "active", "lease")}, true},
		"what another puts back is work":                         {[]step{push("t:1", "pending"), push("t:1", "pending", "active", "lease"), push("t:1", "pending", "active", "lease")}, true},
		"an own enqueue that another took and puts back is work": {[]step{mine("1", addedIt), push("t:1", "pending"), push("t:1", "pending", "active", "lease"), push("t:1", "pending", "active", "lease")}, true},
		"the end of another's job is not":                        {[]step{push("t:1", "active", "lease", "processed")}, false},
		"a job that is moved when it is due is":                  {[]step{push("t:1", "retry", "pending")}, true},
		"a queue that goes on may have work":                     {[]step{push("paused")}, true},
		"another queue is another queue":                         {[]step{func(g *Governor, _ *queue) { g.pushed([]string{keyOf("b", "t:1"), keyOf("b", "pending")}) }}, false},
		"keys that are nobody's are nothing":                     {[]step{func(g *Governor, _ *queue) { g.pushed([]string{"x", "asynq:servers", "asynq:{zz}:pending"}) }}, false},
		"everything may have changed":                            {[]step{func(g *Governor, _ *queue) { g.pushed(nil) }}, true},
		"a job that came while a dequeue was under way waits for it": {[]step{
			func(_ *Governor, q *queue) { q.ask() }, push("t:1", "pending", "active", "lease"),
			func(g *Governor, q *queue) { q.pushes.mine("1", tookIt, time.Now()); q.took("1"); g.settle(q) },
		}, false},
		"and is work when it was not about that": {[]step{
			func(_ *Governor, q *queue) { q.ask() }, push("t:1", "pending", "active", "lease"),
			func(g *Governor, q *queue) { q.pushes.mine("2", tookIt, time.Now()); q.took("2"); g.settle(q) },
		}, true},
		"the push about a job that a dequeue has missed comes late": {[]step{
			push("t:1", "pending"), func(_ *Governor, q *queue) { q.none(q.ask()) }, push("t:1", "pending", "active", "lease"),
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			g, q := idle(t)
			for _, s := range c.steps {
				s(g, q)
			}
			if got := q.mayHaveWork(); got != c.want {
				t.Errorf("may have work: %t, want %t", got, c.want)
			}
		})
	}
}

func TestAnotherReplicaIsGivenTheTimeToTakeItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, q := idle(t)
		g.bell.peers = 1
		g.pushed(keysOf("t:1", "pending"))
		if q.open(time.Now()) {
			t.Error("taken at once")
		}
		time.Sleep(politeness + politenessSpread)
		if !q.open(time.Now()) {
			t.Error("not taken at all")
		}
	})
}

func TestWhenDelayedJobsAreDue(t *testing.T) {
	at := func(unix int64) time.Time { return time.Unix(unix, 0) }
	t.Run("the first of several, and then the next", func(t *testing.T) {
		var d due
		for _, unix := range []int64{30, 10, 20, 10} {
			d.note(unix)
		}
		if d.ready(at(9)) || !d.ready(at(10)) || !d.next().Equal(at(10)) {
			t.Errorf("%+v", d)
		}
		d.moved(at(20), d.gen)
		if !slices.Equal(d.times, []int64{30}) || d.ask {
			t.Errorf("%+v, want 30 and no question", d)
		}
	})
	t.Run("one that was noted meanwhile is not forgotten", func(t *testing.T) {
		var d due
		d.note(10)
		gen := d.gen
		d.note(9)
		d.moved(at(11), gen)
		if !d.ready(at(11)) {
			t.Errorf("%+v", d)
		}
	})
	t.Run("what is not known is asked for", func(t *testing.T) {
		var d due
		d.first(10, d.gen)
		d.moved(at(10), d.gen)
		if !d.ask {
			t.Errorf("%+v", d)
		}
		d.first(0, d.gen)
		if d.some() || d.ask {
			t.Errorf("%+v, want nothing", d)
		}
	})
	t.Run("what may come before the next one that is known is asked for", func(t *testing.T) {
		var d due
		d.first(10, d.gen)
		d.note(20)
		d.moved(at(10), d.gen)
		if !d.ask {
			t.Errorf("%+v, want it to ask for what is between 10 and 20", d)
		}
		d.first(15, d.gen)
		if d.next() != at(15) {
			t.Errorf("next is %s, want 15", d.next())
		}
	})
	t.Run("another replica's is looked after later, in its place", func(t *testing.T) {
		var d due
		d.noteForeign(10, 5*time.Second)
		if d.ready(at(14)) || !d.ready(at(15)) {
			t.Errorf("%+v", d)
		}
		d.moved(at(15), d.gen)
		if d.foreign != 0 || !d.ask {
			t.Errorf("%+v", d)
		}
	})
	t.Run("more than fit are asked for in their time", func(t *testing.T) {
		var d due
		for unix := range int64(2 * dueTimes) {
			d.note(unix)
		}
		if len(d.times) != dueTimes || !d.partial {
			t.Errorf("%d times, partial %t", len(d.times), d.partial)
		}
	})
}

func TestAnnouncementsSayWhatIsLeftAndLoseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, q := idle(t)
		other, p := idle(t)
		g.bell.mode, g.bell.peers = publishes, 1
		say := func() string {
			message, _, next := g.compose(time.Now())
			for message == "" && !next.IsZero() {
				time.Sleep(time.Until(next))
				message, _, next = g.compose(time.Now())
			}
			return message
		}
		q.arrived(time.Now(), time.Time{}, "one", "t w\no")
		g.announceWork(q, "one", "t w\no", "taken here")
		if message := say(); message == "" {
			t.Fatal("nothing said")
		} else {
			other.hear([]byte(bellVersion + " x\n" + message))
		}
		if got := slices.Sorted(maps.Keys(p.waiting)); !slices.Equal(got, []string{"one", "t w\no"}) || p.unsure {
			t.Errorf("heard %q", got)
		}
		// Within the window: once, at its end.
		begin := time.Now()
		for i := range 100 {
			id := string(rune('a' + i%26))
			q.arrived(time.Now(), time.Time{}, id)
			g.announceWork(q, id)
		}
		if say() == "" || time.Since(begin) < g.opts.Window {
			t.Errorf("said after %s", time.Since(begin))
		}
		if say() != "" {
			t.Error("said twice")
		}
		// What cannot be said now is said later.
		g.announceWork(q, "one")
		time.Sleep(g.opts.Window)
		_, undo, _ := g.compose(time.Now())
		undo(time.Now())
		if say() == "" {
			t.Error("what failed was not said again")
		}
		other.hear([]byte("9 x\nwhat nobody knows yet\n"))
		if !other.queues["b"].unsure {
			t.Error("a message of a later version means nothing")
		}
	})
}

func TestTheIDOfAnEncodedJob(t *testing.T) {
	whole := []byte{0x0a, 1, 't', 0x12, 2, 'p', 'q', 0x28, 0xac, 2, 0x1a, 3, 'a', 'b', 'c', 0x7a, 0}
	if got := taskID(whole); got != "abc" {
		t.Errorf("got %q", got)
	}
	for n := range 14 {
		if got := taskID(whole[:n]); got != "" {
			t.Errorf("of %d bytes: %q", n, got)
		}
	}
}

func TestOptionsAreRefusedWithAllTheirProblems(t *testing.T) {
	_, err := New(Options{Queues: []string{"a", "a", "", "x}:y"}, Lease: time.Millisecond, ArchiveMax: -1})
	for _, want := range []string{"client: missing", "jobs: missing", `"a" is named twice`, "number 3 has no name", `"x}:y"`, "lease: got 1ms", "archive max"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}
