package mux_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestBounds(t *testing.T) {
	s := redistest.Start(t)
	m := open(t, s, mux.Options{MaxReplyBytes: 1 << 20})
	reply(t, m, "SET", "small", "v")
	reply(t, m, "SETRANGE", "big", "67108863", "x") // 64 MiB

	t.Run("a reply of 64 MiB is refused above the limit, and others wait no longer than it takes to pass", func(t *testing.T) {
		var wg sync.WaitGroup
		wg.Go(func() {
			var large *mux.ReplyTooLargeError
			if err := m.Do(t.Context(), call(t, m, "GET", "big")); !errors.As(err, &large) || large.Limit != 1<<20 {
				t.Errorf("got %v, want a *ReplyTooLargeError", err)
			}
		})
		worst := time.Duration(0)
		for range 200 {
			begin := time.Now()
			if got := reply(t, m, "GET", "small"); got != "$1\r\nv\r\n" {
				t.Fatalf("got %.20q", got)
			}
			worst = max(worst, time.Since(begin))
		}
		wg.Wait()
		if worst > 10*time.Second { // a machine may stand still for some
			t.Errorf("another caller waited %s", worst)
		}
		t.Logf("worst wait beside a reply of 64 MiB: %s", worst)
	})
	t.Run("many small replies add up", func(t *testing.T) {
		c := m.NewCall(meter.Gateway)
		defer c.Release()
		_ = add(c, "SETRANGE", "part", "99999", "x")
		for range 20 {
			_ = add(c, "GET", "part")
		}
		var large *mux.ReplyTooLargeError
		if err := m.Do(t.Context(), c); !errors.As(err, &large) {
			t.Errorf("got %v, want a *ReplyTooLargeError", err)
		}
		if got := reply(t, m, "GET", "small"); got != "$1\r\nv\r\n" {
			t.Errorf("afterwards: %.20q", got)
		}
	})
	t.Run("a stream reads it all the same, beside the others", func(t *testing.T) {
		st, err := m.Stream(t.Context(), meter.Gateway, []byte("GET"), []byte("big"))
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.CopyN(io.Discard, st, 64<<20+len64("$67108864\r\n\r\n"))
		if err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("an in-process client that does not read is closed, and nobody else notices", func(t *testing.T) {
		slow := m.Conn(meter.Cache)
		defer func() { _ = slow.Close() }()
		var err error
		for i := 0; err == nil && i < 10_000; i++ {
			_, err = slow.Write(encode("GET part"))
			if i%8 == 7 {
				reply(t, m, "GET", "small")
			}
			if err == nil && i > 20 {
				_ = slow.SetReadDeadline(time.Now().Add(patience))
				_, err = io.CopyN(io.Discard, slow, 30<<20)
			}
		}
		if _, large := errors.AsType[*mux.ReplyTooLargeError](err); !large {
			t.Errorf("got %v, want a *ReplyTooLargeError", err)
		}
	})
	t.Run("MONITOR sees the others, and gives the lane back", func(t *testing.T) {
		st, err := m.Stream(t.Context(), meter.Gateway, []byte("MONITOR"))
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1000)
		_ = st.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(st, buf[:5]); err != nil || string(buf[:5]) != "+OK\r\n" {
			t.Fatalf("got %q, %v", buf[:5], err)
		}
		reply(t, m, "GET", "seen-by-monitor")
		var got []byte
		for !bytes.Contains(got, []byte("seen-by-monitor")) {
			n, err := st.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, buf[:n]...)
		}
		_ = st.Close()
		exchange(t, m.Conn(meter.Cache), "+OK\r\n+OK\r\n", "WATCH a", "UNWATCH")
	})
	t.Run("callers wait for room, and are told when there is none in time", func(t *testing.T) {
		asked, release := make(chan struct{}), make(chan struct{})
		m := open(t, nil, mux.Options{MaxInFlight: 2, Timeout: patience, Dial: script(t, func(_ int, c net.Conn) {
			hear(c, "second")
			close(asked)
			<-release
			_, _ = c.Write([]byte("+1\r\n+2\r\n"))
			if hear(c, "third") {
				_, _ = c.Write([]byte("+3\r\n"))
			}
			hear(c, "never")
		})})
		first := make(chan error, 1)
		c := m.NewCall(meter.Gateway)
		_, _ = add(c, "GET", "first"), add(c, "GET", "second")
		go func() { first <- m.Do(t.Context(), c) }()
		<-asked
		late := call(t, m, "SET", "late", "v")
		late.SetTimeout(20 * time.Millisecond)
		var busy *mux.BusyError
		if err := m.Do(t.Context(), late); !errors.As(err, &busy) {
			t.Errorf("got %v, want a *BusyError", err)
		}
		third := make(chan string, 1)
		go func() { third <- reply(t, m, "GET", "third") }()
		close(release)
		if err := <-first; err != nil {
			t.Error(err)
		}
		if got := <-third; got != "+3\r\n" {
			t.Errorf("got %q", got)
		}
	})
}

func len64(s string) int64 { return int64(len(s)) }

func TestPolicy(t *testing.T) {
	m := open(t, nil, mux.Options{Allow: []string{"ft.search"}, Dial: script(t, func(int, net.Conn) {})})
	c := m.NewCall(meter.Gateway)
	for _, line := range []string{
		"SUBSCRIBE a", "PSUBSCRIBE a", "SSUBSCRIBE a", "UNSUBSCRIBE", "MONITOR", "BLPOP a 0", "BLMPOP 0 1 a LEFT", "BZMPOP 0 1 a MIN",
		"WAIT 1 0", "WAITAOF 1 0 0", "XREAD COUNT 1 BLOCK 0 STREAMS a $", "XREADGROUP GROUP g c BLOCK 1 STREAMS a >",
		"MULTI", "EXEC", "DISCARD", "WATCH a", "UNWATCH", "SELECT 1", "AUTH x", "HELLO 3", "RESET", "QUIT", "READONLY", "ASKING",
		"CLIENT REPLY OFF", "CLIENT TRACKING ON", "CLIENT SETNAME x", "CLIENT NO-EVICT ON", "CLIENT", "SCRIPT DEBUG YES",
		"SYNC", "PSYNC ? -1", "REPLCONF x", "SHUTDOWN", "FAILOVER", "REPLICAOF NO ONE",
		"NOSUCHCOMMAND", "FT.AGGREGATE x", "GET\x00", strings.Repeat("G", 100), "BXPOP a 0", "CLIENT NEWTHING",
	} {
		var policy *mux.PolicyError
		if err := add(c, strings.Fields(line)...); !errors.As(err, &policy) {
			t.Errorf("%.40q: %v, want a *PolicyError", line, err)
		}
	}
	if c.Len() != 0 {
		t.Errorf("%d commands were added", c.Len())
	}
	for _, line := range []string{
		"get a", "Set a b", "EVAL x 0", "evalsha x 0", "FCALL f 0", "XREAD STREAMS BLOCK 0", "CLIENT LIST", "client id",
		"SCRIPT LOAD x", "FLUSHALL", "CONFIG GET x", "PUBLISH a b", "FT.SEARCH x", "JSON.GET a", "LMPOP 1 a LEFT", "SORT a", "PING",
	} {
		if err := add(c, strings.Fields(line)...); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
	for name, want := range map[string]mux.Category{
		"eval": mux.Script, "evalsha": mux.Script, "fcall": mux.Script, "eval_ro": mux.Read, "get": mux.Read, "sort": mux.Write,
		"xreadgroup": mux.Write, "blpop": mux.Blocking, "subscribe": mux.PubSub, "publish": mux.Write, "monitor": mux.Connection,
		"flushall": mux.Admin, "multi": mux.Transaction, "nosuchcommand": mux.Unknown, "client|list": mux.Read, "client|reply": mux.Connection,
	} {
		if got := mux.Kind(name); got != want {
			t.Errorf("Kind(%s) = %s, want %s", name, got, want)
		}
	}
	if err := c.Append(); err == nil {
		t.Error("an empty command was taken")
	}
	if err := c.Exec(); err == nil {
		t.Error("EXEC without MULTI was taken")
	}
	if _, err := mux.New(mux.Options{Allow: []string{"subscribe"}, MaxInFlight: -1, Timeout: -1}); err == nil ||
		!strings.Contains(err.Error(), "dial") || !strings.Contains(err.Error(), "allow") || !strings.Contains(err.Error(), "max in flight") {
		t.Errorf("New: %v, want all problems", err)
	}
}

// TestTheTableKnowsTheServersFlags holds the table against what a real server says of its commands:
// nothing that blocks, subscribes or is only known to us as safe by mistake may be shared.
func TestTheTableKnowsTheServersFlags(t *testing.T) {
	s := redistest.Start(t)
	infos, err := s.Client(t).Command(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	for name, info := range infos {
		if mux.IsContainer(name) {
			continue
		}
		k := mux.Kind(name)
		if k == mux.Unknown {
			t.Errorf("%s is not in the table", name)
		}
		for _, flag := range info.Flags {
			switch {
			case flag == "blocking" && k.Shared() && name != "xread" && name != "xreadgroup",
				flag == "pubsub" && k.Shared() && name != "publish" && name != "spublish",
				flag == "write" && k == mux.Read:
				t.Errorf("%s has the flag %s and is %s", name, flag, k)
			}
		}
	}
}
