package mover

import (
	"context"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// a hash of a job, where it is, and what its fields are beside those of a plain one.
type placed struct {
	id, container string
	fields        []any
}

// put adds jobs to e and returns their hashes.
func put(ctx context.Context, client *redis.Client, e Endpoint, jobs []placed) map[string]map[string]string {
	hashes := map[string]map[string]string{}
	for _, j := range jobs {
		client.HSet(ctx, e.Key(j.id), plainHash(j.id)...)
		client.HSet(ctx, e.Key(j.id), j.fields...)
		switch j.container {
		case "wait", "paused", "active":
			client.LPush(ctx, e.Key(j.container), j.id)
		default:
			client.ZAdd(ctx, e.Key(j.container), redis.Z{Score: 1795380456460, Member: j.id})
		}
		hashes[j.id] = client.HGetAll(ctx, e.Key(j.id)).Val()
	}
	return hashes
}

func sameHashes(ctx context.Context, t *testing.T, client *redis.Client, e Endpoint, before map[string]map[string]string) {
	t.Helper()
	for id, want := range before {
		got := client.HGetAll(ctx, e.Key(id)).Val()
		for f, v := range want {
			if got[f] != v {
				t.Errorf("job %s field %s: was %q, is %q", id, f, v, got[f])
			}
		}
		for f, v := range got {
			if _, ok := want[f]; !ok {
				t.Errorf("job %s has a new field %s = %q", id, f, v)
			}
		}
	}
}

func unusualJobs() []placed {
	const ts = `"timestamp":1795380456459`
	return []placed{
		{"1", "failed", []any{"opts", `{"attempts":3,"timeout":100,"delay":0,` + ts + `}`, "attemptsMade", "2"}},
		{"2", "completed", []any{"opts", `{"attempts":3,"timeout":100,"delay":0,` + ts + `}`}},
		{"3", "completed", []any{"opts", `{"attempts":1,"delay":0,` + ts + `,"repeat":{"count":1,"key":"gone::::*","cron":"*"}}`, "finishedOn", "5"}},
		{"4", "wait", []any{"opts", `{"attempts":1,"timeout":7,"delay":0,` + ts + `}`}},
		{"5", "wait", []any{"opts", `{"priority":5000000}`, "priority", "5000000"}},
		{"6", "wait", []any{"opts", `{` + ts + `}`}},
		{"7", "wait", []any{"opts", `{"debounce":{"id":"d","ttl":9},"attempts":1,"delay":0}`}},
		{"0:zero", "delayed", []any{"opts", `{"timeout":3,"attempts":2}`, "attemptsMade", "1", "retriedOn", "77"}},
		{"9", "failed", []any{"opts", `{"attempts":3,"delay":0,` + ts + `}`, "attemptsMade", "3", "stalledCounter", "1", "retriedOn", "7"}},
	}
}

func TestInPlaceTheWayBackIsExactHoweverManyPassesThereWere(t *testing.T) {
	for _, major := range []int{5, 6} {
		ctx := t.Context()
		client := redistest.Start(t).Client(t)
		bull, mq := Endpoint{Bull, 4, "bull", "q"}, Endpoint{BullMQ, major, "bull", "q"}
		before := put(ctx, client, bull, unusualJobs())
		for range 2 {
			for range 3 {
				if r := mustMove(ctx, t, client, Options{From: bull, To: mq, Ledger: "led", ActiveTimeout: -1}); len(r.Skipped) > 0 {
					t.Errorf("there: skipped %v", r.Skipped)
				}
			}
			for range 3 {
				if r := mustMove(ctx, t, client, Options{From: mq, To: bull, Reverse: true, Ledger: "led", ActiveTimeout: -1}); len(r.Skipped) > 0 {
					t.Errorf("back: skipped %v", r.Skipped)
				}
			}
			sameHashes(ctx, t, client, bull, before)
		}
	}
}

func TestInPlaceAJobThatIsCalledLikeAKeyOfBullMQKeepsItsNewNameOnTheWayBack(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	bull, mq := Endpoint{Bull, 4, "bull", "q"}, Endpoint{BullMQ, 6, "bull", "q"}
	before := put(ctx, client, bull, []placed{{"events", "wait", []any{"opts", `{"timeout":5,"attempts":1,"delay":0}`}}})
	mustMove(ctx, t, client, Options{From: bull, To: mq, Ledger: "led", ActiveTimeout: -1})
	client.XAdd(ctx, &redis.XAddArgs{Stream: mq.Key("events"), Values: []string{"event", "waiting"}}) // a worker ran
	for range 2 {
		mustMove(ctx, t, client, Options{From: mq, To: bull, Reverse: true, Ledger: "led", ActiveTimeout: -1})
	}
	sameHashes(ctx, t, client, bull, map[string]map[string]string{"xevents": before["events"]})
	if got := client.LRange(ctx, bull.Key("wait"), 0, -1).Val(); len(got) != 1 || got[0] != "xevents" {
		t.Errorf("wait is %q", got)
	}
}

func TestInPlaceAJobThatWasRetriedMeanwhileKeepsWhatItBecameAndItsOptions(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	bull, mq := Endpoint{Bull, 4, "bull", "q"}, Endpoint{BullMQ, 6, "bull", "q"}
	before := put(ctx, client, bull, unusualJobs()[:1])
	mustMove(ctx, t, client, Options{From: bull, To: mq, Ledger: "led", ActiveTimeout: -1})
	client.HIncrBy(ctx, mq.Key("1"), "atm", 1)
	for range 2 {
		mustMove(ctx, t, client, Options{From: mq, To: bull, Reverse: true, Ledger: "led", ActiveTimeout: -1})
	}
	before["1"]["attemptsMade"] = "3"
	got := client.HGetAll(ctx, bull.Key("1")).Val()
	if got["opts"] != before["1"]["opts"] || got["attemptsMade"] != "3" {
		t.Errorf("job 1 became %v", got)
	}
}

// TestInPlaceWhatRepeatsGoesThereAndBack has the schedules of a real Bull: their next runs are met a second time, where
// they have been converted already.
func TestInPlaceWhatRepeatsGoesThereAndBack(t *testing.T) {
	client := redistest.Start(t).Client(t)
	for _, major := range []int{5, 6} {
		for _, order := range []Order{Keep, ByPriority} {
			t.Run(fmt.Sprintf("bullmq %d, %s", major, order), func(t *testing.T) {
				ctx := t.Context()
				client.FlushAll(ctx)
				q := capturedQueues()[2]
				restore(ctx, t, client, withoutLocks(capturedBull(t)))
				bull, mq := Endpoint{Bull, 4, q[0], q[1]}, Endpoint{BullMQ, major, q[0], q[1]}
				before := dump(ctx, t, client, bull.Key("repeat*"))
				if len(before) < 2 {
					t.Fatalf("%d keys of schedules were captured, want some", len(before))
				}
				var there []capture.Key
				for pass := range 3 {
					r := mustMove(ctx, t, client, Options{From: bull, To: mq, Order: order, Ledger: "led", ActiveTimeout: -1})
					if len(r.Skipped) > 0 {
						t.Errorf("there, pass %d: skipped %v", pass, r.Skipped)
					}
					now := dump(ctx, t, client, bull.Key("repeat*"))
					if pass > 0 {
						report(t, capture.Compare(there, now))
					}
					there = now
				}
				for pass := range 3 {
					r := mustMove(ctx, t, client, Options{From: mq, To: bull, Reverse: true, Ledger: "led", ActiveTimeout: -1})
					if len(r.Skipped) > 0 {
						t.Errorf("back, pass %d: skipped %v", pass, r.Skipped)
					}
				}
				report(t, capture.Compare(before, dump(ctx, t, client, bull.Key("repeat*"))))
			})
		}
	}
}

// TestInPlaceTheWayBackKnowsThePrioritiesOfWaitingJobs reads what Bull finds the place of a new job with a priority by.
func TestInPlaceTheWayBackKnowsThePrioritiesOfWaitingJobs(t *testing.T) {
	client := redistest.Start(t).Client(t)
	for _, list := range []string{"wait", "paused"} {
		for _, order := range []Order{Keep, ByPriority} {
			t.Run(list+" "+string(order), func(t *testing.T) {
				ctx := t.Context()
				client.FlushAll(ctx)
				bull, mq := Endpoint{Bull, 4, "bull", "q"}, Endpoint{BullMQ, 5, "bull", "q"}
				put(ctx, client, bull, []placed{
					{"3", list, []any{"priority", "1", "opts", `{"priority":1,"attempts":1,"delay":0}`}},
					{"2", list, []any{"priority", "3", "opts", `{"priority":3,"attempts":1,"delay":0}`}},
					{"1", list, []any{"opts", `{"attempts":1,"delay":0}`}},
				})
				client.ZAdd(ctx, bull.Key("priority"), redis.Z{Score: 3, Member: "2"}, redis.Z{Score: 1, Member: "3"})
				client.Set(ctx, bull.Key("id"), "3", 0)
				if list == "paused" {
					client.Set(ctx, bull.Key("meta-paused"), "1", 0)
					client.HSet(ctx, bull.Key("meta"), "paused", "1")
				}
				before := dump(ctx, t, client, bull.Key("*"))
				mustMove(ctx, t, client, Options{From: bull, To: mq, Order: order, Ledger: "led", ActiveTimeout: -1})
				mustMove(ctx, t, client, Options{From: mq, To: bull, Reverse: true, Ledger: "led", ActiveTimeout: -1})
				report(t, capture.Compare(before, dump(ctx, t, client, bull.Key("*"))))
			})
		}
	}
}
