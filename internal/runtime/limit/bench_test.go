package limit_test

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

	"github.com/redisopt/redisopt/internal/runtime/limit"
	"github.com/redisopt/redisopt/internal/runtime/limit/window"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// naive is a limiter of four commands, each a round trip.
func naive(ctx context.Context, c redis.UniversalClient, key string) error {
	now := time.Now().UnixMilli()
	if err := c.ZAdd(ctx, key, redis.Z{Score: float64(now), Member: fmt.Sprint(now, rand.Uint64())}).Err(); err != nil {
		return err
	}
	if err := c.ZCard(ctx, key).Err(); err != nil {
		return err
	}
	if err := c.ZRemRangeByScore(ctx, key, "0", fmt.Sprint(now-60_000)).Err(); err != nil {
		return err
	}
	return c.Expire(ctx, key, time.Minute).Err()
}

// BenchmarkChecks compares checks a second with the naive limiter of four commands over three connections,
// in rounds of all in turn; x is the median over the rounds of one round's ratio. 50 goroutines, 10,000
// users, 60 a minute.
func BenchmarkChecks(b *testing.B) {
	s := redistest.Start(b)
	ctx := b.Context()
	pool := redis.NewClient(&redis.Options{Addr: s.Addr, Protocol: 2, PoolSize: 3, PipelinePoolSize: -1, MaxActiveConns: 3, DisableIdentity: true})
	defer func() { _ = pool.Close() }()
	shared, err := upstream.Open(ctx, upstream.Options{URL: s.URL(), Shared: true})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = shared.Close() }()
	limiter := func(c redis.UniversalClient, r limit.Rule) *limit.Limiter {
		r.Name = "r"
		l, err := limit.New(limit.Options{Client: c, Rules: []limit.Rule{r}, Prefix: string(r.Algorithm), Deadline: 5 * time.Second})
		if err != nil {
			b.Fatal(err)
		}
		return l
	}
	one := func(l *limit.Limiter) func(n int) (int, error) {
		return func(n int) (int, error) {
			_, err := l.Check(ctx, limit.Request{Rule: "r", Subject: limit.Subject{User: fmt.Sprint(n)}})
			return 1, err
		}
	}
	log := limit.Rule{Algorithm: limit.SlidingLog, Limit: 60}
	sliding := limit.Rule{Limit: 60}
	busy := limit.Rule{Limit: 1_000_000, Algorithm: limit.FixedWindow}
	ten := limiter(shared.Client(), sliding)
	ways := []struct {
		name string
		do   func(n int) (int, error)
	}{
		{"naive 4 calls, pool of 3", func(n int) (int, error) { return 1, naive(ctx, pool, fmt.Sprint("naive:", n)) }},
		{"sliding-window, pool of 3", one(limiter(pool, sliding))},
		{"sliding-window, shared", one(limiter(shared.Client(), sliding))},
		{"sliding-log, shared", one(limiter(shared.Client(), log))},
		{"token-bucket, shared", one(limiter(shared.Client(), limit.Rule{Algorithm: limit.TokenBucket, Limit: 60}))},
		{"10 a call, shared", func(n int) (int, error) {
			reqs := make([]limit.Request, 10)
			for i := range reqs {
				reqs[i] = limit.Request{Rule: "r", Subject: limit.Subject{User: fmt.Sprint(n, "/", i)}}
			}
			_, err := ten.CheckMany(ctx, reqs)
			return 10, err
		}},
		{"leased hot key", func() func(n int) (int, error) {
			l := limiter(shared.Client(), busy)
			return func(int) (int, error) {
				_, err := l.Check(ctx, limit.Request{Rule: "r", Subject: limit.Subject{User: "hot"}})
				return 1, err
			}
		}()},
	}
	ratios := make([][]float64, len(ways))
	rates := make([][]float64, len(ways))
	rounds := 0
	for b.Loop() {
		rounds++
		first := 0.0
		for i, w := range ways {
			rate := measure(b, w.do, 300*time.Millisecond)
			if i == 0 {
				first = rate
			}
			rates[i] = append(rates[i], rate)
			ratios[i] = append(ratios[i], rate/first)
		}
	}
	for i, w := range ways {
		b.Logf("%-28s %9.0f checks/s  x %.1f (%d rounds)", w.name, median(rates[i]), median(ratios[i]), rounds)
	}
	b.ReportMetric(median(ratios[2]), "x-naive")
	b.ReportMetric(median(ratios[5])/median(ratios[2]), "x-10-a-call")
}

func measure(b *testing.B, do func(n int) (int, error), long time.Duration) float64 {
	b.Helper()
	var done atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for range 50 {
		wg.Go(func() {
			for time.Since(begin) < long {
				n, err := do(rand.IntN(10_000))
				if err != nil {
					b.Error(err)
					return
				}
				done.Add(int64(n))
			}
		})
	}
	wg.Wait()
	return float64(done.Load()) / time.Since(begin).Seconds()
}

func median(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

func TestMemoryOfOneUser(t *testing.T) {
	c := redistest.Start(t).Client(t)
	ctx := t.Context()
	for i := range 60 { // as the former limiter keeps them
		c.ZAdd(ctx, "rate_limit:user-000042:api", redis.Z{Score: float64(1_795_000_000_000 + i*997), Member: fmt.Sprintf("%d-0.%016d", 1_795_000_000_000+i*997, i*7919)})
	}
	set := c.MemoryUsage(ctx, "rate_limit:user-000042:api").Val()
	for _, w := range []struct {
		policy window.Policy
		most   float64
	}{
		{window.Policy{Algorithm: window.Sliding, Limit: 60, Period: time.Minute, Buckets: 60}, 0.2},
		{window.Policy{Algorithm: window.Log, Limit: 60, Period: time.Minute}, 0.25},
		{window.Policy{Algorithm: window.Counter, Limit: 60, Period: time.Minute}, 0.1},
		{window.Policy{Algorithm: window.Bucket, Limit: 60, Period: time.Minute, Burst: 60}, 0.1},
	} {
		var state window.State
		for i := range int64(60) {
			w.policy.Take(&state, 1_795_000_000_000_000+i*997_123, window.Ask{Min: 1, Want: 1})
		}
		c.Set(ctx, "redisopt:limit:api:{u=user-000042}", state.Encode(w.policy), time.Minute)
		size := c.MemoryUsage(ctx, "redisopt:limit:api:{u=user-000042}").Val()
		share := float64(size) / float64(set)
		t.Logf("%-15s %4d B, %.2f of the sorted set's %d B", w.policy.Algorithm, size, share, set)
		if share > w.most {
			t.Errorf("%s: %d B, %.2f of a sorted set's %d B, want at most %.2f", w.policy.Algorithm, size, share, set, w.most)
		}
	}
}
