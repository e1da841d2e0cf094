package fleet

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestItWorksOnRedisAndInTheEmbeddedOne(t *testing.T) {
	server, err := embedded.Start(t.Context(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	opts, err := redis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	inProcess := redis.NewClient(opts)
	t.Cleanup(func() { _ = inProcess.Close() })
	for name, client := range map[string]redis.UniversalClient{"redis-server": redistest.Start(t).Client(t), "embedded": inProcess} {
		t.Run(name, func(t *testing.T) {
			counted := int64(0)
			replica := func(name string, n int) *Fleet {
				f, err := New(Options{
					Client: client, Replica: name, Instance: "1", Connections: n, Cap: 5, Wait: -1, Timeout: time.Minute,
					InScript: func(_ string, n int64) { counted += n },
				})
				if err != nil {
					t.Fatal(err)
				}
				return f
			}
			a, b := replica("a", 3), replica("b", 3)
			join(t, a)
			if _, full := errors.AsType[*FullError](b.Join(t.Context())); !full {
				t.Error("b: want a FullError")
			}
			if err := a.Resize(t.Context(), 2); err != nil {
				t.Error(err)
			}
			join(t, b)
			if _, full := errors.AsType[*FullError](a.Resize(t.Context(), 3)); !full {
				t.Error("a: want a FullError")
			}
			if plain, err := a.prolong(t.Context()); !plain && err == nil {
				err = a.renew(t.Context()) // a whole millisecond may not have passed
				if err != nil {
					t.Error(err)
				}
			}
			l, err := a.List(t.Context())
			if err != nil || l.Connections() != 5 || len(l.Holders) != 2 || len(l.Waiting) != 0 {
				t.Errorf("List = %+v, %v", l, err)
			}
			for _, f := range []*Fleet{a, b} {
				if err := f.Leave(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if got := client.HLen(t.Context(), DefaultKey).Val(); got != 1 {
				t.Errorf("%d fields are left, want the schema alone", got)
			}
			// join 3, refused without a line 2, resize 3, join 3, refused 2, perhaps a renewal 3
			if counted < 13 || counted > 16 {
				t.Errorf("%d commands counted in scripts, want 13, or 16", counted)
			}
		})
	}
}

func TestCommandsInTheScriptAreCountedAsTheServerCountsThem(t *testing.T) {
	client := redistest.Start(t).Client(t)
	counted := int64(0)
	f, err := New(Options{Client: client, Replica: "a", Instance: "1", Connections: 1, InScript: func(_ string, n int64) { counted += n }})
	if err != nil {
		t.Fatal(err)
	}
	client.HSet(t.Context(), DefaultKey, "until:gone/1", "5", "member:gone/1", "{}")
	before := client.Info(t.Context(), "commandstats").Val()
	join(t, f)
	after := client.Info(t.Context(), "commandstats").Val()
	calls := int64(0)
	for _, name := range []string{"time", "hgetall", "hset", "hdel"} {
		calls += int64(strings.Count(after, "cmdstat_"+name+":calls=1,"))
	}
	if calls+int64(strings.Count(after, "cmdstat_hset:calls=2,")) != counted || counted != 4 {
		t.Errorf("counted %d, the server %d\n%s\n%s", counted, calls, before, after)
	}
}

func TestOptionsSayEverythingThatIsWrong(t *testing.T) {
	_, err := New(Options{Replica: "a b", Connections: -1, Cap: -1, Renew: time.Minute, Lease: time.Minute})
	if err == nil {
		t.Fatal("want an error")
	}
	for _, part := range []string{"client: missing", "replica: got \"a b\"", "instance: got \"\"", "connections: got -1", "cap: got -1", "renew: got 1m0s", "lease: got 1m0s"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}
