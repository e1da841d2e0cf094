package queue

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
)

// drainLook is how often a queue that drains is looked at: first after the one, then after up to the other.
const (
	drainFirst = 250 * time.Millisecond
	drainMost  = 10 * time.Second
)

// forever is how long a pause without an end lasts in this process's mind.
const forever = 100 * 365 * 24 * time.Hour

// A Guard says whether a queue may be paused.
type Guard struct {
	Safe   bool          // it may be
	Most   time.Duration // for how long; 0 with Safe means for any time
	Guards []string      // the critical queues that suffer, itself or those that depend on it; sorted
}

// GuardOf says whether a queue may be paused: a critical one may not, one that critical queues depend on,
// directly or through others, may for its MaxPause. It sends nothing. Errors: *UnknownQueueError.
func (e *Engine) GuardOf(queue string) (Guard, error) {
	l, err := e.line(queue)
	if err != nil {
		return Guard{}, err
	}
	g := Guard{Guards: []string{}}
	for _, other := range e.order {
		if other.def.Critical && (other == l || e.reaches(other.def.Name, queue)) {
			g.Guards = append(g.Guards, other.def.Name)
		}
	}
	slices.Sort(g.Guards)
	switch {
	case l.def.Critical:
	case len(g.Guards) == 0:
		g.Safe = true
	default:
		g.Safe, g.Most = l.def.MaxPause > 0, l.def.MaxPause
	}
	return g, nil
}

// reaches is whether from depends on to, directly or through others.
func (e *Engine) reaches(from, to string) bool {
	seen := map[string]bool{from: true}
	for next := []string{from}; len(next) > 0; next = next[1:] {
		for _, on := range e.lines[next[0]].def.DependsOn {
			if on == to {
				return true
			}
			if !seen[on] {
				seen[on] = true
				next = append(next, on)
			}
		}
	}
	return false
}

// PauseOptions say how a queue is paused.
type PauseOptions struct {
	// For is how long; the pause then ends by itself. Whole seconds, rounded up. Default until Resume, or
	// Guard.Most where a critical queue depends on it.
	For time.Duration

	// Force pauses also what critical queues need.
	Force bool
}

// Pause stops jobs of a queue from being taken, on every replica and by every asynq worker. Running ones
// go on, and jobs are still added, up to Backlog. It costs 3 commands. Errors: *GuardError, *RequestError,
// and as Find.
func (e *Engine) Pause(ctx context.Context, queue string, o PauseOptions) error {
	g, err := e.GuardOf(queue)
	if err != nil {
		return err
	}
	if o.For < 0 {
		return &RequestError{Queue: queue, Err: fmt.Errorf("for: got %s, want 0 or more", o.For)}
	}
	if !o.Force {
		if !g.Safe || g.Most > 0 && o.For > g.Most {
			return &GuardError{Queue: queue, Guards: g.Guards, Most: g.Most}
		}
		if o.For == 0 {
			o.For = g.Most
		}
	}
	l := e.lines[queue]
	life := time.Duration(seconds(o.For)) * time.Second
	until := time.Now().Add(forever)
	if life > 0 {
		until = time.Now().Add(life)
	}
	if err := e.each(ctx, l, func(ctx context.Context, p redis.Pipeliner, band string) {
		p.Set(ctx, key(band, "paused"), time.Now().Unix(), life)
	}); err != nil {
		return e.explain(queue, "", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = until
	if l.goesOn != nil {
		l.goesOn.Stop()
		l.goesOn = nil
	}
	if life > 0 {
		l.goesOn = time.AfterFunc(life+100*time.Millisecond, func() {
			l.mu.Lock()
			ours := l.paused.Equal(until)
			l.mu.Unlock()
			if ours {
				e.catchUp(l, l.def.CatchUp)
			}
		})
	}
	return nil
}

// each sends commands for every band in one round trip.
func (e *Engine) each(ctx context.Context, l *line, f func(context.Context, redis.Pipeliner, string)) error {
	ctx, cancel := context.WithTimeout(ctx, e.opts.CommandTimeout)
	defer cancel()
	_, err := e.opts.Client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, band := range l.bands {
			f(ctx, p, band)
		}
		return nil
	})
	return err
}

// Resume ends Pause and Drain and catches up as how says; empty means as the queue has it. What the control
// document pauses stays paused. It costs 3 commands; Newest 1 script more for each band, of 1 command for each
// pending job and 2 for each that goes. Errors: as Find, and *RequestError.
func (e *Engine) Resume(ctx context.Context, queue string, how CatchUp) error {
	l, err := e.line(queue)
	if err != nil {
		return err
	}
	if how == "" {
		how = l.def.CatchUp
	}
	if how != Staged && how != All && how != Newest {
		return &RequestError{Queue: queue, Err: fmt.Errorf("catch up: got %q, want staged, all or newest", how)}
	}
	if how == Newest {
		if err := e.onlyNewest(ctx, l); err != nil {
			return e.explain(queue, "", err)
		}
		how = All
	}
	if how == Staged {
		e.stage(l)
	}
	if err := e.each(ctx, l, func(ctx context.Context, p redis.Pipeliner, band string) {
		p.Del(ctx, key(band, "paused"))
	}); err != nil {
		return e.explain(queue, "", err)
	}
	l.mu.Lock()
	l.paused, l.draining = time.Time{}, false
	l.reopen()
	l.mu.Unlock()
	e.governor.Wake(l.bands...)
	return nil
}

// catchUp begins to work off a backlog after a pause has ended elsewhere.
func (e *Engine) catchUp(l *line, how CatchUp) {
	switch how {
	case Staged:
		e.stage(l)
	case Newest:
		e.aside(func(ctx context.Context) {
			if err := e.onlyNewest(ctx, l); err != nil {
				e.opts.Notice(err)
			}
			e.governor.Wake(l.bands...)
		})
		return
	case All:
	}
	e.governor.Wake(l.bands...)
}

// stage has the queue begin slowly.
func (e *Engine) stage(l *line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stage, l.staged = rate.NewLimiter(stageStart, 1), time.Now()
	l.reopen()
}

// onlyNewest removes what Newest does not keep.
func (e *Engine) onlyNewest(ctx context.Context, l *line) error {
	for _, band := range l.bands {
		if _, err := e.run(ctx, e.scripts.newest, []string{key(band, "pending"), key(band, "t:")}); err != nil {
			return err
		}
	}
	return nil
}

// Drain refuses new jobs with *DrainingError in this process, and returns when the queue has none that is
// pending, running or to be tried again, or with ctx's error. What is scheduled for later stays. The queue
// stays closed until Resume. It looks after a quarter of a second, then less and less often, at last every 10
// seconds, as Depth does. Errors: as Find.
func (e *Engine) Drain(ctx context.Context, queue string) error {
	l, err := e.line(queue)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.draining = true
	l.mu.Unlock()
	wait := drainFirst
	for {
		d, err := e.Depth(ctx, queue)
		if err != nil {
			return err
		}
		if d.Pending+d.Active+d.Retry == 0 {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		wait = min(2*wait, drainMost)
	}
}

// Cancel removes a job that waits. One that runs, on whatever replica, is interrupted and becomes a dead
// letter; that is asked for when Cancel returns, not done, and a replica that is just connecting may not hear
// it: ask again then. It costs 1 script of at most 8 commands, and 1 command for one that runs. Errors: *NotFoundError; *StateError for one that has ended; as Find.
func (e *Engine) Cancel(ctx context.Context, queue, id string) error {
	l, err := e.line(queue)
	if err != nil {
		return err
	}
	for _, bands := range e.together(l) {
		var keys []string
		for _, band := range bands {
			keys = append(keys, taskKey(band, id))
		}
		reply, err := e.run(ctx, e.scripts.cancel, keys, id)
		if err != nil {
			return e.explain(queue, id, err)
		}
		if len(reply) == 0 {
			continue
		}
		if len(reply) != 2 {
			return errReply
		}
		state, _ := reply[0].(string)
		which, _ := reply[1].(int64)
		switch State(state) {
		case Pending, Scheduled, Retry:
			return nil
		case Active:
			ctx, cancel := context.WithTimeout(ctx, e.opts.CommandTimeout)
			defer cancel()
			word := id // which ends the jobs of this id in every queue; there is no other where no bell is
			if e.opts.Governor.Subscribe != nil && which >= 1 && int(which) <= len(bands) {
				word = governor.CancelWord(bands[which-1], id)
			}
			if err := e.opts.Client.Publish(ctx, cancelChannel, word).Err(); err != nil {
				return e.explain(queue, id, err)
			}
			return nil
		case Archived, Completed:
			return &StateError{Queue: queue, ID: id, State: State(state)}
		default:
			return errReply
		}
	}
	return &NotFoundError{Queue: queue, ID: id}
}
