package mover

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"
)

// A fakeBull does to a queue what Bull's producers and workers do, one step at a time, so that a test
// can put any number of steps between any two commands of a move.
type fakeBull struct {
	tb     testing.TB
	client redis.UniversalClient
	e      Endpoint
	rng    *rand.Rand
	next   int
	all    []string        // every id ever added
	plain  map[string]bool // added at the back, never started
	active []string
}

func (b *fakeBull) must(err error) {
	b.tb.Helper()
	if err != nil && !errors.Is(err, redis.Nil) {
		b.tb.Fatal(err)
	}
}

// add adds a job as Bull does: at the back, at the front (lifo), by priority, delayed, or with an id
// of its own; with options that need an edit or none.
func (b *fakeBull) add(ctx context.Context, kind int) {
	b.tb.Helper()
	b.next++
	id := strconv.Itoa(b.next)
	if b.rng.IntN(12) == 0 {
		id = fmt.Sprintf("custom:%d", b.next)
	}
	b.must(b.client.Incr(ctx, b.e.Key("id")).Err())
	opts := []string{
		`{"attempts":3,"delay":0,"timestamp":%d}`, `{"timeout":100,"attempts":1,"delay":0,"timestamp":%d}`,
		`{"attempts":2,"backoff":{"type":"exponential","delay":10},"delay":0,"timestamp":%d}`,
	}[b.rng.IntN(3)]
	stamp := 1795380456459 + b.next
	priority := 0
	if kind == 2 {
		priority = 1 + b.rng.IntN(4)
	}
	b.must(b.client.HSet(ctx, b.e.Key(id), "name", "__default__", "data", fmt.Sprintf(`{"n":%d}`, b.next),
		"opts", fmt.Sprintf(opts, stamp), "timestamp", stamp, "delay", 0, "priority", priority).Err())
	b.all = append(b.all, id)
	switch kind {
	case 1:
		b.must(b.client.RPush(ctx, b.e.Key("wait"), id).Err())
	case 2:
		b.addByPriority(ctx, id, priority)
	case 3:
		b.must(b.client.ZAdd(ctx, b.e.Key("delayed"), redis.Z{Score: float64(stamp * 4096), Member: id}).Err())
	default:
		b.must(b.client.LPush(ctx, b.e.Key("wait"), id).Err())
		b.plain[id] = true
	}
}

func (b *fakeBull) addByPriority(ctx context.Context, id string, priority int) {
	b.tb.Helper()
	b.must(b.client.ZAdd(ctx, b.e.Key("priority"), redis.Z{Score: float64(priority), Member: id}).Err())
	before, err := b.client.ZCount(ctx, b.e.Key("priority"), "0", strconv.Itoa(priority)).Result()
	b.must(err)
	size, err := b.client.LLen(ctx, b.e.Key("wait")).Result()
	b.must(err)
	at, err := b.client.LIndex(ctx, b.e.Key("wait"), size-(before-1)).Result()
	b.must(err)
	if at == "" {
		b.must(b.client.RPush(ctx, b.e.Key("wait"), id).Err())
	} else {
		b.must(b.client.LInsertBefore(ctx, b.e.Key("wait"), at, id).Err())
	}
}

// take starts the job that is next, as a worker does: id and lock in one step.
func (b *fakeBull) take(ctx context.Context) {
	b.tb.Helper()
	id, err := b.client.RPopLPush(ctx, b.e.Key("wait"), b.e.Key("active")).Result()
	b.must(err)
	if id == "" {
		return
	}
	delete(b.plain, id)
	b.must(b.client.Set(ctx, b.e.Key(id+":lock"), "token", 0).Err())
	b.must(b.client.ZRem(ctx, b.e.Key("priority"), id).Err())
	b.must(b.client.HSet(ctx, b.e.Key(id), "processedOn", 1795380460000+b.rng.IntN(1000)).Err())
	b.active = append(b.active, id)
}

// finish ends an active job: done, failed for good, tried again at once, or later.
func (b *fakeBull) finish(ctx context.Context) {
	b.tb.Helper()
	if len(b.active) == 0 {
		return
	}
	i := b.rng.IntN(len(b.active))
	id := b.active[i]
	b.active = slices.Delete(b.active, i, i+1)
	b.must(b.client.Del(ctx, b.e.Key(id+":lock")).Err())
	b.must(b.client.LRem(ctx, b.e.Key("active"), 0, id).Err())
	kind := b.rng.IntN(4)
	if kind < 3 {
		b.must(b.client.HIncrBy(ctx, b.e.Key(id), "attemptsMade", 1).Err())
	}
	switch kind {
	case 0:
		b.must(b.client.ZAdd(ctx, b.e.Key("failed"), redis.Z{Score: 1795380470000, Member: id}).Err())
	case 1:
		b.must(b.client.LPush(ctx, b.e.Key("wait"), id).Err())
	case 2:
		b.must(b.client.ZAdd(ctx, b.e.Key("delayed"), redis.Z{Score: 1795380470000 * 4096, Member: id}).Err())
	default:
		b.must(b.client.ZAdd(ctx, b.e.Key("completed"), redis.Z{Score: 1795380470000, Member: id}).Err())
	}
}

// promote makes a delayed job wait.
func (b *fakeBull) promote(ctx context.Context) {
	b.tb.Helper()
	popped, err := b.client.ZPopMin(ctx, b.e.Key("delayed"), 1).Result()
	b.must(err)
	for _, z := range popped {
		b.must(b.client.LPush(ctx, b.e.Key("wait"), z.Member).Err())
		if id, ok := z.Member.(string); ok {
			delete(b.plain, id)
		}
	}
}

func (b *fakeBull) step(ctx context.Context) {
	b.tb.Helper()
	switch n := b.rng.IntN(20); {
	case n < 8:
		b.add(ctx, 0)
	case n < 9:
		b.add(ctx, 1)
	case n < 11:
		b.add(ctx, 2)
	case n < 12:
		b.add(ctx, 3)
	case n < 15:
		b.take(ctx)
	case n < 19:
		b.finish(ctx)
	default:
		b.promote(ctx)
	}
}
