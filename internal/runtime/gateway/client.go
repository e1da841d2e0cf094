package gateway

import (
	"bytes"
	"errors"
	"io"

	"github.com/valyala/fasthttp"
)

// loopBytes is the most bytes of a request that a loop reads. With more it would keep others waiting.
const loopBytes = 64 << 10

// maxParts is in how many pieces a request may arrive at a loop. With more, each of them would have the
// headers read again from the beginning.
const maxParts = 4

// A client is one connection of a loop.
type client struct {
	fd     int
	turn   *turn  // the request being answered; while there is one, nothing is read
	more   bool   // something came meanwhile
	ended  bool   // its end has come, which may be behind what is to be read
	served bool   // it has had an answer
	part   []byte // of a request that has not come whole
	parts  int    // pieces of it
	since  int64  // Unix nanoseconds; when it came
	due    int64  // when its request has to be here whole, or its next one to begin
}

// welcome begins to serve a connection.
func (l *loop) welcome(c *client) {
	for c.fd >= len(l.clients) {
		l.clients = append(l.clients, nil)
	}
	l.clients[c.fd] = c
	l.count++
	c.since, c.due = l.now, l.now+int64(l.limit.ReadTimeout)
	l.remind(c.due)
	if err := l.poll.watch(c.fd); err != nil {
		l.handOver(c, nil)
	}
}

// readable reads what has come, and begins to answer if it is one whole everyday request. Its error cases
// are fasthttp's: whatever is not understood here is handed over from its first byte on.
func (l *loop) readable(c *client) {
	if c.turn != nil {
		c.more = true
		return
	}
	have := copy(l.in, c.part)
	n, err := readFD(c.fd, l.in[have:])
	b := l.in[:have+n]
	switch {
	case errors.Is(err, errNotReady):
		return
	case err != nil, n == 0 && have == 0:
		l.close(c)
		return
	case n == 0, len(b) == len(l.in): // cut short, or too long
		l.handOver(c, b)
		return
	}
	switch l.parser.parse(b) {
	case whole:
		c.part, c.parts = nil, 0
		l.begin(c)
	case partly:
		if c.parts == 0 {
			c.due = l.now + int64(l.limit.ReadTimeout)
			if !c.served {
				c.due = c.since + int64(l.limit.ReadTimeout)
			}
			l.remind(c.due)
		}
		if c.parts++; c.parts == maxParts {
			l.handOver(c, b)
			return
		}
		c.part = append(c.part[:0], b...)
	case strange:
		l.handOver(c, b)
		return
	}
	if c.ended && l.clients[c.fd] == c {
		l.readable(c) // the end itself, which is not told of again
	}
}

// begin begins to answer the request in the parser.
func (l *loop) begin(c *client) {
	var t *turn
	if n := len(l.free); n > 0 {
		t, l.free = l.free[n-1], l.free[:n-1]
	} else {
		t = &turn{g: l.g, tell: l.tell}
	}
	t.client, c.turn = c, t
	l.busy++
	if t.start(&l.parser.req) {
		l.answer(t)
	}
}

// answer writes the answer of a turn. What the client does not take at once, a goroutine waits for.
func (l *loop) answer(t *turn) {
	c := t.client
	t.end()
	l.busy--
	c.turn, c.served = nil, true
	l.out = l.names.appendHTTP(l.out[:0], &t.rep, l.last)
	l.recycle(t)
	if l.clients[c.fd] != c {
		return // it was closed meanwhile
	}
	n, err := writeFD(c.fd, l.out)
	switch {
	case err != nil && !errors.Is(err, errNotReady):
		l.close(c)
	case n < len(l.out):
		l.release(c, handed{rest: bytes.Clone(l.out[n:]), last: l.last, due: l.now + int64(l.limit.IdleTimeout)})
	case l.last:
		l.close(c)
	default:
		c.due = l.now + int64(l.limit.IdleTimeout)
		l.remind(c.due)
		if c.more {
			c.more = false
			l.readable(c)
		}
	}
	if cap(l.out) > keepScratch {
		l.out = nil
	}
}

// recycle keeps a turn for the next request, and the memory of its answer for the next answer.
func (l *loop) recycle(t *turn) {
	if body := t.rep.Body; cap(body) >= cap(l.body) && cap(body) <= keepScratch {
		l.body = body[:0]
	}
	t.rep.Body, t.client, t.made = nil, nil, false
	l.free = append(l.free, t)
}

// late ends the wait of a client whose time is up: a request that did not come whole is answered by fasthttp.
func (l *loop) late(c *client) {
	if c.served && len(c.part) == 0 {
		l.close(c)
		return
	}
	l.handOver(c, c.part)
}

func (l *loop) close(c *client) {
	l.remove(c)
	closeFD(c.fd)
	l.open.Add(-1)
}

func (l *loop) remove(c *client) {
	l.clients[c.fd] = nil
	l.count--
}

// handOver gives a connection to fasthttp for good, with the bytes that were read and not answered.
func (l *loop) handOver(c *client, b []byte) {
	h := handed{before: bytes.Clone(b), due: c.due}
	if c.served && c.parts == 0 {
		h.due = 0 // the request begins just now
	}
	l.release(c, h)
}

// release makes a connection of a client again, which the loop forgets. Where that is not possible it is
// closed. It counts here until it counts elsewhere.
func (l *loop) release(c *client, h handed) {
	l.poll.forget(c.fd)
	l.remove(c)
	if nc, err := attach(c.fd); err == nil {
		l.hand(nc, h)
	}
	l.open.Add(-1)
}

// A verdict is what a loop thinks of the bytes it read.
type verdict uint8

const (
	whole   verdict = iota // one request that is answered here, and nothing else
	partly                 // the beginning of a request
	strange                // something for fasthttp
)

// parse looks for one request in b, with fasthttp's own eyes, and puts it into p.req, which is valid until
// the next call and as long as b.
func (p *parser) parse(b []byte) verdict {
	p.source.b = b
	p.reader.Reset(&p.source)
	h := &p.header
	h.Reset()
	if err := h.Read(p.reader); err != nil {
		if errors.Is(err, errStarved) {
			return partly
		}
		return strange
	}
	length := h.ContentLength()
	switch {
	case length > p.maxBody:
		return strange
	case !h.IsHTTP11(), h.ConnectionClose(), length < 0 && length != -2, len(h.Peek(fasthttp.HeaderExpect)) > 0:
		return strange
	}
	head := len(b) - len(p.source.b) - p.reader.Buffered()
	length = max(length, 0)
	switch rest := len(b) - head; {
	case head+length >= loopBytes, rest > length:
		return strange
	case rest < length:
		return partly
	}
	if p.uri.Parse(h.Host(), h.RequestURI()) != nil {
		return strange
	}
	p.req.reset()
	fill(h, &p.req)
	p.req.Body = b[head:len(b):len(b)]
	if p.req.Method == "HEAD" || streams(p.req.Path) {
		return strange
	}
	return whole
}

// errStarved is that the bytes that came were all used.
var errStarved = errors.New("no more bytes")

// A source is bytes that came, to be read; their end is not the end of the connection.
type source struct{ b []byte }

func (s *source) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, errStarved
	}
	n := copy(p, s.b)
	s.b = s.b[n:]
	return n, nil
}

var _ io.Reader = (*source)(nil)
