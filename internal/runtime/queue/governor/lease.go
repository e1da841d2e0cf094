package governor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// A claim is a job that was taken here and is not finished.
type claim struct {
	at   time.Time // when the lease in Redis last began, by the wall clock: a machine that slept has aged
	take uint64    // which taking of the queue it is: a job can be taken again before it is known here that it ended
}

// A LostError refuses to finish a job whose lease ended while the process did not run: another worker may
// have the job.
type LostError struct {
	Queue, Task string
	After       time.Duration // since the lease was last extended
}

func (e *LostError) Error() string {
	return fmt.Sprintf("queue %q: job %s was not extended for %s and may be somebody else's now", e.Queue, e.Task, e.After.Round(time.Second))
}

// margin is how much clocks may disagree.
func (g *Governor) margin() time.Duration { return min(skewMargin, (g.opts.Lease+g.opts.Grace)/4) }

// firm is how long after it was last extended a lease need not be extended again. asynq then believes in it
// for 30s more, which ends a margin before somebody else may take the job.
func (g *Governor) firm() time.Duration { return g.opts.Lease - g.margin() }

// believed is how long after the last extension a job may still be finished here.
func (g *Governor) believed() time.Duration { return g.opts.Lease + g.opts.Grace - g.margin() }

// extend handles ZADD key XX score id ..., which is how asynq extends leases every five seconds.
func (g *Governor) extend(ctx context.Context, queue string, cmd redis.Cmder, next redis.ProcessHook) error {
	args, now := cmd.Args(), time.Now()
	first := 2
	for first < len(args) {
		if _, flag := args[first].(string); !flag {
			break
		}
		first++
	}
	g.mu.Lock()
	q := g.queues[queue]
	if q == nil {
		g.mu.Unlock()
		return next(ctx, cmd)
	}
	local, all := true, slices.Clone(args[:first])
	for i := first; i+1 < len(args); i += 2 {
		id := text(args[i+1])
		held, ok := q.own[id]
		age := now.Round(0).Sub(held.at)
		if !ok || age > g.believed() {
			continue // it may be somebody else's lease by now: asynq's clock stands still while a machine sleeps
		}
		local = local && age < g.firm()
		all = append(all, float64(now.Add(g.opts.Lease).Unix()), args[i+1])
	}
	if local {
		g.stats.ExtendedLocally++
		g.mu.Unlock()
		if n, ok := cmd.(*redis.IntCmd); ok {
			n.SetVal(0)
		}
		return nil
	}
	for i := first; i+1 < len(all); i += 2 {
		q.pushes.mine(text(all[i+1]), changedIt, now)
	}
	g.mu.Unlock()
	sent := redis.NewIntCmd(ctx, all...)
	err := next(ctx, sent)
	if n, ok := cmd.(*redis.IntCmd); ok {
		n.SetVal(sent.Val())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		cmd.SetErr(err)
		return err
	}
	g.stats.Extended++
	for i := first; i+1 < len(all); i += 2 {
		if id := text(all[i+1]); q.holds(id) {
			q.own[id] = claim{now.Round(0), q.own[id].take}
		}
	}
	g.announceLease(q, now)
	return nil
}

// claim notes that a job was taken at a time.
func (q *queue) claim(id string, at time.Time) {
	q.takes++
	q.own[id] = claim{at.Round(0), q.takes}
}

// release forgets a claim, unless the job has been taken again since.
func (q *queue) release(id string, take uint64) {
	if q.own[id].take == take {
		delete(q.own, id)
	}
}

func (q *queue) holds(id string) bool {
	_, ok := q.own[id]
	return ok
}

// mayFinish refuses what a worker wants to do to a job that may not be its own any more. Workers have a
// deadline, the end of their lease; what has none is asynq's recovery, which acts for those who are gone.
func (g *Governor) mayFinish(ctx context.Context, c call) error {
	// A view of an upstream gives those that have no deadline one that is years away.
	if deadline, worker := ctx.Deadline(); !worker || time.Until(deadline) > time.Hour {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.queues[c.queue()]
	if q == nil {
		return nil
	}
	id := c.task()
	if id == "" && len(c.args) > 0 {
		id = text(c.args[0])
	}
	held, ok := q.own[id]
	if age := time.Now().Round(0).Sub(held.at); !ok || age > g.believed() {
		g.stats.Lost++
		if !ok {
			age = 0
		}
		return &LostError{Queue: q.name, Task: id, After: age}
	}
	return nil
}

// finished notes the end of a job.
func (g *Governor) finished(q *queue, c call, err error) {
	if err == nil {
		q.release(c.task(), c.take)
	}
}

// listExpired lets asynq look for expired leases where there are any.
func (g *Governor) listExpired(ctx context.Context, c call, cmd redis.Cmder, next redis.ProcessHook) error {
	g.mu.Lock()
	q := g.queues[c.queue()]
	if q != nil && !q.foreign.expired {
		g.mu.Unlock()
		return answer(cmd, []any{})
	}
	g.mu.Unlock()
	if len(c.args) > 0 {
		c.args[0] = time.Now().Add(-g.opts.Grace).Unix()
	}
	err := next(ctx, cmd)
	if retriedByCaller(err) {
		return err
	}
	if err == nil {
		g.opts.InScript(c.command, c.ran(cmd))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if q == nil || err != nil {
		return err
	}
	q.foreign.expired = false
	// What asynq does with them now is done when the next look finds them gone.
	q.foreign.suspect(time.Now().Add(time.Second))
	g.prod()
	if reply, ok := cmd.(*redis.Cmd); ok {
		messages, _ := reply.Slice()
		for _, m := range messages {
			// Whoever had it: it is not ours any more.
			id := taskID([]byte(text(m)))
			delete(q.own, id)
			q.pushes.mine(id, changedIt, time.Now())
		}
		g.stats.Recovered += int64(len(messages))
	}
	return nil
}

// keepDeadLetters puts the bounds of Options into the script that archives a job.
func (g *Governor) keepDeadLetters(c call) {
	const cutoff, most = 3, 4 // arguments
	if len(c.args) <= most {
		return
	}
	c.args[cutoff] = int64(0)
	if g.opts.ArchiveAge > 0 {
		c.args[cutoff] = time.Now().Add(-g.opts.ArchiveAge).Unix()
	}
	// The script deletes what is left of the newest that many, less one.
	c.args[most] = int64(1) << 31
	if g.opts.ArchiveMax > 0 {
		c.args[most] = g.opts.ArchiveMax + 1
	}
}

// A watch is what is known of the leases of others in a queue.
type watch struct {
	next    time.Time // when to look; zero is never
	expired bool      // some have ended, and asynq may take the jobs
	stuck   int       // looks in a row that found the same one ended
	id      string    // of that job
	orphans bool      // jobs are active without a lease, or the reverse
}

// suspect asks for a look no later than at; it returns whether that is sooner than before.
func (w *watch) suspect(at time.Time) bool {
	if !w.next.IsZero() && !at.Before(w.next) {
		return false
	}
	w.next = at
	return true
}
