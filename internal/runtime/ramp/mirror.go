package ramp

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Bounds of a mirror.
const (
	mirrorBatch  = 128      // writes that leave as one pipeline
	mirrorWrites = 200_000  // that wait; what does not fit is lost, and counted
	mirrorBytes  = 64 << 20 // of values that wait; beyond it only the removal of the key waits
	firstPause   = 100 * time.Millisecond
	lastPause    = 5 * time.Second
)

// errBehind says that the other side has not taken a write in time.
var errBehind = errors.New("the other side of the ramp has not taken it yet")

// A mirror brings writes to the side on which their keys are not, in the order of each key. What that side
// does not take is tried again; a later write of a key takes the place of an earlier one that still waits.
type mirror struct {
	client  redis.UniversalClient
	timeout time.Duration
	lost    func(key string)

	mu      sync.Mutex
	waiting map[string]*copied
	order   []string // of waiting keys; may hold some that wait no more
	flying  map[string]*copied
	bytes   int
	ring    chan struct{} // receives when something waits
	failing error         // why the last batch was not taken; nil when it was
}

// A copied is one write on its way.
type copied struct {
	key    string
	value  []byte
	ttl    time.Duration
	remove bool

	done    chan struct{}   // closed when the side has taken it, or something newer
	waiters []chan struct{} // done, and that of every write whose place it took
}

func newMirror(client redis.UniversalClient, timeout time.Duration, lost func(string)) *mirror {
	return &mirror{
		client: client, timeout: timeout, lost: lost,
		waiting: map[string]*copied{}, flying: map[string]*copied{}, ring: make(chan struct{}, 1),
	}
}

// put has a write brought over.
func (m *mirror) put(w *copied) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w.done = make(chan struct{})
	w.waiters = []chan struct{}{w.done}
	before := m.waiting[w.key]
	if before == nil && len(m.waiting) >= mirrorWrites {
		m.lost(w.key)
		return
	}
	if before != nil {
		m.bytes -= len(before.value)
		w.waiters = append(w.waiters, before.waiters...)
	} else {
		m.order = append(m.order, w.key)
	}
	if m.bytes+len(w.value) > mirrorBytes {
		w.value, w.remove = nil, true
	}
	m.bytes += len(w.value)
	m.waiting[w.key] = w
	select {
	case m.ring <- struct{}{}:
	default:
	}
}

// wait returns when the side has taken the writes, or an error when it has not before ctx ends.
func wait(ctx context.Context, writes []*copied) error {
	for _, w := range writes {
		if w.done == nil {
			return errBehind
		}
		select {
		case <-w.done:
		case <-ctx.Done():
			return errBehind
		}
	}
	return nil
}

// behind is whether a write of key is still on its way to this side.
func (m *mirror) behind(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.waiting[key] != nil || m.flying[key] != nil
}

// run brings writes over until ctx ends, and then once more what still waits.
func (m *mirror) run(ctx context.Context) {
	pause := firstPause
	for {
		batch := m.take()
		if len(batch) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-m.ring:
			}
			continue
		}
		err := m.send(context.WithoutCancel(ctx), batch)
		m.land(batch, err)
		switch {
		case err == nil:
			pause = firstPause
			continue
		case ctx.Err() != nil:
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, lastPause)
	}
}

// take is the next batch, which flies from now on.
func (m *mirror) take() []*copied {
	m.mu.Lock()
	defer m.mu.Unlock()
	var batch []*copied
	n := 0
	for ; n < len(m.order) && len(batch) < mirrorBatch; n++ {
		if w := m.waiting[m.order[n]]; w != nil {
			batch = append(batch, w)
			delete(m.waiting, w.key)
			m.flying[w.key] = w
			m.bytes -= len(w.value)
		}
	}
	m.order = slices.Delete(m.order, 0, n)
	return batch
}

func (m *mirror) send(ctx context.Context, batch []*copied) error {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	_, err := m.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		var gone []string
		for _, w := range batch {
			if w.remove {
				gone = append(gone, w.key)
				continue
			}
			p.Set(ctx, w.key, w.value, w.ttl)
		}
		if len(gone) > 0 {
			p.Unlink(ctx, gone...)
		}
		return nil
	})
	return err
}

// land ends a batch: what was not taken waits again, unless something newer does.
func (m *mirror) land(batch []*copied, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failing = err
	var again []string
	for _, w := range batch {
		delete(m.flying, w.key)
		newer := m.waiting[w.key]
		switch {
		case err == nil:
			for _, done := range w.waiters {
				close(done)
			}
		case newer != nil:
			newer.waiters = append(newer.waiters, w.waiters...)
		default:
			m.waiting[w.key] = w
			m.bytes += len(w.value)
			again = append(again, w.key)
		}
	}
	m.order = append(again, m.order...)
}

// A Backlog is what still has to be brought to a side.
type Backlog struct {
	Writes int
	Bytes  int
	Err    error // why the side does not take them; nil when it does
}

func (m *mirror) backlog() Backlog {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Backlog{Writes: len(m.waiting) + len(m.flying), Bytes: m.bytes, Err: m.failing}
}
