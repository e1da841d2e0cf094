package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// median is the middle one: a machine that stood still for a moment moves it by nothing.
func median(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)/2]
}

// raw runs one command through the Mux of u and returns the reply.
func raw(ctx context.Context, u *upstream.Upstream, args ...string) (string, error) {
	m, err := u.Mux()
	if err != nil {
		return "", err
	}
	c := m.NewCall(meter.Gateway)
	defer c.Release()
	words := make([][]byte, len(args))
	for i, a := range args {
		words[i] = []byte(a)
	}
	if err := c.Append(words...); err != nil {
		return "", err
	}
	if err := m.Do(ctx, c); err != nil {
		return "", err
	}
	return string(c.Reply()), nil
}

func TestShared(t *testing.T) {
	t.Run("500 goroutines with commands, pipelines, subscriptions, WATCH and MONITOR hold three connections", func(t *testing.T) {
		s := redistest.Start(t)
		u := open(t, upstream.PatientWithServers(upstream.Options{URL: s.URL(), Shared: true}, patience))
		look, ctx := s.Client(t), t.Context()
		stop := make(chan struct{})
		var wg sync.WaitGroup
		var did [5]atomic.Int64
		for i := range 500 {
			wg.Go(func() {
				c := u.As(meter.Components()[i%5])
				for {
					select {
					case <-stop:
						return
					default:
					}
					kind, err := i%5, error(nil)
					switch kind {
					case 0:
						err = c.Incr(ctx, "n").Err()
					case 1:
						_, err = c.Pipelined(ctx, func(p redis.Pipeliner) error {
							p.Get(ctx, "n")
							p.Set(ctx, fmt.Sprint("k", i), i, 0)
							return nil
						})
					case 2:
						_, err = raw(ctx, u, "GET", "n")
					case 3:
						sub := c.Subscribe(ctx, fmt.Sprint("channel", i%20))
						_, err = sub.Receive(ctx)
						_ = sub.Close()
					case 4:
						err = laneWork(ctx, u, c, i)
					}
					if err == nil || errors.Is(err, redis.TxFailedErr) {
						did[kind].Add(1)
					}
				}
			})
		}
		most, worst := 0, ""
		begin := time.Now()
		enough := func() bool {
			for i := range did {
				if did[i].Load() < 3 {
					return false
				}
			}
			return time.Since(begin) >= 700*time.Millisecond
		}
		for !enough() && time.Since(begin) < patience {
			list, err := look.ClientList(ctx).Result()
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(list, "\n") - 1; n > most {
				most, worst = n, list
			}
		}
		close(stop)
		wg.Wait()
		if most > 3 {
			t.Log(worst)
			t.Errorf("CLIENT LIST showed up to %d connections, want at most 3", most)
		}
		for i := range did {
			if did[i].Load() == 0 {
				t.Errorf("kind %d of work never succeeded", i)
			}
		}
	})

	t.Run("our counts equal INFO commandstats, over commands, transactions, WATCH, scripts and subscriptions", func(t *testing.T) {
		s := redistest.Start(t)
		look := s.Client(t)
		if err := look.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		own := map[string]int64{"ping": 1, "hello": 1}
		u := open(t, upstream.Options{URL: s.URL(), Shared: true, ClientName: "test", DB: 3})
		ctx := t.Context()
		sub, err := u.Bell().Subscribe(ctx, "news")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = sub.Close() }()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				c := u.As(meter.Cache)
				for range 20 {
					c.Set(ctx, "big", strings.Repeat("x", 20_000), 0)
					c.Incr(ctx, "big")
					c.Do(ctx, "get")
					_, _ = c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
					c.Eval(ctx, "return 1", nil)
					_, _ = raw(ctx, u, "GET", "n")
				}
				if i == 0 {
					_ = c.Watch(ctx, func(tx *redis.Tx) error {
						_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "own"); return nil })
						return err
					}, "own") // of nobody else: what a failed EXEC drops, the server does not count
				}
				short, cancel := context.WithTimeout(ctx, time.Microsecond)
				defer cancel()
				c.Incr(short, "late")
			})
		}
		wg.Wait()
		wantEqual(t, look, own, u.Meter())
		total := int64(0)
		for _, n := range ourCounts(u.Meter()) {
			total += n
		}
		if got := u.Spent().Commands; got != total {
			t.Errorf("Spent %d, meter %d", got, total)
		}
	})

	t.Run("killed connections under load: what ran is within what we sent", func(t *testing.T) {
		s := redistest.Start(t)
		look := s.Client(t)
		u := open(t, upstream.Options{URL: s.URL(), Shared: true})
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
						_, _ = raw(t.Context(), u, "INCR", "n")
					}
				}
			})
		}
		own := map[string]int64{"hello": 1}
		for range 50 {
			kill(t, look, own)
		}
		close(stop)
		wg.Wait()
		var ran, sent int64
		for _, n := range serverCounts(t, look, own) {
			ran += n
		}
		for _, n := range ourCounts(u.Meter()) {
			sent += n
		}
		got := u.Spent()
		if got.Commands != sent || ran > sent || ran < sent-got.Unanswered {
			t.Errorf("server ran %d, we sent %d (spent %d) of which %d unanswered", ran, sent, got.Commands, got.Unanswered)
		}
	})

	t.Run("limits hold: read-only, and the number of commands", func(t *testing.T) {
		s := redistest.Start(t)
		u := open(t, upstream.Options{URL: s.URL(), Shared: true, ReadOnly: true})
		if _, err := raw(t.Context(), u, "SET", "k", "v"); upstream.Classify(err) != upstream.ReadOnly {
			t.Errorf("SET: %v, want class %s", err, upstream.ReadOnly)
		}
		u = open(t, upstream.Options{URL: s.URL(), Shared: true, MaxCommands: 10})
		for i := range 20 {
			_, err := raw(t.Context(), u, "INCR", "n")
			if want := map[bool]upstream.Class{true: upstream.None, false: upstream.Spend}[i < 8]; upstream.Classify(err) != want {
				t.Errorf("command %d: %v, want class %q", i, err, want)
			}
		}
		if got := u.Spent().Commands; got != 10 {
			t.Errorf("Commands = %d, want 10", got)
		}
	})

	t.Run("a wrong password and a server that is away are told apart", func(t *testing.T) {
		s := redistest.Start(t, "--requirepass", "hush")
		_ = failOpen(t, upstream.Options{URL: "redis://:wrong@" + s.Addr, Shared: true}, upstream.Auth)
		_ = failOpen(t, upstream.Options{URL: "redis://" + s.Addr, Shared: true}, upstream.Auth)
		_ = open(t, upstream.Options{URL: s.URL(), Shared: true, DB: 2})
		_ = failOpen(t, upstream.Options{URL: "redis://" + closedPort(t), Shared: true}, upstream.Refused)
		_ = failOpen(t, upstream.Options{Cluster: []string{s.Addr}, Shared: true}, upstream.BadOptions)
		_ = failOpen(t, upstream.Options{URL: s.URL(), Protocol: 3, Shared: true}, upstream.BadOptions)
	})

	t.Run("with Sentinels the master is found", func(t *testing.T) {
		master := redistest.Start(t)
		sentinel := redistest.StartSentinel(t, master)
		u := open(t, upstream.Options{Sentinel: upstream.Sentinel{Addrs: []string{sentinel.Addr}, Master: "mymaster"}, Shared: true})
		if err := u.Client().Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		sub, err := u.Bell().Subscribe(t.Context(), "news")
		if err != nil {
			t.Fatal(err)
		}
		_ = sub.Close()
	})

	t.Run("an outage: errors at once, then it works again, and no goroutine is left", func(t *testing.T) {
		s := redistest.Start(t)
		before := runtime.NumGoroutine()
		u, err := upstream.Open(t.Context(), upstream.Options{URL: s.URL(), Shared: true})
		if err != nil {
			t.Fatal(err)
		}
		s.Kill(t)
		var took []time.Duration
		for range 200 {
			begin := time.Now()
			if err := u.Client().Set(t.Context(), "k", "v", 0).Err(); err == nil {
				t.Fatal("SET without a server succeeded")
			}
			took = append(took, time.Since(begin))
		}
		if usual := median(took); usual > 15*time.Millisecond {
			t.Errorf("a command without a server usually takes %s", usual)
		}
		s.Restart(t)
		begin := time.Now()
		eventually(t, "it works again", func() bool {
			asked := time.Since(begin)
			err := u.Client().Set(t.Context(), "k", "v", 0).Err()
			if err != nil && asked > 2*time.Second {
				t.Fatalf("%s after the server came back: %v", asked, err)
			}
			return err == nil
		})
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
	})

	t.Run("a subscription that the server does not confirm in time is told to its reader, who has it once it does", func(t *testing.T) {
		var confirms atomic.Bool
		addr := listen(t, resp(func(args []string) string {
			switch strings.ToLower(args[0]) {
			case "hello":
				return "-ERR unknown command 'HELLO'\r\n"
			case "subscribe":
				if !confirms.Load() {
					return "*3\r\n" // and never more
				}
				return fmt.Sprintf("*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:1\r\n", len(args[1]), args[1])
			}
			return "+PONG\r\n"
		}))
		u := open(t, upstream.Options{URL: "redis://" + addr, Shared: true, Lazy: true, Timeout: 50 * time.Millisecond})
		sub := u.Client().Subscribe(t.Context(), "news")
		defer func() { _ = sub.Close() }()
		if got, err := sub.ReceiveTimeout(t.Context(), patience); err == nil {
			t.Fatalf("Receive = %v, want an error", got)
		}
		confirms.Store(true)
		eventually(t, "it is confirmed", func() bool {
			got, err := sub.ReceiveTimeout(t.Context(), time.Second)
			_, is := got.(*redis.Subscription)
			return err == nil && is
		})
	})

	t.Run("lazily opened, it needs no server", func(t *testing.T) {
		u := open(t, upstream.Options{URL: "redis://" + closedPort(t), Shared: true, Lazy: true})
		if err := u.Client().Get(t.Context(), "k").Err(); upstream.Classify(err) != upstream.Refused {
			t.Errorf("GET: %v, want class %s", err, upstream.Refused)
		}
	})

	t.Run("what it is over TCP", func(t *testing.T) {
		s := redistest.Start(t)
		u := open(t, upstream.Options{URL: s.URL()})
		if !u.BinarySafe() || u.Transport() != "tcp" {
			t.Errorf("BinarySafe %t, Transport %s", u.BinarySafe(), u.Transport())
		}
		if got, err := raw(t.Context(), u, "PING"); err != nil || got != "+PONG\r\n" {
			t.Errorf("PING beside a pool: %q, %v", got, err)
		}
	})
}

// laneWork uses what cannot share.
func laneWork(ctx context.Context, u *upstream.Upstream, c redis.UniversalClient, i int) error {
	if i%100 == 4 {
		m, err := u.Mux()
		if err != nil {
			return err
		}
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		st, err := m.Stream(short, meter.Gateway, []byte("MONITOR"))
		if err != nil {
			return err
		}
		_, err = st.Read(make([]byte, 10))
		return errors.Join(err, st.Close())
	}
	// Some give up, which has to work too, and some wait for their turn.
	limit := 200 * time.Millisecond
	if i%10 == 9 {
		limit = patience
	}
	turn, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return c.Watch(turn, func(tx *redis.Tx) error {
		_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "watched"); return nil })
		return err
	}, "watched")
}

func TestMuxOfACluster(t *testing.T) {
	u := open(t, upstream.Options{Cluster: []string{closedPort(t)}, Lazy: true})
	_, err := u.Mux()
	wantText(t, err, "a cluster has no shared connection", "use a client")
}

func TestErrorsOfTheSharedConnection(t *testing.T) {
	for _, c := range []struct {
		err  error
		want upstream.Class
	}{
		{&mux.BusyError{What: "commands"}, upstream.Timedout},
		{&mux.ReplyTooLargeError{}, upstream.RequestSize},
		{&mux.PolicyError{Command: "monitor"}, upstream.Unavailable},
		{&mux.OutcomeError{Err: &mux.ProtocolError{First: []byte("HTTP/1.1 400")}}, upstream.NotRedis},
		{&mux.OutcomeError{Err: &mux.ProtocolError{First: []byte("+OK")}}, upstream.NotRedis},
		{&mux.OutcomeError{Err: context.DeadlineExceeded}, upstream.Timedout},
		{&mux.OutcomeError{Err: mux.ErrStalled}, upstream.Timedout},
		{&mux.OutcomeError{Err: mux.ErrClosed}, upstream.Reset},
	} {
		if got := upstream.Classify(c.err); got != c.want {
			t.Errorf("Classify(%v) = %s, want %s", c.err, got, c.want)
		}
	}
}
