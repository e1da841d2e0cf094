package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/history"
)

// HostOptions say which migration a host runs, and how.
type HostOptions struct {
	// Client reaches the Redis. Required.
	Client redis.UniversalClient

	// Session names the migration and where its journal is. Required.
	Session SessionOptions

	// Open makes the phase, from what the journal keeps or from what the operator asked for. It is
	// called once, with the lease held. Required.
	Open func(ctx context.Context, s State, env Env) (Phase, error)

	// Begin starts a run when none is open. Without it only an open one is gone on with.
	Begin bool

	// Back rolls back, for the reason Cause, which may be nil.
	Back  bool
	Cause error

	// Complete completes as soon as every step is in place and nobody holds it up. Without it the
	// host returns when every step is in place, or with Stay waits for an intent.
	Complete bool

	// Hold waits before completing until an intent says so, or until the file Approval exists.
	Hold     bool
	Approval string

	// Stay goes on hosting when every step is in place, until the migration is completed or rolled
	// back.
	Stay bool

	// Leave, when closed, ends what Stay asks for as soon as every step is in place. Nil: nothing does.
	Leave <-chan struct{}

	// Windows are the times in which steps are applied. They are kept in the journal: none are those that an earlier
	// host of the same run was given, and always when that was given none. The way back needs no window.
	Windows []Window

	// AnyTime has steps applied at all times from now on, whatever an earlier host was given. Not with Windows.
	AnyTime bool

	// AutoRollback rolls back when a gate fails.
	AutoRollback bool

	// Rate is the most items a second at the beginning, 0 without a limit. IntentRate changes it.
	Rate float64

	// Throttle holds steps up while the Redis has no room. The zero value never does.
	Throttle Throttle

	// Watch is asked by gates. Nil: a Sampler that keeps its samples beside the journals.
	Watch Watch

	// Own and Counted are what a Sampler is given that is made because there is no Watch; see SamplerOptions.
	Own     func() int64
	Counted func(ctx context.Context) (history.Counters, error)

	// MetricsToken, when not empty, is sent to the application's metrics page. No journal keeps it.
	MetricsToken string

	// Subscribe opens the bell for a channel. Nil: intents are found by the sweep alone.
	Subscribe func(ctx context.Context, channel string) (Rings, error)

	// Track is what Env.Track is. Nil: none.
	Track func(ctx context.Context, prefixes ...string) (Rings, error)

	// Sweep is how often intents are read that nobody rang for. Default 0: with each renewal of the lease, which
	// is every 10 minutes while nothing moves and every 10 seconds while something does, and every minute while
	// there is no bell. Else at least 10 milliseconds.
	Sweep time.Duration

	// OnEvent, OnProgress and OnPulse, when not nil, are told what happens, one after the other.
	OnEvent    func(Event)
	OnProgress func(Progress)
	OnPulse    func(Pulse)
}

// Rings is one subscription to the bell.
type Rings struct {
	C     <-chan struct{} // receives once for every message, and after a gap; never closed
	Close func()
}

func (o HostOptions) validate() error {
	var errs []error
	if o.Client == nil {
		errs = append(errs, errors.New("client: got none"))
	}
	if o.Open == nil {
		errs = append(errs, errors.New("phase: got none"))
	}
	if o.AnyTime && len(o.Windows) > 0 {
		errs = append(errs, fmt.Errorf("windows: got %d, and that steps are applied at any time", len(o.Windows)))
	}
	if o.Sweep != 0 && o.Sweep < 10*time.Millisecond {
		errs = append(errs, fmt.Errorf("sweep: got %s, want 0 or at least 10ms", o.Sweep))
	}
	return errors.Join(errs...)
}

// Resting is what it costs to host a migration for d while nothing moves, beside what its phase does meanwhile:
// commands, and those that run inside their scripts, which some providers bill too. It counts no ring of the
// bell, of which each is one command and four inside.
func (o HostOptions) Resting(d time.Duration) (commands, inScript int64) {
	lease := LeaseOptions{TTL: o.Session.LeaseTTL, Rest: o.Session.LeaseRest}.withDefaults()
	renewals := int64(d / (lease.Rest / 2))
	commands, inScript = renewals, 4*renewals
	if o.Watch == nil {
		commands += int64(d / sampleSeldom)
	}
	if o.Throttle.on() {
		commands += int64(d / max(calmEvery, o.Throttle.Every))
	}
	switch {
	case o.Sweep > 0:
		commands += int64(d / o.Sweep)
	case o.Subscribe == nil:
		commands += int64(d / deafSweep)
	}
	return commands, inScript
}

// A RolledBackError reports a migration that was rolled back because a gate failed.
type RolledBackError struct {
	Target Target
	Cause  error
}

func (e *RolledBackError) Error() string {
	return fmt.Sprintf("%s was rolled back: %v", e.Target, e.Cause)
}

func (e *RolledBackError) Unwrap() error { return e.Cause }
