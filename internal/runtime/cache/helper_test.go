package cache_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/redisopt/redisopt/internal/runtime/cache"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// patience is how long a real server may take where time is not what is tested: one that is slow because the
// machine is busy is no outage.
const patience = time.Minute

func open(t *testing.T, o cache.Options) *cache.Cache {
	t.Helper()
	c, err := cache.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// dial is a client as an upstream makes it, which gives up only when the context of a command ends.
func dial(t *testing.T, addr string) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{
		Addr: addr, Protocol: 2, PoolSize: 2, PipelinePoolSize: -1, MaxActiveConns: 2, MaxRetries: -1, DialerRetries: 1,
		DisableIdentity: true, ContextTimeoutEnabled: true, ConnMaxIdleTime: -1,
		DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience,
	})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// A bill counts what a server has run.
type bill struct {
	t      *testing.T
	client *redis.Client
}

func startBill(t *testing.T, s *redistest.Server) *bill {
	b := &bill{t: t, client: s.Client(t)}
	b.reset()
	return b
}

func (b *bill) calls() map[string]string {
	b.t.Helper()
	info, err := b.client.Info(b.t.Context(), "commandstats").Result()
	if err != nil {
		b.t.Fatal(err)
	}
	calls := map[string]string{}
	for line := range strings.Lines(info) {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		if n, _, _ := strings.Cut(rest, ","); ok && name != "info" && name != "hello" && name != "client|setinfo" {
			calls[name] = n
		}
	}
	return calls
}

func (b *bill) reset() {
	b.t.Helper()
	if err := b.client.ConfigResetStat(b.t.Context()).Err(); err != nil {
		b.t.Fatal(err)
	}
}

// want compares the commands since the last reset with "get=1 set=2", in any order.
func (b *bill) want(what, spec string) {
	b.t.Helper()
	want := map[string]string{}
	for f := range strings.FieldsSeq(spec) {
		name, n, _ := strings.Cut(f, "=")
		want[name] = n
	}
	got := b.calls()
	delete(got, "config|resetstat")
	for name, n := range got {
		if want[name] != n {
			b.t.Errorf("%s: server ran %v, want %q", what, got, spec)
			break
		}
	}
	for name, n := range want {
		if got[name] != n {
			b.t.Errorf("%s: server ran %v, want %q", what, got, spec)
			break
		}
	}
	b.reset()
}

func mustSet(t *testing.T, c *cache.Cache, key, value string, o cache.SetOptions) cache.SetResult {
	t.Helper()
	r, err := c.Set(t.Context(), key, []byte(value), o)
	if err != nil {
		t.Fatalf("set %q: %v", key, err)
	}
	if !r.Stored {
		t.Fatalf("set %q: not stored: %v", key, r.Cause)
	}
	return r
}

func mustGet(t *testing.T, c *cache.Cache, key string, tags ...string) cache.Result {
	t.Helper()
	r, err := c.Get(t.Context(), key, tags...)
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	return r
}

func wantHit(t *testing.T, what string, r cache.Result, value string) {
	t.Helper()
	if !r.Hit || string(r.Value) != value {
		t.Errorf("%s: got hit %t, value %q (%v), want hit, %q", what, r.Hit, r.Value, r.Cause, value)
	}
}

func wantMiss(t *testing.T, what string, r cache.Result) {
	t.Helper()
	if r.Hit {
		t.Errorf("%s: got %q from %s, want a miss", what, r.Value, r.Source)
	}
}

// eventually waits for what happens in the background, without a fixed pause.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
		timer := time.NewTimer(2 * time.Millisecond)
		<-timer.C
	}
}

func value(v string) cache.Loader {
	return func(context.Context) ([]byte, error) { return []byte(v), nil }
}

func TestMain(m *testing.M) {
	logging.Disable() // the library prints failed dials, which tests here cause on purpose
	m.Run()
}
