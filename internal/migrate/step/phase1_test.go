package step_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/replica"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/control"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// A stand is a replica of redisopt serve as far as phase 1 asks it: it has the document in force that is in
// the Redis, and has counted what the test says.
type stand struct {
	*httptest.Server
	control *control.Control

	mu         sync.Mutex
	configured bool
	stats      replica.Stats
	epochs     []float64 // of cache, in the order in which they were seen
	deaf       bool      // does not follow any more
	asked      int       // how often for what it has counted

	// Called with mu held, nil for nothing: when another share of cache was seen, and when it was asked for what it
	// has counted.
	onShare func(percent float64)
	onAsked func()
}

func newStand(t *testing.T, client redis.UniversalClient) *stand {
	t.Helper()
	c, err := control.Open(control.Options{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	s := &stand{control: c, configured: true, stats: busy()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/ramp", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.deaf {
			_ = c.Read(r.Context()) // a Redis that is down leaves what was known
		}
		d := c.Current()
		out := replica.Ramp{Epoch: d.Epoch, Configured: s.configured, Staying: []replica.Staying{{Rule: "shared", Why: "the application counts there too"}}, Former: []replica.Staying{{Rule: "former", Why: "it reads there"}}}
		for name, percent := range d.Ramps {
			out.Routes = append(out.Routes, replica.Route{Name: name, Percent: percent})
		}
		if n := d.Ramps["cache"]; len(s.epochs) == 0 || s.epochs[len(s.epochs)-1] != n {
			s.epochs = append(s.epochs, n)
			if s.onShare != nil {
				s.onShare(n)
			}
		}
		_ = json.NewEncoder(w).Encode(out)
	})
	mux.HandleFunc("GET /v1/ramp/stats", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.asked++; s.onAsked != nil {
			s.onAsked()
		}
		_ = json.NewEncoder(w).Encode(s.stats)
	})
	mux.HandleFunc("GET /v1/fleet", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"holders":[{"replica":"r0"},{"replica":"r1"},{"replica":"forgotten"}]}`))
	})
	mux.HandleFunc("GET /v1/control", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"ramps": c.Current().Ramps, "kill": c.Current().Kill})
	})
	mux.HandleFunc("POST /v1/control", func(w http.ResponseWriter, r *http.Request) {
		d := c.Current()
		if err := json.NewDecoder(r.Body).Decode(&d); err != nil {
			t.Error(err)
		}
		if err := c.Override(d); err != nil {
			t.Error(err)
		}
		_, _ = w.Write([]byte("{}"))
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// busy is a replica that was used and where all is well.
func busy() replica.Stats {
	return replica.Stats{Covered: 1, Routes: []replica.Counts{{
		Name:    "cache",
		Old:     replica.Side{Calls: 900, Hits: 850, Misses: 50},
		New:     replica.Side{Calls: 100, Hits: 90, Misses: 10},
		Answers: 1000, AnswersP95: 5, Compared: map[string]int64{"match": 200},
	}}}
}

func (s *stand) say(change func(*replica.Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}

// A ground is two Redises, two replicas and a plan.
type ground struct {
	old, new *redis.Client
	replicas [2]*stand
	plan     step.Phase1Plan
}

func newGround(t *testing.T) *ground {
	t.Helper()
	one := func() *redis.Client {
		c := redis.NewClient(&redis.Options{Addr: redistest.Start(t).Addr, DisableIdentity: true})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	g := &ground{old: one(), new: one()}
	for i := range g.replicas {
		g.replicas[i] = newStand(t, g.old)
		g.plan.Replicas = append(g.plan.Replicas, g.replicas[i].URL)
	}
	g.plan.Old, g.plan.New, g.plan.KeyPrefixes = "old:6379", "new:6379", []string{"cache:"}
	g.plan.StepMS, g.plan.SoakMS, g.plan.Prove = -1, -1, 50
	return g
}

// phase is the phase as a new process makes it of the journal.
func (g *ground) phase(t *testing.T, env migrate.Env) *step.Phase1 {
	t.Helper()
	raw, err := json.Marshal(g.plan)
	if err != nil {
		t.Fatal(err)
	}
	made, err := step.Open(g.old, migrate.Target{Phase: step.Phase1Name}, raw, env)
	if err != nil {
		t.Fatal(err)
	}
	p := made.(*step.Phase1)
	p.New, p.Every = g.new, time.Millisecond
	p.Follow, p.Fleet.Timeout = soon, soon // on however busy a machine
	return p
}

func (g *ground) engine(t *testing.T, d *diary) *migrate.Engine {
	t.Helper()
	var engine *migrate.Engine
	p := g.phase(t, migrate.Env{
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
	})
	engine = migrate.NewEngine(d, p.Steps()...)
	engine.Options, engine.Lasting = p.Options(), p.Lasting()
	return engine
}

func (g *ground) ramps(t *testing.T) map[string]float64 {
	t.Helper()
	c, err := control.Open(control.Options{Client: g.old})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c.Current().Ramps
}

func atTheEnd() map[string]float64 {
	return map[string]float64{"cache": 100, "cache.mirror": 100, "cache.shadow": 10, "limit": 100, "limit.mirror": 100, "limit.shadow": 10}
}

func TestPhase1DiedAtAnyWriteOfTheJournalIsResumedAndTakenBack(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.plan.Percentages = []float64{5, 100}
	whole := &diary{dieAt: -1}
	if err := g.engine(t, whole).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(atTheEnd(), g.ramps(t)); diff != "" {
		t.Fatalf("after phase 1 (-want +got):\n%s", diff)
	}
	if err := g.engine(t, whole).Rollback(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for at := range whole.writes {
		for _, after := range []bool{false, true} {
			d := &diary{dieAt: at, after: after}
			// There and, unless that died, back: the death is on either way.
			err := g.engine(t, d).Start(t.Context())
			if err == nil {
				err = g.engine(t, d).Rollback(t.Context(), errors.New("enough"))
			}
			if !errors.Is(err, errDied) {
				t.Fatalf("write %d: %v, want the death", at, err)
			}
			d.dead, d.dieAt = false, -1
			state, err := g.engine(t, d).State()
			if err != nil {
				t.Fatal(err)
			}
			if state.Stage != migrate.Backward && at%2 == 0 {
				if err := g.engine(t, d).Resume(t.Context()); err != nil {
					t.Fatalf("write %d (after: %v): resume: %v", at, after, err)
				}
				if diff := cmp.Diff(atTheEnd(), g.ramps(t)); state.Stage != migrate.RolledBack && diff != "" {
					t.Fatalf("write %d: after resuming (-want +got):\n%s", at, diff)
				}
			}
			if err := g.engine(t, d).Rollback(t.Context(), nil); err != nil && !errors.Is(err, migrate.ErrNothingToRollBack) {
				t.Fatalf("write %d (after: %v): roll back: %v", at, after, err)
			}
			if got := g.ramps(t); len(got) != 0 {
				t.Fatalf("write %d: after the way back the document has %v, want nothing of phase 1", at, got)
			}
		}
	}
	t.Logf("died before and after each of %d writes", whole.writes)
}

// With every key on the new side no read is compared any more, for which the first wait would wait for ever.
func TestTheSameCommandAgainIsOverWhenPhase1IsInPlace(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	d := &diary{dieAt: -1}
	if err := g.engine(t, d).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, r := range g.replicas {
		r.say(func(s *replica.Stats) { s.Routes[0].Compared = nil })
	}
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if err := g.engine(t, d).Start(ctx); err != nil {
		t.Fatal(err)
	}
	if got := g.ramps(t)["cache"]; got != 100 {
		t.Errorf("%v%% are on the new side, want 100%%", got)
	}
}

func TestEveryShareIsAsLargeAsItSaysAndTheWayBackIsOneStep(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	d := &diary{dieAt: -1}
	if err := g.engine(t, d).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := g.replicas[0].epochs, []float64{0, 1, 5, 25, 50, 100}; !slices.Equal(got, want) {
		t.Errorf("a replica saw the shares %v, want %v", got, want)
	}
	began := time.Now()
	if err := g.engine(t, d).Rollback(t.Context(), errors.New("why not")); err != nil {
		t.Fatal(err)
	}
	if got, want := g.replicas[1].epochs, []float64{0, 1, 5, 25, 50, 100, 0}; !slices.Equal(got, want) {
		t.Errorf("a replica saw the shares %v, want 100 followed by 0 at once", got)
	}
	t.Logf("rolled back from 100%% after %s", time.Since(began).Round(time.Millisecond))
}

func TestAGateThatFailsStopsPhase1AndOneThatKnowsTooLittleHoldsIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*replica.Stats)
		fails  string // empty: it waits
	}{
		"an unanswered call of the new side": {func(s *replica.Stats) { s.Routes[0].New.Errors = 1 }, "new_side_errors"},
		"a read that differs":                {func(s *replica.Stats) { s.Routes[0].Differences = 1 }, "shadow_mismatches"},
		"a limit that is decided differently": {func(s *replica.Stats) {
			s.Routes = append(s.Routes, replica.Counts{Name: "limit", Compared: map[string]int64{"match": 5, "differs": 1}, Differences: 1})
		}, "limit_mismatches"},
		"too few compared reads":              {func(s *replica.Stats) { s.Routes[0].Compared["match"] = 99 }, ""},
		"a replica that was just restarted":   {func(s *replica.Stats) { s.Covered = 0.5 }, ""},
		"no traffic at all":                   {func(s *replica.Stats) { s.Routes = nil }, ""},
		"a comparison that failed is no pass": {func(s *replica.Stats) { s.Routes[0].Compared = map[string]int64{"failed": 500} }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
			g.plan.Prove = 0
			g.replicas[1].stats.Routes = nil // the other one is idle
			g.replicas[0].say(c.change)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.fails == "" {
				// Three gates ask at each look, so that is after twenty looks: a gate that fails ends it after three.
				g.replicas[0].onAsked = func() {
					if g.replicas[0].asked == 60 {
						cancel()
					}
				}
			}
			err := g.engine(t, &diary{dieAt: -1}).Start(ctx)
			gate, failed := errors.AsType[*migrate.GateError](err)
			switch {
			case c.fails == "" && !errors.Is(err, context.Canceled):
				t.Errorf("it ended with %v, want it to wait", err)
			case c.fails != "" && (!failed || gate.Results[0].Gate.KPI != c.fails || !strings.Contains(gate.Step, "shadow-compare")):
				t.Errorf("it ended with %v, want the gate %s to fail before any key moves", err, c.fails)
			}
			if got := g.ramps(t)["cache"]; got != 0 {
				t.Errorf("%v%% of the keys moved", got)
			}
		})
	}
}

func TestASlowNewSideAndAFallingHitRateAreSeenAfterTheFirstShare(t *testing.T) {
	t.Parallel()
	for kpi, change := range map[string]func(*replica.Stats){
		"latency_p95_increase_percent": func(s *replica.Stats) { s.Routes[0].AnswersP95 = 6.5 },
		"hit_rate_percent":             func(s *replica.Stats) { s.Routes[0].New.Misses = 900 },
	} {
		t.Run(kpi, func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
			g.plan.Prove = 0
			g.replicas[0].onShare = func(percent float64) { // as soon as the first share has moved, it gets worse
				if percent == 1 {
					change(&g.replicas[0].stats)
				}
			}
			err := g.engine(t, &diary{dieAt: -1}).Start(t.Context())
			gate, ok := errors.AsType[*migrate.GateError](err)
			if !ok || gate.Results[0].Gate.KPI != kpi {
				t.Fatalf("it ended with %v, want the gate %s to fail", err, kpi)
			}
		})
	}
}

func TestPlanningPhase1WritesNothingAndPromisesNoSavings(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	for i, value := range []string{`{"n":1}`, `"text"`, `123`, `1.0`, `plain`, "\xff\xfe"} {
		if err := g.old.Set(t.Context(), fmt.Sprint("cache:user:", i), value, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	g.plan.Writer = step.UpstashWriter
	g.plan.Routes = []string{"cache", "limit", "app"}
	before := writes(t, g.old) + writes(t, g.new)
	p := g.phase(t, migrate.Env{})
	perDay := 105_000.0
	p.Facts = &step.Phase1Facts{Connections: 46, Cache: 1, Limiter: 1, SMS: 1, Pool: 8, PoolUsers: []string{"pid 4711 (node): 8 connections"}, CommandsPerDay: &perDay}
	o, err := p.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := writes(t, g.old) + writes(t, g.new) - before; n != 0 {
		t.Errorf("the plan wrote %d commands", n)
	}
	rules := map[string]bool{}
	for _, problem := range o.Problems {
		rules[problem.Rule] = rules[problem.Rule] || problem.Blocking
		if strings.Contains(problem.Message, "user:") {
			t.Errorf("a key is shown: %s", problem.Message)
		}
	}
	want := map[string]bool{"old-reader-breaks": true, "value-binary": true, "value-type-changes": false, "value-not-json": false, "rule-stays": false, "rule-reads-old-side": false, "replica-not-named": false}
	if diff := cmp.Diff(want, rules); diff != "" {
		t.Errorf("rules, and whether they block (-want +got):\n%s", diff)
	}
	if o.Refused() == nil {
		t.Error("a writer that breaks the old reader is not refused")
	}
	if *o.KPIs[0].After != 35 || *o.KPIs[1].After != perDay {
		t.Errorf("connections and commands afterwards = %v, %v; want 46-11 and what they are now", *o.KPIs[0].After, *o.KPIs[1].After)
	}
	if o.Claims[0].Reachable || !slices.ContainsFunc(o.Application, func(s string) bool { return strings.Contains(s, "pid 4711") }) {
		t.Errorf("claims %+v and application %v: want no savings promised, and the users of the pool named", o.Claims, o.Application)
	}
	if top, inside := o.Commands(); top == 0 || inside == 0 {
		t.Error("the plan has no price")
	}
	g.plan.Writer = step.SameBytes
	g.plan.Routes = nil
	again, err := g.phase(t, migrate.Env{}).Plan(t.Context())
	if err != nil || again.Refused() != nil {
		t.Errorf("with the same bytes on both sides: %v, %v; want no problem that blocks", err, again.Refused())
	}
}

// writes is how many writing commands a server has run.
func writes(t *testing.T, c *redis.Client) int64 {
	t.Helper()
	info, err := c.InfoMap(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	for name, stats := range info["Commandstats"] {
		if slices.Contains([]string{"cmdstat_set", "cmdstat_del", "cmdstat_unlink", "cmdstat_eval", "cmdstat_evalsha", "cmdstat_hset", "cmdstat_expire"}, name) {
			var calls int64
			if _, err := fmt.Sscanf(stats, "calls=%d", &calls); err != nil {
				t.Fatal(err)
			}
			sum += calls
		}
	}
	return sum
}

func TestWhatKeepsPhase1FromBeginningIsFoundBeforeAnythingMoves(t *testing.T) {
	t.Parallel()
	for rule, spoil := range map[string]func(t *testing.T, g *ground, p *step.Phase1){
		"no-replica":           func(_ *testing.T, _ *ground, p *step.Phase1) { p.Fleet.URLs = nil },
		"replica-unreachable":  func(_ *testing.T, g *ground, _ *step.Phase1) { g.replicas[1].Close() },
		"replica-without-ramp": func(_ *testing.T, g *ground, _ *step.Phase1) { g.replicas[1].configured = false },
		"no-new-side":          func(_ *testing.T, _ *ground, p *step.Phase1) { p.New = nil },
		"new-side-unreachable": func(_ *testing.T, g *ground, _ *step.Phase1) { _ = g.new.Close() },
		"same-database":        func(_ *testing.T, g *ground, p *step.Phase1) { p.New = g.old },
		"new-side-not-empty": func(t *testing.T, g *ground, _ *step.Phase1) {
			if err := g.new.Set(t.Context(), "cache:user:1", "old news", 0).Err(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
			p := g.phase(t, migrate.Env{})
			spoil(t, g, p)
			err := p.Steps()[0].Apply(t.Context())
			refused, ok := errors.AsType[*migrate.RefusedError](err)
			if !ok || !slices.ContainsFunc(refused.Problems, func(p migrate.Problem) bool { return p.Rule == rule && p.Fix != "" }) {
				t.Errorf("preflight: %v, want it refused by the rule %s with what to do", err, rule)
			}
		})
	}
}

func TestClearingTheNewSideLeavesEverythingElseThere(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.plan.ClearNew = true
	for _, key := range []string{"cache:1", "cache:2", "cached:3", "other"} {
		if err := errors.Join(g.new.Set(t.Context(), key, "v", 0).Err(), g.old.Set(t.Context(), key, "v", 0).Err()); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.engine(t, &diary{dieAt: -1}).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := g.new.Exists(t.Context(), "cache:1", "cache:2", "cached:3", "other").Val(), int64(2); got != want {
		t.Errorf("%d of the four keys are left on the new side, want %d", got, want)
	}
	if got := g.old.Exists(t.Context(), "cache:1", "cache:2").Val(); got != 2 {
		t.Errorf("%d of two keys are left on the old side", got)
	}
	g.plan.SameDatabase = true
	raw, err := json.Marshal(g.plan)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := step.Open(g.old, migrate.Target{Phase: step.Phase1Name}, raw, migrate.Env{}); err == nil {
		t.Error("clearing the one database of both sides was taken")
	}
}

func TestCompletingEndsTheMirrorAndAHalfWayRampIsNotComplete(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	d := &diary{dieAt: -1}
	if err := g.engine(t, d).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := g.phase(t, migrate.Env{})
	if o, err := p.PlanBack(t.Context()); err != nil || o.Refused() != nil || len(o.Steps) != 2 {
		t.Errorf("the way back = %+v, %v", o, err)
	}
	if said, err := p.Irreversible(t.Context()); err != nil || len(said) == 0 {
		t.Errorf("Irreversible = %v, %v", said, err)
	}
	waiting := func(writes int) {
		g.replicas[0].say(func(s *replica.Stats) { s.Backlogs = &replica.Backlogs{New: replica.Backlog{Writes: writes}} })
	}
	waiting(3)
	if err := p.Complete(t.Context()); err == nil || !strings.Contains(err.Error(), "3 writes") {
		t.Errorf("Complete while writes wait for the new side = %v, want it refused", err)
	}
	waiting(0)
	if err := p.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]float64{"cache": 100, "limit": 100}, g.ramps(t)); diff != "" {
		t.Errorf("after complete (-want +got):\n%s", diff)
	}
	if err := p.Complete(t.Context()); err != nil {
		t.Errorf("a second time: %v", err)
	}
	if o, err := p.PlanBack(t.Context()); err != nil || o.Refused() == nil {
		t.Errorf("the way back after complete = %v, %v; want it refused", o.Problems, err)
	}
	c, err := control.Open(control.Options{Client: g.old})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Update(t.Context(), func(d *control.Document) error { d.Ramps["cache"] = 50; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := p.Complete(t.Context()); err == nil {
		t.Error("completed at 50%")
	}
}

func TestAnEmergencyReachesEveryReplicaWithoutTheRedis(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	if err := g.engine(t, &diary{dieAt: -1}).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := g.phase(t, migrate.Env{})
	p.Fleet.URLs = append(p.Fleet.URLs, "http://127.0.0.1:1")
	for _, r := range g.replicas {
		r.mu.Lock()
		r.deaf = true // its Redis is gone
		r.mu.Unlock()
	}
	said := step.Emergency(t.Context(), p.Fleet, "all is lost")
	if said[2].Err == nil {
		t.Error("a replica that is not there was reached")
	}
	for i, a := range said[:2] {
		if a.Err != nil || a.Said.Route("cache").Percent != 0 || a.Said.Route("limit").Percent != 0 {
			t.Errorf("replica %d: %+v, %v; want everything on the old side", i, a.Said, a.Err)
		}
	}
}

func TestARampStopsAtAKillSwitchAndAtAReplicaThatDoesNotFollow(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	p := g.phase(t, migrate.Env{})
	p.Follow = 200 * time.Millisecond
	var first migrate.Step
	for _, s := range p.Steps() {
		if s.Name() == "phase1.ramp-1" {
			first = s
		}
	}
	g.replicas[0].deaf = true
	err := first.Apply(t.Context())
	if late, ok := errors.AsType[*step.NotFollowedError](err); !ok || len(late.Replicas) != 1 || !strings.Contains(late.Replicas[0], g.replicas[0].URL) {
		t.Errorf("with a deaf replica: %v, want it named", err)
	}
	g.replicas[0].mu.Lock()
	g.replicas[0].deaf = false
	g.replicas[0].mu.Unlock()
	if err := first.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.replicas[0].mu.Lock()
	g.replicas[0].deaf = true
	g.replicas[0].mu.Unlock()
	if err := first.Rollback(t.Context()); err == nil {
		t.Error("the way back says nothing of a replica that is up and does not follow")
	}
	g.replicas[0].Close()
	if err := first.Rollback(t.Context()); err != nil {
		t.Errorf("the way back with a replica that is gone: %v, want it done", err)
	}
	c, err := control.Open(control.Options{Client: g.old})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Update(t.Context(), func(d *control.Document) error { d.Kill = []string{"cache"}; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := first.Apply(t.Context()); !errors.Is(err, step.ErrKilled) {
		t.Errorf("with the switch thrown: %v, want %v", err, step.ErrKilled)
	}
}

func TestAPlanForPhase1IsCheckedWhole(t *testing.T) {
	t.Parallel()
	_, err := step.NewPhase1(redis.NewClient(&redis.Options{}), step.Phase1Plan{
		Routes: []string{"cache", "cache", "x.mirror"}, Percentages: []float64{5, 1}, ShadowPercent: 101, Writer: "magic", ClearNew: true,
		Gates: step.Phase1Gates{HitRate: 101},
	}, migrate.Env{})
	for _, want := range []string{"route cache: given twice", `"x.mirror"`, "5,1", "101%", `"magic"`, "clear new", "gates"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("problems = %v, want one that says %s", err, want)
		}
	}
	for text, want := range map[string][]float64{"1,5,25,50,100": {1, 5, 25, 50, 100}, "0.5% , 100%": {0.5, 100}, "": nil, "5,x": nil, "0,100": nil, "101": nil} {
		if got, err := step.ParsePercentages(text); !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("ParsePercentages(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
}
