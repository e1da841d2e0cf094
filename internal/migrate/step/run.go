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
	// Facts, when not nil, let a plan tell more than the queue's keys do.
	Facts *Phase3Facts

	// StateDir is the directory of the local journals. Required.
	StateDir string

	// LeaseTTL is how long the lease outlives its last renewal. Default 30 seconds.
	LeaseTTL time.Duration

	// MaxRate, WorkersStopped and ActiveTimeout are those of Phase3Options.
	MaxRate        int
	WorkersStopped bool
	ActiveTimeout  time.Duration

	// Compare and AllJobs are those of Phase3Options.
	Compare, AllJobs bool

	// Hosting is how it is hosted: windows, throttles, intents, gates, what happens when every step is in
	// place. Which migration and which way is set by Start, Resume and Rollback.
	Hosting migrate.HostOptions

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
	opts.Hosting.Begin, opts.Hosting.Back = true, false
	return host(ctx, client, route, opts)
}

// Resume goes on with the migration in s, in the direction it had.
func Resume(ctx context.Context, client redis.UniversalClient, s migrate.Standing, opts RunOptions) (Report, error) {
	opts.Hosting.Begin, opts.Hosting.Back = false, false
	return again(ctx, client, s, opts)
}

// Rollback undoes the migration in s. cause is why, and may be nil. It returns
// migrate.ErrNothingToRollBack when nothing was done.
func Rollback(ctx context.Context, client redis.UniversalClient, s migrate.Standing, cause error, opts RunOptions) (Report, error) {
	if s.State.Stage == migrate.NotStarted || s.State.Stage == migrate.RolledBack {
		return Report{State: s.State}, migrate.ErrNothingToRollBack
	}
	opts.Hosting.Begin, opts.Hosting.Back, opts.Hosting.Cause = false, true, cause
	return again(ctx, client, s, opts)
}

// again runs with the route that the journal keeps.
func again(ctx context.Context, client redis.UniversalClient, s migrate.Standing, opts RunOptions) (Report, error) {
	if s.State.Stage == migrate.NotStarted {
		return Report{State: s.State}, nil
	}
	route, err := ReadRoute(s.State.Options)
	if err != nil {
		return Report{State: s.State}, err
	}
	return host(ctx, client, route, opts)
}

func host(ctx context.Context, client redis.UniversalClient, route Route, opts RunOptions) (Report, error) {
	h := opts.Hosting
	h.Client, h.OnEvent, h.Rate = client, opts.OnEvent, float64(opts.MaxRate)
	h.Session = migrate.SessionOptions{Target: TargetOf(route), StateDir: opts.StateDir, LeaseTTL: opts.LeaseTTL}
	h.Open = func(_ context.Context, _ migrate.State, env migrate.Env) (migrate.Phase, error) {
		return NewQueuePhase(client, Phase3Options{
			Compare: opts.Compare,
			Route:   route, WorkersStopped: opts.WorkersStopped, ActiveTimeout: opts.ActiveTimeout, OnProgress: opts.OnProgress,
		}, env)
	}
	hosted, err := migrate.Host(ctx, h)
	report := Report{Route: route, State: hosted.State, Took: hosted.Took}
	if p, ok := hosted.Phase.(QueuePhase); ok {
		report.Outcome = p.Outcome()
	}
	return report, err
}
