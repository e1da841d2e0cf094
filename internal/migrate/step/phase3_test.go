package step_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// route is where the queue of the capture goes that has a job in every state.
func route() step.Route {
	return step.Route{
		From:  mover.Endpoint{Layout: mover.Bull, Major: 4, Prefix: "bull", Queue: "suggestion-generation"},
		To:    mover.Endpoint{Layout: mover.BullMQ, Major: 6, Prefix: "bullmq", Queue: "suggestion-generation"},
		Order: mover.Keep,
	}
}

// loaded is a server with the captured keys, but for those that expire.
func loaded(t *testing.T) *redis.Client {
	t.Helper()
	client := redistest.Start(t).Client(t)
	keys, err := capture.Bull()
	if err != nil {
		t.Fatal(err)
	}
	keys = slices.DeleteFunc(keys, func(k capture.Key) bool { return k.TTL >= 0 })
	if err := capture.Restore(t.Context(), client, keys); err != nil {
		t.Fatal(err)
	}
	return client
}

func dump(t *testing.T, client redis.UniversalClient, match string) []capture.Key {
	t.Helper()
	keys, err := capture.Dump(t.Context(), client, match)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func look(t *testing.T, client redis.UniversalClient, dir string) migrate.Standing {
	t.Helper()
	s, err := migrate.Look(t.Context(), client, migrate.SessionOptions{Target: step.TargetOf(route()), StateDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sum(counts map[mover.State]int64) (all int64) {
	for _, n := range counts {
		all += n
	}
	return all
}

func TestAQueueGoesThereAndBackAndThereAgain(t *testing.T) {
	client := loaded(t)
	opts := step.RunOptions{StateDir: t.TempDir(), WorkersStopped: true, ActiveTimeout: -1}
	was := dump(t, client, "bull:suggestion-generation:*")
	var there []capture.Key
	for round := range 2 {
		plan, err := step.PlanStart(t.Context(), client, look(t, client, opts.StateDir), route(), opts)
		if err != nil || plan.Refused() != nil {
			t.Fatalf("round %d: plan: %v, refused: %v", round, err, plan.Refused())
		}
		report, err := step.Start(t.Context(), client, route(), opts)
		if err != nil {
			t.Fatalf("round %d: start: %v", round, err)
		}
		if report.State.Stage != migrate.Complete || sum(report.Outcome.Moved) != sum(plan.Counts) {
			t.Errorf("round %d: %s after moving %v, want complete and what was planned, %v", round, report.State.Stage, report.Outcome.Moved, plan.Counts)
		}
		if left := sum(report.Outcome.Check.Remaining); left != 0 {
			t.Errorf("round %d: %d jobs remain, want 0", round, left)
		}
		if round == 0 {
			there = dump(t, client, "bullmq:*")
		} else if diff := capture.Compare(there, dump(t, client, "bullmq:*")); len(diff) > 0 {
			t.Errorf("the second way there differs from the first:\n%v", diff)
		}
		again, err := step.Start(t.Context(), client, route(), opts)
		if err != nil || sum(again.Outcome.Moved) != 0 {
			t.Errorf("round %d: start again moved %v, %v, want nothing", round, again.Outcome.Moved, err)
		}

		report, err = step.Rollback(t.Context(), client, look(t, client, opts.StateDir), errors.New("test"), opts)
		if err != nil || report.State.Stage != migrate.RolledBack {
			t.Fatalf("round %d: roll back: %s, %v", round, report.State.Stage, err)
		}
		if left := dump(t, client, "redisopt:ledger:*"); len(left) != 0 {
			t.Errorf("round %d: the ledger is still there: %d keys", round, len(left))
		}
		t.Logf("round %d: after the way back: %v", round, capture.Compare(was, dump(t, client, "bull:suggestion-generation:*")))
		_, err = step.Rollback(t.Context(), client, look(t, client, opts.StateDir), nil, opts)
		if !errors.Is(err, migrate.ErrNothingToRollBack) {
			t.Errorf("round %d: second roll back: %v, want ErrNothingToRollBack", round, err)
		}
	}
}

func TestAnActiveJobWithALockIsHeldUntilItsWorkerIsGone(t *testing.T) {
	client := loaded(t)
	dir := t.TempDir()
	active := client.LRange(t.Context(), "bull:suggestion-generation:active", 0, -1).Val()
	if len(active) == 0 {
		t.Fatal("the capture has no active job")
	}
	lock := "bull:suggestion-generation:" + active[0] + ":lock"
	if err := client.Set(t.Context(), lock, "token", time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	opts := step.RunOptions{StateDir: dir, WorkersStopped: true, ActiveTimeout: -1}
	_, err := step.Start(t.Context(), client, route(), opts)
	var held *step.HeldJobsError
	if !errors.As(err, &held) || !slices.Contains(held.IDs, active[0]) {
		t.Fatalf("Start = %v, want a HeldJobsError about %s", err, active[0])
	}
	s := look(t, client, dir)
	if s.State.Stage != migrate.Forward || !strings.Contains(s.State.Reason, active[0]) || s.Holder != nil {
		t.Errorf("stands at %+v, want forward, with the job in its reason, and held by nobody", s)
	}
	client.Del(t.Context(), lock)
	report, err := step.Resume(t.Context(), client, s, opts)
	if err != nil || report.State.Stage != migrate.Complete {
		t.Errorf("Resume = %s, %v, want complete", report.State.Stage, err)
	}
}

func TestAnotherRouteIsRefusedBeforeAnybodyIsAsked(t *testing.T) {
	client := loaded(t)
	opts := step.RunOptions{StateDir: t.TempDir(), WorkersStopped: true, ActiveTimeout: -1}
	if _, err := step.Start(t.Context(), client, route(), opts); err != nil {
		t.Fatal(err)
	}
	other := route()
	other.To.Prefix = "elsewhere"
	was := dump(t, client, "bull*")
	var changed *migrate.PlanError
	plan, err := step.PlanStart(t.Context(), client, look(t, client, opts.StateDir), other, opts)
	if err != nil || !errors.As(plan.Refused(), &changed) {
		t.Errorf("PlanStart = %v, refused %v, want a PlanError", err, plan.Refused())
	}
	if _, err := step.Start(t.Context(), client, other, opts); !errors.As(err, &changed) {
		t.Errorf("Start = %v, want a PlanError", err)
	}
	if diff := capture.Compare(was, dump(t, client, "bull*")); len(diff) > 0 {
		t.Errorf("the refused start changed something:\n%v", diff)
	}
}

// TestAnOperatorWhoseLeaseWasTakenMovesNothingMore is the paused process: it wakes in the middle of a
// move, and somebody else holds the lease.
func TestAnOperatorWhoseLeaseWasTakenMovesNothingMore(t *testing.T) {
	client := loaded(t)
	dir := t.TempDir()
	target := step.TargetOf(route())
	moved := int64(-1)
	var left []capture.Key
	opts := step.RunOptions{
		StateDir: dir, WorkersStopped: true, ActiveTimeout: -1,
		OnProgress: func(mover.Progress) {
			if moved >= 0 {
				return
			}
			moved = 0
			if err := client.Set(t.Context(), target.LeaseKey(), "2 secret bob@beta 200", time.Minute).Err(); err != nil {
				t.Error(err)
			}
			left = dump(t, client, "*")
		},
	}
	_, err := step.Start(t.Context(), client, route(), opts)
	if !errors.Is(err, migrate.ErrLeaseLost) {
		t.Errorf("Start = %v, want ErrLeaseLost", err)
	}
	if diff := capture.Compare(left, dump(t, client, "*")); len(diff) > 0 {
		t.Errorf("something was changed after the lease was lost:\n%v", diff)
	}
	if got := client.Get(t.Context(), target.LeaseKey()).Val(); got != "2 secret bob@beta 200" {
		t.Errorf("the lease is now %q, want the other's, untouched", got)
	}
	// The other one, elsewhere, goes on from what Redis knows.
	client.Del(t.Context(), target.LeaseKey())
	other := step.RunOptions{StateDir: t.TempDir(), WorkersStopped: true, ActiveTimeout: -1}
	report, err := step.Resume(t.Context(), client, look(t, client, other.StateDir), other)
	if err != nil || report.State.Stage != migrate.Complete {
		t.Errorf("the other's Resume = %s, %v, want complete", report.State.Stage, err)
	}
}

func TestAnInterruptedMoveStopsAtAChunkAndIsResumed(t *testing.T) {
	client := loaded(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	opts := step.RunOptions{
		StateDir: dir, WorkersStopped: true, ActiveTimeout: -1,
		OnProgress: func(mover.Progress) { cancel() },
	}
	if _, err := step.Start(ctx, client, route(), opts); !errors.Is(err, context.Canceled) {
		t.Fatalf("Start = %v, want it to be cancelled", err)
	}
	s := look(t, client, dir)
	if s.State.Stage != migrate.Forward || s.Holder != nil {
		t.Errorf("stands at %s, held by %v, want forward and nobody", s.State.Stage, s.Holder)
	}
	opts.OnProgress = nil
	report, err := step.Resume(t.Context(), client, s, opts)
	if err != nil || report.State.Stage != migrate.Complete {
		t.Errorf("Resume = %s, %v, want complete", report.State.Stage, err)
	}
}
