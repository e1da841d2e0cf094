package step_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/journal"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// calm is a Watch that finds nothing wrong.
type calm struct{}

func (calm) Read(_ context.Context, _ string, from, to time.Time) (migrate.Evidence, error) {
	return migrate.Evidence{Known: true, From: from, To: to, Samples: 1, Coverage: 1, Missing: []string{}}, nil
}

// soaked moves a queue of Bull with a soak, while events of BullMQ come as jobs does, and returns what became of it.
func soaked(t *testing.T, client redis.UniversalClient, soak step.Soaking, opts step.RunOptions, jobs func(ctx context.Context)) (step.Report, error) {
	t.Helper()
	for i := range 3 {
		id := fmt.Sprint(i + 1)
		if err := client.HSet(t.Context(), "bull:mail:"+id, "name", "x", "data", "{}", "opts", "{}", "timestamp", 1795000000000, "delay", 0, "priority", 0).Err(); err != nil {
			t.Fatal(err)
		}
		if err := client.LPush(t.Context(), "bull:mail:wait", id).Err(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		jobs(ctx)
	}()
	defer func() {
		cancel()
		<-ended
	}()
	opts.Hosting.Watch = calm{}
	return step.Start(ctx, client, step.Route{
		From: mover.Endpoint{Layout: mover.Bull, Major: 4, Prefix: "bull", Queue: "mail"},
		To:   mover.Endpoint{Layout: mover.BullMQ, Major: 5, Prefix: "bullmq", Queue: "mail"},
		Soak: &soak,
	}, opts)
}

// ending writes an event of BullMQ every few milliseconds.
func ending(t *testing.T, client redis.UniversalClient, event func(n int) string) func(ctx context.Context) {
	t.Helper()
	return func(ctx context.Context) {
		for n := 0; ctx.Err() == nil; n++ {
			_ = client.XAdd(ctx, &redis.XAddArgs{Stream: "bullmq:mail:events", Values: []string{"event", event(n)}}).Err()
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
}

func gatesOf(success float64) []migrate.Gate {
	g := step.DefaultQueueGates()
	g.JobSuccess, g.MinJobs, g.BacklogGrowth = success, 10, -1
	return g.Gates(false, time.Second)
}

func TestAQueueIsInPlaceWhenItsJobsEndWellForLongEnough(t *testing.T) {
	client := redistest.Start(t).Client(t)
	dir := t.TempDir()
	soak := step.Soaking{ForMS: 1500, Gates: gatesOf(80)}
	r, err := soaked(t, client, soak, step.RunOptions{StateDir: dir}, ending(t, client, func(n int) string {
		if n%10 == 0 {
			return "failed"
		}
		return "completed"
	}))
	if err != nil || r.State.Stage != migrate.Complete {
		t.Fatalf("Start = %s, %v, want it complete", r.State.Stage, err)
	}
	s, err := migrate.Look(t.Context(), client, migrate.SessionOptions{Target: step.TargetOf(r.Route), StateDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range migrate.Assess(s, nil, time.Now()) {
		if a.Name != "job success" {
			continue
		}
		if !a.After.Known || a.After.Value < 80 || a.After.Samples < 10 || a.After.Source != "its events" {
			t.Errorf("the report says %+v, want the share that the soak saw", a.After)
		}
	}
}

func TestAQueueWhoseJobsFailGoesBackByItself(t *testing.T) {
	client := redistest.Start(t).Client(t)
	dir := t.TempDir()
	soak := step.Soaking{ForMS: 2000, Gates: gatesOf(95), Failures: 2}
	r, err := soaked(t, client, soak, step.RunOptions{StateDir: dir, Hosting: migrate.HostOptions{AutoRollback: true}},
		ending(t, client, func(n int) string { return []string{"completed", "failed"}[n%2] }))
	if _, ok := errors.AsType[*migrate.RolledBackError](err); !ok || r.State.Stage != migrate.RolledBack {
		t.Fatalf("Start = %s, %v, want it rolled back by its gate", r.State.Stage, err)
	}
	if n := client.LLen(t.Context(), "bull:mail:wait").Val(); n != 3 {
		t.Errorf("%d jobs are back, want 3", n)
	}
	s, err := migrate.Look(t.Context(), client, migrate.SessionOptions{Target: step.TargetOf(r.Route), StateDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	reason := ""
	for _, e := range s.Entries {
		if e.Kind == journal.Back {
			reason = string(e.Detail)
		}
	}
	if !strings.Contains(reason, "job_success_percent") {
		t.Errorf("the journal says %q, want the gate", reason)
	}
}

func TestASoakWaitsForEvidenceUntilSomebodyVouches(t *testing.T) {
	client := redistest.Start(t).Client(t)
	dir := t.TempDir()
	soak := step.Soaking{ForMS: 200, Gates: gatesOf(95)}
	ctx, cancel := context.WithCancel(t.Context())
	opts := step.RunOptions{StateDir: dir}
	r, err := soakedUntil(ctx, t, client, soak, opts, cancel)
	if !errors.Is(err, context.Canceled) || r.State.Stage != migrate.Forward {
		t.Fatalf("Start = %s, %v, want it to wait", r.State.Stage, err)
	}
	session := migrate.SessionOptions{Target: step.TargetOf(r.Route), StateDir: dir}
	open, err := migrate.OpenSession(t.Context(), client, session)
	if err != nil {
		t.Fatal(err)
	}
	err = open.Run(t.Context(), func(ctx context.Context) error {
		return migrate.NewEngine(open.Journal).Sign(ctx, migrate.Signature{KPI: "job success", By: "Ann Lee", At: time.Now().UTC()})
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := migrate.Look(t.Context(), client, session)
	if err != nil {
		t.Fatal(err)
	}
	opts.Hosting.Watch = calm{}
	again, err := step.Resume(t.Context(), client, s, opts)
	if err != nil || again.State.Stage != migrate.Complete {
		t.Fatalf("Resume = %s, %v, want it complete after somebody vouched", again.State.Stage, err)
	}
}

// soakedUntil is soaked without jobs, interrupted once the soak has waited for longer than it is long.
func soakedUntil(ctx context.Context, t *testing.T, client redis.UniversalClient, soak step.Soaking, opts step.RunOptions, stop func()) (step.Report, error) {
	t.Helper()
	opts.Hosting.OnProgress = func(p migrate.Progress) {
		if p.Part == "soak" && p.Done >= 1 {
			stop()
		}
	}
	opts.Hosting.Watch = calm{}
	if err := client.LPush(t.Context(), "bull:mail:wait", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.HSet(t.Context(), "bull:mail:1", "name", "x", "data", "{}", "opts", "{}", "timestamp", 1795000000000, "delay", 0, "priority", 0).Err(); err != nil {
		t.Fatal(err)
	}
	return step.Start(ctx, client, step.Route{
		From: mover.Endpoint{Layout: mover.Bull, Major: 4, Prefix: "bull", Queue: "mail"},
		To:   mover.Endpoint{Layout: mover.BullMQ, Major: 5, Prefix: "bullmq", Queue: "mail"},
		Soak: &soak,
	}, opts)
}
