package limit

import (
	"fmt"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/limit/lease"
)

// An item is one request on its way.
type item struct {
	req     Request
	rule    *compiled
	plan    *plan
	subject string
	key     string
	former  string
	cost    int64

	other   bool // counted on the side of Options.Other
	carried bool // both sides are looked at
	late    bool // and only because it was carried before

	local  *local
	want   lease.Plan
	flight *flight // that this item's call will end
	taken  lease.Reservation

	done   bool
	result Result
}

func (l *Limiter) prepareAll(reqs []Request) ([]item, error) {
	if len(reqs) > l.opts.MaxBatch {
		return nil, fmt.Errorf("%d requests, want at most %d: %w", len(reqs), l.opts.MaxBatch, ErrTooMany)
	}
	items := make([]item, len(reqs))
	for i, req := range reqs {
		it, err := l.prepare(req)
		if err != nil {
			return nil, fmt.Errorf("request %d: %w", i+1, err)
		}
		items[i] = it
	}
	return items, nil
}

func (l *Limiter) prepare(req Request) (item, error) {
	c := l.rules.Load().byName[req.Rule]
	if c == nil {
		return item{}, fmt.Errorf("%q: %w", req.Rule, ErrUnknownRule)
	}
	cost := req.Cost
	switch {
	case cost < 0:
		return item{}, fmt.Errorf("%d: %w", cost, ErrBadCost)
	case cost == 0:
		cost = 1
	}
	subject, literal, err := req.Subject.name(c.Rule, l.opts.HashKey)
	if err != nil {
		c.stats.nobody.Add(1)
		return item{}, err
	}
	it := item{req: req, rule: c, plan: c.tier(req.Tier), subject: subject, cost: cost, former: c.former(literal)}
	it.key = c.key(l.opts.Prefix, req.Feature, subject)
	if c.LegacyShare {
		it.key = it.former
	}
	it.want.Want = cost
	l.place(&it)
	return it, nil
}

// soft is whether the item's denial does not keep anything from going on.
func (it *item) soft() bool { return it.rule.Mode != Enforce }

// finish makes the item's result of what was found out, counts it and tells it.
func (l *Limiter) finish(it *item, r Result, granted bool) {
	c, p := it.rule, it.plan
	r.Rule, r.Tier, r.Subject = c.Name, it.req.Tier, it.subject
	r.Limit = p.policy.Capacity()
	r.Used = min(max(0, r.Used), max(r.Limit, r.Used))
	r.Remaining = max(0, r.Limit-r.Used)
	now := l.clock.now()
	server := l.clock.server(now)
	r.Period = p.policy.Span(server)
	r.ResetAt = time.UnixMicro(server).Add(r.ResetAfter).UTC()
	r.Allowed = granted
	if !granted && r.Reason != ReasonOther {
		r.OverLimit = r.Reason != ReasonClosed
		r.Allowed = it.soft()
		r.Warning = c.Mode == Warn
	}
	r.NearLimit = r.Allowed && !r.OverLimit && float64(r.Used) >= c.NearRatio*float64(r.Limit)
	it.result, it.done = r, true
	l.count(it)
}

func (l *Limiter) count(it *item) {
	r, s := &it.result, it.rule.stats
	if r.Allowed {
		s.allowed.Add(1)
	} else {
		s.denied.Add(1)
	}
	switch r.Reason {
	case ReasonLeased:
		s.leaseHits.Add(1)
	case ReasonBlocked:
		s.denyHits.Add(1)
	case ReasonLocal:
		s.local.Add(1)
	case ReasonOpen:
		s.bypassed.Add(1)
	case ReasonClosed:
		s.shut.Add(1)
	case ReasonChecked, ReasonTooLarge, ReasonOther:
	}
	if r.OverLimit {
		s.over.Add(1)
		l.tell(it, EventExceeded, nil)
	}
	if r.NearLimit {
		s.near.Add(1)
		l.tell(it, EventApproaching, nil)
	}
}

// tell tells an event of the item, unless one of its kind was told just now.
func (l *Limiter) tell(it *item, kind EventKind, err error) {
	if l.opts.Event == nil {
		return
	}
	now := time.Now()
	ok, suppressed := it.rule.stats.may(kind, now)
	if !ok {
		return
	}
	l.opts.Event(Event{
		Kind: kind, Rule: it.rule.Name, Subject: it.subject, Limit: it.result.Limit, Remaining: it.result.Remaining,
		Allowed: it.result.Allowed, Suppressed: suppressed, Err: err, Time: now,
	})
}
