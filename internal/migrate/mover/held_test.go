package mover

import (
	"context"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// An activeHook runs something before each read of the list of active jobs, and after it.
type activeHook struct {
	key           string
	before, after func(n int)
	reads         int
}

func (h *activeHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (h *activeHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *activeHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if args := cmd.Args(); cmd.Name() != "lrange" || args[1] != h.key {
			return next(ctx, cmd)
		}
		h.reads++
		h.before(h.reads)
		defer h.after(h.reads)
		return next(ctx, cmd)
	}
}

// A worker that takes a job in the last instant of a move is given the time to end it, like any other.
func TestAJobThatIsTakenWhenTheMoveHasJustLookedIsWaitedFor(t *testing.T) {
	server := redistest.Start(t)
	client, outside := server.Client(t), server.Client(t)
	ctx := t.Context()
	from, to := Endpoint{Bull, 4, "bull", "q"}, Endpoint{BullMQ, 6, "mq", "q"}
	bull := &fakeBull{tb: t, client: outside, e: from, rng: rand.New(rand.NewPCG(1, 1)), plain: map[string]bool{}} //nolint:gosec // reproducible on purpose
	for range 5 {
		bull.add(ctx, 0)
	}
	// How often a move that nothing comes between reads the list; the last read is the one that counts.
	quiet := &activeHook{key: from.Key("active"), before: func(int) {}, after: func(int) {}}
	client.AddHook(quiet)
	mustMove(ctx, t, client, Options{From: from, To: to})
	for range 5 {
		bull.add(ctx, 0)
	}
	last, hook := quiet.reads, server.Client(t)
	hook.AddHook(&activeHook{
		key: from.Key("active"),
		before: func(n int) {
			if n == last {
				bull.add(ctx, 0)
				bull.take(ctx)
			}
		},
		after: func(n int) {
			if n == last {
				bull.finish(ctx)
			}
		},
	})
	result := mustMove(ctx, t, hook, Options{From: from, To: to})
	if len(result.Held) > 0 {
		t.Errorf("held %v, want nothing: its worker has ended it", result.Held)
	}
	checkNothingLostOrDoubled(ctx, t, outside, from, to, bull.all)
	if left, err := counts(ctx, outside, from); err != nil || len(left) > 0 {
		t.Errorf("left at the source %v, %v", left, err)
	}
}
