package mover

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// fromTo moves a queue of one BullMQ to another under another prefix.
func fromTo(from, to int, q [2]string) Options {
	return Options{
		From: Endpoint{BullMQ, from, q[0], q[1]}, To: Endpoint{BullMQ, to, target(q[0]), q[1]}, ChunkSize: 6, ActiveTimeout: -1, WorkersStopped: true,
	}
}

func TestBullMQ5To6AndBackEqualsTheDump(t *testing.T) {
	client := redistest.Start(t).Client(t)
	for major, name := range map[int]string{5: "bullmq-5.81.5.json", 6: "bullmq-6.7.0.json"} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			client.FlushAll(ctx)
			before := withoutLocks(loadDump(t, name))
			restore(ctx, t, client, before)
			other := 11 - major
			for _, q := range capturedQueues() {
				opts := fromTo(major, other, q)
				m, err := New(client, opts)
				if err != nil {
					t.Fatal(err)
				}
				was, err := m.Snapshot(ctx)
				if err != nil {
					t.Fatal(err)
				}
				r, err := m.Move(ctx)
				if err != nil || len(r.Skipped) > 0 {
					t.Errorf("%s: skipped %v, %v", q[1], r.Skipped, err)
				}
				v, err := m.Verify(ctx)
				if err != nil || len(v.Mismatches) > 0 || remains(v) || v.Schedulers > 0 {
					t.Errorf("%s: %+v, %v", q[1], v, err)
				}
				c, err := m.Compare(ctx, was)
				if err != nil || !c.Same || len(c.Differences) > 0 {
					t.Errorf("%s: same %v, %v, %v", q[1], c.Same, c.Differences, err)
				}
				if diff := cmp.Diff(was.NextRuns, c.After.NextRuns); diff != "" {
					t.Errorf("%s: next runs (-before +after):\n%s", q[1], diff)
				}
			}
			for _, q := range capturedQueues() {
				opts := fromTo(major, other, q)
				opts.From, opts.To, opts.Reverse = opts.To, opts.From, true
				mustMove(ctx, t, client, opts)
			}
			after := append(dump(ctx, t, client, "bull:*"), dump(ctx, t, client, "{bull}:token*")...)
			for _, d := range capture.Compare(before, after) {
				switch { // the job whose worker died waits, and an old repeatable is a job scheduler
				case d.Key == "bull:suggestion-generation:active", strings.HasPrefix(d.Key, "{bull}:token-refresh:repeat:41c54ba5711f88025beae9d01243b97d"):
					continue
				case d.Key == "{bull}:token-refresh:pc", d.Key == "{bull}:token-refresh:prioritized":
					continue // a run of a scheduler that waits by priority is counted anew
				case d.Key == "bull:suggestion-generation:wait" && strings.Replace(d.Is, " 10", "", 1) == d.Was:
					continue
				}
				t.Errorf("differs: %s", d)
			}
		})
	}
}

func TestAnOldRepeatableBecomesAJobSchedulerOnItsWayToBullMQ6(t *testing.T) {
	client := redistest.Start(t).Client(t)
	ctx := t.Context()
	restore(ctx, t, client, withoutLocks(loadDump(t, "bullmq-5.81.5.json")))
	opts := fromTo(5, 6, [2]string{"{bull}", "token-refresh"})
	mustMove(ctx, t, client, opts)
	const id = "41c54ba5711f88025beae9d01243b97d"
	got := client.HGetAll(ctx, opts.To.Key("repeat:"+id)).Val()
	want := map[string]string{"name": "legacy", "pattern": "0 4 * * *", "ic": "1", "data": `{"n":"legacy"}`, "opts": `{"attempts":0}`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("scheduler (-want +got):\n%s", diff)
	}
	job := client.HGetAll(ctx, opts.To.Key(fmt.Sprintf("repeat:%s:1795406400000", id))).Val()
	if job["rjk"] != id || !strings.Contains(job["opts"], `"repeatJobKey":"`+id+`"`) {
		t.Errorf("its next run is %v", job)
	}
}

func TestBullMQToBullMQIsRefusedWhereItMeansNothing(t *testing.T) {
	client := redistest.Start(t).Client(t)
	ctx := t.Context()
	e := Endpoint{BullMQ, 5, "bull", "webhook-renewal"}
	for name, opts := range map[string]Options{
		"the same version": {From: e, To: Endpoint{BullMQ, 5, "mq", "webhook-renewal"}},
		"in place":         {From: e, To: Endpoint{BullMQ, 6, "bull", "webhook-renewal"}},
	} {
		if _, err := New(client, opts); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	restore(ctx, t, client, loadDump(t, "bullmq-5.81.5.json"))
	m, err := New(client, fromTo(5, 6, [2]string{"bull", "webhook-renewal"}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Move(ctx); err == nil || !strings.Contains(err.Error(), "full keys") {
		t.Errorf("a flow: %v, want a refusal with its reason", err)
	}
}

// TestJobsWithAPriorityKeepTheirOrderWhenTheSourceHasBegunToCountAnew: BullMQ numbers jobs with a priority from 1 again
// whenever none of them waits, so what comes later can have a lower score.
func TestJobsWithAPriorityKeepTheirOrderWhenTheSourceHasBegunToCountAnew(t *testing.T) {
	client := redistest.Start(t).Client(t)
	ctx := t.Context()
	opts := fromTo(5, 6, [2]string{"bull", "mail"})
	m, err := New(client, opts)
	if err != nil {
		t.Fatal(err)
	}
	const one = float64(1 << 32)
	for id, score := range map[string]float64{"1": one + 60, "2": 2*one + 59} {
		addPrioritized(t, client, opts.From, id, score)
	}
	client.Set(ctx, opts.From.Key("pc"), 60, 0)
	if _, err := m.Move(ctx); err != nil {
		t.Fatal(err)
	}
	for id, score := range map[string]float64{"3": one + 1, "4": one + 2, "5": 3*one + 3} {
		addPrioritized(t, client, opts.From, id, score)
	}
	client.Set(ctx, opts.From.Key("pc"), 3, 0)
	if _, err := m.Move(ctx); err != nil {
		t.Fatal(err)
	}
	want := []redis.Z{{Member: "1", Score: one + 60}, {Member: "3", Score: one + 61}, {Member: "4", Score: one + 62}, {Member: "2", Score: 2*one + 59}, {Member: "5", Score: 3*one + 3}}
	if diff := cmp.Diff(want, client.ZRangeWithScores(ctx, opts.To.Key("prioritized"), 0, -1).Val()); diff != "" {
		t.Errorf("jobs with a priority (-want +got):\n%s", diff)
	}
	if pc := client.Get(ctx, opts.To.Key("pc")).Val(); pc != "62" {
		t.Errorf("the target counts on from %s, want 62", pc)
	}
}

func addPrioritized(t *testing.T, client *redis.Client, e Endpoint, id string, score float64) {
	t.Helper()
	priority := int(score) >> 32
	if err := client.HSet(t.Context(), e.Key(id), "name", "n", "data", "{}", "opts", fmt.Sprintf(`{"attempts":0,"priority":%d}`, priority),
		"timestamp", 1795380456459, "delay", 0, "priority", priority).Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.ZAdd(t.Context(), e.Key("prioritized"), redis.Z{Member: id, Score: score}).Err(); err != nil {
		t.Fatal(err)
	}
	client.HSetNX(t.Context(), e.Key("meta"), "version", "bullmq:5.81.5")
	client.SetNX(t.Context(), e.Key("id"), 100, 0)
}
