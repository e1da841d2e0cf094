package mover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

var errCrash = errors.New("injected crash")

// A crashHook fails the nth script call, before it is sent or after it ran, as a killed process or a
// cut connection would.
type crashHook struct {
	at    int // counts from 0; negative: never
	after bool
	calls int

	mu sync.Mutex // of calls: some scripts run two at a time
}

// count is the number of the next call.
func (h *crashHook) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls++
	return h.calls - 1
}

func (h *crashHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (h *crashHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !strings.HasPrefix(cmds[0].Name(), "eval") {
			return next(ctx, cmds)
		}
		n := h.count()
		if n == h.at && h.after {
			if err := next(ctx, cmds); err != nil {
				return err
			}
		}
		if n == h.at {
			for _, cmd := range cmds {
				cmd.SetErr(errCrash)
			}
			return errCrash
		}
		return next(ctx, cmds)
	}
}

func (h *crashHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !strings.HasPrefix(cmd.Name(), "eval") {
			return next(ctx, cmd)
		}
		n := h.count()
		if n == h.at && !h.after {
			cmd.SetErr(errCrash)
			return errCrash
		}
		err := next(ctx, cmd)
		if n == h.at && err == nil {
			cmd.SetErr(errCrash)
			return errCrash
		}
		return err
	}
}

// A journey moves every queue of the capture once.
type journey struct {
	name    string
	load    func(testing.TB) []capture.Key
	options func(prefix, queue string) Options
	queues  [][2]string
	first   *journey // what must have been done before
}

func journeys() []journey {
	away := func(major int, order Order) func(string, string) Options {
		return func(prefix, queue string) Options {
			return Options{
				From: Endpoint{Bull, 4, prefix, queue}, To: Endpoint{BullMQ, major, target(prefix), queue},
				Order: order, ChunkSize: 6, ActiveTimeout: -1,
			}
		}
	}
	back := func(prefix, queue string) Options {
		return Options{
			From: Endpoint{BullMQ, 6, target(prefix), queue}, To: Endpoint{Bull, 4, prefix, queue},
			ChunkSize: 6, ActiveTimeout: -1, Reverse: true,
		}
	}
	there := journey{name: "to another prefix", load: capturedBull, options: away(6, Keep), queues: capturedQueues()}
	return []journey{
		there,
		{name: "to another prefix by priority", load: capturedBull, options: away(5, ByPriority), queues: capturedQueues()},
		{name: "back from another prefix", load: capturedBull, options: back, queues: capturedQueues(), first: &there},
		{
			name: "in place to bullmq 6", load: capturedBull, queues: capturedQueues(),
			options: func(prefix, queue string) Options {
				return Options{
					From: Endpoint{Bull, 4, prefix, queue}, To: Endpoint{BullMQ, 6, prefix, queue},
					ChunkSize: 6, ActiveTimeout: -1, SchedulerID: hashID,
				}
			},
		},
		{
			name: "in place to bullmq 5 by priority", load: capturedBull, queues: capturedQueues(),
			options: func(prefix, queue string) Options {
				return Options{
					From: Endpoint{Bull, 4, prefix, queue}, To: Endpoint{BullMQ, 5, prefix, queue}, Order: ByPriority,
					ChunkSize: 6, ActiveTimeout: -1, SchedulerID: hashID,
				}
			},
		},
		{
			name: "in place to bull", queues: append(capturedQueues(), [2]string{"bull", "webhook-renewal"}),
			load: func(tb testing.TB) []capture.Key { return loadDump(tb, "bullmq-6.7.0.json") },
			options: func(prefix, queue string) Options {
				return Options{
					From: Endpoint{BullMQ, 6, prefix, queue}, To: Endpoint{Bull, 4, prefix, queue},
					ChunkSize: 6, ActiveTimeout: -1, LeaveFlows: true,
				}
			},
		},
	}
}

// travel loads what a journey begins with.
func travel(t *testing.T, client *redis.Client, hook *crashHook, j journey) {
	t.Helper()
	ctx := t.Context()
	hook.at, hook.calls = -1, 0
	client.FlushAll(ctx)
	restore(ctx, t, client, withoutLocks(j.load(t)))
	if j.first != nil {
		for _, q := range j.first.queues {
			mustMove(ctx, t, client, j.first.options(q[0], q[1]))
		}
	}
}

func everything(t *testing.T, client *redis.Client) []capture.Key {
	t.Helper()
	keys, err := capture.Dump(t.Context(), client, "*")
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func remains(v Verification) bool {
	for _, n := range v.Remaining {
		if n > 0 {
			return true
		}
	}
	return false
}

func TestResumeAfterACrashAtAnyScriptEndsLikeAnUninterruptedRun(t *testing.T) {
	for _, j := range journeys() {
		t.Run(j.name, func(t *testing.T) {
			t.Parallel()
			srv := redistest.Start(t)
			client := srv.Client(t)
			hook := &crashHook{at: -1}
			client.AddHook(hook)
			for range 2 { // the first time every script is sent twice, since the server does not know it yet
				travel(t, client, hook, j)
				hook.calls = 0
				for _, q := range j.queues {
					mustMove(t.Context(), t, client, j.options(q[0], q[1]))
				}
			}
			want, calls := everything(t, client), hook.calls
			if calls < 10 {
				t.Fatalf("the journey made %d script calls, which proves little", calls)
			}
			step := 1
			if RaceEnabled {
				step = 5
			}
			for at := 0; at < calls; at += step {
				for _, after := range []bool{false, true} {
					travel(t, client, hook, j)
					hook.at, hook.after, hook.calls = at, after, 0
					crashed := false
					for _, q := range j.queues {
						m, err := New(client, j.options(q[0], q[1]))
						if err != nil {
							t.Fatal(err)
						}
						if _, err = m.Move(t.Context()); errors.Is(err, errCrash) {
							crashed = true
							hook.at = -1
							// As a migration that goes on: what is verified to be in place is not applied again.
							var check Verification
							if check, err = m.Verify(t.Context()); err == nil && (!check.Finished || remains(check)) {
								_, err = m.Move(t.Context())
							}
						}
						if err != nil {
							t.Fatalf("crash at %d (after: %v): %v", at, after, err)
						}
					}
					if !crashed {
						t.Fatalf("no crash at script call %d", at)
					}
					for _, d := range capture.Compare(want, everything(t, client)) {
						t.Errorf("%s", fmt.Sprintf("crash at %d (after: %v): %s", at, after, d))
					}
				}
			}
		})
	}
}
