package upstream_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestTrack(t *testing.T) {
	s := redistest.Start(t)
	u := open(t, upstream.Options{URL: s.URL(), Shared: true})
	look, ctx := s.Client(t), t.Context()
	connections := func() int { return strings.Count(look.Do(ctx, "client", "list").Val().(string), "\n") - 1 }
	next := func(t *testing.T, sub *upstream.Subscription) upstream.Message {
		t.Helper()
		select {
		case m, ok := <-sub.C():
			if !ok {
				t.Fatalf("ended: %v", sub.Err())
			}
			return m
		case <-time.After(patience):
			t.Fatal("no push in time")
		}
		return upstream.Message{}
	}
	track := func(t *testing.T, prefixes ...string) *upstream.Subscription {
		t.Helper()
		sub, err := u.Bell().Track(ctx, prefixes...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = sub.Close() })
		return sub
	}

	t.Run("changes come on the connection of the subscriptions, those of one script together", func(t *testing.T) {
		before := connections()
		sub, news := track(t, "a:", "b:"), make(chan upstream.Message, 1)
		channel, err := u.Bell().Subscribe(ctx, "news")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = channel.Close() }()
		if n := connections() - before; n != 1 {
			t.Errorf("%d connections for both, want 1", n)
		}
		look.Eval(ctx, "redis.call('SET',KEYS[1],1) redis.call('LPUSH',KEYS[2],1)", []string{"a:1", "a:2"})
		got := next(t, sub).Keys
		slices.Sort(got)
		if !slices.Equal(got, []string{"a:1", "a:2"}) {
			t.Errorf("got %v", got)
		}
		look.Set(ctx, "c:1", 1, 0)
		look.Set(ctx, "b:1", 1, 0)
		if got := next(t, sub).Keys; !slices.Equal(got, []string{"b:1"}) {
			t.Errorf("got %v, want b:1 and nothing of c", got)
		}
		look.Publish(ctx, "news", "x")
		news <- next(t, channel)
		if m := <-news; string(m.Payload) != "x" || m.Keys != nil {
			t.Errorf("got %+v", m)
		}
		look.FlushAll(ctx)
		if got := next(t, sub); got.Keys != nil || got.Channel != "" {
			t.Errorf("after FLUSHALL: %+v, want a message without keys", got)
		}
		next(t, sub) // once for each prefix
	})

	t.Run("others may follow other keys, and stop", func(t *testing.T) {
		first, second := track(t, "x:"), track(t, "y:")
		look.Set(ctx, "y:1", 1, 0)
		next(t, second)
		_ = first.Close()
		eventually(t, "only the second follows", func() bool {
			look.MSet(ctx, "x:1", 1)
			look.MSet(ctx, "y:2", 1)
			return slices.Equal(next(t, second).Keys, []string{"y:2"})
		})
	})

	t.Run("after a loss it follows again and says that there was a gap", func(t *testing.T) {
		sub := track(t, "z:")
		if err := look.Do(ctx, "client", "kill", "skipme", "yes").Err(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-sub.Gaps():
		case <-time.After(patience):
			t.Fatal("nothing said of the gap")
		}
		look.Set(ctx, "z:1", 1, 0)
		if got := next(t, sub).Keys; !slices.Equal(got, []string{"z:1"}) {
			t.Errorf("got %v", got)
		}
	})

	t.Run("a server that does not know how refuses, and subscriptions work", func(t *testing.T) {
		for what, args := range map[string][]string{
			"without CLIENT":          {"--rename-command", "CLIENT", ""},
			"without the newer words": {"--rename-command", "HELLO", ""},
		} {
			old := redistest.Start(t, args...)
			u := open(t, upstream.Options{URL: old.URL(), Lazy: true})
			_, err := u.Bell().Track(ctx, "a:")
			if _, refusal := errors.AsType[redis.Error](err); !refusal {
				t.Errorf("%s: got %v, want a refusal", what, err)
			}
			sub, err := u.Bell().Subscribe(ctx, "news")
			if err != nil {
				t.Errorf("%s: %v", what, err)
				continue
			}
			old.Client(t).Publish(ctx, "news", "x")
			if m := next(t, sub); string(m.Payload) != "x" {
				t.Errorf("%s: got %+v", what, m)
			}
		}
	})

	t.Run("a server that is away is no refusal", func(t *testing.T) {
		away := open(t, upstream.Options{URL: "redis://" + closedPort(t), Lazy: true})
		_, err := away.Bell().Track(ctx, "x")
		if upstream.Classify(err) != upstream.Refused {
			t.Errorf("got %v, want class %s", err, upstream.Refused)
		}
	})
}
