package limit

import (
	"context"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/limit/window"
)

// A Likeness is how a decision of the other side came out against that of the old one.
type Likeness string

// The likenesses.
const (
	Alike      Likeness = "alike"      // both decide the same
	Later      Likeness = "later"      // only because time went on in between do they not
	Unlike     Likeness = "unlike"     // they do not: the other side counts, or tells the time, in another way
	Unanswered Likeness = "unanswered" // the other side did not decide
	Skipped    Likeness = "skipped"    // not compared: too many waited, or the count changed all the time
)

// Bounds of comparing.
const (
	compareWaiting = 64                     // checks that wait to be compared
	compareEvery   = 100 * time.Millisecond // at most one comparison in this time
	compareTimeout = 5 * time.Second        // for both sides, since no caller waits
	compareKept    = 10 * time.Second       // what the other side is given to decide about
	compareTries   = 3                      // looks at a count that changes meanwhile
	compareClocks  = time.Second            // a difference of clocks that explains another decision
)

// comparePrefix is what the keys begin with that the other side is given to decide about.
const comparePrefix = "redisopt:probe:limit:"

// A comparison is a check of which the decisions of both sides are compared.
type comparison struct {
	plan *plan
	key  string
	cost int64
}

// sample has the decision about an item compared, if it is to be, without waiting for it: the same is asked of
// both sides again, in the background, and nothing is counted. Rules with a former limiter's sets are not
// compared, nor is what is carried, which both sides know in part.
func (l *Limiter) sample(it *item) {
	o := l.opts.Other
	if o == nil || it.cost == 0 || it.other || it.carried || it.rule.Legacy != "" || it.rule.LegacyShare || !o.Compares() {
		return
	}
	select {
	case l.comparisons <- comparison{it.plan, it.key, it.cost}:
	default:
		o.Compared(Skipped, it.key, 0)
	}
}

// compare compares until ctx ends.
func (l *Limiter) compare(ctx context.Context) {
	o := l.opts.Other
	tick := time.NewTicker(compareEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-l.comparisons:
			like, took := l.judge(ctx, c)
			if ctx.Err() == nil {
				o.Compared(like, c.key, took)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// judge has both sides decide about the same count, and tells how long the other one took. Price: 5 commands on
// the old side (GET, the script with its TIME and MGET, GET), again while the count changes meanwhile, and 4 on
// the other one (SET, the script with its TIME and MGET), whose key expires by itself. What each says is held
// against what its state means at its own time, so that neither a check in between nor the way there makes a
// difference.
func (l *Limiter) judge(ctx context.Context, c comparison) (Likeness, time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, compareTimeout)
	defer cancel()
	asked := time.Now()
	text, old, ok := l.settled(ctx, c)
	p := c.plan.policy
	if !ok || old.answers[0].Used != p.Peek(window.Decode(p, text), old.now, 0, 0).Used {
		return Skipped, 0
	}
	across := l.side(true)
	if !across.breaker.admit() {
		return Skipped, 0
	}
	began := time.Now()
	next, err := l.given(ctx, across, c, text)
	took := max(time.Since(began), 1)
	across.breaker.done(err == nil || !unusable(ctx, err))
	if err != nil {
		return Unanswered, took
	}
	a := next.answers[0]
	passes := func(a answer) bool { return a.Used+c.cost <= p.Capacity() }
	switch {
	case a.outside || a.Used != p.Peek(window.Decode(p, text), next.now, 0, 0).Used:
		return Unlike, took
	case passes(a) == passes(old.answers[0]):
		return Alike, took
	}
	// The clocks differ by what lies between both times, less at most what passed here meanwhile.
	if apart := time.Duration(next.now-old.now) * time.Microsecond; apart < -compareClocks || apart > compareClocks+time.Since(asked) {
		return Unlike, took
	}
	return Later, took
}

// settled is what the old side has of a count and decides about it, where nobody counted in between.
func (l *Limiter) settled(ctx context.Context, c comparison) (text string, r reply, ok bool) {
	on := l.side(false)
	if on.client == nil || l.spared.Load() || on.breaker.open() {
		return "", reply{}, false
	}
	for range compareTries {
		var before, after *redis.StringCmd
		r, err := l.dry(ctx, on, c, c.key, func(pipe redis.Pipeliner) { before = pipe.Get(ctx, c.key) }, func(pipe redis.Pipeliner) { after = pipe.Get(ctx, c.key) })
		if err != nil || r.answers[0].outside || failedGet(before) || failedGet(after) {
			return "", reply{}, false
		}
		if before.Val() == after.Val() {
			return before.Val(), r, !strings.HasSuffix(before.Val(), ":m")
		}
	}
	return "", reply{}, false
}

func failedGet(cmd *redis.StringCmd) bool { return cmd.Err() != nil && cmd.Err() != redis.Nil } //nolint:errorlint // go-redis returns it as it is

// given has a side decide about a count that it is given under a name of its own.
func (l *Limiter) given(ctx context.Context, on side, c comparison, text string) (reply, error) {
	key := comparePrefix + l.unique()
	var set *redis.StatusCmd
	r, err := l.dry(ctx, on, c, key, func(pipe redis.Pipeliner) {
		if text != "" {
			set = pipe.Set(ctx, key, text, compareKept)
		}
	}, func(redis.Pipeliner) {})
	if err == nil && set != nil {
		err = set.Err()
	}
	return r, err
}

// dry has a side decide about key without counting, in one round trip with what comes before and after; in two
// where the side does not know the script, which it then learns.
func (l *Limiter) dry(ctx context.Context, on side, c comparison, key string, before, after func(redis.Pipeliner)) (reply, error) {
	keys, args := l.arguments([]ask{{plan: c.plan, key: key, Ask: window.Ask{Min: c.cost}}}, false, l.clock.server(l.clock.now()))
	var cmd *redis.Cmd
	for _, name := range []string{"evalsha", "eval"} {
		pipe := on.client.Pipeline()
		before(pipe)
		if name == "eval" {
			cmd = pipe.Eval(ctx, checkScript, keys, args...)
		} else {
			cmd = pipe.EvalSha(ctx, scriptName(), keys, args...)
		}
		after(pipe)
		_, _ = pipe.Exec(ctx) // each command has its own error
		if isNoScript(cmd.Err()) {
			continue
		}
		numbers, err := cmd.Int64Slice()
		if err != nil {
			return reply{}, err
		}
		r, err := understood(numbers, 1)
		if err == nil {
			on.inScript(name, numbers[0])
		}
		return r, err
	}
	return reply{}, cmd.Err()
}
