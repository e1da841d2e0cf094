package limit

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/limit/window"
)

// ask asks Redis about items, which are of one side and in one slot, and finishes them. When it does not answer, their
// rules' OnError does.
func (l *Limiter) ask(ctx context.Context, items []*item, all bool) {
	sent := l.clock.now()
	r, err := l.askTwice(ctx, items, all, sent)
	arrived := l.clock.now()
	if err != nil {
		for _, it := range items {
			it.fail(err)
		}
		if all {
			l.fallbackAll(items, err)
			return
		}
		for _, it := range items {
			l.fallback(it, err)
		}
		return
	}
	l.verify(ctx, items, &r, all)
	now := l.clock.now()
	l.clock.learn(r.now, arrived)
	l.trip.Store((3*l.trip.Load() + now - sent) / 4)
	passed := true
	for i, it := range items {
		a := r.answers[i]
		it.rule.stats.calls.Add(1)
		passed = passed && (a.Granted >= it.cost || it.soft())
	}
	for i, it := range items {
		a := r.answers[i]
		retry := a.Retry
		if !all || passed || a.Granted < it.cost {
			retry = l.learn(it, a, sent, now)
		}
		result := Result{
			Reason: ReasonChecked, Used: a.Used - max(0, a.Granted-it.cost),
			ResetAfter: micros(a.Reset), RetryAfter: micros(retry),
		}
		if i == 0 {
			result.Commands = r.commands
			it.rule.stats.commands.Add(r.commands)
		}
		granted := a.Granted >= it.cost
		if all && !passed && granted {
			result.Reason, result.Used = ReasonOther, a.Used-a.Granted
			granted = false
		}
		if it.cost == 0 {
			continue // a refill, which nobody asked about
		}
		l.finish(it, result, granted)
		l.sample(it)
	}
}

// fail ends what others may be waiting for.
func (it *item) fail(err error) {
	spared := errors.Is(err, errSpared)
	if !spared {
		it.rule.stats.errors.Add(1)
	}
	if it.local == nil {
		return
	}
	it.local.mu.Lock()
	defer it.local.mu.Unlock()
	if spared || errors.Is(err, errLeftAlone) || errors.Is(err, errNoClient) {
		it.local.ledger.Return(it.want.Give)
	} else {
		it.rule.stats.leaseExpired.Add(it.want.Give.Units) // perhaps given back; never twice
	}
	it.land(err)
}

// askTwice calls the script, and once more when our idea of the date was so wrong that the server's time
// is in none of the calendar periods that were sent, or when a bucket must be fetched from the opposite side.
func (l *Limiter) askTwice(ctx context.Context, items []*item, all bool, sent int64) (reply, error) {
	on := l.side(items[0].other)
	if on.client == nil {
		return reply{}, errNoClient
	}
	if l.spares(items) {
		return reply{}, errSpared
	}
	if !on.breaker.admit() {
		return reply{}, errLeftAlone
	}
	asks := make([]ask, len(items))
	for i, it := range items {
		asks[i] = ask{
			plan: it.plan, key: it.key, former: l.formerHere(it), soft: it.soft(), carry: l.carry(it),
			Ask: window.Ask{
				Min: max(1, it.cost), Want: it.want.Want, Hold: it.want.Hold,
				Give: it.want.Give.Units, Stamp: it.want.Give.Stamp,
			},
		}
	}
	r, err := l.call(ctx, on, asks, all, l.clock.server(sent))
	for range fetches {
		undecided := func(a answer) bool { return a.outside || a.moved }
		if err != nil || !slices.ContainsFunc(r.answers, undecided) {
			break
		}
		r, err = l.again(ctx, on, items, asks, all, r)
	}
	for i, a := range r.answers {
		if a.moved { // others fetch it all the time
			r.answers[i] = answer{Decision: window.Decision{Used: items[i].plan.policy.Capacity(), Retry: spurious, RetryWant: spurious}}
		}
	}
	on.breaker.done(err == nil || !unusable(ctx, err))
	return r, err
}

// again asks about what first could not decide, and with all about everything, since nothing was taken then.
func (l *Limiter) again(ctx context.Context, on side, items []*item, asks []ask, all bool, first reply) (reply, error) {
	var open, moved []int
	for i, a := range first.answers {
		if a.moved {
			moved = append(moved, i)
		} else {
			asks[i].Give = 0 // done; of a bucket that is not here nothing was
		}
		if all || a.outside || a.moved {
			open = append(open, i)
		}
	}
	var commands int64
	if len(moved) > 0 {
		commands = l.fetch(ctx, items, asks, first.answers, moved)
	}
	next := make([]ask, len(open))
	for n, i := range open {
		next[n] = asks[i]
	}
	r, err := l.call(ctx, on, next, all, first.now)
	r.commands += commands + first.commands
	if err != nil {
		return r, err
	}
	answers := slices.Clone(first.answers)
	for n, i := range open {
		answers[i] = r.answers[n]
	}
	r.answers = answers
	return r, nil
}

// unusable is whether err says that Redis cannot be used, rather than that the caller gave up or
// that one key is wrong.
func unusable(ctx context.Context, err error) bool {
	if server, ok := errors.AsType[redis.Error](err); ok {
		for _, word := range []string{"LOADING", "OOM", "READONLY", "MISCONF", "CLUSTERDOWN", "MASTERDOWN", "NOAUTH", "NOPERM", "ERR max"} {
			if strings.HasPrefix(server.Error(), word) {
				return true
			}
		}
		return false
	}
	return !errors.Is(ctx.Err(), context.Canceled)
}

// bySlot groups items that one script call may be about: of one side, and on a Cluster of one slot.
func (l *Limiter) bySlot(items []*item) [][]*item {
	if !l.opts.Cluster && l.opts.Other == nil {
		return [][]*item{items}
	}
	groups := map[string][]*item{}
	for _, it := range items {
		name := "old"
		if it.other {
			name = "other"
		}
		if l.side(it.other).cluster {
			name += ":" + it.subject
		}
		groups[name] = append(groups[name], it)
	}
	var out [][]*item
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		out = append(out, groups[name])
	}
	return out
}

// together decides items all or none.
func (l *Limiter) together(ctx context.Context, items []*item) {
	now := l.clock.now()
	var open, held []*item
	blocked := false
	for _, it := range items {
		blocked = l.blocked(it, now) || blocked
	}
	for _, it := range items {
		switch {
		case it.done:
		case blocked:
			l.finish(it, Result{Reason: ReasonOther}, false)
		case l.reserve(it, now):
			held = append(held, it)
		default:
			open = append(open, it)
		}
	}
	passed := !blocked
	if len(open) > 0 {
		ctx, cancel := context.WithTimeout(ctx, l.patience())
		defer cancel()
		l.ask(ctx, open, true)
		for _, it := range open {
			passed = passed && it.result.Allowed
		}
	}
	for _, it := range held {
		it.local.mu.Lock()
		if !passed {
			it.local.ledger.Cancel(it.taken)
		}
		r := it.local.known(now, ReasonLeased)
		it.local.mu.Unlock()
		if !passed {
			r.Reason = ReasonOther
		}
		l.finish(it, r, passed)
	}
}

// blocked finishes an item that memory knows to be denied, and says whether that denies the others.
func (l *Limiter) blocked(it *item, now int64) bool {
	if it.cost > it.plan.policy.Capacity() {
		l.finish(it, Result{Reason: ReasonTooLarge}, false)
		return !it.soft()
	}
	if it.plan.bounds.Units >= 2 {
		it.local = l.locals.make(it.key, l.memory(it.key, it.other), it.plan, it.other, now)
	} else {
		it.local = l.locals.find(l.memory(it.key, it.other), it.plan, now)
	}
	if it.local == nil {
		return false
	}
	e := it.local
	e.mu.Lock()
	defer e.mu.Unlock()
	if it.plan.bounds.Units >= 2 {
		e.ledger.Observe(now, it.cost)
		if e.ledger.Held() >= it.cost {
			return false
		}
	}
	wait := e.ledger.Denied(now, it.cost)
	if wait == 0 {
		return false
	}
	r := e.known(now, ReasonBlocked)
	r.RetryAfter = micros(wait)
	l.finish(it, r, false)
	return !it.soft()
}

// reserve takes the item's cost out of a lease.
func (l *Limiter) reserve(it *item, now int64) bool {
	if it.local == nil || it.plan.bounds.Units < 2 {
		return false
	}
	it.local.mu.Lock()
	defer it.local.mu.Unlock()
	taken, ok := it.local.ledger.Reserve(now, it.cost)
	it.taken = taken
	return ok
}

// giveBack returns what is held of all keys.
func (l *Limiter) giveBack(ctx context.Context) {
	var items []*item
	now := l.clock.now()
	byPlan := map[*plan]*compiled{}
	for _, c := range l.rules.Load().order {
		byPlan[c.base] = c
		for _, p := range c.tiers {
			byPlan[p] = c
		}
	}
	for _, e := range l.locals.all() {
		c := byPlan[e.plan]
		if c == nil {
			continue
		}
		e.mu.Lock()
		for _, parcel := range e.ledger.Drop(now) {
			it := &item{rule: c, plan: e.plan, key: e.key, subject: e.key, other: e.other}
			it.want.Give = parcel
			items = append(items, it)
		}
		e.mu.Unlock()
	}
	for _, group := range l.bySlot(items) {
		for part := range slices.Chunk(group, l.opts.MaxBatch) {
			l.give(ctx, part)
		}
	}
}

// give returns units of items in one call.
func (l *Limiter) give(ctx context.Context, items []*item) {
	on := l.side(items[0].other)
	if on.client == nil || !on.breaker.admit() {
		return
	}
	asks := make([]ask, len(items))
	for i, it := range items {
		asks[i] = ask{plan: it.plan, key: it.key, carry: l.staying(it), Ask: window.Ask{Give: it.want.Give.Units, Stamp: it.want.Give.Stamp}}
	}
	r, err := l.call(ctx, on, asks, false, l.clock.server(l.clock.now()))
	on.breaker.done(err == nil)
	for i, it := range items {
		if err != nil {
			it.rule.stats.leaseExpired.Add(it.want.Give.Units)
			continue
		}
		it.rule.stats.leaseReturned.Add(it.want.Give.Units)
		if i == 0 {
			it.rule.stats.commands.Add(r.commands)
		}
	}
}
