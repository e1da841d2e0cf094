package ramp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/cache"
	"github.com/redisopt/redisopt/internal/runtime/control"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// patience is how long what a test waits for may take on a machine that is busy.
const patience = time.Minute

// A bed is two real servers, what is in force, and a Client between them that runs.
type bed struct {
	*Client
	old, new *redis.Client
	control  *control.Control
	router   *Router
	ledger   *Ledger
	epoch    int64
}

func client(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: addr, DisableIdentity: true, MaxRetries: -1, ContextTimeoutEnabled: true,
		DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience,
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func newBed(t *testing.T, change func(*ClientOptions)) *bed {
	t.Helper()
	return newReplica(t, client(t, redistest.Start(t).Addr), client(t, redistest.Start(t).Addr), change)
}

func newReplica(t *testing.T, old, next *redis.Client, change func(*ClientOptions)) *bed {
	t.Helper()
	b := &bed{old: old, new: next, ledger: NewLedger()}
	var err error
	if b.control, err = control.Open(control.Options{Client: b.old}); err != nil {
		t.Fatal(err)
	}
	b.router = NewRouter(b.control)
	o := ClientOptions{Route: Cache, Old: b.old, New: b.new, Router: b.router, Ledger: b.ledger, Timeout: patience, MirrorWait: patience}
	if change != nil {
		change(&o)
	}
	if b.Client, err = NewClient(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = b.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended; _ = b.Close() })
	return b
}

// ramp puts percentages in force, with all keys mirrored.
func (b *bed) ramp(t *testing.T, percent, shadow float64) {
	t.Helper()
	b.override(t, map[string]float64{Cache: percent, Mirror(Cache): 100, Shadow(Cache): shadow})
}

func (b *bed) override(t *testing.T, ramps map[string]float64) {
	t.Helper()
	b.epoch++
	if err := b.control.Override(control.Document{Epoch: b.epoch, Ramps: ramps}); err != nil {
		t.Fatal(err)
	}
	b.router.take()
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// untilGone is a context that ends once a side has a key no more: whoever deletes it with that waits for the other
// side in vain, however busy the machine is.
func untilGone(t *testing.T, side *redis.Client, key string) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var looking sync.WaitGroup
	looking.Go(func() {
		defer cancel()
		for ctx.Err() == nil && side.Exists(ctx, key).Val() > 0 {
			<-time.After(2 * time.Millisecond)
		}
	})
	t.Cleanup(func() { cancel(); looking.Wait() })
	return ctx
}

func newCache(t *testing.T, b *bed, codec cache.Codec) *cache.Cache {
	t.Helper()
	c, err := cache.New(cache.Options{
		Client: b.Redis(), BinarySafe: true, L1Bytes: -1, Deadline: patience,
		Namespaces: map[string]cache.Namespace{"app": {Codec: codec}, "guarded": {Guard: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func value(t *testing.T, c *cache.Cache, key string) string {
	t.Helper()
	r, err := c.Get(t.Context(), key)
	switch {
	case err != nil:
		t.Fatal(err)
	case r.Degraded:
		t.Fatalf("%s: degraded: %v", key, r.Cause)
	case !r.Hit:
		return "(none)"
	}
	return string(r.Value)
}

// TestTheCacheReadsWhatItWroteWhileItsKeysMove has two replicas write, delete and invalidate, with the ramp
// going up and down in one of them at a time, and compares every read with what a map says.
func TestTheCacheReadsWhatItWroteWhileItsKeysMove(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	replicas := []*bed{b, newReplica(t, b.old, b.new, nil)}
	caches := []*cache.Cache{newCache(t, b, cache.Raw), newCache(t, replicas[1], cache.Raw)}
	random := rand.New(rand.NewPCG(1, 2))
	model, misses := map[string]string{}, 0
	for _, r := range replicas {
		r.ramp(t, 0, 20)
	}
	for step := range 1500 {
		if step%25 == 0 { // one replica has heard of the change and the other has not
			replicas[random.IntN(2)].ramp(t, []float64{0, 1, 5, 25, 50, 100}[random.IntN(6)], 20)
		}
		c := caches[random.IntN(2)]
		namespace := []string{"app", "guarded"}[random.IntN(2)]
		key := fmt.Sprintf("%s:%d", namespace, random.IntN(30))
		switch random.IntN(6) {
		case 0, 1:
			text := fmt.Sprint("v", step)
			o := cache.SetOptions{}
			if namespace == "app" {
				o.Tags = []string{"all"}
			}
			r, err := c.Set(t.Context(), key, []byte(text), o)
			if err != nil || !r.Stored {
				t.Fatalf("set: %+v, %v", r, err)
			}
			model[key] = text
		case 2:
			if r, err := c.Delete(t.Context(), key); err != nil || !r.Done {
				t.Fatalf("delete: %+v, %v", r, err)
			}
			delete(model, key)
		default:
			want, ok := model[key]
			if !ok {
				want = "(none)"
			}
			got := value(t, c, key)
			if got == "(none)" && namespace == "app" {
				// The writer may not have heard yet that the other replica invalidated the tag.
				misses++
			} else if got != want {
				t.Fatalf("step %d: %s = %s, want %s", step, key, got, want)
			}
		}
		if step%300 == 299 {
			if r, err := c.InvalidateTags(t.Context(), "all"); err != nil || !r.Done {
				t.Fatalf("invalidate: %+v, %v", r, err)
			}
			for key := range model {
				if key[:3] == "app" {
					delete(model, key)
				}
			}
		}
	}
	if misses > 400 {
		t.Errorf("%d misses of tagged keys, want few", misses)
	}
	c := caches[0]
	plan, err := c.PlanDelete(t.Context(), "guarded:*")
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := c.DeletePattern(t.Context(), plan); err != nil || keys.Deleted == 0 {
		t.Fatalf("delete by pattern: %+v, %v", keys, err)
	}
	for key := range model {
		if key[:3] == "gua" {
			if got := value(t, c, key); got != "(none)" {
				t.Errorf("%s = %s after the delete of all, want none", key, got)
			}
		}
	}
	s := b.ledger.Summary(time.Now().Add(-time.Hour), time.Now())
	for class, n := range s.Routes[Cache].Compared {
		if class.Counts() {
			t.Errorf("%d reads were found to differ: %s", n, class)
		}
	}
}

func TestWhatWasWrittenOnTheNewSideIsReadOnTheOldOneWhenTheNewOneIsGone(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	c := newCache(t, b, cache.IORedisJSON)
	b.ramp(t, 100, 0)
	for i := range 50 {
		if r, err := c.Set(t.Context(), fmt.Sprint("app:", i), fmt.Appendf(nil, `{"n":%d}`, i), cache.SetOptions{}); err != nil || !r.Stored {
			t.Fatalf("set: %+v, %v", r, err)
		}
	}
	_ = b.new.Close()
	for i := range 50 { // still routed to the new side, which does not answer
		if got, want := value(t, c, fmt.Sprint("app:", i)), fmt.Sprintf(`{"n":%d}`, i); got != want {
			t.Fatalf("app:%d = %s, want %s from the old side", i, got, want)
		}
	}
	b.ramp(t, 0, 0)
	if got := value(t, c, "app:7"); got != `{"n":7}` {
		t.Errorf("after the ramp went to 0: app:7 = %s", got)
	}
	// The old reader's bytes are those that it wrote itself.
	key := b.old.Keys(t.Context(), "*app:7").Val()[0]
	raw, err := b.old.Get(t.Context(), key).Result()
	if err != nil || raw != `{"n":7}` {
		t.Errorf("GET on the old side = %q, %v; want what JSON.parse reads", raw, err)
	}
}

func TestADeleteSucceedsOnlyWhenBothSidesHaveIt(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	b.ramp(t, 0, 0)
	r := b.Redis()
	if err := r.Set(t.Context(), "k", "v", time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	if got := b.new.PTTL(t.Context(), "k").Val(); got <= 0 || got > time.Minute {
		t.Errorf("the new side's time to live is %s, want that of the old one", got)
	}
	if n, err := r.Unlink(t.Context(), "k").Result(); n != 1 || err != nil {
		t.Errorf("UNLINK = %d, %v; want 1", n, err)
	}
	if n := b.old.Exists(t.Context(), "k").Val() + b.new.Exists(t.Context(), "k").Val(); n != 0 {
		t.Errorf("%d sides have the key after the delete, want none", n)
	}
	_ = b.new.Close()
	if err := b.old.Set(t.Context(), "k", "again", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := r.Unlink(untilGone(t, b.old, "k"), "k").Err(); !errors.Is(err, errBehind) {
		t.Errorf("UNLINK with the new side down: %v, want that it has not taken it", err)
	}
	until(t, "the backlog says what waits and why", func() bool {
		_, back := b.Backlogs()
		return back.Writes > 0 && back.Err != nil
	})
}

// A hole is an address that takes connections and never answers.
func hole(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func TestANewSideThatNeverAnswersDelaysNoReadOfTheOldOne(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(o *ClientOptions) { o.New, o.Timeout, o.MirrorWait = client(t, hole(t)), DefaultTimeout, 0 })
	b.ramp(t, 0, 100)
	r := b.Redis()
	begin := time.Now()
	for i := range 500 {
		if err := r.Get(t.Context(), fmt.Sprint("k", i)).Err(); !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took > patience/2 {
		t.Errorf("500 reads took %s while the new side hangs for %s each", took, DefaultTimeout)
	}
	until(t, "a comparison that failed, and some that were dropped", func() bool {
		c := b.ledger.Summary(time.Now().Add(-time.Hour), time.Now()).Routes[Cache].Compared
		return c[Failed] > 0 && c[Dropped] > 0
	})
}

func TestAReadThatDiffersIsCountedWithoutItsKey(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	b.ramp(t, 0, 100)
	for key, sides := range map[string][2]string{"user:same": {"1", "1"}, "user:differs": {"1", "2"}, "user:absent": {"1", ""}, "user:extra": {"", "2"}} {
		for i, c := range []*redis.Client{b.old, b.new} {
			if sides[i] != "" {
				if err := c.Set(t.Context(), key, sides[i], 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = b.Redis().Get(t.Context(), key)
	}
	compared := func() map[Class]int64 {
		return b.ledger.Summary(time.Now().Add(-time.Hour), time.Now()).Routes[Cache].Compared
	}
	until(t, "four comparisons", func() bool {
		all := int64(0)
		for _, n := range compared() {
			all += n
		}
		return all == 4
	})
	if c := compared(); c[Match] != 1 || c[Absent] != 1 || c[Extra] != 1 || c[Differs] != 1 {
		t.Errorf("compared = %v, want one of each class", c)
	}
	for _, e := range b.ledger.Summary(time.Now().Add(-time.Hour), time.Now()).Examples {
		if e.Key != Redact("user:differs") && e.Key != Redact("user:extra") {
			t.Errorf("example %+v, want only those that differ, redacted", e)
		}
	}
	until(t, "what differed is removed from the new side", func() bool { return b.new.Exists(t.Context(), "user:differs", "user:extra").Val() == 0 })
}

func TestSidesOfOneDatabaseAreNotWrittenTwice(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(o *ClientOptions) { o.New, o.SameDatabase = o.Old, true })
	b.ramp(t, 50, 0)
	r := b.Redis()
	before := commands(t, b.old)
	keys := []string{}
	for i := range 20 {
		keys = append(keys, fmt.Sprint("k", i))
		if err := r.Set(t.Context(), keys[i], "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := r.MGet(t.Context(), keys...).Result(); err != nil || slices.Contains(got, nil) {
		t.Errorf("MGET over both sides = %v, %v", got, err)
	}
	if spent := commands(t, b.old) - before; spent > 30 {
		t.Errorf("%d commands for 20 writes and one read of them all, want each of them once", spent)
	}
	if n := r.DBSize(t.Context()).Val(); n != 20 {
		t.Errorf("DBSIZE = %d, want 20", n)
	}
}

func commands(t *testing.T, c *redis.Client) int64 {
	t.Helper()
	info, err := c.InfoMap(t.Context(), "stats").Result()
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	if _, err := fmt.Sscan(info["Stats"]["total_commands_processed"], &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestACommandThatCannotBeDividedIsRefused(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	if err := b.Redis().ZAdd(t.Context(), "z", redis.Z{Score: 1, Member: "m"}).Err(); err == nil {
		t.Error("ZADD was taken, want it refused")
	}
	if err := b.Redis().Eval(t.Context(), "return 1", []string{"a", "b"}).Err(); !errors.Is(err, errScriptKeys) {
		t.Errorf("a script of two keys: %v, want %v", err, errScriptKeys)
	}
}
