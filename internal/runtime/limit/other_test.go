package limit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// patience is how long a side may take: one that is slow because the machine is busy is no outage.
const patience = time.Minute

// sides are two real servers and the clients to them.
func sides(t *testing.T) (old, other *redis.Client) {
	t.Helper()
	one := func() *redis.Client {
		c := redis.NewClient(&redis.Options{
			Addr: redistest.Start(t).Addr, DisableIdentity: true, MaxRetries: -1,
			DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience,
		})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	return one(), one()
}

// A moving is a limiter whose idea of where subjects are is set by the test.
type moving struct {
	*Limiter
	there atomic.Bool
}

func newMoving(t *testing.T, old, other redis.UniversalClient, rule Rule) *moving {
	t.Helper()
	m := &moving{}
	o := Other{Client: other, Takes: func(string) bool { return m.there.Load() }, Carries: func(string) bool { return true }}
	l, err := New(Options{Client: old, Other: &o, Rules: []Rule{rule}, Deadline: patience, Instances: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(context.WithoutCancel(t.Context())) })
	m.Limiter = l
	return m
}

func ask1(t *testing.T, l *Limiter, subject string) Result {
	t.Helper()
	r, err := l.Check(t.Context(), Request{Rule: "r", Subject: Subject{Key: subject}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestASubjectThatChangesSidesGetsNoFreshQuota(t *testing.T) {
	t.Parallel()
	old, other := sides(t)
	for _, algorithm := range []Algorithm{SlidingWindow, SlidingLog, SlidingCounter, FixedWindow, TokenBucket} {
		t.Run(string(algorithm), func(t *testing.T) {
			m := newMoving(t, old, other, Rule{Name: "r", Algorithm: algorithm, Limit: 10, Period: MaxPeriod, By: ByKey, Lease: LeaseOff})
			subject := string(algorithm)
			admitted := 0
			for i := range 30 {
				m.there.Store(i%3 == 1) // to and fro
				if ask1(t, m.Limiter, subject).Allowed {
					admitted++
				}
			}
			if admitted != 10 {
				t.Errorf("admitted %d, want exactly the limit of 10", admitted)
			}
			p, err := m.Peek(t.Context(), Request{Rule: "r", Subject: Subject{Key: subject}})
			if err != nil || p.Used != 10 || p.Allowed {
				t.Errorf("Peek = used %d, allowed %v, %v; want 10 of both sides, denied", p.Used, p.Allowed, err)
			}
			if err := m.Reset(t.Context(), Request{Rule: "r", Subject: Subject{Key: subject}}); err != nil {
				t.Fatal(err)
			}
			if r := ask1(t, m.Limiter, subject); !r.Allowed || r.Used != 1 {
				t.Errorf("after Reset: allowed %v, used %d; want both sides forgotten", r.Allowed, r.Used)
			}
		})
	}
}

func TestACheckOfAllIsDecidedOnOneSide(t *testing.T) {
	t.Parallel()
	old, other := sides(t)
	m := newMoving(t, old, other, Rule{Name: "r", Limit: 3, Period: time.Hour, By: ByKey, Lease: LeaseOff})
	both := []Request{{Rule: "r", Subject: Subject{Key: "a"}, Cost: 2}, {Rule: "r", Subject: Subject{Key: "b"}, Cost: 2}}
	if results, err := m.CheckAll(t.Context(), both); err != nil || !results[0].Allowed || !results[1].Allowed {
		t.Fatalf("CheckAll = %v, %v; want both allowed", results, err)
	}
	m.there.Store(true)
	results, err := m.CheckAll(t.Context(), []Request{{Rule: "r", Subject: Subject{Key: "a"}, Cost: 2}, {Rule: "r", Subject: Subject{Key: "c"}, Cost: 1}})
	if err != nil || results[0].Allowed || results[1].Allowed {
		t.Fatalf("CheckAll = %v, %v; want none allowed, because a has used 2 of 3 on the old side", results, err)
	}
	for i := range 3 { // what was given back is free again
		if r := ask1(t, m.Limiter, "c"); !r.Allowed {
			t.Fatalf("check %d of c: denied, want what CheckAll gave back", i+1)
		}
	}
}

func TestRulesWhoseCountsCannotBeAddedUpStay(t *testing.T) {
	t.Parallel()
	two, one := &Other{}, &Other{SameDatabase: true}
	for _, rule := range []Rule{
		{Name: "shared", LegacyShare: true, Legacy: "rate_limit:{user}:{type}"},
	} {
		if ok, why := two.Movable(rule); ok || why == "" {
			t.Errorf("Movable(%s) = %v, %q; want it to stay, with the reason", rule.Name, ok, why)
		}
		if ok, _ := one.Movable(rule); !ok {
			t.Errorf("Movable(%s) in one database = false, want true", rule.Name)
		}
	}
}

func TestAnOtherSideThatIsDownDoesNotKeepChecksFromBeingDecided(t *testing.T) {
	t.Parallel()
	old, other := sides(t)
	m := newMoving(t, old, other, Rule{Name: "r", Limit: 2, Period: time.Hour, By: ByKey, Lease: LeaseOff})
	_ = other.Close()
	got := []bool{}
	for range 3 {
		got = append(got, ask1(t, m.Limiter, "s").Allowed)
	}
	if want := []bool{true, true, false}; !slices.Equal(got, want) {
		t.Errorf("allowed %v, want %v by the old side alone", got, want)
	}
}

func TestWhatTheOtherSideCountedIsSeenUntilItsWindowEndsAndNoLonger(t *testing.T) {
	t.Parallel()
	old, other := sides(t)
	var there, carried atomic.Bool
	var left atomic.Pointer[time.Time]
	left.Store(&time.Time{})
	l, err := New(Options{
		Client: old, Deadline: patience,
		Rules: []Rule{{Name: "r", Limit: 10, Period: time.Hour, By: ByKey, Lease: LeaseOff}},
		Other: &Other{
			Client: other, Takes: func(string) bool { return there.Load() }, Carries: func(string) bool { return carried.Load() },
			Left: func(string) time.Time { return *left.Load() },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(context.WithoutCancel(t.Context())) })
	admitted := func(n int) int {
		got := 0
		for range n {
			if ask1(t, l, "s").Allowed {
				got++
			}
		}
		return got
	}
	there.Store(true)
	carried.Store(true)
	if n := admitted(6); n != 6 {
		t.Fatalf("%d of 6 admitted on the other side", n)
	}
	there.Store(false)
	carried.Store(false)
	now := time.Now()
	left.Store(&now)
	p, err := l.Peek(t.Context(), Request{Rule: "r", Subject: Subject{Key: "s"}})
	if err != nil || p.Used != 6 {
		t.Errorf("Peek = used %d, %v; want the 6 of the other side", p.Used, err)
	}
	if n := admitted(2); n != 2 {
		t.Errorf("%d of 2 admitted of the 4 that are left", n)
	}
	long := now.Add(-2 * time.Hour)
	left.Store(&long)
	if ask1(t, l, "s").Used != 3 {
		t.Error("want the other side not asked once every window has ended")
	}
	left.Store(&now)
	if n := admitted(5); n != 1 {
		t.Errorf("%d admitted, want the 1 that is left of both sides' 10", n)
	}
	_ = other.Close() // forgotten, and no obstacle
	p, err = l.Peek(t.Context(), Request{Rule: "r", Subject: Subject{Key: "s"}})
	if err != nil || p.Used != 4 {
		t.Errorf("Peek = used %d, %v; want the 4 of the old side alone", p.Used, err)
	}
}

// An admission happened some time between asked and told.
type admission struct{ asked, told time.Time }

// TestNoWindowAdmitsMoreThanTheLimitWhileSubjectsMove has replicas that learn of a move at different times
// ask for the same subjects as fast as they can, to and fro, and looks at every window afterwards.
func TestNoWindowAdmitsMoreThanTheLimitWhileSubjectsMove(t *testing.T) {
	t.Parallel()
	const limit, replicas, period = 8, 3, 400 * time.Millisecond
	for _, lease := range []LeaseMode{LeaseOff, LeaseOn} {
		t.Run(string(lease), func(t *testing.T) {
			t.Parallel()
			old, other := sides(t)
			rule := Rule{Name: "r", Algorithm: SlidingWindow, Limit: limit, Period: period, By: ByKey, Lease: lease}
			var mu sync.Mutex
			seen := map[string][]admission{}
			// In 2 s there are five windows; whoever asks all the time is not locked out. A machine that is busy has longer.
			floor, subjects := 5*limit/2, []string{fmt.Sprint(lease, "-0"), fmt.Sprint(lease, "-1")}
			enough := func() bool {
				mu.Lock()
				defer mu.Unlock()
				return min(len(seen[subjects[0]]), len(seen[subjects[1]])) >= floor
			}
			end, last := time.Now().Add(2*time.Second), time.Now().Add(patience)
			var group sync.WaitGroup
			for n := range replicas {
				m := newMoving(t, old, other, rule)
				random := rand.New(rand.NewPCG(uint64(n), 7))
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
							if r.Reason != ReasonChecked && r.Reason != ReasonLeased && r.Reason != ReasonBlocked {
								t.Errorf("decided by %s, want by Redis", r.Reason)
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
			for _, subject := range subjects {
				all := seen[subject]
				slices.SortFunc(all, func(a, b admission) int { return a.asked.Compare(b.asked) })
				for i := range all {
					// Certainly within one window: told of the last less than a period after the first was asked.
					told := []time.Time{}
					for _, a := range all[i:] {
						if a.told.Sub(all[i].asked) < period {
							told = append(told, a.told)
						}
					}
					if len(told) > limit {
						t.Fatalf("%s: %d admitted within %s, want at most %d", subject, len(told), period, limit)
					}
				}
				if len(all) < floor {
					t.Errorf("%s: %d admitted in all, want at least %d", subject, len(all), floor)
				}
				t.Logf("%s: %d admitted, at most %d would be in 2 s", subject, len(all), 6*limit)
			}
		})
	}
}
