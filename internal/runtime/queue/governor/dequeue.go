package governor

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
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
	begin, a := time.Now(), q.ask()
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
		q.none(a)
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
	wait := backoff(g.failures)
	g.mu.Unlock()
	g.rest(ctx, wait)
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
	q.took()
	if id != "" {
		q.own[id] = claim{at: begin.Round(0)}
		q.pushes.mine(id, time.Now())
	}
	g.settle(q)
	g.announceLease(q, begin)
}

// awaitWork returns whether a dequeue of q is worth sending. When no queue of the group is, it waits
// first; and then the rest of the round, in which asynq asks for each of its queues, is not made to wait.
func (g *Governor) awaitWork(ctx context.Context, q *queue, own *group) bool {
	nap := time.NewTimer(g.opts.Nap)
	defer nap.Stop()
	for {
		g.mu.Lock()
		work := !g.retired && q.mayHaveWork() && !time.Now().Before(q.held)
		if work {
			own.dequeues = 0
			g.mu.Unlock()
			if g.opts.Admit(q.name) {
				return true
			}
			g.mu.Lock()
			q.held = time.Now().Add(g.opts.Nap)
			g.stats.Refused++
			g.mu.Unlock()
			continue
		}
		if g.retired || own.dequeues > 0 || g.anyWork(own) {
			own.dequeues = max(0, own.dequeues-1)
			g.mu.Unlock()
			return false
		}
		changed, waiters := g.changed, &g.bell.takers
		*waiters++
		g.mu.Unlock()
		woken := true
		select {
		case <-changed:
		case <-nap.C:
			woken = false
		case <-ctx.Done():
			woken = false
		}
		g.mu.Lock()
		*waiters--
		if !woken {
			own.dequeues = len(own.queues) - 1
		}
		g.mu.Unlock()
		if !woken {
			return false
		}
	}
}

// anyWork is whether a dequeue of any queue of the group would be sent. The mutex is held.
func (g *Governor) anyWork(own *group) bool {
	now := time.Now()
	return slices.ContainsFunc(own.queues, func(name string) bool {
		q := g.queues[name]
		return q != nil && q.mayHaveWork() && !now.Before(q.held)
	})
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
		retired, changed := g.retired, g.changed
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
