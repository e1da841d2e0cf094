package limit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/limit/window"
)

// A fake is a Redis that knows only our script, in made up time, with a round trip, a clock of its own and
// outages.
type fake struct {
	redis.UniversalClient
	mu     sync.Mutex
	states map[string]*window.State
	plans  map[string]window.Policy
	trip   time.Duration
	skew   time.Duration // of its clock
	down   bool          // answers nothing
	fails  error         // answers this
	calls  int
	billed int64
}

func newFake(plans map[string]window.Policy, trip time.Duration) *fake {
	return &fake{states: map[string]*window.State{}, plans: plans, trip: trip}
}

func (f *fake) EvalSha(ctx context.Context, _ string, keys []string, args ...any) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	f.mu.Lock()
	f.calls++
	down, fails := f.down, f.fails
	f.mu.Unlock()
	if down {
		<-ctx.Done()
		cmd.SetErr(ctx.Err())
		return cmd
	}
	select {
	case <-ctx.Done():
		cmd.SetErr(ctx.Err())
		return cmd
	case <-time.After(f.trip / 2):
	}
	if fails != nil {
		cmd.SetErr(fails)
		return cmd
	}
	numbers := f.serve(keys, args)
	time.Sleep(f.trip - f.trip/2)
	cmd.SetVal(numbers)
	return cmd
}

func (f *fake) serve(keys []string, args []any) []any {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now().Add(f.skew).UnixMicro()
	calls := int64(2)
	numbers := []any{}
	for i, key := range keys {
		a := args[3+i*wordsPerLimit:]
		n := func(k int) int64 { v, _ := strconv.ParseInt(a[k].(string), 10, 64); return v }
		rule, _, _ := strings.Cut(strings.TrimPrefix(key, DefaultPrefix+":"), ":")
		p := f.plans[rule]
		s := f.states[key]
		if s == nil {
			s = &window.State{}
			f.states[key] = s
		}
		d := p.Take(s, now, window.Ask{Min: n(4), Want: n(5), Hold: n(6), Give: n(7), Stamp: n(8)})
		if d.Granted > 0 || n(7) > 0 {
			calls++
		}
		for _, v := range []int64{d.Granted, d.Used, d.Reset, d.Retry, d.RetryWant, d.Stamp, d.Hold} {
			numbers = append(numbers, v)
		}
	}
	f.billed += calls + 1
	return append([]any{calls, now}, numbers...)
}

// fleet is some replicas of a limiter with one rule, and their Redis.
func fleet(t *testing.T, r Rule, n int, trip time.Duration) ([]*Limiter, *fake) {
	t.Helper()
	r.Name = "r"
	policy, _, err := Resolve(r, n)
	if err != nil {
		t.Fatal(err)
	}
	f := newFake(map[string]window.Policy{"r": policy}, trip)
	var all []*Limiter
	for range n {
		l, err := New(Options{Client: f, Rules: []Rule{r}, Instances: n})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	return all, f
}

func ann() Request { return Request{Rule: "r", Subject: Subject{User: "ann"}} }

func TestTwoReplicasWithLeases(t *testing.T) {
	for _, c := range []struct {
		name    string
		rule    Rule
		offered float64 // a minute
		trip    time.Duration
	}{
		{"500 a minute of 1000", Rule{Limit: 1000}, 500, 30 * time.Millisecond},
		{"500 a minute of 1000, counted exactly", Rule{Limit: 1000, Algorithm: SlidingLog}, 500, time.Millisecond},
		{"1000 a minute of 1000", Rule{Limit: 1000}, 1000, 30 * time.Millisecond},
		{"3000 a minute of 1000", Rule{Limit: 1000}, 3000, 30 * time.Millisecond},
		{"12000 a minute of 10000", Rule{Limit: 10000}, 12000, 30 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				replicas, f := fleet(t, c.rule, 2, c.trip)
				rng := rand.New(rand.NewPCG(1, 2))
				var mu sync.Mutex
				var admitted []time.Time
				var waits []time.Duration
				var wg sync.WaitGroup
				checks := 0
				end := time.Now().Add(5 * time.Minute)
				for time.Now().Before(end) {
					time.Sleep(time.Duration(rng.ExpFloat64() * float64(time.Minute) / c.offered))
					l := replicas[checks%2]
					checks++
					wg.Go(func() {
						begin := time.Now()
						r, err := l.Check(t.Context(), ann())
						if err != nil {
							t.Error(err)
						}
						mu.Lock()
						defer mu.Unlock()
						waits = append(waits, time.Since(begin))
						if r.Allowed {
							admitted = append(admitted, time.Now())
						}
						if r.Reason == ReasonLocal {
							t.Errorf("%+v without an outage", r)
						}
					})
				}
				wg.Wait()
				for _, l := range replicas {
					l.Close(t.Context())
				}
				bound, err := replicas[0].Bound("r", "")
				if err != nil {
					t.Fatal(err)
				}
				slices.SortFunc(admitted, time.Time.Compare)
				most, from := 0, 0
				for i := range admitted {
					for admitted[i].Sub(admitted[from]) >= time.Minute-2*c.trip { // admitted up to a trip before we saw it
						from++
					}
					most = max(most, i-from+1)
				}
				slices.Sort(waits)
				each := float64(f.billed) / float64(checks)
				wanted := min(c.offered, float64(bound.Limit)) * 5
				share := float64(len(admitted)) / wanted
				t.Logf("%d checks, %.3f commands each, %d admitted (%.3f of what is legal), most %d, p95 %s", checks, each, len(admitted), share, most, waits[len(waits)*95/100])
				if each > 0.1 {
					t.Errorf("%.3f commands a check, want at most 0.1", each)
				}
				if int64(most) > bound.Max || bound.Over != 0 {
					t.Errorf("%d in one minute, bound %s", most, bound)
				}
				if low := bound.Sustained - float64(bound.Held)/float64(bound.Limit); share < low {
					t.Errorf("%.3f admitted, the bound says at least %.3f", share, low)
				}
				if p95 := waits[len(waits)*95/100]; p95 > time.Millisecond {
					t.Errorf("p95 %s, want under 1ms", p95)
				}
			})
		})
	}
}

func TestSmallRulesLeaseAtMostAQuarter(t *testing.T) {
	for limit := int64(1); limit < 200; limit += 7 {
		for _, instances := range []int{1, 2, 5} {
			r := Rule{Name: "r", Limit: limit}
			if _, b, err := Resolve(r, instances); err != nil || b.Units != 0 {
				t.Errorf("%d a minute leases by itself: %+v, %v", limit, b, err)
			}
			r.Lease = LeaseOn
			if _, b, err := Resolve(r, instances); err != nil || b.Units*int64(instances)*4 > limit {
				t.Errorf("%d a minute leases %d in each of %d: more than a quarter (%v)", limit, b.Units, instances, err)
			}
		}
	}
}

func TestAHotDeniedKeyCostsNothing(t *testing.T) {
	for _, lease := range []LeaseMode{LeaseOff, LeaseOn} {
		synctest.Test(t, func(t *testing.T) {
			replicas, f := fleet(t, Rule{Limit: 60, Algorithm: SlidingLog, Lease: lease}, 1, time.Millisecond)
			l := replicas[0]
			denied := 0
			for range 100 {
				if r, err := l.Check(t.Context(), ann()); err != nil || !r.Allowed {
					denied++
				}
			}
			before := f.billed
			for range 10_000 {
				r, err := l.Check(t.Context(), ann())
				if err != nil || r.Allowed || r.Reason != ReasonBlocked || r.Commands != 0 || r.RetryAfter <= 0 {
					t.Fatalf("%+v, %v", r, err)
				}
			}
			if f.billed != before || denied != 40 {
				t.Errorf("%d commands for 10,000 denied checks, %d denied of 100", f.billed-before, denied)
			}
			time.Sleep(time.Minute + 10*time.Second) // a lease counts until its own end
			if r, err := l.Check(t.Context(), ann()); err != nil || !r.Allowed {
				t.Errorf("a minute later: %+v, %v", r, err)
			}
			l.Close(t.Context())
		})
	}
}

func TestOutages(t *testing.T) {
	for _, c := range []struct {
		on      OnError
		allowed int // of 100
		reason  Reason
	}{{Local, 30, ReasonLocal}, {Open, 100, ReasonOpen}, {Closed, 0, ReasonClosed}} {
		t.Run(string(c.on), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				replicas, f := fleet(t, Rule{Limit: 60, OnError: c.on, Algorithm: SlidingLog}, 2, time.Millisecond)
				l := replicas[0]
				f.down = true
				allowed := 0
				for range 100 {
					begin := time.Now()
					r, err := l.Check(t.Context(), ann())
					if err != nil || r.Reason != c.reason {
						t.Fatalf("%+v, %v", r, err)
					}
					if r.Allowed {
						allowed++
					}
					if took := time.Since(begin); took > DefaultDeadline {
						t.Errorf("took %s", took)
					}
				}
				if allowed != c.allowed {
					t.Errorf("%d allowed of 100, want %d", allowed, c.allowed)
				}
				if f.calls != DefaultFailures {
					t.Errorf("Redis was called %d times, want to leave it alone after %d", f.calls, DefaultFailures)
				}
				s := l.Stats()
				if got := s.Rules[0]; got.Bypassed+got.Local+got.FailShut != 100 || got.Errors != 100 || !s.BreakerOpen {
					t.Errorf("counts %+v", s)
				}

				goroutines := runtime.NumGoroutine()
				for range 300 { // five minutes
					time.Sleep(time.Second)
					for i := range 20 {
						req := ann()
						req.Subject.User = fmt.Sprint(i)
						if _, err := l.Check(t.Context(), req); err != nil {
							t.Fatal(err)
						}
					}
				}
				if n := runtime.NumGoroutine(); n > goroutines+2 {
					t.Errorf("%d goroutines after five minutes, %d before", n, goroutines)
				}

				f.mu.Lock()
				f.down = false
				f.mu.Unlock()
				back := time.Now()
				for {
					req := ann()
					req.Subject.User = "new"
					r, err := l.Check(t.Context(), req)
					if err != nil {
						t.Fatal(err)
					}
					if r.Reason == ReasonChecked {
						break
					}
					time.Sleep(10 * time.Millisecond)
				}
				if took := time.Since(back); took > 2*time.Second {
					t.Errorf("used again after %s, want within 2s", took)
				}
			})
		})
	}
	t.Run("what was taken in advance is spent meanwhile", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			replicas, f := fleet(t, Rule{Limit: 6000, OnError: Closed}, 1, time.Millisecond)
			l := replicas[0]
			for range 200 {
				if r, err := l.Check(t.Context(), ann()); err != nil || !r.Allowed {
					t.Fatalf("%+v, %v", r, err)
				}
				time.Sleep(10 * time.Millisecond)
			}
			f.mu.Lock()
			f.down = true
			f.mu.Unlock()
			leased := 0
			for range 200 {
				r, err := l.Check(t.Context(), ann())
				if err != nil {
					t.Fatal(err)
				}
				if r.Allowed && r.Reason == ReasonLeased {
					leased++
				}
			}
			if leased == 0 {
				t.Error("no unit was left over")
			}
			l.Close(t.Context())
		})
	})
}

func TestWrongAnswersAreNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, f := fleet(t, Rule{Limit: 60}, 1, time.Millisecond)
		f.fails = replyError("WRONGTYPE Operation against a key holding the wrong kind of value")
		for range 20 {
			if r, err := replicas[0].Check(t.Context(), ann()); err != nil || r.Reason != ReasonLocal {
				t.Fatalf("%+v, %v", r, err)
			}
		}
		if replicas[0].Stats().BreakerOpen || f.calls != 20 {
			t.Errorf("one wrong key keeps all others from Redis: %d calls", f.calls)
		}
		f.fails = replyError("OOM command not allowed when used memory > 'maxmemory'.")
		for range 20 {
			_, _ = replicas[0].Check(t.Context(), ann())
		}
		if !replicas[0].Stats().BreakerOpen {
			t.Error("a Redis that cannot write is not left alone")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		replicas, f := fleet(t, Rule{Limit: 60}, 1, 20*time.Millisecond)
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			go func() { time.Sleep(500 * time.Microsecond); cancel() }()
			if _, err := replicas[0].Check(ctx, ann()); err != nil {
				t.Fatal(err)
			}
			cancel()
		}
		if replicas[0].Stats().BreakerOpen {
			t.Errorf("callers that gave up count as %d failures of Redis", f.calls)
		}
	})
}

type replyError string

func (e replyError) Error() string { return string(e) }
func (replyError) RedisError()     {}

func TestClocksThatDisagreeAndJump(t *testing.T) {
	t.Run("the server's clock is the only one that counts", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			replicas, f := fleet(t, Rule{Limit: 5, Algorithm: Calendar}, 2, time.Millisecond)
			replicas[0].clock.offset.Add(-40 * 24 * 3600e6) // thinks it is last month
			replicas[1].clock.offset.Add(3 * 24 * 3600e6)
			f.skew = 7 * time.Hour
			allowed := 0
			for i := range 12 {
				r, err := replicas[i%2].Check(t.Context(), ann())
				if err != nil || r.Reason == ReasonLocal {
					t.Fatalf("%+v, %v", r, err)
				}
				if r.Allowed {
					allowed++
				}
				if day := r.ResetAt.UTC(); !r.Allowed && (day.Hour() != 0 || day.Minute() != 0) {
					t.Errorf("resets at %s, want midnight by the server's clock", day)
				}
			}
			if allowed != 5 {
				t.Errorf("%d allowed, want 5", allowed)
			}
		})
	})
	t.Run("a lease does not outlive its time because the machine was asleep", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			replicas, f := fleet(t, Rule{Limit: 6000}, 1, time.Millisecond)
			l := replicas[0]
			for range 200 {
				if _, err := l.Check(t.Context(), ann()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Millisecond)
			}
			l.Asleep(10 * 60e6)
			calls := f.calls
			if r, err := l.Check(t.Context(), ann()); err != nil || r.Reason != ReasonChecked || f.calls != calls+1 {
				t.Errorf("after ten minutes of sleep: %+v, %v", r, err)
			}
			l.Close(t.Context())
		})
	})
	t.Run("time never goes back", func(t *testing.T) {
		c := newClock()
		now := time.Now()
		first := c.at(now)
		if again := c.at(now.Add(-time.Hour).Round(0)); again > first {
			t.Errorf("an hour back is %d, was %d", again, first)
		}
		ahead := c.at(now.Round(0).Add(time.Hour)) // only the wall clock went on
		if ahead-first < 3590e6 {
			t.Errorf("an hour of sleep is %d us", ahead-first)
		}
	})
}

func TestUnspentUnitsComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, f := fleet(t, Rule{Limit: 1000}, 2, time.Millisecond)
		for range 300 {
			if _, err := replicas[0].Check(t.Context(), ann()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := replicas[0].Run(ctx); err != nil {
			t.Fatal(err)
		}
		if s := replicas[0].Stats().Rules[0]; s.LeaseTaken-s.LeaseReturned-s.LeaseExpired != s.LeaseHits {
			t.Errorf("%d taken, %d spent, %d returned, %d expired", s.LeaseTaken, s.LeaseHits, s.LeaseReturned, s.LeaseExpired)
		}
		s := f.states[replicas[0].rules.Load().byName["r"].key(DefaultPrefix, "", "u=ann")]
		if d := f.plans["r"].Peek(*s, time.Now().UnixMicro(), 1, 0); d.Used != 301 {
			t.Errorf("%d used after all that was not spent came back, want 300 and the look", d.Used)
		}
	})
}

func TestRulesAreReplacedAsAWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _ := fleet(t, Rule{Limit: 2}, 1, time.Millisecond)
		l := replicas[0]
		for range 3 {
			if _, err := l.Check(t.Context(), ann()); err != nil {
				t.Fatal(err)
			}
		}
		err := l.SetRules([]Rule{{Name: "r", Limit: 9}, {Name: "bad name", Limit: -4, Algorithm: "guess"}, {Name: "r"}})
		for _, word := range []string{"bad name", "-4", "guess", "another rule"} {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%v does not name %s", err, word)
			}
		}
		if got := l.Rules(); len(got) != 1 || got[0].Limit != 2 {
			t.Errorf("rules after an error: %+v, want the old", got)
		}
		if r, err := l.Check(t.Context(), ann()); err != nil || r.Reason != ReasonBlocked {
			t.Errorf("%+v, %v, want what was known before", r, err)
		}
		if err := l.SetRules([]Rule{{Name: "r", Limit: 4}}); err != nil {
			t.Fatal(err)
		}
		if r, err := l.Check(t.Context(), ann()); err != nil || r.Reason != ReasonChecked || r.Limit != 4 {
			t.Errorf("%+v, %v, want the new limit at once", r, err)
		}
		if _, err := l.Check(t.Context(), Request{Rule: "gone"}); !errors.Is(err, ErrUnknownRule) {
			t.Errorf("%v, want %v", err, ErrUnknownRule)
		}
	})
}

func TestModes(t *testing.T) {
	for mode, want := range map[Mode]Result{
		Enforce: {OverLimit: true},
		Warn:    {OverLimit: true, Allowed: true, Warning: true},
		Shadow:  {OverLimit: true, Allowed: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			replicas, _ := fleet(t, Rule{Limit: 1, Mode: mode}, 1, time.Millisecond)
			l := replicas[0]
			_, _ = l.Check(t.Context(), ann())
			for range 3 {
				r, err := l.Check(t.Context(), ann())
				if err != nil || r.OverLimit != want.OverLimit || r.Allowed != want.Allowed || r.Warning != want.Warning {
					t.Errorf("%s: %+v, %v", mode, r, err)
				}
				if headers := Headers(l.Shadowed, r); (len(headers) == 0) != (mode == Shadow) {
					t.Errorf("%s: headers %v", mode, headers)
				}
			}
			if s := l.Stats().Rules[0]; s.OverLimit != 3 {
				t.Errorf("%s: %+v", mode, s)
			}
		})
	}
}
