package cache_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/cache"
	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// upstreams runs f on every Redis that the cache has to work on, with and without bytes that are no text.
func upstreams(t *testing.T, f func(t *testing.T, client *redis.Client, binarySafe bool)) {
	t.Helper()
	for _, binarySafe := range []bool{true, false} {
		t.Run("on a server, binary-safe "+yes(binarySafe), func(t *testing.T) {
			f(t, dial(t, redistest.Start(t).Addr), binarySafe)
		})
		t.Run("embedded, binary-safe "+yes(binarySafe), func(t *testing.T) {
			s, err := embedded.Start(t.Context(), embedded.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			opts, err := redis.ParseURL(s.URL())
			if err != nil {
				t.Fatal(err)
			}
			f(t, dial(t, opts.Addr), binarySafe)
		})
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func TestCacheOnEveryUpstream(t *testing.T) {
	upstreams(t, func(t *testing.T, client *redis.Client, binarySafe bool) {
		ctx := t.Context()
		o := cache.Options{
			Client: client, BinarySafe: binarySafe, Environment: "test", L1Bytes: -1, Deadline: patience,
			Keys: []cache.Key{{ID: "k", Secret: []byte(strings.Repeat("k", 32))}},
			Namespaces: map[string]cache.Namespace{
				"doc": {Codec: cache.JSON}, "bin": {Codec: cache.MsgPack}, "old": {Codec: cache.IORedisJSON},
				"guard": {Guard: true}, "user": {OwnerParts: 1},
			},
		}
		c := open(t, o)
		packed, err := cache.MsgPack.Encode([]any{1, "two", nil})
		if err != nil {
			t.Fatal(err)
		}
		large := strings.Repeat("all work and no play ", 2000)
		for _, tt := range []struct{ key, value string }{
			{"page:text", "hello"},
			{"page:empty", ""},
			{"page:bytes", "\x00\xff\xfe\r\n"},
			{"page:large", large},
			{"doc:null", "null"},
			{"doc:number", "12345678901234567890"},
			{"bin:list", string(packed)},
			{"session:1", `{"token":"x"}`},
			{"old:1", `"text"`},
			{"guard:1", "x"},
			{"user:1:profile", "x"},
			{cache.KeyOf("page", "a:b*[c]", "é"), "x"},
		} {
			mustSet(t, c, tt.key, tt.value, cache.SetOptions{})
			wantHit(t, tt.key, mustGet(t, c, tt.key), tt.value)
		}
		t.Run("all keys but those that are shared begin with environment and prefix", func(t *testing.T) {
			for _, key := range keysOf(t, client, "*") {
				if !strings.HasPrefix(key, "test:cache:") && key != "old:1" {
					t.Errorf("key %q", key)
				}
			}
		})
		t.Run("what compresses is compressed", func(t *testing.T) {
			r := mustSet(t, c, "page:large", large, cache.SetOptions{})
			if !r.Compressed || r.StoredBytes > len(large)/20 {
				t.Errorf("got %+v", r)
			}
		})
		t.Run("many at once", func(t *testing.T) {
			rs, err := c.GetMany(ctx, []string{"page:text", "page:none", "doc:null", "user:1:profile", "page:text"})
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []bool{true, false, true, true, true} {
				if rs[i].Hit != want {
					t.Errorf("result %d: hit %t, want %t", i, rs[i].Hit, want)
				}
			}
		})
		t.Run("a pattern deletes what it means, and says so before", func(t *testing.T) {
			for _, key := range []string{"p:1:profile", "p:2:profile", "p:2:profile:photo", "p:2:other", "px:1:profile"} {
				mustSet(t, c, key, "v", cache.SetOptions{})
			}
			plan, err := c.PlanDelete(ctx, "p:*:profile")
			if err != nil || plan.EstimatedKeys != 2 || !plan.Exact || len(plan.Examples) != 2 {
				t.Fatalf("got %+v, %v; want exactly 2 keys", plan, err)
			}
			r, err := c.DeletePattern(ctx, plan)
			if err != nil || r.Deleted != 2 || !r.Done || r.Commands > plan.EstimatedCommands {
				t.Errorf("got %+v, %v; want 2 deleted within %d commands", r, err, plan.EstimatedCommands)
			}
			for _, key := range []string{"p:2:profile:photo", "p:2:other", "px:1:profile"} {
				wantHit(t, key, mustGet(t, c, key), "v")
			}
		})
		t.Run("tags end what carries them, whoever wrote it", func(t *testing.T) {
			mustSet(t, c, "page:a", "v", cache.SetOptions{Tags: []string{"contact:7", "user:1"}})
			mustSet(t, c, "page:b", "v", cache.SetOptions{Tags: []string{"user:1"}})
			if _, err := c.InvalidateTags(ctx, "contact:7"); err != nil {
				t.Fatal(err)
			}
			wantMiss(t, "tagged", mustGet(t, c, "page:a"))
			wantHit(t, "not tagged so", mustGet(t, c, "page:b", "user:1"), "v")
			if _, err := c.InvalidateTags(ctx, "user:1"); err != nil {
				t.Fatal(err)
			}
			wantMiss(t, "its owner's entry", mustGet(t, c, "user:1:profile"))
			wantMiss(t, "another's entry", mustGet(t, c, "page:b"))
			mustSet(t, c, "page:b", "again", cache.SetOptions{Tags: []string{"user:1"}})
			wantHit(t, "written anew", mustGet(t, c, "page:b"), "again")
		})
		t.Run("a lost generation ends its entries, and never brings old ones back", func(t *testing.T) {
			mustSet(t, c, "page:c", "v", cache.SetOptions{Tags: []string{"lost:1"}})
			if err := client.Del(ctx, "test:cache:~tag:lost:1").Err(); err != nil {
				t.Fatal(err)
			}
			wantMiss(t, "after the loss", mustGet(t, open(t, o), "page:c"))
			mustSet(t, open(t, o), "page:d", "v", cache.SetOptions{Tags: []string{"lost:1"}})
			wantMiss(t, "after a new generation", mustGet(t, open(t, o), "page:c"))
		})
		t.Run("a sample says what there is", func(t *testing.T) {
			s, err := c.Sample(ctx, cache.SampleOptions{})
			if err != nil || !s.Complete || s.Commands > 100 {
				t.Fatalf("got %+v, %v", s, err)
			}
			names := map[string]cache.NamespaceSample{}
			for _, ns := range s.Namespaces {
				names[ns.Name] = ns
			}
			if ns := names["session"]; ns.Encrypted != 1 || ns.Foreign != 0 {
				t.Errorf("session: got %+v", ns)
			}
			if ns := names["page"]; ns.Compressed != 1 || ns.MeanTTLMS < 3_000_000 {
				t.Errorf("page: got %+v", ns)
			}
			if ns := names["old"]; ns.SampledKeys != 1 {
				t.Errorf("old: got %+v", ns)
			}
		})
		t.Run("the whole cache is deleted, and nothing else", func(t *testing.T) {
			client.Set(ctx, "bull:mail:id", "7", 0)
			plan, err := c.PlanDelete(ctx, "*")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.DeletePattern(ctx, plan); err != nil {
				t.Fatal(err)
			}
			if left := keysOf(t, client, "*"); len(left) != 2 {
				t.Errorf("left are %q, want the queue's key and the shared one", left)
			}
		})
	})
}

// TestSharedKeys is errata X-28: what old code wrote is read, and what is written old code can parse.
func TestSharedKeys(t *testing.T) {
	s := redistest.Start(t)
	raw, ctx := s.Client(t), t.Context()
	c := open(t, cache.Options{Client: dial(t, s.Addr), L1Bytes: -1, Deadline: patience, Namespaces: map[string]cache.Namespace{
		"user": {Codec: cache.IORedisJSON},
	}})
	for _, tt := range []struct {
		name, kept string
		foreign    bool
		want       string
	}{
		{"a document", `{"a":1}`, false, `{"a":1}`},
		{"a number", `123`, false, `123`},
		{"the string of a number stays one", `"123"`, false, `"123"`},
		{"null", `null`, false, `null`},
		{"plain text is a string", `hello`, true, `"hello"`},
		{"a number with zeros is a string", `007`, true, `"007"`},
		{"an empty string is a string", ``, true, `""`},
		{"quotes are kept", `say "x"`, true, `"say \"x\""`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := raw.Set(ctx, "user:1:profile", tt.kept, 0).Err(); err != nil {
				t.Fatal(err)
			}
			r := mustGet(t, c, "user:1:profile")
			wantHit(t, "read", r, tt.want)
			if r.Foreign != tt.foreign || r.Codec != cache.IORedisJSON {
				t.Errorf("got foreign %t, codec %s; want %t", r.Foreign, r.Codec, tt.foreign)
			}
		})
	}
	t.Run("what is written can be parsed by JSON.parse, byte by byte", func(t *testing.T) {
		for _, v := range []string{`"hello"`, `""`, `007`, `hello`, `{"a":[1,2]}`, ``, `123`} {
			_, err := c.Set(ctx, "user:2:profile", []byte(v), cache.SetOptions{})
			if valid := json.Valid([]byte(v)); valid != (err == nil) {
				t.Errorf("%q: got %v, want refused: %t", v, err, !valid)
			} else if kept, _ := raw.Get(ctx, "user:2:profile").Result(); valid && kept != v {
				t.Errorf("%q is kept as %q", v, kept)
			}
		}
	})
	t.Run("keys are as old code spells them, and patterns take them literally", func(t *testing.T) {
		mustSet(t, c, "user:a[1]:x", "1", cache.SetOptions{})
		mustSet(t, c, "user:a1:x", "2", cache.SetOptions{})
		plan, err := c.PlanDelete(ctx, "user:a[1]:*")
		if err != nil {
			t.Fatal(err)
		}
		if r, err := c.DeletePattern(ctx, plan); err != nil || r.Deleted != 1 {
			t.Errorf("got %+v, %v; want 1 deleted", r, err)
		}
		wantHit(t, "the other", mustGet(t, c, "user:a1:x"), "2")
	})
	t.Run("what is under an ordinary key and is no entry is a miss, and counted", func(t *testing.T) {
		for key, kept := range map[string]string{
			"cache:page:1": "plain", "cache:page:2": `{"a":1}`, "cache:page:3": "\xffRC\x02newer than this program", "cache:page:4": "~rc1:AAAA",
		} {
			if err := raw.Set(ctx, key, kept, 0).Err(); err != nil {
				t.Fatal(err)
			}
			wantMiss(t, key, mustGet(t, c, strings.TrimPrefix(key, "cache:")))
		}
		if n := c.Stats().Namespaces["page"]; n.Foreign != 2 || n.Newer != 1 || n.Damaged != 1 {
			t.Errorf("got %+v, want 2 foreign, 1 newer, 1 damaged", n)
		}
	})
}

func TestReadsMerge(t *testing.T) {
	s := redistest.Start(t)
	// So that the hundred come within the window on a busy machine too.
	c := open(t, cache.Options{Client: dial(t, s.Addr), L1Bytes: -1, Deadline: patience, MergeWindow: 300 * time.Millisecond})
	b := startBill(t, s)
	var group sync.WaitGroup
	start := make(chan struct{})
	for i := range 100 {
		group.Go(func() {
			<-start
			if _, err := c.Get(t.Context(), cache.KeyOf("page", strings.Repeat("x", i+1))); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	group.Wait()
	calls := b.calls()
	st := c.Stats()
	if st.KeyReads != 100 || st.ReadCommands > 10 || st.CommandsSaved != 100-st.ReadCommands || st.TripsSaved != 100-st.ReadTrips {
		t.Errorf("server ran %v; %d keys by %d commands, %d and %d saved; want at most 10 commands", calls, st.KeyReads, st.ReadCommands, st.CommandsSaved, st.TripsSaved)
	}
}

func TestWarmers(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, cache.Options{Client: dial(t, s.Addr), L1Bytes: -1, Deadline: patience})
	b := startBill(t, s)
	var mu sync.Mutex
	running, most := 0, 0
	items := func(n int) func(context.Context) ([]cache.WarmItem, error) {
		return func(context.Context) ([]cache.WarmItem, error) {
			var out []cache.WarmItem
			for i := range n {
				out = append(out, cache.WarmItem{Key: cache.KeyOf("page", strings.Repeat("w", i+1)), Load: func(context.Context) ([]byte, error) {
					mu.Lock()
					running++
					most = max(most, running)
					mu.Unlock()
					defer func() { mu.Lock(); running--; mu.Unlock() }()
					switch i {
					case 3:
						return nil, cache.ErrNotFound
					case 4:
						return nil, errors.New("no database")
					}
					return []byte("v"), nil
				}})
			}
			return out, nil
		}
	}
	r, err := c.Warm(t.Context(), cache.Warmer{Name: "w", Items: items(20), Concurrency: 3})
	if err != nil || r.Stored != 18 || r.Absent != 1 || r.Failed != 1 || r.Commands != 20 || most > 3 {
		t.Errorf("got %+v, %v, %d at a time; want 18 stored, 1 absent, 1 failed, 20 commands, at most 3", r, err, most)
	}
	b.want("the first run", "mget=1 set=19")
	r, err = c.Warm(t.Context(), cache.Warmer{Name: "w", Items: items(20)})
	if err != nil || r.Fresh != 19 || r.Failed != 1 {
		t.Errorf("again: got %+v, %v; want 19 fresh", r, err)
	}
	b.want("the second run", "mget=1")
	r, err = c.Warm(t.Context(), cache.Warmer{Name: "w", Items: items(20), Force: true, MaxCommands: 5, Concurrency: 1})
	if !errors.Is(err, cache.ErrBudget) || r.Commands > 5 || r.Left == 0 {
		t.Errorf("with 5 commands: got %+v, %v; want ErrBudget", r, err)
	}
	if _, err := c.Warm(t.Context(), cache.Warmer{}); err == nil {
		t.Error("a warmer without items is accepted")
	}
}

func TestPatternBudget(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, cache.Options{Client: dial(t, s.Addr), L1Bytes: -1, Deadline: patience})
	raw := s.Client(t)
	if err := raw.Eval(t.Context(), `for i=1,20000 do redis.call('SET', 'cache:page:' .. i, 'x') end return 1`, nil).Err(); err != nil {
		t.Fatal(err)
	}
	plan, err := c.PlanDelete(t.Context(), "page:*")
	if err != nil || plan.Exact || plan.EstimatedKeys < 19_000 || plan.EstimatedKeys > 21_000 || plan.PlanCommands != 6 {
		t.Fatalf("got %+v, %v; want about 20,000 keys for 6 commands", plan, err)
	}
	short := plan
	short.MaxCommands = 10
	r, err := c.DeletePattern(t.Context(), short)
	if !errors.Is(err, cache.ErrBudget) || r.Commands > 10 || r.Done {
		t.Errorf("got %+v, %v; want it to stop at 10 commands", r, err)
	}
	r2, err := c.DeletePattern(t.Context(), plan)
	if err != nil || r.Deleted+r2.Deleted != 20_000 || r2.Commands > plan.MaxCommands {
		t.Errorf("got %+v and %+v, %v; want all deleted", r, r2, err)
	}
}

// loaded is what a machine that is busy with other tests may add to a bound; the bounds themselves are
// tested on the clock of a bubble. It is less than patience: what only the client ends takes longer.
const loaded = 20 * time.Second

// TestRealOutage kills the server under load: answers stay quick, nothing piles up, and the cache is
// back soon after the server is.
func TestRealOutage(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, cache.Options{Client: dial(t, s.Addr), MaxL1TTL: time.Millisecond})
	eventually(t, "the entry is written", func() bool { // which has 150 ms
		r, err := c.Set(t.Context(), "page:1", []byte("v"), cache.SetOptions{})
		return err == nil && r.Stored
	})
	quick := func(what string) {
		t.Helper()
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				begin := time.Now()
				r, err := c.Get(t.Context(), "page:1")
				if d := time.Since(begin); err != nil || !r.Hit || !r.Stale || d > 150*time.Millisecond+loaded {
					t.Errorf("%s: got %+v, %v after %s; want it stale within 150ms", what, r, err, d)
				}
			})
		}
		group.Wait()
	}
	before := runtime.NumGoroutine()
	s.Kill(t)
	eventually(t, "memory is believed no longer", func() bool { // for the millisecond since the write
		r, err := c.Get(t.Context(), "page:1")
		return err == nil && r.Stale
	})
	for range 20 {
		quick("down")
		if r, err := c.Set(t.Context(), "page:2", []byte("v"), cache.SetOptions{}); err != nil || r.Stored || r.Cause == nil {
			t.Fatalf("write: got %+v, %v", r, err)
		}
	}
	eventually(t, "no goroutines are left", func() bool { return runtime.NumGoroutine() <= before+2 })
	s.Restart(t)
	back := time.Now()
	eventually(t, "the cache is back", func() bool {
		r, err := c.Get(t.Context(), "page:none")
		return err == nil && !r.Degraded
	})
	if d := time.Since(back); d > 2*time.Second+loaded {
		t.Errorf("back after %s, want 2s", d)
	}
}

// TestHangingUpstream is a server that takes connections and says nothing.
func TestHangingUpstream(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := open(t, cache.Options{Client: dial(t, l.Addr().String())})
	for i := range 6 {
		begin := time.Now()
		r, err := c.GetOrLoad(t.Context(), cache.KeyOf("page", strings.Repeat("x", i+1)), cache.SetOptions{}, value("v"))
		if d := time.Since(begin); err != nil || string(r.Value) != "v" || d > 150*time.Millisecond+loaded {
			t.Errorf("got %q, %v after %s; want the loader's value within 150ms", r.Value, err, d)
		}
	}
}
