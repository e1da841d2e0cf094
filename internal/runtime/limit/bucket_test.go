package limit

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/limit/window"
)

// drip is a bucket of 10 that fills again in 10 hours.
func drip() Rule {
	return Rule{Name: "r", Algorithm: TokenBucket, Limit: 10, Period: 10 * time.Hour, By: ByKey, Lease: LeaseOff}
}

// keyOf is where subject "s" of drip is counted.
func keyOf(t *testing.T, l *Limiter) string {
	t.Helper()
	key, _, err := l.Key(Request{Rule: "r", Subject: Subject{Key: "s"}})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// admittedOf is how many of n checks of subject "s" are admitted.
func admittedOf(t *testing.T, l *Limiter, n int) (got int) {
	t.Helper()
	for range n {
		if ask1(t, l, "s").Allowed {
			got++
		}
	}
	return got
}

func TestABucketIsFetchedOnceAndCostsNothingMoreThen(t *testing.T) {
	t.Parallel()
	old, other := sides(t)
	m := newMoving(t, old, other, drip())
	ask1(t, m.Limiter, "warm") // both sides learn the scripts
	m.there.Store(true)
	ask1(t, m.Limiter, "warm")
	m.there.Store(false)

	commands := func() string {
		var all []string
		for range 3 {
			all = append(all, fmt.Sprint(ask1(t, m.Limiter, "s").Commands))
		}
		return strings.Join(all, " ")
	}
	// 3 to find that it is not here, 4 to have it leave the other side, 4 to count.
	if got, want := commands(), "11 4 4"; got != want {
		t.Errorf("first checks of the old side cost %s commands, want %s", got, want)
	}
	m.there.Store(true)
	if got, want := commands(), "11 4 4"; got != want {
		t.Errorf("first checks of the new side cost %s commands, want %s", got, want)
	}
	s := m.Stats().Rules[0]
	if s.Carried != 4 || s.Alone != 0 {
		t.Errorf("carried %d, alone %d; want each of two buckets fetched to each side", s.Carried, s.Alone)
	}
	if text := old.Get(t.Context(), keyOf(t, m.Limiter)).Val(); !strings.HasSuffix(text, ":m") {
		t.Errorf("the old side has %q, want that it has left", text)
	}
	p, err := m.Peek(t.Context(), Request{Rule: "r", Subject: Subject{Key: "s"}})
	if err != nil || p.Used != 6 || p.Commands != 3 {
		t.Errorf("Peek = used %d for %d commands, %v; want the 6 of both sides for 3", p.Used, p.Commands, err)
	}
	m.there.Store(false)
	if p, err = m.Peek(t.Context(), Request{Rule: "r", Subject: Subject{Key: "s"}}); err != nil || p.Used != 6 {
		t.Errorf("Peek from the side that it has left = used %d, %v; want 6", p.Used, err)
	}
}

func TestABucketIsFetchedFromASideWithAnotherInterpreter(t *testing.T) {
	t.Parallel()
	server, err := embedded.Start(t.Context(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	old, _ := sides(t)
	opts, err := redis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	other := redis.NewClient(opts)
	t.Cleanup(func() { _ = other.Close() })
	m := newMoving(t, old, other, drip())
	admitted := 0
	for i := range 30 {
		m.there.Store(i%3 == 1)
		if ask1(t, m.Limiter, "s").Allowed {
			admitted++
		}
	}
	if admitted != 10 {
		t.Errorf("admitted %d, want exactly the bucket of 10", admitted)
	}
}

func TestABucketThatIsNotCarriedIsWhatItWasAndCostsWhatItDid(t *testing.T) {
	t.Parallel()
	old, other := sides(t)
	l, err := New(Options{
		Client: old, Rules: []Rule{drip()}, Deadline: patience,
		Other: &Other{Client: other, Takes: func(string) bool { return false }},
	})
	if err != nil {
		t.Fatal(err)
	}
	ask1(t, l, "s")
	if r := ask1(t, l, "s"); r.Commands != 4 || r.Used != 2 {
		t.Errorf("a subject that is not carried: used %d for %d commands, want 2 for 4", r.Used, r.Commands)
	}
	if n := other.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("the other side has %d keys, want none", n)
	}
	if text := old.Get(t.Context(), keyOf(t, l)).Val(); strings.Count(text, ":") != 2 {
		t.Errorf("state = %q, want it as without another side", text)
	}
}

func TestABucketComesBackWithWhatTheSideThatItLeftCounted(t *testing.T) {
	t.Parallel()
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprintf("by a replica that was restarted: %v", restarted), func(t *testing.T) {
			t.Parallel()
			old, other := sides(t)
			var there, carried atomic.Bool
			var left atomic.Int64
			open := func() *Limiter {
				l, err := New(Options{
					Client: old, Rules: []Rule{drip()}, Deadline: patience,
					Other: &Other{
						Client: other, Takes: func(string) bool { return there.Load() }, Carries: func(string) bool { return carried.Load() },
						Left: func(string) time.Time {
							if left.Load() == 0 {
								return time.Time{}
							}
							return time.Unix(left.Load(), 0)
						},
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				return l
			}
			l := open()
			if n := admittedOf(t, l, 2); n != 2 {
				t.Fatalf("%d of 2 admitted before the ramp", n)
			}
			carried.Store(true)
			there.Store(true)
			if n := admittedOf(t, l, 5); n != 5 {
				t.Fatalf("%d of 5 admitted on the new side", n)
			}
			there.Store(false)
			carried.Store(false)
			if restarted {
				l = open() // knows of no ramp, but the old side knows that the bucket has left
			} else {
				left.Store(time.Now().Unix())
			}
			if n := admittedOf(t, l, 9); n != 3 {
				t.Errorf("%d admitted after the way back, want the 3 that are left of 10", n)
			}
		})
	}
}

func TestABucketThatCannotBeFetchedBeginsWithWhatItsSideKnowsOnce(t *testing.T) {
	t.Parallel()
	old, other := sides(t)
	m := newMoving(t, old, other, drip())
	if n := admittedOf(t, m.Limiter, 4); n != 4 {
		t.Fatalf("%d of 4 admitted", n)
	}
	m.there.Store(true)
	if n := admittedOf(t, m.Limiter, 3); n != 3 {
		t.Fatalf("%d of 3 admitted on the other side", n)
	}
	m.there.Store(false)
	_ = other.Close()
	if n := admittedOf(t, m.Limiter, 20); n != 6 {
		t.Errorf("%d admitted, want the 6 that the old side knows to be left", n)
	}
	if s := m.Stats().Rules[0]; s.Alone != 1 {
		t.Errorf("alone %d, want it counted once", s.Alone)
	}
}

// TestABucketThatGotLostOnItsWayIsWhereItWasSent has a replica die when the bucket has left one side and is not
// on the other one yet.
func TestABucketThatGotLostOnItsWayIsWhereItWasSent(t *testing.T) {
	t.Parallel()
	for _, there := range []bool{false, true} {
		old, other := sides(t)
		m := newMoving(t, old, other, drip())
		if n := admittedOf(t, m.Limiter, 7); n != 7 {
			t.Fatalf("%d of 7 admitted", n)
		}
		if err := old.Eval(t.Context(), releaseScript, []string{keyOf(t, m.Limiter)}, 0, 0, bucketKept.Microseconds()).Err(); err != nil {
			t.Fatal(err)
		}
		m.there.Store(there)
		if n := admittedOf(t, m.Limiter, 9); n != 3 {
			t.Errorf("on the new side %v: %d admitted, want the 3 that are left", there, n)
		}
	}
}

func TestOfTwoThatFetchABucketTheLaterOneHasIt(t *testing.T) {
	t.Parallel()
	old, other := sides(t)
	m := newMoving(t, old, other, drip())
	key := []string{keyOf(t, m.Limiter)}
	release := func(c *redis.Client, generation, level int64) []int64 {
		t.Helper()
		n, err := c.Eval(t.Context(), releaseScript, key, generation, level, bucketKept.Microseconds()).Int64Slice()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := admittedOf(t, m.Limiter, 6); n != 6 {
		t.Fatalf("%d of 6 admitted", n)
	}
	late := release(old, 0, 0) // one replica has it leave the old side, and is slow
	back := release(other, late[1], late[2])
	if back[1] <= late[1] {
		t.Fatalf("generations %d then %d, want a later one", late[1], back[1])
	}
	if n := admittedOf(t, m.Limiter, 2); n != 2 { // and others count it on the old side again
		t.Fatalf("%d of 2 admitted", n)
	}
	r, err := m.call(t.Context(), m.side(true), []ask{{
		plan: m.rules.Load().byName["r"].base, key: key[0], carry: claim(late[1], late[2]), Ask: window.Ask{Min: 1, Want: 1},
	}}, false, 0)
	if err != nil || !r.answers[0].moved || r.answers[0].Granted != 0 {
		t.Errorf("the slow one = %+v, %v; want it refused", r.answers, err)
	}
	if again := release(other, 0, 0); again[0] != 2 || again[1] != back[1] {
		t.Errorf("a second one that has it leave = %v, want generation %d and nothing written", again, back[1])
	}
}

func TestABucketAmongOthersIsDecidedAllOrNone(t *testing.T) {
	t.Parallel()
	old, other := sides(t)
	counted := Rule{Name: "w", Limit: 3, Period: time.Hour, By: ByKey, Lease: LeaseOff}
	m := &moving{}
	l, err := New(Options{
		Client: old, Rules: []Rule{drip(), counted}, Deadline: patience,
		Other: &Other{Client: other, Takes: func(string) bool { return m.there.Load() }, Carries: func(string) bool { return true }},
	})
	if err != nil {
		t.Fatal(err)
	}
	both := []Request{{Rule: "r", Subject: Subject{Key: "s"}, Cost: 4}, {Rule: "w", Subject: Subject{Key: "s"}}}
	passed := 0
	for i := range 6 {
		m.there.Store(i%2 == 1)
		results, err := l.CheckAll(t.Context(), both)
		if err != nil || results[0].Allowed != results[1].Allowed {
			t.Fatalf("CheckAll = %+v, %v", results, err)
		}
		if results[0].Allowed {
			passed++
		}
	}
	if passed != 2 {
		t.Errorf("%d passed, want 2 of 4 units each", passed)
	}
	many, err := l.CheckMany(t.Context(), []Request{{Rule: "r", Subject: Subject{Key: "s"}, Cost: 2}, {Rule: "w", Subject: Subject{Key: "s"}}, {Rule: "r", Subject: Subject{Key: "s"}}})
	if err != nil || !many[0].Allowed || !many[1].Allowed || many[2].Allowed {
		t.Errorf("CheckMany = %+v, %v; want the last 2 units, the third window, and no more", many, err)
	}
}

// TestNoCallerGetsMoreThanABucketWhileSubjectsMove has replicas that learn of a move at different times ask for
// the same subjects as fast as they can, to and fro, and looks at every stretch of time afterwards.
func TestNoCallerGetsMoreThanABucketWhileSubjectsMove(t *testing.T) {
	t.Parallel()
	const limit, burst, replicas, period = 20, 5, 3, time.Second
	for _, lease := range []LeaseMode{LeaseOff, LeaseOn} {
		t.Run(string(lease), func(t *testing.T) {
			t.Parallel()
			old, other := sides(t)
			rule := Rule{Name: "r", Algorithm: TokenBucket, Limit: limit, Burst: burst, Period: period, By: ByKey, Lease: lease}
			var mu sync.Mutex
			seen := map[string][]admission{}
			floor, subjects := limit/2, []string{fmt.Sprint(lease, "-0"), fmt.Sprint(lease, "-1")} // a machine that is busy has longer
			enough := func() bool {
				mu.Lock()
				defer mu.Unlock()
				return min(len(seen[subjects[0]]), len(seen[subjects[1]])) >= floor
			}
			end, last := time.Now().Add(2*time.Second), time.Now().Add(patience)
			var group sync.WaitGroup
			for n := range replicas {
				m := newMoving(t, old, other, rule)
				random := rand.New(rand.NewPCG(uint64(n), 11))
				group.Go(func() {
					for time.Now().Before(end) || !enough() && time.Now().Before(last) {
						m.there.Store(random.IntN(2) == 0) // replicas never agree for long
						for range random.IntN(40) {
							subject := subjects[random.IntN(2)]
							asked := time.Now()
							r, err := m.Check(t.Context(), Request{Rule: "r", Subject: Subject{Key: subject}})
							if err != nil {
								t.Error(err)
								return
							}
							if r.Allowed {
								mu.Lock()
								seen[subject] = append(seen[subject], admission{asked, time.Now()})
								mu.Unlock()
							}
						}
					}
				})
			}
			group.Wait()
			bound, err := newMoving(t, old, other, rule).Bound("r", "")
			if err != nil {
				t.Fatal(err)
			}
			for _, subject := range subjects {
				all := seen[subject]
				slices.SortFunc(all, func(a, b admission) int { return a.told.Compare(b.told) })
				for i := range all {
					// What was told from i to j was admitted after the first of them was asked.
					first := all[i].asked
					for j := i; j < len(all); j++ {
						if all[j].asked.Before(first) {
							first = all[j].asked
						}
						most := float64(burst) + float64(limit)*all[j].told.Sub(first).Seconds()/period.Seconds()
						most += float64(bound.Over - (burst - 1)) // what a lease adds
						if float64(j-i+1) > most+1e-9 {
							t.Fatalf("%s: %d admitted within %s, want at most %.2f", subject, j-i+1, all[j].told.Sub(first), most)
						}
					}
				}
				if len(all) < floor {
					t.Errorf("%s: %d admitted, want at least %d", subject, len(all), floor)
				}
				t.Logf("%s: %d admitted, at most %d would be in 2 s", subject, len(all), burst+2*limit)
			}
		})
	}
}

func TestABucketIsWaitedForHalfADeadlineOnceItsRampHasEnded(t *testing.T) {
	t.Parallel()
	old, other := sides(t)
	stuck := &silent{}
	other.AddHook(stuck)
	l, err := New(Options{
		Client: old, Rules: []Rule{drip()}, Deadline: patience,
		Other: &Other{Client: other, Takes: func(string) bool { return false }, Left: func(string) time.Time { return time.Now() }},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := ask1(t, l, "s"); !r.Allowed || r.Reason != ReasonChecked {
		t.Errorf("while the other side says nothing: %+v, want it checked on the old one", r)
	}
	if n, waited := stuck.asked.Load(), stuck.waited(); n == 0 || waited > patience/2 {
		t.Errorf("the other side was asked %d times and waited for %s, want half a deadline", n, waited)
	}
}

// silent never answers. Whoever asks is told so at once, so that no time passes; how long they would have waited is
// noted.
type silent struct{ asked, longest atomic.Int64 }

func (s *silent) waited() time.Duration { return time.Duration(s.longest.Load()) }

func (*silent) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*silent) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (s *silent) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		s.asked.Add(1)
		wait := time.Duration(math.MaxInt64) // without a deadline
		if until, ok := ctx.Deadline(); ok {
			wait = time.Until(until)
		}
		s.longest.Store(max(s.longest.Load(), int64(wait)))
		for _, cmd := range cmds {
			cmd.SetErr(context.DeadlineExceeded)
		}
		return context.DeadlineExceeded
	}
}
