// Package limit decides whether a request may go on.
//
// Redis counts, in one script for each check and by its own clock, so that replicas agree whatever their
// clocks say. What is known without asking costs no command: a denial holds until the first unit is free
// again, and a busy rule takes units in advance and spends them here (a lease). A request that is denied
// consumes nothing. When Redis does not answer in time the rule's OnError decides, and it is counted.
//
// # Price
//
// A check that asks Redis is billed 4 commands when it is admitted (EVALSHA and, inside it, TIME, MGET,
// SET) and 3 when it is denied; 1 more on the first check after the server forgot the script, and 1 more
// while a former limiter's set is read. CheckMany of n limits is billed 3, and 1 for each key that admits.
// A lease costs as much as one check.
//
// # What is admitted
//
// Bound says for each rule what it admits at worst; Policy.Bound of package window says why. Leases do
// not add to it: what is taken in advance counts until the end of the window that follows the last moment
// at which it may be spent.
package limit

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/limit/lease"
	"github.com/redisopt/redisopt/internal/runtime/limit/window"
)

// A Limiter checks requests against rules. It is safe for concurrent use.
type Limiter struct {
	opts         Options
	rules        atomic.Pointer[ruleSet]
	setting      sync.Mutex // one SetRules at a time
	book         book
	locals       *locals
	clock        *clock
	breaker      breaker
	otherBreaker breaker // of Options.Other
	nonce        string
	serial       atomic.Int64
	trip         atomic.Int64 // how long a call takes, in microseconds, averaged
	refills      sync.WaitGroup
	closing      atomic.Bool
	spared       atomic.Bool // see DecideHere
	comparisons  chan comparison
}

// New makes a Limiter and reports all problems of o at once. It sends nothing and starts nothing.
func New(o Options) (*Limiter, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	nonce := make([]byte, 6)
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("name this process: %w", err)
	}
	l := &Limiter{
		opts: o, locals: newLocals(o.MaxLocal), clock: newClock(),
		breaker: breaker{failures: o.Failures, pause: o.Pause}, otherBreaker: breaker{failures: o.Failures, pause: o.Pause},
		comparisons: make(chan comparison, compareWaiting),
		nonce:       "r" + hex.EncodeToString(nonce) + ".",
	}
	set, err := compile(o.Rules, o, l.book.rule, nil)
	if err != nil {
		return nil, err
	}
	l.rules.Store(set)
	return l, nil
}

// Check asks for one request. The error is one of ErrUnknownRule, ErrNoIdentity and ErrBadCost;
// everything else that goes wrong is decided by the rule's OnError. It takes at most Options.Deadline.
func (l *Limiter) Check(ctx context.Context, req Request) (Result, error) {
	it, err := l.prepare(req)
	if err != nil {
		return Result{}, err
	}
	now := l.clock.now()
	waiting := l.fromMemory(&it, now, true)
	if it.done {
		return it.result, nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.patience())
	defer cancel()
	if waiting != nil {
		if err := waiting.wait(ctx); err != nil {
			l.fallback(&it, err)
			return it.result, nil
		}
		l.fromMemory(&it, l.clock.now(), false)
		if it.done {
			return it.result, nil
		}
	}
	l.ask(ctx, []*item{&it}, false)
	return it.result, nil
}

// patience is how long Redis is waited for: a tenth of the deadline is left for the way back.
func (l *Limiter) patience() time.Duration { return l.opts.Deadline - l.opts.Deadline/10 }

// CheckMany asks for each request on its own: one that is denied does not keep the others from passing.
// It is one script call for all that memory cannot answer; on a Cluster one for each slot, and all limits
// of one subject are in one slot. Strictest picks the result that matters most.
func (l *Limiter) CheckMany(ctx context.Context, reqs []Request) ([]Result, error) {
	items, err := l.prepareAll(reqs)
	if err != nil {
		return nil, err
	}
	now := l.clock.now()
	var open []*item
	for i := range items {
		if l.fromMemory(&items[i], now, true); !items[i].done {
			open = append(open, &items[i])
		}
	}
	if len(open) > 0 {
		ctx, cancel := context.WithTimeout(ctx, l.patience())
		defer cancel()
		for _, group := range l.bySlot(open) {
			l.ask(ctx, group, false)
		}
	}
	return results(items), nil
}

// CheckAll asks for all requests or none: when one of a rule that enforces is denied, none consumes
// anything and none is Allowed; those that would have passed have ReasonOther. It is one script call. On a
// Cluster all requests must be about one subject; others are refused with ErrSlots, and so are requests
// that Options.Other has on different sides for good.
func (l *Limiter) CheckAll(ctx context.Context, reqs []Request) ([]Result, error) {
	items, err := l.prepareAll(reqs)
	if err != nil {
		return nil, err
	}
	all := make([]*item, len(items))
	for i := range items {
		all[i] = &items[i]
	}
	align(all)
	if len(l.bySlot(all)) > 1 {
		return nil, ErrSlots
	}
	l.together(ctx, all)
	return results(items), nil
}

func results(items []item) []Result {
	out := make([]Result, len(items))
	for i := range items {
		out[i] = items[i].result
	}
	return out
}

// Rules are the rules in force, with their defaults, in the order in which they were given.
func (l *Limiter) Rules() []Rule {
	out := []Rule{}
	for _, c := range l.rules.Load().order {
		out = append(out, c.Rule)
	}
	return out
}

// SetRules replaces the rules, all of them at once, for checks that begin from now on. On an error, which
// names all problems, the old ones stay. What was used stays used, where the algorithm and the period are
// the same; leases of the old rules are forgotten and what they had not spent counts as used.
func (l *Limiter) SetRules(rules []Rule) error {
	l.setting.Lock()
	defer l.setting.Unlock()
	set, err := compile(rules, l.opts, l.book.rule, l.rules.Load())
	if err != nil {
		return err
	}
	l.rules.Store(set)
	return nil
}

// Bound is what the named rule admits at worst, for a tier ("" for none), by its algorithm and its leases.
func (l *Limiter) Bound(rule, tier string) (window.Bound, error) {
	c := l.rules.Load().byName[rule]
	if c == nil {
		return window.Bound{}, fmt.Errorf("%q: %w", rule, ErrUnknownRule)
	}
	return c.bound(c.tier(tier), l.opts.Instances), nil
}

// Price is what a check of the named rule is billed, for a tier ("" for none), when memory cannot answer it.
func (l *Limiter) Price(rule, tier string) (Price, error) {
	c := l.rules.Load().byName[rule]
	if c == nil {
		return Price{}, fmt.Errorf("%q: %w", rule, ErrUnknownRule)
	}
	p := Price{Admitted: 4, Denied: 3}
	switch {
	case c.LegacyShare:
		p = Price{Admitted: 6, Denied: 3}
	case c.Legacy != "":
		p = Price{Admitted: 5, Denied: 5}
	}
	p.Leased = float64(p.Admitted)
	if units := c.tier(tier).bounds.Units; units >= 2 {
		p.Leased /= float64(min(lease.Aim, units))
	}
	return p, nil
}

// A Price is the billed commands of one check, those inside the script included.
type Price struct {
	Admitted int64   `json:"admitted"` // Redis was asked and admitted it
	Denied   int64   `json:"denied"`   // Redis was asked and denied it, at most; the next denials cost nothing
	Leased   float64 `json:"leased"`   // of each admitted check at a demand that uses leases up
}

// Stats are the counts so far. It sends nothing.
func (l *Limiter) Stats() Stats {
	return Stats{Rules: l.book.snapshot(l.rules.Load()), LocalKeys: l.locals.len(), BreakerOpen: l.breaker.open()}
}

// idle is after how long an unused key is forgotten.
const idle = 10 * time.Minute

// Run forgets what is long unused, and compares decisions of both sides as Options.Other has it, until ctx ends;
// then it calls Close. It returns nil.
func (l *Limiter) Run(ctx context.Context) error {
	var comparing sync.WaitGroup
	defer comparing.Wait()
	if l.opts.Other != nil {
		comparing.Go(func() { l.compare(ctx) })
	}
	tick := time.NewTicker(idle / 10)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			l.Close(closing)
			return nil
		case <-tick.C:
			l.locals.sweep(l.clock.now() - idle.Microseconds())
		}
	}
}

// Close waits for what is under way and gives unspent units back: a script call for each hundred keys, of
// 3 commands and 1 for each key. What cannot be given back before ctx ends counts as used until its time
// is over. Checks still work afterwards and take nothing in advance.
func (l *Limiter) Close(ctx context.Context) {
	l.closing.Store(true)
	l.refills.Wait()
	l.giveBack(ctx)
}
