package limit

import (
	"github.com/redisopt/redisopt/internal/runtime/limit/window"
)

// fallback decides an item that Redis did not answer, by its rule's OnError.
func (l *Limiter) fallback(it *item, err error) {
	if it.cost == 0 {
		return // a refill; those who need units ask for themselves
	}
	switch it.without(err) {
	case Open:
		l.finish(it, Result{Reason: ReasonOpen}, true)
		l.tell(it, EventBypassed, err)
	case Closed:
		l.finish(it, Result{Reason: ReasonClosed, RetryAfter: l.opts.Pause}, false)
		l.tell(it, EventClosed, err)
	case Local:
		d := l.here(it, true)
		l.finish(it, Result{
			Reason: ReasonLocal, Used: it.plan.policy.Capacity() - it.share().Capacity() + d.Used,
			ResetAfter: micros(d.Reset), RetryAfter: micros(d.Retry),
		}, d.Granted > 0)
		l.tell(it, EventLocal, err)
	}
}

// share is the policy of this process alone: its part of the limit.
func (it *item) share() window.Policy { return it.plan.share }

// here decides by what this process counted itself, and counts the item if it is to be taken.
func (l *Limiter) here(it *item, take bool) window.Decision {
	now := l.clock.now()
	if it.local == nil {
		it.local = l.locals.make(it.key, l.memory(it.key, it.other), it.plan, it.other, now)
	}
	e := it.local
	e.mu.Lock()
	defer e.mu.Unlock()
	server := l.clock.server(now)
	if !take {
		return it.share().Peek(e.own, server, it.cost, 0)
	}
	return it.share().Take(&e.own, server, window.Ask{Min: it.cost, Want: it.cost})
}

// fallbackAll decides items that Redis did not answer, all or none.
func (l *Limiter) fallbackAll(items []*item, err error) {
	passed := true
	for _, it := range items {
		denied := it.without(err) == Closed || it.without(err) == Local && l.here(it, false).Granted == 0
		passed = passed && (!denied || it.soft())
	}
	for _, it := range items {
		if passed || it.without(err) == Closed || it.without(err) == Local && l.here(it, false).Granted == 0 {
			l.fallback(it, err)
			continue
		}
		l.finish(it, Result{Reason: ReasonOther}, false)
	}
}
