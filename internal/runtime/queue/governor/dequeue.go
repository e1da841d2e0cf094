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

// What asynq's script to dequeue is given: pending, paused, active and lease, and then the end of the lease
// and what the keys of jobs begin with.
const (
	dequeueKeys = 4
	dequeueArgs = 2
)

// dequeue sends a dequeue when it can bring a job, and answers that there is none otherwise, after
// having waited for one.
func (g *Governor) dequeue(ctx context.Context, c call, cmd redis.Cmder, next redis.ProcessHook) error {
	g.mu.Lock()
	only, own := g.queues[c.queue()], g.groupOf(ctx)
	g.mu.Unlock()
	if only == nil {
		return next(ctx, cmd)
	}
	reply, _ := cmd.(*redis.Cmd)
	if own.any && reply != nil && len(c.keys) == dequeueKeys && len(c.args) == dequeueArgs {
		only = nil
	}
	for {
		if message, ok := g.hand(ctx, own); ok {
			reply.SetVal(message)
			reply.SetErr(nil)
			return nil
		}
		picked := g.awaitWork(ctx, only, own)
		switch {
		case len(picked) == 0:
			return nothing(cmd)
		case len(picked) > 1 && c.command == "evalsha":
			if err := g.fetch(ctx, own, cmd.Args()[1], picked); err != nil {
				cmd.SetErr(err)
				return err
			}
			continue
		case only == nil:
			c.aim(picked[0])
		}
		message, err := g.send(ctx, picked[0], c, cmd, next)
		switch {
		case err == nil && (len(message) == 0 || g.took(ctx, picked[0], message)):
			return nil
		case err != nil && (only != nil || !errors.Is(err, redis.Nil)):
			return err
		case only != nil:
			return nothing(cmd)
		}
	}
}

// aim has a dequeue be about another queue.
func (c call) aim(q *queue) {
	copy(c.rawKeys, q.keys[:])
	c.args[dequeueArgs-1] = q.prefix
}

// send sends one dequeue of q, and returns the job that it brought.
func (g *Governor) send(ctx context.Context, q *queue, c call, cmd redis.Cmder, next redis.ProcessHook) (message []byte, err error) {
	if len(c.args) > 0 {
		c.args[0] = time.Now().Add(g.opts.Lease).Unix()
	}
	g.mu.Lock()
	begin, known := time.Now(), q.ask()
	g.mu.Unlock()
	err = next(ctx, cmd)
	g.loaded.Store(err == nil || errors.Is(err, redis.Nil))
	if err == nil {
		if reply, ok := cmd.(*redis.Cmd); ok {
			text, _ := reply.Text()
			message = []byte(text)
		}
		g.opts.InScript(c.command, commandsOfJob)
	}
	if errors.Is(err, redis.Nil) {
		g.opts.InScript(c.command, commandsOfNone)
		g.opts.Empty(q.name, begin)
	}
	g.mu.Lock()
	g.learn(q, message, known, begin, err)
	after := time.Duration(0)
	if err != nil && !errors.Is(err, redis.Nil) && !retriedByCaller(err) {
		g.failures++
		after = backoff(g.failures)
	}
	g.mu.Unlock()
	if after > 0 {
		g.rest(ctx, after)
	}
	return message, err
}

// What a dequeue runs on the server, as asynq wrote it.
const (
	commandsOfJob  = 6
	commandsOfNone = 2
)

// learn takes what a dequeue has said, for which q.ask returned known. The mutex is held.
func (g *Governor) learn(q *queue, message []byte, known uint64, begin time.Time, err error) {
	switch {
	case err == nil:
		g.failures = 0
		g.stats.Dequeued++
		id := taskID(message)
		q.took(id)
		if id != "" {
			q.claim(id, begin)
			q.pushes.mine(id, tookIt, time.Now())
		}
		g.announceLease(q, begin)
	case errors.Is(err, redis.Nil):
		g.failures = 0
		g.stats.Empty++
		q.none(known)
		if q.found && !q.mayHaveWork() {
			// It was not empty and gives nothing: it may be paused.
			q.doubt = true
			g.prod()
		}
		q.found = false
	case retriedByCaller(err):
		q.asking--
	default:
		q.unanswered()
		if !refusedByServer(err) {
			// It may have been run, and the job waits for its lease to end.
			q.foreign.suspect(time.Now().Add(g.opts.Lease + g.opts.Grace))
			g.prod()
		}
	}
	g.settle(q)
}

// took tells of a job that was taken; false means that it is somewhere else now.
func (g *Governor) took(ctx context.Context, q *queue, message []byte) bool {
	if g.opts.Took(ctx, q.name, message) {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(q.own, taskID(message))
	return false
}

// awaitWork returns the queues for which a dequeue is worth sending: of the group, or of only. When there is
// none in the group, it waits first; and then the rest of the round, in which asynq asks for each of its queues,
// is not made to wait.
func (g *Governor) awaitWork(ctx context.Context, only *queue, own *group) []*queue {
	var nap *time.Timer // from the first wait on: most calls need none
	for {
		spare := 1
		if only == nil && g.loaded.Load() {
			spare = min(max(1, g.opts.Spare()), fetchMost)
		}
		g.mu.Lock()
		now := time.Now()
		turns, next := g.turnsOf(own, now, spare)
		work := len(turns) > 0
		if only != nil {
			turns = slices.DeleteFunc(turns, func(t turn) bool { return t.q != only })
		}
		if !g.retired && len(turns) > 0 {
			own.dequeues = 0
			g.mu.Unlock()
			if picked := g.pick(turns, spare); len(picked) > 0 {
				return picked
			}
			continue
		}
		if g.retired || own.dequeues > 0 || work {
			own.dequeues = max(0, own.dequeues-1)
			g.mu.Unlock()
			return nil
		}
		changed := closedBy(&own.changed)
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
			return nil
		}
	}
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
		retired, changed := g.retired, closedBy(&g.all.changed)
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
