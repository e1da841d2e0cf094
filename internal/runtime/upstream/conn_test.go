package upstream

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
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
	u := &Upstream{opts: o.withDefaults(), conns: newRegistry(3)}
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
			rnd := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // reproducible on purpose
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
