package mover

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

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
