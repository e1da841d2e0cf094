package cron

import (
	"context"
	"math/rand/v2"
	"strconv"
	"time"
)

const (
	// maxSleep is how long Run sleeps without a look at the clock, which may have been set meanwhile.
	maxSleep = 10 * time.Second

	// The pauses before something that failed is tried again: doubled from the first to the last, with
	// jitter.
	firstPause = time.Second
	lastPause  = time.Minute
)

// Run fires schedules until ctx ends, and follows their changes: it reads them once, again at every
// ring with a revision that is not known, after every gap, and when a sweep finds another revision.
// What was under way when ctx ends is finished, in at most Options.Timeout. It returns nil; failures go
// to Options.Failed. Enqueue is required.
func (c *Cron) Run(ctx context.Context) error {
	if c.opts.Enqueue == nil {
		return errNoEnqueue
	}
	r := &runner{Cron: c, pause: firstPause, owed: map[string]time.Time{}}
	defer r.stop(ctx)
	r.subscribe(ctx)
	r.load(ctx)
	sweep := time.NewTicker(c.opts.Sweep)
	defer sweep.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case payload, open := <-r.feed.Rings:
			r.ring(ctx, payload, open)
		case <-r.feed.Gaps:
			r.load(ctx)
			r.hurry()
		case <-c.changed:
			r.load(ctx)
		case <-sweep.C:
			r.sweep(ctx)
		case <-r.retry():
			r.again(ctx)
		case <-timer.C:
		}
		timer.Reset(r.round(ctx, wallNow()))
	}
}

// A runner is one Run.
type runner struct {
	*Cron

	feed    Feed
	open    bool // feed is
	stale   bool // the last reading failed
	pause   time.Duration
	retryAt *time.Timer // nil when no reading and no subscription is to be repeated

	owed   map[string]time.Time // marks that could not be written
	owedAt time.Time            // not before
}

// stop notes the last ticks, so that a start soon after does not try them again; at most 1 command.
func (r *runner) stop(ctx context.Context) {
	if r.open {
		r.feed.Close()
	}
	if r.retryAt != nil {
		r.retryAt.Stop()
	}
	for name, e := range r.entries {
		if e.Misfire != Skip && e.mine.After(e.marked) {
			r.owed[name] = e.mine
		}
	}
	r.owedAt = time.Time{}
	r.note(ctx, nil, wallNow())
}

func (r *runner) subscribe(ctx context.Context) {
	if r.opts.Subscribe == nil {
		return
	}
	feed, err := r.opts.Subscribe(ctx, r.channel())
	if err != nil {
		r.fail(ctx, err)
		return
	}
	r.feed, r.open = feed, true
}

func (r *runner) ring(ctx context.Context, payload []byte, open bool) {
	if !open {
		r.feed.Close()
		r.feed, r.open = Feed{}, false
		r.later()
		return
	}
	// Not "a lower one": the revision begins anew when the hash was lost.
	if n, err := strconv.ParseInt(string(payload), 10, 64); err != nil || n != r.revision {
		r.load(ctx)
	}
}

func (r *runner) sweep(ctx context.Context) {
	n, err := r.lookup(ctx)
	if err != nil {
		r.fail(ctx, err)
	} else if n != r.revision {
		r.load(ctx)
	}
}

// load reads the schedules and takes what it finds.
func (r *runner) load(ctx context.Context) {
	t, err := r.read(ctx)
	if err == nil {
		err = r.take(t, wallNow())
	}
	r.mu.Lock()
	r.readErr = err
	r.mu.Unlock()
	r.stale = err != nil && !lasting(err)
	switch {
	case r.stale:
		r.fail(ctx, err)
	case err != nil:
		r.opts.Failed(err)
	case r.open || r.opts.Subscribe == nil:
		r.pause = firstPause
		if r.retryAt != nil {
			r.retryAt.Stop()
			r.retryAt = nil
		}
	default:
		r.later()
	}
}

func (r *runner) fail(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	r.opts.Failed(err)
	r.later()
}

// later sets the time of the next attempt, unless one is set.
func (r *runner) later() {
	if r.retryAt != nil {
		return
	}
	r.retryAt = time.NewTimer(r.pause/2 + rand.N(r.pause))
	most := r.opts.Sweep // a bell that cannot be had may cost a command each time it is asked for
	if r.stale {
		most = lastPause
	}
	r.pause = min(2*r.pause, most)
}

func (r *runner) retry() <-chan time.Time {
	if r.retryAt == nil {
		return nil
	}
	return r.retryAt.C
}

// again does what is due: the bell first, so that no change falls between it and the reading.
func (r *runner) again(ctx context.Context) {
	r.retryAt = nil
	if !r.open {
		r.subscribe(ctx)
	}
	if r.open || r.stale || r.opts.Subscribe == nil {
		r.load(ctx)
	}
}
