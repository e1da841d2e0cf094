package scenario

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/runtime/limit"
	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// ruleName is the name of the benchmark's one rule.
const ruleName = "bench"

// newLimiter opens a limiter with one rule as serve does, but with as much patience as the benchmark has.
func newLimiter(t Target, o Options, most int64) (*limit.Limiter, error) {
	return limit.New(limit.Options{
		Client: t.Upstream.As(meter.Bench), Cluster: t.Cluster, Prefix: prefix(), Deadline: o.Timeout,
		InScript: func(command string, n int64) { t.Upstream.AddInScript(meter.Bench, command, n) },
		Rules:    []limit.Rule{{Name: ruleName, Limit: most, Period: time.Minute, By: limit.ByKey}},
	})
}

func subject(key string) limit.Request {
	return limit.Request{Rule: ruleName, Subject: limit.Subject{Key: key}}
}

// check asks once, and fails when the Redis did not answer: an application would be answered all the same.
func check(ctx context.Context, l *limit.Limiter, key string) (limit.Result, error) {
	r, err := l.Check(ctx, subject(key))
	if err != nil {
		return r, err
	}
	switch r.Reason {
	case limit.ReasonLocal, limit.ReasonOpen, limit.ReasonClosed:
		return r, errDecidedAlone
	case limit.ReasonChecked, limit.ReasonLeased, limit.ReasonBlocked, limit.ReasonTooLarge, limit.ReasonOther:
	}
	return r, nil
}

// closeLimiter gives back what was taken in advance and deletes the keys of the subjects.
func closeLimiter(t Target, l *limit.Limiter, subjects func() []string) func(context.Context) error {
	return func(ctx context.Context) error {
		l.Close(ctx)
		var keys []string
		for _, s := range subjects() {
			key, _, err := l.Key(subject(s))
			if err != nil {
				return err
			}
			keys = append(keys, key)
		}
		return unlink(ctx, t.Upstream.As(meter.Bench), t.Cluster, keys)
	}
}

// limitHot asks for one subject that may do more than is asked.
func limitHot(_ context.Context, t Target, o Options) (*Prepared, error) {
	l, err := newLimiter(t, o, 1_000_000)
	if err != nil {
		return nil, err
	}
	return &Prepared{
		Operation: func(ctx context.Context, _ *bench.Span) error {
			r, err := check(ctx, l, "hot")
			if err == nil && !r.Allowed {
				return fmt.Errorf("more than %d a minute: %w", r.Limit, bench.ErrLimited)
			}
			return err
		},
		Close: closeLimiter(t, l, func() []string { return []string{"hot"} }),
	}, nil
}

// limitCold asks for another subject each time.
func limitCold(_ context.Context, t Target, o Options) (*Prepared, error) {
	l, err := newLimiter(t, o, 60)
	if err != nil {
		return nil, err
	}
	var n, denied atomic.Int64
	return &Prepared{
		Operation: func(ctx context.Context, _ *bench.Span) error {
			r, err := check(ctx, l, strconv.FormatInt(n.Add(1), 10))
			if err == nil && !r.Allowed {
				denied.Add(1)
			}
			return err
		},
		Check: func(context.Context) (string, error) {
			if d := denied.Load(); d > 0 {
				return fmt.Sprintf("%d subjects were denied their first request", d), nil
			}
			return "", nil
		},
		Close: closeLimiter(t, l, func() []string {
			all := make([]string, 0, n.Load())
			for i := range n.Load() {
				all = append(all, strconv.FormatInt(i+1, 10))
			}
			return all
		}),
	}, nil
}

// limitDenied asks for a subject whose quota is used up. It is used up again when its minute is over, by
// the request that is let through then, which is why one in a minute may be.
func limitDenied(ctx context.Context, t Target, o Options) (*Prepared, error) {
	l, err := newLimiter(t, o, 1)
	if err != nil {
		return nil, err
	}
	if _, err := check(ctx, l, "denied"); err != nil {
		l.Close(ctx)
		return nil, err
	}
	var (
		allowed atomic.Int64
		began   = time.Now()
	)
	return &Prepared{
		Operation: func(ctx context.Context, _ *bench.Span) error {
			r, err := check(ctx, l, "denied")
			if err == nil && r.Allowed {
				allowed.Add(1)
			}
			return err
		},
		Check: func(context.Context) (string, error) {
			if most := int64(time.Since(began)/time.Minute) + 1; allowed.Load() > most {
				return fmt.Sprintf("%d requests were admitted to a quota of 1 a minute within %s", allowed.Load(), time.Since(began).Round(time.Second)), nil
			}
			return "", nil
		},
		Close: closeLimiter(t, l, func() []string { return []string{"denied"} }),
	}, nil
}
