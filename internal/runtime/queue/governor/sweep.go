package governor

import (
	"context"
	"slices"
	"time"
)

// ownTimeout bounds each of the governor's own commands, besides what the client does.
const ownTimeout = 10 * time.Second

// sweeps looks after everything that has a time, until ctx ends.
func (g *Governor) sweeps(ctx context.Context, heard <-chan struct{}) {
	if g.opts.ClientOnly {
		g.once.Do(func() { close(g.ready) })
		<-ctx.Done()
		return
	}
	var at times
	timer := time.NewTimer(0)
	defer timer.Stop()
	for failures := 0; ; {
		anew := false
		select {
		case <-ctx.Done():
			return
		case <-heard:
			anew = true
		case <-timer.C:
		case <-g.poke:
		}
		whole := g.putBackSoon(ctx)
		if anew || at.again {
			at.again = g.everything(ctx, &at) != nil
		}
		wait := time.Duration(0)
		if at.again || g.small(ctx, &at) != nil || g.regular(ctx, &at) != nil || !whole {
			failures++
			wait = backoff(failures)
		} else {
			failures = 0
			if !at.sweep.IsZero() {
				// Leases that have ended are known now too: asynq looks for them when it starts.
				g.once.Do(func() { close(g.ready) })
			}
		}
		timer.Reset(max(wait, time.Until(g.earliest(&at))))
		if wait > 0 {
			// Whatever pokes meanwhile would be tried at once, and the Redis does not answer.
			pause(ctx, wait)
		}
	}
}

// times are when the regular work is to be done next. Zero: after the first look.
type times struct {
	sweep, resync time.Time
	again         bool // the look at everything did not succeed
}

// everything looks at all queues, as at the start: nothing that was known counts any more.
func (g *Governor) everything(ctx context.Context, at *times) error {
	if err := g.decide(ctx); err != nil {
		return err
	}
	g.mu.Lock()
	for _, q := range g.queues {
		q.suspect()
	}
	asked := g.lookable()
	g.mu.Unlock()
	if err := g.sweep(ctx, asked); err != nil {
		return err
	}
	if err := g.resync(ctx); err != nil {
		return err
	}
	now := time.Now()
	at.sweep, at.resync = now.Add(g.interval()), now.Add(g.opts.Resync)
	return nil
}

// interval is how often this replica sweeps.
func (g *Governor) interval() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.role.sweeper {
		return time.Duration(g.slowness) * g.opts.Sweep
	}
	return g.opts.Follow
}

// regular does what is done in intervals, when its time has come.
func (g *Governor) regular(ctx context.Context, at *times) error {
	if at.sweep.IsZero() {
		return nil
	}
	if err := g.keepRole(ctx, at); err != nil {
		return err
	}
	now := time.Now()
	if !now.Before(at.sweep) {
		g.mu.Lock()
		g.prune(now)
		asked, sweeper := g.quiet(), g.role.sweeper
		g.mu.Unlock()
		news := true
		if !sweeper {
			var err error
			if news, err = g.others(ctx, asked); err != nil {
				return err
			}
		}
		if news {
			if err := g.sweep(ctx, asked); err != nil {
				return err
			}
		}
		if err := g.unpaused(ctx); err != nil {
			return err
		}
		at.sweep = after(at.sweep, g.interval(), now)
	}
	if g.sweeper() && !now.Before(at.resync) {
		if err := g.resync(ctx); err != nil {
			return err
		}
		at.resync = after(at.resync, g.opts.Resync, now)
	}
	return nil
}

// after is the next time of something that is due every so often and was due at last.
func after(last time.Time, every time.Duration, now time.Time) time.Time {
	if next := last.Add(every); next.After(now) {
		return next
	}
	return now.Add(every)
}

func (g *Governor) sweeper() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.role.sweeper
}

// prune forgets what is over. The mutex is held.
func (g *Governor) prune(now time.Time) {
	for _, q := range g.queues {
		q.pushes.prune(now)
		for id, held := range q.own {
			// asynq has given it up long ago.
			if now.Sub(held.at) > 10*g.believed() {
				delete(q.own, id)
			}
		}
	}
	for key, at := range g.presence.rounds {
		if now.Sub(at) > 3*g.presenceTTL() {
			delete(g.presence.rounds, key)
		}
	}
}

// An asked key is one that a sweep looks at.
type asked struct {
	q     *queue
	part  string
	known uint64 // of the queue when it was decided
}

func (a asked) key() string { return keyOf(a.q.name, a.part) }

// lookable are the keys that say whether there is something to do, of all queues. The mutex is held.
func (g *Governor) lookable() []asked {
	var all []asked
	for _, name := range g.names {
		q := g.queues[name]
		for _, part := range []string{pendingPart, activePart, leasePart} {
			all = append(all, asked{q, part, q.known})
		}
	}
	return all
}

// quiet are those of them that are believed not to exist: any that does is news. The mutex is held.
func (g *Governor) quiet() []asked {
	return slices.DeleteFunc(g.lookable(), func(a asked) bool {
		if a.part == pendingPart {
			return a.q.mayHaveWork() || a.q.paused
		}
		return len(a.q.own) > 0 || !a.q.foreign.next.IsZero() || a.q.foreign.expired
	})
}

// sweep looks which keys exist, with one command when none does, and notes what that means.
func (g *Governor) sweep(ctx context.Context, keys []asked) error {
	found, err := g.existing(ctx, keys)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stats.Sweeps++
	now := time.Now()
	orphans := map[*queue]int{}
	for i, a := range keys {
		q := a.q
		switch {
		case a.part == pendingPart && found[i]:
			q.suspect()
			q.found = true
		case a.part == pendingPart:
			if q.known == a.known {
				q.unsure = false
				clear(q.waiting)
			}
		case !found[i]:
		case a.part == leasePart:
			q.foreign.suspect(now)
			orphans[q]--
		default:
			orphans[q]++
		}
	}
	for q, n := range orphans {
		q.foreign.orphans = n > 0 && len(q.own) == 0
	}
	for _, q := range g.queues {
		// Own leases hide those of others: these are looked at one by one.
		if g.role.sweeper && len(q.own) > 0 && g.bell.mode != tracks {
			q.foreign.suspect(now)
		}
	}
	g.signal()
	g.prod()
	return nil
}

// existing is which of the keys exist. It costs one EXISTS when none does, and when some do about two for
// each halving that leads to them.
func (g *Governor) existing(ctx context.Context, keys []asked) ([]bool, error) {
	found := make([]bool, len(keys))
	if !g.opts.Separate {
		return found, g.halve(ctx, keys, found)
	}
	for from := 0; from < len(keys); {
		to := from + 1
		for to < len(keys) && keys[to].q == keys[from].q {
			to++
		}
		if err := g.halve(ctx, keys[from:to], found[from:to]); err != nil {
			return nil, err
		}
		from = to
	}
	return found, nil
}

// others is the first look of a replica that is not the sweeper: whether any of the keys exists, and whether
// there is a sweeper. It costs one EXISTS: a key that is named twice counts twice, so the sweeper's lease
// is told apart by being named more often than all the others.
func (g *Governor) others(ctx context.Context, keys []asked) (news bool, err error) {
	var names []string
	for range len(keys) + 1 {
		names = append(names, g.sweeperKey())
	}
	lease := int64(len(names))
	if !g.opts.Separate {
		for _, k := range keys {
			names = append(names, k.key())
		}
	} else {
		names, lease = names[:1], 1
	}
	ctx, cancel := context.WithTimeout(ctx, ownTimeout)
	defer cancel()
	n, err := g.opts.Client.Exists(ctx, names...).Result()
	if err != nil {
		return false, err
	}
	if n < lease {
		g.mu.Lock()
		g.role.claim = time.Now()
		g.mu.Unlock()
		g.prod()
	} else {
		n -= lease
	}
	return n > 0 || g.opts.Separate, nil
}

func (g *Governor) halve(ctx context.Context, keys []asked, found []bool) error {
	if len(keys) == 0 {
		return nil
	}
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.key()
	}
	ctx, cancel := context.WithTimeout(ctx, ownTimeout)
	defer cancel()
	n, err := g.opts.Client.Exists(ctx, names...).Result()
	switch {
	case err != nil:
		return err
	case n == 0:
		return nil
	case int(n) == len(keys):
		for i := range found {
			found[i] = true
		}
		return nil
	}
	half := len(keys) / 2
	if err := g.halve(ctx, keys[:half], found[:half]); err != nil {
		return err
	}
	return g.halve(ctx, keys[half:], found[half:])
}

// resync reads anew which delayed, completed and grouped jobs there are. It costs one EXISTS over what is
// believed not to exist, and when it does not; and one ZRANGE for each set of delayed jobs that there is.
func (g *Governor) resync(ctx context.Context) error {
	g.mu.Lock()
	var keys []asked
	for _, name := range g.names {
		q := g.queues[name]
		q.scheduled.ask, q.retry.ask = q.scheduled.some(), q.retry.some()
		for part, known := range map[string]bool{
			scheduledPart: q.scheduled.ask, retryPart: q.retry.ask, completedPart: q.completed.first != 0,
			groupsPart: q.groups && !q.unsynced, setsPart: q.groups && !q.unsynced,
		} {
			if !known {
				keys = append(keys, asked{q, part, q.known})
			}
		}
	}
	g.mu.Unlock()
	found, err := g.existing(ctx, keys)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stats.Resyncs++
	for i, a := range keys {
		switch a.part {
		case scheduledPart:
			a.q.scheduled.found(found[i])
		case retryPart:
			a.q.retry.found(found[i])
		case completedPart:
			a.q.completed.ask = found[i]
		default:
			if a.q.unsynced {
				a.q.unsynced, a.q.groups = false, false
			}
			if found[i] {
				a.q.groups, a.q.groupsAt = true, time.Now()
			}
		}
	}
	g.prod()
	return nil
}

// found notes whether a set exists that was believed not to. When it does, its first is asked for.
func (d *due) found(exists bool) { d.ask = d.ask || exists }

// some is whether there are delayed jobs, as far as is known.
func (d *due) some() bool { return len(d.times) > 0 || d.partial || d.foreign != 0 }
