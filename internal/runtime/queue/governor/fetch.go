package governor

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	fetchMost = 32          // jobs in one round trip
	fetchKept = time.Second // that a job waits here for asynq, which asks for it at once unless it is held up
)

// A fetched is a job that was taken in Redis and that asynq has not been given.
type fetched struct {
	q       *queue
	text    string // as Redis has answered
	message []byte // the same
}

// fetch sends dequeues of several queues in one round trip. What they bring is given to asynq's next calls.
func (g *Governor) fetch(ctx context.Context, own *group, sha any, picked []*queue) error {
	pipe := g.opts.Client.Pipeline()
	sent, known := make([]*redis.Cmd, len(picked)), make([]uint64, len(picked))
	begin := time.Now()
	lease := begin.Add(g.opts.Lease).Unix()
	g.mu.Lock()
	for i, q := range picked {
		known[i] = q.ask()
	}
	g.mu.Unlock()
	for i, q := range picked {
		sent[i] = pipe.Do(ctx, "evalsha", sha, dequeueKeys, q.keys[0], q.keys[1], q.keys[2], q.keys[3], lease, q.prefix)
	}
	_, _ = pipe.Exec(ctx) // each command has its own outcome
	ran, failure := int64(0), error(nil)
	g.mu.Lock()
	for i, q := range picked {
		text, err := sent[i].Text()
		message := []byte(text)
		g.learn(q, message, known[i], begin, err)
		switch {
		case err == nil:
			own.taken = append(own.taken, fetched{q, text, message})
			ran += commandsOfJob
		case errors.Is(err, redis.Nil):
			ran += commandsOfNone
		default:
			failure = err
			if retriedByCaller(err) {
				g.loaded.Store(false)
			}
		}
	}
	if len(own.taken) > 0 {
		failure = nil // it comes again
		own.keep(begin, func() { g.reclaim(own) })
	}
	after := time.Duration(0)
	if failure != nil && !retriedByCaller(failure) {
		g.failures++
		after = backoff(g.failures)
	}
	g.mu.Unlock()
	g.opts.InScript("evalsha", ran)
	for i, q := range picked {
		if errors.Is(sent[i].Err(), redis.Nil) {
			g.opts.Empty(q.name)
		}
	}
	if after > 0 {
		g.rest(ctx, after)
	}
	return failure
}

// keep has late called when what was taken at begin is still here after fetchKept. The mutex is held.
func (own *group) keep(begin time.Time, late func()) {
	own.since = begin.Round(0) // a machine that slept has aged
	if own.late == nil {
		own.late = time.AfterFunc(fetchKept, late)
		return
	}
	own.late.Reset(fetchKept)
}

// hand takes the next job that was fetched, unless it has waited for too long.
func (g *Governor) hand(ctx context.Context, own *group) (message string, ok bool) {
	for {
		g.mu.Lock()
		if len(own.taken) == 0 || g.retired {
			g.mu.Unlock()
			return "", false
		}
		if time.Now().Round(0).Sub(own.since) > fetchKept {
			g.mu.Unlock()
			g.reclaim(own)
			return "", false
		}
		f := own.taken[0]
		if own.taken = own.taken[1:]; len(own.taken) == 0 {
			own.taken = nil
			own.late.Stop()
		}
		g.mu.Unlock()
		if g.took(ctx, f.q, f.message) {
			return f.text, true
		}
	}
}

// reclaim has Run put back what was fetched and not given to asynq.
func (g *Governor) reclaim(own *group) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range own.taken {
		g.back = append(g.back, returned{f, own.since})
	}
	own.taken = nil
	g.prod()
}

// A returned is a job that is to be put back, and when it was taken.
type returned struct {
	fetched
	since time.Time
}

// PutBack puts back every job that was fetched and that no server was given. It is for after Retire and the
// end of the servers' own taking; what cannot be put back is tried again when its lease has ended. It costs what
// Options.Return does for each.
func (g *Governor) PutBack(ctx context.Context) {
	g.mu.Lock()
	groups := slices.Clone(g.groups)
	g.mu.Unlock()
	for _, own := range groups {
		g.reclaim(own)
	}
	g.putBack(ctx)
}

// putBackSoon is putBack within the time that one command may take: what does not fit is tried again when its
// lease has ended.
func (g *Governor) putBackSoon(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, ownTimeout)
	defer cancel()
	g.putBack(ctx)
}

// putBack puts back what was reclaimed, the last first, so that the order stays as it was.
func (g *Governor) putBack(ctx context.Context) {
	g.mu.Lock()
	all := g.back
	g.back = nil
	g.mu.Unlock()
	for _, r := range slices.Backward(all) {
		id := taskID(r.message)
		ours := time.Now().Round(0).Sub(r.since) <= g.believed()
		g.mu.Lock()
		delete(r.q.own, id) // before it can be taken again
		g.mu.Unlock()
		put := ours && g.opts.Return(ctx, r.q.name, r.message) == nil
		g.mu.Lock()
		if !put {
			r.q.foreign.suspect(time.Now().Add(g.opts.Lease + g.opts.Grace))
			g.prod()
		} else {
			g.stats.PutBack++
			g.added(r.q, id)
			g.rouse(r.q)
		}
		g.mu.Unlock()
	}
}
