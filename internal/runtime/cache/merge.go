package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// maxFlying bounds the merged reads under way, so that a slow upstream does not collect goroutines.
const maxFlying = 256

// A found is what is kept under a key.
type found struct {
	value string
	ok    bool
}

// A merger turns reads that come close together into one command. A read that finds nothing under way
// leaves at once; while one is, others gather for the window and leave as one MGET, or one pipeline of
// GETs on a Cluster. A key that is already being read is not asked for again.
type merger struct {
	client   redis.UniversalClient
	versions *versions
	breaker  *breaker
	window   time.Duration
	most     int
	deadline time.Duration
	pipeline bool
	spawn    func(func()) bool

	mu        sync.Mutex
	gathering *batch
	flying    int
	reading   map[string]*batch // by key, what is under way

	reads    atomic.Int64 // keys asked for
	calls    atomic.Int64 // reads that needed the upstream
	commands atomic.Int64
	batches  atomic.Int64
}

// A batch is one read of several keys. After done is closed nothing in it changes.
type batch struct {
	keys  []string
	index map[string]int
	at    []uint64 // versions.key when each key was added
	timer *time.Timer
	done  chan struct{}
	found []found
	err   error
}

func newBatch() *batch { return &batch{index: map[string]int{}, done: make(chan struct{})} }

// get reads keys, in their order, and waits no longer than ctx, which has the deadline of an operation. Its
// error is an outage of the upstream, or the end of ctx.
func (m *merger) get(ctx context.Context, keys []string) ([]found, error) {
	m.calls.Add(1)
	m.reads.Add(int64(len(keys)))
	from, err := m.join(keys)
	if err != nil {
		return nil, err
	}
	out := make([]found, len(keys))
	for i, key := range keys {
		b := from[i]
		select {
		case <-b.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		}
		if b.err != nil {
			return nil, b.err
		}
		out[i] = b.found[b.index[key]]
	}
	return out, nil
}

// join finds for each key the batch that reads it, and makes one where there is none.
func (m *merger) join(keys []string) ([]*batch, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	from := make([]*batch, len(keys))
	missing := 0
	for i, key := range keys {
		if b, ok := m.reading[key]; ok && b.at[b.index[key]] == m.versions.key(key) {
			from[i] = b
			continue
		}
		missing++
	}
	if missing == 0 {
		return from, nil
	}
	if !m.breaker.allow(time.Now()) {
		return nil, fmt.Errorf("%w: it did not answer before, and is asked again every %s", ErrUnavailable, m.breaker.every)
	}
	if m.flying >= maxFlying {
		return nil, fmt.Errorf("%w: %d reads are already waiting for it", ErrUnavailable, m.flying)
	}
	b := m.gathering
	alone := m.window < 0 || m.flying == 0 && b == nil
	if alone || b == nil {
		b = newBatch()
	}
	for i, key := range keys {
		if from[i] == nil {
			from[i] = b
			b.add(key, m.versions.key(key))
		}
	}
	switch {
	case alone:
		m.fly(b)
	case len(b.keys) >= m.most:
		m.gathering = nil
		if b.timer != nil {
			b.timer.Stop()
		}
		m.fly(b)
	case m.gathering == nil:
		m.gathering = b
		b.timer = time.AfterFunc(m.window, func() { m.flush(b) })
	}
	return from, nil
}

func (b *batch) add(key string, at uint64) {
	if i, there := b.index[key]; there {
		b.at[i] = at // it has not left yet
		return
	}
	b.index[key] = len(b.keys)
	b.keys = append(b.keys, key)
	b.at = append(b.at, at)
}

// flush sends a batch whose window has ended.
func (m *merger) flush(b *batch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gathering == b {
		m.gathering = nil
		m.fly(b)
	}
}

// fly sends a batch. The caller holds the lock.
func (m *merger) fly(b *batch) {
	for _, key := range b.keys {
		m.reading[key] = b
	}
	m.flying++
	ok := m.spawn(func() {
		// The batch serves many callers; none of them may end it. It ends a little before they stop
		// waiting, so that they learn why.
		ctx, cancel := context.WithTimeout(context.Background(), m.deadline-m.deadline/20)
		defer cancel()
		found, err := m.read(ctx, b.keys)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.land(b, found, err)
	})
	if !ok {
		m.land(b, nil, errClosed)
	}
}

// land ends a batch. The caller holds the lock.
func (m *merger) land(b *batch, found []found, err error) {
	m.flying--
	for _, key := range b.keys {
		if m.reading[key] == b {
			delete(m.reading, key)
		}
	}
	b.found, b.err = found, err
	close(b.done)
}

// read asks the upstream.
func (m *merger) read(ctx context.Context, keys []string) ([]found, error) {
	m.batches.Add(1)
	out, err := m.ask(ctx, keys)
	m.breaker.report(err, time.Now())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return out, nil
}

func (m *merger) ask(ctx context.Context, keys []string) ([]found, error) {
	out := make([]found, len(keys))
	if len(keys) == 1 {
		m.commands.Add(1)
		value, err := m.client.Get(ctx, keys[0]).Result()
		if errors.Is(err, redis.Nil) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		out[0] = found{value, true}
		return out, nil
	}
	if m.pipeline {
		m.commands.Add(int64(len(keys)))
		cmds, err := m.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, key := range keys {
				p.Get(ctx, key)
			}
			return nil
		})
		if err != nil && !errors.Is(err, redis.Nil) {
			return nil, err
		}
		for i, cmd := range cmds {
			if value, err := cmd.(*redis.StringCmd).Result(); err == nil {
				out[i] = found{value, true}
			}
		}
		return out, nil
	}
	m.commands.Add(1)
	values, err := m.client.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, err
	}
	if len(values) != len(keys) {
		return nil, fmt.Errorf("MGET of %d keys had %d values", len(keys), len(values))
	}
	for i, value := range values {
		if text, ok := value.(string); ok {
			out[i] = found{text, true}
		}
	}
	return out, nil
}
