package upstream

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
)

// bellConnBuffer is how many bytes of messages a client may leave unread.
const bellConnBuffer = 4 << 20

// A bellConn is a connection in process for the subscriptions of a client library: what it subscribes
// to is followed through the Bell. When the Bell was disconnected, it ends as a connection would, so
// that the library subscribes anew and knows of it.
type bellConn struct {
	bell   *Bell
	owner  meter.Component
	ctx    context.Context // ends with the connection
	cancel context.CancelFunc
	pumps  sync.WaitGroup
	ready  chan struct{} // of capacity 1: something changed for Read

	in   []byte // what Write has of a command that is not whole
	subs map[topic]*Subscription

	mu           sync.Mutex // guards the rest
	out          []byte
	err          error
	readDeadline time.Time
}

// conn makes a connection for the subscriptions of c.
func (b *Bell) conn(c meter.Component) net.Conn {
	k := &bellConn{bell: b, owner: c, ready: make(chan struct{}, 1), subs: map[topic]*Subscription{}}
	k.ctx, k.cancel = context.WithCancel(b.ctx)
	return k
}

// Write takes commands. A subscription is confirmed before it returns. What cannot be done ends the
// connection, which is told by Read, as a socket would: go-redis forgets what it subscribes to when the write
// has an error, and then waits on a new connection for a confirmation that nobody asked for.
func (k *bellConn) Write(p []byte) (int, error) {
	if k.ctx.Err() != nil {
		return 0, net.ErrClosed
	}
	k.mu.Lock()
	ended := k.err != nil
	k.mu.Unlock()
	if ended {
		return len(p), nil //nolint:nilerr // Read tells it
	}
	k.in = append(k.in, p...)
	for {
		args, n, err := mux.ParseCommand(k.in, nil)
		if err != nil {
			k.end(err)
			return len(p), nil
		}
		if n == 0 {
			return len(p), nil
		}
		if len(args) > 0 {
			words := make([]string, len(args))
			for i, a := range args {
				words[i] = string(a)
			}
			if err := k.command(string(appendName(nil, args[0])), words, args); err != nil {
				k.end(err)
				return len(p), nil
			}
		}
		k.in = k.in[:copy(k.in, k.in[n:])]
	}
}

func (k *bellConn) command(name string, words []string, args [][]byte) error {
	switch name {
	case "subscribe", "psubscribe":
		for _, channel := range words[1:] {
			if err := k.subscribe(name, topic{name: channel, pattern: name == "psubscribe"}); err != nil {
				return err
			}
		}
	case "unsubscribe", "punsubscribe":
		k.unsubscribe(name, words[1:])
	case "ping":
		k.push([]byte("*2\r\n$4\r\npong\r\n$0\r\n\r\n"))
	case "hello":
		k.push([]byte(mux.Hello(args)))
	case "auth", "client", "select":
		k.push([]byte("+OK\r\n"))
	default:
		k.push(fmt.Appendf(nil, "-ERR redisopt: %s is not available on a connection for subscriptions\r\n", name))
	}
	return nil
}

func (k *bellConn) subscribe(kind string, t topic) error {
	if k.subs[t] == nil {
		ctx, cancel := context.WithTimeout(k.ctx, k.bell.up.opts.Timeout)
		defer cancel()
		s, err := k.bell.follow(ctx, []topic{t}, bellBuffer)
		if err != nil {
			return k.bell.up.explain(err, time.Now(), k.owner)
		}
		k.subs[t] = s
		k.confirm(kind, t.name)
		k.pumps.Go(func() { k.pump(t, s) })
		return nil
	}
	k.confirm(kind, t.name)
	return nil
}

func (k *bellConn) confirm(kind, name string) {
	k.push(fmt.Appendf(nil, "*3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n:%d\r\n", len(kind), kind, len(name), name, len(k.subs)))
}

func (k *bellConn) unsubscribe(kind string, names []string) {
	if len(names) == 0 {
		for t := range k.subs {
			if t.pattern == (kind == "punsubscribe") {
				names = append(names, t.name)
			}
		}
	}
	for _, name := range names {
		t := topic{name: name, pattern: kind == "punsubscribe"}
		if s := k.subs[t]; s != nil {
			delete(k.subs, t)
			_ = s.Close()
		}
		k.confirm(kind, name)
	}
}

// pump hands the messages of one subscription on.
func (k *bellConn) pump(t topic, s *Subscription) {
	for {
		select {
		case m, ok := <-s.C():
			if !ok {
				if err := s.Err(); err != nil {
					k.end(err)
				}
				return
			}
			k.push(encodeMessage(t, m))
		case <-s.Gaps():
			k.end(fmt.Errorf("the connection for subscriptions was lost: %w", io.EOF))
		case <-k.ctx.Done():
			return
		}
	}
}

// encodeMessage is a message as the server would send it to a client.
func encodeMessage(t topic, m Message) []byte {
	var b []byte
	if t.pattern {
		b = fmt.Appendf(b, "*4\r\n$8\r\npmessage\r\n$%d\r\n%s\r\n", len(t.name), t.name)
	} else {
		b = fmt.Appendf(b, "*3\r\n$7\r\nmessage\r\n")
	}
	b = fmt.Appendf(b, "$%d\r\n%s\r\n$%d\r\n", len(m.Channel), m.Channel, len(m.Payload))
	b = append(b, m.Payload...)
	return append(b, '\r', '\n')
}

func (k *bellConn) push(b []byte) {
	k.mu.Lock()
	k.out = append(k.out, b...)
	slow := len(k.out) > bellConnBuffer
	k.mu.Unlock()
	if slow {
		k.end(ErrSlowSubscriber)
	}
	k.signal()
}

func (k *bellConn) signal() {
	select {
	case k.ready <- struct{}{}:
	default:
	}
}

// end makes err the answer to every further Read, once what came before it was read.
func (k *bellConn) end(err error) {
	k.mu.Lock()
	if k.err == nil {
		k.err = err
	}
	k.mu.Unlock()
	k.signal()
}

// Read returns replies and messages.
func (k *bellConn) Read(p []byte) (int, error) {
	var expired <-chan time.Time
	for {
		k.mu.Lock()
		n, err, deadline := copy(p, k.out), k.err, k.readDeadline
		k.out = k.out[:copy(k.out, k.out[n:])]
		k.mu.Unlock()
		if n > 0 || err != nil && len(p) > 0 {
			if n > 0 {
				err = nil
			}
			return n, err
		}
		if expired == nil && !deadline.IsZero() {
			timer := time.NewTimer(time.Until(deadline))
			defer timer.Stop()
			expired = timer.C
		}
		select {
		case <-k.ready:
		case <-expired:
			return 0, os.ErrDeadlineExceeded
		case <-k.ctx.Done():
			return 0, net.ErrClosed
		}
	}
}

// Close ends the subscriptions.
func (k *bellConn) Close() error {
	k.cancel()
	k.pumps.Wait()
	for _, s := range k.subs {
		_ = s.Close()
	}
	return nil
}

func (k *bellConn) SetDeadline(t time.Time) error { return k.SetReadDeadline(t) }

func (k *bellConn) SetReadDeadline(t time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Until(t) > forever/2 {
		t = time.Time{}
	}
	k.readDeadline = t
	return nil
}

func (k *bellConn) SetWriteDeadline(time.Time) error { return nil }

func (k *bellConn) LocalAddr() net.Addr  { return bellAddr{} }
func (k *bellConn) RemoteAddr() net.Addr { return bellAddr{} }

type bellAddr struct{}

func (bellAddr) Network() string { return "in-process" }
func (bellAddr) String() string  { return "bell" }
