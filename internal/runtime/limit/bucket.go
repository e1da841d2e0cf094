package limit

import (
	"context"
	"crypto/sha1" //nolint:gosec // Redis names scripts by SHA-1
	_ "embed"     // the script is compiled in
	"encoding/hex"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/limit/window"
)

// A token bucket cannot be counted on two sides: each would drip by itself. So it counts on one side, and has
// left the other one. A check that finds that it is not on its side has it leave the opposite one, which says
// how full it was, and goes on with that; whatever replicas do at the same time, of two that fetch a bucket to
// and fro only that one counts whose generation is later. A bucket that was fetched stays known on its side
// for bucketKept or until it has run dry, and costs nothing more. Levels cross, and no times, so the clocks of
// both sides need not agree.

// bucketKept is for how long it is remembered at least that a bucket is on a side, or has left it: no command
// of a check may arrive later than that.
const bucketKept = 10 * time.Minute

// fetches is how often a check fetches a bucket that others fetch to the opposite side meanwhile.
const fetches = 4

// releaseScript is what Redis runs to have a bucket leave.
//
//go:embed release.lua
var releaseScript string

// releaseName is the name that Redis gives to releaseScript.
var releaseName = sync.OnceValue(func() string {
	sum := sha1.Sum([]byte(releaseScript)) //nolint:gosec // as above
	return hex.EncodeToString(sum[:])
})

// bucket is whether an item counts in a token bucket that has two sides to be on.
func (l *Limiter) bucket(it *item) bool {
	return l.opts.Other != nil && !l.opts.Other.SameDatabase && it.plan.policy.Algorithm == TokenBucket
}

// carry is what the script is told of where an item's bucket must be: of a subject that is carried one that is
// not here is elsewhere, of all others only one that has left.
func (l *Limiter) carry(it *item) string {
	switch {
	case !l.bucket(it):
		return "-"
	case it.carried:
		return "c"
	}
	return "m"
}

// staying is what the script is told where units are given back: a bucket that is not here takes none.
func (l *Limiter) staying(it *item) string {
	if l.bucket(it) {
		return "c"
	}
	return "-"
}

// full is how long a bucket takes to run dry.
func (p *plan) full() time.Duration {
	return time.Duration(float64(p.policy.Period) * float64(p.policy.Capacity()) / float64(p.policy.Limit))
}

// fetch has the buckets of items leave the opposite side, and has asks bring them here. answers say what this
// side knows of them. It returns what that cost: for each bucket 3 commands on the opposite side, or 4 where
// it was there, and one more where that side did not know the script. A bucket that the opposite side does not
// let go in time begins here with what this side knows.
func (l *Limiter) fetch(ctx context.Context, items []*item, asks []ask, answers []answer, moved []int) (commands int64) {
	for _, i := range moved {
		here := answers[i]
		asks[i].carry = claim(here.Stamp+1, here.Retry)
	}
	across := l.side(!items[0].other)
	if across.client == nil || !across.breaker.admit() {
		l.alone(items, moved)
		return 0
	}
	asking, cancel := l.waiting(ctx, items, moved)
	defer cancel()
	began := time.Now()
	replies := make([]*redis.Cmd, len(moved))
	pipe := across.client.Pipeline()
	for n, i := range moved {
		replies[n] = pipe.EvalSha(asking, releaseName(), []string{items[i].key}, releaseWords(answers[i])...)
	}
	_, _ = pipe.Exec(asking) // each command has its own error
	var failed error
	for n, i := range moved {
		name := "evalsha"
		if isNoScript(replies[n].Err()) {
			commands++
			name = "eval"
			replies[n] = across.client.Eval(asking, releaseScript, []string{items[i].key}, releaseWords(answers[i])...)
		}
		commands++
		numbers, err := replies[n].Int64Slice()
		if err != nil || len(numbers) != 3 {
			failed = err
			l.alone(items, []int{i})
			continue
		}
		across.inScript(name, numbers[0])
		commands += numbers[0]
		asks[i].carry = claim(numbers[1], numbers[2])
		items[i].rule.stats.carried.Add(1)
	}
	across.observed(time.Since(began), failed)
	across.breaker.done(failed == nil || !unusable(ctx, failed))
	return commands
}

// alone counts buckets that begin with what this side knows.
func (l *Limiter) alone(items []*item, moved []int) {
	for _, i := range moved {
		items[i].rule.stats.alone.Add(1)
	}
}

// waiting is how long the opposite side is waited for: half a Deadline where items are only looked at because
// they were carried before.
func (l *Limiter) waiting(ctx context.Context, items []*item, look []int) (context.Context, context.CancelFunc) {
	for _, i := range look {
		if items[i].carried && !items[i].late {
			return context.WithCancel(ctx)
		}
	}
	return context.WithTimeout(ctx, l.opts.Deadline/2)
}

// claim is the word that has a bucket on this side from a generation on, with a level in microseconds.
func claim(generation, level int64) string {
	return strconv.FormatInt(generation, 10) + ":" + strconv.FormatInt(level, 10)
}

// releaseWords are what releaseScript is told of a bucket as this side knows it.
func releaseWords(here answer) []any {
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	return []any{n(here.Stamp), n(here.Retry), n(bucketKept.Microseconds())}
}

// fuller is the state of a bucket that counts, of those of two sides: the one that has left is behind.
func (p *plan) fuller(here, there string, now int64) string {
	used := func(text string) int64 { return p.policy.Peek(window.Decode(p.policy, text), now, 0, 0).Used }
	if used(there) > used(here) {
		return there
	}
	return here
}
