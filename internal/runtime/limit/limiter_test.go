package limit_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/limit"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// new is a Limiter for a test, closed at its end.
func open(t *testing.T, o limit.Options) *limit.Limiter {
	t.Helper()
	if o.Deadline == 0 {
		o.Deadline = time.Minute // a loaded machine is no outage
	}
	l, err := limit.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(context.WithoutCancel(t.Context())) })
	return l
}

func check(t *testing.T, l *limit.Limiter, req limit.Request) limit.Result {
	t.Helper()
	r, err := l.Check(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func user(rule, name string) limit.Request {
	return limit.Request{Rule: rule, Subject: limit.Subject{User: name}}
}

// pooled is a client with enough connections for many callers at once.
func pooled(t *testing.T, s *redistest.Server) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: s.Addr, Protocol: 2, PoolSize: 20, PipelinePoolSize: -1, MaxRetries: -1, PoolTimeout: time.Minute,
		DialTimeout: time.Minute, ReadTimeout: time.Minute, WriteTimeout: time.Minute, ContextTimeoutEnabled: true, DisableIdentity: true,
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// served is how many commands the server has run, those of scripts included, without looks at it.
func served(t *testing.T, c *redis.Client) int64 {
	t.Helper()
	info, err := c.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	for name, value := range upstream.ParseInfo(info) {
		switch strings.TrimPrefix(name, "cmdstat_") {
		case "info", "hello", "client|setinfo", "ping":
			continue
		}
		for field := range strings.SplitSeq(value, ",") {
			if n, ok := strings.CutPrefix(field, "calls="); ok {
				calls, err := strconv.ParseInt(n, 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				sum += calls
			}
		}
	}
	return sum
}

func TestEveryCommandIsAccountedFor(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client(t)
	rules := []limit.Rule{
		{Name: "log", Algorithm: limit.SlidingLog, Limit: 2},
		{Name: "window", Algorithm: limit.SlidingWindow, Limit: 2},
		{Name: "counter", Algorithm: limit.SlidingCounter, Limit: 2, Period: limit.MaxPeriod},
		{Name: "fixed", Algorithm: limit.FixedWindow, Limit: 2, Period: limit.MaxPeriod},
		{Name: "bucket", Algorithm: limit.TokenBucket, Limit: 2, Period: time.Hour},
		{Name: "day", Algorithm: limit.Calendar, Limit: 2},
	}
	var inScript int64
	l := open(t, limit.Options{Client: c, Rules: rules, InScript: func(command string, n int64) {
		if command != "evalsha" && command != "eval" {
			t.Errorf("commands in %s", command)
		}
		inScript += n
	}})
	for i, r := range rules {
		t.Run(string(r.Algorithm), func(t *testing.T) {
			for n, want := range []int64{4, 4, 3, 0} {
				if i == 0 && n == 0 {
					want = 5 // the server did not know the script
				}
				before, inBefore := served(t, c), inScript
				got := check(t, l, user(r.Name, "ann"))
				if allowed := n < 2; got.Allowed != allowed || got.OverLimit == allowed {
					t.Errorf("check %d: %+v, want allowed %v", n+1, got, allowed)
				}
				ran := served(t, c) - before
				if ran != want || got.Commands != want {
					t.Errorf("check %d ran %d commands and says %d, want %d", n+1, ran, got.Commands, want)
				}
				if told := inScript - inBefore; told != max(0, min(want, 4)-1) {
					t.Errorf("check %d told of %d commands in its script of %d", n+1, told, want)
				}
			}
		})
	}
	total := int64(0)
	for _, s := range l.Stats().Rules {
		total += s.Commands
		if s.Checks != 4 || s.Allowed != 2 || s.Denied != 2 || s.DenyHits != 1 || s.Calls != 3 {
			t.Errorf("counts %+v", s)
		}
	}
	if got := served(t, c); got != total {
		t.Errorf("Stats say %d commands, the server %d", total, got)
	}
	price, err := l.Price("log", "")
	if err != nil || price.Admitted != 4 || price.Denied != 3 {
		t.Errorf("Price = %+v, %v", price, err)
	}
}

func TestAThousandCallersNeverGetMoreThanTheLimit(t *testing.T) {
	s := redistest.Start(t)
	for _, a := range []limit.Algorithm{limit.SlidingLog, limit.SlidingWindow, limit.SlidingCounter, limit.FixedWindow, limit.TokenBucket, limit.Calendar} {
		t.Run(string(a), func(t *testing.T) {
			rule := limit.Rule{Name: "r", Algorithm: a, Limit: 60, Period: limit.MaxPeriod, Lease: limit.LeaseOff}
			if a == limit.Calendar {
				rule.Period = 0
			}
			two := []*limit.Limiter{
				open(t, limit.Options{Client: pooled(t, s), Rules: []limit.Rule{rule}, Prefix: string(a)}),
				open(t, limit.Options{Client: pooled(t, s), Rules: []limit.Rule{rule}, Prefix: string(a)}),
			}
			var admitted, denied atomic.Int64
			var wg sync.WaitGroup
			start := make(chan struct{})
			for i := range 1000 {
				wg.Go(func() {
					<-start
					r, err := two[i%2].Check(t.Context(), user("r", "ann"))
					switch {
					case err != nil:
						t.Error(err)
					case r.Reason != limit.ReasonChecked && r.Reason != limit.ReasonBlocked:
						t.Errorf("%+v", r)
					case r.Allowed:
						admitted.Add(1)
					default:
						denied.Add(1)
					}
				})
			}
			close(start)
			wg.Wait()
			if admitted.Load() != 60 || denied.Load() != 940 {
				t.Errorf("%d admitted and %d denied, want 60 and 940", admitted.Load(), denied.Load())
			}
		})
	}
}

// An admission happened some time between asked and told.
type admission struct{ asked, told time.Time }

// mostIn is the most of all that certainly lie in one window of length w: the last was told of less than w after
// the first was asked for.
func mostIn(all []admission, w time.Duration) int {
	most := 0
	for _, first := range all {
		n := 0
		for _, a := range all {
			if !a.asked.Before(first.asked) && a.told.Sub(first.asked) < w {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

func TestNeverOverTheLimitInAnyWindowOfARealServer(t *testing.T) {
	s := redistest.Start(t)
	for _, c := range []struct {
		name string
		rule limit.Rule
	}{
		{"sliding log", limit.Rule{Algorithm: limit.SlidingLog, Lease: limit.LeaseOff}},
		{"sliding window", limit.Rule{Algorithm: limit.SlidingWindow, Lease: limit.LeaseOff}},
		{"sliding window with leases", limit.Rule{Algorithm: limit.SlidingWindow, Lease: limit.LeaseOn}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.rule.Name, c.rule.Limit, c.rule.Period = "r", 100, 400*time.Millisecond
			const floor = 150 // for which a machine that is busy has longer
			var mu sync.Mutex
			var admitted []admission
			enough := func() bool { mu.Lock(); defer mu.Unlock(); return len(admitted) >= floor }
			var wg sync.WaitGroup
			until := time.Now().Add(1500 * time.Millisecond)
			last := time.Now().Add(time.Minute)
			for range 2 {
				l := open(t, limit.Options{Client: pooled(t, s), Rules: []limit.Rule{c.rule}, Prefix: strings.ReplaceAll(c.name, " ", "-"), Instances: 2})
				for range 8 {
					wg.Go(func() {
						for time.Now().Before(until) || !enough() && time.Now().Before(last) {
							asked := time.Now()
							r, err := l.Check(t.Context(), user("r", "ann"))
							told := time.Now()
							if err != nil {
								t.Error(err)
								return
							}
							if r.Allowed {
								mu.Lock()
								admitted = append(admitted, admission{asked, told})
								mu.Unlock()
							} else {
								<-time.After(min(r.RetryAfter, 3*time.Millisecond))
							}
						}
					})
				}
			}
			wg.Wait()
			if got := mostIn(admitted, c.rule.Period); got > 100 {
				t.Errorf("%d admitted in a window of 400ms, limit 100", got)
			}
			if len(admitted) < floor {
				t.Errorf("only %d admitted in a minute", len(admitted))
			}
		})
	}
}

func TestDeniedRequestsConsumeNothing(t *testing.T) {
	c := redistest.Start(t).Client(t)
	l := open(t, limit.Options{Client: c, Rules: []limit.Rule{{Name: "r", Algorithm: limit.SlidingLog, Limit: 10, Period: time.Hour}}})
	big := user("r", "ann")
	big.Cost = 11
	if r := check(t, l, big); r.Allowed || r.Reason != limit.ReasonTooLarge || r.Commands != 0 || r.RetryAfter != 0 {
		t.Errorf("more than the limit at once: %+v", r)
	}
	big.Cost = 8
	if r := check(t, l, big); !r.Allowed || r.Remaining != 2 || !r.NearLimit {
		t.Errorf("8 of 10: %+v", r)
	}
	big.Cost = 3
	for range 5 {
		if r := check(t, l, big); r.Allowed || r.Remaining != 2 || r.RetryAfter < 58*time.Minute || r.RetryAfter > time.Hour {
			t.Errorf("3 more: %+v", r)
		}
	}
	if r := check(t, l, user("r", "ann")); !r.Allowed || r.Remaining != 1 {
		t.Errorf("1 more after 3 were denied: %+v", r)
	}
	if ttl := c.PTTL(t.Context(), "redisopt:limit:r:{u=ann}").Val(); ttl <= 58*time.Minute || ttl > 61*time.Minute {
		t.Errorf("the key lives for %s, want about an hour", ttl)
	}
}

func TestCheckAll(t *testing.T) {
	c := redistest.Start(t).Client(t)
	l := open(t, limit.Options{Client: c, Rules: []limit.Rule{
		{Name: "minute", Limit: 5},
		{Name: "year", Limit: 3, Period: limit.MaxPeriod, Algorithm: limit.FixedWindow},
		{Name: "watch", Limit: 1, Mode: limit.Shadow},
		{Name: "fast", Limit: 6000, Lease: limit.LeaseOn},
	}})
	both := []limit.Request{user("minute", "ann"), user("year", "ann")}
	for i := range 3 {
		results, err := l.CheckAll(t.Context(), both)
		if err != nil || !results[0].Allowed || !results[1].Allowed {
			t.Fatalf("call %d: %+v, %v", i+1, results, err)
		}
		if results[0].Commands > 6 || i > 0 && results[0].Commands != 5 || results[1].Commands != 0 {
			t.Errorf("call %d cost %d and %d commands, want 5 and 0", i+1, results[0].Commands, results[1].Commands)
		}
	}
	for i, want := range []int64{3, 0} {
		results, err := l.CheckAll(t.Context(), both)
		if err != nil || results[0].Allowed || results[1].Allowed {
			t.Fatalf("a fourth: %+v, %v", results, err)
		}
		if results[0].Reason != limit.ReasonOther || !results[1].OverLimit || results[0].OverLimit {
			t.Errorf("a fourth: %+v", results)
		}
		if worst := limit.Strictest(results); worst.Rule != "year" && i == 1 {
			t.Errorf("strictest is %+v", worst)
		}
		if results[0].Commands+results[1].Commands != want {
			t.Errorf("denied for %d commands, want %d", results[0].Commands, want)
		}
	}
	if r := check(t, l, user("minute", "ann")); r.Remaining != 1 {
		t.Errorf("after 3 admitted together and 2 denied together %d remain of 5, want 1", r.Remaining)
	}

	t.Run("a rule that only watches denies nobody", func(t *testing.T) {
		for range 3 {
			results, err := l.CheckAll(t.Context(), []limit.Request{user("watch", "bob"), user("minute", "bob")})
			if err != nil || !results[0].Allowed || !results[1].Allowed {
				t.Errorf("%+v, %v", results, err)
			}
		}
	})
	t.Run("a lease is kept for later when another limit denies", func(t *testing.T) {
		for range 20 {
			check(t, l, user("fast", "ann"))
		}
		before := check(t, l, user("fast", "ann")).Remaining
		for range 5 {
			results, err := l.CheckAll(t.Context(), []limit.Request{user("fast", "ann"), user("year", "ann")})
			if err != nil || results[0].Allowed {
				t.Errorf("%+v, %v", results, err)
			}
		}
		if after := check(t, l, user("fast", "ann")).Remaining; before-after > 1 {
			t.Errorf("%d remained before and %d after, want one less", before, after)
		}
	})
}

func TestCheckMany(t *testing.T) {
	c := redistest.Start(t).Client(t)
	l := open(t, limit.Options{Client: c, Rules: []limit.Rule{{Name: "a", Limit: 1}, {Name: "b", Limit: 5}}})
	reqs := []limit.Request{user("a", "ann"), user("a", "ann"), user("b", "ann"), user("b", "bob")}
	results, err := l.CheckMany(t.Context(), reqs)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(results[0].Allowed, results[1].Allowed, results[2].Allowed, results[3].Allowed)
	if got != "true false true true" {
		t.Errorf("%s, want the second use of a limit of one denied", got)
	}
	if results[0].Commands != 7 { // EVALSHA, EVAL, TIME, MGET and three SET
		t.Errorf("%d commands, want 7", results[0].Commands)
	}
	for name, bad := range map[string]struct {
		reqs []limit.Request
		want error
	}{
		"a rule that is not there": {[]limit.Request{user("b", "ann"), user("nope", "ann")}, limit.ErrUnknownRule},
		"nobody":                   {[]limit.Request{user("b", "ann"), user("b", "")}, limit.ErrNoIdentity},
		"a negative cost":          {[]limit.Request{{Rule: "b", Cost: -1, Subject: limit.Subject{User: "ann"}}}, limit.ErrBadCost},
		"too many":                 {make([]limit.Request, 101), limit.ErrTooMany},
	} {
		before := served(t, c)
		if _, err := l.CheckMany(t.Context(), bad.reqs); !errors.Is(err, bad.want) {
			t.Errorf("%s: %v, want %v", name, err, bad.want)
		}
		if n := served(t, c) - before; n != 0 {
			t.Errorf("%s: %d commands", name, n)
		}
	}
}

func TestSMS(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client(t)
	key := []byte("0123456789abcdef")
	if _, err := limit.New(limit.Options{Client: c, Rules: []limit.Rule{limit.SMS()}}); err == nil || !strings.Contains(err.Error(), "hash key") {
		t.Errorf("without a key to hash with: %v", err)
	}
	var events []limit.Event
	l := open(t, limit.Options{
		Client: c, Rules: []limit.Rule{limit.SMS()}, HashKey: key,
		Event: func(e limit.Event) { events = append(events, e) },
	})
	number := limit.Request{Rule: "sms", Subject: limit.Subject{Phone: "+1 (555) 010-9999"}}
	for i := range 21 {
		if i%2 == 1 {
			number.Subject.Phone = "+15550109999"
		}
		if r := check(t, l, number); r.Allowed != (i < 20) {
			t.Fatalf("message %d: %+v", i+1, r)
		}
	}
	for _, k := range c.Keys(t.Context(), "*").Val() {
		if strings.Contains(k, "555") || strings.Contains(c.Get(t.Context(), k).Val(), "010") {
			t.Errorf("the number is in %s", k)
		}
	}
	for _, e := range events {
		if strings.Contains(e.Subject, "555") || e.Subject == "" {
			t.Errorf("the number is in %+v", e)
		}
	}
	if len(events) == 0 {
		t.Error("nobody was told that a number is over its limit")
	}
	if _, err := l.Check(t.Context(), limit.Request{Rule: "sms", Subject: limit.Subject{User: "ann", IP: netip.MustParseAddr("192.0.2.1")}}); !errors.Is(err, limit.ErrNoIdentity) {
		t.Errorf("without a number: %v, want %v", err, limit.ErrNoIdentity)
	}
	s.Kill(t)
	number.Subject.Phone = "+15550108888"
	r, err := l.Check(t.Context(), number)
	if err != nil || r.Allowed || r.Reason != limit.ReasonClosed || r.RetryAfter <= 0 {
		t.Errorf("while Redis is away: %+v, %v, want it closed", r, err)
	}
}
