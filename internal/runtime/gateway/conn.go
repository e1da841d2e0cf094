package gateway

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A listener knows its open connections, and outlives a moment without file descriptors.
type listener struct {
	net.Listener
	loops  *loops // take what they can; may be nil
	mu     sync.Mutex
	conns  map[*conn]struct{}
	closed bool
}

// acceptPause is the first pause when no connection can be taken; it doubles up to a second while that lasts.
const acceptPause = 5 * time.Millisecond

// Accept waits for the next connection. Only a closed listener is an error.
func (l *listener) Accept() (net.Conn, error) {
	pause := acceptPause
	for {
		nc, err := l.Listener.Accept()
		switch {
		case err == nil:
			pause = acceptPause
			if l.loops == nil || !l.loops.take(nc) {
				return l.track(nc), nil
			}
		case errors.Is(err, net.ErrClosed), errors.Is(err, io.EOF):
			return nil, io.EOF
		default:
			time.Sleep(pause)
			pause = min(2*pause, time.Second)
		}
	}
}

func (l *listener) track(nc net.Conn) *conn {
	c := &conn{Conn: nc, of: l}
	c.reads.set, c.writes.set = nc.SetReadDeadline, nc.SetWriteDeadline
	_, plain := nc.(*net.TCPConn)
	c.reads.exact, c.writes.exact = !plain, !plain
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = nc.Close()
		return c
	}
	l.conns[c] = struct{}{}
	return c
}

func (l *listener) closeAll() {
	l.mu.Lock()
	l.closed = true
	left := make([]*conn, 0, len(l.conns))
	for c := range l.conns {
		left = append(left, c)
	}
	l.mu.Unlock()
	for _, c := range left {
		_ = c.Conn.Close()
	}
}

// A conn is one connection of a client.
type conn struct {
	net.Conn
	of     *listener
	reads  deadline
	writes deadline
	linger atomic.Bool // the client may still be sending what was refused

	// What a loop has left; see loops.hand. Only reading touches it.
	before []byte        // it read that already
	first  int64         // Unix nanoseconds: the first deadline for reading; 0 is as usual
	pause  time.Duration // not 0: that deadline is for the next request to begin; it then has this long
}

// A deadline is one that is moved on with every request, while it hardly ever passes. Moving the timer of
// the system each time is a cost that shows; so it is left where it is as long as it is the earlier one,
// and moved when it goes off too early.
type deadline struct {
	exact  bool // never late: TLS cannot go on with a write that was cut short
	set    func(time.Time) error
	wanted atomic.Int64 // Unix nanoseconds; 0 is none
	armed  atomic.Int64 // what the system was told
}

func (d *deadline) move(t time.Time) error {
	wanted := int64(0)
	if !t.IsZero() {
		wanted = t.UnixNano()
	}
	d.wanted.Store(wanted)
	if armed := d.armed.Load(); !d.exact && armed != 0 && (wanted == 0 || armed <= wanted) {
		return nil
	}
	return d.arm(wanted)
}

func (d *deadline) arm(wanted int64) error {
	d.armed.Store(wanted)
	if wanted == 0 {
		return d.set(time.Time{})
	}
	return d.set(time.Unix(0, wanted))
}

// tooEarly is whether err is only that the system's timer went off before the deadline; it is set right.
func (d *deadline) tooEarly(err error) bool {
	if d.exact || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	wanted := d.wanted.Load()
	if wanted != 0 && wanted <= time.Now().UnixNano() {
		return false
	}
	return d.arm(wanted) == nil
}

// SetReadDeadline sets until when a Read may wait.
func (c *conn) SetReadDeadline(t time.Time) error {
	if c.first != 0 {
		t, c.first = time.Unix(0, c.first), 0
	}
	return c.reads.move(t)
}

// SetWriteDeadline sets until when a Write may wait.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.writes.move(t) }

// SetDeadline sets both.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.reads.move(t), c.writes.move(t))
}

// Read reads what has come.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.before) > 0 {
		n := copy(p, c.before)
		c.before = c.before[n:]
		return n, nil
	}
	for {
		n, err := c.Conn.Read(p)
		if n > 0 || err == nil || !c.reads.tooEarly(err) {
			return n, c.began(n, err)
		}
	}
}

// began ends the pause between two requests, when a loop had the connection before it. That none came is no
// error.
func (c *conn) began(n int, err error) error {
	if c.pause == 0 {
		return err
	}
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		err = io.EOF
	}
	if n > 0 && err == nil {
		err = c.SetReadDeadline(time.Now().Add(c.pause))
	}
	c.pause = 0
	return err
}

// Write writes all of p.
func (c *conn) Write(p []byte) (int, error) {
	written := 0
	for {
		n, err := c.Conn.Write(p[written:])
		written += n
		if err == nil || !c.writes.tooEarly(err) {
			return written, err
		}
	}
}

// How long and for how much a refused client is listened to, so that it reads the refusal before its
// connection breaks.
const (
	lingerTime  = time.Second
	lingerBytes = 64 << 20
)

// Close closes the connection.
func (c *conn) Close() error {
	if c.linger.Swap(false) {
		if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			_ = c.SetReadDeadline(time.Now().Add(lingerTime))
			_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
		}
	}
	c.of.mu.Lock()
	delete(c.of.conns, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
