package step_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/history"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// TestAPlanOfALongQueueReadsASampleAndTheMoveStillLooksAtEveryJob plans 20,000 jobs, one of which in an unread
// place has no hash.
func TestAPlanOfALongQueueReadsASampleAndTheMoveStillLooksAtEveryJob(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	const jobs = 20000
	pipe := client.Pipeline()
	for i := range jobs {
		id := fmt.Sprint(i + 1)
		pipe.LPush(ctx, "bull:mail:wait", id)
		if i != 700 {
			pipe.HSet(ctx, "bull:mail:"+id, "name", "x", "data", "{}", "opts", "{}", "timestamp", "1795000000000", "delay", "0", "priority", "0")
		}
		if i%1000 == 999 {
			if _, err := pipe.Exec(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	route := step.Route{
		From: mover.Endpoint{Layout: mover.Bull, Major: 4, Prefix: "bull", Queue: "mail"},
		To:   mover.Endpoint{Layout: mover.BullMQ, Major: 6, Prefix: "bullmq", Queue: "mail"},
	}
	priced := func(all bool) (mover.Plan, int64) {
		t.Helper()
		phase, err := step.NewPhase3(client, step.Phase3Options{Route: route, ActiveTimeout: -1, AllJobs: all})
		if err != nil {
			t.Fatal(err)
		}
		before := processed(t, client)
		plan, err := phase.Plan(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return plan, processed(t, client) - before
	}
	full, fullCost := priced(true)
	sample, sampleCost := priced(false)
	t.Logf("a full plan of %d jobs costs %d commands, a sampled one %d; they price the move at %+v and %+v",
		jobs, fullCost, sampleCost, full.Commands, sample.Commands)
	if sampleCost > 1300 || fullCost < jobs {
		t.Errorf("%d commands for a sample and %d for all, want at most 1,300 and at least %d", sampleCost, fullCost, jobs)
	}
	if off := float64(sample.Commands.InScript) / float64(full.Commands.InScript); off < 0.98 || off > 1.02 {
		t.Errorf("the sample prices the move at %d, all jobs at %d", sample.Commands.InScript, full.Commands.InScript)
	}
	has := func(p mover.Plan, rule string) bool {
		return slices.ContainsFunc(p.Problems, func(p mover.Problem) bool { return p.Rule == rule && !p.Blocking })
	}
	if !has(sample, "sampled") || has(full, "sampled") || !has(full, "missing-hash") {
		t.Errorf("the sample says %v, all jobs say %v", sample.Problems, full.Problems)
	}
	m, err := mover.New(client, mover.Options{From: route.From, To: route.To, ActiveTimeout: -1, Sample: 1000})
	if err != nil {
		t.Fatal(err)
	}
	result, err := m.Move(ctx)
	if err != nil || len(result.Skipped) != 1 || result.Skipped[0].JobID != "701" {
		t.Fatalf("Move skipped %v, %v, want the one without a hash", result.Skipped, err)
	}
	if left := client.LLen(ctx, "bull:mail:wait").Val(); left != 1 {
		t.Errorf("%d jobs are left at the source, want that one", left)
	}
}

// processed is how many commands the server has run, without those inside scripts.
func processed(t *testing.T, client *redis.Client) int64 {
	t.Helper()
	counters, err := history.ParseInfo(client.Info(t.Context()).Val())
	if err != nil {
		t.Fatal(err)
	}
	return counters.Commands
}
