package mux

import (
	"context"
	"errors"
	"time"
)

// Start is Do for who cannot wait: it queues the Call and returns. Ended is called once, when the replies
// have come, when the connection has ended, or when the Call's timeout has passed, and then End says how it
// went; until then the Call must not be touched. Ended runs on whatever goroutine that is, possibly before
// Start returns, and must be quick, take no lock that is held around Start, and use no method of the Mux.
//
// False means that nothing was done and ended will not be called, because it takes waiting: there is no
// connection, or no room. Do is the way then. Whoever calls Start calls Flush soon afterwards, once for as
// many Calls as there are: until then they may not have left.
//
// It costs the commands of the Call. It is safe for concurrent use with different Calls.
func (m *Mux) Start(c *Call, ended func()) bool {
	f, w := c.f, m.main.Load()
	if w == nil || c.multi || len(f.cmds) == 0 {
		return false
	}
	if f.used {
		f.rewind()
	}
	if m.admit(f) != nil {
		return false // Do says why
	}
	f.done, f.tell, c.sentOn = c.done, ended, w
	if c.until = (time.Time{}); c.timeout > 0 {
		// Before the flight can end: from then on the Call may be somebody else's.
		c.until = time.Now().Add(c.timeout)
		c.watch.begin(c, c.until)
	}
	if room, err := w.put(f, false); room == nil && err == nil {
		return true
	}
	m.opts.Refund(len(f.cmds))
	c.sentOn = nil
	if !c.until.IsZero() && c.watch.over() {
		return true // the time was up meanwhile, and ended was called
	}
	f.tell = nil
	return false
}

// End is how a Call came out that Start sent and whose ended was called: nil when Reply has all replies,
// else what Do would say. Again is whether Do would send the Call once more; End has prepared it for that,
// and Again does it.
func (m *Mux) End(c *Call) (err error, again bool) { //nolint:revive // the error is the answer, again is about it
	f := c.f
	if !c.until.IsZero() && c.watch.over() {
		c.f = m.newFlight() // the other is the reader's
		if c.sentOn != nil {
			c.sentOn.checkStall()
		}
		return &OutcomeError{Sent: c.sentOn != nil, Err: context.DeadlineExceeded}, false
	}
	f.tell = nil
	return f.err, f.err != nil && retryable(f.err, f)
}

// Again sends a Call once more after End said so, and waits as Do does, for what is left of its time.
func (m *Mux) Again(ctx context.Context, c *Call) error {
	c.f.rewind()
	return m.do(ctx, c, c.until)
}

// Flush has everything written that Start queued.
func (m *Mux) Flush() {
	if w := m.main.Load(); w != nil {
		w.flush()
	}
}

// errWouldBlock is that a descriptor takes nothing more for now.
var errWouldBlock = errors.New("the socket's buffer is full")

// flush writes what is there, if nobody is writing: at once where that cannot wait, or by the writer.
func (w *wire) flush() {
	w.mu.Lock()
	mine := w.idle && len(w.out) > 0
	if mine {
		w.idle = false
	}
	w.mu.Unlock()
	if !mine {
		return
	}
	if w.pumped.Load() && w.writeNow() {
		return
	}
	w.wake <- struct{}{}
}

// writeNow writes as much as the socket takes. Whoever calls it has the turn; true: it is over. False: it is
// to be given to the writer, who goes on where the write was cut short, or ends with the connection.
func (w *wire) writeNow() bool {
	for range 2 { // what others put meanwhile; more than that shall not hold up the caller
		t, err := w.take()
		if t == nil || err != nil {
			return err == nil
		}
		t.written, err = writeRaw(w.raw, t.out)
		switch {
		case errors.Is(err, errWouldBlock):
			return false
		case err != nil:
			w.tally.settle(t.written, time.Now())
			t.held, t.written = false, 0
			w.fail(err)
			return false
		}
		w.tally.settle(t.written, time.Now())
		t.held, t.written = false, 0
	}
	return false
}
