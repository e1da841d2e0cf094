package mux

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A Pump lets a goroutine that watches many descriptors at once read the shared connection as well, so that
// nobody else has to be woken for a reply. While it works the Mux's own reader rests; what others send and
// receive through the Mux goes on as ever.
type Pump struct {
	m       *Mux
	watch   func(descriptor int) error
	buf     []byte
	now     atomic.Pointer[carried]
	stopped chan struct{}
}

// A carried is a wire in the hands of a Pump. Whoever has its lock may touch the wire's readerTurn.
type carried struct {
	mu   sync.Mutex
	wire *wire      // nil once it was given back
	over chan error // of capacity 1: why the connection ended
}

// Pump makes the one Pump that a Mux can have at a time, or returns nil when there is one already or the
// system has none. Watch is called with the descriptor of every connection that is made, on another
// goroutine; Ready must be called soon after it became readable, however often. It may say no: then the
// Mux reads by itself. Watching ends by itself when the descriptor is closed.
func (m *Mux) Pump(watch func(descriptor int) error) *Pump {
	if !canPump {
		return nil
	}
	p := &Pump{m: m, watch: watch, buf: make([]byte, readBytes), stopped: make(chan struct{})}
	if !m.pump.CompareAndSwap(nil, p) {
		return nil
	}
	if w := m.main.Load(); w != nil && w.pumped.Load() {
		_ = w.conn.SetReadDeadline(time.Unix(1, 0)) // its reader waits; it looks up
	}
	return p
}

// Stop gives the reading back to the Mux. No method may be called afterwards.
func (p *Pump) Stop() {
	p.m.pump.CompareAndSwap(p, nil)
	close(p.stopped)
}

// carry is called by the reader of w, and returns nil when it should read by itself again.
func (p *Pump) carry(w *wire) error {
	c := &carried{wire: w, over: make(chan error, 1)}
	w.mu.Lock()
	if w.broken != nil {
		w.mu.Unlock()
		return nil // reading says why; the next connection may be carried already
	}
	p.now.Store(c)
	w.mu.Unlock()
	defer func() {
		p.now.CompareAndSwap(c, nil)
		c.mu.Lock() // Ready may be at work
		c.wire = nil
		c.mu.Unlock()
	}()
	var refused error
	if err := w.raw.Control(func(fd uintptr) { refused = p.watch(int(fd)) }); err != nil {
		return err
	}
	if refused != nil {
		w.pumped.Store(false)
		return nil
	}
	select {
	case err := <-c.over:
		return err
	case <-w.gone:
		return nil // reading says why
	case <-p.stopped:
		return nil
	}
}

// Ready reads what has come, and ends the Calls whose replies have come whole. It never waits. Ended says
// that the end of the connection has come as well, so that nothing more will be told of it: then all is read
// up to there. True: there may be more.
func (p *Pump) Ready(ended bool) bool {
	c := p.now.Load()
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.wire != nil {
		n, err := readRaw(c.wire.raw, p.buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			// It was meant for the reader, who had looked up already.
			if err = c.wire.conn.SetReadDeadline(time.Time{}); err == nil {
				continue
			}
		}
		if n > 0 {
			err = c.wire.received(p.buf[:n])
		}
		switch {
		case err != nil:
			c.wire = nil
			c.over <- err
		case n == 0, n < len(p.buf) && !ended:
			return false
		case !ended:
			return true
		}
	}
	return false
}
