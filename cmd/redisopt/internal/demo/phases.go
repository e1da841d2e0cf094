package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/rehearsal"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// What the application has beside its queues, and what is left of a queue that nobody uses any more.
const (
	cacheKeys  = 40
	leftPrefix = "bull:welcome-mail:"
	leftJobs   = 30
)

// furnish adds what phases 1 and 4 are about: a cache, and a queue of which only finished jobs are left.
func (j *journey) furnish(ctx context.Context) error {
	return j.quietly(func(rdb redis.UniversalClient) error {
		_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := range cacheKeys {
				p.Set(ctx, fmt.Sprintf("cache:user:%d", i), fmt.Sprintf(`{"id":%d,"name":"user %d"}`, i, i), time.Hour)
			}
			for i := range leftJobs {
				id := fmt.Sprint(i + 1)
				p.HSet(ctx, leftPrefix+id, "name", "welcome", "data", "{}", "opts", "{}", "timestamp", "1795380456459", "finishedOn", "1795380456460")
				p.ZAdd(ctx, leftPrefix+"completed", redis.Z{Score: float64(1795380456460 + i), Member: id})
			}
			p.Set(ctx, leftPrefix+"id", leftJobs, 0)
			return nil
		})
		return err
	})
}

// setStage opens the second Redis of phase 1 and what walks the phases.
func (j *journey) setStage(ctx context.Context) error {
	server, err := embedded.Start(ctx, embedded.Options{Plan: embedded.Plan{Name: "demo, the new side"}})
	if err != nil {
		return err
	}
	j.cleanup = append(j.cleanup, server.Close)
	open := func(url string, who meter.Component) *upstream.Upstream {
		if err != nil {
			return nil
		}
		var up *upstream.Upstream
		if up, err = upstream.Open(ctx, upstream.Options{URL: url, Component: who, ClientName: "redisopt-" + string(who)}); err == nil {
			j.cleanup = append(j.cleanup, up.Close)
		}
		return up
	}
	j.stage = &rehearsal.Stage{
		Old: open(j.server.URL(), meter.Migrate), New: open(server.URL(), meter.Migrate), Dir: j.state,
		Callers: [2]*upstream.Upstream{open(j.server.URL(), meter.Cache), open(server.URL(), meter.Cache)},
	}
	return err
}

// A tour is a phase on its way.
type tour struct {
	phase Phase
	trip  *rehearsal.Trip
}

// begin plans a phase and goes there.
func (j *journey) begin(ctx context.Context, name string, target migrate.Target, options any, only func(string) bool) error {
	raw, err := json.Marshal(options)
	if err != nil {
		return err
	}
	// Callers choose from what is there now.
	keys, err := j.dumpAll(ctx)
	if err != nil {
		return err
	}
	trip, err := rehearsal.Begin(ctx, j.stage, rehearsal.Leg{Target: target, Options: raw}, keys, rehearsal.Options{Only: only})
	if err != nil {
		return err
	}
	j.tours = append(j.tours, &tour{phase: Phase{Name: name}, trip: trip})
	j.cleanup = append(j.cleanup, trip.Close)
	return trip.There(ctx)
}

// end goes back from the phase that was begun under this name, and notes how it was.
func (j *journey) end(ctx context.Context, name string) error {
	at := slices.IndexFunc(j.tours, func(t *tour) bool { return t.phase.Name == name })
	if at < 0 {
		return fmt.Errorf("%s was not begun", name)
	}
	t := j.tours[at]
	if err := t.trip.Back(ctx); err != nil {
		return err
	}
	w := t.trip.Walk()
	t.phase.fill(w)
	return nil
}

// fill takes over how a walk went.
func (p *Phase) fill(w rehearsal.Walk) {
	p.There, p.Back = legOf(w.There), legOf(w.Back)
	p.Keys, p.Identical = w.Comparison.Keys, w.Comparison.Identical
	p.Passed, p.Why = w.Verdict == rehearsal.Passed, w.Why
	p.Traffic = w.Traffic
	p.Explained = []Explanation{}
	for _, e := range w.Comparison.Explained {
		p.Explained = append(p.Explained, Explanation{Kind: e.Kind, Why: e.Why, Keys: e.Keys[:min(len(e.Keys), shownKeys)], Count: e.Of})
	}
}

func legOf(p rehearsal.Passage) PhaseLeg {
	leg := PhaseLeg{Cost: p.Cost, Took: p.Took, TookMS: p.TookMS, Steps: len(p.Steps)}
	for what, n := range p.Moved {
		leg.Moved, leg.What = n, what
	}
	return leg
}

// phase1 takes the cache and a limiter to another Redis, in shares.
func (j *journey) phase1(ctx context.Context) error {
	plan := step.Phase1Plan{
		Percentages: []float64{5, 25, 50, 100}, KeyPrefixes: []string{"cache:"}, Prove: 100, Old: j.server.Addr(), New: j.stage.New.Addr(),
	}
	return j.begin(ctx, "phase 1", migrate.Target{Phase: step.Phase1Name}, plan, func(name string) bool { return strings.HasPrefix(name, "cache:") })
}

// phase2 pauses the two queues that can wait. One of them is paused already, and has to stay so.
func (j *journey) phase2(ctx context.Context) error {
	var plan step.Phase2Plan
	for _, q := range j.queues[1:] {
		plan.Queues = append(plan.Queues, step.PausedQueue{Queue: q.route.From, CatchUp: step.All})
	}
	flags := func(name string) bool { return strings.HasSuffix(name, ":meta-paused") }
	return j.begin(ctx, "phase 2", migrate.Target{Phase: step.Phase2Name}, plan, flags)
}

// phase4 saves and deletes what is left of a queue.
func (j *journey) phase4(ctx context.Context) error {
	plan := step.Phase4Plan{Prefixes: []string{leftPrefix}, File: j.state + "/left.backup"}
	return j.begin(ctx, "phase 4", migrate.Target{Phase: step.Phase4Name}, plan, func(name string) bool { return strings.HasPrefix(name, leftPrefix) })
}

// toAsynq moves one queue to redisopt's own engine and back.
func (j *journey) toAsynq(ctx context.Context) error {
	q := j.queues[2]
	route := step.Route{From: q.route.From, To: mover.Endpoint{Layout: mover.Asynq, Prefix: "asynq", Queue: q.name.name}}
	own := func(name string) bool {
		if kindOf(name) == "stalled-check" {
			return false // 30 s after it was loaded it is gone, wherever the queue is by then
		}
		return strings.HasPrefix(name, q.name.key("")) || strings.HasPrefix(name, "asynq:")
	}
	const name = "phase 3, own engine"
	if err := j.begin(ctx, name, step.TargetOf(route), route, own); err != nil {
		return err
	}
	return j.end(ctx, name)
}

// costed measures what a move of phase 3 costs.
func (j *journey) costed(leg *PhaseLeg, move func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		began, before := time.Now(), j.moves.Spent()
		err := move(ctx)
		leg.Cost = j.moves.Spent().Minus(before)
		leg.Took = time.Since(began)
		leg.TookMS = leg.Took.Milliseconds()
		return err
	}
}

// tell makes the list of phases of the result, in their order.
func (j *journey) tell(context.Context) error {
	three := Phase{Name: "phase 3", There: j.moved.there, Back: j.moved.back, Passed: true, Explained: []Explanation{}}
	three.There.What, three.Back.What = "jobs", "jobs"
	for _, q := range j.result.Queues {
		three.There.Moved += q.There.Jobs
		three.Back.Moved += q.Back.Jobs
		if !q.There.Complete() || !q.Back.Complete() {
			three.Passed, three.Why = false, "see the queues"
		}
	}
	j.result.Phases = append(j.result.Phases, three) // before the other one of phase 3
	for _, t := range j.tours {
		j.result.Phases = append(j.result.Phases, t.phase)
	}
	slices.SortStableFunc(j.result.Phases, func(a, b Phase) int { return strings.Compare(a.Name[:len("phase 1")], b.Name[:len("phase 1")]) })
	return nil
}
