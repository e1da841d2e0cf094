package step

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
)

// A QueuePhase is phase 3 of one queue as the engine and its host know phases.
type QueuePhase struct{ *Phase3 }

// openPhase3 makes phase 3 of one queue from its route.
func openPhase3(client redis.UniversalClient, options json.RawMessage, env migrate.Env) (migrate.Phase, error) {
	route, err := ReadRoute(options)
	if err != nil {
		return nil, err
	}
	return newQueuePhase(client, Phase3Options{Route: route}, env)
}

// newQueuePhase makes phase 3 of one queue and lets env run it. What opts says of pace and progress counts.
func newQueuePhase(client redis.UniversalClient, opts Phase3Options, env migrate.Env) (QueuePhase, error) {
	opts.Fence = mover.Fence{Key: env.Fence.Key, Token: env.Fence.Token}
	if opts.Checkpoint == nil {
		opts.Checkpoint = env.Checkpoint
	}
	if opts.Pace == nil && env.Pace != nil {
		opts.Pace = env.Pace.Wait
	}
	if opts.OnProgress == nil && env.OnProgress != nil {
		opts.OnProgress = func(now mover.Progress) {
			env.Tell(migrate.Progress{
				Step: "phase3.move", Part: string(now.State), Done: now.Moved, Total: now.Total, Unit: "jobs",
			})
		}
	}
	p, err := NewPhase3(client, opts)
	return QueuePhase{p}, err
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

// Irreversible says what Complete forgets.
func (p QueuePhase) Irreversible(context.Context) ([]string, error) {
	return []string{fmt.Sprintf("the ledger of %s is deleted: which jobs were moved, and the values that %s cannot express, are not known any more",
		p.opts.Route.From, p.opts.Route.To.Layout)}, nil
}

// Complete deletes the ledger. It may run twice.
func (p QueuePhase) Complete(ctx context.Context) error { return fenced(p.move.back.Forget(ctx)) }

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
