package governor

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// stubBuffer is how many bytes of cancellations a subscriber may leave unread; it is closed then, and
// the library subscribes anew.
const stubBuffer = 1 << 20

// subscribeStub makes a subscription in process. It takes no connection, and the library's PINGs, which
// come every few seconds, are answered here.
func (g *Governor) subscribeStub(ctx context.Context, channels []string) *redis.PubSub {
	c := redis.NewClient(&redis.Options{
		Addr: "in-process", Protocol: 2, DisableIdentity: true, PoolSize: 1, PipelinePoolSize: -1,
		Dialer: func(context.Context, string, string) (net.Conn, error) { return g.newStub(), nil },
	})
	return c.Subscribe(ctx, channels...)
}

// A stub is a connection of a subscriber, served here.
type stub struct {
	governor *Governor
	ready    chan struct{} // of capacity 1: something changed for Read
	in       []byte        // what Write has of a command that is not whole

	mu       sync.Mutex // guards the rest
	out      []byte
	closed   bool
	deadline time.Time
}

func (g *Governor) newStub() *stub {
	s := &stub{governor: g, ready: make(chan struct{}, 1)}
	g.mu.Lock()
	g.cancels[s] = struct{}{}
	g.mu.Unlock()
	return s
}

// CancelWord is what to publish on asynq's channel of cancellations to end one job of one queue. asynq's own word is
// the id alone, which jobs of other queues may have too.
func CancelWord(queue, id string) string { return cancelPrefix + queue + "}:" + id }

const cancelPrefix = "redisopt:{"

// cancel hands a cancellation to every subscriber. One that names a queue is for who holds the job.
func (g *Governor) cancel(payload []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if rest, ok := bytes.CutPrefix(payload, []byte(cancelPrefix)); ok {
		if name, id, ok := bytes.Cut(rest, []byte("}:")); ok {
			if q := g.queues[string(name)]; q == nil || !q.holds(string(id)) {
				return
			}
			payload = id
		}
	}
	for s := range g.cancels {
		s.push(fmt.Appendf(nil, "*3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(cancelChannel), cancelChannel, len(payload), payload))
	}
}

func (s *stub) Write(p []byte) (int, error) {
	s.in = append(s.in, p...)
	for {
		words, n, err := readCommand(s.in)
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return len(p), nil
		}
		s.in = s.in[n:]
		s.answer(words)
	}
}

func (s *stub) answer(words []string) {
	if len(words) == 0 {
		return
	}
	switch name := string(bytes.ToLower([]byte(words[0]))); name {
	case "subscribe", "unsubscribe":
		for i, channel := range words[1:] {
			s.push(fmt.Appendf(nil, "*3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n:%d\r\n", len(name), name, len(channel), channel, i+1))
		}
	case "ping":
		s.push([]byte("*2\r\n$4\r\npong\r\n$0\r\n\r\n"))
	case "hello":
		s.push([]byte("-ERR unknown command\r\n"))
	default:
		s.push([]byte("+OK\r\n"))
	}
}

// readCommand takes the first command off b; n is 0 when it is not whole.
func readCommand(b []byte) (words []string, n int, err error) {
	count, rest, ok, err := readCount(b, '*')
	if !ok || err != nil {
		return nil, 0, err
	}
	for range count {
		size, after, ok, err := readCount(rest, '$')
		if !ok || err != nil || len(after) < size+2 {
			return nil, 0, err
		}
		words = append(words, string(after[:size]))
		rest = after[size+2:]
	}
	return words, len(b) - len(rest), nil
}

func readCount(b []byte, kind byte) (count int, rest []byte, ok bool, err error) {
	line, rest, ok := bytes.Cut(b, []byte("\r\n"))
	if !ok {
		return 0, nil, false, nil
	}
	if len(line) == 0 || line[0] != kind {
		return 0, nil, false, fmt.Errorf("a subscriber wrote %q, want a command", line)
	}
	n, err := number(line[1:])
	if err != nil || n < 0 || n > stubBuffer {
		return 0, nil, false, fmt.Errorf("a subscriber wrote %q, want a count", line)
	}
	return int(n), rest, true, nil
}

func (s *stub) push(b []byte) {
	s.mu.Lock()
	s.out = append(s.out, b...)
	if len(s.out) > stubBuffer {
		s.closed = true
	}
	s.mu.Unlock()
	s.signal()
}

func (s *stub) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

func (s *stub) Read(p []byte) (int, error) {
	for {
		s.mu.Lock()
		n, closed, deadline := copy(p, s.out), s.closed, s.deadline
		s.out = s.out[:copy(s.out, s.out[n:])]
		s.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		if closed {
			return 0, net.ErrClosed
		}
		if err := s.wait(deadline); err != nil {
			return 0, err
		}
	}
}

// wait returns when something has changed; a deadline that was moved meanwhile has.
func (s *stub) wait(deadline time.Time) error {
	if deadline.IsZero() {
		<-s.ready
		return nil
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-s.ready:
		return nil
	case <-timer.C:
		return os.ErrDeadlineExceeded
	}
}

func (s *stub) Close() error {
	s.governor.mu.Lock()
	delete(s.governor.cancels, s)
	s.governor.mu.Unlock()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.signal()
	return nil
}

func (s *stub) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

func (s *stub) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	s.deadline = t
	s.mu.Unlock()
	s.signal()
	return nil
}

func (s *stub) SetWriteDeadline(time.Time) error { return nil }
func (s *stub) LocalAddr() net.Addr              { return stubAddr{} }
func (s *stub) RemoteAddr() net.Addr             { return stubAddr{} }

type stubAddr struct{}

func (stubAddr) Network() string { return "in-process" }
func (stubAddr) String() string  { return "cancellations" }
