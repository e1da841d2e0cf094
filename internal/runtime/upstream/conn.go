package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// forever is a deadline so far away that it means none. The hook gives it to commands whose context
// has no deadline, because the deadline also carries the tag.
const forever = 20 * 365 * 24 * time.Hour

// A conn is one connection to a Redis. It counts commands as their last byte is handed to the socket
// and replies as their last byte is read from it, so its counts hold whatever the layers above time
// out, retry or give up. Above TLS it sees what the socket carries in clear.
//
// Who is charged: the client library sets the write deadline from the command's context just before
// it writes the command, on the goroutine that holds the connection. The hook makes contexts whose
// deadline has a Location of our own making; it names the component, survives the way down, and
// changes no instant. What is written under any other deadline is charged to the component that had
// the connection made, which is how pub/sub works, or else reported as untagged.
type conn struct {
	net.Conn
	up   *Upstream
	addr string
	use  string // usePubSub or useCommands

	mu         sync.Mutex
	owner      meter.Component // charged when a write has no tag
	component  meter.Component // charged now
	kinds      map[meter.Component]map[string]*commandKind
	out        requestParser
	in         replyParser
	pending    pendingQueue
	completed  int // commands whose last byte was handed over since the deadline was set
	received   int64
	subscribed bool
	idle       bool // nothing was under way for a while when the current command was written
	lastUse    time.Time
	farewell   *Error // what the server said before it closed the connection
	broken     error  // every further write answers this
	closed     bool
}

// A commandKind is what is known of one command of one component, looked up once per connection.
type commandKind struct {
	series       *meter.Series
	write        bool
	subscription bool
}

// sysConn is a conn over a bare socket. The pool looks through it for a connection that the server
// closed while it was idle, before it writes to it; above TLS that look would see records, not data.
type sysConn struct{ *conn }

func (c sysConn) SyscallConn() (syscall.RawConn, error) {
	sc, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return sc.SyscallConn()
}

// SetWriteDeadline reads the tag from t and applies the deadline, or the default timeout if that is
// earlier.
func (c *conn) SetWriteDeadline(t time.Time) error {
	now := time.Now()
	c.mu.Lock()
	c.component = c.owner
	if tag, ok := tagOf(t); ok {
		c.component = tag
	}
	c.completed = 0
	c.idle = c.pending.len() == 0 && now.Sub(c.lastUse) >= c.up.opts.idleAfter
	c.mu.Unlock()
	if limit := now.Add(c.up.opts.Timeout); t.IsZero() || t.After(limit) {
		t = limit
	}
	return c.Conn.SetWriteDeadline(t)
}

// SetReadDeadline applies the deadline, and none if it is forever: a command that blocks without end.
func (c *conn) SetReadDeadline(t time.Time) error {
	if time.Until(t) > forever/2 {
		t = time.Time{}
	}
	return c.Conn.SetReadDeadline(t)
}

// Write hands p to the socket, less what Options do not allow, and counts the commands that ended in
// what the socket took.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return 0, c.up.final(c.broken)
	}
	allowed, claimed, refusal := c.admit(p)
	n, err := 0, error(nil)
	if allowed > 0 {
		n, err = c.Conn.Write(p[:allowed])
	}
	ended := c.sent(p[:n])
	c.up.refund(claimed - ended)
	switch {
	case err != nil:
		c.broken = c.lost("write", err)
	case refusal != nil:
		c.broken = refusal
	default:
		return n, nil
	}
	return n, c.up.final(c.broken)
}

// admit looks ahead in p and returns how much of it may be sent, how many commands of
// Options.MaxCommands it claimed for that, and why the rest may not be. A command is refused at its
// first byte if that is in p; one that began in an earlier write is cut, which the server never
// executes.
func (c *conn) admit(p []byte) (allowed, claimed int, refusal error) {
	if !c.up.restricted() {
		return len(p), 0, nil
	}
	look, start := c.out, 0
	for i := 0; i < len(p); {
		n, ev := look.scan(p[i:])
		i += n
		switch ev {
		case named:
			if err := c.up.admit(look.command(), c.component); err != nil {
				return start, claimed, err
			}
			claimed++
		case ended:
			start = i
		case bad:
			return start, claimed, errNotRESP
		case more:
		}
	}
	return len(p), claimed, nil
}

var errNotRESP = errors.New("what was written is not RESP, so nothing can vouch for it")

// sent counts the commands that end in p, which the socket has taken.
func (c *conn) sent(p []byte) (commands int) {
	c.up.bytesOut.Add(int64(len(p)))
	var now time.Time
	for i := 0; i < len(p); {
		n, ev := c.out.scan(p[i:])
		i += n
		if ev == bad {
			break
		}
		if ev != ended {
			continue
		}
		if now.IsZero() {
			now = time.Now()
		}
		kind := c.kind()
		kind.series.Sent(c.out.size)
		c.up.sent(kind.write)
		commands++
		if kind.subscription {
			c.subscribed = true
		}
		if c.subscribed {
			// From here on replies and messages cannot be told apart by position.
			c.endPending(meter.OK, now)
			kind.series.Ended(meter.OK, 0, 0)
			continue
		}
		c.pending.push(inFlight{kind.series, now})
	}
	c.completed += commands
	return commands
}

// kind is what the command that just ended is.
func (c *conn) kind() *commandKind {
	var buf [2*maxName + 1]byte
	name := c.out.appendCommand(buf[:0])
	if k, ok := c.kinds[c.component][string(name)]; ok {
		return k
	}
	command := string(name)
	k := &commandKind{
		series:       c.up.opts.Meter.Series(c.component, command),
		write:        !allowedReadOnly(command),
		subscription: isSubscription(command),
	}
	if c.kinds[c.component] == nil {
		c.kinds[c.component] = map[string]*commandKind{}
	}
	c.kinds[c.component][command] = k
	return k
}

// Read reads from the socket and counts the replies that end in what it read.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > 0 {
		if stranger := c.first(p[:n]); stranger != nil {
			c.broken = stranger
			c.endPending(outcomeOf(stranger.Class), time.Now())
			return 0, c.up.final(stranger)
		}
		c.replies(p[:n])
	}
	if err == nil || n > 0 {
		return n, nil // an error that came with data comes again
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if !c.subscribed {
			c.endPending(meter.Timeout, time.Now())
			c.broken = fmt.Errorf("not used again after a reply that did not come: %w", err)
		}
		return 0, c.up.final(err)
	}
	c.broken = c.lost("read", err)
	return 0, c.up.final(c.broken)
}

// first looks at the first bytes that ever came and recognises what is no Redis.
func (c *conn) first(p []byte) *Error {
	before := c.received
	c.received += int64(len(p))
	if before > 0 {
		return nil
	}
	return stranger(c.addr, p)
}

// stranger recognises from the first bytes of an answer who it is that does not speak RESP.
func stranger(addr string, p []byte) *Error {
	switch {
	case len(p) >= 2 && (p[0] == 0x15 || p[0] == 0x16) && p[1] == 0x03:
		return &Error{Class: TLSMismatch, Addr: addr, Err: errors.New("the server answered with TLS; use rediss://")}
	case bytes.HasPrefix(p, []byte("HTTP/")):
		return &Error{Class: NotRedis, Addr: addr, Err: errors.New("an HTTP server answered; a REST address is not a Redis address, the port is usually 6379")}
	case !bytes.ContainsRune([]byte("+-:_,#($=!*~>%|"), rune(p[0])):
		return &Error{Class: NotRedis, Addr: addr, Err: fmt.Errorf("the answer begins with %q", p[:min(len(p), 24)])}
	}
	return nil
}

// replies takes note of the replies that end in p.
func (c *conn) replies(p []byte) {
	c.up.bytesIn.Add(int64(len(p)))
	now := time.Now()
	c.lastUse = now
	for i := 0; i < len(p); {
		n, ev := c.in.scan(p[i:])
		i += n
		if ev == bad {
			return
		}
		if ev != ended || c.in.isPush() || c.subscribed {
			continue
		}
		outcome := meter.OK
		if c.in.isError() {
			outcome = c.errorReply(string(c.in.line))
		}
		if f, ok := c.pending.pop(); ok {
			f.series.Ended(outcome, now.Sub(f.at), c.in.size)
		}
	}
}

// errorReply classifies an error reply, and keeps what may be the server's last word: the client
// library overlooks an error reply to HELLO, after which only the end of the connection shows.
func (c *conn) errorReply(text string) meter.Outcome {
	e := replyError(text)
	if e.Class == ConnectionLimit {
		e.Addr = c.addr
		c.farewell = e
	}
	return outcomeOf(e.Class)
}

// lost turns an error of the socket into ours, and ends what was under way.
func (c *conn) lost(op string, err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		c.endPending(meter.Timeout, time.Now())
		return err
	}
	c.endPending(meter.Lost, time.Now())
	if c.closed {
		return err
	}
	if c.farewell != nil {
		return c.farewell
	}
	e := &Error{Class: Reset, Addr: c.addr, Err: err, Unsent: op == "write" && c.completed == 0}
	if c.idle {
		e.Class = IdleClose
	}
	if errors.Is(err, io.EOF) {
		e.Err = fmt.Errorf("closed by the server: %w", err)
	}
	return e
}

// endPending ends every command that is under way.
func (c *conn) endPending(o meter.Outcome, now time.Time) {
	for {
		f, ok := c.pending.pop()
		if !ok {
			return
		}
		f.series.Ended(o, now.Sub(f.at), 0)
		if o == meter.Lost || o == meter.Timeout {
			c.up.unanswered.Add(1)
		}
	}
}

// Close closes the socket. Commands still under way count as lost. The place among the connections is
// given back a little later, when the server has let go of its side.
func (c *conn) Close() error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	c.endPending(meter.Lost, time.Now())
	c.mu.Unlock()
	if !first {
		return nil
	}
	return c.up.conns.part(c.Conn, func() { c.up.conns.remove(c) })
}

// holder says who has the connection.
func (c *conn) holder() Holder {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := Holder{Component: c.component, For: c.use, Addr: c.addr}
	if h.Component == meter.Untagged {
		h.Component = c.owner
	}
	return h
}

type inFlight struct {
	series *meter.Series
	at     time.Time
}

// A pendingQueue is the commands of one connection that wait for their reply, oldest first.
type pendingQueue struct {
	items []inFlight
	head  int
}

func (q *pendingQueue) len() int { return len(q.items) - q.head }

func (q *pendingQueue) push(f inFlight) {
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	q.items = append(q.items, f)
}

func (q *pendingQueue) pop() (inFlight, bool) {
	if q.head == len(q.items) {
		return inFlight{}, false
	}
	f := q.items[q.head]
	q.head++
	return f, true
}
