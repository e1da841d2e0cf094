package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
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

	// Windows are the times in which steps are applied. None: always. The way back needs no window.
	Windows []Window

	// AutoRollback rolls back when a gate fails.
	AutoRollback bool

	// Rate is the most items a second at the beginning, 0 without a limit. IntentRate changes it.
	Rate float64

	// Throttle holds steps up while the Redis has no room. The zero value never does.
	Throttle Throttle

	// Watch is asked by gates. Nil: a Sampler that keeps its samples beside the journals.
	Watch Watch

	// Subscribe opens the bell for a channel. Nil: intents are found by the sweep alone.
	Subscribe func(ctx context.Context, channel string) (Rings, error)

	// Track is what Env.Track is. Nil: none.
	Track func(ctx context.Context, prefixes ...string) (Rings, error)

	// Sweep is how often intents are read that nobody rang for. Default 1 minute, 10 seconds without
	// Subscribe; at least 10 milliseconds.
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

func (o HostOptions) withDefaults() HostOptions {
	if o.Sweep == 0 {
		o.Sweep = time.Minute
		if o.Subscribe == nil {
			o.Sweep = 10 * time.Second
		}
	}
	return o
}

func (o HostOptions) validate() error {
	var errs []error
	if o.Client == nil {
		errs = append(errs, errors.New("client: got none"))
	}
	if o.Open == nil {
		errs = append(errs, errors.New("phase: got none"))
	}
	if o.Sweep < 10*time.Millisecond {
		errs = append(errs, fmt.Errorf("sweep: got %s, want at least 10ms", o.Sweep))
	}
	return errors.Join(errs...)
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
