package scenario

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// legacyLimit is the sliding window that applications write by hand: ZADD, ZCARD, ZREMRANGEBYSCORE and
// EXPIRE, each waiting for the one before. It is here to be compared with limit-cold and limit-hot, and is
// as wrong as the original: it counts requests that it denies.
func legacyLimit(_ context.Context, t Target, o Options) (*Prepared, error) {
	client, own, choose := t.Upstream.As(meter.Bench), prefix(), newChooser(o)
	var n atomic.Int64
	return &Prepared{
		Operation: func(ctx context.Context, _ *bench.Span) error {
			user, _ := choose.next()
			key, now := own+":"+name(user), time.Now().UnixMilli()
			member := strconv.FormatInt(n.Add(1), 10)
			if err := client.ZAdd(ctx, key, redis.Z{Score: float64(now), Member: member}).Err(); err != nil {
				return err
			}
			if err := client.ZCard(ctx, key).Err(); err != nil {
				return err
			}
			if err := client.ZRemRangeByScore(ctx, key, "0", strconv.FormatInt(now-60_000, 10)).Err(); err != nil {
				return err
			}
			return client.Expire(ctx, key, time.Minute).Err()
		},
		Close: func(ctx context.Context) error { return unlink(ctx, client, t.Cluster, ownNames(own, o.Keys)) },
	}, nil
}

// ownNames are the names of n keys under a prefix.
func ownNames(own string, n int) []string {
	names := make([]string, 0, n)
	for k := range n {
		names = append(names, own+":"+name(k))
	}
	return names
}
