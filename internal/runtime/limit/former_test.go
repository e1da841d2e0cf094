package limit

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// formerly adds n requests to a former limiter's set, as an application does.
func formerly(t *testing.T, c *redis.Client, key string, n int, at time.Time) {
	t.Helper()
	for i := range n {
		if err := c.ZAdd(t.Context(), key, redis.Z{Score: float64(at.UnixMilli()), Member: fmt.Sprint(at.UnixNano(), i)}).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFormerLimiterIsReadWhereItIsWhileSubjectsMove(t *testing.T) {
	t.Parallel()
	old, other := sides(t)
	for _, algorithm := range []Algorithm{SlidingWindow, SlidingLog, SlidingCounter, FixedWindow} {
		t.Run(string(algorithm), func(t *testing.T) {
			rule := Rule{Name: "r", Algorithm: algorithm, Limit: 10, Period: MaxPeriod, By: ByKey, Legacy: "former:{user}"}
			m := newMoving(t, old, other, rule)
			subject := string(algorithm)
			formerly(t, old, "former:"+subject, 3, time.Now())
			admitted := 0
			for i := range 30 {
				m.there.Store(i%3 != 1) // to and fro
				if i == 6 {
					formerly(t, old, "former:"+subject, 1, time.Now())
				}
				if ask1(t, m.Limiter, subject).Allowed {
					admitted++
				}
			}
			if admitted != 6 {
				t.Errorf("admitted %d, want the 6 of 10 that the application left", admitted)
			}
			for _, there := range []bool{true, false} {
				m.there.Store(there)
				p, err := m.Peek(t.Context(), Request{Rule: "r", Subject: Subject{Key: subject}})
				if err != nil || p.Used != 10 || p.Allowed {
					t.Errorf("Peek on the new side %v = used %d, allowed %v, %v; want 10 of all three, denied", there, p.Used, p.Allowed, err)
				}
			}
			if n := other.Exists(t.Context(), "former:"+subject).Val(); n != 0 {
				t.Error("the former limiter's set is on the new side")
			}
		})
	}
}

func TestARuleThatGoesOnReadingOnTheOldSideSaysSo(t *testing.T) {
	t.Parallel()
	two, one := &Other{}, &Other{SameDatabase: true}
	for rule, want := range map[*Rule]bool{
		{Legacy: "former:{user}"}: true, {Legacy: "former:{user}", LegacyShare: true}: false, {}: false,
	} {
		if ok, why := two.Reads(*rule); ok != want || (why != "") != want {
			t.Errorf("Reads(%+v) = %v, %q; want %v, with the reason", rule, ok, why, want)
		}
		if ok, _ := one.Reads(*rule); ok {
			t.Errorf("Reads(%+v) in one database, want no", rule)
		}
	}
}

func TestWhoIsDeniedByAFormerLimiterIsToldWhenItsOldestRequestIsOver(t *testing.T) {
	t.Parallel()
	old, other := sides(t)
	m := newMoving(t, old, other, Rule{Name: "r", Algorithm: SlidingLog, Limit: 5, Period: time.Hour, By: ByKey, Legacy: "former:{user}"})
	m.there.Store(true)
	formerly(t, old, "former:s", 1, time.Now().Add(-50*time.Minute))
	formerly(t, old, "former:s", 4, time.Now())
	r := ask1(t, m.Limiter, "s")
	if r.Allowed || r.RetryAfter < 8*time.Minute || r.RetryAfter > 10*time.Minute {
		t.Errorf("allowed %v, retry after %s; want it denied for the 10 minutes that the oldest has left", r.Allowed, r.RetryAfter)
	}
	if r := ask1(t, m.Limiter, "s"); r.Reason != ReasonBlocked || r.Commands != 0 {
		t.Errorf("a second check: %s for %d commands, want it known", r.Reason, r.Commands)
	}
}

func TestAFormerLimiterIsReadAfterTheRampAsWellAndMayBeGone(t *testing.T) {
	t.Parallel()
	old, other := sides(t)
	l, err := New(Options{
		Client: old, Rules: []Rule{{Name: "r", Limit: 4, Period: time.Hour, By: ByKey, Legacy: "former:{user}"}}, Deadline: patience,
		Other: &Other{Client: other, Takes: func(string) bool { return true }},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(context.WithoutCancel(t.Context())) })
	formerly(t, old, "former:s", 2, time.Now())
	ask1(t, l, "s") // the server learns the script
	if r := ask1(t, l, "s"); !r.Allowed || r.Used != 4 || r.Commands != 5 {
		t.Errorf("allowed %v, used %d for %d commands; want the 4th for 5", r.Allowed, r.Used, r.Commands)
	}
	if r := ask1(t, l, "s"); r.Allowed {
		t.Error("a fifth was admitted")
	}
	old.Set(t.Context(), "former:eve", "x", 0)
	if r := ask1(t, l, "eve"); !r.Allowed || r.Reason != ReasonChecked {
		t.Errorf("a key of another type: %+v, want it no outage", r)
	}
	_ = old.Close()
	if r := ask1(t, l, "bob"); !r.Allowed || r.Reason != ReasonChecked {
		t.Errorf("while the old side is gone: %+v, want the new side alone to decide", r)
	}
}

func TestAFormerLimiterThatStandsStillHoldsUpACheckForHalfADeadline(t *testing.T) {
	t.Parallel()
	old, other := sides(t)
	stuck := &silent{}
	old.AddHook(stuck)
	l, err := New(Options{
		Client: old, Rules: []Rule{{Name: "r", Limit: 4, Period: time.Hour, By: ByKey, Legacy: "former:{user}"}}, Deadline: patience,
		Other: &Other{Client: other, Takes: func(string) bool { return true }},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := ask1(t, l, "s"); !r.Allowed || r.Reason != ReasonChecked || stuck.asked.Load() != 1 || stuck.waited() > patience/2 {
		t.Errorf("%+v after %d looks of up to %s, want it checked on the new side after half a deadline", r, stuck.asked.Load(), stuck.waited())
	}
}
