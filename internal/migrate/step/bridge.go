package step

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
)

const (
	bridgeSweep     = time.Minute      // without a bell
	bridgeSweepBell = 5 * time.Minute  // with one
	bridgeGap       = time.Second      // at least between two passes, however often the bell rings
	bridgeHeld      = 30 * time.Second // until held jobs are tried again: the default life of a lock in Bull and BullMQ
	bridgeShortest  = 10 * time.Millisecond
)

// ErrNoBridge reports that a queue was converted in place: what an old producer adds is among the new jobs
// already, and nothing can tell it from them while workers run.
var ErrNoBridge = errors.New("a queue that was converted in place has no bridge: stop its old producers")

// BridgeOptions say how what comes late is looked for.
type BridgeOptions struct {
	// Every is how often the source is looked at without having been told. Default 1 minute, which is 43,200
	// commands in a 30-day month; 5 minutes with Track, 8,640. At least 10 ms.
	Every time.Duration

	// Track follows every change of keys that begin with one of the prefixes, such as CLIENT TRACKING with
	// broadcast does, on the connection that is the bell. Nil: what comes late is found by the sweep alone.
	Track func(ctx context.Context, prefixes ...string) (migrate.Rings, error)

	// MaxRate and WorkersStopped are those of Phase3Options.
	MaxRate        int
	WorkersStopped bool

	// Fence, when its Key is not empty, must hold for every chunk that is moved.
	Fence mover.Fence

	// OnMoved, when not nil, is called after each pass that moved something, with the sums so far.
	OnMoved func(Bridged)

	// OnError, when not nil, is told of a pass that failed and is tried again at the next look.
	OnError func(error)
}

// Bridged is what a bridge has done.
type Bridged struct {
	// Moved counts what was taken over, by the state it was in.
	Moved map[mover.State]int64 `json:"moved"`

	// Held counts the active jobs, and Skipped are the others, that the last pass left at the source.
	Held    int             `json:"held"`
	Skipped []mover.Problem `json:"skipped"`

	// Looks counts how often the source was looked at, Passes how often something was to be done.
	Looks  int64 `json:"looks"`
	Passes int64 `json:"passes"`
}

func (o BridgeOptions) withDefaults() BridgeOptions {
	if o.Every == 0 {
		o.Every = bridgeSweep
		if o.Track != nil {
			o.Every = bridgeSweepBell
		}
	}
	return o
}

// Bridge moves what straggling producers still add to the source of route to its target, after Move and
// until ctx ends, while the target's workers run. It returns what it did, and nil when ctx ended; a lost
// lease, or a refusal that a next look would meet again, ends it too. Other failures are told to OnError.
// It is safe beside nothing else that moves the same queue: whoever holds the lease runs one.
//
// An active job that a worker may still run is tried again after half a minute, then after twice as long each time
// up to Every: a worker that ends leaves it there, and no key tells of that. So is a pass that failed.
//
// Price: 1 command a look; 8 more, 18 for asynq, while something is left at the source that cannot be moved; a pass as
// mover.Move, about 60 commands, and a second one when something is left after it.
func Bridge(ctx context.Context, client redis.UniversalClient, route Route, opts BridgeOptions) (Bridged, error) {
	opts = opts.withDefaults()
	b := &bridge{client: client, from: route.From, opts: opts, sum: Bridged{Moved: map[mover.State]int64{}, Skipped: []mover.Problem{}}}
	if route.InPlace() {
		return b.sum, ErrNoBridge
	}
	if opts.Every < bridgeShortest {
		return b.sum, fmt.Errorf("bridge: every: got %s, want at least %s", opts.Every, bridgeShortest)
	}
	phase, err := NewPhase3(client, Phase3Options{
		Route: route, MaxRate: opts.MaxRate, WorkersStopped: opts.WorkersStopped, ActiveTimeout: -1, Fence: opts.Fence, straggling: true,
	})
	if err != nil {
		return b.sum, err
	}
	b.out = phase.move.out
	var rings <-chan struct{}
	if opts.Track != nil {
		feed, err := opts.Track(ctx, b.keys(false)...)
		switch {
		case err == nil:
			defer feed.Close()
			rings = feed.C
		case ctx.Err() != nil:
			return b.sum, nil
		default:
			b.failed(fmt.Errorf("bridge: follow %s: %w", route.From, err))
		}
	}
	return b.sum, b.loop(ctx, rings)
}

// A bridge is one call of Bridge.
type bridge struct {
	client   redis.UniversalClient
	from     mover.Endpoint
	opts     BridgeOptions
	out      way
	left     map[mover.State]int64 // what is there that cannot be moved; nil when that is not known
	sum      Bridged
	patience time.Duration // the next wait for what may pass by itself
}

// keys are the containers in which something new can be. With taken they are also those of what a worker has taken.
func (b *bridge) keys(taken bool) []string {
	names, bands := []string{"wait", "paused", "delayed", "prioritized", "repeat"}, []string{""}
	if b.from.Layout == mover.Asynq {
		names, bands = []string{"pending", "scheduled", "retry"}, []string{"", ":high", ":low"}
	}
	if taken {
		names = append(names, "active")
	}
	var keys []string
	for _, band := range bands {
		e := b.from
		e.Queue += band
		for _, name := range names {
			keys = append(keys, e.Key(name))
		}
	}
	return keys
}

func (b *bridge) loop(ctx context.Context, rings <-chan struct{}) error {
	next := time.NewTimer(b.opts.Every)
	defer next.Stop()
	for {
		err := b.look(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			var blocked *mover.BlockedError
			if errors.Is(err, migrate.ErrLeaseLost) || errors.As(err, &blocked) {
				return err
			}
			b.failed(err)
		}
		next.Reset(b.wait(err))
		select { // what comes in a burst is one pass
		case <-ctx.Done():
			return nil
		case <-time.After(min(bridgeGap, b.opts.Every)):
		}
		select {
		case <-ctx.Done():
			return nil
		case <-rings:
		case <-next.C:
		}
	}
}

// wait is how long the bridge rests after a look that ended with err, unless a bell rings.
func (b *bridge) wait(err error) time.Duration {
	if err != nil || b.sum.Held > 0 {
		now := min(max(b.patience, bridgeHeld), b.opts.Every)
		b.patience = 2 * now
		return now
	}
	b.patience = 0
	if b.left == nil { // once more, to know what is left
		return 0
	}
	return b.opts.Every
}

func (b *bridge) failed(err error) {
	if b.opts.OnError != nil {
		b.opts.OnError(err)
	}
}

// look takes over what there is. What was left behind by the pass before is not tried again until
// something has changed, but for active jobs, whose locks and workers end without any change of these keys.
func (b *bridge) look(ctx context.Context) error {
	b.sum.Looks++
	var before map[mover.State]int64 // nil: not counted
	if b.left != nil && b.sum.Held == 0 {
		n, err := b.client.Exists(ctx, b.keys(true)...).Result()
		if err != nil {
			return fmt.Errorf("bridge: look at %s: %w", b.from, err)
		}
		if n == 0 {
			return nil
		}
		if before, err = mover.Counts(ctx, b.client, b.from); err != nil {
			return fmt.Errorf("bridge: %w", err)
		}
		if maps.Equal(before, b.left) {
			return nil
		}
	} else if b.sum.Passes > 0 {
		var err error
		if before, err = mover.Counts(ctx, b.client, b.from); err != nil {
			return fmt.Errorf("bridge: %w", err)
		}
	}
	b.left = nil
	b.sum.Passes++
	r, err := b.out.Move(ctx)
	for state, n := range r.Moved {
		b.sum.Moved[state] += n
	}
	b.sum.Held, b.sum.Skipped = len(r.Held), r.Skipped
	if total(r.Moved) > 0 && b.opts.OnMoved != nil {
		told := b.sum
		told.Moved = maps.Clone(told.Moved)
		b.opts.OnMoved(told)
	}
	if err != nil {
		return fenced(err)
	}
	after, err := mover.Counts(ctx, b.client, b.from)
	if err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	// What is there now may have been added behind the pass. It was left behind for sure when a pass that changed
	// nothing found it so.
	if len(after) == 0 || total(r.Moved) == 0 && maps.Equal(before, after) {
		b.left = after
	}
	return nil
}
