package mux_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// A script is a server of one's own making: it gets every connection.
func script(t *testing.T, serve func(n int, c net.Conn)) func(context.Context) (net.Conn, error) {
	n := 0
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	return func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		n++
		k := n
		wg.Go(func() {
			defer func() { _ = far.Close() }()
			serve(k, far)
		})
		return near, nil
	}
}

// hear reads from c until it has seen want.
func hear(c net.Conn, want string) bool {
	var got []byte
	buf := make([]byte, 4096)
	for !strings.Contains(string(got), want) {
		n, err := c.Read(buf)
		if err != nil {
			return false
		}
		got = append(got, buf[:n]...)
	}
	return true
}

func TestOutage(t *testing.T) {
	t.Run("a write whose reply did not come is not sent again", func(t *testing.T) {
		m := open(t, nil, mux.Options{Dial: script(t, func(n int, c net.Conn) {
			hear(c, "SET") // and hangs up
			if n > 1 {
				t.Error("it was sent again")
			}
		})})
		err := m.Do(t.Context(), call(t, m, "SET", "k", "v"))
		var o *mux.OutcomeError
		if !errors.As(err, &o) || !o.Sent {
			t.Errorf("got %v, want an *OutcomeError that says Sent", err)
		}
	})
	t.Run("so is a script, whatever its flags say", func(t *testing.T) {
		m := open(t, nil, mux.Options{Dial: script(t, func(n int, c net.Conn) {
			hear(c, "EVAL")
			if n > 1 {
				t.Error("it was sent again")
			}
		})})
		var o *mux.OutcomeError
		if err := m.Do(t.Context(), call(t, m, "EVAL", "return 1", "0")); !errors.As(err, &o) || !o.Sent {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a read is sent again once", func(t *testing.T) {
		m := open(t, nil, mux.Options{Dial: script(t, func(n int, c net.Conn) {
			if hear(c, "GET") && n == 2 {
				_, _ = c.Write([]byte("$1\r\nv\r\n"))
				hear(c, "never")
			}
		}), MaxBackoff: time.Millisecond})
		c := call(t, m, "GET", "k")
		begin := time.Now()
		err := m.Do(t.Context(), c)
		for err != nil && time.Since(begin) < patience { // the first attempt after a loss may be too early
			c.Reset(meter.Gateway)
			_ = add(c, "GET", "k")
			err = m.Do(t.Context(), c)
		}
		if err != nil || string(c.Reply()) != "$1\r\nv\r\n" {
			t.Errorf("got %q, %v", c.Reply(), err)
		}
	})
	t.Run("an answer that is not RESP, or that nobody asked for, ends the connection", func(t *testing.T) {
		for _, answer := range []string{"HTTP/1.1 400 Bad Request\r\n", "+OK\r\n+OK\r\n", "$x\r\n", "*1\r\nfoo", "$99999999999999999999\r\n"} {
			m := open(t, nil, mux.Options{Dial: script(t, func(_ int, c net.Conn) {
				hear(c, "SET")
				_, _ = c.Write([]byte(answer))
				hear(c, "never")
			})})
			c := m.NewCall(meter.Gateway)
			_ = add(c, "SET", "k", "v")
			err := m.Do(t.Context(), c)
			if strings.HasPrefix(answer, "+OK") {
				if err != nil || string(c.Reply()) != "+OK\r\n" {
					t.Errorf("%q: %v, %q", answer, err, c.Reply())
				}
				continue
			}
			if _, ok := errors.AsType[*mux.ProtocolError](err); !ok {
				t.Errorf("%q: %v, want a *ProtocolError", answer, err)
			}
		}
	})
	t.Run("a server that hangs is given up, and callers are not held", func(t *testing.T) {
		m := open(t, nil, mux.Options{Timeout: 50 * time.Millisecond, Dial: script(t, func(_ int, c net.Conn) {
			hear(c, "never")
		})})
		c := m.NewCall(meter.Gateway)
		for i := range 5 {
			c.Reset(meter.Gateway)
			_ = add(c, "SET", "k", "v")
			c.SetTimeout(30 * time.Millisecond)
			begin := time.Now()
			err := m.Do(t.Context(), c)
			if err == nil || time.Since(begin) > patience/3 {
				t.Errorf("call %d: %v after %s", i, err, time.Since(begin))
			}
		}
	})
	t.Run("nothing listens: an error at once, and between attempts too", func(t *testing.T) {
		down := errors.New("nobody there")
		dials := 0
		m := open(t, nil, mux.Options{Dial: func(context.Context) (net.Conn, error) { dials++; return nil, down }})
		for range 1000 {
			err := m.Do(t.Context(), call(t, m, "SET", "k", "v"))
			var o *mux.OutcomeError
			if !errors.As(err, &o) || o.Sent || !errors.Is(err, down) {
				t.Fatalf("got %v", err)
			}
		}
		if dials > 100 {
			t.Errorf("%d attempts for 1000 commands in a moment", dials)
		}
	})
	t.Run("a caller that gives up keeps its place in the order", func(t *testing.T) {
		asked := make(chan struct{})
		m := open(t, nil, mux.Options{Dial: script(t, func(_ int, c net.Conn) {
			hear(c, "first")
			close(asked)
			hear(c, "second")
			_, _ = c.Write([]byte("$1\r\n1\r\n$1\r\n2\r\n"))
			hear(c, "never")
		})})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-asked
			cancel()
		}()
		c := call(t, m, "GET", "first")
		if err := m.Do(ctx, c); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		c.Reset(meter.Gateway)
		_ = add(c, "GET", "second")
		if err := m.Do(t.Context(), c); err != nil || string(c.Reply()) != "$1\r\n2\r\n" {
			t.Errorf("got %q, %v", c.Reply(), err)
		}
	})
	t.Run("after Close nothing is left and nothing goes", func(t *testing.T) {
		m := open(t, nil, mux.Options{Dial: script(t, func(_ int, c net.Conn) { hear(c, "never") })})
		ended := make(chan error)
		go func() { ended <- m.Do(context.Background(), call(t, m, "GET", "k")) }()
		conn := m.Conn(meter.Cache)
		_, _ = conn.Write(encode("SET a b"))
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, mux.ErrClosed) {
			t.Errorf("got %v", err)
		}
		if _, err := conn.Read(make([]byte, 10)); err == nil {
			t.Error("an in-process connection survived")
		}
		if err := m.Do(t.Context(), call(t, m, "GET", "k")); !errors.Is(err, mux.ErrClosed) {
			t.Errorf("got %v", err)
		}
		if _, err := m.Stream(t.Context(), meter.Cache, []byte("MONITOR")); err == nil {
			t.Error("a stream after Close")
		}
	})
}

// TestServerComesAndGoes kills a real server under load: every acknowledged INCR is there, none ran twice
// without a trace, and calls work again within two seconds of the server's return.
func TestServerComesAndGoes(t *testing.T) {
	s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	m := open(t, s, mux.Options{})
	stop := make(chan struct{})
	var mu sync.Mutex
	acknowledged, unknown := 0, 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			c := m.NewCall(meter.Gateway)
			defer c.Release()
			for {
				select {
				case <-stop:
					return
				default:
				}
				c.Reset(meter.Gateway)
				_ = add(c, "INCR", "n")
				c.SetTimeout(time.Second)
				err := m.Do(t.Context(), c)
				var o *mux.OutcomeError
				mu.Lock()
				switch {
				case err == nil && c.Reply()[0] == ':':
					acknowledged++
				case errors.As(err, &o) && !o.Sent:
				default:
					unknown++
				}
				mu.Unlock()
			}
		})
	}
	for range 3 {
		s.Kill(t)
		s.Restart(t)
		begin := time.Now()
		for {
			asked := time.Since(begin)
			c := call(t, m, "PING")
			c.SetTimeout(patience)
			err := m.Do(t.Context(), c)
			c.Release()
			if err == nil {
				break
			}
			if asked > 2*time.Second {
				t.Fatalf("%s after the server's return: %v", asked, err)
			}
		}
	}
	close(stop)
	wg.Wait()
	n, err := s.Client(t).Get(t.Context(), "n").Int()
	if err != nil || n < acknowledged || n > acknowledged+unknown {
		t.Errorf("n = %d, %v; %d acknowledged, %d unknown", n, err, acknowledged, unknown)
	}
	t.Logf("n = %d, %d acknowledged, %d unknown", n, acknowledged, unknown)
}
