package ramp

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Bounds of a mirror.
const (
	mirrorBatch  = 128      // writes that leave as one pipeline
	batchBytes   = 4 << 20  // of values in one pipeline, unless one alone has more
	mirrorTries  = 5        // of one value alone, after which only the removal of the key is tried
	mirrorWrites = 200_000  // that wait; what does not fit is lost, and counted
	mirrorBytes  = 64 << 20 // of values that wait; beyond it only the removal of the key waits
	firstPause   = 100 * time.Millisecond
	lastPause    = 5 * time.Second
)

var (
	errBehind = errors.New("the other side of the ramp has not taken it yet")
	errNoRoom = errors.New("too many writes wait for one side of the ramp")
)

// A mirror brings writes to the side on which their keys are not, in the order of each key. What that side
// does not take is tried again; a later write of a key takes the place of an earlier one that still waits. A
// value that the side refuses for what it is, such as one that is too large, is removed there instead, so that
// it keeps no other write waiting. So is a value that has expired while it waited.
type mirror struct {
	client  redis.UniversalClient
	timeout time.Duration
	kept    func(key string) bool // whether this side is to have key; what waits for a side that is not is dropped
	lost    func(key string)
	sent    func(n int64, failed bool) // is told of every write that was sent, and whether it was taken

	mu      sync.Mutex
	waiting map[string]*copied
	order   []string // of waiting keys; may hold some that wait no more
	flying  map[string]*copied
	bytes   int
	ring    chan struct{} // receives when something waits
	failing error         // why the last batch was not taken; nil when it was
	most    int           // writes in the next batch: fewer after one that had no answer
}

// A copied is one write on its way.
type copied struct {
	key    string
	value  []byte
	until  time.Time // when the value expires; zero: never
	remove bool
	held   bool // it waits until it is known whether something newer went straight to the side; see hold
	tries  int  // alone, without an answer

	done    chan struct{}   // closed when the side has taken it, or something newer
	waiters []chan struct{} // done, which it took over from what waited before, and that of every write that flew in vain
	landed  chan struct{}   // closed when it flies no more, taken or not
}

// newMirror makes the mirror that brings writes of c to side.
func newMirror(c *Client, side Side) *mirror {
	o := c.opts
	return &mirror{
		client: c.client(side), timeout: o.Timeout, most: mirrorBatch,
		waiting: map[string]*copied{}, flying: map[string]*copied{}, ring: make(chan struct{}, 1),
		kept: func(key string) bool {
			return c.routed(key) == side || o.Router.Mirrored(o.Route, key)
		},
		lost: func(key string) { o.Ledger.Compared(o.Route, Lost, 1, Redact(key)) },
		sent: func(n int64, failed bool) { o.Ledger.Called(Call{Route: o.Route, Side: side, Failed: failed}, n) },
	}
}

// put has a write brought over. It is false where too many wait: then it is lost.
func (m *mirror) put(w *copied) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.waiting[w.key]
	if before == nil && len(m.waiting) >= mirrorWrites {
		m.lost(w.key)
		return false
	}
	if before != nil {
		m.bytes -= len(before.value)
		w.done, w.waiters = before.done, before.waiters
	} else {
		m.order = append(m.order, w.key)
		w.done = make(chan struct{})
		w.waiters = []chan struct{}{w.done}
	}
	if m.bytes+len(w.value) > mirrorBytes {
		w.value, w.remove = nil, true
	}
	m.bytes += len(w.value)
	m.waiting[w.key] = w
	m.wake()
	return true
}

func (m *mirror) wake() {
	select {
	case m.ring <- struct{}{}:
	default:
	}
}

// hold makes way for a write of key that goes straight to this side: nothing older is sent from now on, and
// what was being sent has ended when it returns. It is in the way no more until release, with or without an
// error, which says that ctx ended before, or that too many wait.
func (m *mirror) hold(ctx context.Context, key string) error {
	// Whatever becomes of that write, what is older must go.
	if !m.put(&copied{key: key, remove: true, held: true}) {
		return errNoRoom
	}
	m.mu.Lock()
	flying := m.flying[key]
	m.mu.Unlock()
	if flying == nil {
		return nil
	}
	select {
	case <-flying.landed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// release ends a hold. Where the side has not taken the write, or nobody knows, key is removed there.
func (m *mirror) release(key string, taken bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.waiting[key]
	switch {
	case w == nil || !w.held:
	case taken:
		m.drop(w)
	default:
		w.held = false
		m.order = append(m.order, key)
		m.wake()
	}
}

// drop has a write wait no more.
func (m *mirror) drop(w *copied) {
	delete(m.waiting, w.key)
	m.bytes -= len(w.value)
	for _, done := range w.waiters {
		close(done)
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
	if m.flying[key] != nil {
		return true
	}
	w := m.waiting[key]
	if w != nil && !w.held && !m.kept(key) {
		m.drop(w)
		return false
	}
	return w != nil
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
		err := m.land(batch, m.send(context.WithoutCancel(ctx), batch))
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
	n, size := 0, 0
	for ; n < len(m.order) && len(batch) < m.most; n++ {
		w := m.waiting[m.order[n]]
		if w == nil || w.held {
			continue
		}
		if !m.kept(w.key) {
			m.drop(w)
			continue
		}
		if size += len(w.value); size > batchBytes && len(batch) > 0 {
			break
		}
		batch = append(batch, w)
		delete(m.waiting, w.key)
		m.flying[w.key] = w
		m.bytes -= len(w.value)
		if !w.until.IsZero() && !time.Now().Before(w.until) {
			w.value, w.remove = nil, true
		}
		w.landed = make(chan struct{})
	}
	m.order = slices.Delete(m.order, 0, n)
	return batch
}

// left is how long a value has to live, 0 where it does not expire.
func (w *copied) left() time.Duration {
	if w.until.IsZero() {
		return 0
	}
	return max(time.Until(w.until), time.Millisecond)
}

// send brings a batch over, and returns of each write why it was not taken.
func (m *mirror) send(ctx context.Context, batch []*copied) []error {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	cmds := make([]redis.Cmder, len(batch))
	_, _ = m.client.Pipelined(ctx, func(p redis.Pipeliner) error { // the errors are in the commands
		var gone []string
		for i, w := range batch {
			if w.remove {
				gone = append(gone, w.key)
			} else {
				cmds[i] = p.Set(ctx, w.key, w.value, w.left())
			}
		}
		if len(gone) == 0 {
			return nil
		}
		unlink := p.Unlink(ctx, gone...)
		for i, w := range batch {
			if w.remove {
				cmds[i] = unlink
			}
		}
		return nil
	})
	errs := make([]error, len(batch))
	failed := int64(0)
	for i, cmd := range cmds {
		if errs[i] = cmd.Err(); errs[i] != nil {
			failed++
		}
	}
	if failed > 0 {
		m.sent(failed, true)
	}
	if taken := int64(len(batch)) - failed; taken > 0 {
		m.sent(taken, false)
	}
	return errs
}

// land ends a batch: what was not taken waits again, unless something newer does. It returns why something
// was not, unless that is the fault of single values alone.
func (m *mirror) land(batch []*copied, errs []error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var failing error
	var again []string
	for i, w := range batch {
		delete(m.flying, w.key)
		close(w.landed)
		newer, err := m.waiting[w.key], errs[i]
		refused := err != nil && !w.remove && refusesValue(err) // a removal has no value to refuse: it fails
		if err != nil && !refused {
			failing = err
			if len(batch) == 1 {
				w.tries++
			}
		}
		if refused || err != nil && w.tries >= mirrorTries {
			w.value, w.remove = nil, true
		}
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
	m.failing, m.most = failing, min(2*m.most, mirrorBatch)
	if failing != nil {
		m.most = max(1, len(batch)/2)
	}
	return failing
}

// refusesValue is whether a server that works refuses one write, which it will do again: one that is too large,
// or that this way cannot carry.
func refusesValue(err error) bool {
	server, ok := errors.AsType[redis.Error](err)
	if !ok {
		return false
	}
	for _, word := range []string{
		"LOADING", "OOM", "READONLY", "MISCONF", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "NOREPLICAS", "BUSY", "NOAUTH", "NOPERM", "WRONGPASS",
		"ERR max requests", "ERR max daily", "ERR max concurrent", "ERR max number of clients", "ERR DB capacity",
	} {
		if strings.HasPrefix(server.Error(), word) {
			return false
		}
	}
	return true
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
