package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	// syncEvery is how often a renewal is made by the script: it brings the server's clock and the others.
	syncEvery = 24 * time.Hour

	// slept is the difference between the wall clock and the process's own from which it was not running.
	slept = 5 * time.Second

	firstRetry = 15 * time.Second
	lastRetry  = 5 * time.Minute
)

// A Periodic is a command that is sent again and again, idle or not.
type Periodic struct {
	Name     string
	Every    time.Duration
	Commands float64 // top-level, each time
	InScript float64 // run inside scripts, each time
}

// Periodic is what Run sends while all is well: a plain renewal each Options.Renew, and instead of one of them
// once a day the script.
func (f *Fleet) Periodic() []Periodic {
	return []Periodic{
		{"fleet renewal", f.opts.Renew, 1, 0},
		{"fleet look", syncEvery, 0, 3},
	}
}

// Run renews the place until ctx ends, and registers if Join did not succeed. It sends one command each
// Options.Renew, and 1 script that runs 2 to 4 commands in its place once a day, after a doubt (no
// reply, a lost place, a process that slept) and while the fleet is above its cap. While Redis does not
// answer, what is held is kept, and it is tried again after 15 s, then twice as long each time, up to
// 5 minutes. Run does not Leave: connections may still be needed.
//
// It ends with nil, or with the *SchemaError of a newer program.
func (f *Fleet) Run(ctx context.Context) error {
	pause := firstRetry
	next := f.opts.Renew
	if !f.State().Registered {
		next = 0
	}
	timer := time.NewTimer(next)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		err := f.renew(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			pause = firstRetry
			timer.Reset(f.opts.Renew)
			continue
		}
		if _, newer := errors.AsType[*SchemaError](err); newer {
			return err
		}
		f.opts.Event(Event{Kind: Failed, Err: err})
		timer.Reset(pause/2 + rand.N(pause/2))
		pause = min(2*pause, lastRetry)
	}
}

// renew makes the place last for a whole lease from now.
func (f *Fleet) renew(ctx context.Context) error {
	if renewed, err := f.prolong(ctx); renewed || err != nil {
		return err
	}
	_, err := f.ask(ctx, modeAgain, f.connections())
	return err
}

// prolong renews with one plain command, and reports false when only the script can.
func (f *Fleet) prolong(ctx context.Context) (bool, error) {
	f.asking.Lock()
	defer f.asking.Unlock()
	f.mu.Lock()
	from, plain := f.untilMS, f.plain(time.Now())
	until := f.serverMS + time.Since(f.heard).Milliseconds() + f.opts.Lease.Milliseconds()
	f.mu.Unlock()
	if !plain || until <= from {
		return false, nil
	}
	ctx, cancel := f.bounded(ctx)
	defer cancel()
	got, err := f.opts.Client.HIncrBy(ctx, f.opts.Key, "until:"+f.self(0, false).id(), until-from).Result()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.untilMS = 0 // it may have run
		f.state.Err = fmt.Errorf("fleet: renew in %s: %w", f.opts.Key, err)
		return false, f.state.Err
	}
	if got != until {
		f.untilMS = 0
		return false, nil
	}
	f.untilMS, f.state.Expires, f.state.Err = until, time.UnixMilli(until).UTC(), nil
	return true, nil
}

// plain is whether nothing is in doubt. f.mu is held.
func (f *Fleet) plain(now time.Time) bool {
	own := now.Sub(f.heard)
	wall := now.Round(0).Sub(f.heard.Round(0))
	return f.untilMS > 0 && f.state.Registered && !f.state.Over && own < syncEvery && (wall-own).Abs() < slept
}
