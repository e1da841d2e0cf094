package governor

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// forward lets asynq move delayed jobs when some are due. When none is in any queue of the group it waits
// for one first, as dequeue does.
func (g *Governor) forward(ctx context.Context, c call, cmd redis.Cmder, next redis.ProcessHook) error {
	g.mu.Lock()
	q, own := g.queues[c.queue()], g.groupOf(ctx)
	g.mu.Unlock()
	if q == nil {
		return next(ctx, cmd)
	}
	_, part, _ := takeApart(c.keys[0])
	d := &q.scheduled
	if part == retryPart {
		d = &q.retry
	}
	if !g.awaitDue(ctx, d, own) {
		return answer(cmd, int64(0))
	}
	g.mu.Lock()
	begin, gen := time.Now(), d.gen
	g.mu.Unlock()
	if len(c.args) > 2 {
		// asynq looked at the clock before it waited.
		c.args[0], c.args[2] = begin.Unix(), begin.UnixNano()
	}
	err := next(ctx, cmd)
	if retriedByCaller(err) {
		return err
	}
	if err != nil {
		// It stays due. asynq begins its next round at once.
		g.mu.Lock()
		g.failures++
		after := backoff(g.failures)
		g.mu.Unlock()
		g.rest(ctx, after)
		return err
	}
	g.opts.InScript(c.command, c.ran(cmd))
	moved := replyNumber(cmd)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failures = 0
	if moved > 0 {
		q.groups = true
		g.suspected(q)
		g.stats.Forwarded += moved
	}
	if moved < forwardBatch {
		d.moved(begin, gen)
	}
	g.signal(q)
	if d.ask {
		g.prod()
	}
	return nil
}

// forwardBatch is how many jobs asynq's script moves at a time.
const forwardBatch = 100

// awaitDue returns whether jobs of d are due.
func (g *Governor) awaitDue(ctx context.Context, d *due, own *group) bool {
	nap := time.NewTimer(g.opts.Nap)
	defer nap.Stop()
	for {
		g.mu.Lock()
		now := time.Now()
		g.bell.forwards = now
		if !g.retired && d.ready(now) {
			own.forwards = 0
			g.mu.Unlock()
			return true
		}
		next := g.nextDue(own)
		if g.retired || own.forwards > 0 || !next.IsZero() && !now.Before(next) {
			own.forwards = max(0, own.forwards-1)
			g.mu.Unlock()
			return false
		}
		changed := closedBy(&own.dues)
		g.mu.Unlock()
		if !wait(ctx, changed, next, nap) {
			g.mu.Lock()
			own.forwards = 2*len(own.queues) - 1
			g.mu.Unlock()
			return false
		}
	}
}

// nextDue is when the first job of the group is due; zero is never. The mutex is held.
func (g *Governor) nextDue(own *group) time.Time {
	var first time.Time
	for _, q := range own.queues {
		for _, d := range []*due{&q.scheduled, &q.retry} {
			if at := d.next(); !at.IsZero() && (first.IsZero() || at.Before(first)) {
				first = at
			}
		}
	}
	return first
}
