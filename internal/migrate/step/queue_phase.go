package step

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
)

// A QueuePhase is phase 3 of one queue as the engine and its host know phases.
type QueuePhase struct {
	*Phase3
	client redis.UniversalClient
	env    migrate.Env

	// Facts, when not nil, let the plan tell more than the queue's keys do.
	Facts *Phase3Facts
}

// openPhase3 makes phase 3 of one queue from its route.
func openPhase3(client redis.UniversalClient, options json.RawMessage, env migrate.Env) (migrate.Phase, error) {
	route, err := ReadRoute(options)
	if err != nil {
		return nil, err
	}
	return NewQueuePhase(client, Phase3Options{Route: route}, env)
}

// NewQueuePhase makes phase 3 of one queue and lets env run it. What opts says of pace goes before what
// env says.
func NewQueuePhase(client redis.UniversalClient, opts Phase3Options, env migrate.Env) (QueuePhase, error) {
	opts.Fence = mover.Fence{Key: env.Fence.Key, Token: env.Fence.Token}
	if opts.Checkpoint == nil {
		opts.Checkpoint = env.Checkpoint
	}
	if opts.Pace == nil && env.Pace != nil {
		opts.Pace = env.Pace.Wait
	}
	if told := opts.OnProgress; env.OnProgress != nil {
		opts.OnProgress = func(now mover.Progress) {
			if told != nil {
				told(now)
			}
			env.Tell(migrate.Progress{
				Step: "phase3.move", Part: string(now.State), Done: now.Moved, Total: now.Total, Unit: "jobs",
			})
		}
	}
	opts.env = env
	p, err := NewPhase3(client, opts)
	return QueuePhase{Phase3: p, client: client, env: env}, err
}

// Plan tells what moving the queue would do. It writes nothing.
func (p QueuePhase) Plan(ctx context.Context) (migrate.Outline, error) {
	plan, err := p.Phase3.Plan(ctx)
	if err != nil {
		return migrate.Outline{}, err
	}
	o := p.outline(plan)
	o.PointOfNoReturn = "redisopt migrate complete forgets the ledger; until then everything can be moved back"
	o.Application = advice(plan, p.opts.Route)
	o.Claims, o.KPIs = p.claims(plan)
	return o, nil
}

// PlanBack tells what moving the queue back would do. It writes nothing.
func (p QueuePhase) PlanBack(ctx context.Context) (migrate.Outline, error) {
	plan, err := p.Phase3.PlanBack(ctx)
	if err != nil {
		return migrate.Outline{}, err
	}
	return p.outline(plan), nil
}

// Irreversible says what Complete forgets, and what that costs where it is more than the ledger. Price: as
// mover.Leftovers says.
func (p QueuePhase) Irreversible(ctx context.Context) ([]string, error) {
	gone := []string{fmt.Sprintf("the ledger of %s is deleted: which jobs were moved, and the values that %s cannot express, are not known any more",
		p.opts.Route.From, p.opts.Route.To.Layout)}
	if c, ok := p.move.back.(leaver); ok {
		n, err := c.Leftovers(ctx)
		if err != nil {
			return gone, err
		}
		if n > 0 {
			gone = append(gone, fmt.Sprintf("what was kept in the hashes of the %d jobs now at %s is deleted, at most %d commands: the values that %s had and the target has no place for",
				n, p.opts.Route.To, 2*n+3*(n/100+18), p.opts.Route.From.Layout))
		}
	}
	return gone, nil
}

// Complete deletes what was kept for the way back: first from the jobs themselves, then the ledger. It may run
// twice.
func (p QueuePhase) Complete(ctx context.Context) error {
	if c, ok := p.move.back.(leaver); ok {
		if _, err := c.Clean(ctx); err != nil {
			return fenced(err)
		}
	}
	return fenced(p.move.back.Forget(ctx))
}

// Keep takes over what straggling producers still add to the source. A queue that was converted in place
// has no bridge.
func (p QueuePhase) Keep(ctx context.Context) error {
	_, err := Bridge(ctx, p.client, p.opts.Route, BridgeOptions{
		Track: p.env.Track, MaxRate: p.opts.MaxRate, WorkersStopped: p.opts.WorkersStopped,
		Fence: mover.Fence{Key: p.env.Fence.Key, Token: p.env.Fence.Token},
		OnMoved: func(b Bridged) {
			p.env.Tell(migrate.Progress{Step: "phase3.bridge", Part: "bridge", Done: total(b.Moved), Unit: "jobs"})
		},
	})
	if errors.Is(err, ErrNoBridge) {
		<-ctx.Done()
		return nil
	}
	return err
}

// outline is plan as every phase tells it.
func (p QueuePhase) outline(plan mover.Plan) migrate.Outline {
	o := migrate.Outline{
		Target: p.Target(),
		Settings: []migrate.Setting{
			{Name: "from", Value: plan.From.String()},
			{Name: "to", Value: plan.To.String()},
			{Name: "jobs", Value: fmt.Sprint(total(plan.Counts))},
		},
		LossesTotal: plan.LossesTotal,
		Steps: []migrate.OutlineStep{
			{Name: "phase3.ledger", Summary: "keep an account of every job that is moved", Writes: true},
			{
				Name: "phase3.move", Summary: fmt.Sprintf("move %d jobs and compare", total(plan.Counts)),
				Commands: plan.Commands.TopLevel, InScript: plan.Commands.InScript, Writes: true,
			},
		},
	}
	o.Steps = p.opts.Route.Soak.outline(o.Steps, phase3Baseline, phase3Soak, 1)
	o.Settings = append(o.Settings, p.opts.Route.Soak.setting()...)
	for _, l := range plan.Losses {
		o.Losses = append(o.Losses, migrate.Loss{
			Subject: l.JobID, Field: l.Field, Was: l.Was, Becomes: l.Becomes, Why: l.Why, Reversible: l.Reversible,
		})
	}
	for _, problem := range plan.Problems {
		o.Problems = append(o.Problems, migrate.Problem{
			Rule: problem.Rule, Subject: problem.JobID, Message: problem.Message, Blocking: problem.Blocking,
		})
	}
	return o.Normal()
}
