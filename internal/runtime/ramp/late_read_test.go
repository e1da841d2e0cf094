package ramp

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/control"
)

// afterRead does something once, after the first read of its side was answered and before the reader has it.
type afterRead struct{ do func() }

func (*afterRead) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a *afterRead) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if name := cmd.Name(); (name == "get" || name == "mget") && a.do != nil {
			do := a.do
			a.do = nil
			do()
		}
		return err
	}
}

func (*afterRead) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// holdPipelines keeps what a mirror brings from a side until the channel is closed.
type holdPipelines struct{ until chan struct{} }

func (holdPipelines) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (holdPipelines) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h holdPipelines) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		<-h.until
		return next(ctx, cmds)
	}
}

// reads are the two ways in which a value is read.
func reads(t *testing.T, b *bed) map[string]func() (any, error) {
	return map[string]func() (any, error){
		"get": func() (any, error) { return b.Redis().Get(t.Context(), "k").Result() },
		"mget": func() (any, error) {
			all, err := b.Redis().MGet(t.Context(), "k", "none").Result()
			if err != nil {
				return nil, err
			}
			return all[0], nil
		},
	}
}

func TestAReaderOfAKeyThatIsBeingMovedFindsIt(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(t *testing.T, b *bed){
		// It is written for the first time on the new side, and the old one has not taken that yet.
		"a write": func(t *testing.T, b *bed) {
			if err := b.Redis().Set(t.Context(), "k", "v", 0).Err(); err != nil {
				t.Error(err)
			}
			if old, _ := b.Backlogs(); old.Writes != 1 {
				t.Errorf("%d writes are on their way to the old side, want one", old.Writes)
			}
		},
		// The ramp goes back, and its mirror ends.
		"the way back": func(t *testing.T, b *bed) {
			b.epoch++
			if err := b.control.Override(control.Document{Epoch: b.epoch, Ramps: map[string]float64{Cache: 0, Mirror(Cache): 0}}); err != nil {
				t.Error(err)
			}
			b.router.take()
		},
	} {
		for _, read := range []string{"get", "mget"} {
			t.Run(name+", "+read, func(t *testing.T) {
				b := newBed(t, func(o *ClientOptions) { o.MirrorWait = time.Millisecond })
				hold := holdPipelines{make(chan struct{})}
				b.old.AddHook(hold)
				defer close(hold.until)
				if err := b.old.Set(t.Context(), "k", "v", 0).Err(); err != nil {
					t.Fatal(err)
				}
				b.ramp(t, 100, 0)
				b.new.AddHook(&afterRead{func() { meanwhile(t, b) }})
				if got, err := reads(t, b)[read](); err != nil || got != "v" {
					t.Errorf("%s = %v, %v, want v", read, got, err)
				}
			})
		}
	}
}
