package ramp

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A refusal is an error of a server that works.
type refusal string

func (r refusal) Error() string { return string(r) }
func (refusal) RedisError()     {}

// A gate says while a test goes on which commands of a client fail, and which pipelines wait before they are sent.
// What a mirror brings comes as a pipeline, and what callers send here does not.
type gate struct {
	single, piped atomic.Pointer[error] // what is answered instead; nil: the server is asked
	closed        atomic.Pointer[chan struct{}]
	held          atomic.Int64 // pipelines that waited
	refused       atomic.Int64 // commands and pipelines
}

func (g *gate) DialHook(next redis.DialHook) redis.DialHook { return next }

func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := g.single.Load(); err != nil && writes(cmd) {
			g.refused.Add(1)
			cmd.SetErr(*err)
			return *err
		}
		return next(ctx, cmd)
	}
}

func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if closed := g.closed.Load(); closed != nil && writes(cmds[0]) {
			g.held.Add(1)
			<-*closed
		}
		err := g.piped.Load()
		if err == nil || !writes(cmds[0]) {
			return next(ctx, cmds)
		}
		g.refused.Add(1)
		for _, cmd := range cmds {
			cmd.SetErr(*err)
		}
		return *err
	}
}

// shut has pipelines wait until open is called, at the latest when the test has ended.
func (g *gate) shut(t *testing.T) (open func()) {
	t.Helper()
	closed := make(chan struct{})
	g.closed.Store(&closed)
	open = sync.OnceFunc(func() { g.closed.Store(nil); close(closed) })
	t.Cleanup(open)
	return open
}

func writes(cmd redis.Cmder) bool {
	switch strings.ToLower(cmd.Name()) {
	case "set", "setex", "psetex", "mset", "del", "unlink":
		return true
	}
	return false
}

func refuse(at *atomic.Pointer[error], err error) {
	if err == nil {
		at.Store(nil)
		return
	}
	at.Store(&err)
}

// A gatedBed has a gate before each side, and does not wait for the other side.
type gatedBed struct {
	*bed
	oldGate, newGate *gate
}

func newGatedBed(t *testing.T, percent float64) *gatedBed {
	t.Helper()
	b := &gatedBed{bed: newBed(t, func(o *ClientOptions) { o.MirrorWait = time.Millisecond }), oldGate: &gate{}, newGate: &gate{}}
	b.old.AddHook(b.oldGate)
	b.new.AddHook(b.newGate)
	b.ramp(t, percent, 0)
	return b
}

func (b *gatedBed) set(t *testing.T, value string, ttl time.Duration) {
	t.Helper()
	if err := b.Redis().Set(t.Context(), "k", value, ttl).Err(); err != nil {
		t.Fatalf("Set %q = %v", value, err)
	}
}

// reads wants one value wherever the ramp stands; empty: none.
func (b *gatedBed) reads(t *testing.T, want string) {
	t.Helper()
	for _, percent := range []float64{100, 0} {
		b.ramp(t, percent, 0)
		got, err := b.Redis().Get(t.Context(), "k").Result()
		if err != nil && !errors.Is(err, redis.Nil) || got != want {
			t.Errorf("with the ramp at %g%%: Get = %q, %v; want %q", percent, got, err, want)
		}
	}
}

var (
	errFull = refusal("OOM command not allowed when used memory > 'maxmemory'.")
	errGone = errors.New("the connection broke")
)

func TestAWriteThatFellBackIsNotOverwrittenByAnOlderOneThatWaited(t *testing.T) {
	t.Parallel()
	for _, ttl := range []time.Duration{0, time.Hour} {
		b := newGatedBed(t, 100)
		refuse(&b.oldGate.piped, errFull)
		b.set(t, "1", ttl)
		until(t, "the old side has refused it", func() bool { return b.oldGate.refused.Load() > 0 })
		refuse(&b.newGate.single, errGone)
		b.set(t, "2", ttl)
		refuse(&b.newGate.single, nil)
		refuse(&b.oldGate.piped, nil)
		b.level(t)
		if got := b.old.TTL(t.Context(), "k").Val(); (got > 0) != (ttl > 0) {
			t.Errorf("the time to live is %s, want that of %s", got, ttl)
		}
		b.reads(t, "2")
	}
}

func TestAWriteThatFellBackWaitsForAnOlderOneThatIsBeingSent(t *testing.T) {
	t.Parallel()
	b := newGatedBed(t, 100)
	open := b.oldGate.shut(t)
	b.set(t, "1", 0)
	until(t, "it is on its way to the old side", func() bool { return b.oldGate.held.Load() > 0 })
	refuse(&b.newGate.single, errGone)
	done := make(chan error, 1)
	go func() { done <- b.Redis().Set(t.Context(), "k", "2", 0).Err() }()
	until(t, "the new side has refused the newer one", func() bool { return b.newGate.refused.Load() > 0 })
	var err error
	select {
	case err = <-done:
		t.Error("the newer one was answered while the older one could still land after it")
	case <-time.After(50 * time.Millisecond):
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := b.Redis().Set(ctx, "k", "3", 0).Err(); err == nil {
			t.Error("Set with a deadline = nil while the older one is being sent, want an error")
		}
		cancel()
		open()
		err = <-done
	}
	if err != nil {
		t.Fatalf("Set = %v", err)
	}
	refuse(&b.newGate.single, nil)
	b.level(t)
	// The third one was not acknowledged: it has removed what the old side had, or not.
	if got, err := b.old.Get(t.Context(), "k").Result(); err == nil && got != "2" {
		t.Errorf("the old side has %q, want 2 or nothing", got)
	}
}

func TestAWriteThatNeitherSideAnsweredLeavesNothingOlderOnTheOldSide(t *testing.T) {
	t.Parallel()
	b := newGatedBed(t, 100)
	b.set(t, "1", 0)
	b.level(t)
	b.new.AddHook(failing{"set", errGone, true}) // it runs there, and its answer is lost
	refuse(&b.oldGate.single, errGone)
	if err := b.Redis().Set(t.Context(), "k", "2", 0).Err(); err == nil {
		t.Error("Set that neither side answered = nil, want an error")
	}
	refuse(&b.oldGate.single, nil)
	b.level(t)
	if got := b.new.Get(t.Context(), "k").Val(); got != "2" {
		t.Fatalf("the new side has %q, want 2", got)
	}
	if got, err := b.old.Get(t.Context(), "k").Result(); !errors.Is(err, redis.Nil) {
		t.Errorf("the old side has %q, %v; want nothing, since the new one may have what is newer", got, err)
	}
}

func TestWhatFollowsAWriteThatFellBackIsRightOnBothSides(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(*testing.T, *gatedBed) error
		want string
	}{
		"SET":   {func(t *testing.T, b *gatedBed) error { return b.Redis().Set(t.Context(), "k", "3", 0).Err() }, "3"},
		"SETEX": {func(t *testing.T, b *gatedBed) error { return b.Redis().SetEx(t.Context(), "k", "3", time.Hour).Err() }, "3"},
		"SETNX": {func(t *testing.T, b *gatedBed) error { return b.Redis().SetNX(t.Context(), "k", "3", 0).Err() }, "2"},
		"MSET":  {func(t *testing.T, b *gatedBed) error { return b.Redis().MSet(t.Context(), "k", "3").Err() }, "3"},
		"UNLINK": {func(t *testing.T, b *gatedBed) error {
			if err := b.Redis().Unlink(untilGone(t, b.old, "k"), "k").Err(); !errors.Is(err, errBehind) {
				return errors.Join(errors.New("want that the new side has not taken it"), err)
			}
			return nil
		}, ""},
		// A script sees the write that fell back.
		"EVAL": {func(t *testing.T, b *gatedBed) error {
			return b.Redis().Eval(t.Context(), "return redis.call('APPEND', KEYS[1], '3')", []string{"k"}).Err()
		}, "23"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newGatedBed(t, 100)
			refuse(&b.oldGate.piped, errFull)
			refuse(&b.newGate.piped, errFull)
			b.set(t, "1", 0)
			refuse(&b.newGate.single, errGone)
			b.set(t, "2", 0)
			refuse(&b.newGate.single, nil)
			if toOld, toNew := b.Backlogs(); b.OnNew("k") || toOld.Writes != 0 || toNew.Writes != 1 {
				t.Fatalf("on the new side: %t, backlogs %+v and %+v; want it on the old one, and only the new one behind", b.OnNew("k"), toOld, toNew)
			}
			if err := c.do(t, b); err != nil {
				t.Fatal(err)
			}
			refuse(&b.oldGate.piped, nil)
			refuse(&b.newGate.piped, nil)
			b.level(t)
			b.reads(t, c.want)
		})
	}
}

func TestAWriteThatTheOldSideDidNotTakeIsNotTriedOnTheNewOne(t *testing.T) {
	t.Parallel()
	b := newGatedBed(t, 0)
	refuse(&b.newGate.piped, errFull)
	b.set(t, "1", 0)
	refuse(&b.oldGate.single, errGone)
	if err := b.Redis().Set(t.Context(), "k", "2", 0).Err(); !errors.Is(err, errGone) {
		t.Errorf("Set = %v, want %v", err, errGone)
	}
	refuse(&b.oldGate.single, nil)
	refuse(&b.newGate.piped, nil)
	b.level(t)
	b.reads(t, "1")
}

func TestADeletedKeyDoesNotComeBackWithAWriteThatWaited(t *testing.T) {
	t.Parallel()
	b := newGatedBed(t, 100)
	refuse(&b.oldGate.piped, errFull)
	b.set(t, "1", 0)
	refuse(&b.newGate.single, errGone)
	b.set(t, "2", 0) // on the old side
	refuse(&b.newGate.single, nil)
	refuse(&b.oldGate.piped, nil)
	if err := b.Redis().Del(t.Context(), "k").Err(); err != nil {
		t.Fatal(err)
	}
	b.level(t)
	b.reads(t, "")
}

func TestAValueThatWaitedLivesNoLongerThanItShould(t *testing.T) {
	t.Parallel()
	b := newGatedBed(t, 100)
	refuse(&b.oldGate.piped, errFull)
	b.set(t, "1", 20*time.Millisecond)
	until(t, "it has expired on the new side", func() bool { return b.new.Exists(t.Context(), "k").Val() == 0 })
	var late atomic.Bool
	b.old.AddHook(sees{"set", &late})
	refuse(&b.oldGate.piped, nil)
	b.level(t)
	if late.Load() {
		t.Error("the old side was told of a value after it had expired on the new one")
	}
}

// sees notes whether a pipeline had a command.
type sees struct {
	name string
	seen *atomic.Bool
}

func (sees) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (sees) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (s sees) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			if cmd.Name() == s.name && cmd.Err() == nil {
				s.seen.Store(true)
			}
		}
		return err
	}
}

func TestARemovalThatIsRefusedCountsAsFailing(t *testing.T) {
	t.Parallel()
	b := newGatedBed(t, 100)
	refuse(&b.oldGate.piped, refusal("CROSSSLOT Keys in request don't hash to the same slot"))
	if err := b.new.Set(t.Context(), "k", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := b.Redis().Unlink(untilGone(t, b.new, "k"), "k").Err(); !errors.Is(err, errBehind) {
		t.Errorf("Unlink = %v, want that the old side has not taken it", err)
	}
	until(t, "the backlog says why", func() bool {
		toOld, _ := b.Backlogs()
		return toOld.Writes == 1 && toOld.Err != nil
	})
	<-time.After(4 * firstPause)
	if n := b.oldGate.refused.Load(); n > 20 {
		t.Errorf("it was sent %d times in a few pauses, want a few", n)
	}
	refuse(&b.oldGate.piped, nil)
	b.level(t)
	if toOld, _ := b.Backlogs(); toOld.Err != nil {
		t.Errorf("once it is taken the backlog says %v", toOld.Err)
	}
}

func TestAKeyStaysWhereItsNewestValueIsWhenWritingOnBothSidesEnds(t *testing.T) {
	t.Parallel()
	b := newGatedBed(t, 100)
	b.set(t, "1", 0)
	b.level(t)
	refuse(&b.oldGate.piped, errFull)
	b.set(t, "2", 0)
	b.override(t, map[string]float64{}) // rolled back
	if got, err := b.Redis().Get(t.Context(), "k").Result(); got != "2" {
		t.Errorf("Get = %q, %v while the old side is behind; want 2", got, err)
	}
	b.set(t, "3", 0)
	refuse(&b.oldGate.piped, nil)
	b.level(t)
	if got := b.old.Get(t.Context(), "k").Val(); got != "3" {
		t.Errorf("the old side has %q, want 3", got)
	}
	b.set(t, "4", 0)
	if _, toNew := b.Backlogs(); b.OnNew("k") || toNew.Writes != 0 {
		t.Errorf("on the new side: %t, %d writes wait for it; want it on the old one alone", b.OnNew("k"), toNew.Writes)
	}
}

func TestWhatWaitsForTheOldSideIsDroppedWhenPhase1IsComplete(t *testing.T) {
	t.Parallel()
	b := newGatedBed(t, 100)
	refuse(&b.oldGate.piped, errFull)
	b.set(t, "1", 0)
	b.override(t, map[string]float64{Cache: 100})
	if err := b.Redis().Unlink(t.Context(), "k").Err(); err != nil {
		t.Fatal(err)
	}
	b.level(t)
	b.set(t, "2", 0)
	if got := b.new.Get(t.Context(), "k").Val(); got != "2" {
		t.Errorf("the new side has %q, want 2", got)
	}
}

func TestAPipelineThatWritesAKeyTwiceLeavesTheSameOnBothSides(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		second func(context.Context, redis.Pipeliner)
		want   string
	}{
		"SET, SET": {func(ctx context.Context, p redis.Pipeliner) { p.Set(ctx, "k", "2", 0) }, "2"},
		"SET, DEL": {func(ctx context.Context, p redis.Pipeliner) { p.Del(ctx, "k") }, ""},
		"SET, EVAL": {func(ctx context.Context, p redis.Pipeliner) {
			p.Eval(ctx, "return redis.call('APPEND', KEYS[1], '2')", []string{"k"})
		}, "12"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newGatedBed(t, 100)
			_, err := b.Redis().Pipelined(t.Context(), func(p redis.Pipeliner) error {
				p.Set(t.Context(), "k", "1", 0)
				c.second(t.Context(), p)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			b.level(t)
			if got := b.new.Get(t.Context(), "k").Val(); got != c.want {
				t.Errorf("the new side has %q, want %q", got, c.want)
			}
			if got := b.old.Get(t.Context(), "k").Val(); got != "" && got != c.want {
				t.Errorf("the old side has %q, want %q or nothing", got, c.want)
			}
		})
	}
}

func TestAHotKeyCostsNoMemoryForWritesWhosePlaceWasTaken(t *testing.T) {
	t.Parallel()
	b := newGatedBed(t, 100)
	refuse(&b.oldGate.piped, errFull)
	for range 200 {
		b.set(t, "1", 0)
	}
	b.toOld.mu.Lock()
	defer b.toOld.mu.Unlock()
	w := b.toOld.waiting["k"]
	if w == nil {
		w = b.toOld.flying["k"]
	}
	if w == nil || len(w.waiters) > 50 {
		t.Errorf("what waits is %+v, want at most one waiter for each time it was refused", w)
	}
	if n := len(b.turns.keys); n != 0 {
		t.Errorf("turns of %d keys are kept, want none", n)
	}
}

func TestAWriteThatIsOnItsWayIsNoDifference(t *testing.T) {
	t.Parallel()
	b := newGatedBed(t, 0)
	b.set(t, "1", 0)
	until(t, "the new side has the first", func() bool { return b.new.Get(t.Context(), "k").Val() == "1" })
	open := b.newGate.shut(t)
	b.set(t, "2", 0)
	compared := func() map[Class]int64 {
		b.ramp(t, 0, 100)
		_ = b.Redis().Get(t.Context(), "k")
		b.ramp(t, 0, 0)
		return b.ledger.Summary(time.Now().Add(-time.Hour), time.Now()).Routes[Cache].Compared
	}
	until(t, "a comparison that did not count", func() bool { return compared()[Dropped] > 0 })
	open()
	until(t, "the new side has the second", func() bool { return b.new.Get(t.Context(), "k").Val() == "2" })
	until(t, "a comparison that matched", func() bool { return compared()[Match] > 0 })
	if c := compared(); c[Differs] != 0 {
		t.Errorf("compared = %v, want no difference", c)
	}
	if got := b.new.Get(t.Context(), "k").Val(); got != "2" {
		t.Errorf("on the new side: %q, want %q", got, "2")
	}
}
