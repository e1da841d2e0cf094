package mux_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// patience is how long a test waits for what is about to happen, on however busy a machine.
const patience = time.Minute

// open makes a Mux over s, closed with the test.
func open(tb testing.TB, s *redistest.Server, o mux.Options) *mux.Mux {
	tb.Helper()
	dial := func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", s.Addr)
	}
	if o.Dial == nil {
		o.Dial, o.Lane = dial, dial
	}
	m, err := mux.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = m.Close() })
	return m
}

// call makes a Call of one command.
func call(tb testing.TB, m *mux.Mux, args ...string) *mux.Call {
	tb.Helper()
	c := m.NewCall(meter.Gateway)
	if err := add(c, args...); err != nil {
		tb.Fatalf("%v: %v", args, err)
	}
	return c
}

func add(c *mux.Call, args ...string) error {
	b := make([][]byte, len(args))
	for i, a := range args {
		b[i] = []byte(a)
	}
	return c.Append(b...)
}

// reply runs one command and returns the reply.
func reply(tb testing.TB, m *mux.Mux, args ...string) string {
	tb.Helper()
	c := call(tb, m, args...)
	defer c.Release()
	if err := m.Do(tb.Context(), c); err != nil {
		tb.Fatalf("%v: %v", args, err)
	}
	return string(c.Reply())
}

func TestCall(t *testing.T) {
	s := redistest.Start(t)
	m := open(t, s, mux.Options{})

	t.Run("a reply is handed back as it came", func(t *testing.T) {
		if got := reply(t, m, "SET", "k", "v\r\n\x00\xff"); got != "+OK\r\n" {
			t.Errorf("SET: %q", got)
		}
		if got := reply(t, m, "get", "k"); got != "$5\r\nv\r\n\x00\xff\r\n" {
			t.Errorf("GET: %q", got)
		}
		if got := reply(t, m, "lpop", "k"); !bytes.HasPrefix([]byte(got), []byte("-WRONGTYPE")) {
			t.Errorf("LPOP of a string: %q", got)
		}
	})

	t.Run("commands of many callers come back to whom they belong", func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				c := m.NewCall(meter.Gateway)
				defer c.Release()
				for n := range 200 {
					c.Reset(meter.Gateway)
					want := fmt.Sprintf("%d-%d", i, n)
					_ = add(c, "SET", fmt.Sprint("key", i), want)
					_ = add(c, "GET", fmt.Sprint("key", i))
					if err := m.Do(t.Context(), c); err != nil {
						t.Error(err)
						return
					}
					if got := string(c.Reply()); got != fmt.Sprintf("+OK\r\n$%d\r\n%s\r\n", len(want), want) {
						t.Errorf("got %q, want %s", got, want)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

func BenchmarkDo(b *testing.B) {
	s := redistest.Start(b)
	m := open(b, s, mux.Options{})
	get, key := []byte("GET"), []byte("k")
	b.Run("sequential", func(b *testing.B) {
		c := m.NewCall(meter.Gateway)
		b.ReportAllocs()
		for b.Loop() {
			c.Reset(meter.Gateway)
			_ = c.Append(get, key)
			if err := m.Do(b.Context(), c); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("50 callers with a timeout", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(25)
		ctx := context.Background()
		b.RunParallel(func(pb *testing.PB) {
			c := m.NewCall(meter.Gateway)
			defer c.Release()
			for pb.Next() {
				c.Reset(meter.Gateway)
				c.SetTimeout(time.Second)
				_ = c.Append(get, key)
				if err := m.Do(ctx, c); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	b.Run("50 callers", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(25)
		ctx := context.Background()
		b.RunParallel(func(pb *testing.PB) {
			c := m.NewCall(meter.Gateway)
			defer c.Release()
			for pb.Next() {
				c.Reset(meter.Gateway)
				_ = c.Append(get, key)
				if err := m.Do(ctx, c); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}
