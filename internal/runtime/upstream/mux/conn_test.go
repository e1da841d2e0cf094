package mux_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// encode writes commands, given as lines of words.
func encode(lines ...string) []byte {
	var b []byte
	for _, line := range lines {
		words := strings.Fields(line)
		b = fmt.Appendf(b, "*%d\r\n", len(words))
		for _, w := range words {
			b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(w), w)
		}
	}
	return b
}

// exchange writes commands and reads as much as want has.
func exchange(t *testing.T, c net.Conn, want string, lines ...string) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(encode(lines...)); err != nil {
		t.Fatalf("%v: %v", lines, err)
	}
	got := make([]byte, len(want))
	n, err := io.ReadFull(c, got)
	if err != nil || string(got) != want {
		t.Errorf("%v: got %q, %v, want %q", lines, got[:n], err, want)
	}
}

func TestConn(t *testing.T) {
	s := redistest.Start(t)
	m := open(t, s, mux.Options{Timeout: patience, LaneHold: patience})
	conn := func(t *testing.T) net.Conn {
		c := m.Conn(meter.Cache)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}

	t.Run("what sets up a connection is answered here", func(t *testing.T) {
		exchange(t, conn(t), "+OK\r\n+OK\r\n+OK\r\n-NOPROTO unsupported protocol version\r\n+RESET\r\n",
			"AUTH secret", "SELECT 0", "CLIENT SETNAME x", "HELLO 3", "RESET")
		exchange(t, conn(t), "-ERR redisopt: this connection is for database 0 only\r\n", "SELECT 1")
	})
	t.Run("a pipelined transaction is answered by the server", func(t *testing.T) {
		exchange(t, conn(t), "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$1\r\n1\r\n", "MULTI", "SET a 1", "GET a", "EXEC")
	})
	t.Run("a transaction whose client waits for every reply works the same", func(t *testing.T) {
		c := conn(t)
		exchange(t, c, "+OK\r\n", "MULTI")
		exchange(t, c, "+QUEUED\r\n", "SET a 2")
		exchange(t, c, "+QUEUED\r\n", "GET a")
		exchange(t, c, "*2\r\n+OK\r\n$1\r\n2\r\n", "EXEC")
	})
	t.Run("a discarded transaction leaves nothing and never leaves", func(t *testing.T) {
		exchange(t, conn(t), "+OK\r\n+QUEUED\r\n+OK\r\n$1\r\n2\r\n", "MULTI", "SET a 3", "DISCARD", "GET a")
	})
	t.Run("a transaction with a command that is refused fails as a whole", func(t *testing.T) {
		exchange(t, conn(t), "+OK\r\n+QUEUED\r\n-ERR redisopt: subscribe would turn the shared connection into a subscriber; subscribe through the bell\r\n"+
			"-EXECABORT Transaction discarded because of previous errors.\r\n$1\r\n2\r\n",
			"MULTI", "SET a 4", "SUBSCRIBE x", "EXEC", "GET a")
	})
	t.Run("EXEC and DISCARD need a MULTI", func(t *testing.T) {
		exchange(t, conn(t), "-ERR EXEC without MULTI\r\n-ERR DISCARD without MULTI\r\n+OK\r\n", "EXEC", "DISCARD", "UNWATCH")
	})
	t.Run("what waits does not wait inside a transaction, and is refused outside", func(t *testing.T) {
		exchange(t, conn(t), "+OK\r\n+QUEUED\r\n*1\r\n*-1\r\n-ERR redisopt: blpop", "MULTI", "BLPOP none 0", "EXEC", "BLPOP none 0")
		exchange(t, conn(t), "-ERR redisopt: xread waits", "XREAD BLOCK 0 STREAMS x $")
		exchange(t, conn(t), "*-1\r\n", "XREAD STREAMS BLOCK 0")
	})
	t.Run("WATCH notices a change by somebody else", func(t *testing.T) {
		c, other := conn(t), conn(t)
		exchange(t, c, "$1\r\n2\r\n+OK\r\n$1\r\n2\r\n", "GET a", "WATCH a", "GET a")
		exchange(t, other, "+OK\r\n", "SET a 5")
		exchange(t, c, "+OK\r\n+QUEUED\r\n*-1\r\n$1\r\n5\r\n", "MULTI", "SET a 6", "EXEC", "GET a")
		exchange(t, c, "+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n$1\r\n7\r\n", "WATCH a", "MULTI", "SET a 7", "EXEC", "GET a")
		exchange(t, c, "+OK\r\n+OK\r\n", "WATCH a", "UNWATCH")
	})
	t.Run("a second WATCH waits for the first, and a client that goes away lets go", func(t *testing.T) {
		c, other := conn(t), conn(t)
		exchange(t, c, "+OK\r\n", "WATCH a")
		done := make(chan struct{})
		go func() {
			defer close(done)
			exchange(t, other, "+OK\r\n+OK\r\n", "WATCH a", "UNWATCH")
		}()
		_ = c.Close()
		<-done
	})
	t.Run("a WATCH that is held too long is ended", func(t *testing.T) {
		m := open(t, s, mux.Options{Timeout: patience, LaneHold: 300 * time.Millisecond})
		c := m.Conn(meter.Cache)
		defer func() { _ = c.Close() }()
		exchange(t, c, "+OK\r\n", "WATCH a")
		// Another gets it in the end, and once it is done in time on a busy machine too.
		const want = "+OK\r\n+OK\r\n"
		got, begin := make([]byte, len(want)), time.Now()
		for string(got) != want {
			other := m.Conn(meter.Cache)
			_ = other.SetDeadline(time.Now().Add(patience))
			_, err := other.Write(encode("WATCH b", "UNWATCH"))
			if err == nil {
				_, err = io.ReadFull(other, got)
			}
			_ = other.Close()
			if time.Since(begin) > patience {
				t.Fatalf("got %q, %v, want %q", got, err, want)
			}
		}
		if _, err := c.Write(encode("GET a")); err == nil {
			_, err = c.Read(make([]byte, 10))
			if err == nil {
				t.Error("the held lane still works")
			}
		}
	})
	t.Run("commands in pieces, empty commands and a command that is none", func(t *testing.T) {
		c := conn(t)
		b := append([]byte("*0\r\n*-1\r\n"), encode("SET piece 1", "GET piece")...)
		for i := range b {
			if _, err := c.Write(b[i : i+1]); err != nil {
				t.Fatal(err)
			}
		}
		exchange(t, c, "+OK\r\n$1\r\n1\r\n")
		if _, err := c.Write([]byte("GET a\r\n")); err == nil {
			t.Error("an inline command was taken")
		}
	})
	t.Run("a deadline ends a read", func(t *testing.T) {
		c := conn(t)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		var timeout net.Error
		if _, err := c.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("got %v, want a timeout", err)
		}
	})
	t.Run("QUIT is answered and ends it", func(t *testing.T) {
		c := conn(t)
		_, _ = c.Write(encode("QUIT"))
		if got, _ := io.ReadAll(io.LimitReader(c, 5)); string(got) != "+OK\r\n" {
			t.Errorf("got %q", got)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("it goes on")
		}
	})
}

// TestDirectAndSharedAnswerTheSame sends the same random pipelines straight to a server and through a
// Mux to another one, with several clients at a time, and compares all bytes.
func TestDirectAndSharedAnswerTheSame(t *testing.T) {
	direct, behind := redistest.Start(t), redistest.Start(t)
	m := open(t, behind, mux.Options{Timeout: patience})
	for client := range 4 {
		t.Run(fmt.Sprint("client ", client), func(t *testing.T) {
			t.Parallel()
			raw, err := (&net.Dialer{}).DialContext(context.WithoutCancel(t.Context()), "tcp", direct.Addr)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = raw.Close() }()
			shared := m.Conn(meter.Cache)
			defer func() { _ = shared.Close() }()
			r := rand.New(rand.NewPCG(uint64(client), 7))
			for round := range 150 {
				batch := randomPipeline(r, client)
				mark := fmt.Sprintf("ECHO end%d", round)
				a, b := roundTrip(t, raw, r, batch, mark), roundTrip(t, shared, r, batch, mark)
				if !bytes.Equal(a, b) {
					t.Fatalf("round %d of %.300q:\ndirect %.300q\nshared %.300q", round, batch, a, b)
				}
			}
		})
	}
}

func randomPipeline(r *rand.Rand, client int) []string {
	key := func() string { return fmt.Sprintf("%d:%d", client, r.IntN(5)) }
	one := func() string {
		switch r.IntN(14) {
		case 0:
			return "SET " + key() + " " + strings.Repeat("v", r.IntN(300)+1)
		case 1:
			return "GET " + key()
		case 2:
			return "INCR " + key()
		case 3:
			return "LPUSH " + key() + " a b c"
		case 4:
			return "LRANGE " + key() + " 0 -1"
		case 5:
			return "DEL " + key()
		case 6:
			return "HSET " + key() + " f v"
		case 7:
			return "HGETALL " + key()
		case 8:
			return "EVAL return{1,{2,ARGV[1]},redis.error_reply('X')} 0 " + key()
		case 9:
			return "GET"
		case 10:
			return "MGET " + key() + " " + key() + " missing"
		case 11:
			return "EVALSHA " + strings.Repeat("0", 40) + " 0"
		case 12:
			return "ZADD " + key() + " 1 a 2 b"
		default:
			return "ZRANGE " + key() + " 0 -1 WITHSCORES"
		}
	}
	var batch []string
	for range r.IntN(8) + 1 {
		switch r.IntN(8) {
		case 0:
			end := []string{"EXEC", "DISCARD"}[r.IntN(2)]
			batch = append(batch, "MULTI")
			for range r.IntN(4) {
				// A discarded transaction never leaves, so nobody says that a command of it is wrong.
				if c := one(); end == "EXEC" || c != "GET" {
					batch = append(batch, c)
				}
			}
			batch = append(batch, end)
		case 1:
			batch = append(batch, "WATCH "+key(), one(), "MULTI", one(), one(), "EXEC")
		case 2:
			batch = append(batch, []string{"EXEC", "DISCARD", "UNWATCH", "MULTI extra"}[r.IntN(4)])
		default:
			batch = append(batch, one())
		}
	}
	return batch
}

// roundTrip writes a pipeline in random pieces and returns all replies up to the mark's.
func roundTrip(t *testing.T, c net.Conn, r *rand.Rand, batch []string, mark string) []byte {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(patience))
	b := encode(append(batch, mark)...)
	for len(b) > 0 {
		n := min(len(b), r.IntN(2000)+1)
		if _, err := c.Write(b[:n]); err != nil {
			t.Fatal(err)
		}
		b = b[n:]
	}
	var got []byte
	buf := make([]byte, 4096)
	for !bytes.HasSuffix(got, []byte(strings.TrimPrefix(mark, "ECHO ")+"\r\n")) {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		got = append(got, buf[:n]...)
	}
	return got
}
