package rehearsal_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/journal"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/migrate/rehearsal"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func bull(prefix, name string) mover.Endpoint {
	return mover.Endpoint{Layout: mover.Bull, Major: 4, Prefix: prefix, Queue: name}
}

// queues are those of the capture.
func queues() []mover.Endpoint {
	return []mover.Endpoint{bull("bull", "suggestion-generation"), bull("bull", "calendar-sync"), bull("{bull}", "token-refresh")}
}

// live fills a Redis as an application does: the queues of a real Bull 4.16, one that nobody uses any more,
// and keys of every kind beside them.
func live(t *testing.T, client *redis.Client) {
	t.Helper()
	keys, err := capture.Bull()
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for i := range keys { // what has half a minute to live would end in one run and not in another
		if keys[i].TTL > 0 {
			keys[i].TTL = time.Hour
		}
	}
	if err := capture.Restore(ctx, client, keys); err != nil {
		t.Fatal(err)
	}
	p := client.Pipeline()
	for i := range 60 {
		p.Set(ctx, fmt.Sprintf("user:%d", i), fmt.Sprintf(`{"name":"someone %d"}`, i), time.Hour)
		p.Set(ctx, fmt.Sprintf("count:%d", i), i, 0)
		p.ZAdd(ctx, fmt.Sprintf("rate_limit:%d:api", i), redis.Z{Score: float64(i), Member: "x"})
	}
	p.Set(ctx, "flag", "on", 0)
	p.Set(ctx, "blob:1", "\x00\xff\xfe", 0)
	p.Set(ctx, "big:1", strings.Repeat("x", 2<<20), 0)
	p.HSet(ctx, "session:1", "user", "1")
	p.XAdd(ctx, &redis.XAddArgs{Stream: "stream:1", Values: []string{"a", "1"}})
	for i := range 30 {
		id := fmt.Sprint(i + 1)
		p.HSet(ctx, "bull:old:"+id, "name", "x", "data", "{}", "opts", "{}", "timestamp", "1795380456459", "finishedOn", "1795380456460")
		p.ZAdd(ctx, "bull:old:completed", redis.Z{Score: float64(1795380456459 + i), Member: id})
	}
	p.Set(ctx, "bull:old:id", 30, 0)
	if _, err := p.Exec(ctx); err != nil {
		t.Fatal(err)
	}
}

func leg(t *testing.T, target migrate.Target, options any) rehearsal.Leg {
	t.Helper()
	raw, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	return rehearsal.Leg{Target: target, Options: raw}
}

// legs are all phases of the application of live.
func legs(t *testing.T) []rehearsal.Leg {
	t.Helper()
	out := []rehearsal.Leg{
		leg(t, migrate.Target{Phase: step.Phase1Name}, step.Phase1Plan{Percentages: []float64{1, 50, 100}, Prove: 100}),
		leg(t, migrate.Target{Phase: step.Phase2Name}, step.Phase2Plan{Queues: []step.PausedQueue{
			{Queue: queues()[0], CatchUp: step.Staged, MaxPauseMS: 60_000}, {Queue: queues()[1]}, {Queue: queues()[2], CatchUp: step.All},
		}, HoldMS: 3_600_000}),
	}
	for _, e := range queues() {
		to := mover.Endpoint{Layout: mover.BullMQ, Major: 6, Prefix: "bullmq", Queue: e.Queue}
		if e.Prefix != "bull" {
			to.Prefix = "{bull}:mq"
		}
		route := step.Route{From: e, To: to}
		out = append(out, leg(t, step.TargetOf(route), route))
		route.To = mover.Endpoint{Layout: mover.Asynq, Prefix: "asynq", Queue: e.Queue}
		route.Soak = &step.Soaking{ForMS: 3_600_000, Gates: []migrate.Gate{{KPI: migrate.KPIJobSuccess, Unit: "%", AtLeast: true, Limit: 95}}}
		out = append(out, leg(t, step.TargetOf(route), route))
	}
	return append(out, leg(t, migrate.Target{Phase: step.Phase4Name}, step.Phase4Plan{Prefixes: []string{"bull:old:"}, File: "/nonexistent/never.backup"}))
}

func stage(t *testing.T) *rehearsal.Stage {
	t.Helper()
	s, err := rehearsal.OpenStage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// spy notes every command that is sent, by its name.
type spy struct{ seen map[string]int64 }

func (s *spy) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s *spy) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		s.seen[strings.ToLower(cmd.Name())]++
		return next(ctx, cmd)
	}
}

func (s *spy) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			s.seen[strings.ToLower(cmd.Name())]++
		}
		return next(ctx, cmds)
	}
}

// reads is what a rehearsal may send to the real Redis.
func reads() []string {
	return []string{
		"type", "pttl", "strlen", "llen", "hlen", "scard", "zcard", "xlen", "getrange", "lrange", "zrange", "zrangebyscore", "zscore",
		"hgetall", "hscan", "smembers", "sscan", "xrevrange", "scan", "dbsize", "zcount",
	}
}

func TestEveryPhaseGoesThereAndBackOnACopy(t *testing.T) {
	client := redistest.Start(t).Client(t)
	live(t, client)
	ctx := t.Context()
	watch := &spy{seen: map[string]int64{}}
	client.AddHook(watch)
	all := legs(t)
	scope, err := rehearsal.ScopeOf(all)
	if err != nil {
		t.Fatal(err)
	}
	price, err := rehearsal.Estimate(ctx, client, scope, rehearsal.Bounds{Rate: -1})
	if err != nil {
		t.Fatal(err)
	}
	clear(watch.seen)
	sample, err := rehearsal.Read(ctx, client, scope, rehearsal.Bounds{Rate: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	sent := int64(0)
	for name, n := range watch.seen {
		sent += n
		if !slices.Contains(reads(), name) {
			t.Errorf("%s was sent, which is not among what a rehearsal may send", name)
		}
	}
	if sent > price.Commands {
		t.Errorf("copying cost %d commands, priced at %d at most", sent, price.Commands)
	}
	t.Logf("%d keys copied for %d commands, priced at %d", len(sample.Keys), sent, price.Commands)
	for prefix, want := range map[string]rehearsal.Shape{
		"user": {Type: "string", Format: "object", Expires: true}, "count": {Type: "string", Format: "number"},
		"blob": {Type: "string", Format: "binary"}, "rate_limit": {Type: "zset"}, "session": {Type: "hash"}, "stream": {Type: "stream"},
	} {
		want.Prefix = prefix
		if !slices.ContainsFunc(sample.Shapes, func(s rehearsal.Shape) bool { n := s; n.Copied = 0; return n == want && s.Copied > 0 }) {
			t.Errorf("shapes = %+v, want %+v among them", sample.Shapes, want)
		}
	}
	if !slices.ContainsFunc(sample.Left, func(l rehearsal.LeftOut) bool { return strings.HasPrefix(l.Why, "strings over") && l.Keys == 1 }) {
		t.Errorf("left out = %+v, want the string of 2 MiB among it", sample.Left)
	}

	clear(watch.seen)
	got, err := rehearsal.Rehearse(ctx, stage(t), sample, all, rehearsal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(watch.seen) > 0 {
		t.Errorf("while it walked it sent %v to the real Redis", watch.seen)
	}
	for i, w := range got.Walks {
		c := w.Comparison
		if soaks := strings.Contains(string(all[i].Options), `"for_ms"`); soaks != slices.Contains(w.Adapted, "nothing soaks") {
			t.Errorf("%s: adapted %q, want it told that nothing soaks: %v", w.Target, w.Adapted, soaks)
		}
		if w.Verdict != rehearsal.Passed || len(w.There.Steps) == 0 || len(w.Back.Steps) != len(w.There.Steps) {
			t.Errorf("%s: %s: %s, steps %q and %q", w.Target, w.Verdict, w.Why, w.There.Steps, w.Back.Steps)
		}
		if c.Identical < c.Keys-4 || c.Keys < 200 {
			t.Errorf("%s: %d of %d keys are identical: %+v", w.Target, c.Identical, c.Keys, c.Explained)
		}
		if w.There.Cost.Commands == 0 || w.Back.Cost.Commands == 0 {
			t.Errorf("%s cost nothing: %+v, %+v", w.Target, w.There.Cost, w.Back.Cost)
		}
	}
	if tr := got.Walks[0].Traffic; tr == nil || tr.Arrived != tr.Keys || tr.Reads == 0 || tr.Writes == 0 || tr.Checks == 0 || tr.Again != 0 {
		t.Errorf("traffic of phase 1 = %+v, want every key on the new side, and reads, writes and checks, none admitted again", tr)
	}
	if last := got.Walks[len(got.Walks)-1]; last.Jobs.Before-last.Jobs.There != 30 || last.Jobs.After != last.Jobs.Before {
		t.Errorf("phase 4: jobs %+v, want 30 deleted and all back", last.Jobs)
	}
}

func TestOfALongQueueBothEndsAreCopiedAndItsScheduleIsWhole(t *testing.T) {
	client := redistest.Start(t).Client(t)
	ctx := t.Context()
	p := client.Pipeline()
	add := func(id string, fields ...any) {
		p.HSet(ctx, "bull:long:"+id, append([]any{"name", "x", "data", "{}", "opts", "{}", "timestamp", "1795380456459"}, fields...)...)
	}
	for i := range 1000 {
		id := fmt.Sprint(i)
		add(id, "priority", fmt.Sprint(i%3))
		p.LPush(ctx, "bull:long:wait", id)
		if i%3 > 0 {
			p.ZAdd(ctx, "bull:long:priority", redis.Z{Score: float64(i % 3), Member: id})
		}
		late := "late" + id
		add(late, "delay", "1000")
		p.ZAdd(ctx, "bull:long:delayed", redis.Z{Score: float64(1995380456459+i) * 4096, Member: late})
	}
	run := "repeat:0123456789abcdef0123456789abcdef:1995380456959"
	add(run)
	p.ZAdd(ctx, "bull:long:delayed", redis.Z{Score: 1995380456959 * 4096, Member: run})
	p.ZAdd(ctx, "bull:long:repeat", redis.Z{Score: 1995380456959, Member: "x::::0 * * * *"})
	if _, err := p.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	sample, err := rehearsal.Read(ctx, client, rehearsal.Scope{Queues: []mover.Endpoint{bull("bull", "long")}}, rehearsal.Bounds{Jobs: 10, Rate: 2000}, nil)
	if err != nil {
		t.Fatal(err)
	}
	q := sample.Queues[0]
	if q.Whole || q.There["wait"] != 1000 || q.Copied["wait"] != 10 || q.There["delayed"] != 1001 || q.Hollow != 0 {
		t.Errorf("copied %+v, want 10 of 1000 in wait, a part of 1001 in delayed, and no id without a job", q)
	}
	names := map[string]capture.Key{}
	for _, k := range sample.Keys {
		names[k.Name] = k
	}
	for _, want := range []string{"bull:long:0", "bull:long:999", "bull:long:late0", "bull:long:late999", "bull:long:" + run} {
		if _, ok := names[want]; !ok {
			t.Errorf("%s was not copied", want)
		}
	}
	index, _ := names["bull:long:priority"].Value.([][2]string)
	for _, m := range index {
		if _, ok := names["bull:long:"+m[0]]; !ok {
			t.Errorf("the index of priorities has %s, which was not copied", m[0])
		}
	}
	route := step.Route{From: bull("bull", "long"), To: mover.Endpoint{Layout: mover.BullMQ, Major: 6, Prefix: "bullmq", Queue: "long"}}
	got, err := rehearsal.Rehearse(ctx, stage(t), sample, []rehearsal.Leg{leg(t, step.TargetOf(route), route)}, rehearsal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if w := got.Walks[0]; w.Verdict != rehearsal.Passed || w.There.Moved["jobs"] < 20 {
		t.Errorf("%s: %s, moved %v, problems %v", w.Verdict, w.Why, w.There.Moved, w.Problems)
	}
}

func TestWhatMayNotBeginIsRefusedAndWhatIsNotKnownToo(t *testing.T) {
	client := redistest.Start(t).Client(t)
	live(t, client)
	used := leg(t, migrate.Target{Phase: step.Phase4Name}, step.Phase4Plan{Prefixes: []string{"bull:suggestion-generation:"}, File: "/nonexistent/x"})
	sample, err := rehearsal.Read(t.Context(), client, rehearsal.Scope{Queues: queues()}, rehearsal.Bounds{Rate: -1, Keys: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	gone := used
	gone.Begun = []journal.Entry{{Schema: 1, Seq: 1, Kind: journal.Begin}}
	got, err := rehearsal.Rehearse(t.Context(), stage(t), sample, []rehearsal.Leg{used, gone, {Target: migrate.Target{Phase: "phase9"}}}, rehearsal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"in use", "no such file", "not known"} {
		if w := got.Walks[i]; w.Verdict != rehearsal.Refused || !strings.Contains(w.Why, want) {
			t.Errorf("walk %d: %s: %q, want it refused with %q", i, w.Verdict, w.Why, want)
		}
	}
	if got.Passed() {
		t.Error("Passed() = true")
	}
	if _, err := rehearsal.ScopeOf([]rehearsal.Leg{{Target: migrate.Target{Phase: "phase9"}}}); err == nil {
		t.Error("ScopeOf an unknown phase = nil, want an error")
	}
}

func TestBoundsAreCheckedWhole(t *testing.T) {
	err := rehearsal.Bounds{Jobs: 1, Keys: 1_000_000, Scan: 5}.Validate()
	for _, want := range []string{"jobs of each state", "keys outside", "walk over"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v, want %q in it", err, want)
		}
	}
	if err := (rehearsal.Bounds{}).Validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
}
