package mover

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/redis/go-redis/v9"
)

// planPage is how many jobs are read at a time when nothing is moved, and samplePages how many pages a sample of
// a container has.
const (
	planPage    = 500
	samplePages = 10
)

// A planner collects a Plan while it streams over a queue.
type planner struct {
	*Mover
	plan    Plan
	pending map[string]bool // ids that belong to a scheduler
	edited  int64           // jobs that need an edit
	plain   int64
}

// Plan says what Move would do: counts, what the target cannot express, and what would stay behind
// and why. It writes nothing and keeps no more than a page of jobs and 1,000 losses and problems in
// memory. Price: about one command a job that is read, which Options.Sample bounds, and four a page.
func (m *Mover) Plan(ctx context.Context) (Plan, error) {
	p := &planner{Mover: m, pending: map[string]bool{}, plan: Plan{
		From: m.opts.From, To: m.opts.To, Repeats: []Repeat{}, Losses: []Loss{}, Problems: []Problem{},
	}}
	if err := p.make(ctx); err != nil {
		return p.plan, fmt.Errorf("plan %s to %s: %w", m.opts.From, m.opts.To, err)
	}
	return p.plan, nil
}

func (p *planner) make(ctx context.Context) error {
	wrong, err := p.blocking(ctx)
	if err != nil {
		return err
	}
	p.plan.Problems = append(p.plan.Problems, wrong...)
	for _, problem := range wrong {
		if problem.Rule == "wrong-type" {
			p.plan.Counts = map[State]int64{}
			return nil // what is there cannot be read as a queue
		}
	}
	if p.plan.Counts, err = counts(ctx, p.client, p.opts.From); err != nil {
		return err
	}
	if p.plan.Paused, err = p.sourcePaused(ctx); err != nil {
		return err
	}
	if err := p.whoIsThere(ctx); err != nil {
		return err
	}
	if err := p.queueLosses(ctx); err != nil {
		return err
	}
	if err := p.schedulers(ctx); err != nil {
		return err
	}
	for _, l := range append(p.activeLanes(), p.lanes(false)...) {
		if err := p.lane(ctx, l); err != nil {
			return fmt.Errorf("%s: %w", l.state, err)
		}
	}
	p.price()
	return nil
}

func (p *planner) lose(losses ...Loss) {
	p.plan.LossesTotal += int64(len(losses))
	for _, l := range losses {
		if len(p.plan.Losses) < maxKept {
			p.plan.Losses = append(p.plan.Losses, l)
		}
	}
}

// problem records one. In place there is no source to stay at: what cannot be converted would be run
// by the new library as it is, so it blocks.
func (p *planner) problem(problem Problem) {
	switch problem.Rule {
	case "missing-hash", "malformed-opts", "malformed-field", "wrong-type", "collision":
		problem.Blocking = problem.Blocking || p.inPlace()
	}
	if len(p.plan.Problems) < maxKept {
		p.plan.Problems = append(p.plan.Problems, problem)
	}
}

// whoIsThere names live workers where they keep a conversion from being done.
func (p *planner) whoIsThere(ctx context.Context) error {
	who, known, err := attached(ctx, p.client, p.opts.From)
	if err != nil {
		return err
	}
	if !p.inPlace() {
		return nil
	}
	for _, a := range who {
		p.problem(Problem{Rule: "live-worker", Blocking: true, Message: strings.TrimSpace(a.Role+" "+a.Addr) +
			" is attached: stop it, or move to another prefix"})
	}
	if !known && !p.opts.WorkersStopped {
		p.problem(Problem{Rule: "live-worker", Blocking: true, Message: "the server does not show its clients, so nobody can tell whether a worker is running"})
	}
	return nil
}

// queueLosses are those of the queue as a whole.
func (p *planner) queueLosses(ctx context.Context) error {
	e := p.opts.From
	if e.Layout == Asynq {
		return p.leaveLosses(ctx)
	}
	if p.opts.To.Layout == Asynq {
		if err := p.enterLosses(ctx); err != nil {
			return err
		}
	}
	if e.Layout == Bull {
		n, err := p.client.Exists(ctx, e.Key("limiter"), e.Key("limiter:index"), e.Key("limiter:limited")).Result()
		if err != nil {
			return err
		}
		if n > 0 {
			p.lose(Loss{
				Field: "limiter", Was: "option of the queue, limited jobs wait in delayed", Becomes: "option of the worker, limited jobs stay waiting",
				Why: fmt.Sprintf("the rate limit must be set on the %s worker; groupKey has no equivalent", libraryName(p.opts.To.Layout)),
			})
		}
		prioritized, err := p.client.ZCard(ctx, e.Key("priority")).Result()
		if err != nil {
			return err
		}
		if prioritized > 0 && p.opts.To.Layout == BullMQ && p.opts.Order == ByPriority {
			p.lose(Loss{
				Field: "order", Was: "prioritized jobs first", Becomes: "prioritized jobs last", Reversible: true,
				Why: fmt.Sprintf("BullMQ runs its %d prioritized jobs after every plain one", prioritized),
			})
		}
		return nil
	}
	if p.opts.To.Layout == BullMQ {
		p.lose(Loss{Field: "events", Was: "a stream", Why: "what happened before stays under the old prefix"})
	}
	values, err := p.client.HMGet(ctx, e.Key("meta"), "concurrency", "max", "duration").Result()
	if err != nil {
		return err
	}
	for i, name := range []string{"concurrency", "max", "duration"} {
		if v, ok := values[i].(string); ok {
			p.lose(Loss{Field: "meta." + name, Was: v, Why: limitReason(p.opts.To.Layout)})
		}
	}
	if n := p.plan.Counts[Prioritized]; n > 0 && !p.opts.Reverse && p.opts.To.Layout == Bull {
		p.lose(Loss{
			Field: "order", Was: "prioritized jobs last", Becomes: "prioritized jobs first",
			Why: fmt.Sprintf("Bull runs its %d prioritized jobs before every plain one", n),
		})
	}
	return nil
}

// limitReason says what becomes of a limit for all workers of a queue.
func limitReason(to Layout) string {
	if to == BullMQ {
		return "a limit for all workers belongs to the queue: set it under the new prefix"
	}
	return libraryName(to) + " has no limit for all workers of a queue"
}

// schedulers reads every scheduler and what it would become.
func (p *planner) schedulers(ctx context.Context) error {
	if p.opts.From.Layout == Asynq {
		return p.leaveSchedules(ctx)
	}
	key := p.opts.From.Key("repeat")
	seen := map[string]bool{}
	for at := int64(0); ; at += repeatPage {
		page, err := p.client.ZRangeWithScores(ctx, key, at, at+repeatPage-1).Result()
		if err != nil {
			return fmt.Errorf("read %q: %w", key, err)
		}
		if len(page) == 0 {
			return nil
		}
		for _, z := range page {
			member := fmt.Sprint(z.Member)
			s, problem, err := p.scheduler(ctx, member, int64(z.Score))
			if err != nil {
				return fmt.Errorf("scheduler %q: %w", member, err)
			}
			if problem != nil {
				p.problem(*problem)
				continue
			}
			if s == nil {
				continue
			}
			if seen[s.repeat.TargetKey] {
				p.problem(Problem{JobID: member, Rule: "collision", Message: fmt.Sprintf(
					"two repeatables would become scheduler %q: choose other scheduler ids", s.repeat.TargetKey)})
			}
			seen[s.repeat.TargetKey] = true
			if len(p.plan.Repeats) < maxKept {
				p.plan.Repeats = append(p.plan.Repeats, s.repeat)
			}
			p.lose(s.change.losses...)
			if s.job != nil {
				p.pending[s.job.ID] = true
			}
		}
	}
}

func (p *planner) scheduler(ctx context.Context, member string, next int64) (*scheduled, *Problem, error) {
	s, problem, err := readScheduled(ctx, p.client, &p.opts, p.inPlace(), p.ledgerKey("schedulers"), member, next)
	if err != nil || problem != nil || s == nil || p.inPlace() {
		return s, problem, err
	}
	if p.opts.To.Layout == Asynq {
		return p.planEnter(ctx, s)
	}
	_, err = p.client.ZScore(ctx, p.opts.To.Key("repeat"), s.repeat.TargetKey).Result()
	if errors.Is(err, redis.Nil) {
		return s, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	return nil, &Problem{JobID: member, Rule: "collision", Message: fmt.Sprintf(
		"the target already has a scheduler %q: it would fire twice", s.repeat.TargetKey)}, nil
}

// lane reads one container: all of it, or where Options.Sample says so and it is longer, pages of it that are
// spread evenly, from which the price of the rest is told.
func (p *planner) lane(ctx context.Context, l lane) error {
	long, err := p.long(ctx, l)
	if err != nil {
		return err
	}
	if long == 0 {
		for at := int64(0); ; at += planPage {
			if n, err := p.page(ctx, l, at, planPage); n == 0 || err != nil {
				return err
			}
		}
	}
	plain, edited, read := p.plain, p.edited, int64(0)
	size := max(1, p.opts.Sample/samplePages)
	for i := range int64(samplePages) {
		n, err := p.page(ctx, l, i*(long-size)/(samplePages-1), size)
		if err != nil {
			return err
		}
		read += n
	}
	rest := float64(long-read) / float64(max(1, read))
	p.plain += int64(rest * float64(p.plain-plain))
	p.edited += int64(rest * float64(p.edited-edited))
	p.problem(Problem{Rule: "sampled", Message: fmt.Sprintf(
		"%d of %d %s jobs were read: the price is told from them, and losses and problems of the others are not listed. A job that cannot be "+
			"converted stays at the source, and the move reports it; --all-jobs reads them all", read, long, l.state)})
	return nil
}

// long is how many jobs a container has of which only a sample is to be read; 0 when all are. What is converted
// in place has no source to stay at, and active jobs are few. Price: 1 command, or none.
func (p *planner) long(ctx context.Context, l lane) (int64, error) {
	if p.opts.Sample == 0 || p.inPlace() || l.state == Active {
		return 0, nil
	}
	count := p.client.ZCard
	if l.isList() {
		count = p.client.LLen
	}
	key := p.opts.From.part(l.band).Key(l.from)
	n, err := count(ctx, key).Result()
	if err != nil {
		return 0, fmt.Errorf("count %q: %w", key, err)
	}
	if n <= p.opts.Sample {
		return 0, nil
	}
	return n, nil
}

// page judges one page of a container and tells how many jobs it had.
func (p *planner) page(ctx context.Context, l lane, at, size int64) (int64, error) {
	entries, err := readPage(ctx, p.client, &p.opts, p.inPlace(), p.ledgerKey("undo"), l, at, size)
	if err != nil || len(entries) == 0 {
		return 0, err
	}
	claims := make([]claim, 0, len(entries))
	for _, e := range entries {
		if p.pending[e.id] {
			continue
		}
		k, problem, losses := p.decide(l, e)
		if problem != nil {
			p.problem(*problem)
			continue
		}
		p.lose(losses...)
		unlike := len(k.hset)+len(k.hdel) > 0 || k.newID != k.id
		if p.opts.To.Layout == Asynq {
			_, plain := p.formEnter(l, &k, e)
			unlike = !plain
		}
		if unlike {
			p.edited++
		} else {
			p.plain++
		}
		claims = append(claims, k)
	}
	if err := p.collisions(ctx, claims); err != nil {
		return 0, err
	}
	if err := p.locks(ctx, l, claims); err != nil {
		return 0, err
	}
	return int64(len(entries)), p.logs(ctx, claims)
}

// readPage reads a page of a container as the move script shows it, without a script.
func readPage(ctx context.Context, client redis.UniversalClient, opts *Options, inPlace bool, undo string, l lane, at, size int64) ([]entry, error) {
	part := opts.From.part(l.band)
	key := part.Key(l.from)
	var entries []entry
	if l.isList() {
		ids, err := client.LRange(ctx, key, at, at+size-1).Result()
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", key, err)
		}
		for _, id := range ids {
			entries = append(entries, entry{id: id})
		}
	} else {
		members, err := client.ZRangeWithScores(ctx, key, at, at+size-1).Result()
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", key, err)
		}
		for _, z := range members {
			entries = append(entries, entry{id: fmt.Sprint(z.Member), score: fmt.Sprintf("%.0f", z.Score)})
		}
	}
	if len(entries) == 0 {
		return nil, nil
	}
	names := []string{}
	for _, f := range opts.fields(inPlace) {
		names = append(names, f.String())
	}
	hashes := make([]*redis.SliceCmd, len(entries))
	var lines *redis.SliceCmd
	_, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		ids := make([]string, len(entries))
		for i, e := range entries {
			hashes[i] = pipe.HMGet(ctx, part.jobKey(e.id), names...)
			ids[i] = e.id
		}
		if opts.Reverse {
			lines = pipe.HMGet(ctx, undo, ids...)
		}
		return nil
	})
	var refused redis.Error
	if err != nil && !errors.As(err, &refused) {
		return nil, fmt.Errorf("read jobs of %q: %w", key, err)
	}
	for i := range entries {
		entries[i].seen = showSeen(hashes[i], opts.From.Layout)
		if lines != nil && i < len(lines.Val()) {
			entries[i].undo, _ = lines.Val()[i].(string)
		}
	}
	return entries, nil
}

func showSeen(cmd *redis.SliceCmd, layout Layout) string {
	if err := cmd.Err(); err != nil {
		return seenError + err.Error()
	}
	if layout == Asynq {
		return asynqSeen(cmd.Val())
	}
	_, seen := joinSeen(cmd.Val())
	return seen
}

// collisions finds ids that the target already has.
func (p *planner) collisions(ctx context.Context, claims []claim) error {
	keys := []string{}
	var moving []claim
	for _, k := range claims {
		if !p.inPlace() || k.newID != k.id {
			keys = append(keys, p.opts.To.part(k.band).jobKey(k.newID))
			moving = append(moving, k)
		}
	}
	return eachExisting(ctx, p.client, keys, func(i int) {
		p.problem(Problem{JobID: moving[i].id, Rule: "collision", Message: fmt.Sprintf(
			"%s exists already: another job has this id at the target", keys[i])})
	})
}

// locks finds jobs that are being worked on.
func (p *planner) locks(ctx context.Context, l lane, claims []claim) error {
	if l.state != Active || p.opts.From.Layout == Asynq {
		return nil
	}
	keys := []string{}
	for _, k := range claims {
		keys = append(keys, p.opts.From.Key(k.id+":lock"))
	}
	return eachExisting(ctx, p.client, keys, func(i int) {
		p.problem(Problem{JobID: claims[i].id, Rule: "live-lock", Blocking: p.inPlace(), Message: fmt.Sprintf(
			"%s is held: a worker runs this job, it is moved once it has finished", keys[i])})
	})
}

// eachExisting calls f for each of keys that exists: one command if none does.
func eachExisting(ctx context.Context, client redis.UniversalClient, keys []string, f func(int)) error {
	if len(keys) == 0 {
		return nil
	}
	n, err := client.Exists(ctx, keys...).Result()
	if err != nil || n == 0 {
		return err
	}
	replies := make([]*redis.IntCmd, len(keys))
	_, err = client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, key := range keys {
			replies[i] = pipe.Exists(ctx, key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, r := range replies {
		if r.Val() > 0 {
			f(i)
		}
	}
	return nil
}

// price estimates what Move costs, from what was measured: two commands for a job that needs no
// edit, five for one that does, seven from asynq, nineteen for each chunk, and two passes over empty
// containers.
func (p *planner) price() {
	chunks := int64(math.Ceil(float64(p.plain)/float64(p.opts.ChunkSize)) + math.Ceil(float64(p.edited)/float64(p.shown())))
	lanes := int64(len(p.lanes(false)) + 1)
	schedulers := int64(len(p.plan.Repeats))
	plain, edited := int64(2), int64(5)
	if p.opts.From.Layout == Asynq { // a message is parted again
		plain, edited = 7, 7
	}
	p.plan.Commands = Price{
		TopLevel: chunks + 2*lanes + 12*schedulers + 40,
		InScript: plain*p.plain + edited*p.edited + 19*chunks + 4*lanes + 30*schedulers + 80,
	}
}
