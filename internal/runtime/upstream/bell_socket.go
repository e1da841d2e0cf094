package upstream

import (
	"bufio"
	"context"
	"fmt"
	"sync"
	"time"
)

// A socketFeed is the one connection over TCP. It speaks RESP3, in which the server pushes changes of
// keys besides messages, and RESP2 where the server knows no other.
type socketFeed struct {
	bell   *Bell
	done   chan struct{} // closed when its reader has ended
	cancel context.CancelFunc

	mu     sync.Mutex // guards the rest
	conn   *bellSocket
	closed bool
}

// A bellSocket is one connection of it.
type bellSocket struct {
	*conn
	resp3 bool

	writing sync.Mutex     // guards writes, and asked
	asked   []*bellRequest // whose replies have not come, oldest first
}

// A bellRequest is a command that was sent for some topics.
type bellRequest struct {
	waits map[topic]bool
	track bool
}

func (f *socketFeed) add(ctx context.Context, ts []topic) error {
	f.mu.Lock()
	conn := f.conn
	running := f.done != nil
	f.mu.Unlock()
	if running {
		// When it cannot be sent the connection is gone, and the reader subscribes to everything anew.
		if conn != nil {
			_ = conn.subscribe(f.bell, ts)
		}
		return nil
	}
	conn, err := f.connect(ctx)
	if err != nil {
		return err
	}
	if err := conn.subscribe(f.bell, ts); err != nil {
		_ = conn.Close()
		return err
	}
	reading, cancel := context.WithCancel(f.bell.ctx)
	f.mu.Lock()
	f.conn, f.done, f.cancel, f.closed = conn, make(chan struct{}), cancel, false
	done := f.done
	f.mu.Unlock()
	go f.listen(reading, conn, done)
	return nil
}

// connect makes a connection and sets it up.
func (f *socketFeed) connect(ctx context.Context) (*bellSocket, error) {
	u := f.bell.up
	addr, err := u.masterAddr(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := u.dial(ctx, networkPrefix+string(u.opts.Component), addr)
	if err != nil {
		return nil, err
	}
	c, ok := raw.(*conn)
	if s, bare := raw.(sysConn); bare {
		c, ok = s.conn, true
	}
	if !ok {
		_ = raw.Close()
		return nil, fmt.Errorf("a connection of type %T", raw)
	}
	resp3, err := u.handshakeAs(ctx, c, "3")
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	u.connected.Store(true)
	// There may be nothing to say for days.
	if err := c.Conn.SetReadDeadline(time.Time{}); err != nil {
		_ = c.Close()
		return nil, err
	}
	return &bellSocket{conn: c, resp3: resp3}, nil
}

// subscribe sends what asks for topics.
func (s *bellSocket) subscribe(b *Bell, ts []topic) error {
	var keys []topic
	byWord := map[string][]topic{}
	for _, t := range ts {
		switch {
		case t.keys:
			keys = append(keys, t)
		case t.pattern:
			byWord["psubscribe"] = append(byWord["psubscribe"], t)
		default:
			byWord["subscribe"] = append(byWord["subscribe"], t)
		}
	}
	// Before anything is subscribed to, so that the reply is told apart by its place.
	if len(keys) > 0 {
		if !s.resp3 {
			b.untracked(&NoTrackingError{Why: "the server speaks RESP2 only"})
		} else if err := s.send(&bellRequest{waits: waiting(keys), track: true}, trackCommand(keys)...); err != nil {
			return err
		}
	}
	for word, ts := range byWord {
		words := []string{word}
		for _, t := range ts {
			words = append(words, t.name)
		}
		if err := s.send(&bellRequest{waits: waiting(ts)}, words...); err != nil {
			return err
		}
	}
	return nil
}

func waiting(ts []topic) map[topic]bool {
	all := map[topic]bool{}
	for _, t := range ts {
		all[t] = true
	}
	return all
}

// send writes a command, whose reply answers r unless that is nil.
func (s *bellSocket) send(r *bellRequest, words ...string) error {
	if r == nil {
		return s.sendAll(nil, words)
	}
	return s.sendAll([]*bellRequest{r}, words)
}

// sendAll writes commands at once, whose replies answer asked.
func (s *bellSocket) sendAll(asked []*bellRequest, commands ...[]string) error {
	var b []byte
	for _, words := range commands {
		b = fmt.Appendf(b, "*%d\r\n", len(words))
		for _, w := range words {
			b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(w), w)
		}
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	s.asked = append(s.asked, asked...)
	if err := s.SetWriteDeadline(time.Now().Add(forever)); err != nil {
		return err
	}
	_, err := s.Write(b)
	return err
}

func (f *socketFeed) remove(ts []topic) {
	f.mu.Lock()
	conn := f.conn
	f.mu.Unlock()
	if conn == nil {
		return // what comes next does not ask for them
	}
	byWord := map[string][]string{}
	tracked := false
	for _, t := range ts {
		switch {
		case t.keys:
			tracked = true
		case t.pattern:
			byWord["punsubscribe"] = append(byWord["punsubscribe"], t.name)
		default:
			byWord["unsubscribe"] = append(byWord["unsubscribe"], t.name)
		}
	}
	for word, names := range byWord {
		// What cannot be sent has no need to be: the connection is gone.
		_ = conn.send(nil, append([]string{word}, names...)...)
	}
	if !tracked || !conn.resp3 {
		return
	}
	// There is no way to take single prefixes away. What is left is asked for in the same write: whoever still
	// follows it would not hear of a change between the two, and would not know.
	off := []string{"client", "tracking", "off"}
	if left := f.bell.following(func(t topic) bool { return t.keys }); len(left) > 0 {
		_ = conn.sendAll([]*bellRequest{{track: true}, {track: true}}, off, trackCommand(left))
		return
	}
	_ = conn.send(&bellRequest{track: true}, off...)
}

// following are the topics that somebody follows and that are meant.
func (b *Bell) following(meant func(topic) bool) []topic {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []topic
	for t := range b.topics {
		if meant(t) {
			all = append(all, t)
		}
	}
	return all
}

func (f *socketFeed) close() {
	f.mu.Lock()
	conn, done := f.conn, f.done
	f.closed, f.conn, f.done = true, nil, nil
	if f.cancel != nil {
		f.cancel()
	}
	f.mu.Unlock()
	if conn != nil {
		// The reader closes it: nobody reads any more then, which closing counts on.
		_ = conn.Conn.SetReadDeadline(time.Unix(1, 0))
	}
	if done != nil {
		<-done
	}
}

// listen reads one connection after another until the feed is closed.
func (f *socketFeed) listen(ctx context.Context, conn *bellSocket, done chan struct{}) {
	defer close(done)
	b := f.bell
	for failed := 0; ; failed++ {
		if conn != nil {
			if heard := conn.read(b); heard {
				failed = 0
			}
			_ = conn.Close()
			b.lost()
		}
		f.mu.Lock()
		f.conn = nil
		over := f.closed
		f.mu.Unlock()
		if over || ctx.Err() != nil || !pause(ctx, bellPause(failed)) {
			return
		}
		conn = f.again(ctx)
	}
}

// again connects anew and asks for everything that is followed; nil when it cannot.
func (f *socketFeed) again(ctx context.Context) *bellSocket {
	dialing, cancel := context.WithTimeout(ctx, f.bell.up.opts.DialTimeout)
	defer cancel()
	conn, err := f.connect(dialing)
	if err != nil {
		return nil
	}
	f.mu.Lock()
	closed := f.closed
	if !closed {
		f.conn = conn
	}
	f.mu.Unlock()
	// What is added from here on is asked for by add; asking twice does no harm.
	if closed || conn.subscribe(f.bell, f.bell.following(func(topic) bool { return true })) != nil {
		_ = conn.Close()
		return nil
	}
	return conn
}

// read takes what the server says until the connection ends; heard is whether it said anything.
func (s *bellSocket) read(b *Bell) (heard bool) {
	for r := bufio.NewReader(s); ; {
		v, err := readValue(r, 0)
		if err != nil {
			return heard
		}
		heard = true
		s.take(b, v)
	}
}

// take is one thing that the server said.
func (s *bellSocket) take(b *Bell, v value) {
	if !v.list {
		s.replied(b, v)
		return
	}
	if len(v.items) == 0 {
		return
	}
	item := func(i int) string {
		if i < len(v.items) {
			return v.items[i].text
		}
		return ""
	}
	switch kind := v.items[0].text; kind {
	case "message":
		b.deliver(topic{name: item(1)}, Message{Channel: item(1), Payload: []byte(item(2))})
	case "pmessage":
		b.deliver(topic{name: item(1), pattern: true}, Message{Pattern: item(1), Channel: item(2), Payload: []byte(item(3))})
	case "subscribe", "psubscribe":
		t := topic{name: item(1), pattern: kind == "psubscribe"}
		s.confirm(t)
		b.confirmed(t)
	case "invalidate":
		var keys []string
		if len(v.items) > 1 {
			for _, k := range v.items[1].items {
				keys = append(keys, k.text)
			}
		}
		b.changed(keys)
	}
}

// confirm takes a topic off what is waited for.
func (s *bellSocket) confirm(t topic) {
	s.writing.Lock()
	defer s.writing.Unlock()
	for i, r := range s.asked {
		if !r.waits[t] {
			continue
		}
		if delete(r.waits, t); len(r.waits) == 0 {
			s.asked = append(s.asked[:i], s.asked[i+1:]...)
		}
		return
	}
}

// replied takes the reply to the oldest request: an error, or the OK of tracking.
func (s *bellSocket) replied(b *Bell, v value) {
	s.writing.Lock()
	var r *bellRequest
	if len(s.asked) > 0 {
		r = s.asked[0]
		s.asked = s.asked[1:]
	}
	s.writing.Unlock()
	switch {
	case r == nil:
	case v.failed && r.track:
		b.untracked(noTracking(v.text))
	case v.failed:
		b.refused(replyError(v.text))
	default:
		for t := range r.waits {
			b.confirmed(t)
		}
	}
}

// bellPause is a random pause before the attempt after try failures in a row.
func bellPause(try int) time.Duration {
	bound := min(bellMaxBackoff, backoffBase<<min(try, 16))
	return bound/2 + backoffRandom(bound/2+1)
}
