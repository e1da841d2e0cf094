package limit

import (
	"context"
	"errors"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/limit/lease"
)

// wait waits for the flight to end.
func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fromMemory finishes the item if what is known here is enough. Otherwise it says what to ask for, or
// returns a flight whose grant has room for the item.
func (l *Limiter) fromMemory(it *item, now int64, first bool) *flight {
	p := it.plan
	if it.cost > p.policy.Capacity() {
		l.finish(it, Result{Reason: ReasonTooLarge}, false)
		return nil
	}
	leases := p.bounds.Units >= 2
	if leases {
		it.local = l.locals.make(it.key, l.memory(it.key, it.other), p, it.other, now)
	} else if it.local = l.locals.find(l.memory(it.key, it.other), p, now); it.local == nil {
		return nil
	}
	e := it.local
	e.mu.Lock()
	defer e.mu.Unlock()
	if leases && first {
		e.ledger.Observe(now, it.cost)
	}
	if leases && e.ledger.Spend(now, it.cost) {
		l.refill(it, now)
		l.finish(it, e.known(now, ReasonLeased), true)
		return nil
	}
	if wait := e.ledger.Denied(now, it.cost); wait > 0 {
		r := e.known(now, ReasonBlocked)
		r.RetryAfter = micros(wait)
		l.finish(it, r, false)
		return nil
	}
	if !leases || l.closing.Load() {
		return nil
	}
	if e.flight != nil {
		if e.flight.room < it.cost {
			return nil // a call of its own
		}
		e.flight.room -= it.cost
		return e.flight
	}
	it.want = l.bounded(it, e.ledger.Plan(now, it.cost, p.bounds))
	if it.want.Want > it.cost {
		it.flight = &flight{done: make(chan struct{}), room: it.want.Want - it.cost}
		e.flight = it.flight
	}
	return nil
}

// bounded keeps a plan within what can ever be granted.
func (l *Limiter) bounded(it *item, plan lease.Plan) lease.Plan {
	plan.Want = min(plan.Want, it.plan.policy.Capacity())
	return plan
}

// refill starts to fetch units before the last ones are spent. The item's local is locked.
func (l *Limiter) refill(it *item, now int64) {
	e := it.local
	on := l.side(it.other)
	if e.flight != nil || l.closing.Load() || on.client == nil || on.breaker.open() || l.spares([]*item{it}) ||
		e.ledger.Denied(now, 1) > 0 || !e.ledger.Low(now, l.trip.Load()) {
		return
	}
	plan := l.bounded(it, e.ledger.Plan(now, 0, it.plan.bounds))
	next := &item{req: it.req, rule: it.rule, plan: it.plan, subject: it.subject, key: it.key, other: it.other, carried: it.carried, late: it.late, local: e, want: plan}
	if plan.Want < 2 {
		e.ledger.Return(plan.Give)
		return
	}
	next.flight = &flight{done: make(chan struct{}), room: plan.Want}
	e.flight = next.flight
	l.refills.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), l.patience())
		defer cancel()
		l.ask(ctx, []*item{next}, false)
	})
}

// known is a result from what the server said last. The local is locked.
func (e *local) known(now int64, why Reason) Result {
	held := e.ledger.Held()
	return Result{
		Reason: why, Used: e.last.Used - held,
		ResetAfter: micros(max(0, e.last.Reset-(now-e.lastAt))),
	}
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// land ends the item's flight, if it has one, so that those who wait for it go on. The local is locked.
func (it *item) land(err error) {
	if it.flight == nil {
		return
	}
	it.flight.err = err
	close(it.flight.done)
	if it.local.flight == it.flight {
		it.local.flight = nil
	}
	it.flight = nil
}

// learn keeps what the server said about the item: at sent we asked, at now the answer was here. It
// returns for how long a denied request is denied.
func (l *Limiter) learn(it *item, a answer, sent, now int64) (retry int64) {
	if a.Granted >= max(1, it.cost) && it.local == nil {
		return 0 // nothing to remember of a rule without leases
	}
	if it.local == nil {
		it.local = l.locals.make(it.key, l.memory(it.key, it.other), it.plan, it.other, now)
	}
	e, s := it.local, it.rule.stats
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last, e.lastAt = a, now
	if e.ledger.Settle(sent, it.cost, it.want, lease.Answer{
		Granted: a.Granted, Retry: a.Retry, RetryWant: a.RetryWant, Stamp: a.Stamp, Hold: a.Hold,
	}) {
		s.leaseTaken.Add(a.Granted - it.cost)
	} else {
		retry = max(a.Retry, e.ledger.Denied(sent, max(1, it.cost)))
	}
	s.leaseReturned.Add(it.want.Give.Units)
	s.leaseExpired.Add(e.ledger.Lost())
	it.land(nil)
	return retry
}

var errNoClient = errors.New("no redis is configured")
