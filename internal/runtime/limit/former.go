package limit

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// A former limiter's sets are where the application counts, on the old side: whoever is counted on the other
// one is looked for there.

// Reads is whether r goes on reading on the old side when its subjects are counted on that of o, and if so what
// ends with that.
func (o *Other) Reads(r Rule) (bool, string) {
	if r.Legacy == "" || r.LegacyShare || o.SameDatabase {
		return false, ""
	}
	return true, "it goes on reading a former limiter's sets on the old side; when ramp becomes upstream it sees them no more, so a caller may get once more what they hold of one window, and what the former limiter still admits"
}

// formerAcross is whether an item is counted on another side than its former limiter's set is.
func (l *Limiter) formerAcross(it *item) bool {
	return it.former != "" && it.other && !l.opts.Other.SameDatabase
}

// formerHere is the key of the former limiter's set where an item is counted; empty where it is not there.
func (l *Limiter) formerHere(it *item) string {
	if l.formerAcross(it) {
		return ""
	}
	return it.former
}

// since is the score from which a former limiter's set counts at a server's time in microseconds.
func (it *item) since(now int64) string {
	return "(" + strconv.FormatInt((now-it.rule.Period.Microseconds())/1000, 10)
}

// formerFrees has a denied check tried again when the oldest request that the former limiter counts is out of
// the window, if that is before what is known. It returns the commands that it cost.
func (l *Limiter) formerFrees(ctx context.Context, across side, it *item, a *answer, now int64) int64 {
	oldest, err := across.client.ZRangeByScoreWithScores(ctx, it.former, &redis.ZRangeBy{Min: it.since(now), Max: "+inf", Count: 1}).Result()
	if err == nil && len(oldest) == 1 {
		frees := int64(oldest[0].Score)*1000 + it.rule.Period.Microseconds() - now
		a.Retry = min(a.Retry, max(time.Millisecond.Microseconds(), frees))
		a.RetryWant = a.Retry
	}
	return 1
}
