// Package step holds the steps of each phase of a migration: what is applied, how it is known to be in
// place, and how it is undone. How jobs are read and written is the business of package mover.
package step

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
)

// Phase3Name is the phase that moves a queue to another engine, as it is called in a migrate.Target.
const Phase3Name = "phase3"

// planSample is how many jobs of each state a plan reads that need not read all.
const planSample = 1000

// Phase3Options say how one queue is moved.
type Phase3Options struct {
	// Route is where the queue goes. Required.
	Route Route

	// MaxRate is the most jobs to move in a second; 0 means as fast as the server answers.
	MaxRate int

	// Pace, when not nil, is asked before every chunk in the place of MaxRate.
	Pace func(ctx context.Context, jobs int) error

	// WorkersStopped is the operator's word that no worker of the source is running.
	WorkersStopped bool

	// ActiveTimeout is how long to wait for a live worker to finish its active jobs. Default 30 seconds;
	// negative: do not wait.
	ActiveTimeout time.Duration

	// Fence, when its Key is not empty, must hold for every chunk that is moved.
	Fence mover.Fence

	// Checkpoint, when not nil, notes in the journal how far the named step is.
	Checkpoint func(ctx context.Context, step string, detail any) error

	// OnProgress, when not nil, is called after every chunk.
	OnProgress func(mover.Progress)

	// Compare reads every job before the move and after it, payloads included, and compares digests, the order
	// and 200 jobs field by field. It doubles what a move costs, and is done when one process moves all there is.
	Compare bool

	// AllJobs has a plan read every job, for about one command each. Otherwise it reads 1,000 of each state where
	// there are more; moving looks at every job either way.
	AllJobs bool

	straggling bool        // of a Bridge: the target's workers run
	env        migrate.Env // of the host, for the soak
}

func (o Phase3Options) validate() error {
	var rate error
	if o.MaxRate < 0 {
		rate = fmt.Errorf("max rate: got %d, want 0 or more", o.MaxRate)
	}
	return errors.Join(o.Route.validate(), rate)
}

// A Phase3 is the move of one queue to another engine. It is for one goroutine.
type Phase3 struct {
	opts   Phase3Options
	client redis.UniversalClient
	move   *Move
}

// NewPhase3 returns the phase for one queue. It touches nothing yet.
func NewPhase3(client redis.UniversalClient, opts Phase3Options) (*Phase3, error) {
	opts.Route = opts.Route.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	move := &Move{route: opts.Route, compare: opts.Compare}
	if opts.Checkpoint != nil {
		move.checkpoint = func(ctx context.Context, detail any) error {
			return opts.Checkpoint(ctx, move.Name(), detail)
		}
	}
	there := mover.Options{
		From: opts.Route.From, To: opts.Route.To, Order: opts.Route.Order,
		MaxRate: opts.MaxRate, Pace: opts.Pace, WorkersStopped: opts.WorkersStopped, ActiveTimeout: opts.ActiveTimeout,
		SchedulerID: opts.Route.Schedulers.choose, Fence: opts.Fence,
		Ledger:     LedgerKey(opts.Route.From),
		Timetable:  timetable,
		Straggling: opts.straggling,
		Sample:     planSample,
		OnProgress: move.onProgress(opts.OnProgress),
	}
	if opts.AllJobs {
		there.Sample = 0
	}
	back := there
	back.From, back.To, back.Reverse = there.To, there.From, true
	var err error
	if move.out, err = mover.New(client, there); err != nil {
		return nil, err
	}
	if move.back, err = mover.New(client, back); err != nil {
		return nil, err
	}
	return &Phase3{opts: opts, client: client, move: move}, nil
}

// LedgerKey is the key prefix of the ledger for a queue that is moved from e. Both ways use the same.
func LedgerKey(e mover.Endpoint) string { return ledgerPrefix + e.Prefix + ":" + e.Queue }

// Target is what the phase is about.
func (p *Phase3) Target() migrate.Target { return TargetOf(p.opts.Route) }

// TargetOf is what the phase with route r is about.
func TargetOf(r Route) migrate.Target {
	return migrate.Target{Phase: Phase3Name, Prefix: r.From.Prefix, Queue: r.From.Queue}
}

// Steps are the phase's steps, in the order in which they are applied.
func (p *Phase3) Steps() []migrate.Step {
	steps := []migrate.Step{&Ledger{back: p.move.back}, p.move}
	if p.opts.Route.Soak == nil {
		return steps
	}
	return append(append([]migrate.Step{p.baseline()}, steps...), p.soak())
}

// Options is what an Engine keeps in the journal as its plan.
func (p *Phase3) Options() any { return p.opts.Route }

// Plan tells what moving would do. It writes nothing.
func (p *Phase3) Plan(ctx context.Context) (mover.Plan, error) {
	plan, err := p.move.out.Plan(ctx)
	if err != nil {
		return plan, err
	}
	plan.Problems = append(plan.Problems, p.opts.Route.Schedulers.problems(plan.Repeats)...)
	there, err := targetProblems(ctx, p.client, p.opts.Route)
	plan.Problems = append(plan.Problems, there...)
	return plan, err
}

// PlanBack tells what moving back would do. It writes nothing.
func (p *Phase3) PlanBack(ctx context.Context) (mover.Plan, error) { return p.move.back.Plan(ctx) }

// Outcome is what the move, or the way back, did in this process.
func (p *Phase3) Outcome() Outcome { return p.move.Outcome() }

// Blocked returns a *BlockedError when plan has problems that must be solved first, and nil otherwise.
func Blocked(plan mover.Plan) error {
	blocking := slices.DeleteFunc(slices.Clone(plan.Problems), func(p mover.Problem) bool { return !p.Blocking })
	if len(blocking) == 0 {
		return nil
	}
	return &BlockedError{Queue: plan.From, Problems: blocking}
}

// ReadRoute reads the route back that a journal keeps.
func ReadRoute(options json.RawMessage) (Route, error) {
	var r Route
	if err := json.Unmarshal(options, &r); err != nil {
		return r, fmt.Errorf("route in the journal: %w", err)
	}
	r = r.withDefaults()
	return r, r.validate()
}
