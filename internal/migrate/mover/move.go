package mover

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// A run is one call of Move.
type run struct {
	*Mover
	result  Result
	skipped []Problem // of the pass that is under way
	stays   int64     // how many of them are no active jobs
	room    int64     // dead letters that asynq still keeps, in the lane of failed jobs
	total   map[State]int64
}

// Move moves all that can be moved, in passes, until a pass finds nothing: what producers add while
// it runs is moved too, and what workers take at the source meanwhile is theirs. It may be called
// again after a crash at any instant, and stops at a safe point when ctx is done. What it could not
// move is in the Result; an error means that it stopped early, and the Result says how far it came.
//
// Price: per chunk one script of about three commands a job, plus about thirty commands.
func (m *Mover) Move(ctx context.Context) (Result, error) {
	m.started = time.Now()
	m.budgeted.Store(0)
	m.scriptCalls.Store(0)
	r := &run{Mover: m, result: Result{Moved: map[State]int64{}, Held: []string{}, Skipped: []Problem{}}}
	err := r.move(ctx)
	r.result.Scripts = m.scriptCalls.Load()
	r.result.Duration = time.Since(m.started)
	if err != nil {
		return r.result, fmt.Errorf("move %s to %s: %w", m.opts.From, m.opts.To, err)
	}
	return r.result, nil
}

func (r *run) move(ctx context.Context) error {
	if err := r.check(ctx); err != nil {
		return err
	}
	var err error
	if r.total, err = counts(ctx, r.client, r.opts.From); err != nil {
		return err
	}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	patience := time.Now().Add(r.opts.ActiveTimeout)
	looks, looked := 0, false
	for pass := 0; pass < maxPasses; {
		moved, err := r.pass(ctx, !r.swept)
		if err != nil {
			return err
		}
		r.swept = true // what comes now was added meanwhile
		pass++
		if moved > 0 {
			looks = 0
			continue
		}
		again, err := r.waitForActive(ctx, patience)
		if err != nil {
			return err
		}
		if again {
			continue
		}
		// A pause or resume at the wrong instant renames one list into another that was read already.
		overlooked, err := r.overlooked(ctx)
		if err != nil {
			return err
		}
		if looks++; overlooked && looks <= maxLooks {
			continue
		}
		if err := r.hold(ctx); err != nil {
			return err
		}
		if looked = len(r.result.Held) == 0 || !time.Now().Before(patience); looked {
			break
		}
		looks = 0 // a worker took one since it was looked for, and is given the time for it
	}
	r.result.Skipped = append(r.result.Skipped, r.skipped...)
	if !looked {
		if err := r.hold(ctx); err != nil {
			return err
		}
	}
	return r.finish(ctx)
}

// maxLooks is how often a queue is gone over again that has jobs left although a pass moved none.
const maxLooks = 3

// overlooked says whether the source has more jobs than were skipped in the last pass, active ones aside.
func (r *run) overlooked(ctx context.Context) (bool, error) {
	if r.inPlace() {
		return false, nil // what is converted stays where it was
	}
	now, err := counts(ctx, r.client, r.opts.From)
	if err != nil {
		return false, err
	}
	left := -r.stays
	for state, n := range now {
		if state != Active && state != WaitingChildren {
			left += n
		}
	}
	return left > 0, nil
}

// pass goes once over everything at the source and returns how many jobs and schedulers it moved.
func (r *run) pass(ctx context.Context, first bool) (int64, error) {
	r.skipped, r.stays = r.skipped[:0], 0
	if !first {
		if err := r.prepare(ctx); err != nil { // the source may have been paused or resumed since
			return 0, err
		}
	}
	moved, err := r.repeats(ctx)
	if err != nil {
		return moved, err
	}
	if first {
		if r.inOrder, err = r.returnsInOrder(ctx); err != nil {
			return moved, err
		}
	}
	lanes := r.lanes(first)
	// Active jobs run next at the target: pushed right, so before the others if those are pushed left.
	if r.opts.Reverse && first || r.inPlace() {
		lanes = append(lanes, r.activeLanes()...)
	} else {
		lanes = append(r.activeLanes(), lanes...)
	}
	for _, l := range lanes {
		n, err := r.lane(ctx, l)
		moved += n
		if err != nil {
			return moved, fmt.Errorf("%s: %w", l.state, err)
		}
	}
	return moved, nil
}

// lane moves everything that can be moved from one container, chunk by chunk, each of which also
// brings the next window: one round trip a chunk.
func (r *run) lane(ctx context.Context, l lane) (int64, error) {
	limited := l.state == Failed && r.opts.To.Layout == Asynq
	if limited {
		var err error
		if r.room, err = r.archiveRoom(ctx); err != nil {
			return 0, err
		}
	}
	c := &chunk{lane: l, want: r.shown()}
	out, err := r.Mover.move(ctx, c)
	if err != nil {
		return 0, err
	}
	var moved int64
	stuck := false // the script would not take what looks plain: say which job, to hear why
	for idle := 0; out.more() && idle < maxIdle; {
		if l.state == Active {
			free, err := r.unattended(ctx)
			if err != nil || !free {
				return moved, err
			}
		}
		if limited {
			if out.next = r.fits(out.next); len(out.next) == 0 {
				return moved, r.leaveOld(ctx, out.skip)
			}
			r.room -= int64(len(out.next))
		}
		if r.unhindered(c, &out) {
			var n int64
			n, out, err = r.stream(ctx, c, out)
			if moved += n; err != nil {
				return moved, err
			}
			idle, stuck = 0, false
			continue
		}
		problems := r.claims(c, out, stuck)
		c.skip, c.want = out.skip, r.shown()
		jobs := max(len(out.next), out.plain)
		if len(c.claims) == 0 {
			c.want = r.opts.ChunkSize
			if len(out.next) == r.shown() { // there may be more than was shown
				jobs = r.opts.ChunkSize
			}
		}
		if err := r.pace(ctx, jobs); err != nil {
			return moved, err
		}
		out, err = r.Mover.move(ctx, c)
		if err != nil {
			return moved, err
		}
		n, progress := r.tally(c, &out, problems)
		moved += n
		stuck = !progress && len(c.claims) == 0
		if progress {
			idle = 0
		} else {
			idle++
		}
		r.tell(l, n)
	}
	return moved, nil
}

// tell reports how far the lane is, when n jobs were just moved.
func (r *run) tell(l lane, n int64) {
	if r.opts.OnProgress != nil && n > 0 {
		r.opts.OnProgress(Progress{State: l.state, Moved: r.result.Moved[l.state], Total: r.total[l.state]})
	}
}

// shown is how many jobs are shown at a time. One that is shown is read twice and edited, which takes
// the server twice as long as moving a plain one unseen: so that no script takes longer, half as many.
func (m *Mover) shown() int { return (m.opts.ChunkSize + 1) / 2 }

// claims turns the window that out showed into the claims of the next call. If all jobs in it are
// plain there are none, unless each is to be named.
func (r *run) claims(c *chunk, out outcome, each bool) []*Problem {
	c.claims = c.claims[:0]
	problems := make([]*Problem, len(out.next))
	highest, plain := int64(0), 0
	for i, e := range out.next {
		k, problem, _ := r.decide(c.lane, e)
		c.claims = append(c.claims, k)
		problems[i] = problem
		if problem == nil && r.learn(c, &k, e) {
			plain++
		}
		if n, ok := digits(k.newID); ok && problem == nil {
			highest = max(highest, n)
		}
	}
	if plain == len(out.next) && !each {
		c.claims = c.claims[:0] // the script knows them by their shape, and shows no more windows of such
	}
	c.idMin = 0
	if highest > r.idKnown {
		c.idMin, r.idKnown = highest, highest
	}
	return problems
}

// isCounter says whether s is a positive whole number in its shortest form.
func isCounter(s string) bool {
	for _, b := range []byte(s) {
		if b < '0' || b > '9' {
			return false
		}
	}
	return len(s) > 1 && s[0] != '0'
}

// tally counts what became of a chunk.
func (r *run) tally(c *chunk, out *outcome, problems []*Problem) (moved int64, progress bool) {
	state := c.lane.state
	moved = int64(out.plain)
	r.result.Losses += out.losses
	progress = out.plain > 0 || len(out.clash) > 0
	for _, id := range out.clash {
		status := statusCollision
		id, phantom := strings.CutPrefix(id, seenError)
		if phantom {
			status = statusPhantom
		}
		r.skip(c.lane, &claim{id: id, newID: id}, byte(status), nil)
	}
	for i := range out.status {
		k := &c.claims[i]
		switch out.status[i] {
		case statusMoved, statusPriority:
			moved++
			r.result.Losses += int64(k.losses)
		case statusEdited:
			if len(k.hset) > 0 || len(k.hdel) > 0 || k.newID != k.id {
				moved++
				r.result.Losses += int64(k.losses)
			}
		case statusGone, statusChanged:
			continue
		default:
			r.skip(c.lane, k, out.status[i], problems[i])
		}
		progress = true
	}
	if moved > 0 {
		r.result.Moved[state] += moved
	}
	return moved, progress
}

// skip records why a job stays.
func (r *run) skip(l lane, k *claim, status byte, problem *Problem) {
	if problem == nil {
		problem = &Problem{JobID: k.id}
		switch status {
		case statusLocked:
			problem.Rule = "live-lock"
			problem.Message = fmt.Sprintf("a worker holds %s: it is running there", r.lockOf(l, k.id))
		case statusCollision:
			problem.Rule = "collision"
			problem.Message = fmt.Sprintf("%s exists already: another job has this id at the target", r.opts.To.jobKey(k.newID))
		case statusPhantom:
			problem.Rule = "phantom"
			problem.Message = fmt.Sprintf("%s exists at the target, but is no job: it has no opts, timestamp or data, as when a job "+
				"that is gone is updated; delete that key and run again", r.opts.To.Key(k.newID))
		case statusScheduled:
			problem.Rule = "scheduler-pending"
			problem.Message = fmt.Sprintf("it is the next run of scheduler %q, which has not been moved", k.scheduler)
		default:
			return
		}
	}
	if l.state == Active && problem.Rule == "live-lock" {
		return // reported as held
	}
	if l.state != Active {
		r.stays++
	}
	if len(r.skipped) < maxKept {
		r.skipped = append(r.skipped, *problem)
	}
}

// waitForActive waits until a worker of the source finishes one of its active jobs. It says whether
// another pass is worth it.
func (r *run) waitForActive(ctx context.Context, patience time.Time) (bool, error) {
	before, err := r.activeNow(ctx)
	if err != nil || before == "" || r.opts.ActiveTimeout < 0 {
		return false, err
	}
	for time.Now().Before(patience) {
		if err := sleepUntil(ctx, time.Now().Add(pollInterval)); err != nil {
			return false, err
		}
		now, err := r.activeNow(ctx)
		if err != nil {
			return false, err
		}
		if now != before {
			return true, nil
		}
	}
	return false, nil
}

// hold lists what is still active at the source because a worker has it or may have it. What was
// skipped for another reason can never be moved, whoever stops, and is reported as that.
func (r *run) hold(ctx context.Context) error {
	r.result.Held = []string{}
	if r.opts.From.Layout == Asynq {
		ids, err := r.activeAsynq(ctx)
		r.result.Held = append(r.result.Held, ids[:min(len(ids), maxKept)]...)
		return err
	}
	ids, err := r.client.LRange(ctx, r.opts.From.Key("active"), 0, maxKept-1).Result()
	if err != nil {
		return fmt.Errorf("read %q: %w", r.opts.From.Key("active"), err)
	}
	hopeless := map[string]bool{}
	for _, p := range r.skipped {
		if p.Rule != "live-lock" {
			hopeless[p.JobID] = true
		}
	}
	locks := make([]string, len(ids))
	for i, id := range ids {
		locks[i] = r.opts.From.Key(id + ":lock")
	}
	if err := eachExisting(ctx, r.client, locks, func(i int) { delete(hopeless, ids[i]) }); err != nil {
		return fmt.Errorf("read locks of %q: %w", r.opts.From.Key("active"), err)
	}
	for _, id := range ids {
		if !hopeless[id] {
			r.result.Held = append(r.result.Held, id)
		}
	}
	return nil
}
