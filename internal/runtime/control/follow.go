package control

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// The pauses before the bell is asked again and before a failed reading is repeated: doubled from the
// first to the last, with jitter. A reading that fails is not billed, so the pauses are for the
// network's sake; a bell that cannot be had while readings succeed is asked for at most every Sweep.
const (
	firstPause = time.Second
	lastPause  = time.Minute
)

// Run follows the document until ctx ends: it reads it once, again at every ring with an epoch that is
// not known yet, after every gap, and every Sweep. While the upstream is down it tries again with
// growing pauses of 1 s to 1 min, and what was last known stays in force. It returns nil when ctx has
// ended; failures go to Options.Failed. Nothing it started is left then.
func (c *Control) Run(ctx context.Context) error {
	f := follower{Control: c, pause: firstPause}
	defer f.stop()
	f.subscribe(ctx)
	f.read(ctx)
	sweep := time.NewTicker(c.opts.Sweep)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case payload, open := <-f.feed.Rings:
			f.ring(ctx, payload, open)
		case <-f.feed.Gaps:
			f.read(ctx)
		case <-sweep.C:
			f.read(ctx)
		case <-f.retry():
			f.again(ctx)
		}
	}
}

// A follower is one Run.
type follower struct {
	*Control
	feed    Feed
	open    bool // feed is
	stale   bool // the last reading failed
	pause   time.Duration
	retryAt *time.Timer // nil when nothing is to be tried again
}

func (f *follower) stop() {
	if f.open {
		f.feed.Close()
	}
	f.cancelRetry()
}

// subscribe opens the bell, or sees to it that it is tried again.
func (f *follower) subscribe(ctx context.Context) {
	if f.opts.Subscribe == nil {
		return
	}
	feed, err := f.opts.Subscribe(ctx, f.channel())
	if err != nil {
		f.fail(ctx, err)
		return
	}
	f.feed, f.open = feed, true
}

// ring reads the document when the message names an epoch that is not known yet.
func (f *follower) ring(ctx context.Context, payload []byte, open bool) {
	if !open {
		f.feed.Close()
		f.feed, f.open = Feed{}, false
		f.later()
		return
	}
	epoch, err := strconv.ParseInt(string(payload), 10, 64)
	f.mu.Lock()
	known := err == nil && epoch <= f.stored.Epoch
	f.mu.Unlock()
	if !known {
		f.read(ctx)
	}
}

// read asks once; a failure that may pass is tried again soon, any other with the next sweep.
func (f *follower) read(ctx context.Context) {
	err := f.Read(ctx)
	f.stale = err != nil && !lasting(err)
	switch {
	case f.stale:
		f.fail(ctx, err)
	case err != nil:
		f.opts.Failed(err)
	case f.open || f.opts.Subscribe == nil:
		f.pause = firstPause
		f.cancelRetry()
	default:
		f.later()
	}
}

// lasting is whether the upstream answered, and asking again would only cost another command.
func lasting(err error) bool {
	if _, ok := errors.AsType[*SchemaError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*DamagedError](err); ok {
		return true
	}
	return strings.Contains(err.Error(), "WRONGTYPE")
}

func (f *follower) fail(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	f.opts.Failed(err)
	f.later()
}

// later sets the time of the next attempt, unless one is set.
func (f *follower) later() {
	if f.retryAt != nil {
		return
	}
	f.retryAt = time.NewTimer(f.pause/2 + rand.N(f.pause))
	most := f.opts.Sweep // a bell that cannot be had may cost a command each time it is asked for
	if f.stale {
		most = lastPause
	}
	f.pause = min(2*f.pause, most)
}

func (f *follower) cancelRetry() {
	if f.retryAt != nil {
		f.retryAt.Stop()
		f.retryAt = nil
	}
}

func (f *follower) retry() <-chan time.Time {
	if f.retryAt == nil {
		return nil
	}
	return f.retryAt.C
}

// again does what is due: the bell first, so that no change falls between it and the reading.
func (f *follower) again(ctx context.Context) {
	f.retryAt = nil
	if !f.open {
		f.subscribe(ctx)
	}
	if f.open || f.stale {
		f.read(ctx)
	}
}
