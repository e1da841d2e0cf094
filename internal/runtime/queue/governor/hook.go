package governor

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A hook answers what needs no Redis, and learns from what passes.
type hook struct{ g *Governor }

func (h hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if c, ok := parse(cmd, h.g.scripts); ok {
			return h.g.run(ctx, c, cmd, next)
		}
		return h.g.plain(ctx, cmd, next)
	}
}

// A pipeline passes as it is, and teaches as much as single commands do. Nothing of it is answered here.
func (h hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		calls := make([]call, len(cmds))
		for i, cmd := range cmds {
			if c, ok := parse(cmd, h.g.scripts); ok {
				c.take = h.g.before(c)
				calls[i] = c
			}
		}
		err := next(ctx, cmds)
		for i, cmd := range cmds {
			if calls[i].command != "" {
				h.g.after(calls[i], cmd, cmd.Err())
			}
		}
		return err
	}
}

// run is one script.
func (g *Governor) run(ctx context.Context, c call, cmd redis.Cmder, next redis.ProcessHook) error {
	switch c.script { //nolint:exhaustive // the other scripts need nothing here
	case dequeueScript:
		return g.dequeue(ctx, c, cmd, next)
	case forwardScript:
		return g.forward(ctx, c, cmd, next)
	case listExpiredScript:
		return g.listExpired(ctx, c, cmd, next)
	case deleteExpiredScript:
		return g.deleteExpired(ctx, c, cmd, next)
	case reclaimSetsScript:
		if !g.groupsKnown(c.queue()) {
			return answer(cmd, "OK")
		}
	case writeServerScript, clearServerScript:
		return g.serverState(ctx, c, cmd, next)
	case doneScript, doneUniqueScript, completeScript, completeUniqueScript, requeueScript, retryScript, archiveScript:
		if err := g.mayFinish(ctx, c); err != nil {
			cmd.SetErr(err)
			return err
		}
		if c.script == archiveScript {
			g.keepDeadLetters(c)
		}
	}
	c.take = g.before(c)
	err := next(ctx, cmd)
	g.after(c, cmd, err)
	return err
}

// answer is a reply of a script that was not run.
func answer(cmd redis.Cmder, value any) error {
	if c, ok := cmd.(*redis.Cmd); ok {
		c.SetVal(value)
		return nil
	}
	err := errors.New("a script with a typed reply is not one of asynq's")
	cmd.SetErr(err)
	return err
}

// nothing is the reply of a dequeue that found no job.
func nothing(cmd redis.Cmder) error {
	cmd.SetErr(redis.Nil)
	return redis.Nil
}

// retriedByCaller is the reply upon which the caller sends the script with its text.
func retriedByCaller(err error) bool { return err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") }

// refusedByServer is whether err is a reply, so that what was asked was not done; or not to its end.
func refusedByServer(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// before notes what is about to be sent, since pushes of the server may come before the reply. It returns which
// taking of the job that is about.
func (g *Governor) before(c call) (take uint64) {
	id := c.task()
	if id == "" {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.queues[c.queue()]
	if q == nil {
		return 0
	}
	q.pushes.mine(id, c.deed(), time.Now())
	return q.own[id].take
}

// deed is what a script does to its job, as far as pushes show it.
func (c call) deed() deed {
	switch c.script { //nolint:exhaustive // the other scripts need nothing here
	case enqueueScript, enqueueUniqueScript:
		return addedIt
	case requeueScript:
		return tookIt
	}
	return changedIt
}

// task is the id of the job that a script is about, when it is about one.
func (c call) task() string {
	for _, k := range c.keys {
		if _, part, ok := takeApart(k); ok {
			if id, ok := taskOf(part); ok {
				return id
			}
		}
	}
	return ""
}

// after learns from the outcome of a script.
func (g *Governor) after(c call, cmd redis.Cmder, err error) {
	if retriedByCaller(err) {
		return
	}
	if err == nil {
		g.opts.InScript(c.command, c.ran(cmd))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.queues[c.queue()]
	if q == nil {
		return
	}
	q.pushes.landed(c.task())
	known, delays := q.known, q.scheduled.gen+q.retry.gen
	if err != nil && refusedByServer(err) && c.script != unknownScript {
		return
	}
	reply := replyNumber(cmd)
	switch c.script { //nolint:exhaustive // the other scripts need nothing here
	case enqueueScript, enqueueUniqueScript:
		switch {
		case err != nil:
			g.suspected(q)
		case reply == 1:
			g.added(q, c.task())
		}
	case scheduleScript:
		g.delayed(q, &q.scheduled, c, 1, reply == 1 || err != nil)
	case scheduleUniqueScript:
		g.delayed(q, &q.scheduled, c, 2, reply == 1 || err != nil)
	case retryScript:
		q.release(c.task(), c.take)
		g.delayed(q, &q.retry, c, 2, true)
	case doneScript, doneUniqueScript, archiveScript:
		g.finished(q, c, err)
	case completeScript, completeUniqueScript:
		g.finished(q, c, err)
		if until, bad := c.number(2); bad == nil {
			q.completed.note(until)
		}
	case requeueScript:
		g.finished(q, c, err)
		g.added(q, c.task())
	case addToGroupScript, addToGroupUniqueScript, checkGroupScript:
		q.groups, q.groupsAt = true, time.Now()
	case runScript, unknownScript, dequeueScript, forwardScript:
		// The last two in a pipeline, which asynq does not do.
		g.suspected(q)
	}
	switch {
	case q.scheduled.gen+q.retry.gen != delays:
		g.signal(q)
	case q.known != known:
		g.rouse(q)
	}
}

// suspected notes that a queue may have work, and tells the others.
func (g *Governor) suspected(q *queue) {
	q.suspect()
	g.announceWork(q)
}

// added notes jobs that have become pending here, and tells the others.
func (g *Governor) added(q *queue, ids ...string) {
	if g.opts.ClientOnly {
		// Nobody here takes them.
		g.announceWork(q, ids...)
		return
	}
	q.arrived(time.Now(), time.Time{}, ids...)
	g.announceWork(q, ids...)
}

// delayed notes a job that waits for its time.
func (g *Governor) delayed(q *queue, d *due, c call, arg int, happened bool) {
	unix, err := c.number(arg)
	if err != nil || !happened {
		return
	}
	if d.note(unix) {
		g.announceDue(q, d == &q.retry, unix)
	}
}

func (c call) number(arg int) (int64, error) {
	if arg >= len(c.args) {
		return 0, errors.New("no such argument")
	}
	return number(c.args[arg])
}

// replyNumber is a reply as a number; 0 when it is none.
func replyNumber(cmd redis.Cmder) int64 {
	if c, ok := cmd.(*redis.Cmd); ok {
		if n, err := c.Int64(); err == nil {
			return n
		}
	}
	return 0
}

// ran is how many commands a script ran in the Redis, as its reply tells.
func (c call) ran(cmd redis.Cmder) int64 {
	n := replyNumber(cmd)
	switch c.script { //nolint:exhaustive // the other scripts need nothing here
	case enqueueScript, scheduleScript:
		return 1 + 2*n
	case addToGroupScript:
		return 1 + 3*n
	case enqueueUniqueScript, scheduleUniqueScript:
		return max(1, 2+2*n)
	case addToGroupUniqueScript:
		return max(1, 2+3*n)
	case doneScript:
		return 6
	case completeScript:
		return 7
	case doneUniqueScript:
		return 8
	case completeUniqueScript, retryScript:
		return 9
	case archiveScript:
		return 11
	case requeueScript:
		return 4
	case forwardScript:
		return 1 + 4*n
	case deleteExpiredScript:
		return 1 + 2*n
	case reclaimSetsScript, clearServerScript:
		return 2
	case writeServerScript:
		return 3 + int64(max(0, len(c.args)-2)/2)
	case listExpiredScript:
		if c, ok := cmd.(*redis.Cmd); ok {
			found, _ := c.Slice()
			return 1 + int64(len(found))
		}
	}
	return 1
}
