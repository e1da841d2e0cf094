package upstream_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// serverCounts is INFO commandstats: calls and rejected calls by command, less what the looking
// client itself sent.
func serverCounts(t *testing.T, look *redis.Client, own map[string]int64) map[string]int64 {
	t.Helper()
	info, err := look.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int64{}
	for name, value := range upstream.ParseInfo(info) {
		var n int64
		for field := range strings.SplitSeq(value, ",") {
			k, v, _ := strings.Cut(field, "=")
			if k != "calls" && k != "rejected_calls" {
				continue
			}
			m, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			n += m
		}
		name = strings.TrimPrefix(name, "cmdstat_")
		if n -= own[name]; n != 0 {
			counts[name] = n
		}
	}
	return counts
}

// ourCounts is what the meter says was sent, by command.
func ourCounts(m *meter.Meter) map[string]int64 {
	counts := map[string]int64{}
	for _, r := range m.Snapshot().Rows {
		counts[r.Command] += r.Sent
	}
	return counts
}

// patience is how long a test waits for what is about to happen, on however busy a machine.
const patience = time.Minute

// eventually polls until ok, because a server counts a command after it was sent.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not within %s: %s", patience, what)
		case <-tick.C:
		}
	}
}

// wantEqual compares our counts with the server's. The looking client has sent HELLO, CONFIG
// RESETSTAT is not in its own statistics' past, and each look is one INFO more.
func wantEqual(t *testing.T, look *redis.Client, own map[string]int64, m *meter.Meter) {
	t.Helper()
	var diff string
	defer func() {
		if diff != "" {
			t.Logf("server's counts (-) and ours (+):\n%s", diff)
		}
	}()
	eventually(t, "our counts equal INFO commandstats", func() bool {
		diff = cmp.Diff(serverCounts(t, look, own), ourCounts(m))
		own["info"]++
		return diff == "" || t.Failed()
	})
}

func TestCountsEqualCommandStats(t *testing.T) {
	start := func(t *testing.T, o upstream.Options, args ...string) (*redistest.Server, *upstream.Upstream, *redis.Client, map[string]int64) {
		s := redistest.Start(t, args...)
		look := s.Client(t)
		if err := look.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if o.URL == "" {
			o.URL = s.URL()
		}
		return s, open(t, o), look, map[string]int64{"ping": 1, "hello": 1}
	}

	t.Run("with pipelines, transactions, pub/sub, errors and large values", func(t *testing.T) {
		_, u, look, own := start(t, upstream.Options{ClientName: "redisopt-test", DB: 3})
		ctx, c := t.Context(), u.As(meter.Cache)
		big := strings.Repeat("x", 300_000)
		for i := range 20 {
			c.Set(ctx, "big", big, 0)
			c.Get(ctx, "big")
			c.Incr(ctx, "big") // an error reply
			c.Get(ctx, fmt.Sprint("missing", i))
			c.Do(ctx, "get") // a wrong number of arguments is a rejected call
		}
		pipe := c.Pipeline()
		for i := range 500 {
			pipe.Set(ctx, fmt.Sprint("k", i), strings.Repeat("v", i), time.Hour)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Incr(ctx, "n")
			p.ConfigGet(ctx, "maxmemory")
			p.ClientList(ctx)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		err := c.Watch(ctx, func(tx *redis.Tx) error {
			_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
			return err
		}, "n")
		if err != nil {
			t.Fatal(err)
		}
		sub := c.Subscribe(ctx, "news")
		defer func() { _ = sub.Close() }()
		if _, err := sub.Receive(ctx); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			c.Publish(ctx, "news", "hello")
			if _, err := sub.ReceiveMessage(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if err := sub.PSubscribe(ctx, "a*", "b*"); err != nil {
			t.Fatal(err)
		}
		wantEqual(t, look, own, u.Meter())
	})

	t.Run("with many goroutines", func(t *testing.T) {
		_, u, look, own := start(t, upstream.Options{})
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for i := range 200 {
					u.As(meter.Queue).LPush(t.Context(), "list", i)
					u.As(meter.Cache).RPop(t.Context(), "list")
				}
			})
		}
		wg.Wait()
		wantEqual(t, look, own, u.Meter())
		for _, r := range u.Meter().Snapshot().Rows {
			wrong := r.Command == "lpush" && r.Component != meter.Queue || r.Command == "rpop" && r.Component != meter.Cache
			if wrong || r.Component == meter.Untagged {
				t.Errorf("%s charged to %s", r.Command, r.Component)
			}
		}
	})

	t.Run("when replies time out and the server runs the commands later", func(t *testing.T) {
		s, u, look, own := start(t, upstream.Options{}, "--enable-debug-command", "yes")
		c, sleeper := u.As(meter.Cache), s.Client(t)
		timeouts := 0
		for round := 0; round < 5 || u.Spent().Unanswered == 0 && round < 200; round++ { // a busy machine may sleep through some
			// The server does nothing for a while; what is sent meanwhile waits in its sockets, and is
			// run after its sender gave up and hung up.
			slept := make(chan error, 1)
			go func() { slept <- sleeper.Do(t.Context(), "debug", "sleep", "0.15").Err() }()
			for begin := time.Now(); time.Since(begin) < 100*time.Millisecond; {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				if upstream.Classify(c.Incr(ctx, "n").Err()) == upstream.Timedout {
					timeouts++
				}
				cancel()
			}
			if err := <-slept; err != nil {
				t.Fatal(err)
			}
			own["debug"]++
		}
		if timeouts == 0 {
			t.Fatal("nothing timed out")
		}
		own["hello"]++ // of the sleeper
		wantEqual(t, look, own, u.Meter())
		if u.Spent().Unanswered == 0 {
			t.Error("Unanswered = 0, want the timed out commands")
		}
	})

	t.Run("except for what the server itself drops, which is among the unanswered", func(t *testing.T) {
		_, u, look, own := start(t, upstream.Options{})
		// A paused server forgets the postponed commands of a client that hangs up.
		eventually(t, "an INCR times out while the server is paused", func() bool {
			if err := look.Do(t.Context(), "client", "pause", "1000", "all").Err(); err != nil {
				t.Fatal(err)
			}
			own["client|pause"]++
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			err := u.Client().Incr(ctx, "n").Err()
			if err != nil && upstream.Classify(err) != upstream.Timedout {
				t.Fatalf("INCR: %v, want a timeout", err)
			}
			return err != nil && u.Spent().Unanswered > 0 // on a busy machine the pause, or the time, may be over before it is sent
		})
		server := serverCounts(t, look, own)["incr"]
		ours, lost := ourCounts(u.Meter())["incr"], u.Spent().Unanswered
		if server > ours || server < ours-lost {
			t.Errorf("server ran %d, we sent %d, %d unanswered", server, ours, lost)
		}
	})

	t.Run("when connections are killed between commands", func(t *testing.T) {
		_, u, look, own := start(t, upstream.Options{})
		c := u.As(meter.Cache)
		for range 20 {
			if err := c.Incr(t.Context(), "n").Err(); err != nil {
				t.Fatalf("INCR after a kill: %v", err)
			}
			kill(t, look, own)
		}
		wantEqual(t, look, own, u.Meter())
	})

	t.Run("when connections are killed while commands block", func(t *testing.T) {
		_, u, look, own := start(t, upstream.Options{})
		c := u.As(meter.Queue)
		for i := range 10 {
			done := make(chan error, 1)
			go func() { done <- c.BLPop(t.Context(), 30*time.Second, "nothing").Err() }()
			eventually(t, "the command blocks", func() bool {
				list, err := look.ClientList(t.Context()).Result()
				own["client|list"]++
				return err == nil && strings.Contains(list, "cmd=blpop")
			})
			kill(t, look, own)
			if got := upstream.Classify(<-done); got != upstream.Reset {
				t.Fatalf("round %d: class %s, want %s", i, got, upstream.Reset)
			}
		}
		wantEqual(t, look, own, u.Meter())
	})

	t.Run("within what is unanswered, when connections are killed at random under load", func(t *testing.T) {
		_, u, look, own := start(t, upstream.Options{})
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						_ = u.As(meter.Cache).Incr(t.Context(), "n").Err()
						_ = u.As(meter.Cache).Get(t.Context(), "n").Err()
					}
				}
			})
		}
		for range 100 {
			kill(t, look, own)
		}
		close(stop)
		wg.Wait()
		server, ours := serverCounts(t, look, own), ourCounts(u.Meter())
		var ran, sent int64
		for _, n := range server {
			ran += n
		}
		for _, n := range ours {
			sent += n
		}
		got := u.Spent()
		if got.Commands != sent {
			t.Errorf("Spent %d, meter %d", got.Commands, sent)
		}
		if ran > sent || ran < sent-got.Unanswered {
			t.Errorf("server ran %d, we sent %d of which %d unanswered", ran, sent, got.Unanswered)
		}
		t.Logf("server ran %d, we sent %d of which %d unanswered", ran, sent, got.Unanswered)
	})

	t.Run("when the server goes away and comes back while a command waits for it", func(t *testing.T) {
		s, u, _, _ := start(t, upstream.Options{})
		s.Kill(t)
		done := make(chan error, 1)
		go func() {
			var err error
			for range 100 { // a machine under load may need longer than one command waits
				if err = u.As(meter.Cache).Incr(t.Context(), "n").Err(); err == nil {
					break
				}
			}
			done <- err
		}()
		s.Restart(t)
		if err := <-done; err != nil {
			t.Fatalf("INCR over a restart: %v", err)
		}
		look := s.Client(t)
		eventually(t, "the server counts one INCR", func() bool { return serverCounts(t, look, nil)["incr"] == 1 })
	})

	t.Run("when a password is wanted and every connection authenticates", func(t *testing.T) {
		_, u, look, own := start(t, upstream.Options{}, "--requirepass", "hush")
		for range 5 {
			if err := u.Client().Incr(t.Context(), "n").Err(); err != nil {
				t.Fatal(err)
			}
			kill(t, look, own)
		}
		wantEqual(t, look, own, u.Meter())
	})
}

// kill ends every connection but the looking one.
func kill(t *testing.T, look *redis.Client, own map[string]int64) {
	t.Helper()
	if err := look.Do(t.Context(), "client", "kill", "type", "normal", "skipme", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	own["client|kill"]++
}

func TestNothingIsSentTwice(t *testing.T) {
	t.Run("a write whose reply did not come is not sent again", func(t *testing.T) {
		s := redistest.Start(t, "--enable-debug-command", "yes")
		u := open(t, upstream.Options{URL: s.URL()})
		look, sleeper := s.Client(t), s.Client(t)
		want, lost := int64(0), error(nil)
		for lost == nil { // a busy machine may sleep through the server's sleep
			slept := make(chan error, 1)
			go func() { slept <- sleeper.Do(t.Context(), "debug", "sleep", "0.2").Err() }()
			for lost == nil && len(slept) == 0 {
				before := u.Spent()
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				err := u.Client().Incr(ctx, "n").Err()
				cancel()
				if err == nil {
					want++
				} else if after := u.Spent(); after.Unanswered > before.Unanswered && after.Writes > before.Writes {
					want++ // otherwise the time was up before it was sent
					lost = err
				}
			}
			if err := <-slept; err != nil {
				t.Fatal(err)
			}
		}
		if got := upstream.Classify(lost); got != upstream.Timedout {
			t.Fatalf("Classify(%v) = %s, want %s", lost, got, upstream.Timedout)
		}
		eventually(t, "the command is run once", func() bool {
			n, err := look.Get(t.Context(), "n").Int64()
			if n > want {
				t.Fatalf("n = %d, want %d", n, want)
			}
			return err == nil && n == want
		})
	})
}
