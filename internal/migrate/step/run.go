package step

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
)

// RunOptions say how a phase is run, whatever it does.
type RunOptions struct {
	// StateDir is the directory of the local journals. Required.
	StateDir string

	// LeaseTTL is how long the lease outlives its last renewal. Default 30 seconds.
	LeaseTTL time.Duration

	// MaxRate, WorkersStopped and ActiveTimeout are those of Phase3Options.
	MaxRate        int
	WorkersStopped bool
	ActiveTimeout  time.Duration

	// OnEvent and OnProgress, when not nil, are told what happens, from the goroutine that runs.
	OnEvent    func(migrate.Event)
	OnProgress func(mover.Progress)
}

// A Report is what running a phase came to.
type Report struct {
	Route   Route         `json:"route"`
	State   migrate.State `json:"state"`
	Outcome Outcome       `json:"outcome"`

	// Took is how long it ran, the lease included.
	Took time.Duration `json:"-"`
}

// Start moves the queue of route. It takes the lease first, and gives it back whatever happens; what
// was begun stays in the journal and can be resumed or rolled back. The Report is filled as far as it
// came, also with an error.
func Start(ctx context.Context, client redis.UniversalClient, route Route, opts RunOptions) (Report, error) {
	return run(ctx, client, route, opts, func(ctx context.Context, e *migrate.Engine) error { return e.Start(ctx) })
}

// Resume goes on with the migration in s, in the direction it had.
func Resume(ctx context.Context, client redis.UniversalClient, s migrate.Standing, opts RunOptions) (Report, error) {
	return again(ctx, client, s, opts, func(ctx context.Context, e *migrate.Engine) error { return e.Resume(ctx) })
}

// Rollback undoes the migration in s. cause is why, and may be nil. It returns
// migrate.ErrNothingToRollBack when nothing was done.
func Rollback(ctx context.Context, client redis.UniversalClient, s migrate.Standing, cause error, opts RunOptions) (Report, error) {
	if s.State.Stage == migrate.NotStarted || s.State.Stage == migrate.RolledBack {
		return Report{State: s.State}, migrate.ErrNothingToRollBack
	}
	return again(ctx, client, s, opts, func(ctx context.Context, e *migrate.Engine) error { return e.Rollback(ctx, cause) })
}

// again runs with the route that the journal keeps.
func again(
	ctx context.Context, client redis.UniversalClient, s migrate.Standing, opts RunOptions,
	verb func(context.Context, *migrate.Engine) error,
) (Report, error) {
	if s.State.Stage == migrate.NotStarted {
		return Report{State: s.State}, nil
	}
	route, err := ReadRoute(s.State.Options)
	if err != nil {
		return Report{State: s.State}, err
	}
	return run(ctx, client, route, opts, verb)
}

func run(
	ctx context.Context, client redis.UniversalClient, route Route, opts RunOptions,
	verb func(context.Context, *migrate.Engine) error,
) (Report, error) {
	began := time.Now()
	report := Report{Route: route}
	session, err := migrate.OpenSession(ctx, client, migrate.SessionOptions{
		Target: TargetOf(route), StateDir: opts.StateDir, LeaseTTL: opts.LeaseTTL,
	})
	if err != nil {
		return report, err
	}
	err = session.Run(ctx, func(ctx context.Context) error {
		var engine *migrate.Engine
		phase, err := NewPhase3(client, Phase3Options{
			Route: route, MaxRate: opts.MaxRate, WorkersStopped: opts.WorkersStopped, ActiveTimeout: opts.ActiveTimeout,
			Fence: mover.Fence{Key: session.Lease.Key(), Token: session.Lease.Token()},
			Checkpoint: func(ctx context.Context, step string, detail any) error {
				return engine.Checkpoint(ctx, step, detail)
			},
			OnProgress: opts.OnProgress,
		})
		if err != nil {
			return err
		}
		engine = migrate.NewEngine(session.Journal, phase.Steps()...)
		engine.Options, engine.OnEvent = phase.Options(), opts.OnEvent
		err = verb(ctx, engine)
		report.Outcome = phase.Outcome()
		return err
	})
	report.Took = time.Since(began)
	state, stateErr := migrate.ReadState(session.Journal.Entries())
	if err == nil {
		err = stateErr
	}
	report.State = state
	return report, err
}
