package mux

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// Conn is a connection in process for a client library: what is written to it travels over the shared
// connection, charged to component unless a write deadline carries another one. It speaks RESP2 and
// costs no socket.
//
// Commands keep their order. HELLO, AUTH, SELECT and CLIENT SETNAME are answered here and change
// nothing. A transaction leaves as one piece when its EXEC is there. WATCH moves the connection to the
// lane until the EXEC, DISCARD or UNWATCH that ends it; that waits for the lane and for the replies to
// what was sent before. What may not travel on a shared connection gets an error reply.
//
// After a loss of the shared connection a Read fails with an *OutcomeError, unless the only thing
// under way may be sent again, which happens once. A client that leaves more than
// Options.MaxReplyBytes unread is closed. One goroutine may read while another one writes. A deadline
// holds for the calls that begin after it was set.
func (m *Mux) Conn(component meter.Component) net.Conn {
	return &conn{
		m: m, owner: component, component: component, names: m.namesOf(component),
		arrived: make(chan struct{}, 1), closing: make(chan struct{}),
	}
}

// A conn is an in-process connection.
type conn struct {
	m     *Mux
	owner meter.Component

	// What only Write touches.
	writing sync.Mutex
	names   *names
	in      []byte
	args    [][]byte
	batch   *flight // not yet on its way
	tx      *transaction
	lane    *lease

	unread  atomic.Int64 // bytes of replies that came and were not read
	arrived chan struct{}
	closing chan struct{}
	timer   *time.Timer // of reads

	mu            sync.Mutex // guards the rest
	slots         []*slot
	component     meter.Component
	blocked       bool // a Read waits and there is nothing under way
	broken        error
	closed        bool
	readDeadline  time.Time
	writeDeadline time.Time
}

// A slot is the place of one reply or of those of one flight in the order of replies.
type slot struct {
	local   []byte // what is left of a reply made here
	flight  *flight
	read    int // bytes of the flight's replies that were read
	retried bool
}

// Write takes commands, or parts of them.
func (c *conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	component, err := c.begin()
	if err != nil {
		return 0, err
	}
	if c.names.component != component {
		c.names = c.m.namesOf(component)
	}
	c.in = append(c.in, p...)
	used := 0
	for {
		args, n, err := ParseCommand(c.in[used:], c.args[:0])
		if err != nil {
			return 0, c.fail(err)
		}
		if n == 0 {
			break
		}
		c.args = args
		raw := c.in[used : used+n]
		used += n
		if len(args) == 0 {
			continue
		}
		if err := c.command(args, raw); err != nil {
			return 0, c.fail(err)
		}
	}
	rest := copy(c.in, c.in[used:])
	if c.in = c.in[:rest]; rest == 0 {
		c.in = trim(c.in)
	}
	if int64(rest) > c.m.opts.MaxInFlightBytes {
		return 0, c.fail(&BusyError{What: "bytes"})
	}
	if err := c.flush(); err != nil {
		return 0, c.fail(err)
	}
	if c.tx != nil && c.isBlocked() {
		c.answerQueued()
	}
	return len(p), nil
}

// flush sends what was gathered.
func (c *conn) flush() error {
	f := c.batch
	if f == nil {
		return nil
	}
	c.batch = nil
	c.push(&slot{flight: f})
	if c.lane != nil {
		return c.lane.send(f)
	}
	return c.submit(f)
}

// submit queues f on the shared connection within the write deadline.
func (c *conn) submit(f *flight) error {
	if c.m.opts.Admit == nil {
		if w := c.m.main.Load(); w != nil {
			if room, err := w.submit(f); room == nil && err == nil {
				return nil
			}
		}
	}
	ctx, cancel := c.context()
	defer cancel()
	err := c.m.send(ctx, f, time.Time{})
	if err != nil {
		f.end(err)
	}
	return err
}

// context ends with the write deadline.
func (c *conn) context() (context.Context, context.CancelFunc) {
	c.mu.Lock()
	deadline := c.writeDeadline
	c.mu.Unlock()
	if limit := time.Now().Add(c.m.opts.Timeout); deadline.IsZero() || deadline.After(limit) {
		deadline = limit
	}
	return context.WithDeadline(c.m.ctx, deadline)
}

// newFlight makes a flight that ends by closing its channel: a Read and a Write may both wait for it.
func (c *conn) newFlight() *flight {
	return &flight{done: make(chan struct{}), closes: true, component: c.names.component, unread: &c.unread}
}

// forward adds a command to what is sent next.
func (c *conn) forward(cmd *command, raw []byte) {
	if c.batch == nil {
		c.batch = c.newFlight()
	}
	c.batch.req = append(c.batch.req, raw...)
	c.batch.cmds = append(c.batch.cmds, sentCommand{cmd, int32(len(raw))})
}

// answer gives a reply that was made here its place in the order.
func (c *conn) answer(reply string) error {
	if err := c.flush(); err != nil {
		return err
	}
	c.push(&slot{local: []byte(reply)})
	return nil
}

func (c *conn) push(s *slot) {
	c.mu.Lock()
	c.slots = append(c.slots, s)
	c.blocked = false
	c.mu.Unlock()
	select {
	case c.arrived <- struct{}{}:
	default:
	}
}

// settle waits until everything that was sent has been answered.
func (c *conn) settle() error {
	if err := c.flush(); err != nil {
		return err
	}
	ctx, cancel := c.context()
	defer cancel()
	c.mu.Lock()
	slots := slices.Clone(c.slots)
	c.mu.Unlock()
	for _, s := range slots {
		if s.flight == nil {
			continue
		}
		select {
		case <-s.flight.done:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.closing:
			return ErrClosed
		}
	}
	return nil
}

// Read returns what came.
func (c *conn) Read(p []byte) (int, error) {
	var expired <-chan time.Time
	c.mu.Lock()
	deadline := c.readDeadline
	c.mu.Unlock()
	for {
		s, err := c.next()
		if err != nil {
			return 0, err
		}
		var ended <-chan struct{}
		if s != nil {
			if s.flight == nil {
				return c.readLocal(s, p), nil
			}
			ended = s.flight.done
			select {
			case <-ended:
				n, err := c.readFlight(s, p)
				if n == 0 && err == nil {
					continue
				}
				return n, err
			default:
			}
		}
		if expired == nil && !deadline.IsZero() {
			if expired = c.startTimer(time.Until(deadline)); expired == nil {
				return 0, os.ErrDeadlineExceeded
			}
			defer c.timer.Stop()
		}
		arrived := c.arrived
		if s != nil {
			arrived = nil
		}
		select {
		case <-ended:
		case <-arrived:
		case <-expired:
			c.checkStall(s)
			return 0, os.ErrDeadlineExceeded
		case <-c.closing:
			return 0, ErrClosed
		}
	}
}

func (c *conn) startTimer(d time.Duration) <-chan time.Time {
	if d <= 0 {
		return nil
	}
	if c.timer == nil {
		c.timer = time.NewTimer(d)
	} else {
		c.timer.Reset(d)
	}
	return c.timer.C
}

// checkStall looks after the connection that has not answered.
func (c *conn) checkStall(s *slot) {
	if s == nil {
		return
	}
	if w := s.flight.on.Load(); w != nil {
		w.checkStall()
	}
}

// next is the slot whose turn it is; nil if there is none. A client that reads while a transaction is
// open wants to hear that its commands are queued.
func (c *conn) next() (*slot, error) {
	for {
		c.mu.Lock()
		switch {
		case c.closed:
			c.mu.Unlock()
			return nil, ErrClosed
		case len(c.slots) > 0:
			s := c.slots[0]
			c.mu.Unlock()
			return s, nil
		case c.broken != nil:
			c.mu.Unlock()
			return nil, c.broken
		}
		c.blocked = true
		c.mu.Unlock()
		if !c.writing.TryLock() {
			return nil, nil // whoever writes will see that a Read waits
		}
		queued := c.tx != nil && c.tx.answered < len(c.tx.replies)
		if queued {
			c.answerQueued()
		}
		c.writing.Unlock()
		if !queued {
			return nil, nil
		}
	}
}

func (c *conn) readLocal(s *slot, p []byte) int {
	n := copy(p, s.local)
	if s.local = s.local[n:]; len(s.local) == 0 {
		c.pop()
	}
	return n
}

// readFlight reads the replies of a flight that has ended.
func (c *conn) readFlight(s *slot, p []byte) (int, error) {
	f := s.flight
	if f.err != nil {
		if c.again(s) {
			return 0, nil
		}
		return 0, c.fail(f.err)
	}
	n := copy(p, f.reply[s.read:])
	c.unread.Add(-int64(n))
	if s.read += n; s.read == len(f.reply) {
		c.pop()
	}
	return n, nil
}

func (c *conn) pop() {
	c.mu.Lock()
	c.slots[0] = nil
	c.slots = c.slots[1:]
	c.mu.Unlock()
}

// again sends a flight once more that failed, if nothing else is under way and it does no harm.
func (c *conn) again(s *slot) bool {
	c.mu.Lock()
	alone := len(c.slots) == 1
	c.mu.Unlock()
	if s.retried || !alone || !c.writing.TryLock() {
		return false
	}
	defer c.writing.Unlock()
	old := s.flight
	if c.lane != nil || c.batch != nil || !retryable(old.err, old) || old.skip > 0 {
		return false
	}
	f := c.newFlight()
	f.component, f.req, f.cmds = old.component, old.req, old.cmds
	c.unread.Add(-int64(len(old.reply)))
	c.mu.Lock()
	s.flight, s.retried = f, true
	c.mu.Unlock()
	return c.submit(f) == nil
}

func (c *conn) isBlocked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.blocked
}

// begin says who is charged for a write, or why there can be none.
func (c *conn) begin() (meter.Component, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return "", ErrClosed
	}
	return c.component, c.broken
}

// fail makes err the answer to every further use.
func (c *conn) fail(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == nil {
		c.broken = err
	}
	select {
	case c.arrived <- struct{}{}:
	default:
	}
	return err
}

// Close leaves what is under way to its fate: it runs, and nobody reads the replies. A transaction on
// the lane is given up.
func (c *conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	slots := c.slots
	c.slots = nil
	c.mu.Unlock()
	close(c.closing)
	for _, s := range slots {
		if s.flight != nil {
			s.flight.leave()
		}
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.lane != nil {
		c.lane.drop()
		c.lane = nil
	}
	return nil
}

// SetDeadline sets both deadlines.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline bounds the reads that begin after it.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.readDeadline = t
	c.mu.Unlock()
	return nil
}

// SetWriteDeadline bounds the writes that begin after it, and says who is charged for them.
func (c *conn) SetWriteDeadline(t time.Time) error {
	component := c.owner
	if of := c.m.opts.ComponentOf; of != nil {
		if tag, ok := of(t); ok {
			component = tag
		}
	}
	c.mu.Lock()
	c.component, c.writeDeadline = component, t
	c.mu.Unlock()
	return nil
}

// LocalAddr and RemoteAddr say that the connection does not leave the process.
func (c *conn) LocalAddr() net.Addr  { return inProcess{} }
func (c *conn) RemoteAddr() net.Addr { return inProcess{} }

type inProcess struct{}

func (inProcess) Network() string { return "in-process" }
func (inProcess) String() string  { return "in-process" }

var _ io.ReadWriteCloser = (*conn)(nil)
