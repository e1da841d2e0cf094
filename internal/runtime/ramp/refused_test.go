package ramp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestAValueThatTheNewSideRefusesKeepsNoOtherWriteWaiting(t *testing.T) {
	t.Parallel()
	next := redistest.Start(t, "--proto-max-bulk-len", "1048576")
	b := newReplica(t, client(t, redistest.Start(t).Addr), client(t, next.Addr), func(o *ClientOptions) { o.MirrorWait = time.Millisecond })
	ctx := t.Context()
	b.new.Set(ctx, "large", "of before", 0)
	b.ramp(t, 0, 0)
	if err := b.Redis().Set(ctx, "large", strings.Repeat("x", 2<<20), 0).Err(); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		if err := b.Redis().Set(ctx, fmt.Sprint("small:", i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "everything else is on the new side", func() bool {
		_, toNew := b.Backlogs()
		return toNew.Writes == 0
	})
	if n := b.new.DBSize(ctx).Val(); n != 300 {
		t.Errorf("the new side has %d keys, want the 300 small ones and nothing out of date", n)
	}
	if err := b.Redis().Del(ctx, "small:1").Err(); err != nil {
		t.Errorf("a delete = %v", err)
	}
	if got := b.ledger.Totals()[Cache].New; got.Errors == 0 || got.Calls < 300 {
		t.Errorf("counted of the new side: %d calls, %d errors; want what was brought there, and that it refused", got.Calls, got.Errors)
	}
}

// failing answers a command with an error, before or after the server has run it.
type failing struct {
	name string
	err  error
	ran  bool
}

func (failing) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f failing) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != f.name {
			return next(ctx, cmd)
		}
		if f.ran {
			_ = next(ctx, cmd)
		}
		cmd.SetErr(f.err)
		return f.err
	}
}

func (f failing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if cmd.Name() == f.name {
				for _, cmd := range cmds {
					cmd.SetErr(f.err)
				}
				return f.err
			}
		}
		return next(ctx, cmds)
	}
}

func TestAWriteOfWhichNobodyKnowsWhatBecameLeavesNothingOlderOnTheOtherSide(t *testing.T) {
	t.Parallel()
	lost := errors.New("the connection broke")
	for _, ran := range []bool{false, true} {
		b := newBed(t, nil)
		b.ramp(t, 0, 0)
		if err := b.Redis().Set(t.Context(), "k", "1", 0).Err(); err != nil {
			t.Fatal(err)
		}
		b.old.AddHook(failing{"set", lost, ran})
		if err := b.Redis().Set(t.Context(), "k", "2", 0).Err(); !errors.Is(err, lost) {
			t.Fatalf("Set = %v, want %v", err, lost)
		}
		until(t, "the new side is told", func() bool {
			_, toNew := b.Backlogs()
			return toNew.Writes == 0
		})
		b.ramp(t, 100, 0)
		want := map[bool]string{false: "1", true: "2"}[ran]
		if got, err := b.Redis().Get(t.Context(), "k").Result(); err != nil || got != want {
			t.Errorf("run %v: once it has moved it is %q, %v; want %q, as the old side has it", ran, got, err, want)
		}
	}
}

func TestWhatIsDeletedIsNotReadFromTheOldSideThatHasNotTakenItYet(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	b.ramp(t, 0, 0)
	for _, key := range []string{"a", "b"} {
		if err := b.Redis().Set(t.Context(), key, "1", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	b.ramp(t, 100, 0)
	b.old.AddHook(failing{"unlink", errors.New("no answer"), false})
	if err := b.Redis().Del(untilGone(t, b.new, "a"), "a").Err(); !errors.Is(err, errBehind) {
		t.Errorf("Del that the old side has not taken = %v, want that", err)
	}
	if got, err := b.Redis().Get(t.Context(), "a").Result(); !errors.Is(err, redis.Nil) {
		t.Errorf("Get = %q, %v, want nothing", got, err)
	}
	if got, err := b.Redis().MGet(t.Context(), "a", "b").Result(); err != nil || got[0] != nil || got[1] != "1" {
		t.Errorf("MGet = %v, %v, want nothing and 1", got, err)
	}
}
