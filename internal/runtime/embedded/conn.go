package embedded

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2/server"
)

const (
	pipelineDepth = 1024      // commands read ahead of the one that runs
	maxUnsent     = 256 << 20 // reply bytes kept for a client that does not read; then it is closed
)

// A conn is one client's connection. Three goroutines serve it: one reads, so that a hang-up is
// noticed while a command blocks; one runs the commands in order; one writes, so that a client that
// does not read holds up nobody else.
type conn struct {
	m       *memory
	id      int64
	nc      net.Conn
	fd      int
	created time.Time
	peer    *server.Peer
	in      chan request
	gone    chan struct{} // closed by kill
	once    sync.Once
	out     outbox

	// Owned by the goroutine that runs the commands.
	queued []queuedCommand

	ended atomic.Bool // the client has closed its sending side

	mu    sync.Mutex // guards what CLIENT LIST shows
	state clientState
}

// A request is one command as it came in.
type request struct {
	args []string
	at   time.Time
	err  error // a protocol error: the last request of its connection
}

// clientState is what CLIENT LIST shows of a connection.
type clientState struct {
	name            string
	cmd             string // full name of the last command, lower case; "NULL" before the first
	last            time.Time
	db              int
	subs, psubs     map[string]struct{}
	multi           int // commands queued; -1 outside MULTI
	blocked         bool
	noEvict         bool
	resp            int
	libName, libVer string
}

func newConn(m *memory, nc net.Conn, id int64) *conn {
	now := time.Now()
	c := &conn{
		m: m, id: id, nc: nc, fd: descriptor(nc), created: now,
		in:   make(chan request, pipelineDepth),
		gone: make(chan struct{}),
		state: clientState{
			cmd: "NULL", last: now, multi: -1, resp: 2,
			subs: map[string]struct{}{}, psubs: map[string]struct{}{},
		},
	}
	c.out.ready = make(chan struct{}, 1)
	c.peer = server.NewPeer(bufio.NewWriter(&c.out))
	return c
}

// descriptor is the socket's number in the operating system; 0 when there is none.
func descriptor(nc net.Conn) int {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	_ = raw.Control(func(fd uintptr) { n = int(fd) })
	return n
}

func (c *conn) start() {
	c.m.wg.Go(c.read)
	c.m.wg.Go(c.run)
	c.m.wg.Go(c.write)
}

// kill ends the connection now, whatever it is doing.
func (c *conn) kill() {
	c.once.Do(func() {
		c.m.forget(c)
		c.peer.Close()
		close(c.gone)
		_ = c.nc.Close()
		c.m.wake()
	})
}

func (c *conn) read() {
	defer close(c.in)
	r := bufio.NewReader(socketReader{c})
	for {
		args, size, err := readCommand(r)
		c.m.stats.netIn.Add(int64(size))
		req := request{args: args, at: time.Now()}
		if bad, ok := errors.AsType[protocolError](err); ok {
			req.err = bad
		} else if err != nil {
			c.hangUp(err)
			return
		}
		c.touch()
		select {
		case c.in <- req:
		case <-c.gone:
			return
		}
		if req.err != nil {
			<-c.gone
			return
		}
	}
}

// A socketReader counts how often the socket had something to say, as Redis does.
type socketReader struct{ c *conn }

func (r socketReader) Read(p []byte) (int, error) {
	n, err := r.c.nc.Read(p)
	if n > 0 || errors.Is(err, io.EOF) {
		r.c.m.stats.reads.Add(1)
	}
	return n, err
}

// hangUp ends a connection whose client sends nothing more. What it sent before is still answered,
// but nothing waits for it.
func (c *conn) hangUp(why error) {
	if !errors.Is(why, io.EOF) {
		c.kill()
		return
	}
	c.ended.Store(true)
	c.mu.Lock()
	blocked := c.state.blocked
	c.mu.Unlock()
	if blocked {
		c.peer.Close()
		c.m.wake()
	}
}

func (c *conn) touch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.last = time.Now()
}

func (c *conn) run() {
	defer c.m.retire(c)
	defer c.unsubscribe()
	for req := range c.in {
		if !c.delay(req.at) {
			return
		}
		switch {
		case req.err != nil:
			c.peer.WriteError("ERR " + req.err.Error())
			c.peer.Flush()
			c.out.finish()
			return
		case len(req.args) == 0:
			continue
		}
		c.handle(req.args)
		c.peer.Flush()
		if c.out.finishing() || c.peer.Closed() {
			c.out.finish()
			return
		}
	}
	c.out.finish()
}

// delay waits for the plan's latency after the command came in. It is false when the client is gone.
func (c *conn) delay(at time.Time) bool {
	select {
	case <-c.gone:
		return false
	default:
	}
	wait := time.Until(at.Add(c.m.plan.Latency))
	if c.m.plan.Latency == 0 || wait <= 0 {
		return true
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.gone:
		return false
	}
}

// unsubscribe lets go of the store's subscriptions; miniredis does so itself only for connections of
// its own listener.
func (c *conn) unsubscribe() {
	c.out.mute(true)
	if c.state.multi >= 0 {
		c.m.srv.Dispatch(c.peer, []string{"DISCARD"})
	}
	if len(c.state.subs)+len(c.state.psubs) > 0 {
		c.m.srv.Dispatch(c.peer, []string{"UNSUBSCRIBE"})
		c.m.srv.Dispatch(c.peer, []string{"PUNSUBSCRIBE"})
	}
}

func (c *conn) write() {
	defer c.kill()
	for {
		select {
		case <-c.out.ready:
		case <-c.gone:
			return
		}
		chunk, end := c.out.take()
		if len(chunk) > 0 {
			n, err := c.nc.Write(chunk)
			c.m.stats.netOut.Add(int64(n))
			c.m.stats.writes.Add(1)
			if err != nil {
				return
			}
			c.touch()
		}
		if end {
			return
		}
	}
}

// An outbox holds replies that are on their way to a client. Writing to it never blocks, so a client
// that does not read its pub/sub messages does not stop the store.
type outbox struct {
	ready chan struct{}

	mu    sync.Mutex
	buf   []byte
	head  []byte // the first bytes of the current command's reply
	muted bool
	held  bool // nothing leaves until release
	last  bool // nothing comes after what is in buf
}

const headSize = 64

func (o *outbox) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if room := headSize - len(o.head); room > 0 {
		o.head = append(o.head, p[:min(room, len(p))]...)
	}
	if o.muted {
		return len(p), nil
	}
	o.buf = append(o.buf, p...)
	if len(o.buf) > maxUnsent {
		o.buf, o.last, o.muted = nil, true, true
	}
	o.signal()
	return len(p), nil
}

func (o *outbox) signal() {
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// take empties the outbox, unless it is held; end says that nothing will follow.
func (o *outbox) take() (chunk []byte, end bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.held {
		return nil, false
	}
	chunk, o.buf = o.buf, nil
	return chunk, o.last
}

// hold keeps what is written from leaving until release.
func (o *outbox) hold() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = true
}

func (o *outbox) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = false
	o.signal()
}

// mute throws away what is written from now on, or no longer does.
func (o *outbox) mute(on bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.muted = on || o.last
}

// finish closes the connection once everything written is on its way.
func (o *outbox) finish() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = true
	o.signal()
}

func (o *outbox) finishing() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}

// newReply forgets the head of the previous reply.
func (o *outbox) newReply() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.head = o.head[:0]
}

// reply is the beginning of the current command's reply.
func (o *outbox) reply() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.head)
}
