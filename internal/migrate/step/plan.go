package step

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
)

// A Direction is which way a queue is moved.
type Direction string

// The directions.
const (
	There     Direction = "forward"
	BackAgain Direction = "back"
)

// A Plan is everything an operator should know before a queue is moved, either way.
type Plan struct {
	mover.Plan

	Target    migrate.Target `json:"target"`
	Direction Direction      `json:"direction"`
	InPlace   bool           `json:"in_place"`

	// Stage is where the migration stands now; an open one is gone on with.
	Stage migrate.Stage `json:"stage"`

	// Soak says how long the queue must have been well afterwards, and by which gates; empty where it need not.
	Soak string `json:"soak,omitempty"`

	// Claims say which goals of the design the new engine can reach, and which it cannot.
	Claims []migrate.Claim `json:"claims"`

	// Application is what has to be changed in the application, one sentence each.
	Application []string `json:"application"`

	// refused is why the plan cannot be carried out, nil when it can.
	refused error
}

// Refused returns why the plan cannot be carried out as things are: a *BlockedError, a
// *migrate.HeldError, a *migrate.PlanError or a *migrate.StageError. Carrying it out anyway is refused
// too; this only says so before anybody is asked.
func (p *Plan) Refused() error { return p.refused }

// PlanStart tells what Start would do with route. Of opts only what decides what may move matters. It
// writes nothing.
func PlanStart(ctx context.Context, client redis.UniversalClient, s migrate.Standing, route Route, opts RunOptions) (*Plan, error) {
	if s.State.Stage == migrate.Backward {
		return nil, &migrate.StageError{Verb: "start", Stage: s.State.Stage}
	}
	phase, err := NewPhase3(client, Phase3Options{Route: route, WorkersStopped: opts.WorkersStopped, AllJobs: opts.AllJobs})
	if err != nil {
		return nil, err
	}
	plan, err := phase.Plan(ctx)
	if err != nil {
		return nil, err
	}
	p := &Plan{Plan: plan, Target: s.Target, Direction: There, InPlace: route.InPlace(), Stage: s.State.Stage}
	p.Application = advice(plan, route)
	p.Claims, _ = QueuePhase{Phase3: phase, Facts: opts.Facts}.claims(plan)
	if s := route.Soak; s != nil {
		p.Soak = s.says() + ": " + gatesText(s.Gates)
	}
	p.refused = firstError(s.Held(), changed(s, phase), Blocked(plan))
	return p, nil
}

// PlanResume tells what Resume would do with an open migration. It writes nothing.
func PlanResume(ctx context.Context, client redis.UniversalClient, s migrate.Standing, opts RunOptions) (*Plan, error) {
	if s.State.Stage == migrate.Backward {
		return PlanBack(ctx, client, s, opts)
	}
	route, err := ReadRoute(s.State.Options)
	if err != nil {
		return nil, err
	}
	return PlanStart(ctx, client, s, route, opts)
}

// PlanBack tells what Rollback would do. It returns migrate.ErrNothingToRollBack when there is nothing.
// It writes nothing.
func PlanBack(ctx context.Context, client redis.UniversalClient, s migrate.Standing, opts RunOptions) (*Plan, error) {
	if s.State.Stage == migrate.NotStarted || s.State.Stage == migrate.RolledBack {
		return nil, migrate.ErrNothingToRollBack
	}
	route, err := ReadRoute(s.State.Options)
	if err != nil {
		return nil, err
	}
	phase, err := NewPhase3(client, Phase3Options{Route: route, WorkersStopped: opts.WorkersStopped, AllJobs: opts.AllJobs})
	if err != nil {
		return nil, err
	}
	plan, err := phase.PlanBack(ctx)
	if err != nil {
		return nil, err
	}
	p := &Plan{Plan: plan, Target: s.Target, Direction: BackAgain, InPlace: route.InPlace(), Stage: s.State.Stage, Claims: []migrate.Claim{}}
	p.Application = []string{fmt.Sprintf("stop the %s workers and producers of %q first, then start the %s ones with prefix %q",
		engineName(route.To.Layout), route.To.Queue, engineName(route.From.Layout), route.From.Prefix)}
	p.refused = firstError(s.Held(), Blocked(plan))
	return p, nil
}

// changed tells that the migration was begun with another plan.
func changed(s migrate.Standing, phase *Phase3) error {
	if s.State.Stage != migrate.Forward && s.State.Stage != migrate.Complete {
		return nil
	}
	engine := migrate.NewEngine(nil, phase.Steps()...)
	engine.Options = phase.Options()
	asked, err := engine.Plan()
	if err != nil {
		return err
	}
	if asked != s.State.Plan {
		return &migrate.PlanError{Begun: s.State.Plan, Asked: asked}
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// advice is what the application must change for route.
func advice(plan mover.Plan, route Route) []string {
	if route.To.Layout == mover.Asynq {
		return adviceAsynq(plan, route)
	}
	if route.To.Layout == mover.Bull {
		return adviceBull(plan, route)
	}
	out := []string{}
	if route.InPlace() {
		out = append(out,
			fmt.Sprintf("stop every producer of %q before: its connection carries no name, so it cannot be told from others", route.To.Queue),
			fmt.Sprintf("start no Bull process of %q again: it would take BullMQ's jobs and fail them", route.To.Queue))
	} else {
		out = append(out,
			fmt.Sprintf("give prefix %q to every Queue, Worker, QueueEvents and FlowProducer of %q: one without it uses %q and says nothing",
				route.To.Prefix, route.To.Queue, "bull"),
			fmt.Sprintf("jobs that a Bull producer still adds under %q wait there until this command runs again", route.From.Prefix))
	}
	if !route.InPlace() {
		out = append(out, "the debounce or deduplication window of a job moves with the job; that of a job which was removed already stays behind and is open again")
	}
	if route.To.Major != 0 {
		out = append(out, fmt.Sprintf("this is written for BullMQ %d", route.To.Major))
	}
	if len(plan.Repeats) > 0 {
		out = append(out, "schedule what repeats with exactly these ids: with another id the old schedule stays beside it, and every run happens twice")
	}
	for _, r := range plan.Repeats {
		when := fmt.Sprintf("pattern %q", r.Pattern)
		if r.EveryMS > 0 {
			when = fmt.Sprintf("every %d", r.EveryMS)
		}
		out = append(out, fmt.Sprintf("replace the repeatable of job %q (%s) by upsertJobScheduler(%q, …)",
			r.Name, when, r.TargetKey))
	}
	return out
}

// adviceBull is what the application must change when a queue goes to Bull.
func adviceBull(plan mover.Plan, route Route) []string {
	queue, from := route.To.Queue, engineName(route.From.Layout)
	out := []string{
		fmt.Sprintf("give prefix %q to the Bull queue %q, and a processor for every name of a job, or for '*': a job without one fails",
			route.To.Prefix, queue),
	}
	if route.InPlace() {
		out = append(out,
			fmt.Sprintf("stop every producer of %q before: its connection carries no name, so it cannot be told from others", queue),
			fmt.Sprintf("start no %s process of %q again: both would take each other's jobs", from, queue))
	} else {
		out = append(out, fmt.Sprintf(
			"jobs that a %s producer still adds under %q wait there until this command runs again, or the migration's host takes them over",
			from, route.From.Prefix))
	}
	if len(plan.Repeats) > 0 {
		out = append(out, "add what repeats with exactly these keys, which follow from name, jobId, endDate, time zone and pattern: "+
			"with another key the old one stays beside it, and every run happens twice")
	}
	for _, r := range plan.Repeats {
		out = append(out, fmt.Sprintf("scheduler %q of job %q is the repeatable %q now", r.Key, r.Name, r.TargetKey))
	}
	return out
}
