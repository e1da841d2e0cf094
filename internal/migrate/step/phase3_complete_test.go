package step_test

import (
	"strings"
	"testing"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// TestCompletingAMoveToAsynqLeavesNothingOfTheWayBack: neither the ledger nor what each job had with it.
func TestCompletingAMoveToAsynqLeavesNothingOfTheWayBack(t *testing.T) {
	client := redistest.Start(t).Client(t)
	ctx := t.Context()
	route := toAsynq()
	const jobs = 250
	for id := range jobs {
		addBull(t, client, route.From, id+1)
	}
	phase, err := step.NewQueuePhase(client, step.Phase3Options{Route: route, WorkersStopped: true, ActiveTimeout: -1},
		migrate.Env{Pace: &migrate.Pace{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range phase.Steps() {
		if err := s.Apply(ctx); err != nil {
			t.Fatalf("%s: %v", s.Name(), err)
		}
	}
	marked := func() (n int) {
		for _, key := range client.Keys(ctx, "asynq:{mail}:t:*").Val() {
			if client.HExists(ctx, key, "moved_from").Val() {
				n++
			}
		}
		return n
	}
	if n := marked(); n != jobs {
		t.Fatalf("%d jobs say where they came from, want all %d", n, jobs)
	}
	said, err := phase.Irreversible(ctx)
	if err != nil || len(said) != 2 || !strings.Contains(said[1], "250 jobs") || !strings.Contains(said[1], "560 commands") {
		t.Errorf("Irreversible = %q, %v, want the ledger, and the jobs with their price", said, err)
	}
	for range 2 {
		if err := phase.Complete(ctx); err != nil {
			t.Fatal(err)
		}
		if n := marked(); n != 0 {
			t.Errorf("%d jobs still say where they came from", n)
		}
		if left := client.Keys(ctx, "redisopt:ledger:*").Val(); len(left) > 0 {
			t.Errorf("left of the ledger: %v", left)
		}
	}
}
