package rehearsal_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/rehearsal"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// meanwhile runs do once, after the sizes of collections were asked for and before what they hold.
type meanwhile struct {
	do   func()
	done bool
}

func (m *meanwhile) DialHook(next redis.DialHook) redis.DialHook { return next }

func (m *meanwhile) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (m *meanwhile) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !m.done && slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return c.Name() == "lrange" || c.Name() == "zrange" }) {
			m.done = true
			m.do()
		}
		return next(ctx, cmds)
	}
}

func TestOfAQueueThatShrinksWhileItIsCopiedNoJobIsCopiedTwice(t *testing.T) {
	server := redistest.Start(t)
	client, worker := server.Client(t), server.Client(t)
	ctx := t.Context()
	p := client.Pipeline()
	for i := range 20 {
		for _, id := range []string{fmt.Sprint(i), fmt.Sprintf("late%d", i)} {
			p.HSet(ctx, "bull:busy:"+id, "name", "x", "data", "{}", "opts", "{}", "timestamp", "1795380456459")
		}
		p.LPush(ctx, "bull:busy:wait", i)
		p.ZAdd(ctx, "bull:busy:delayed", redis.Z{Score: float64(1995380456459+i) * 4096, Member: fmt.Sprintf("late%d", i)})
	}
	if _, err := p.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	client.AddHook(&meanwhile{do: func() { // 7 are left, and the ends were to be 5 each
		if err := worker.LTrim(ctx, "bull:busy:wait", 0, 6).Err(); err != nil {
			t.Error(err)
		}
		if err := worker.ZRemRangeByRank(ctx, "bull:busy:delayed", 7, -1).Err(); err != nil {
			t.Error(err)
		}
	}})
	sample, err := rehearsal.Read(ctx, client, rehearsal.Scope{Queues: []mover.Endpoint{bull("bull", "busy")}}, rehearsal.Bounds{Jobs: 10, Rate: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c := sample.Queues[0].Copied; c["wait"] != 7 || c["delayed"] != 7 {
		t.Errorf("copied %v, want the 7 that are left of each, once", c)
	}
	for _, k := range sample.Keys {
		if ids, ok := k.Value.([]string); ok && k.Name == "bull:busy:wait" && !slices.Equal(ids, []string{"19", "18", "17", "16", "15", "14", "13"}) {
			t.Errorf("wait = %q, want 19 to 13 in their order", ids)
		}
	}
}

func TestKeysBeyondTheBoundAreToldAsLeftOut(t *testing.T) {
	client := redistest.Start(t).Client(t)
	ctx := t.Context()
	p := client.Pipeline()
	for i := range 30 {
		p.Set(ctx, fmt.Sprintf("cache:%d", i), i, 0)
		p.Set(ctx, fmt.Sprintf("%c:x", 'a'+i%26), i, 0)
	}
	if _, err := p.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		prefixes []string
		why      string
		keys     int64
	}{
		{[]string{"cache:"}, "keys under the named prefixes beyond the first 20", 10},
		{nil, "keys of all kinds beyond the 20 that are copied", 27 + 1 - 20}, // 2 of cache, one of each letter
	} {
		sample, err := rehearsal.Read(ctx, client, rehearsal.Scope{Prefixes: tt.prefixes, Others: tt.prefixes == nil}, rehearsal.Bounds{Keys: 20, Rate: -1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(sample.Keys) != 20 || !slices.Contains(sample.Left, rehearsal.LeftOut{Why: tt.why, Keys: tt.keys}) {
			t.Errorf("%d keys copied, left out %+v, want 20 and %d: %s", len(sample.Keys), sample.Left, tt.keys, tt.why)
		}
	}
}

func TestAnEndOrABrokenStageIsNoRefusal(t *testing.T) {
	client := redistest.Start(t).Client(t)
	if err := client.XAdd(t.Context(), &redis.XAddArgs{Stream: "old:events", Values: []string{"a", "1"}}).Err(); err != nil {
		t.Fatal(err)
	}
	scope := rehearsal.Scope{Prefixes: []string{"old:"}}
	sample, err := rehearsal.Read(t.Context(), client, scope, rehearsal.Bounds{Rate: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	four := leg(t, migrate.Target{Phase: step.Phase4Name}, step.Phase4Plan{Prefixes: scope.Prefixes, File: "/nonexistent/x"})
	ended, end := context.WithCancel(t.Context())
	end()
	if trip, err := rehearsal.Begin(ended, stage(t), four, sample.Keys, rehearsal.Options{}); err == nil {
		t.Errorf("Begin after the end = %+v, want an error", trip.Walk())
	}
	broken := stage(t)
	if err := broken.Close(); err != nil {
		t.Fatal(err)
	}
	if trip, err := rehearsal.Begin(t.Context(), broken, four, sample.Keys, rehearsal.Options{}); err == nil || !strings.Contains(err.Error(), "the stage does not answer") {
		t.Errorf("Begin on a broken stage = %v, %v, want an error that says so", trip, err)
	}
}

func TestAControlDocumentOfAnotherNameIsNoKeyOfTheApplication(t *testing.T) {
	client := redistest.Start(t).Client(t)
	live(t, client)
	one := leg(t, migrate.Target{Phase: step.Phase1Name}, step.Phase1Plan{Percentages: []float64{50, 100}, Prove: 100, ControlKey: "app:switch"})
	scope, err := rehearsal.ScopeOf([]rehearsal.Leg{one})
	if err != nil {
		t.Fatal(err)
	}
	sample, err := rehearsal.Read(t.Context(), client, scope, rehearsal.Bounds{Rate: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := rehearsal.Rehearse(t.Context(), stage(t), sample, []rehearsal.Leg{one}, rehearsal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if w := got.Walks[0]; w.Verdict != rehearsal.Passed {
		t.Errorf("%s: %s, %+v", w.Verdict, w.Why, w.Comparison.Unexplained)
	}
}
