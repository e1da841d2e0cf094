package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// A stingy connection takes only so many bytes in all and then fails.
type stingy struct {
	net.Conn
	left int
}

var errStingy = errors.New("no more")

func (s *stingy) Write(b []byte) (int, error) {
	n := min(len(b), s.left)
	s.left -= n
	if n < len(b) {
		return n, errStingy
	}
	return n, nil
}
func (s *stingy) Close() error                       { return nil }
func (s *stingy) SetWriteDeadline(_ time.Time) error { return nil }

func newTestConn(o Options, raw net.Conn) *conn {
	u := &Upstream{opts: o.withDefaults(), conns: newRegistry(3, time.Second)}
	return &conn{Conn: raw, up: u, addr: "test", use: useCommands, owner: meter.Untagged, component: meter.Untagged, kinds: map[meter.Component]map[string]*commandKind{}}
}

func TestWriteCutShort(t *testing.T) {
	batch := request("set", "k", "v") + request("get", "k") + request("client", "list")
	ends := []int{len(request("set", "k", "v")), len(request("set", "k", "v") + request("get", "k")), len(batch)}
	for taken := range len(batch) + 1 {
		t.Run(fmt.Sprintf("a command counts when its last byte is taken, with %d of %d bytes taken", taken, len(batch)), func(t *testing.T) {
			c := newTestConn(Options{MaxCommands: 100}, &stingy{left: taken})
			if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			n, err := c.Write([]byte(batch))
			if n != taken {
				t.Errorf("Write = %d, want %d", n, taken)
			}
			want := int64(0)
			for _, end := range ends {
				if taken >= end {
					want++
				}
			}
			if got := c.up.Spent().Commands; got != want {
				t.Errorf("Commands = %d, want %d", got, want)
			}
			if got := c.up.claimed.Load(); got != want {
				t.Errorf("%d of the budget claimed, want %d", got, want)
			}
			if taken == len(batch) {
				return
			}
			if !errors.Is(err, errStingy) {
				t.Errorf("err = %v", err)
			}
			if got := Detail(err).Unsent; got != (want == 0) {
				t.Errorf("Unsent = %t with %d commands sent", got, want)
			}
			if got := c.up.Spent().Unanswered; got != want {
				t.Errorf("Unanswered = %d, want %d", got, want)
			}
			if _, err := c.Write([]byte(request("ping"))); err == nil {
				t.Error("a connection that was cut in a command takes another")
			}
		})
	}
}

func TestRefusalAtTheSocket(t *testing.T) {
	t.Run("what comes before the refused command is sent, and nothing of it", func(t *testing.T) {
		allowed := request("get", "a") + request("get", "b")
		c := newTestConn(Options{ReadOnly: true}, &stingy{left: 1 << 20})
		n, err := c.Write([]byte(allowed + request("set", "k", "v") + request("get", "c")))
		if n != len(allowed) || Classify(err) != ReadOnly {
			t.Errorf("Write = %d, %v, want %d and a refusal", n, err, len(allowed))
		}
	})

	t.Run("however the writes are cut, a refused command never leaves whole", func(t *testing.T) {
		batch := []byte(request("get", "a") + request("config", "set", "a", "b"))
		for seed := range uint64(200) {
			rnd := rand.New(rand.NewPCG(seed, 1)) // reproducible on purpose
			c := newTestConn(Options{ReadOnly: true}, &stingy{left: 1 << 20})
			rest, err := batch, error(nil)
			for len(rest) > 0 && err == nil {
				n := 1 + rnd.IntN(len(rest))
				_, err = c.Write(rest[:n])
				rest = rest[n:]
			}
			if Classify(err) != ReadOnly || c.up.Spent().Commands != 1 {
				t.Fatalf("seed %d: %v with %d commands sent, want a refusal after 1", seed, err, c.up.Spent().Commands)
			}
		}
	})
}

func TestTag(t *testing.T) {
	t.Run("the tag survives on the deadline and does not change the instant", func(t *testing.T) {
		now := time.Now()
		tagged := now.In(newTag(meter.Cache))
		if got, ok := tagOf(tagged); !ok || got != meter.Cache || !tagged.Equal(now) {
			t.Errorf("tagOf = %s, %t", got, ok)
		}
	})
	t.Run("a deadline of somebody else has none", func(t *testing.T) {
		for _, at := range []time.Time{{}, time.Now(), time.Now().UTC(), time.Now().In(time.FixedZone("redisopt", 0))} {
			if got, ok := tagOf(at); ok {
				t.Errorf("tagOf(%s) = %s", at, got)
			}
		}
	})
}

// dropper answers PING, refuses HELLO, and closes the connection when it is sent anything else.
func dropper(t *testing.T) (addr string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				buf := make([]byte, 1024)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					answer := "-ERR unknown command 'HELLO'\r\n"
					if bytes.Contains(buf[:n], []byte("ping")) {
						answer = "+PONG\r\n"
					} else if !bytes.Contains(buf[:n], []byte("hello")) {
						return
					}
					if _, err := c.Write([]byte(answer)); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

func TestIdleClose(t *testing.T) {
	for _, c := range []struct {
		name string
		idle time.Duration
		want Class
	}{
		{"a connection that was not used for a while and then fails was closed while idle", time.Nanosecond, IdleClose},
		{"a connection that was just used and then fails was lost", time.Hour, Reset},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, err := Open(t.Context(), Options{URL: "redis://" + dropper(t), idleAfter: c.idle})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = u.Close() }()
			err = u.Client().Incr(t.Context(), "n").Err()
			if got := Classify(err); got != c.want {
				t.Errorf("class of %v = %s, want %s", err, got, c.want)
			}
		})
	}
}

func TestCapErrorNamesWhoAsked(t *testing.T) {
	t.Run("the pool does not know for whom it dials, so the hook says it", func(t *testing.T) {
		u := &Upstream{opts: Options{}.withDefaults(), addr: "test"}
		err := u.explain(&Error{Class: ConnectionLimit, Err: &CapError{Cap: 3, Asked: meter.Untagged, For: useCommands}}, time.Now(), meter.SMS)
		limit, ok := errors.AsType[*CapError](err)
		if !ok || limit.Asked != meter.SMS || Classify(err) != ConnectionLimit || Detail(err).Limit != 3 {
			t.Errorf("got %v", err)
		}
	})
}

func TestReserve(t *testing.T) {
	t.Run("a connection that is just being closed gives its place to the one that replaces it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			u := &Upstream{opts: Options{MaxConnections: 1}.withDefaults(), conns: newRegistry(1, time.Second)}
			c := newTestConn(Options{}, &stingy{})
			c.up = u
			if err := u.reserve(t.Context(), useCommands, meter.Cache); err != nil {
				t.Fatal(err)
			}
			u.conns.add(c)
			go func() {
				time.Sleep(handOverGrace / 2)
				_ = c.Close()
			}()
			if err := u.reserve(t.Context(), useCommands, meter.Cache); err != nil {
				t.Errorf("reserve: %v", err)
			}
		})
	})
	t.Run("a place that nobody leaves is refused after a moment", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			u := &Upstream{opts: Options{MaxConnections: 1}.withDefaults(), conns: newRegistry(1, time.Second)}
			if err := u.reserve(t.Context(), useCommands, meter.Cache); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			err := u.reserve(t.Context(), usePubSub, meter.Queue)
			if Classify(err) != ConnectionLimit || time.Since(begin) != handOverGrace {
				t.Errorf("%v after %s", err, time.Since(begin))
			}
		})
	})
}

func TestPause(t *testing.T) {
	t.Run("a pause that would outlast the deadline is not begun", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			begin := time.Now()
			if pause(ctx, 2*time.Second) || time.Since(begin) != 0 {
				t.Errorf("paused for %s", time.Since(begin))
			}
			if !pause(ctx, time.Millisecond) {
				t.Error("a short pause was refused")
			}
		})
	})
}

func TestBackoff(t *testing.T) {
	t.Run("it is random, bounded, and grows", func(t *testing.T) {
		for attempt := range 40 {
			for range 200 {
				if d := backoff(attempt); d < 0 || d >= backoffMax || attempt == 0 && d >= backoffBase {
					t.Fatalf("backoff(%d) = %s", attempt, d)
				}
			}
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	get := []byte(request("get", "some:key:of:usual:length"))
	for _, o := range []struct {
		name string
		Options
	}{{"counting", Options{}}, {"counting, limited and read-only", Options{MaxCommands: 1 << 60, ReadOnly: true}}} {
		b.Run(o.name, func(b *testing.B) {
			c := newTestConn(o.Options, &stingy{left: 1 << 62})
			tag := time.Now().Add(time.Hour).In(newTag(meter.Cache))
			b.ReportAllocs()
			for b.Loop() {
				_ = c.SetWriteDeadline(tag)
				if _, err := c.Write(get); err != nil {
					b.Fatal(err)
				}
				c.replies([]byte("$1\r\nv\r\n"))
			}
		})
	}
}
