package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/runtime/cache"
	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// cached is a cache for one run, with its keys and their value.
type cached struct {
	*cache.Cache
	t      Target
	o      Options
	prefix string
	value  []byte
	choose *chooser
	wrong  atomic.Int64 // answers that were not what was stored
}

// newCached opens the cache as serve does, without its tier in memory unless memory is asked for, and with
// as much patience as the benchmark has: an application would be answered sooner, and without the entry.
func newCached(t Target, o Options, memory bool) (*cached, error) {
	c := &cached{t: t, o: o, prefix: prefix(), value: payload(o), choose: newChooser(o)}
	opts := cache.Options{
		Client: t.Upstream.As(meter.Bench), BinarySafe: t.Upstream.BinarySafe(), Cluster: t.Cluster,
		InScript: func(_, command string, n int64) { t.Upstream.AddInScript(meter.Bench, command, n) },
		Prefix:   c.prefix, DefaultTTL: o.TTL, Jitter: -1, L1Bytes: -1, Deadline: o.Timeout,
		Deny: []string{},
	}
	if memory {
		opts.L1Bytes = 0
	}
	var err error
	c.Cache, err = cache.New(opts)
	return c, err
}

// fill writes the first n keys.
func (c *cached) fill(ctx context.Context, n int) error {
	items := make([]cache.Item, 0, n)
	for k := range n {
		items = append(items, cache.Item{Key: name(k), Value: c.value})
	}
	results, err := c.SetMany(ctx, items)
	if err != nil {
		return err
	}
	for _, r := range results {
		if !r.Stored {
			return fmt.Errorf("write the entries to read: %w", r.Cause)
		}
	}
	return nil
}

// prepared is the scenario of op.
func (c *cached) prepared(op func(ctx context.Context) error) *Prepared {
	return &Prepared{
		Operation: func(ctx context.Context, _ *bench.Span) error { return op(ctx) },
		Check: func(context.Context) (string, error) {
			if n := c.wrong.Load(); n > 0 {
				return fmt.Sprintf("%d answers were not the value that was stored", n), nil
			}
			return "", nil
		},
		Close: func(ctx context.Context) error {
			return errors.Join(unlink(ctx, c.t.Upstream.As(meter.Bench), c.t.Cluster, ownNames(c.prefix, c.o.Keys)), c.Close())
		},
	}
}

// get reads key and compares it, when it is there.
func (c *cached) get(ctx context.Context, key string) (bool, error) {
	r, err := c.Get(ctx, key)
	switch {
	case err != nil:
		return false, err
	case r.Degraded:
		return false, r.Cause
	case r.Hit && !bytes.Equal(r.Value, c.value):
		c.wrong.Add(1)
	}
	return r.Hit, nil
}

func (c *cached) set(ctx context.Context, key string) error {
	r, err := c.Set(ctx, key, c.value, cache.SetOptions{})
	switch {
	case err != nil:
		return err
	case !r.Stored:
		return r.Cause
	}
	return nil
}

func cacheReading(ctx context.Context, t Target, o Options, memory bool) (*Prepared, error) {
	c, err := newCached(t, o, memory)
	if err != nil {
		return nil, err
	}
	if err := c.fill(ctx, o.Keys); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c.prepared(func(ctx context.Context) error {
		key, _ := c.choose.next()
		hit, err := c.get(ctx, name(key))
		if err == nil && !hit {
			return errors.New("an entry that was written is not there: was it evicted, or did the run last longer than its time to live?")
		}
		return err
	}), nil
}

func cacheGet(ctx context.Context, t Target, o Options) (*Prepared, error) {
	return cacheReading(ctx, t, o, false)
}

func cacheHot(ctx context.Context, t Target, o Options) (*Prepared, error) {
	return cacheReading(ctx, t, o, true)
}

func cacheSet(_ context.Context, t Target, o Options) (*Prepared, error) {
	c, err := newCached(t, o, false)
	if err != nil {
		return nil, err
	}
	return c.prepared(func(ctx context.Context) error {
		key, _ := c.choose.next()
		return c.set(ctx, name(key))
	}), nil
}

func cacheMiss(_ context.Context, t Target, o Options) (*Prepared, error) {
	c, err := newCached(t, o, false)
	if err != nil {
		return nil, err
	}
	var n atomic.Int64
	return c.prepared(func(ctx context.Context) error {
		_, err := c.get(ctx, "none-"+strconv.FormatInt(n.Add(1), 10))
		return err
	}), nil
}

// cacheMixed reads and writes; half of the keys are there at the beginning, so that some reads miss.
func cacheMixed(ctx context.Context, t Target, o Options) (*Prepared, error) {
	c, err := newCached(t, o, false)
	if err != nil {
		return nil, err
	}
	if err := c.fill(ctx, (o.Keys+1)/2); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c.prepared(func(ctx context.Context) error {
		key, share := c.choose.next()
		if share >= o.ReadShare {
			return c.set(ctx, name(key))
		}
		_, err := c.get(ctx, name(key))
		return err
	}), nil
}
