package step_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/journal"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/control"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

var errDied = errors.New("the process died")

// diary is a journal in memory that dies at its n-th write, before the write or just after it.
type diary struct {
	entries []journal.Entry
	dieAt   int
	after   bool
	writes  int
	dead    bool
}

func (d *diary) Append(_ context.Context, rec journal.Record) error {
	at := d.writes
	d.writes++
	if d.dead || at == d.dieAt && !d.after {
		d.dead = true
		return errDied
	}
	e := journal.Entry{Schema: 1, Seq: int64(len(d.entries)) + 1, Time: time.Unix(int64(len(d.entries)), 0).UTC(), Kind: rec.Kind, Step: rec.Step}
	if rec.Detail != nil {
		e.Detail, _ = json.Marshal(rec.Detail)
	}
	d.entries = append(d.entries, e)
	if at == d.dieAt {
		d.dead = true
		return errDied
	}
	return nil
}

func (d *diary) Entries() []journal.Entry { return d.entries }

// engineFor is the engine of a phase, which is made again as a new process would.
func engineFor(t *testing.T, client redis.UniversalClient, target migrate.Target, options any, d *diary) *migrate.Engine {
	t.Helper()
	raw, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	var engine *migrate.Engine
	env := migrate.Env{
		Checkpoint: func(ctx context.Context, step string, detail any) error { return engine.Checkpoint(ctx, step, detail) },
		Last: func(name string) json.RawMessage {
			s, err := engine.State()
			if err != nil {
				return nil
			}
			for _, one := range s.Steps {
				if one.Name == name {
					return one.Checkpoint
				}
			}
			return nil
		},
	}
	phase, err := step.Open(client, target, raw, env)
	if err != nil {
		t.Fatal(err)
	}
	engine = migrate.NewEngine(d, phase.Steps()...)
	engine.Options = phase.Options()
	return engine
}

func endpoint(layout mover.Layout, major int, prefix, queue string) mover.Endpoint {
	return mover.Endpoint{Layout: layout, Major: major, Prefix: prefix, Queue: queue}
}

// threeQueues are one queue of each layout with jobs, and one that somebody paused before.
func threeQueues(t *testing.T, client *redis.Client) step.Phase2Plan {
	t.Helper()
	bull, mq5 := endpoint(mover.Bull, 4, "bull", "a.hold"), endpoint(mover.BullMQ, 5, "bullmq", "b")
	mq6, before := endpoint(mover.BullMQ, 6, "bullmq", "c"), endpoint(mover.Bull, 4, "bull", "was")
	for _, e := range []mover.Endpoint{bull, mq5, mq6, before} {
		for i := range 3 {
			id := fmt.Sprint(i + 1)
			addJob(t, client, e.Key(id))
			push(t, client, e.Key("wait"), id)
		}
	}
	client.HSet(t.Context(), mq5.Key("meta"), "version", "bullmq:5.81.5", "opts.maxLenEvents", 10000)
	client.HSet(t.Context(), mq6.Key("meta"), "version", "bullmq:6.7.0", "opts.maxLenEvents", 10000, "concurrency", 7)
	if _, err := tend.At(client, before).Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	return step.Phase2Plan{
		Queues: []step.PausedQueue{
			{Queue: bull, CatchUp: step.All},
			{Queue: mq5, CatchUp: step.All},
			{Queue: mq6},
			{Queue: before, CatchUp: step.All},
			{Queue: endpoint(tend.Asynq, 0, "asynq", "ours"), Ours: true},
		},
		StageMS: 20,
	}
}

// jobKeys is all that belongs to queues, but for events, wake-up calls and the control document's epoch.
func jobKeys(t *testing.T, client redis.UniversalClient) []capture.Key {
	t.Helper()
	out := []capture.Key{}
	for _, k := range dump(t, client, "bull*") {
		if !strings.HasSuffix(k.Name, ":events") && !strings.HasSuffix(k.Name, ":marker") {
			out = append(out, k)
		}
	}
	return out
}

func TestQueuesOfOursArePausedInTheControlDocumentThatReplicasFollow(t *testing.T) {
	client := redistest.Start(t).Client(t)
	plan := step.Phase2Plan{
		Queues:     []step.PausedQueue{{Queue: endpoint(tend.Asynq, 0, "asynq", "ours"), Ours: true, CatchUp: step.All}},
		ControlKey: "app:control",
	}
	replica, err := control.Open(control.Options{Client: client, Key: "app:control"})
	if err != nil {
		t.Fatal(err)
	}
	engine := engineFor(t, client, migrate.Target{Phase: step.Phase2Name}, plan, &diary{dieAt: -1})
	for _, c := range []struct {
		do   func() error
		want bool
	}{
		{func() error { return engine.Start(t.Context()) }, true},
		{func() error { return engine.Rollback(t.Context(), nil) }, false},
	} {
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		if err := replica.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if is := replica.Current().PausedQueue("ours"); is != c.want {
			t.Errorf("paused for replicas = %v, want %v", is, c.want)
		}
	}
	if n := client.Exists(t.Context(), control.DefaultKey).Val(); n != 0 {
		t.Error("a control document was written that nobody follows")
	}
}

func TestPausingDiedAtAnyWriteOfTheJournalIsResumedAndTakenBack(t *testing.T) {
	client := redistest.Start(t).Client(t)
	plan := threeQueues(t, client)
	target := migrate.Target{Phase: step.Phase2Name}
	was := jobKeys(t, client)

	// Once without a crash, to know both ends and how many writes there are.
	d := &diary{dieAt: -1}
	engine := engineFor(t, client, target, plan, d)
	if err := engine.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	there, paused := d.writes, jobKeys(t, client)
	for _, q := range plan.Queues[:4] {
		if is, err := tend.At(client, q.Queue).Paused(t.Context()); err != nil || !is {
			t.Errorf("%s is paused = %v, %v, want true", q.Label(), is, err)
		}
	}
	if text := client.Get(t.Context(), "redisopt:control").Val(); !strings.Contains(text, `"paused":["ours"]`) {
		t.Errorf("the control document is %s, want ours paused", text)
	}
	if err := engine.Rollback(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	back := d.writes - there
	if diff := capture.Compare(was, jobKeys(t, client)); len(diff) > 0 {
		t.Fatalf("the way back left something:\n%v", diff)
	}
	if is, _ := tend.At(client, plan.Queues[3].Queue).Paused(t.Context()); !is {
		t.Error("the queue that was paused before goes on after the way back, want it to stay paused")
	}
	if text := client.Get(t.Context(), "redisopt:control").Val(); !strings.Contains(text, `"paused":[]`) {
		t.Errorf("the control document is %s, want nothing paused", text)
	}
	if left := dump(t, client, "redisopt:phase2:*"); len(left) > 0 {
		t.Errorf("notes are left: %v", left)
	}

	for at := range there + back {
		for _, after := range []bool{false, true} {
			d := &diary{dieAt: at, after: after}
			err := engineFor(t, client, target, plan, d).Start(t.Context())
			if at < there {
				if !errors.Is(err, errDied) {
					t.Fatalf("write %d: start = %v, want the death", at, err)
				}
				d.dieAt, d.dead = -1, false
				if err := engineFor(t, client, target, plan, d).Start(t.Context()); err != nil {
					t.Fatalf("write %d: resume = %v", at, err)
				}
				if diff := capture.Compare(paused, jobKeys(t, client)); len(diff) > 0 {
					t.Fatalf("write %d, after %v: resumed differs from uninterrupted:\n%v", at, after, diff)
				}
			}
			err = engineFor(t, client, target, plan, d).Rollback(t.Context(), nil)
			if errors.Is(err, errDied) {
				d.dieAt, d.dead = -1, false
				err = engineFor(t, client, target, plan, d).Rollback(t.Context(), nil)
				if errors.Is(err, migrate.ErrNothingToRollBack) {
					err = nil // only the last acknowledgement was missing
				}
			}
			if err != nil {
				t.Fatalf("write %d: way back = %v", at, err)
			}
			if diff := capture.Compare(was, jobKeys(t, client)); len(diff) > 0 {
				t.Fatalf("write %d, after %v: taken back differs from before:\n%v", at, after, diff)
			}
		}
	}
}

func TestPlanningPhase2WritesNothingAndSaysWhatAPauseDoesNotDo(t *testing.T) {
	client := redistest.Start(t).Client(t)
	plan := threeQueues(t, client)
	phase, err := step.NewPhase2(client, plan, migrate.Env{})
	if err != nil {
		t.Fatal(err)
	}
	phase.Facts = &step.Phase2Facts{Connections: 33, Queues: map[string]step.QueueFacts{
		"bull:a.hold": {Connections: 3, Workers: 1, Processes: []string{"pid 7 (node)"}},
		"bullmq:b":    {Connections: 3, Workers: 1, Processes: []string{"pid 7 (node)"}},
	}}
	was := dump(t, client, "*")
	o, err := phase.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := phase.PlanBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := capture.Compare(was, dump(t, client, "*")); len(diff) > 0 {
		t.Errorf("planning wrote:\n%v", diff)
	}
	var claims []string
	for _, c := range o.Claims {
		claims = append(claims, fmt.Sprintf("%s: %v: %s", c.Target, c.Reachable, c.Why))
	}
	want := []string{
		"20-30% fewer commands by pausing alone: false: a paused worker goes on asking for jobs: none of its 2.25 million idle commands a month is saved before its process is restarted without it, and jobs are put off, not saved",
		"33 to 27 connections: true: needs a restart of these 1 processes: pid 7 (node); a pause alone closes none",
		"9 connections, as designed: false: 33 are open and 6 of them belong to the 5 queues that may be paused",
	}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	if o.Problems[0].Rule != "already-paused" || o.Problems[0].Blocking {
		t.Errorf("problems = %+v, want the queue that is paused already first, and not blocking", o.Problems)
	}
	if err := o.Refused(); err != nil {
		t.Errorf("Refused = %v, want nil", err)
	}
}

// design is what the design document's application has in its configuration.
func design() []step.Candidate {
	at := func(name string) *mover.Endpoint { e := endpoint(mover.Bull, 4, "bull", name); return &e }
	c := func(order int, name string, guards ...string) step.Candidate {
		return step.Candidate{Name: name, Queue: at(name), Listed: true, Order: order, Guards: guards, Safe: len(guards) == 0}
	}
	all := []step.Candidate{
		c(1, "webhook-health-check", "calendar-sync"), c(2, "notification-reminder"),
		c(3, "token-health-reminder", "calendar-sync", "google-contacts-sync", "token-refresh"), c(4, "adaptive-sync"),
		c(5, "webhook-renewal", "calendar-sync"), c(6, "suggestion-regeneration"), c(7, "batch-notifications"),
		c(8, "suggestion-generation"), c(9, "token-refresh"), c(10, "calendar-sync"), c(11, "google-contacts-sync"),
	}
	for i := range all {
		if all[i].Order >= 9 {
			all[i].Critical, all[i].Safe = true, false
		}
	}
	return all
}

func TestOnlyQueuesThatNothingCriticalNeedsArePaused(t *testing.T) {
	names := func(queues []step.PausedQueue) (out []string) {
		for _, q := range queues {
			out = append(out, q.Queue.Queue)
		}
		return out
	}
	harmless := []string{"notification-reminder", "adaptive-sync", "suggestion-regeneration", "batch-notifications", "suggestion-generation"}
	queues, problems := step.ChoosePaused(design(), step.PauseChoice{})
	if diff := cmp.Diff(harmless, names(queues)); diff != "" {
		t.Errorf("chosen (-want +got):\n%s", diff)
	}
	rules := map[string]int{}
	for _, p := range problems {
		rules[p.Rule]++
		if p.Blocking {
			t.Errorf("%s blocks although nobody asked for it", p.Subject)
		}
	}
	if diff := cmp.Diff(map[string]int{"critical": 3, "guards-critical": 3}, rules); diff != "" {
		t.Errorf("left alone (-want +got):\n%s", diff)
	}

	bounded := design()
	bounded[4].Safe, bounded[4].MaxPause = true, time.Hour // webhook-renewal
	queues, _ = step.ChoosePaused(bounded, step.PauseChoice{})
	if diff := cmp.Diff(harmless, names(queues)); diff != "" {
		t.Errorf("with a known max_pause, not asked for (-want +got):\n%s", diff)
	}
	queues, _ = step.ChoosePaused(bounded, step.PauseChoice{Bounded: true})
	if len(queues) != 6 || queues[2].Queue.Queue != "webhook-renewal" || queues[2].MaxPauseMS != 3600_000 {
		t.Errorf("time-boxed = %+v, want webhook-renewal too, for an hour", queues)
	}

	_, problems = step.ChoosePaused(design(), step.PauseChoice{Only: []string{"calendar-sync", "webhook-renewal", "nope"}})
	blocking := 0
	for _, p := range problems {
		if p.Blocking {
			blocking++
		}
	}
	if blocking != 3 {
		t.Errorf("asked for a critical, a guarding and an unknown queue: %+v, want 3 blocking problems", problems)
	}
	queues, problems = step.ChoosePaused([]step.Candidate{{Name: "x", Queue: &mover.Endpoint{Layout: mover.Bull, Prefix: "bull", Queue: "x"}}}, step.PauseChoice{})
	if len(queues) != 0 || len(problems) != 1 || problems[0].Rule != "unlisted" {
		t.Errorf("a queue that nobody knows: %v, %+v, want it left alone", queues, problems)
	}
}

func TestAResumeIsRefusedWhereItsWorkersWouldNotFind(t *testing.T) {
	client := redistest.Start(t).Client(t)
	plan := threeQueues(t, client)
	plan.Queues = plan.Queues[:1]
	plan.ConnectionLimit = 4
	target := migrate.Target{Phase: step.Phase2Name}
	d := &diary{dieAt: -1}
	engine := engineFor(t, client, target, plan, d)
	if err := engine.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	client.HSet(t.Context(), "redisopt:phase2:bull:a.hold", "workers", 2) // two workers, and none of them is there now
	phase, err := step.NewPhase2(client, plan, migrate.Env{})
	if err != nil {
		t.Fatal(err)
	}
	o, err := phase.PlanBack(t.Context())
	if err != nil || o.Refused() == nil {
		t.Errorf("PlanBack = %+v, %v, want it refused", o.Problems, err)
	}
	var room *step.HeadRoomError
	if err := engine.Rollback(t.Context(), nil); !errors.As(err, &room) || room.Need != 6 || room.Limit != 4 {
		t.Fatalf("Rollback = %v, want a HeadRoomError about 6 connections", err)
	}
	if is, _ := tend.At(client, plan.Queues[0].Queue).Paused(t.Context()); !is {
		t.Error("the queue goes on in spite of the refusal")
	}
}

func TestABoundedPauseEndsInTimeAndAFullBacklogEndsOne(t *testing.T) {
	client := redistest.Start(t).Client(t)
	plan := threeQueues(t, client)
	plan.Queues = plan.Queues[:3]
	plan.Queues[0].MaxPauseMS, plan.Queues[0].Guards = 1, []string{"calendar-sync"}
	plan.Queues[1].BacklogLimit = 3 // as many as wait
	plan.Queues[2].BacklogLimit = 4
	d := &diary{dieAt: -1}
	engine := engineFor(t, client, migrate.Target{Phase: step.Phase2Name}, plan, d)
	if err := engine.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, false, true} {
		if is, err := tend.At(client, plan.Queues[i].Queue).Paused(t.Context()); err != nil || is != want {
			t.Errorf("%s is paused = %v, %v, want %v", plan.Queues[i].Label(), is, err, want)
		}
	}
	s, err := engine.State()
	if err != nil {
		t.Fatal(err)
	}
	var note step.HoldNote
	for _, one := range s.Steps {
		if one.Name == "phase2.hold" {
			_ = json.Unmarshal(one.Checkpoint, &note)
		}
	}
	why := map[string]string{}
	for _, one := range note.Ended {
		why[one.Queue] = one.Why
	}
	if len(note.Ended) != 2 || !strings.Contains(why["bull:a.hold"], "calendar-sync") || !strings.Contains(why["bullmq:b"], "3 jobs wait") {
		t.Errorf("the journal says %+v, want both ends with their reasons", note.Ended)
	}
	if migrate.KindOf(s.Steps[0].Name) != migrate.ForRamp {
		t.Errorf("step %s counts as %s, want a ramp whatever the queue is called", s.Steps[0].Name, migrate.KindOf(s.Steps[0].Name))
	}
}

func TestOfEachScheduleOnlyWhatTheCatchUpKeepsIsLeft(t *testing.T) {
	for how, want := range map[step.CatchUp]int64{step.Newest: 4, step.None: 3, step.All: 6} {
		t.Run(string(how), func(t *testing.T) {
			client := redistest.Start(t).Client(t)
			e := endpoint(mover.Bull, 4, "bull", "q")
			hash := strings.Repeat("a", 32)
			for _, id := range []string{"repeat:" + hash + ":1000", "repeat:" + hash + ":2000", "repeat:" + hash + ":3000", "plain", "other", "repeat:x"} {
				addJob(t, client, e.Key(id))
				push(t, client, e.Key("wait"), id)
			}
			plan := step.Phase2Plan{Queues: []step.PausedQueue{{Queue: e, CatchUp: how}}}
			engine := engineFor(t, client, migrate.Target{Phase: step.Phase2Name}, plan, &diary{dieAt: -1})
			if err := engine.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := engine.Rollback(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if got := client.LLen(t.Context(), e.Key("wait")).Val(); got != want {
				t.Errorf("%d jobs wait after catch up %s, want %d: %v", got, how, want, client.LRange(t.Context(), e.Key("wait"), 0, -1).Val())
			}
		})
	}
}

func TestAStagedResumeOfBullMQGivesItsOwnLimitBack(t *testing.T) {
	for name, own := range map[string]string{"a limit of its own": "7", "no limit": ""} {
		t.Run(name, func(t *testing.T) {
			client := redistest.Start(t).Client(t)
			e := endpoint(mover.BullMQ, 6, "bullmq", "q")
			for i := range 50 {
				addJob(t, client, e.Key(fmt.Sprint(i+1)))
				push(t, client, e.Key("wait"), fmt.Sprint(i+1))
			}
			client.HSet(t.Context(), e.Key("meta"), "version", "bullmq:6.7.0")
			if own != "" {
				client.HSet(t.Context(), e.Key("meta"), "concurrency", own)
			}
			plan := step.Phase2Plan{Queues: []step.PausedQueue{{Queue: e}}, StageMS: 60_000}
			d := &diary{dieAt: -1}
			engine := engineFor(t, client, migrate.Target{Phase: step.Phase2Name}, plan, d)
			if err := engine.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			// Interrupted half-way, and gone on with by another process with less patience.
			ctx, cancel := context.WithCancel(t.Context())
			client.AddHook(beforeCommand(func(cmd redis.Cmder) {
				if strings.HasPrefix(cmd.Name(), "eval") && len(cmd.Args()) == 8 {
					cancel()
				}
			}))
			if err := engine.Rollback(ctx, nil); !errors.Is(err, context.Canceled) {
				t.Fatalf("Rollback = %v, want it to be interrupted", err)
			}
			if got := client.HGet(t.Context(), e.Key("meta"), "concurrency").Val(); got != "1" {
				t.Errorf("while it begins the limit is %q, want 1", got)
			}
			client.Del(t.Context(), e.Key("wait"))
			if err := engine.Rollback(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if got := client.HGet(t.Context(), e.Key("meta"), "concurrency").Val(); got != own {
				t.Errorf("afterwards the limit is %q, want %q", got, own)
			}
		})
	}
}

func TestAPlanForPhase2IsCheckedWhole(t *testing.T) {
	e := endpoint(mover.Bull, 4, "bull", "q")
	for name, plan := range map[string]step.Phase2Plan{
		"no queue":           {},
		"one twice":          {Queues: []step.PausedQueue{{Queue: e}, {Queue: e}}},
		"no name":            {Queues: []step.PausedQueue{{}}},
		"an unknown way":     {Queues: []step.PausedQueue{{Queue: e, CatchUp: "soon"}}},
		"a negative bound":   {Queues: []step.PausedQueue{{Queue: e, MaxPauseMS: -1}}},
		"a negative holding": {Queues: []step.PausedQueue{{Queue: e}}, HoldMS: -1},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := step.NewPhase2(nil, plan, migrate.Env{}); err == nil {
				t.Error("NewPhase2 = nil, want an error")
			}
		})
	}
}

func TestHoldWaitsAsLongAsItWasToldWithoutLookingAtOtherQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := step.Phase2Plan{Queues: []step.PausedQueue{{Queue: endpoint(mover.Bull, 4, "bull", "q")}}, HoldMS: (48 * time.Hour).Milliseconds()}
		phase, err := step.NewPhase2(nil, plan, migrate.Env{})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := phase.Steps()[1].Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(began); got != 48*time.Hour {
			t.Errorf("held for %s, want 48h", got)
		}
	})
}

// What was let go first and was not taken by any worker is still first when the rest follows at once.
func TestAStagedResumeOfBullThatDiedKeepsTheOrder(t *testing.T) {
	client := redistest.Start(t).Client(t)
	e := endpoint(mover.Bull, 4, "bull", "q")
	for i := range 12 {
		addJob(t, client, e.Key(fmt.Sprint(i+1)))
		push(t, client, e.Key("wait"), fmt.Sprint(i+1))
	}
	want := client.LRange(t.Context(), e.Key("wait"), 0, -1).Val()
	plan := step.Phase2Plan{Queues: []step.PausedQueue{{Queue: e, CatchUp: step.Staged}}, StageMS: 1}
	d := &diary{dieAt: -1}
	engine := engineFor(t, client, migrate.Target{Phase: step.Phase2Name}, plan, d)
	if err := engine.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	// As the death of a process that had let three jobs go leaves it.
	for range 3 {
		if err := client.LMove(t.Context(), e.Key("paused"), e.Key("wait"), "RIGHT", "LEFT").Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := engine.Rollback(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := client.LRange(t.Context(), e.Key("wait"), 0, -1).Val(); !slices.Equal(got, want) {
		t.Errorf("the order is %v, want %v", got, want)
	}
	if n := client.Exists(t.Context(), e.Key("paused"), e.Key("meta-paused")).Val(); n != 0 {
		t.Error("the queue is still paused")
	}
}
