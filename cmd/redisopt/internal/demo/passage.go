package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/step"
)

// leastAdded is how many jobs the producer adds at least in each direction, so that a machine on which
// the moves take no time has a live producer too.
const leastAdded = 25

// A passenger is one captured queue on its way.
type passenger struct {
	name  queueName
	route step.Route
}

// passengers are the captured queues: one with a job in every state, one that is paused, one with
// repeatables and a rate limiter.
func passengers() []*passenger {
	var out []*passenger
	for _, name := range []queueName{liveQueue(), {"bull", "calendar-sync"}, {"{bull}", "token-refresh"}} {
		target := "bullmq"
		if name.prefix != "bull" {
			target = "{bullmq}"
		}
		out = append(out, &passenger{name: name, route: step.Route{
			From: mover.Endpoint{Layout: mover.Bull, Major: 4, Prefix: name.prefix, Queue: name.name},
			To:   mover.Endpoint{Layout: mover.BullMQ, Major: 6, Prefix: target, Queue: name.name},
		}})
	}
	return out
}

// liveQueue is the queue that has a live producer.
func liveQueue() queueName { return queueName{"bull", "suggestion-generation"} }

func (j *journey) plan(ctx context.Context) error {
	j.result.Queues = []Queue{}
	for _, q := range j.queues {
		phase, err := step.NewPhase3(j.moves.Client(), step.Phase3Options{Route: q.route})
		if err != nil {
			return err
		}
		plan, err := phase.Plan(ctx)
		if err != nil {
			return err
		}
		losses := plan.Losses
		if losses == nil {
			losses = []mover.Loss{}
		}
		j.result.Queues = append(j.result.Queues, Queue{
			Name: q.name.name, From: q.route.From, To: q.route.To,
			Counts: plan.Counts, Losses: losses, Price: plan.Commands,
		})
	}
	return nil
}

// there stops the workers of the captured queues and moves them while the producer goes on; then the
// producer stops, and a second pass takes what it added last.
func (j *journey) there(ctx context.Context) error {
	for _, q := range j.queues {
		if err := j.app.stopWorker(q.name.name); err != nil {
			return err
		}
	}
	live := startProducer(ctx, j.app.queue(liveQueue().name), addEvery, mostAdds)
	err := j.each(ctx, func(i int, q *passenger) error { return j.move(ctx, i, q) })
	if err == nil {
		err = live.reach(ctx, leastAdded)
	}
	ids, stopErr := live.finish()
	if err := errors.Join(err, stopErr); err != nil {
		return err
	}
	j.added = append(j.added, ids...)
	j.result.Added.There = len(ids)
	return j.each(ctx, func(i int, q *passenger) error {
		if err := j.move(ctx, i, q); err != nil {
			return err
		}
		return j.count(ctx, &j.result.Queues[i].There, q, q.route.To, q.route.From)
	})
}

// back rolls every queue back while the producer, which knows nothing of it, goes on adding.
func (j *journey) back(ctx context.Context) error {
	live := startProducer(ctx, j.app.queue(liveQueue().name), addEvery, mostAdds)
	err := j.each(ctx, func(i int, q *passenger) error { return j.rollBack(ctx, i, q) })
	if err == nil {
		err = live.reach(ctx, leastAdded)
	}
	ids, stopErr := live.finish()
	if err := errors.Join(err, stopErr); err != nil {
		return err
	}
	j.added = append(j.added, ids...)
	j.result.Added.Back = len(ids)
	return j.each(ctx, func(i int, q *passenger) error {
		return j.count(ctx, &j.result.Queues[i].Back, q, q.route.From, q.route.To)
	})
}

func (j *journey) each(ctx context.Context, f func(i int, q *passenger) error) error {
	for i, q := range j.queues {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f(i, q); err != nil {
			return fmt.Errorf("queue %s: %w", q.name.name, err)
		}
	}
	return nil
}

// move runs phase 3 forward, as redisopt migrate phase3 does: lease, journal, engine.
func (j *journey) move(ctx context.Context, i int, q *passenger) error {
	return j.engine(ctx, q, &j.result.Queues[i].There, func(ctx context.Context, e *migrate.Engine) error { return e.Start(ctx) })
}

func (j *journey) rollBack(ctx context.Context, i int, q *passenger) error {
	return j.engine(ctx, q, &j.result.Queues[i].Back, func(ctx context.Context, e *migrate.Engine) error {
		return e.Rollback(ctx, errors.New("the demo shows the way back"))
	})
}

// engine calls verb on an engine for q's phase 3 and adds what it did to p.
func (j *journey) engine(ctx context.Context, q *passenger, p *Passage, verb func(context.Context, *migrate.Engine) error) error {
	began := time.Now()
	client := j.moves.Client()
	session, err := migrate.OpenSession(ctx, client, migrate.SessionOptions{Target: step.TargetOf(q.route), StateDir: j.state, Owner: "demo"})
	if err != nil {
		return err
	}
	err = session.Run(ctx, func(ctx context.Context) error {
		var e *migrate.Engine
		phase, err := step.NewPhase3(client, step.Phase3Options{
			Route:      q.route,
			Fence:      mover.Fence{Key: session.Lease.Key(), Token: session.Lease.Token()},
			Checkpoint: func(ctx context.Context, name string, detail any) error { return e.Checkpoint(ctx, name, detail) },
		})
		if err != nil {
			return err
		}
		e = migrate.NewEngine(session.Journal, phase.Steps()...)
		e.Options = phase.Options()
		err = verb(ctx, e)
		p.add(phase.Outcome())
		return err
	})
	p.Took += time.Since(began)
	p.TookMS = p.Took.Milliseconds()
	return err
}

// add adds what one run of an engine did.
func (p *Passage) add(o step.Outcome) {
	if p.Moved == nil {
		p.Moved = map[mover.State]int64{}
	}
	for state, n := range o.Moved {
		p.Moved[state] += n
		p.Jobs += n
	}
	p.Scripts += o.Scripts
	p.Skipped = append([]mover.Problem{}, o.Skipped...)
	p.Problems = append([]mover.Problem{}, o.Check.Mismatches...)
}

// count looks itself how many jobs are where, in the keys and not in anybody's ledger.
func (j *journey) count(ctx context.Context, p *Passage, q *passenger, at, left mover.Endpoint) error {
	there, err := j.dump(ctx, at)
	if err != nil {
		return err
	}
	behind, err := j.dump(ctx, left)
	if err != nil {
		return err
	}
	p.Found, p.Left = countJobs(there), countJobs(behind)
	p.Expected = 0
	for _, k := range j.keys {
		if isJob(k) && len(k.Name) > len(q.name.key("")) && k.Name[:len(q.name.key(""))] == q.name.key("") {
			p.Expected++
		}
	}
	if q.name == liveQueue() {
		p.Expected += len(j.added)
	}
	return nil
}
