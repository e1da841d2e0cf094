package governor

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	backoffBase = 20 * time.Millisecond
	backoffMax  = 2 * time.Second
)

// dequeue sends a dequeue when it can bring a job, and answers that there is none otherwise, after
// having waited for one.
func (g *Governor) dequeue(ctx context.Context, c call, cmd redis.Cmder, next redis.ProcessHook) error {
	g.mu.Lock()
	q, own := g.queues[c.queue()], g.groupOf(ctx)
	g.mu.Unlock()
	if q == nil {
		return next(ctx, cmd)
	}
	if !g.awaitWork(ctx, q, own) {
		return nothing(cmd)
	}
	if len(c.args) > 0 {
		c.args[0] = time.Now().Add(g.opts.Lease).Unix()
	}
	g.mu.Lock()
	begin, known := time.Now(), q.ask()
	g.mu.Unlock()
	err := next(ctx, cmd)
	switch {
	case err == nil:
		g.dequeued(q, c, cmd, begin)
		return nil
	case errors.Is(err, redis.Nil):
		g.opts.InScript(c.command, 2)
		g.mu.Lock()
		defer g.mu.Unlock()
		g.failures = 0
		g.stats.Empty++
		q.none(known)
		g.settle(q)
		if q.found && !q.mayHaveWork() {
			// It was not empty and gives nothing: it may be paused.
			q.doubt = true
			g.prod()
		}
		q.found = false
		return err
	case retriedByCaller(err):
		g.mu.Lock()
		defer g.mu.Unlock()
		q.asking--
		return err
	}
	g.mu.Lock()
	q.unanswered()
	if !refusedByServer(err) {
		// It may have been run, and the job waits for its lease to end.
		q.foreign.suspect(time.Now().Add(g.opts.Lease + g.opts.Grace))
		g.prod()
	}
	g.settle(q)
	g.failures++
	after := backoff(g.failures)
	g.mu.Unlock()
	g.rest(ctx, after)
	return err
}

// dequeued notes a job that was taken.
func (g *Governor) dequeued(q *queue, c call, cmd redis.Cmder, begin time.Time) {
	g.opts.InScript(c.command, 6)
	var id string
	if reply, ok := cmd.(*redis.Cmd); ok {
		if msg, err := reply.Text(); err == nil {
			id = taskID([]byte(msg))
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failures = 0
	g.stats.Dequeued++
	q.took(id)
	if id != "" {
		q.own[id] = claim{at: begin.Round(0)}
		q.pushes.mine(id, tookIt, time.Now())
	}
	g.settle(q)
	g.announceLease(q, begin)
}

// awaitWork returns whether a dequeue of q is worth sending. When no queue of the group is, it waits
// first; and then the rest of the round, in which asynq asks for each of its queues, is not made to wait.
func (g *Governor) awaitWork(ctx context.Context, q *queue, own *group) bool {
	var nap *time.Timer // from the first wait on: most calls need none
	for {
		g.mu.Lock()
		now := time.Now()
		if !g.retired && q.open(now) {
			own.dequeues = 0
			g.mu.Unlock()
			if g.opts.Admit(q.name) {
				return true
			}
			g.refuse(q)
			continue
		}
		work, next := g.workOf(own, now)
		if g.retired || own.dequeues > 0 || work {
			own.dequeues = max(0, own.dequeues-1)
			g.mu.Unlock()
			return false
		}
		changed := own.changed
		g.bell.takes = now
		g.mu.Unlock()
		if nap == nil {
			nap = time.NewTimer(g.opts.Nap)
			defer nap.Stop()
		}
		if !wait(ctx, changed, next, nap) {
			g.mu.Lock()
			own.dequeues = len(own.queues) - 1
			g.mu.Unlock()
			return false
		}
	}
}

// refuse notes that Admit said no.
func (g *Governor) refuse(q *queue) {
	g.mu.Lock()
	defer g.mu.Unlock()
	q.held = time.Now().Add(g.opts.Nap)
	g.stats.Refused++
}

// workOf is whether a dequeue of any queue of the group is to be sent now, and otherwise when; zero is
// never. The mutex is held.
func (g *Governor) workOf(own *group, now time.Time) (work bool, next time.Time) {
	for _, name := range own.queues {
		q := g.queues[name]
		if q == nil {
			continue
		}
		at := q.next(now)
		switch {
		case at.IsZero():
		case !now.Before(at):
			return true, time.Time{}
		case next.IsZero() || at.Before(next):
			next = at
		}
	}
	return false, next
}

// wait waits until something has changed, or next, unless that is zero; false means that the nap was over
// first.
func wait(ctx context.Context, changed <-chan struct{}, next time.Time, nap *time.Timer) bool {
	var due <-chan time.Time
	if !next.IsZero() {
		timer := time.NewTimer(time.Until(next))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-changed:
	case <-due:
	case <-nap.C:
		return false
	case <-ctx.Done():
		return false
	}
	return true
}

// backoff is a random time up to a bound that doubles with every failure in a row.
func backoff(failures int) time.Duration {
	bound := min(backoffMax, backoffBase<<min(failures, 16))
	return bound/2 + rand.N(bound/2)
}

// pause waits for d or until the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// rest waits for d, or until Retire or the end of ctx.
func (g *Governor) rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		g.mu.Lock()
		retired, changed := g.retired, g.all.changed
		g.mu.Unlock()
		if retired {
			return
		}
		select {
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
