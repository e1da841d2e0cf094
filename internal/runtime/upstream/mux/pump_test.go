package mux_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// drive has a Pump read the shared connection until stop is called, in place of a loop that waits for the
// descriptor to be ready.
func drive(tb testing.TB, m *mux.Mux) (stop func()) {
	tb.Helper()
	if runtime.GOOS != "linux" {
		tb.Skip("there are Pumps on Linux only")
	}
	p := m.Pump(func(int) error { return nil })
	if p == nil {
		tb.Fatal("Pump = nil, want the first one")
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer p.Stop()
		tick := time.NewTicker(200 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				for p.Ready(false) {
				}
				m.Flush()
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(end)
		<-ended
	})
}

// startAndWait is Do in the way of somebody who cannot wait.
func startAndWait(m *mux.Mux, c *mux.Call) (err error, again bool) { //nolint:revive // as End has it
	ended := make(chan struct{})
	if !m.Start(c, func() { close(ended) }) {
		return errors.New("Start = false"), false
	}
	m.Flush()
	<-ended
	return m.End(c)
}

func TestPump(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)

	t.Run("only one at a time", func(t *testing.T) {
		m := open(t, s, mux.Options{})
		stop := drive(t, m)
		if p := m.Pump(func(int) error { return nil }); p != nil {
			t.Error("a second Pump was made")
		}
		stop()
		drive(t, m)()
	})

	t.Run("it comes and goes under everybody's commands", func(t *testing.T) {
		m := open(t, s, mux.Options{})
		conn := m.Conn(meter.Queue)
		defer func() { _ = conn.Close() }()
		var wg sync.WaitGroup
		end := make(chan struct{})
		for i := range 8 {
			wg.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-end:
						return
					default:
					}
					word := fmt.Sprintf("%d-%d", i, n)
					c := call(t, m, "ECHO", word)
					err := m.Do(t.Context(), c)
					if want := fmt.Sprintf("$%d\r\n%s\r\n", len(word), word); err != nil || string(c.Reply()) != want {
						t.Errorf("ECHO %s = %q, %v", word, c.Reply(), err)
						return
					}
					c.Release()
				}
			})
		}
		for n := range 30 {
			stop := drive(t, m)
			exchange(t, conn, fmt.Sprintf(":%d\r\n", n+1), "INCR pumped")
			c := call(t, m, "INCR", "started")
			if err, _ := startAndWait(m, c); err != nil || string(c.Reply()) != fmt.Sprintf(":%d\r\n", n+1) {
				t.Errorf("INCR = %q, %v", c.Reply(), err)
			}
			c.Release()
			stop()
		}
		close(end)
		wg.Wait()
	})

	t.Run("a watch that is refused leaves the reading to the Mux", func(t *testing.T) {
		m := open(t, s, mux.Options{})
		p := m.Pump(func(int) error { return io.ErrUnexpectedEOF })
		if p == nil {
			t.Skip("there are Pumps on Linux only")
		}
		defer p.Stop()
		if got := reply(t, m, "PING"); got != "+PONG\r\n" {
			t.Errorf("PING = %q", got)
		}
		c := call(t, m, "PING")
		if err, _ := startAndWait(m, c); err != nil {
			t.Errorf("PING = %v", err)
		}
	})

	t.Run("Close ends it", func(t *testing.T) {
		m := open(t, s, mux.Options{})
		defer drive(t, m)()
		_ = reply(t, m, "PING")
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if m.Start(call(t, m, "PING"), func() { t.Error("ended was called") }) {
			t.Error("Start = true after Close")
		}
	})
}

func TestStart(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)

	t.Run("without a connection it does nothing", func(t *testing.T) {
		m := open(t, s, mux.Options{})
		c := call(t, m, "PING")
		if m.Start(c, func() { t.Error("ended was called") }) {
			t.Error("Start = true, want false")
		}
		if err := m.Do(t.Context(), c); err != nil || string(c.Reply()) != "+PONG\r\n" {
			t.Errorf("Do = %q, %v", c.Reply(), err)
		}
	})

	for _, pumped := range []bool{true, false} {
		name := map[bool]string{true: "many at once, with a Pump", false: "many at once, without"}[pumped]
		t.Run(name, func(t *testing.T) {
			books := meter.New()
			m := open(t, s, mux.Options{Meter: books})
			if pumped {
				defer drive(t, m)()
			}
			_ = reply(t, m, "PING")
			calls := make([]*mux.Call, 500)
			var wg sync.WaitGroup
			for i := range calls {
				calls[i] = call(t, m, "ECHO", fmt.Sprint(i))
				wg.Add(1)
				if !m.Start(calls[i], wg.Done) {
					t.Fatal("Start = false")
				}
			}
			m.Flush()
			wg.Wait()
			for i, c := range calls {
				err, again := m.End(c)
				if word := fmt.Sprint(i); err != nil || again || string(c.Reply()) != fmt.Sprintf("$%d\r\n%s\r\n", len(word), word) {
					t.Errorf("call %d: %q, %v, %v", i, c.Reply(), err, again)
				}
				c.Release()
			}
			var sent int64
			for _, series := range books.Snapshot().Rows {
				if series.Command == "echo" {
					sent += series.Sent
				}
			}
			if sent != 500 {
				t.Errorf("%d ECHOs were counted, want 500", sent)
			}
		})
	}

	t.Run("what the socket does not take at once goes on in the background", func(t *testing.T) {
		m := open(t, s, mux.Options{})
		defer drive(t, m)()
		_ = reply(t, m, "PING")
		big := strings.Repeat("x", 12<<20)
		calls := []*mux.Call{call(t, m, "SET", "big", big), call(t, m, "STRLEN", "big"), call(t, m, "GET", "big")}
		var wg sync.WaitGroup
		for _, c := range calls {
			wg.Add(1)
			if !m.Start(c, wg.Done) {
				t.Fatal("Start = false")
			}
			m.Flush()
		}
		wg.Wait()
		for i, want := range []string{"+OK\r\n", fmt.Sprintf(":%d\r\n", len(big)), fmt.Sprintf("$%d\r\n%s\r\n", len(big), big)} {
			if err, _ := m.End(calls[i]); err != nil || string(calls[i].Reply()) != want {
				t.Errorf("call %d: %d bytes, %v, want %d bytes", i, len(calls[i].Reply()), err, len(want))
			}
		}
	})
}

// TestStartFails is how a Call of Start ends whose replies do not come.
func TestStartFails(t *testing.T) {
	t.Parallel()
	silent := func(_ int, c net.Conn) {
		r := bufio.NewReader(c)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if strings.HasPrefix(line, "PING") {
				_, _ = io.WriteString(c, "+PONG\r\n")
			}
			if strings.HasPrefix(line, "GETRANGE") || strings.HasPrefix(line, "INCR") {
				_ = c.Close()
			}
		}
	}
	connected := func(t *testing.T) *mux.Mux {
		t.Helper()
		m, err := mux.New(mux.Options{Dial: script(t, silent)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Close() })
		if got := reply(t, m, "PING"); got != "+PONG\r\n" {
			t.Fatalf("PING = %q", got)
		}
		return m
	}

	t.Run("at its timeout, and is used again", func(t *testing.T) {
		m := connected(t)
		c := call(t, m, "GET", "k")
		c.SetTimeout(20 * time.Millisecond)
		err, again := startAndWait(m, c)
		outcome, ok := errors.AsType[*mux.OutcomeError](err)
		if !ok || !outcome.Sent || again || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("End = %v, %v, want a deadline after it was sent", err, again)
		}
		c.Reset(meter.Gateway)
		if err := add(c, "GET", "k"); err != nil {
			t.Fatal(err)
		}
		c.SetTimeout(20 * time.Millisecond)
		if err, _ := startAndWait(m, c); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("End = %v, want the deadline", err)
		}
	})

	t.Run("with the connection: a read may be sent once more", func(t *testing.T) {
		m := connected(t)
		c := call(t, m, "GETRANGE", "k", "0", "1")
		err, again := startAndWait(m, c)
		if err == nil || !again {
			t.Fatalf("End = %v, %v, want a loss and again", err, again)
		}
		if err := m.Again(t.Context(), c); err == nil {
			t.Error("Again = nil, want the loss")
		}
	})

	t.Run("but not a write", func(t *testing.T) {
		m := connected(t)
		if err, again := startAndWait(m, call(t, m, "INCR", "k")); err == nil || again {
			t.Errorf("End = %v, %v, want a loss and not again", err, again)
		}
	})
}
