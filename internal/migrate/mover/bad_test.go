package mover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func plainHash(id string) []any {
	return []any{
		"name", "__default__", "data", "{}", "opts", `{"attempts":1,"delay":0,"timestamp":1795380456459}`,
		"timestamp", "1795380456459", "delay", "0", "priority", "0", "note", id,
	}
}

func rules(problems []Problem) []string {
	out := []string{}
	for _, p := range problems {
		out = append(out, p.JobID+" "+p.Rule)
	}
	slices.Sort(out)
	return out
}

func queueQ() (Endpoint, Endpoint) {
	return Endpoint{Bull, 4, "bull", "q"}, Endpoint{BullMQ, 6, "mq", "q"}
}

func TestJobsThatCannotBeMovedStayAndTheOthersMove(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	from, to := queueQ()
	add := func(id string, edit ...any) {
		client.HSet(ctx, from.Key(id), plainHash(id)...)
		if len(edit) > 0 {
			client.HSet(ctx, from.Key(id), edit...)
		}
		client.LPush(ctx, from.Key("wait"), id)
	}
	add("1")
	client.LPush(ctx, from.Key("wait"), "2") // its hash is gone
	add("3", "opts", `{"attempts":`)
	add("4", "timestamp", "yesterday")
	add("5", "attemptsMade", "1.5")
	client.Set(ctx, from.Key("6"), "not a hash", 0)
	client.LPush(ctx, from.Key("wait"), "6")
	add("7")
	client.HSet(ctx, to.Key("7"), plainHash("7")...) // the target has one of that id
	add("8")
	client.Set(ctx, from.Key("8:lock"), "token", 0)
	add("9")
	client.LPush(ctx, from.Key("wait"), "9") // twice in the list
	client.HSet(ctx, from.Key("10"), "progress", "5")
	client.LPush(ctx, from.Key("wait"), "10") // what an update of a removed job leaves
	add("11")
	client.HDel(ctx, from.Key("11"), "opts")
	add("events") // a job that is called like a key of BullMQ
	add("12", "opts", "[]")
	add("13")

	m, err := New(client, Options{From: from, To: to, ChunkSize: 3, ActiveTimeout: -1})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := m.Plan(ctx)
	if err != nil {
		t.Fatal(err)
	}
	wantPlan := []string{
		"10 missing-hash", "11 malformed-opts", "12 malformed-opts", "2 missing-hash", "3 malformed-opts", "4 malformed-field",
		"5 malformed-field", "6 wrong-type", "7 collision",
	}
	if got := rules(plan.Problems); !slices.Equal(got, wantPlan) {
		t.Errorf("plan found %q, want %q", got, wantPlan)
	}
	result, err := m.Move(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := append(slices.Clone(wantPlan), "8 live-lock", "9 missing-hash")
	slices.Sort(want)
	if got := rules(result.Skipped); !slices.Equal(got, want) {
		t.Errorf("skipped %q, want %q", got, want)
	}
	if got := client.LRange(ctx, to.Key("wait"), 0, -1).Val(); !slices.Equal(got, []string{"13", "xevents", "9", "1"}) {
		t.Errorf("the target waits with %q", got)
	}
	if got := client.LRange(ctx, from.Key("wait"), 0, -1).Val(); !slices.Equal(got, []string{"12", "11", "10", "9", "8", "7", "6", "5", "4", "3", "2"}) {
		t.Errorf("the source keeps %q", got)
	}
}

func TestAMoveThatLostItsLeaseWritesNothing(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	restore(ctx, t, client, withoutLocks(capturedBull(t)))
	client.Set(ctx, "lease", "other", 0)
	before := everything(t, client)
	m, err := New(client, Options{
		From: Endpoint{Bull, 4, "bull", "suggestion-generation"}, To: Endpoint{BullMQ, 6, "mq", "suggestion-generation"},
		Fence: Fence{Key: "lease", Token: "mine"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Move(ctx); !errors.Is(err, ErrFenced) {
		t.Fatalf("move: %v, want %v", err, ErrFenced)
	}
	report(t, capture.Compare(before, everything(t, client)))
}

func TestAWrongTypeUnderEitherPrefixBlocksTheWholeQueue(t *testing.T) {
	client := redistest.Start(t).Client(t)
	from, to := queueQ()
	for _, key := range []string{from.Key("wait"), from.Key("completed"), to.Key("wait"), to.Key("meta"), to.Key("marker")} {
		t.Run(key, func(t *testing.T) {
			ctx := t.Context()
			client.FlushAll(ctx)
			client.HSet(ctx, from.Key("1"), plainHash("1")...)
			client.ZAdd(ctx, from.Key("delayed"), redis.Z{Score: 1, Member: "1"})
			client.Set(ctx, key, "something else", 0)
			before := everything(t, client)
			m, err := New(client, Options{From: from, To: to})
			if err != nil {
				t.Fatal(err)
			}
			plan, err := m.Plan(ctx)
			if err != nil || len(plan.Problems) != 1 || plan.Problems[0].Rule != "wrong-type" || !plan.Problems[0].Blocking {
				t.Errorf("plan says %v, %v", plan.Problems, err)
			}
			var blocked *BlockedError
			if _, err := m.Move(ctx); !errors.As(err, &blocked) || !strings.Contains(err.Error(), key) {
				t.Errorf("move: %v, want a BlockedError that names %s", err, key)
			}
			report(t, capture.Compare(before, everything(t, client)))
		})
	}
}

func TestAUserWithoutARightIsRefusedBeforeTheFirstJob(t *testing.T) {
	srv := redistest.Start(t)
	admin := srv.Client(t)
	from, to := queueQ()
	for name, rule := range map[string][]string{
		"a command is missing":       {"~*", "+@all", "-ltrim"},
		"the ledger is out of reach": {"~bull:*", "~mq:*", "+@all"},
		"read only":                  {"~*", "+@all", "-@write"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			admin.FlushAll(ctx)
			fill(ctx, t, admin, from, 10)
			args := []any{"ACL", "SETUSER", "limited", "reset", "on", ">pw", "&*"}
			for _, r := range rule {
				args = append(args, r)
			}
			if err := admin.Do(ctx, args...).Err(); err != nil {
				t.Fatal(err)
			}
			before := everything(t, admin)
			client := redis.NewClient(&redis.Options{Addr: srv.Addr, Username: "limited", Password: "pw", MaxRetries: -1})
			defer func() { _ = client.Close() }()
			m, err := New(client, Options{From: from, To: to})
			if err != nil {
				t.Fatal(err)
			}
			var denied *DeniedError
			if _, err := m.Move(ctx); !errors.As(err, &denied) {
				t.Errorf("move: %v, want a DeniedError", err)
			}
			report(t, capture.Compare(before, everything(t, admin)))
		})
	}
}

func TestInPlaceIsRefusedWhileSomebodyIsAttached(t *testing.T) {
	srv := redistest.Start(t)
	client, worker := srv.Client(t), srv.Client(t)
	ctx := t.Context()
	restore(ctx, t, client, withoutLocks(capturedBull(t)))
	if err := worker.Do(ctx, "CLIENT", "SETNAME", "bull:c3VnZ2VzdGlvbi1nZW5lcmF0aW9u").Err(); err != nil {
		t.Fatal(err)
	}
	before := everything(t, client)
	m, err := New(client, Options{
		From: Endpoint{Bull, 4, "bull", "suggestion-generation"}, To: Endpoint{BullMQ, 6, "bull", "suggestion-generation"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var who *AttachedError
	if _, err := m.Move(ctx); !errors.As(err, &who) || len(who.Who) != 1 || who.Who[0].Role != "worker" {
		t.Errorf("move: %v, want an AttachedError with one worker", err)
	}
	plan, err := m.Plan(ctx)
	if err != nil || len(plan.Problems) != 1 || plan.Problems[0].Rule != "live-worker" {
		t.Errorf("plan: %v, %v", plan.Problems, err)
	}
	report(t, capture.Compare(before, everything(t, client)))

	// On another prefix a worker may be attached; what it may just have taken is not touched.
	m, err = New(client, Options{
		From: Endpoint{Bull, 4, "bull", "suggestion-generation"}, To: Endpoint{BullMQ, 6, "mq", "suggestion-generation"}, ActiveTimeout: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	result, err := m.Move(ctx)
	if err != nil || !slices.Equal(result.Held, []string{"12"}) {
		t.Errorf("held %v, %v, want job 12", result.Held, err)
	}
}

func TestALiveLockIsWaitedForAndThenHeld(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	from, to := queueQ()
	client.HSet(ctx, from.Key("1"), plainHash("1")...)
	client.LPush(ctx, from.Key("active"), "1")
	client.Set(ctx, from.Key("1:lock"), "token", 0)
	m, err := New(client, Options{From: from, To: to, ActiveTimeout: 400 * time.Millisecond, WorkersStopped: true})
	if err != nil {
		t.Fatal(err)
	}
	result, err := m.Move(ctx)
	if err != nil || !slices.Equal(result.Held, []string{"1"}) || len(result.Moved) > 0 {
		t.Errorf("held %v, moved %v, %v", result.Held, result.Moved, err)
	}
	client.PExpire(ctx, from.Key("1:lock"), 300*time.Millisecond)
	m.opts.ActiveTimeout = 10 * time.Second
	result, err = m.Move(ctx)
	if err != nil || len(result.Held) > 0 || result.Moved[Active] != 1 {
		t.Errorf("after the lock expired: held %v, moved %v, %v", result.Held, result.Moved, err)
	}
}

func TestFlowsAreRefusedOnTheWayToBullUnlessLeftBehind(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	restore(ctx, t, client, loadDump(t, "bullmq-6.7.0.json"))
	opts := Options{From: Endpoint{BullMQ, 6, "bull", "webhook-renewal"}, To: Endpoint{Bull, 4, "old", "webhook-renewal"}, ActiveTimeout: -1}
	m, err := New(client, opts)
	if err != nil {
		t.Fatal(err)
	}
	var blocked *BlockedError
	if _, err := m.Move(ctx); !errors.As(err, &blocked) || blocked.Problems[0].Rule != "flow" {
		t.Errorf("move: %v, want a BlockedError about flows", err)
	}
	opts.LeaveFlows = true
	result := mustMove(ctx, t, client, opts)
	if result.Moved[Waiting] != 2 || client.ZCard(ctx, "bull:webhook-renewal:waiting-children").Val() != 1 {
		t.Errorf("moved %v, want two children, and the parent left behind", result.Moved)
	}
}

func TestACancelledMoveStopsAtASafePointAndGoesOn(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	from, to := queueQ()
	fill(ctx, t, client, from, 2000)
	cancelled, cancel := context.WithCancel(ctx)
	m, err := New(client, Options{From: from, To: to, OnProgress: func(p Progress) {
		if p.Moved >= 500 {
			cancel()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	result, err := m.Move(cancelled)
	if !errors.Is(err, context.Canceled) || result.Moved[Waiting] < 500 || result.Moved[Waiting] == 2000 {
		t.Fatalf("moved %v, %v", result.Moved, err)
	}
	if result, err = m.Move(ctx); err != nil || client.LLen(ctx, to.Key("wait")).Val() != 2000 {
		t.Errorf("resumed: moved %v, %v", result.Moved, err)
	}
	v, err := m.Verify(ctx)
	if err != nil || v.Moved[Waiting] != 2000 || len(v.Remaining) > 0 || len(v.Mismatches) > 0 {
		t.Errorf("verify: %+v, %v", v, err)
	}
}

func TestOptionsNameEveryProblemAtOnce(t *testing.T) {
	_, err := New(nil, Options{From: Endpoint{Layout: "sidekiq"}, To: Endpoint{BullMQ, 7, "", "q"}, ChunkSize: 501, MaxRate: -1, Order: "random", Fence: Fence{Key: "k"}})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"sidekiq", "major 7", "prefix is empty", "queue name is empty", "chunk size", "max rate", "order", "fence"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not mention %q", err, want)
		}
	}
}

func TestVerifyFindsWhatIsWrongAtTheTarget(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	from, to := queueQ()
	for i := 1; i <= 4; i++ {
		client.HSet(ctx, to.Key(fmt.Sprint(i)), plainHash("")...)
	}
	client.LPush(ctx, to.Key("wait"), "1", "2", "5", "4", "4")
	client.ZAdd(ctx, to.Key("completed"), redis.Z{Score: 1, Member: "2"})
	client.HSet(ctx, to.Key("repeat:s"), "name", "no job")
	m, err := New(client, Options{From: from, To: to})
	if err != nil {
		t.Fatal(err)
	}
	v, err := m.Verify(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"2 in-two-containers", "3 no-container", "4 in-two-containers", "5 missing-hash"}
	if got := rules(v.Mismatches); !slices.Equal(got, want) {
		t.Errorf("verify found %q, want %q", got, want)
	}
}

func TestInPlaceAJobThatCannotBeConvertedBlocks(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	from, _ := queueQ()
	client.HSet(ctx, from.Key("1"), append(plainHash("1"), "opts", "{")...)
	client.LPush(ctx, from.Key("wait"), "1", "2")
	for _, to := range []Endpoint{{BullMQ, 6, "mq", "q"}, {BullMQ, 6, "bull", "q"}} {
		m, err := New(client, Options{From: from, To: to})
		if err != nil {
			t.Fatal(err)
		}
		plan, err := m.Plan(ctx)
		if err != nil || len(plan.Problems) != 2 {
			t.Fatalf("plan: %v, %v", plan.Problems, err)
		}
		for _, p := range plan.Problems {
			if p.Blocking != (to.Prefix == from.Prefix) {
				t.Errorf("to %s: job %s blocks: %v", to, p.JobID, p.Blocking)
			}
		}
	}
}
