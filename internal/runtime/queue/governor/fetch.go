package governor

import (
	"context"
	_ "embed"
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
	take    uint64 // which taking of the queue it was
}

// fetch sends dequeues of several queues in one round trip. What they bring is given to asynq's next calls.
func (g *Governor) fetch(ctx context.Context, own *group, sha any, picked []*queue) error {
	known := make([]uint64, len(picked))
	begin := time.Now()
	lease := begin.Add(g.opts.Lease).Unix()
	g.mu.Lock()
	for i, q := range picked {
		known[i] = q.ask()
	}
	g.mu.Unlock()
	var all []answered
	if g.opts.Separate {
		all = g.takeEach(ctx, sha, lease, picked)
	} else {
		all = g.takeTogether(ctx, lease, picked)
	}
	failure := error(nil)
	g.mu.Lock()
	for i, q := range picked {
		message, err := []byte(all[i].text), all[i].err
		if err == nil && len(message) == 0 {
			// It was pending and has no message: nobody can run it.
			err = redis.Nil
			g.learn(q, nil, known[i], begin, err)
			q.suspect() // there may be others
		} else {
			g.learn(q, message, known[i], begin, err)
		}
		switch {
		case err == nil:
			own.taken = append(own.taken, fetched{q, all[i].text, message, q.takes})
		case !errors.Is(err, redis.Nil):
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
	for i, q := range picked {
		if errors.Is(all[i].err, redis.Nil) {
			g.opts.Empty(q.name, begin)
		}
	}
	if after > 0 {
		g.rest(ctx, after)
	}
	return failure
}

// An answered is what one dequeue of several has brought.
type answered struct {
	text string
	err  error // redis.Nil: no job
}

// takeEach sends asynq's script once for each of picked, in one pipeline. It costs 7 commands for each job, and 3 where
// there is none.
func (g *Governor) takeEach(ctx context.Context, sha any, lease int64, picked []*queue) []answered {
	pipe := g.opts.Client.Pipeline()
	sent := make([]*redis.Cmd, len(picked))
	for i, q := range picked {
		sent[i] = pipe.Do(ctx, "evalsha", sha, dequeueKeys, q.keys[0], q.keys[1], q.keys[2], q.keys[3], lease, q.prefix)
	}
	_, _ = pipe.Exec(ctx) // each command has its own outcome
	all, ran := make([]answered, len(picked)), int64(0)
	for i, cmd := range sent {
		all[i].text, all[i].err = cmd.Text()
		switch {
		case all[i].err == nil:
			ran += commandsOfJob
		case errors.Is(all[i].err, redis.Nil):
			ran += commandsOfNone
		}
	}
	g.opts.InScript("evalsha", ran)
	return all
}

//go:embed take.lua
var takeText string

// takeTogether takes a job for each of picked by one script of ours. It costs 2 commands, 5 for each job, 1 for each
// queue that has fewer than were asked for, and 1 for each queue while one of them is paused.
func (g *Governor) takeTogether(ctx context.Context, lease int64, picked []*queue) []answered {
	var distinct []*queue
	counts := map[*queue]int{}
	for _, q := range picked {
		if counts[q]++; counts[q] == 1 {
			distinct = append(distinct, q)
		}
	}
	keys, args := make([]string, 0, dequeueKeys*len(distinct)), make([]any, 1, 1+2*len(distinct))
	args[0] = lease
	for _, q := range distinct {
		for _, k := range q.keys {
			keys = append(keys, text(k))
		}
		args = append(args, q.prefix, counts[q])
	}
	reply, err := g.taking.Run(ctx, g.opts.Client, keys, args...).Slice()
	if err == nil && len(reply) != 1+len(distinct) {
		err = errReply
	}
	all := make([]answered, len(picked))
	if err != nil {
		for i := range all {
			all[i].err = err
		}
		return all
	}
	if ran, ok := reply[0].(int64); ok {
		g.opts.InScript("evalsha", ran)
	}
	got := make(map[*queue][]any, len(distinct))
	for i, q := range distinct {
		got[q], _ = reply[1+i].([]any)
	}
	for i, q := range picked {
		list := got[q]
		switch {
		case len(list) > 1:
			all[i].text = text(list[1])
			list[1] = list[0]
			got[q] = list[1:]
		case len(list) == 1 && list[0] != "":
			all[i].err = refusal(text(list[0]))
		default:
			all[i].err = redis.Nil
		}
	}
	return all
}

var errReply = errors.New("the script answered something else than expected")

// A refusal is an error of the server that a script has passed on.
type refusal string

func (e refusal) Error() string { return string(e) }

// RedisError marks it as a reply.
func (e refusal) RedisError() {}

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

// ErrNotSent is what Options.Return wraps when the job is where it was for sure.
var ErrNotSent = errors.New("nothing was sent")

// PutBack puts back every job that was fetched and that no server was given, and tries until ctx ends where nothing
// was sent. It is for after Retire and the end of the servers' own taking; what cannot be put back is tried again when
// its lease has ended. It costs what Options.Return does for each.
func (g *Governor) PutBack(ctx context.Context) {
	g.mu.Lock()
	groups := slices.Clone(g.groups)
	g.mu.Unlock()
	for _, own := range groups {
		g.reclaim(own)
	}
	for failures := 1; !g.putBack(ctx) && ctx.Err() == nil; failures++ {
		pause(ctx, backoff(failures))
	}
}

// putBackSoon is putBack within the time that one command may take.
func (g *Governor) putBackSoon(ctx context.Context) (whole bool) {
	ctx, cancel := context.WithTimeout(ctx, ownTimeout)
	defer cancel()
	return g.putBack(ctx)
}

// putBack puts back what was reclaimed, the last first, so that the order stays as it was. It returns false when
// something is left to be tried again, because nothing was sent: what may have been put back is not, since it may be
// somebody else's by then, and neither is what has been here for too long. One waits for the other, so that nothing is
// under way any more when PutBack returns.
func (g *Governor) putBack(ctx context.Context) (whole bool) {
	select {
	case g.putting <- struct{}{}:
		defer func() { <-g.putting }()
	case <-ctx.Done():
		return false
	}
	g.mu.Lock()
	all := g.back
	g.back = nil
	g.mu.Unlock()
	var left []returned
	stuck := map[*queue]bool{} // what comes before would be behind what is left
	for _, r := range slices.Backward(all) {
		id := taskID(r.message)
		ours := time.Now().Round(0).Sub(r.since) <= g.believed()
		g.mu.Lock()
		r.q.release(id, r.take) // before it can be taken again
		g.mu.Unlock()
		err := ErrNotSent
		if ours && !stuck[r.q] && ctx.Err() == nil {
			err = g.opts.Return(ctx, r.q.name, r.message)
		}
		g.mu.Lock()
		switch {
		case ours && errors.Is(err, ErrNotSent):
			stuck[r.q] = true
			left = append(left, r)
		case err != nil:
			r.q.foreign.suspect(time.Now().Add(g.opts.Lease + g.opts.Grace))
			g.prod()
		default:
			g.stats.PutBack++
			g.added(r.q, id)
			g.rouse(r.q)
		}
		g.mu.Unlock()
	}
	if len(left) == 0 {
		return true
	}
	slices.Reverse(left)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.back = append(left, g.back...)
	g.prod()
	return false
}
