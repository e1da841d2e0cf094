package governor

import (
	"context"
	_ "embed"
	"time"

	"github.com/redis/go-redis/v9"
)

// strikes is how many looks must find the same job with a lease that has ended, and nobody who could take
// it, before the queue is repaired.
const strikes = 3

// recoverTick is a little more than the minute after which asynq looks for expired leases again.
const recoverTick = 65 * time.Second

// repairAtMost is how many jobs of a queue are looked at in one repair.
const repairAtMost = 1000

//go:embed repair.lua
var repairText string

// small does what single queues need, when its time has come.
func (g *Governor) small(ctx context.Context, at *times) error {
	if at.sweep.IsZero() {
		return nil
	}
	for _, name := range g.names {
		g.mu.Lock()
		q, now := g.queues[name], time.Now()
		scheduled, retry, completed := q.scheduled.ask, q.retry.ask, q.completed.ask
		doubt := q.doubt
		look := !q.foreign.next.IsZero() && !now.Before(q.foreign.next)
		orphans := q.foreign.orphans
		g.mu.Unlock()
		var err error
		switch {
		case scheduled:
			err = g.first(ctx, q, scheduledPart)
		case retry:
			err = g.first(ctx, q, retryPart)
		case completed:
			err = g.first(ctx, q, completedPart)
		case doubt:
			err = g.isPaused(ctx, q)
		case look:
			err = g.lookAtLeases(ctx, q)
		case orphans:
			err = g.repair(ctx, q)
		default:
			continue
		}
		if err != nil {
			return err
		}
		g.prod() // there may be more
	}
	return nil
}

// earliest is when there is something to do next.
func (g *Governor) earliest(at *times) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	next := at.sweep
	if next.IsZero() {
		next = time.Now().Add(time.Hour) // heard comes first
	}
	for _, t := range []time.Time{g.role.claim, g.role.renew} {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	if g.role.sweeper && !at.resync.IsZero() && at.resync.Before(next) {
		next = at.resync
	}
	for _, q := range g.queues {
		if !q.foreign.next.IsZero() && q.foreign.next.Before(next) {
			next = q.foreign.next
		}
	}
	return next
}

// first reads the first time of a sorted set of q. It costs one ZRANGE.
func (g *Governor) first(ctx context.Context, q *queue, part string) error {
	ctx, cancel := context.WithTimeout(ctx, ownTimeout)
	defer cancel()
	g.mu.Lock()
	scheduled, retry := q.scheduled.gen, q.retry.gen
	g.mu.Unlock()
	entries, err := g.opts.Client.ZRangeWithScores(ctx, keyOf(q.name, part), 0, 0).Result()
	if err != nil && !refusedByServer(err) {
		return err
	}
	at := int64(0)
	if len(entries) > 0 {
		at = max(1, int64(entries[0].Score))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch part {
	case completedPart:
		q.completed.ask, q.completed.partial = false, at != 0
		if at != 0 {
			q.completed.note(at)
		}
		return nil
	case scheduledPart:
		q.scheduled.first(at, scheduled)
	default:
		q.retry.first(at, retry)
	}
	g.signal(q)
	return nil
}

// isPaused reads whether a queue that has jobs and gives none is paused. It costs one EXISTS.
func (g *Governor) isPaused(ctx context.Context, q *queue) error {
	ctx, cancel := context.WithTimeout(ctx, ownTimeout)
	defer cancel()
	g.mu.Lock()
	known := q.known
	g.mu.Unlock()
	n, err := g.opts.Client.Exists(ctx, keyOf(q.name, pausedPart)).Result()
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	q.doubt = false
	q.paused = n == 1 && q.known == known
	return nil
}

// unpaused looks whether the queues that are known to be paused still are. It costs one EXISTS when there
// are any.
func (g *Governor) unpaused(ctx context.Context) error {
	g.mu.Lock()
	var keys []asked
	for _, name := range g.names {
		if q := g.queues[name]; q.paused {
			keys = append(keys, asked{q, pausedPart, q.known})
		}
	}
	g.mu.Unlock()
	if len(keys) == 0 {
		return nil
	}
	found, err := g.existing(ctx, keys)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, a := range keys {
		if !found[i] {
			a.q.suspect()
		}
	}
	g.signal()
	return nil
}

// lookAtLeases reads the leases of a queue that end first, so many that one of another worker is among
// them if there is any. It costs one ZRANGE, and the next is due when that lease would have ended.
func (g *Governor) lookAtLeases(ctx context.Context, q *queue) error {
	ctx, cancel := context.WithTimeout(ctx, ownTimeout)
	defer cancel()
	g.mu.Lock()
	own := int64(len(q.own))
	g.mu.Unlock()
	entries, err := g.opts.Client.ZRangeWithScores(ctx, keyOf(q.name, leasePart), 0, own).Result()
	if err != nil && !refusedByServer(err) {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stats.Looks++
	w, now := &q.foreign, time.Now()
	w.next = time.Time{}
	for _, z := range entries {
		id := text(z.Member)
		ends := time.Unix(int64(z.Score), 0).Add(g.opts.Grace)
		if held, ok := q.own[id]; ok && now.Round(0).Sub(held.at) <= g.believed() {
			continue
		}
		if ends.After(now) {
			w.suspect(ends.Add(time.Second + g.role.patience))
			return nil
		}
		w.expired = true
		if w.id == id {
			w.stuck++
		} else {
			w.id, w.stuck = id, 1
		}
		w.orphans = w.stuck >= strikes
		w.suspect(now.Add(g.recoverTick()))
		return nil
	}
	w.expired, w.stuck, w.id = false, 0, ""
	return nil
}

func (g *Governor) recoverTick() time.Duration { return min(recoverTick, g.opts.Sweep) }

// repair gives a lease to every job that is active without one, so that it is tried again when that ends,
// and takes those away that belong to no active job. It costs one EVAL, three commands in it, and one or
// two for each job.
func (g *Governor) repair(ctx context.Context, q *queue) error {
	ctx, cancel := context.WithTimeout(ctx, ownTimeout)
	defer cancel()
	now := time.Now()
	script := redis.NewScript(repairText)
	reply, err := script.Run(ctx, g.opts.Client,
		[]string{keyOf(q.name, activePart), keyOf(q.name, leasePart)},
		now.Unix(), now.Add(-g.opts.Grace-time.Minute).Unix(), keyOf(q.name, taskPrefix), repairAtMost).Int64Slice()
	if err != nil && !refusedByServer(err) {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	w := &q.foreign
	w.orphans, w.stuck, w.id = false, 0, ""
	if len(reply) == 2 {
		g.opts.InScript("evalsha", reply[1])
		g.stats.Repaired += reply[0]
	}
	w.suspect(now.Add(g.opts.Grace + time.Second))
	return nil
}
