package cache_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/cache"
)

// bubble runs f in a bubble of time with a cache over a fake upstream.
func bubble(t *testing.T, o cache.Options, f func(t *testing.T, c *cache.Cache, fake *fakeRedis)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		fake, client := newFake(t)
		o.Client = client
		if o.Jitter == 0 {
			o.Jitter = -1
		}
		f(t, open(t, o), fake)
	})
}

func TestEntriesInTime(t *testing.T) {
	classes := map[string]cache.Class{
		"SHORT": {TTL: time.Minute},
		"SWR":   {TTL: time.Minute, StaleFor: time.Hour},
		"FAST":  {TTL: time.Hour, L1TTL: 5 * time.Second},
	}
	options := cache.Options{Classes: classes}

	t.Run("an entry ends with its time to live", func(t *testing.T) {
		bubble(t, options, func(t *testing.T, c *cache.Cache, _ *fakeRedis) {
			mustSet(t, c, "page:1", "v", cache.SetOptions{TTL: time.Second})
			time.Sleep(900 * time.Millisecond)
			wantHit(t, "before", mustGet(t, c, "page:1"), "v")
			time.Sleep(200 * time.Millisecond)
			wantMiss(t, "after", mustGet(t, c, "page:1"))
		})
	})
	t.Run("memory is believed for a tenth of the time, a minute at most, or what the class says", func(t *testing.T) {
		bubble(t, options, func(t *testing.T, c *cache.Cache, fake *fakeRedis) {
			for _, tt := range []struct {
				o    cache.SetOptions
				want time.Duration
			}{
				{cache.SetOptions{Class: "SHORT"}, 6 * time.Second},
				{cache.SetOptions{TTL: 10 * time.Hour}, time.Minute},
				{cache.SetOptions{Class: "FAST"}, 5 * time.Second},
				{cache.SetOptions{TTL: 5 * time.Second}, time.Second},
			} {
				mustSet(t, c, "page:1", "v", tt.o)
				before := fake.count()
				time.Sleep(tt.want - time.Millisecond)
				if r := mustGet(t, c, "page:1"); r.Source != cache.FromMemory || fake.count() != before {
					t.Errorf("%+v: got it from %s just before %s, want memory", tt.o, r.Source, tt.want)
				}
				time.Sleep(time.Millisecond)
				if r := mustGet(t, c, "page:1"); r.Source != cache.FromUpstream || fake.count() != before+1 {
					t.Errorf("%+v: got it from %s after %s, want upstream", tt.o, r.Source, tt.want)
				}
			}
		})
	})
	t.Run("a stale entry is served while one load runs behind it", func(t *testing.T) {
		bubble(t, options, func(t *testing.T, c *cache.Cache, fake *fakeRedis) {
			var loads atomic.Int64
			load := func(context.Context) ([]byte, error) {
				loads.Add(1)
				time.Sleep(300 * time.Millisecond)
				return []byte("new"), nil
			}
			mustSet(t, c, "page:1", "old", cache.SetOptions{Class: "SWR"})
			time.Sleep(2 * time.Minute)
			begin := time.Now()
			for range 10 {
				r, err := c.GetOrLoad(t.Context(), "page:1", cache.SetOptions{Class: "SWR"}, load)
				if err != nil || string(r.Value) != "old" || !r.Stale {
					t.Fatalf("got %q, stale %t, %v; want the old one, stale", r.Value, r.Stale, err)
				}
			}
			if d := time.Since(begin); d > 50*time.Millisecond {
				t.Errorf("callers waited %s", d)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if loads.Load() != 1 {
				t.Errorf("got %d loads, want 1", loads.Load())
			}
			wantHit(t, "after", mustGet(t, c, "page:1"), "new")
			if keep := fake.keep("cache:page:1"); keep < time.Hour || keep > time.Hour+time.Minute {
				t.Errorf("kept for %s, want fresh and stale time", keep)
			}
		})
	})
	t.Run("an entry that took long to load is loaded anew before it ends", func(t *testing.T) {
		bubble(t, options, func(t *testing.T, c *cache.Cache, _ *fakeRedis) {
			var loads atomic.Int64
			load := func(context.Context) ([]byte, error) {
				loads.Add(1)
				time.Sleep(2 * time.Second)
				return []byte("v"), nil
			}
			for range 600 { // ten minutes of a request a second, for an entry of a minute
				r, err := c.GetOrLoad(t.Context(), "page:1", cache.SetOptions{Class: "SHORT"}, load)
				if err != nil || string(r.Value) != "v" {
					t.Fatalf("got %q, %v", r.Value, err)
				}
				time.Sleep(time.Second)
			}
			synctest.Wait()
			n := c.Stats().Namespaces["page"]
			if n.EarlyLoads == 0 && n.Loads < 5 || loads.Load() > 40 {
				t.Errorf("got %d loads, %d early; want about one a minute, some early", loads.Load(), n.EarlyLoads)
			}
		})
	})
	t.Run("what is not there is asked for once", func(t *testing.T) {
		bubble(t, options, func(t *testing.T, c *cache.Cache, _ *fakeRedis) {
			var loads int
			for range 20 {
				_, err := c.GetOrLoad(t.Context(), "page:1", cache.SetOptions{}, func(context.Context) ([]byte, error) {
					loads++
					return nil, cache.ErrNotFound
				})
				if !errors.Is(err, cache.ErrNotFound) {
					t.Fatalf("got %v, want ErrNotFound", err)
				}
				time.Sleep(time.Second)
			}
			if loads != 1 {
				t.Errorf("got %d loads, want 1", loads)
			}
			if r := mustGet(t, c, "page:1"); !r.Hit || !r.Negative || !errors.Is(r.Decode(new(any)), cache.ErrNotFound) {
				t.Errorf("got %+v, want a negative hit", r)
			}
			time.Sleep(30 * time.Second)
			wantMiss(t, "after the negative time to live", mustGet(t, c, "page:1"))
		})
	})
	t.Run("values that look like nothing are hits", func(t *testing.T) {
		bubble(t, cache.Options{Namespaces: map[string]cache.Namespace{"doc": {Codec: cache.JSON}}}, func(t *testing.T, c *cache.Cache, _ *fakeRedis) {
			for _, v := range []string{"0", "false", `""`, "null", "[]"} {
				loads := 0
				for range 3 {
					r, err := c.GetOrLoad(t.Context(), cache.KeyOf("doc", v), cache.SetOptions{}, func(context.Context) ([]byte, error) {
						loads++
						return []byte(v), nil
					})
					if err != nil || string(r.Value) != v {
						t.Errorf("got %q, %v, want %q", r.Value, err, v)
					}
				}
				if loads != 1 {
					t.Errorf("%s: got %d loads, want 1", v, loads)
				}
			}
			r, err := c.GetOrLoad(t.Context(), "page:empty", cache.SetOptions{}, value(""))
			if err != nil || r.Value == nil && r.Hit {
				t.Errorf("got %+v, %v", r, err)
			}
			wantHit(t, "the empty value", mustGet(t, c, "page:empty"), "")
		})
	})
	t.Run("times to live are spread, unless the writer gave one", func(t *testing.T) {
		bubble(t, cache.Options{Jitter: 0.1}, func(t *testing.T, c *cache.Cache, _ *fakeRedis) {
			seen := map[time.Duration]bool{}
			for range 50 {
				ttl := mustSet(t, c, "page:1", "v", cache.SetOptions{}).TTL
				if ttl > time.Hour || ttl < 54*time.Minute {
					t.Errorf("got %s, want 54m to 60m", ttl)
				}
				seen[ttl] = true
			}
			if len(seen) < 40 {
				t.Errorf("got %d different times of 50", len(seen))
			}
		})
	})
	t.Run("a clock that is wrong does not make entries live longer or end at once", func(t *testing.T) {
		bubble(t, options, func(t *testing.T, c *cache.Cache, fake *fakeRedis) {
			mustSet(t, c, "page:1", "v", cache.SetOptions{TTL: time.Hour})
			kept, _ := fake.value("cache:page:1")
			time.Sleep(3 * time.Hour) // the writer's clock is three hours behind this one
			fake.put("cache:page:1", kept)
			r := mustGet(t, c, "page:1")
			wantHit(t, "behind", r, "v")
			if r.Stale {
				t.Error("it is stale, but the upstream keeps it no longer than it is fresh")
			}
		})
	})
}

func TestOutage(t *testing.T) {
	t.Run("memory is served, marked stale, and nothing is sent", func(t *testing.T) {
		bubble(t, cache.Options{}, func(t *testing.T, c *cache.Cache, fake *fakeRedis) {
			mustSet(t, c, "page:1", "v", cache.SetOptions{})
			time.Sleep(2 * time.Minute)
			fake.stop()
			for range 50 {
				begin := time.Now()
				r := mustGet(t, c, "page:1")
				wantHit(t, "during the outage", r, "v")
				if !r.Stale || !r.Degraded || !errors.Is(r.Cause, cache.ErrUnavailable) {
					t.Fatalf("got %+v, want stale and degraded", r)
				}
				if d := time.Since(begin); d >= 150*time.Millisecond {
					t.Fatalf("answered after %s", d)
				}
				time.Sleep(10 * time.Millisecond)
			}
			if !c.Stats().Broken {
				t.Error("the upstream is still being asked")
			}
			wantMiss(t, "what memory does not have", mustGet(t, c, "page:2"))
			fake.start()
			time.Sleep(2 * time.Second)
			r := mustGet(t, c, "page:1")
			if r.Degraded || r.Stale || r.Source != cache.FromUpstream {
				t.Errorf("2 s after its return: got %+v, want it from the upstream", r)
			}
		})
	})
	t.Run("an upstream that hangs costs the deadline three times and then nothing", func(t *testing.T) {
		bubble(t, cache.Options{}, func(t *testing.T, c *cache.Cache, fake *fakeRedis) {
			fake.setHang(true)
			slow := 0
			for i := range 200 {
				begin := time.Now()
				r, err := c.Get(t.Context(), cache.KeyOf("page", string(rune('a'+i%26))))
				if err != nil || !r.Degraded {
					t.Fatalf("got %+v, %v", r, err)
				}
				if d := time.Since(begin); d >= 150*time.Millisecond {
					t.Fatalf("answered after %s", d)
				} else if d > 0 {
					slow++
				}
			}
			if slow > 3 {
				t.Errorf("%d calls waited, want 3", slow)
			}
		})
	})
	t.Run("loads go on, once for all callers, and what they bring is in memory", func(t *testing.T) {
		bubble(t, cache.Options{}, func(t *testing.T, c *cache.Cache, fake *fakeRedis) {
			fake.stop()
			var loads atomic.Int64
			var group sync.WaitGroup
			for range 20 {
				group.Go(func() {
					r, err := c.GetOrLoad(t.Context(), "page:1", cache.SetOptions{}, func(context.Context) ([]byte, error) {
						loads.Add(1)
						time.Sleep(10 * time.Millisecond)
						return []byte("v"), nil
					})
					if err != nil || string(r.Value) != "v" {
						t.Errorf("got %q, %v", r.Value, err)
					}
				})
			}
			group.Wait()
			synctest.Wait()
			wantHit(t, "memory", mustGet(t, c, "page:1"), "v")
			if loads.Load() != 1 {
				t.Errorf("got %d loads, want 1", loads.Load())
			}
		})
	})
	t.Run("a load that fails is answered from memory, and else with its own error", func(t *testing.T) {
		bubble(t, cache.Options{}, func(t *testing.T, c *cache.Cache, _ *fakeRedis) {
			broken := errors.New("no database")
			load := func(context.Context) ([]byte, error) { return nil, broken }
			if _, err := c.GetOrLoad(t.Context(), "page:1", cache.SetOptions{}, load); !errors.Is(err, broken) {
				t.Errorf("got %v, want the loader's error", err)
			}
			mustSet(t, c, "page:1", "v", cache.SetOptions{TTL: time.Minute})
			time.Sleep(2 * time.Minute)
			r, err := c.GetOrLoad(t.Context(), "page:1", cache.SetOptions{}, load)
			if err != nil || string(r.Value) != "v" || !r.Stale || !errors.Is(r.Cause, broken) {
				t.Errorf("got %+v, %v; want the old value, stale", r, err)
			}
			if _, err := c.GetOrLoad(t.Context(), "page:2", cache.SetOptions{}, func(context.Context) ([]byte, error) { panic("oops") }); err == nil {
				t.Error("a panic of the loader got lost")
			}
		})
	})
	t.Run("deletes are remembered and told to the upstream when it is back", func(t *testing.T) {
		bubble(t, cache.Options{Namespaces: map[string]cache.Namespace{"user": {OwnerParts: 1}}}, func(t *testing.T, c *cache.Cache, fake *fakeRedis) {
			ctx, cancel := context.WithCancel(t.Context())
			var group sync.WaitGroup
			group.Go(func() { _ = c.Run(ctx) })
			defer group.Wait()
			defer cancel()
			mustSet(t, c, "page:1", "old", cache.SetOptions{})
			mustSet(t, c, "user:1:x", "old", cache.SetOptions{})
			fake.stop()
			if r, err := c.Delete(t.Context(), "page:1"); err != nil || r.Done || r.Cause == nil {
				t.Fatalf("got %+v, %v", r, err)
			}
			if r, err := c.InvalidateTags(t.Context(), "user:1"); err != nil || r.Done {
				t.Fatalf("got %+v, %v", r, err)
			}
			wantMiss(t, "deleted, during the outage", mustGet(t, c, "page:1"))
			wantMiss(t, "invalidated, during the outage", mustGet(t, c, "user:1:x"))
			fake.start()
			time.Sleep(2100 * time.Millisecond)
			wantMiss(t, "deleted, after it", mustGet(t, c, "page:1"))
			wantMiss(t, "invalidated, after it", mustGet(t, c, "user:1:x"))
			if _, there := fake.value("cache:page:1"); there {
				t.Error("the upstream still has the deleted key")
			}
			if n := c.Stats().PendingDeletes; n != 0 {
				t.Errorf("%d deletes are still pending", n)
			}
		})
	})
	t.Run("a caller that leaves takes nothing away from the others", func(t *testing.T) {
		bubble(t, cache.Options{}, func(t *testing.T, c *cache.Cache, _ *fakeRedis) {
			impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			load := func(ctx context.Context) ([]byte, error) {
				select {
				case <-ctx.Done():
					return nil, ctx.Err()
				case <-time.After(time.Second):
					return []byte("v"), nil
				}
			}
			var group sync.WaitGroup
			group.Go(func() {
				if _, err := c.GetOrLoad(impatient, "page:1", cache.SetOptions{}, load); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want the end of its context", err)
				}
			})
			time.Sleep(10 * time.Millisecond)
			r, err := c.GetOrLoad(t.Context(), "page:1", cache.SetOptions{}, load)
			if err != nil || string(r.Value) != "v" {
				t.Errorf("got %q, %v", r.Value, err)
			}
			group.Wait()
		})
	})
}

func TestReplicasHearOfDeletes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, client := newFake(t)
		var listeners []chan []byte
		gaps := make(chan struct{})
		var mu sync.Mutex
		fake.pubsub = func(text string) {
			mu.Lock()
			defer mu.Unlock()
			for _, l := range listeners {
				l <- []byte(text)
			}
		}
		o := cache.Options{
			Client: client, Jitter: -1, Namespaces: map[string]cache.Namespace{"user": {OwnerParts: 1}},
			Subscribe: func(context.Context, string) (cache.Feed, error) {
				mu.Lock()
				defer mu.Unlock()
				l := make(chan []byte, 10)
				listeners = append(listeners, l)
				return cache.Feed{Messages: l, Gaps: gaps, Close: func() {}}, nil
			},
		}
		a, b := open(t, o), open(t, o)
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		defer group.Wait()
		defer cancel()
		for _, c := range []*cache.Cache{a, b} {
			group.Go(func() { _ = c.Run(ctx) })
		}
		synctest.Wait()
		time.Sleep(time.Millisecond)
		for _, key := range []string{"page:1", "page:2", "user:1:x"} {
			mustSet(t, a, key, "old", cache.SetOptions{})
			wantHit(t, key, mustGet(t, b, key), "old")
			if r := mustGet(t, b, key); r.Source != cache.FromMemory {
				t.Fatalf("%s: got it from %s, want memory", key, r.Source)
			}
		}
		before := fake.count()
		r, err := a.Delete(t.Context(), "page:1")
		if err != nil || r.Commands != 2 || fake.count("PUBLISH") != 1 || fake.count() != before+2 {
			t.Errorf("got %+v, %v; want 2 commands, one of them PUBLISH", r, err)
		}
		if _, err := a.InvalidateTags(t.Context(), "user:1"); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Set(t.Context(), "page:2", []byte("new"), cache.SetOptions{Announce: true}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantMiss(t, "deleted elsewhere", mustGet(t, b, "page:1"))
		wantMiss(t, "invalidated elsewhere", mustGet(t, b, "user:1:x"))
		wantHit(t, "overwritten elsewhere", mustGet(t, b, "page:2"), "new")
		if n := b.Stats().Heard; n != 3 {
			t.Errorf("heard %d, want 3", n)
		}
		if r := mustGet(t, b, "page:2"); r.Source != cache.FromMemory {
			t.Errorf("got it from %s, want memory", r.Source)
		}
		time.Sleep(time.Millisecond)
		gaps <- struct{}{}
		gaps <- struct{}{} // one for each
		synctest.Wait()
		ra, rb := mustGet(t, a, "page:2"), mustGet(t, b, "page:2")
		if ra.Source != cache.FromUpstream && rb.Source != cache.FromUpstream {
			t.Error("after a gap, memory is believed without a look")
		}
	})
}
