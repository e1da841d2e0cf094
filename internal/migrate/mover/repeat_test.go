package mover

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

const (
	nightlyKey  = "named:nightly::Europe/Berlin:0 3 * * *"
	nightlyJob  = "repeat:0f662eecc3eb40666974df91b5f2d6cc:1795399200000"
	nightlyNext = 1795399200000
)

func tokenRefresh() (Endpoint, Endpoint) {
	return Endpoint{Bull, 4, "{bull}", "token-refresh"}, Endpoint{BullMQ, 6, "{bull}:mq", "token-refresh"}
}

func loadTokenRefresh(ctx context.Context, t *testing.T, client *redis.Client) {
	t.Helper()
	client.FlushAll(ctx)
	restore(ctx, t, client, slices.DeleteFunc(withoutLocks(capturedBull(t)), func(k capture.Key) bool {
		return !strings.HasPrefix(k.Name, "{bull}")
	}))
}

func TestSchedulersAreNamedAfterTheirJobIDOrTheirHash(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	loadTokenRefresh(ctx, t, client)
	from, to := tokenRefresh()
	mustMove(ctx, t, client, Options{From: from, To: to, ActiveTimeout: -1})
	got := client.ZRange(ctx, to.Key("repeat"), 0, -1).Val()
	want := []string{
		"68577e5f45867a398a91fdf09a9ee910", "e965f92745841303675356f969fc2f78", "f889e262642b959291a3749b21124090",
		"a06a2832ec655511cc4cfabd44c75725", "nightly",
	}
	if !slices.Equal(got, want) {
		t.Errorf("schedulers are %q, want %q", got, want)
	}
	for i, id := range got {
		score := client.ZScore(ctx, to.Key("repeat"), id).Val()
		job := fmt.Sprintf("repeat:%s:%.0f", id, score)
		if n := client.Exists(ctx, to.Key(job), to.Key("repeat:"+id)).Val(); n != 2 || client.ZScore(ctx, to.Key("delayed"), job).Val() == 0 {
			t.Errorf("scheduler %d %s: its pending job or its hash is missing", i, id)
		}
	}
	if got := client.HGet(ctx, to.Key("repeat:nightly"), "data").Val(); got != `{"n":"cron-tz"}` {
		t.Errorf("the schedule's data is %q", got)
	}
}

func TestASchedulerWhoseRunIsBeingProcessedStaysWhole(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	from, to := tokenRefresh()
	cases := map[string]struct {
		arrange func()
		rule    string
	}{
		"its job is active and locked": {func() {
			client.ZRem(ctx, from.Key("delayed"), nightlyJob)
			client.LPush(ctx, from.Key("active"), nightlyJob)
			client.Set(ctx, from.Key(nightlyJob+":lock"), "token", 0)
		}, "live-lock"},
		"the next run is noted but its job is not added yet": {func() {
			client.ZAdd(ctx, from.Key("repeat"), redis.Z{Score: nightlyNext + 86400000, Member: nightlyKey})
		}, "scheduler-without-job"},
		"its job is gone": {func() {
			client.ZRem(ctx, from.Key("delayed"), nightlyJob)
			client.Del(ctx, from.Key(nightlyJob))
		}, "scheduler-without-job"},
		"its options cannot be read": {func() {
			client.HSet(ctx, from.Key(nightlyJob), "opts", `{"repeat":{"key":"`+nightlyKey+`"}}`)
		}, "malformed-opts"},
		"the target has a scheduler of that name": {func() {
			client.ZAdd(ctx, to.Key("repeat"), redis.Z{Score: 1, Member: "nightly"})
		}, "collision"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			loadTokenRefresh(ctx, t, client)
			c.arrange()
			result := mustMove(ctx, t, client, Options{From: from, To: to, ActiveTimeout: -1, WorkersStopped: true})
			found := false
			for _, p := range result.Skipped {
				found = found || p.Rule == c.rule
			}
			if !found {
				t.Errorf("skipped %v, want rule %s", rules(result.Skipped), c.rule)
			}
			left := client.ZRange(ctx, from.Key("repeat"), 0, -1).Val()
			if !slices.Equal(left, []string{nightlyKey}) {
				t.Errorf("schedulers left at the source: %q, want only the one with a problem", left)
			}
			if n := client.Exists(ctx, to.Key("repeat:nightly")).Val(); n != 0 {
				t.Error("half of the scheduler was moved")
			}
		})
	}
}

func TestAnOverdueRunMovesWithItsSchedulerFromTheList(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	from, to := tokenRefresh()
	for _, container := range []string{"wait", "active"} {
		t.Run(container, func(t *testing.T) {
			loadTokenRefresh(ctx, t, client)
			client.ZRem(ctx, from.Key("delayed"), nightlyJob)
			client.LPush(ctx, from.Key(container), nightlyJob)
			result := mustMove(ctx, t, client, Options{From: from, To: to, ActiveTimeout: -1})
			want := "repeat:nightly:" + strconv.Itoa(nightlyNext)
			if got := client.LRange(ctx, to.Key("wait"), 0, -1).Val(); !slices.Equal(got, []string{want}) || len(result.Skipped) > 0 {
				t.Errorf("the target waits with %q, skipped %v, want %q", got, result.Skipped, want)
			}
			if n := client.ZCard(ctx, from.Key("repeat")).Val() + client.LLen(ctx, from.Key(container)).Val(); n != 0 {
				t.Errorf("%d entries left at the source", n)
			}
		})
	}
}

func TestASchedulerThatFiredAtTheTargetComesBackUnderItsBullKey(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	loadTokenRefresh(ctx, t, client)
	from, to := tokenRefresh()
	const limKey, limHash = "lim::1797972456522:7200000", "a06a2832ec655511cc4cfabd44c75725"
	mustMove(ctx, t, client, Options{From: from, To: to, ActiveTimeout: -1})

	// What BullMQ does when the run is due: the job completes, the next one is made from the scheduler.
	old := "repeat:" + limHash + ":1795384800000"
	next := "repeat:" + limHash + ":1795392000000"
	fields := client.HGetAll(ctx, to.Key(old)).Val()
	opts := strings.NewReplacer("1795384800000", "1795392000000", `"count":1`, `"count":2`, `"delay":4343477`, `"delay":7200000`).Replace(fields["opts"])
	fields["opts"] = opts
	client.HSet(ctx, to.Key(next), fields)
	client.HSet(ctx, to.Key("repeat:"+limHash), "ic", "2")
	client.ZAdd(ctx, to.Key("repeat"), redis.Z{Score: 1795392000000, Member: limHash})
	client.ZRem(ctx, to.Key("delayed"), old)
	client.ZAdd(ctx, to.Key("delayed"), redis.Z{Score: 1795392000000 * 4096, Member: next})
	client.HSet(ctx, to.Key(old), "processedOn", "1795384800001", "finishedOn", "1795384800002", "atm", "1", "ats", "1", "returnvalue", "null")
	client.ZAdd(ctx, to.Key("completed"), redis.Z{Score: 1795384800002, Member: old})

	result := mustMove(ctx, t, client, Options{From: to, To: from, Reverse: true, ActiveTimeout: -1})
	if len(result.Skipped) > 0 {
		t.Errorf("skipped %v", result.Skipped)
	}
	if score := client.ZScore(ctx, from.Key("repeat"), limKey).Val(); score != 1795392000000 {
		t.Errorf("%s runs next at %.0f", limKey, score)
	}
	o, err := parseObject(client.HGet(ctx, from.Key(next), "opts").Val())
	if err != nil {
		t.Fatalf("no pending job under Bull's id: %v", err)
	}
	raw, _ := o.get("repeat")
	rep, err := parseObject(raw)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := rep.text("key")
	count, _ := rep.integer("count")
	timeout, _ := o.integer("timeout")
	if _, has := rep.get("jobId"); key != limKey || count != 2 || timeout != 5000 || has {
		t.Errorf("opts came back as %s", o)
	}
	if got := client.ZRange(ctx, from.Key("completed"), 0, -1).Val(); !slices.Contains(got, old) {
		t.Errorf("completed at the source: %q, want the run that was done there", got)
	}
}
