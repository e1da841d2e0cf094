package rest

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
)

// A conn is a connection that exists in process only. Write keeps what is written and Read sends it.
// Reads are made by one goroutine at a time, and so are writes; the two may be different ones.
type conn struct {
	t       *Transport
	counted bool
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc

	mu        sync.Mutex
	component meter.Component // charged now
	kinds     map[meter.Component]map[string]*kind
	parser    requestParser
	in        *batch // written and not sent yet
	spare     *batch
	tx        *transaction // between MULTI and EXEC
	out       []byte       // replies not read yet
	outBuf    []byte       // whose memory out is in
	broken    error        // what every further read and write answers
	deadline  time.Time    // for reading
	wake      chan struct{}
}

// A batch is commands as they were written.
type batch struct {
	buf   []byte
	spans []span
	cmds  []command
	head  int // of cmds, the first not taken yet
}

// A command is one of a batch. Its arguments are spans of the batch's buffer.
type command struct {
	first, args int // of batch.spans
	start, end  int // of batch.buf
	kind        *kind
	why         string // it may not travel; "" when it may
	component   meter.Component
}

func newConn(t *Transport, counted bool) *conn {
	c := &conn{
		t: t, counted: counted, component: meter.Untagged,
		kinds: map[meter.Component]map[string]*kind{},
		in:    &batch{}, spare: &batch{},
		wake: make(chan struct{}, 1),
	}
	c.ctx, c.cancel = context.WithCancel(t.ctx)
	return c
}

// Write keeps p. It fails only when p is not RESP, or the connection is broken or closed.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return 0, c.broken
	}
	b := c.in
	b.buf = append(b.buf, p...)
	ok := c.parser.parse(b.buf, &b.spans, func(start, end int) {
		first := 0
		if n := len(b.cmds); n > 0 {
			first = b.cmds[n-1].first + b.cmds[n-1].args
		}
		cmd := command{first: first, args: len(b.spans) - first, start: start, end: end, component: c.component}
		cmd.kind = c.kind(b, cmd)
		cmd.why = b.refusal(cmd)
		b.cmds = append(b.cmds, cmd)
	})
	if !ok {
		c.broken = errNotRESP
		return 0, c.broken
	}
	c.nudge()
	return len(p), nil
}

var errNotRESP = errors.New("what was written is not an array of bulk strings in RESP")

// kind is what is known of cmd.
func (c *conn) kind(b *batch, cmd command) *kind {
	var buf [2*maxName + 1]byte
	name := appendName(buf[:0], b.arg(cmd, 0))
	if cmd.args > 1 && mux.IsContainer(string(name)) {
		name = appendName(append(name, '|'), b.arg(cmd, 1))
	}
	if k, ok := c.kinds[cmd.component][string(name)]; ok {
		return k
	}
	k := c.t.kindOf(cmd.component, string(name), c.counted)
	if c.kinds[cmd.component] == nil {
		c.kinds[cmd.component] = map[string]*kind{}
	}
	c.kinds[cmd.component][k.name] = k
	return k
}

// arg is argument i of cmd, its name included.
func (b *batch) arg(cmd command, i int) []byte {
	s := b.spans[cmd.first+i]
	return b.buf[s.off : s.off+s.len]
}

func (b *batch) reset() {
	b.buf, b.spans, b.cmds, b.head = b.buf[:0], b.spans[:0], b.cmds[:0], 0
}

// Read hands on replies, and sends what was written when there are none. With nothing written it waits
// for a Write, for the deadline, or for Close.
func (c *conn) Read(p []byte) (int, error) {
	for {
		c.mu.Lock()
		if len(c.out) > 0 {
			n := copy(p, c.out)
			c.out = c.out[n:]
			c.mu.Unlock()
			return n, nil
		}
		if c.broken != nil {
			defer c.mu.Unlock()
			return 0, c.broken
		}
		deadline := c.deadline
		if !deadline.IsZero() && !time.Now().Before(deadline) {
			c.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		}
		r := c.take()
		waiting := r == nil && len(c.out) == 0 && c.broken == nil
		c.mu.Unlock()
		switch {
		case r != nil:
			c.run(r, deadline)
		case waiting:
			c.wait(deadline)
		}
	}
}

// run sends one request and keeps its reply.
func (c *conn) run(r *request, deadline time.Time) {
	reply, err := c.t.do(c.ctx, r, deadline, c.outBuf)
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.owned != nil { // taken whole: nobody else refers to it
		r.owned.reset()
		c.spare = r.owned
	}
	c.out, c.outBuf = reply, reply[:0]
	if cap(c.outBuf) > maxKept {
		c.outBuf = nil
	}
	if err != nil && c.broken == nil {
		c.broken = err
	}
}

// maxKept is the size of buffers above which they are not kept for reuse.
const maxKept = 1 << 20

// wait returns when there may be something to do.
func (c *conn) wait(deadline time.Time) {
	if deadline.IsZero() {
		select {
		case <-c.wake:
		case <-c.ctx.Done():
			c.fail(net.ErrClosed)
		}
		return
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-c.wake:
	case <-timer.C:
	case <-c.ctx.Done():
		c.fail(net.ErrClosed)
	}
}

func (c *conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == nil {
		c.broken = err
	}
}

// nudge wakes a waiting Read.
func (c *conn) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Close ends the request under way.
func (c *conn) Close() error {
	c.cancel()
	c.fail(net.ErrClosed)
	return nil
}

// SetWriteDeadline takes who is charged from d. A write never waits.
func (c *conn) SetWriteDeadline(d time.Time) error {
	tag := c.t.opts.Observer.Tag
	if tag == nil {
		return nil
	}
	component, ok := tag(d)
	if !ok {
		component = meter.Untagged
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.component = component
	return nil
}

// SetReadDeadline bounds the reads that follow and the one that waits; a request that was sent keeps
// the deadline that it was sent with.
func (c *conn) SetReadDeadline(d time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = d
	c.nudge()
	return nil
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *conn) SetDeadline(d time.Time) error {
	return errors.Join(c.SetReadDeadline(d), c.SetWriteDeadline(d))
}

// An endpoint is the address of a REST endpoint.
type endpoint string

func (endpoint) Network() string  { return "rest" }
func (e endpoint) String() string { return string(e) }

// LocalAddr is the endpoint too: the connection has no other end.
func (c *conn) LocalAddr() net.Addr { return endpoint(c.t.addr) }

// RemoteAddr is the endpoint.
func (c *conn) RemoteAddr() net.Addr { return endpoint(c.t.addr) }
