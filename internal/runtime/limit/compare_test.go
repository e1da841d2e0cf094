package limit

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/limit/window"
)

// compared are the likenesses that a limiter told.
type compared struct {
	mu   sync.Mutex
	told map[Likeness]int
}

func (c *compared) tell(like Likeness, _ string, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told == nil {
		c.told = map[Likeness]int{}
	}
	c.told[like]++
}

func (c *compared) counts() (all int, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.told {
		all += n
	}
	return all, fmt.Sprint(c.told)
}

// comparing is a limiter on the old side that has all decisions compared.
func comparing(t *testing.T, old, other redis.UniversalClient, c *compared, rules ...Rule) *Limiter {
	t.Helper()
	l, err := New(Options{
		Client: old, Rules: rules, Deadline: patience,
		Other: &Other{Client: other, Takes: func(string) bool { return false }, Compares: func() bool { return true }, Compared: c.tell},
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// everyAlgorithm is a rule of each, named after it.
func everyAlgorithm(period time.Duration) []Rule {
	var rules []Rule
	for _, a := range window.Algorithms() {
		r := Rule{Name: string(a), Algorithm: a, Limit: 5, Period: period, By: ByKey, Lease: LeaseOff}
		if a == Calendar {
			r.Period = 0
		}
		rules = append(rules, r)
	}
	return rules
}

func TestBothSidesAreAskedTheSameByEveryAlgorithmAndNothingIsCountedTwice(t *testing.T) {
	t.Parallel()
	old, other := sides(t)
	var c compared
	l := comparing(t, old, other, &c, everyAlgorithm(700*time.Millisecond)...)
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { _ = l.Run(ctx) })
	deadline := time.Now().Add(patience)
	for n := 0; time.Now().Before(deadline); n++ {
		for _, r := range l.Rules() {
			if _, err := l.Check(t.Context(), Request{Rule: r.Name, Subject: Subject{Key: fmt.Sprint("s", n%3)}}); err != nil {
				t.Fatal(err)
			}
		}
		c.mu.Lock()
		enough := c.told[Alike]+c.told[Later] >= 20
		c.mu.Unlock()
		if enough {
			break
		}
	}
	stop()
	group.Wait()
	_, text := c.counts()
	if c.told[Alike] < 10 || c.told[Unlike]+c.told[Unanswered] > 0 {
		t.Errorf("compared %s, want most alike and none unlike", text)
	}
	for _, key := range other.Keys(t.Context(), "*").Val() {
		if !strings.HasPrefix(key, comparePrefix) || other.PTTL(t.Context(), key).Val() > compareKept {
			t.Errorf("%s is on the other side, want only what expires by itself", key)
		}
	}
}

func TestAComparisonCostsNineCommandsAndCountsNothing(t *testing.T) {
	t.Parallel()
	old, other := sides(t)
	var c compared
	for _, r := range everyAlgorithm(MaxPeriod) { // nothing expires meanwhile
		l := comparing(t, old, other, &c, r)
		if _, err := l.Check(t.Context(), Request{Rule: r.Name, Subject: Subject{Key: "s"}}); err != nil {
			t.Fatal(err)
		}
		one := <-l.comparisons
		before := old.Get(t.Context(), one.key).Val()
		l.judge(t.Context(), one) // both sides know the script now
		was := [2]int64{processed(t, old), processed(t, other)}
		if like, took := l.judge(t.Context(), one); like != Alike || took <= 0 {
			t.Errorf("%s: %s after %s, want alike", r.Name, like, took)
		}
		// INFO is counted as well, and so is what a script runs.
		if got := [2]int64{processed(t, old) - was[0] - 1, processed(t, other) - was[1] - 1}; got != [2]int64{5, 4} {
			t.Errorf("%s: %v commands of the sides, want 5 and 4", r.Name, got)
		}
		if after := old.Get(t.Context(), one.key).Val(); after != before {
			t.Errorf("%s: the count was %q and is %q", r.Name, before, after)
		}
	}
}

// processed is how many commands clients sent to a server, as it counts.
func processed(t *testing.T, c *redis.Client) int64 {
	t.Helper()
	stats, err := c.InfoMap(t.Context(), "stats").Result()
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	if _, err := fmt.Sscan(stats["Stats"]["total_commands_processed"], &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestASideThatDecidesInAnotherWayIsFoundOut(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]struct {
		hook redis.Hook
		want Likeness
	}{
		"one that loses what it is given": {rewrites{func(cmds []redis.Cmder) []redis.Cmder { return cmds[1:] }, nil}, Unlike},
		"one that counts twice":           {rewrites{nil, func(n []any) { n[3] = n[3].(int64) + 1 }}, Unlike},
		"one whose clock is a minute off": {rewrites{nil, func(n []any) { n[1] = n[1].(int64) + time.Minute.Microseconds() }}, Unlike},
		"one that answers something else": {rewrites{nil, func(n []any) { n[0] = "?" }}, Unanswered},
		"one that does not answer":        {&silent{}, Unanswered},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old, other := sides(t)
			other.AddHook(broken.hook)
			var c compared
			l := comparing(t, old, other, &c, Rule{Name: "r", Limit: 1, Period: 30 * time.Second, By: ByKey, Lease: LeaseOff})
			ask1(t, l, "s")
			if like, _ := l.judge(t.Context(), <-l.comparisons); like != broken.want {
				t.Errorf("judged %s, want %s", like, broken.want)
			}
		})
	}
}

// rewrites changes what is sent in pipelines, and the numbers that come back.
type rewrites struct {
	sent     func([]redis.Cmder) []redis.Cmder
	answered func([]any)
}

func (rewrites) DialHook(next redis.DialHook) redis.DialHook { return next }

func (rewrites) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (r rewrites) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		sent := cmds
		if r.sent != nil {
			sent = r.sent(cmds)
		}
		err := next(ctx, sent)
		for _, cmd := range sent {
			if c, ok := cmd.(*redis.Cmd); ok && r.answered != nil {
				if numbers, ok := c.Val().([]any); ok {
					r.answered(numbers)
				}
			}
		}
		return err
	}
}

func TestWhatIsToBeComparedNeverWaits(t *testing.T) {
	t.Parallel()
	old, other := sides(t)
	var c compared
	l := comparing(t, old, other, &c, Rule{Name: "r", Limit: 1000, Period: time.Minute, By: ByKey, Lease: LeaseOff}, Rule{Name: "former", Limit: 10, By: ByUser, Legacy: "rate_limit:{user}"})
	if _, err := l.Check(t.Context(), Request{Rule: "former", Subject: Subject{User: "s"}}); err != nil || len(l.comparisons) != 0 {
		t.Errorf("%d comparisons of a rule with a former limiter, %v; want none", len(l.comparisons), err)
	}
	for range compareWaiting + 3 { // nothing takes them
		ask1(t, l, "s")
	}
	if all, text := c.counts(); all != 3 || c.told[Skipped] != 3 {
		t.Errorf("told %s, want 3 skipped", text)
	}
	l.DecideHere(true) // nothing is to be spent
	if like, _ := l.judge(t.Context(), <-l.comparisons); like != Skipped {
		t.Errorf("judged %s while commands are spared, want skipped", like)
	}
}
