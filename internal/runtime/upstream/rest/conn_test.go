package rest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream/rest"
)

func TestWhatWasWrittenLeavesAsOneRequest(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := client(t, newTransport(t, rest.Options{URL: f.URL}))
	ctx := t.Context()
	if err := c.Set(ctx, "k", "v\r\n\"\\\x00é", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got := c.Get(ctx, "k").Val(); got != "v\r\n\"\\\x00é" {
		t.Errorf("Get(k) = %q", got)
	}
	cmds, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, "a", 1, 0)
		p.HGet(ctx, "a", "f") // an error in the middle
		p.Get(ctx, "missing")
		p.Incr(ctx, "a")
		return nil
	})
	if err == nil || !strings.HasPrefix(err.Error(), "WRONGTYPE") {
		t.Errorf("Pipelined = %v, want the first error of a command", err)
	}
	if n := cmds[3].(*redis.IntCmd).Val(); n != 2 {
		t.Errorf("what followed an error = %d, want 2", n)
	}
	if !errors.Is(cmds[2].Err(), redis.Nil) {
		t.Errorf("Get(missing) = %v, want redis.Nil", cmds[2].Err())
	}
	want := []seen{
		{"/pipeline", "", [][]string{{"set", "k", "v\r\n\"\\\x00é"}}},
		{"/pipeline", "sync-1", [][]string{{"get", "k"}}},
		{"/pipeline", "sync-2", [][]string{{"set", "a", "1"}, {"hget", "a", "f"}, {"get", "missing"}, {"incr", "a"}}},
	}
	if diff := cmp.Diff(want, f.log()); diff != "" {
		t.Errorf("requests, the handshake not among them (-want +got):\n%s", diff)
	}
}

func TestATransactionIsOneRequest(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	tr := newTransport(t, rest.Options{URL: f.URL})
	c := client(t, tr)
	ctx := t.Context()
	cmds, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Incr(ctx, "n")
		p.HGet(ctx, "n", "f")
		p.Incr(ctx, "n")
		return nil
	})
	if err == nil || cmds[2].(*redis.IntCmd).Val() != 2 || cmds[1].Err() == nil {
		t.Errorf("TxPipelined = %v, %v: want the error of one command and the replies of the others", cmds, err)
	}
	if _, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, "x", "\xff", 0)
		p.Incr(ctx, "n")
		return nil
	}); err == nil || !strings.Contains(err.Error(), "UTF-8") {
		t.Errorf("a transaction with a command that cannot travel = %v, want the reason", err)
	}
	f.answer(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"ERR max requests limit exceeded. Limit: 5, Usage: 6"}`)
		return true
	})
	_, err = c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
	if err == nil || err.Error() != "EXECABORT Transaction discarded because of: ERR max requests limit exceeded. Limit: 5, Usage: 6" {
		t.Errorf("a transaction that was discarded = %v", err)
	}
	want := []seen{{"/multi-exec", "", [][]string{{"incr", "n"}, {"hget", "n", "f"}, {"incr", "n"}}}}
	if diff := cmp.Diff(want, f.log()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if n, err := f.redis.Get("n"); err != nil || n != "2" {
		t.Errorf("n = %s, %v, want 2: nothing of the discarded ones ran", n, err)
	}
}

// exchange writes and reads on a raw connection, as a multiplexer would.
func exchange(t *testing.T, c net.Conn, send, want string) {
	t.Helper()
	if _, err := io.WriteString(c, send); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("after %q: got %q, %v, want %q", send, got, err, want)
	}
}

func words(args ...string) string {
	s := fmt.Sprintf("*%d\r\n", len(args))
	for _, a := range args {
		s += fmt.Sprintf("$%d\r\n%s\r\n", len(a), a)
	}
	return s
}

func dial(t *testing.T, tr *rest.Transport) net.Conn {
	t.Helper()
	c, err := tr.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// readWithin sends s on a new connection and reads, for as long as d. On a busy machine the time may be up
// before the request is begun, which is told by another error; then it is done again.
func readWithin(t *testing.T, tr *rest.Transport, d time.Duration, s string) (net.Conn, error) {
	t.Helper()
	for {
		c := dial(t, tr)
		_ = c.SetReadDeadline(time.Now().Add(d))
		_, _ = io.WriteString(c, s)
		_, err := c.Read(make([]byte, 1))
		if _, begun := errors.AsType[*rest.Error](err); begun || !errors.Is(err, os.ErrDeadlineExceeded) {
			return c, err
		}
	}
}

func TestCommandsThatSetUpAConnectionAreAnsweredHere(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := dial(t, newTransport(t, rest.Options{URL: f.URL}))
	exchange(t, c, words("HELLO", "3"), "-ERR unknown command 'HELLO'\r\n")
	exchange(t, c, words("AUTH", "u", "p")+words("CLIENT", "SETINFO", "lib-name", "x")+words("client", "setname", "x")+words("SELECT", "0"),
		"+OK\r\n+OK\r\n+OK\r\n+OK\r\n")
	exchange(t, c, words("SELECT", "1"), "-ERR Command \"SELECT\" is not allowed in REST: there is only database 0\r\n")
	if got := f.log(); len(got) != 0 {
		t.Errorf("requests = %v, want none", got)
	}
	// Answers keep their place among those of the endpoint.
	exchange(t, c, words("SET", "a", "1")+words("SELECT", "0")+words("INCR", "a"), "+OK\r\n+OK\r\n:2\r\n")
	// A transaction may come in pieces.
	exchange(t, c, words("MULTI"), "+OK\r\n")
	exchange(t, c, words("INCR", "a")+words("MULTI"), "+QUEUED\r\n-ERR MULTI calls can not be nested\r\n")
	exchange(t, c, words("EXEC"), "*1\r\n:3\r\n")
	exchange(t, c, words("MULTI")+words("INCR", "a")+words("DISCARD")+words("EXEC")+words("GET", "a"),
		"+OK\r\n+QUEUED\r\n+OK\r\n-ERR EXEC without MULTI\r\n$1\r\n3\r\n")
	exchange(t, c, words("MULTI")+words("EXEC")+words("DISCARD"), "+OK\r\n*0\r\n-ERR DISCARD without MULTI\r\n")
}

func TestWhatHTTPCannotDoIsRefusedByName(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := client(t, newTransport(t, rest.Options{URL: f.URL}))
	for _, tt := range []struct {
		args []any
		want []string
	}{
		{[]any{"BLPOP", "q", 1}, []string{`"BLPOP" is not allowed in REST`, "blocks", "rediss://"}},
		{[]any{"bzpopmin", "q", 1}, []string{`"BZPOPMIN"`, "blocks"}},
		{[]any{"xread", "count", 1, "block", 0, "streams", "s", "$"}, []string{`"XREAD WITH BLOCK"`, "blocks"}},
		{[]any{"xreadgroup", "group", "block", "streams", "BLOCK", 5, "streams", "s", ">"}, []string{`"XREADGROUP WITH BLOCK"`}},
		{[]any{"wait", 1, 0}, []string{`"WAIT"`, "blocks"}},
		{[]any{"watch", "k"}, []string{`"WATCH"`, "script"}},
		{[]any{"subscribe", "c"}, []string{`"SUBSCRIBE"`, "stream of its own"}},
		{[]any{"monitor"}, []string{`"MONITOR"`}},
		{[]any{"client", "tracking", "on"}, []string{`"CLIENT TRACKING"`, "connection that stays"}},
		{[]any{"set", "k", "\xff\xfe"}, []string{"argument 2 of SET is not UTF-8", "base64"}},
		{[]any{"set", "\x80", "v"}, []string{"argument 1 of SET is not UTF-8"}},
		{[]any{"g\xffet", "v"}, []string{"argument 0"}},
	} {
		err := c.Do(t.Context(), tt.args...).Err()
		if err == nil {
			t.Errorf("%v: got no error", tt.args)
			continue
		}
		for _, w := range tt.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%v: got %q, want %q in it", tt.args, err, w)
			}
		}
	}
	if got := f.log(); len(got) != 0 {
		t.Errorf("requests = %v, want none", got)
	}
	for _, args := range [][]any{{"xread", "count", 1, "streams", "block", "0"}, {"xgroup", "create", "block", "g", "0", "mkstream"}, {"xreadgroup", "group", "g", "c", "streams", "block", ">"}} {
		if err := c.Do(t.Context(), args...).Err(); err != nil && !errors.Is(err, redis.Nil) {
			t.Errorf("%v = %v, want it to travel", args, err)
		}
	}
}

func TestReadsWaitForWrites(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	gate := make(chan struct{})
	f.answer(func(_ http.ResponseWriter, _ *http.Request) bool {
		<-gate
		return false
	})
	c := dial(t, newTransport(t, rest.Options{URL: f.URL}))
	read := make(chan string)
	go func() {
		buf := make([]byte, 256)
		for range 2 {
			n, err := c.Read(buf)
			read <- fmt.Sprint(string(buf[:n]), err)
		}
	}()
	send := func(s string) {
		if _, err := io.WriteString(c, s); err != nil {
			t.Error(err)
		}
	}
	send(words("SET", "a", "1"))
	gate <- struct{}{} // the request is under way
	if got := <-read; got != "+OK\r\n<nil>" {
		t.Errorf("first Read = %q", got)
	}
	f.answer(nil)
	// What comes in pieces waits until it is whole.
	cmd := words("GET", "a")
	send(cmd[:7])
	send(cmd[7:])
	if got := <-read; got != "$1\r\n1\r\n<nil>" {
		t.Errorf("second Read = %q", got)
	}
}

func TestWritesDuringARequestLeaveTogether(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	begun, gate := make(chan struct{}, 1), make(chan struct{})
	f.answer(func(_ http.ResponseWriter, _ *http.Request) bool {
		select {
		case begun <- struct{}{}:
		default:
		}
		<-gate
		return false
	})
	c := dial(t, newTransport(t, rest.Options{URL: f.URL}))
	all := make(chan string)
	go func() {
		got := make([]byte, len("+OK\r\n:2\r\n:3\r\n:4\r\n"))
		_, err := io.ReadFull(c, got)
		all <- fmt.Sprint(string(got), err)
	}()
	_, _ = io.WriteString(c, words("SET", "a", "1"))
	<-begun
	for range 3 {
		_, _ = io.WriteString(c, words("INCR", "a"))
	}
	close(gate)
	if got := <-all; got != "+OK\r\n:2\r\n:3\r\n:4\r\n<nil>" {
		t.Errorf("replies = %q", got)
	}
	if got := f.log(); len(got) != 2 || len(got[1].Commands) != 3 {
		t.Errorf("requests = %v, want one command and then three", got)
	}
}

func TestLongPipelinesAreDivided(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := client(t, newTransport(t, rest.Options{URL: f.URL, MaxBatch: 100, MaxRequestBytes: 3000}))
	ctx := t.Context()
	cmds, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range 250 {
			p.Incr(ctx, fmt.Sprint("n", i%3))
		}
		p.Set(ctx, "big", strings.Repeat("x", 5000), 0)
		p.Get(ctx, "big")
		return nil
	})
	if err != nil || cmds[249].(*redis.IntCmd).Val() != 84 || len(cmds[251].(*redis.StringCmd).Val()) != 5000 {
		t.Fatalf("Pipelined = %v", err)
	}
	var sizes []int
	for _, s := range f.log() {
		sizes = append(sizes, len(s.Commands))
	}
	if diff := cmp.Diff([]int{100, 100, 50, 1, 1}, sizes); diff != "" {
		t.Errorf("commands by request (-want +got):\n%s", diff)
	}
}

func TestDeadlines(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	f.answer(func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case <-r.Context().Done():
		case <-release:
		}
		return true
	})
	tr := newTransport(t, rest.Options{URL: f.URL, Timeout: 60 * time.Millisecond, BreakAfter: 100})

	t.Run("a read deadline bounds the request", func(t *testing.T) {
		begin := time.Now()
		c, err := readWithin(t, newTransport(t, rest.Options{URL: f.URL}), 20*time.Millisecond, words("GET", "a"))
		wantKind(t, err, rest.TimedOut)
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() || time.Since(begin) > patience/2 {
			t.Errorf("Read = %v after %s, want a timeout in time", err, time.Since(begin))
		}
		if _, again := c.Write([]byte(words("GET", "a"))); again == nil {
			t.Error("Write after a lost reply: got no error, want one, as places can no longer be told")
		}
	})
	t.Run("without one the timeout does", func(t *testing.T) {
		c := dial(t, tr)
		_ = c.SetReadDeadline(time.Time{})
		_, _ = io.WriteString(c, words("GET", "a"))
		_, err := c.Read(make([]byte, 1))
		wantKind(t, err, rest.TimedOut)
	})
	t.Run("one that is set later ends a Read that waits", func(t *testing.T) {
		c := dial(t, tr)
		failed := make(chan error)
		go func() {
			_, err := c.Read(make([]byte, 1))
			failed <- err
		}()
		_ = c.SetDeadline(time.Now().Add(-time.Second))
		if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read = %v, want os.ErrDeadlineExceeded", err)
		}
	})
	t.Run("Close ends a Read that waits and one whose request is under way", func(t *testing.T) {
		for _, send := range []string{"", words("GET", "a")} {
			c := dial(t, newTransport(t, rest.Options{URL: f.URL}))
			_, _ = io.WriteString(c, send)
			failed := make(chan error)
			go func() {
				_, err := c.Read(make([]byte, 1))
				failed <- err
			}()
			_ = c.Close()
			if err := <-failed; err == nil {
				t.Error("Read = nil, want an error")
			}
		}
	})
	t.Run("a context that has ended sends nothing", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := tr.Dial(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Dial = %v, want context.Canceled", err)
		}
	})
}

func TestManyGoroutines(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := client(t, newTransport(t, rest.Options{URL: f.URL}))
	var wg sync.WaitGroup
	for g := range 50 {
		wg.Go(func() {
			key := fmt.Sprint("k", g)
			for i := range 5 {
				if n, err := c.Incr(t.Context(), key).Result(); err != nil || n != int64(i+1) {
					t.Errorf("Incr(%s) = %d, %v, want %d", key, n, err, i+1)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestCounting(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var mu sync.Mutex
	var total rest.Spent
	m := meter.New()
	limit := errors.New("no more")
	left := 7
	tr := newTransport(t, rest.Options{URL: f.URL, Observer: rest.Observer{
		Meter: m,
		Tag: func(d time.Time) (meter.Component, bool) {
			return meter.Component(d.Location().String()), true
		},
		Spent: func(s rest.Spent) {
			mu.Lock()
			defer mu.Unlock()
			total.Commands += s.Commands
			total.Writes += s.Writes
			total.Unanswered += s.Unanswered
		},
		Admit: func(meter.Component, string) error {
			mu.Lock()
			defer mu.Unlock()
			if left == 0 {
				return limit
			}
			left--
			return nil
		},
		Refund: func(n int) {
			mu.Lock()
			defer mu.Unlock()
			left += n
		},
	}})
	c := dial(t, tr)
	_ = c.SetWriteDeadline(time.Now().In(time.FixedZone("cache", 0)))
	exchange(t, c, words("SET", "a", "1")+words("GET", "a")+words("HGET", "a", "f"), "+OK\r\n$1\r\n1\r\n-WRONGTYPE Operation against a key holding the wrong kind of value\r\n")
	_ = c.SetWriteDeadline(time.Now().In(time.FixedZone("sms", 0)))
	exchange(t, c, words("MULTI")+words("INCR", "a")+words("EXEC"), "+OK\r\n+QUEUED\r\n*1\r\n:2\r\n")
	exchange(t, c, words("BLPOP", "q", "0"), "-ERR Command \"BLPOP\" is not allowed in REST: it blocks, and a request over HTTP does not wait; use a redis:// or rediss:// upstream for it\r\n")

	// Refusals in words by the endpoint are no commands that ran.
	f.answer(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"error":"WRONGPASS no"}`)
		return true
	})
	exchange(t, c, words("GET", "a"), "-WRONGPASS no\r\n")
	f.answer(nil)

	// A transaction is admitted as a whole; of a pipeline what is allowed is sent.
	d := dial(t, tr)
	_, _ = io.WriteString(d, words("MULTI")+words("INCR", "a")+words("EXEC"))
	if _, err := io.ReadAll(d); !errors.Is(err, limit) {
		t.Errorf("a transaction over the limit = %v, want its error", err)
	}
	e := dial(t, tr)
	_ = e.SetWriteDeadline(time.Now().In(time.FixedZone("sms", 0)))
	_, _ = io.WriteString(e, words("INCR", "a")+words("INCR", "a"))
	got, err := io.ReadAll(e)
	if string(got) != ":3\r\n" || !errors.Is(err, limit) {
		t.Errorf("a pipeline over the limit = %q, %v, want one reply and the error", got, err)
	}

	counts := map[string]int64{}
	for _, r := range m.Snapshot().Rows {
		if r.Sent > 0 {
			counts[fmt.Sprint(r.Component, " ", r.Command)] = r.Sent
		}
	}
	want := map[string]int64{
		"cache set": 1, "cache get": 1, "cache hget": 1,
		"sms multi": 1, "sms incr": 2, "sms exec": 1,
	}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if total != (rest.Spent{Commands: 7, Writes: 3}) {
		t.Errorf("spent = %+v, want 7 commands of which 3 write", total)
	}
}

func wantKind(t *testing.T, err error, kind rest.Kind) {
	t.Helper()
	e, ok := errors.AsType[*rest.Error](err)
	if !ok || e.Kind != kind {
		t.Errorf("got %v (%T), want a %s", err, err, kind)
	}
}

// TestWritesMayBeCutAnywhere plays a multiplexer: one goroutine writes, in pieces of any size, and
// another reads, and every reply is that of its command.
func TestWritesMayBeCutAnywhere(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := dial(t, newTransport(t, rest.Options{URL: f.URL, MaxBatch: 7}))
	rng := rand.New(rand.NewPCG(1, 2))
	var send, want strings.Builder
	count := 0
	for i := range 400 {
		switch rng.IntN(6) {
		case 0:
			send.WriteString(words("SELECT", "0"))
			want.WriteString("+OK\r\n")
		case 1:
			send.WriteString(words("BLPOP", "q", "1"))
			want.WriteString("-ERR Command \"BLPOP\" is not allowed in REST: it blocks, and a request over HTTP does not wait; use a redis:// or rediss:// upstream for it\r\n")
		case 2:
			send.WriteString(words("MULTI") + words("INCR", "n") + words("INCR", "n") + words("EXEC"))
			fmt.Fprintf(&want, "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:%d\r\n:%d\r\n", count+1, count+2)
			count += 2
		case 3:
			text := strings.Repeat(fmt.Sprint(i, " é "), rng.IntN(300))
			send.WriteString(words("ECHO", text))
			fmt.Fprintf(&want, "$%d\r\n%s\r\n", len(text), text)
		default:
			send.WriteString(words("INCR", "n"))
			count++
			fmt.Fprintf(&want, ":%d\r\n", count)
		}
	}
	go func() {
		for rest := send.String(); rest != ""; {
			n := min(rng.IntN(1+rng.IntN(4000))+1, len(rest))
			if _, err := io.WriteString(c, rest[:n]); err != nil {
				t.Errorf("Write: %v", err)
				return
			}
			rest = rest[n:]
			if rng.IntN(3) == 0 {
				runtime.Gosched()
			}
		}
	}()
	got := make([]byte, want.Len())
	n, err := io.ReadFull(c, got)
	if diff := cmp.Diff(want.String(), string(got[:n])); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
