package cache_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/cache"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// TestPrices counts at the server what the doc comments promise.
func TestPrices(t *testing.T) {
	s := redistest.Start(t)
	ctx := t.Context()
	options := func() cache.Options {
		return cache.Options{
			Client: dial(t, s.Addr), BinarySafe: true, Deadline: patience,
			Namespaces: map[string]cache.Namespace{
				"user":  {OwnerParts: 1},
				"guard": {Guard: true},
				"old":   {Codec: cache.IORedisJSON},
			},
		}
	}
	c := open(t, options())
	b := startBill(t, s)

	t.Run("a hot key costs nothing", func(t *testing.T) {
		b.t = t
		mustSet(t, c, "page:1", "hello", cache.SetOptions{})
		b.want("set", "set=1")
		for range 100 {
			wantHit(t, "get", mustGet(t, c, "page:1"), "hello")
		}
		b.want("100 reads", "")
		other := open(t, options())
		for range 100 {
			wantHit(t, "get of another replica", mustGet(t, other, "page:1"), "hello")
		}
		b.want("100 reads of another replica", "get=1")
	})
	t.Run("a hundred concurrent misses are one load, one read and one write", func(t *testing.T) {
		b.t = t
		var loads atomic.Int64
		release := make(chan struct{})
		var group sync.WaitGroup
		before := c.Stats().Namespaces["page"].Shared
		for range 100 {
			group.Go(func() {
				r, err := c.GetOrLoad(ctx, "page:2", cache.SetOptions{}, func(context.Context) ([]byte, error) {
					loads.Add(1)
					<-release
					return []byte("loaded"), nil
				})
				if err != nil || string(r.Value) != "loaded" {
					t.Errorf("got %q, %v", r.Value, err)
				}
			})
		}
		eventually(t, "the load has begun, and all others wait for it", func() bool {
			return loads.Load() > 0 && c.Stats().Namespaces["page"].Shared == before+99
		})
		close(release)
		group.Wait()
		if n := loads.Load(); n != 1 {
			t.Errorf("got %d loads, want 1", n)
		}
		eventually(t, "the value is written", func() bool { return c.Stats().Namespaces["page"].Writes == 2 })
		b.want("100 misses", "get=1 set=1")
	})
	t.Run("reads that come together leave as one MGET", func(t *testing.T) {
		b.t = t
		fresh := open(t, options())
		keys := make([]string, 50)
		for i := range keys {
			keys[i] = cache.KeyOf("many", string(rune('a'+i%26)), strings.Repeat("x", i+1))
		}
		if _, err := fresh.GetMany(ctx, keys); err != nil {
			t.Fatal(err)
		}
		b.want("50 keys", "mget=1")
		st := fresh.Stats()
		if st.CommandsSaved != 49 || st.TripsSaved != 0 {
			t.Errorf("got %d commands and %d trips saved, want 49 and 0", st.CommandsSaved, st.TripsSaved)
		}
	})
	t.Run("deletes of many keys are one command", func(t *testing.T) {
		b.t = t
		r, err := c.Delete(ctx, "page:1", "page:2", "page:3")
		if err != nil || !r.Done || r.Deleted != 2 || r.Commands != 1 {
			t.Errorf("got %+v, %v; want 2 deleted by 1 command", r, err)
		}
		b.want("3 deletes", "unlink=1")
		wantMiss(t, "after", mustGet(t, c, "page:1"))
		b.want("a miss", "get=1")
	})
	t.Run("a whole user is invalidated by one command", func(t *testing.T) {
		b.t = t
		r := mustSet(t, c, "user:42:profile", "p", cache.SetOptions{})
		b.want("first entry of a user", "get=1 set=2")
		if r.Commands != 3 {
			t.Errorf("got %d commands reported, want 3", r.Commands)
		}
		mustSet(t, c, "user:42:contacts", "c", cache.SetOptions{})
		mustSet(t, c, "user:43:contacts", "other", cache.SetOptions{})
		b.want("two more entries", "get=1 set=3")
		other := open(t, options())
		wantHit(t, "other", mustGet(t, other, "user:42:profile"), "p")
		b.want("a read with its owner's tag", "mget=1")
		if r, err := c.InvalidateTags(ctx, "user:42"); err != nil || !r.Done || r.Commands != 1 {
			t.Fatalf("got %+v, %v", r, err)
		}
		b.want("invalidation", "set=1")
		wantMiss(t, "profile", mustGet(t, c, "user:42:profile"))
		wantMiss(t, "contacts", mustGet(t, c, "user:42:contacts"))
		wantHit(t, "another user", mustGet(t, c, "user:43:contacts"), "other")
		b.want("three reads", "mget=2")
		third := open(t, options())
		wantMiss(t, "a replica that never saw it", mustGet(t, third, "user:42:profile"))
	})
	t.Run("entries without expiry are written by one MSET", func(t *testing.T) {
		b.t = t
		b.reset()
		items := make([]cache.Item, 10)
		for i := range items {
			items[i] = cache.Item{Key: cache.KeyOf("page", strings.Repeat("y", i+1)), Value: []byte("v"), Options: cache.SetOptions{NoExpiry: true}}
		}
		if _, err := c.SetMany(ctx, items); err != nil {
			t.Fatal(err)
		}
		b.want("10 without expiry", "mset=1")
		for i := range items {
			items[i].Options = cache.SetOptions{}
		}
		if _, err := c.SetMany(ctx, items); err != nil {
			t.Fatal(err)
		}
		b.want("10 with expiry", "set=10")
	})
	t.Run("a guarded delete leaves a mark, and storing over it takes a script", func(t *testing.T) {
		b.t = t
		var inScript int64
		o := options()
		o.InScript = func(_, _ string, n int64) { inScript += n }
		c := open(t, o)
		mustSet(t, c, "guard:1", "old", cache.SetOptions{})
		b.want("set", "set=1")
		if r, err := c.Delete(ctx, "guard:1"); err != nil || r.Commands != 1 {
			t.Fatalf("got %+v, %v", r, err)
		}
		b.want("delete", "set=1")
		miss := mustGet(t, c, "guard:1")
		wantMiss(t, "after the delete", miss)
		b.want("miss", "get=1")
		r := mustSet(t, c, "guard:1", "new", cache.SetOptions{Token: miss.Token})
		b.want("store over the mark", "evalsha=1 eval=1 getrange=1 set=1")
		if inScript != 2 || r.Commands != 3 {
			t.Errorf("got %d commands in scripts, %d reported; want 2 and 3", inScript, r.Commands)
		}
		wantHit(t, "new", mustGet(t, open(t, options()), "guard:1"), "new")
	})
	t.Run("shared keys are spelled and written as old code has them", func(t *testing.T) {
		b.t = t
		b.reset()
		mustSet(t, c, "old:a:b", `{"n":1}`, cache.SetOptions{TTL: time.Minute})
		b.want("set", "set=1")
		got, err := s.Client(t).Get(ctx, "old:a:b").Result()
		if err != nil || got != `{"n":1}` {
			t.Errorf("old code reads %q, %v", got, err)
		}
	})
}

// TestStaleSet plays the race of errata X-45: a reader that missed stores what it read before the
// update, after the update's invalidation.
func TestStaleSet(t *testing.T) {
	s := redistest.Start(t)
	options := func() cache.Options {
		return cache.Options{Client: dial(t, s.Addr), Deadline: patience, Namespaces: map[string]cache.Namespace{
			"user": {OwnerParts: 1}, "guard": {Guard: true},
		}}
	}
	a, b := open(t, options()), open(t, options())
	ctx := t.Context()
	for _, tt := range []struct {
		name, key string
		end       func(c *cache.Cache, key string) error
		on        *cache.Cache // who ends it
		before    bool         // there was an entry
	}{
		{"a delete in this process", "page:1", remove, a, false},
		{"a write in this process", "page:2", overwrite, a, false},
		{"a write in another replica", "page:3", overwrite, b, false},
		{"a guarded delete in another replica", "guard:1", remove, b, false},
		{"a guarded delete of an entry in another replica", "guard:2", remove, b, true},
		{"a guarded write in another replica", "guard:3", overwrite, b, true},
		{"an invalidation in another replica", "user:1:profile", invalidate, b, true},
		{"an invalidation in another replica of a user that nobody has seen", "user:2:profile", invalidate, b, false},
		{"an invalidation in this process", "user:3:profile", invalidate, a, true},
	} {
		t.Run("stale value is not kept after "+tt.name, func(t *testing.T) {
			if tt.before {
				mustSet(t, b, tt.key, "before", cache.SetOptions{})
			}
			read := mustGet(t, a, tt.key)
			if err := tt.end(tt.on, tt.key); err != nil {
				t.Fatal(err)
			}
			_, err := a.Set(ctx, tt.key, []byte("stale"), cache.SetOptions{Token: read.Token})
			if err != nil {
				t.Fatal(err)
			}
			for name, c := range map[string]*cache.Cache{"this process": a, "another": b, "a new one": open(t, options())} {
				r := mustGet(t, c, tt.key)
				if c == a && tt.on == b && r.Source == cache.FromMemory {
					continue // what another replica invalidates is seen after the time in memory, here as everywhere
				}
				if string(r.Value) == "stale" {
					t.Errorf("%s reads the stale value from %s", name, r.Source)
				}
			}
		})
	}
	t.Run("a value that nothing overtook is kept", func(t *testing.T) {
		for _, key := range []string{"page:9", "guard:9", "user:9:profile"} {
			read := mustGet(t, a, key)
			mustSet(t, a, key, "good", cache.SetOptions{Token: read.Token})
			wantHit(t, key, mustGet(t, b, key), "good")
		}
	})
	t.Run("a token of another key or made up is refused", func(t *testing.T) {
		read := mustGet(t, a, "page:10")
		for _, token := range []string{"x", "AAAA", read.Token + "AA", strings.Repeat("A", 48)} {
			if _, err := a.Set(ctx, "page:11", nil, cache.SetOptions{Token: token}); !errors.Is(err, cache.ErrValue) {
				t.Errorf("token %q: got %v, want ErrValue", token, err)
			}
		}
		if _, err := a.Set(ctx, "page:11", nil, cache.SetOptions{Token: read.Token}); !errors.Is(err, cache.ErrValue) {
			t.Errorf("got %v, want ErrValue", err)
		}
	})
}

func remove(c *cache.Cache, key string) error {
	_, err := c.Delete(context.Background(), key)
	return err
}

func overwrite(c *cache.Cache, key string) error {
	_, err := c.Set(context.Background(), key, []byte("new"), cache.SetOptions{})
	return err
}

func invalidate(c *cache.Cache, key string) error {
	_, err := c.InvalidateTags(context.Background(), key[:strings.LastIndex(key, ":")])
	return err
}
