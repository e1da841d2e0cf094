// Package mux lets many clients in one process share one connection to a Redis. What they send is
// gathered into one write, replies are handed back as the bytes that came, in the order of the
// commands, and no command that changes the state of its connection is ever let through.
//
// A Call, run by Mux.Do, is the fast way. Mux.Conn is a net.Conn for client libraries, and Mux.Stream
// takes the one further connection for what cannot share.
package mux

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// backoffBase bounds the first pause after a failure to connect; the bound doubles from then on.
const backoffBase = 25 * time.Millisecond

// A Mux is one shared connection, made when it is needed and made again after a loss. It is safe for
// concurrent use.
type Mux struct {
	opts   Options
	ctx    context.Context // ends with Close; of attempts to connect
	cancel context.CancelFunc
	wg     sync.WaitGroup

	calls      sync.Pool // of *Call
	flights    sync.Pool // of *flight
	components sync.Map  // of meter.Component to *names

	lane lane

	pump    atomic.Pointer[Pump]
	main    atomic.Pointer[wire]
	mu      sync.Mutex // guards the rest
	closed  bool
	attempt *attempt // to connect, under way
	failed  int      // attempts in a row
	retryAt time.Time
	lastErr error
}

// An attempt to connect, shared by all who wait for it.
type attempt struct {
	done chan struct{} // closed when err is set
	err  error
}

// New makes a Mux. It does not connect: the first command does. It reports all problems of Options at
// once.
func New(o Options) (*Mux, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &Mux{opts: o, ctx: ctx, cancel: cancel}
	m.lane.token = make(chan struct{}, 1)
	m.lane.token <- struct{}{}
	m.flights.New = func() any { return &flight{} }
	m.calls.New = func() any { return &Call{m: m, f: m.newFlight(), done: make(chan struct{}, 1)} }
	return m, nil
}

// Close ends the connections; commands under way fail. Nothing is left when it returns. Do answers
// ErrClosed from then on.
func (m *Mux) Close() error {
	m.mu.Lock()
	m.closed = true
	w := m.main.Swap(nil)
	m.mu.Unlock()
	m.cancel()
	if w != nil {
		w.fail(ErrClosed)
	}
	m.closeLane(ErrClosed)
	m.wg.Wait()
	return nil
}

// Allowed is why a command may not travel on the shared connection, as a *PolicyError, or nil. The
// name is in lower case, a subcommand after a bar.
func (m *Mux) Allowed(command string) error {
	c := m.namesOf(meter.Untagged).lookup([]byte(command))
	return c.mayTravel([][]byte{nil}, false)
}

func (m *Mux) newFlight() *flight {
	f := m.flights.Get().(*flight)
	f.reset()
	return f
}

// recycle takes back a flight that nobody waits for.
func (m *Mux) recycle(f *flight) { m.flights.Put(f) }

// namesOf is the table of the commands of a component.
func (m *Mux) namesOf(c meter.Component) *names {
	if n, ok := m.components.Load(c); ok {
		return n.(*names)
	}
	n := &names{m: m, component: c}
	n.known.Store(&map[string]*command{})
	kept, _ := m.components.LoadOrStore(c, n)
	return kept.(*names)
}

// send queues f on the shared connection, which it makes if there is none, before the deadline unless
// that is zero.
func (m *Mux) send(ctx context.Context, f *flight, deadline time.Time) error {
	if err := m.admit(f); err != nil {
		return err
	}
	begin := time.Time{}
	for {
		w := m.main.Load()
		if w == nil {
			if err := m.connect(ctx, deadline); err != nil {
				m.opts.Refund(len(f.cmds))
				return &OutcomeError{Err: err}
			}
			continue
		}
		room, err := w.submit(f)
		if err != nil {
			m.main.CompareAndSwap(w, nil)
			continue
		}
		if room == nil {
			return nil
		}
		if begin.IsZero() {
			begin = time.Now()
		}
		if waitUntil(ctx, room, deadline) == nil {
			continue
		}
		w.checkStall()
		m.opts.Refund(len(f.cmds))
		return &BusyError{What: "commands", After: time.Since(begin)}
	}
}

func (m *Mux) admit(f *flight) error {
	if m.opts.Admit == nil {
		return nil
	}
	for i, c := range f.cmds {
		if err := m.opts.Admit(f.component, c.name); err != nil {
			m.opts.Refund(i)
			return err
		}
	}
	return nil
}

// connect waits for the shared connection, for an attempt to make it to fail, or for the caller's
// time to be up. Between attempts it fails at once.
func (m *Mux) connect(ctx context.Context, deadline time.Time) error {
	m.mu.Lock()
	switch {
	case m.closed:
		m.mu.Unlock()
		return ErrClosed
	case m.main.Load() != nil:
		m.mu.Unlock()
		return nil
	case m.attempt == nil && time.Now().Before(m.retryAt):
		err := m.lastErr
		m.mu.Unlock()
		return err
	case m.attempt == nil:
		m.attempt = &attempt{done: make(chan struct{})}
		m.wg.Add(1)
		go m.dial(m.attempt)
	}
	a := m.attempt
	m.mu.Unlock()
	if err := waitUntil(ctx, a.done, deadline); err != nil {
		return err
	}
	return a.err
}

// dial makes one attempt to connect, and carries the connection until it ends.
func (m *Mux) dial(a *attempt) {
	defer m.wg.Done()
	ctx, cancel := context.WithTimeout(m.ctx, m.opts.DialTimeout)
	conn, err := m.opts.Dial(ctx)
	cancel()
	m.mu.Lock()
	m.attempt = nil
	if err == nil && m.closed {
		_ = conn.Close()
		err = ErrClosed
	}
	if err != nil {
		m.failure(err)
		m.mu.Unlock()
		a.err = err
		close(a.done)
		return
	}
	w := m.newWire(conn)
	w.raw = descriptorOf(conn)
	w.pumped.Store(w.raw != nil && !w.counted)
	m.main.Store(w)
	m.mu.Unlock()
	close(a.done)
	w.run()
	m.main.CompareAndSwap(w, nil)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !w.counted && w.progress.Load() == 0 && w.tally.counted.Load() > 0 {
		m.failure(w.broken) // it took commands and never said a word
		return
	}
	m.failed = 0
}

// failure takes note of a failed attempt. The pause that follows is random, so that many clients of
// one server come back spread out.
func (m *Mux) failure(err error) {
	bound := min(m.opts.MaxBackoff, backoffBase<<min(m.failed, 16))
	m.failed++
	m.retryAt = time.Now().Add(bound/2 + rand.N(bound/2+1))
	m.lastErr = err
}
