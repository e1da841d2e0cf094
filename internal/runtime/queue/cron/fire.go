package cron

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

var errNoEnqueue = errors.New("cron: enqueue: missing")

const (
	// markEvery is how often the ticks of a schedule that runs once what was missed are noted. What is
	// not noted is younger than the ids that are kept, so it cannot run twice.
	markEvery = 5 * time.Minute

	// atOnce is how many schedules are enqueued at the same time.
	atOnce = 8

	// latePause is the longest pause between attempts at what was missed. A queue that takes nothing
	// answers, and so bills, each of them; a Redis that is back says so.
	latePause = 5 * time.Minute

	// remembered is how many ticks of a schedule are known to be fired, should the clock be set back.
	remembered = 64
)

// An entry is a schedule as Run knows it. Run alone changes it, under the lock.
type entry struct {
	*plan

	done   time.Time // ticks up to here are settled
	last   time.Time // the last tick that is enqueued, by whomever
	mine   time.Time // the last one that was enqueued here
	marked time.Time // the last one that was noted here
	noted  time.Time // when
	fired  []int64   // ticks that were enqueued, in Unix seconds, oldest first

	next  time.Time // when the next tick is enqueued; zero when never
	retry time.Time // not before, after a failure
	pause time.Duration
}

// take makes what was read the schedules of this process.
func (c *Cron) take(t table, now time.Time) error {
	c.mu.Lock()
	if t.revision == 0 && c.revision > 0 {
		c.mu.Unlock()
		return &DamagedError{c.opts.Key, "it is gone; the schedules that were known stay in force here until they are added again"}
	}
	entries := make(map[string]*entry, len(t.plans))
	for name, p := range t.plans {
		e := c.entries[name]
		if e == nil || !e.sameTimes(p.Schedule) || !e.Since.Equal(p.Since) {
			fresh := &entry{plan: p, done: p.begin(now, c.opts.Grace), pause: firstPause}
			if e != nil {
				fresh.fired = e.fired
			}
			e = fresh
		}
		e.plan = p
		if m := t.marks[name]; !m.After(now) {
			e.done, e.last = later(e.done, m), later(e.last, m)
		}
		e.schedule()
		entries[name] = e
	}
	c.entries, c.revision = entries, t.revision
	c.mu.Unlock()
	for _, err := range t.damaged {
		c.opts.Failed(err)
	}
	return nil
}

// begin is the instant after which ticks count for one who has just come to know the schedule.
func (p *plan) begin(now time.Time, grace time.Duration) time.Time {
	begin := p.Since
	if begin.After(now.Add(grace)) {
		begin = now // whoever set it has another idea of the time
	}
	if p.Misfire == Skip || begin.IsZero() {
		begin = later(begin, now.Add(-grace-p.Jitter))
	}
	return begin
}

// schedule works out when the next tick is enqueued.
func (e *entry) schedule() {
	e.next = time.Time{}
	if at := e.table.Next(e.done); !at.IsZero() && !e.Paused {
		e.next = later(e.fireAt(at), e.retry)
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

// round enqueues what is due at now and returns how long to sleep.
func (r *runner) round(ctx context.Context, now time.Time) time.Duration {
	list := r.due(now)
	if slices.ContainsFunc(list, (*firing).missed) {
		// Others may have run it long ago, so that its id is forgotten: their marks say so.
		if r.load(ctx); r.readErr == nil {
			list = r.due(now)
		} else {
			list = slices.DeleteFunc(list, func(w *firing) bool {
				if w.missed() {
					r.putOff(w.entry, now)
				}
				return w.missed()
			})
		}
	}
	var running sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, w := range list {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			w.fire(ctx, r.Cron, now)
		})
	}
	running.Wait()
	r.note(ctx, r.settle(list, now), now)
	return r.sleep(now)
}

// note writes marks, and those that could not be written before.
func (r *runner) note(ctx context.Context, marks map[string]time.Time, now time.Time) {
	maps.Copy(r.owed, marks)
	maps.DeleteFunc(r.owed, func(name string, _ time.Time) bool { return r.entries[name] == nil })
	if len(r.owed) == 0 || now.Before(r.owedAt) && now.After(r.owedAt.Add(-lastPause)) {
		return
	}
	write := r.mark
	for name, at := range r.owed {
		if wallNow().Sub(r.entries[name].fireAt(at)) > r.opts.Grace {
			write = r.raise
		}
	}
	if err := write(context.WithoutCancel(ctx), r.owed); err != nil {
		r.opts.Failed(err)
		r.owedAt = now.Add(lastPause / 2)
		return
	}
	clear(r.owed)
	r.owedAt = time.Time{}
}

// A firing is what a round does for one schedule.
type firing struct {
	batch

	entry *entry
	known []int64

	settled    []time.Time // of run
	mine       time.Time   // the last that was enqueued here
	fired      uint64
	duplicates uint64
	refused    uint64
	err        error // why the rest of run is tried again
}

// missed is whether something was missed that may be made up for.
func (w *firing) missed() bool { return w.late && w.entry.Misfire != Skip }

func (r *runner) due(now time.Time) []*firing {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*firing
	for _, e := range r.entries {
		if now.Before(e.done) {
			// The clock was set back, or is behind that of whoever set Since.
			if e.done = now; e.Since.After(now) && !e.Since.After(now.Add(r.opts.Grace)) {
				e.done = e.Since
			}
			e.retry = time.Time{}
			e.schedule()
		}
		if e.next.IsZero() || e.next.After(now) {
			continue
		}
		list = append(list, &firing{batch: e.due(e.done, now, r.opts.Grace), entry: e, known: e.fired})
	}
	return list
}

// fire enqueues ticks in order until one fails.
func (w *firing) fire(ctx context.Context, c *Cron, now time.Time) {
	s := w.entry.Schedule
	for _, at := range w.run {
		if ctx.Err() != nil {
			w.err = ctx.Err()
			return
		}
		if slices.Contains(w.known, at.Unix()) {
			w.settled = append(w.settled, at)
			continue
		}
		tick := Tick{ID: s.id(at), Schedule: s, At: at, Late: now.Sub(s.fireAt(at)) > c.opts.Grace, Retain: c.opts.Retain}
		// An attempt is not cut off by a shutdown: its outcome would not be known.
		attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.opts.Timeout)
		err := c.opts.Enqueue(attempt, tick)
		cancel()
		switch {
		case err == nil:
			w.fired++
			w.mine = at
		case errors.Is(err, ErrDuplicate):
			w.duplicates++
		case errors.Is(err, ErrRefused):
			w.refused++
			c.opts.Failed(fmt.Errorf("cron: schedule %q: tick %s: %w", s.Name, at.Format(time.RFC3339), err))
		default:
			w.err = fmt.Errorf("cron: schedule %q: tick %s: %w", s.Name, at.Format(time.RFC3339), err)
			c.opts.Failed(w.err)
			return
		}
		w.settled = append(w.settled, at)
	}
}

// settle takes over what was done, and returns the marks to write.
func (r *runner) settle(list []*firing, now time.Time) map[string]time.Time {
	var missed []Missed
	marks := map[string]time.Time{}
	r.mu.Lock()
	for _, w := range list {
		e := w.entry
		r.stats.Fired += w.fired
		r.stats.Duplicates += w.duplicates
		r.stats.Refused += w.refused
		for _, at := range w.settled {
			e.done, e.last = at, at
			e.fired = append(e.fired, at.Unix())
		}
		e.fired = e.fired[max(0, len(e.fired)-remembered):]
		e.mine = later(e.mine, w.mine)
		if w.skipped > 0 && (len(w.settled) > 0 || w.err == nil) {
			r.stats.Missed += uint64(w.skipped) //nolint:gosec // a count
			until := w.done
			if len(w.run) > 0 {
				until = w.run[0]
			}
			missed = append(missed, Missed{e.Name, w.skipped, w.more, until})
		}
		if w.err == nil {
			e.done = later(e.done, w.done)
			e.retry, e.pause = time.Time{}, firstPause
		} else {
			r.stats.Failed++
			most := r.opts.Grace / 6 // several attempts before it is missed
			if w.late {
				most = latePause
			}
			e.delay(now, most)
		}
		if !w.mine.IsZero() && (e.Misfire == All || e.Misfire == Once && now.Sub(e.noted) >= markEvery) {
			marks[e.Name], e.marked, e.noted = w.mine, w.mine, now
		}
		e.schedule()
	}
	r.mu.Unlock()
	for _, m := range missed {
		r.opts.Missed(m)
	}
	return marks
}

func (r *runner) putOff(e *entry, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.delay(now, lastPause)
	e.schedule()
}

// delay sets the time of the next attempt after a failure.
func (e *entry) delay(now time.Time, most time.Duration) {
	e.retry = now.Add(e.pause/2 + rand.N(e.pause))
	e.pause = min(2*e.pause, most)
}

// hurry ends all pauses: Redis is back.
func (r *runner) hurry() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.entries {
		if !e.retry.IsZero() {
			e.retry, e.pause = time.Time{}, firstPause
			e.schedule()
		}
	}
}

// sleep is the time until the next tick, at most maxSleep.
func (r *runner) sleep(now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	wait := maxSleep
	for _, e := range r.entries {
		if !e.next.IsZero() {
			wait = min(wait, e.next.Sub(now))
		}
	}
	return max(wait, time.Millisecond)
}
