package upstream_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// connections is how many connections the server has besides the looking one.
func connections(t *testing.T, look *redis.Client) int {
	t.Helper()
	list, err := look.ClientList(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(list, "\n") - 1
}

func TestConnectionCap(t *testing.T) {
	t.Run("three connections carry 32 goroutines, pipelines, blocking commands and pub/sub", func(t *testing.T) {
		s := redistest.Start(t)
		u := open(t, upstream.Options{URL: s.URL()})
		look, ctx := s.Client(t), t.Context()
		sub := u.As(meter.Control).Subscribe(ctx, "news")
		defer func() { _ = sub.Close() }()
		if _, err := sub.Receive(ctx); err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				c := u.As(meter.Queue)
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					pipe := c.Pipeline()
					for j := range 10 {
						pipe.Set(ctx, fmt.Sprint("k", i, j), n, 0)
					}
					_, _ = pipe.Exec(ctx)
					_ = c.BLPop(ctx, 10*time.Millisecond, "nothing").Err()
				}
			})
		}
		most := 0
		begin := time.Now()
		for n := 0; n < 50 || most < 3 && time.Since(begin) < patience; n++ {
			most = max(most, connections(t, look))
		}
		close(stop)
		wg.Wait()
		if most != 3 {
			t.Errorf("CLIENT LIST showed up to %d connections, want 3", most)
		}
		if got := len(u.Connections()); got > 3 {
			t.Errorf("Connections() = %d, want at most 3", got)
		}
	})

	t.Run("a fourth is refused with an error that names who asked and who has them", func(t *testing.T) {
		s := redistest.Start(t)
		u := open(t, upstream.Options{URL: s.URL(), Component: meter.Audit})
		look, ctx := s.Client(t), t.Context()
		for _, c := range []meter.Component{meter.Cache, meter.Queue} {
			sub := u.As(c).Subscribe(ctx, "news")
			defer func() { _ = sub.Close() }()
			if _, err := sub.Receive(ctx); err != nil {
				t.Fatal(err)
			}
		}
		sub := u.As(meter.SMS).Subscribe(ctx, "news")
		defer func() { _ = sub.Close() }()
		_, err := sub.Receive(ctx)
		var limit *upstream.CapError
		if !errors.As(err, &limit) {
			t.Fatalf("fourth connection: %v, want a *CapError", err)
		}
		if limit.Asked != meter.SMS || limit.For != "pub/sub" || limit.Cap != 3 || len(limit.Holders) != 3 {
			t.Errorf("got %+v, want sms asking for pub/sub, cap 3, three holders", limit)
		}
		wantText(t, err, "sms asked", "max_connections is 3", "pub/sub by cache", "pub/sub by queue", "commands by audit")
		if got := upstream.Classify(err); got != upstream.ConnectionLimit {
			t.Errorf("class %s, want %s", got, upstream.ConnectionLimit)
		}
		if n := connections(t, look); n != 3 {
			t.Errorf("CLIENT LIST shows %d, want 3", n)
		}
	})

	t.Run("a single connection carries commands, and pub/sub is refused", func(t *testing.T) {
		s := redistest.Start(t)
		u := open(t, upstream.Options{URL: s.URL(), MaxConnections: 1})
		look, ctx := s.Client(t), t.Context()
		sub := u.As(meter.Queue).Subscribe(ctx, "news")
		defer func() { _ = sub.Close() }()
		_, err := sub.Receive(ctx)
		var limit *upstream.CapError
		if !errors.As(err, &limit) || limit.Asked != meter.Queue {
			t.Errorf("SUBSCRIBE: %v, want a *CapError for queue", err)
		}
		if err := u.As(meter.Cache).Set(ctx, "k", "v", 0).Err(); err != nil {
			t.Errorf("SET: %v", err)
		}
		if n := connections(t, look); n != 1 {
			t.Errorf("CLIENT LIST shows %d, want 1", n)
		}
	})

	t.Run("nothing is left after Close", func(t *testing.T) {
		s := redistest.Start(t)
		u := open(t, upstream.Options{URL: s.URL()})
		look := s.Client(t)
		if n := connections(t, look); n != 1 {
			t.Errorf("%d after Open, want 1", n)
		}
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the connections are gone", func() bool { return connections(t, look) == 0 })
		if n := len(u.Connections()); n != 0 {
			t.Errorf("Connections() = %d after Close", n)
		}
	})

	t.Run("a failed Open leaves nothing", func(t *testing.T) {
		s := redistest.Start(t, "--requirepass", "hush")
		_ = failOpen(t, upstream.Options{URL: "redis://:wrong@" + s.Addr}, upstream.Auth)
		look := s.Client(t)
		eventually(t, "the connections are gone", func() bool { return connections(t, look) == 0 })
	})

	t.Run("idle connections are kept and not replaced while a server restarts", func(t *testing.T) {
		s := redistest.Start(t)
		u := open(t, upstream.Options{URL: s.URL()})
		for range 3 {
			s.Kill(t)
			s.Restart(t)
			if err := u.Client().Set(t.Context(), "k", "v", 0).Err(); err != nil {
				t.Fatalf("SET after a restart: %v", err)
			}
			if n := connections(t, s.Client(t)); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		}
	})
}

func TestMaxCommands(t *testing.T) {
	t.Run("the command that would exceed the limit is not sent", func(t *testing.T) {
		s := redistest.Start(t)
		u := open(t, upstream.Options{URL: s.URL(), MaxCommands: 10}) // 2 are spent by Open
		look, ctx := s.Client(t), t.Context()
		for i := range 8 {
			if err := u.As(meter.Migrate).Incr(ctx, "n").Err(); err != nil {
				t.Fatalf("command %d: %v", i+3, err)
			}
		}
		err := u.As(meter.Migrate).Incr(ctx, "n").Err()
		var spend *upstream.SpendError
		if !errors.As(err, &spend) {
			t.Fatalf("command 11: %v, want a *SpendError", err)
		}
		if spend.Limit != 10 || spend.Spent != 10 || spend.Command != "incr" || spend.Component != meter.Migrate {
			t.Errorf("got %+v", spend)
		}
		wantText(t, err, "10 of 10 commands spent", "incr by migrate not sent")
		if n, _ := look.Get(ctx, "n").Int(); n != 8 {
			t.Errorf("n = %d, want 8", n)
		}
	})

	t.Run("a batch that does not fit is not sent in part", func(t *testing.T) {
		s := redistest.Start(t)
		u := open(t, upstream.Options{URL: s.URL(), MaxCommands: 10})
		look, ctx := s.Client(t), t.Context()
		pipe := u.Client().TxPipeline()
		for range 7 { // and MULTI and EXEC
			pipe.Incr(ctx, "n")
		}
		_, err := pipe.Exec(ctx)
		if got := upstream.Classify(err); got != upstream.Spend {
			t.Fatalf("Exec: %v, want class %s", err, upstream.Spend)
		}
		if n, _ := look.Exists(ctx, "n").Result(); n != 0 {
			t.Error("part of the batch was sent")
		}
		if got := u.Spent().Commands; got != 2 {
			t.Errorf("Commands = %d, want 2", got)
		}
		if err := u.Client().Incr(ctx, "n").Err(); err != nil {
			t.Errorf("a command that fits: %v", err)
		}
	})

	t.Run("many goroutines together never exceed it", func(t *testing.T) {
		s := redistest.Start(t)
		u := open(t, upstream.Options{URL: s.URL(), MaxCommands: 500})
		look, ctx := s.Client(t), t.Context()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 200 {
					_ = u.Client().Incr(ctx, "n").Err()
				}
			})
		}
		wg.Wait()
		n, err := look.Get(ctx, "n").Int64()
		if err != nil {
			t.Fatal(err)
		}
		if got := u.Spent().Commands; got > 500 || n > got {
			t.Errorf("sent %d, server ran %d, want at most 500", got, n)
		}
	})

	t.Run("the commands that set up a connection count, and can be refused", func(t *testing.T) {
		s := redistest.Start(t)
		_ = failOpen(t, upstream.Options{URL: s.URL(), MaxCommands: 1}, upstream.Spend)
	})

	t.Run("pub/sub, which passes no hook, is refused at the socket", func(t *testing.T) {
		s := redistest.Start(t)
		u := open(t, upstream.Options{URL: s.URL(), MaxCommands: 3})
		sub := u.Client().Subscribe(t.Context(), "news")
		defer func() { _ = sub.Close() }()
		if _, err := sub.Receive(t.Context()); upstream.Classify(err) != upstream.Spend {
			t.Errorf("SUBSCRIBE as the fourth command: %v, want class %s", err, upstream.Spend)
		}
		if got := u.Spent().Commands; got != 3 {
			t.Errorf("Commands = %d, want 3", got)
		}
	})
}

func TestReadOnly(t *testing.T) {
	s := redistest.Start(t)
	u := open(t, upstream.Options{URL: s.URL(), ReadOnly: true, Component: meter.Audit})
	look, ctx := s.Client(t), t.Context()
	look.Set(ctx, "k", "v", 0)

	refused := [][]any{
		{"set", "k", "x"},
		{"SET", "k", "x"},
		{"flushall"},
		{"eval", "return redis.call('set','k','x')", 0},
		{"evalsha", strings.Repeat("0", 40), 0},
		{"config", "set", "maxmemory", "1"},
		{"CONFIG", "RESETSTAT"},
		{"client", "kill", "type", "normal"},
		{"client", "pause", "1"},
		{"script", "flush"},
		{"debug", "sleep", "0"},
		{"publish", "a", "b"},
		{"blpop", "k", "1"},
		{"xreadgroup", "group", "g", "c", "streams", "k", ">"},
		{"getdel", "k"},
		{"getex", "k", "persist"},
		{"sort", "k", "store", "l"},
		{"a command nobody knows"},
		{"set k x"},
		{[]byte("flushall")},
	}
	for _, args := range refused {
		t.Run(fmt.Sprintf("%v is refused", args[0])+fmt.Sprint(args[1:]), func(t *testing.T) {
			before := u.Spent()
			err := u.Client().Do(ctx, args...).Err()
			if _, ok := errors.AsType[*upstream.ReadOnlyError](err); !ok {
				t.Errorf("%v: %v, want a *ReadOnlyError", args, err)
			}
			if after := u.Spent(); after.Commands != before.Commands {
				t.Error("it was sent")
			}
		})
	}
	t.Run("a batch with one write is refused whole", func(t *testing.T) {
		pipe := u.Client().Pipeline()
		pipe.Get(ctx, "k")
		pipe.Del(ctx, "k")
		if _, err := pipe.Exec(ctx); upstream.Classify(err) != upstream.ReadOnly {
			t.Errorf("Exec: %v, want class %s", err, upstream.ReadOnly)
		}
	})
	t.Run("what only reads is sent", func(t *testing.T) {
		for _, args := range [][]any{
			{"get", "k"},
			{"info"},
			{"client", "list"},
			{"CONFIG", "GET", "maxmemory"},
			{"scan", 0},
			{"ttl", "k"},
			{"memory", "usage", "k"},
			{"object", "encoding", "k"},
			{"eval_ro", "return redis.call('get','k')", 0},
		} {
			if err := u.Client().Do(ctx, args...).Err(); err != nil {
				t.Errorf("%v: %v", args, err)
			}
		}
		if got := u.Spent().Writes; got != 0 {
			t.Errorf("Writes = %d, want 0", got)
		}
	})
	t.Run("nothing has changed", func(t *testing.T) {
		if v := look.Get(ctx, "k").Val(); v != "v" {
			t.Errorf("k = %q, want v", v)
		}
	})
}
