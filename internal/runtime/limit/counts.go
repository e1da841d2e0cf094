package limit

import (
	"sync"
	"sync/atomic"
	"time"
)

// counts are the RuleStats of one rule as they grow.
type counts struct {
	name                                    string
	allowed, denied, over, near             atomic.Int64
	calls, commands, errors                 atomic.Int64
	leaseHits, denyHits                     atomic.Int64
	leaseTaken, leaseReturned, leaseExpired atomic.Int64
	bypassed, local, shut, nobody           atomic.Int64
	carried, alone                          atomic.Int64
	mu                                      sync.Mutex
	told                                    map[EventKind]*told
}

// told is when an event was last told, and how many were not since.
type told struct {
	at         time.Time
	suppressed int64
}

// eventEvery is how often an event of one rule and kind is told.
const eventEvery = time.Second

// may is whether an event of kind may be told now, and how many were not told before it.
func (c *counts) may(kind EventKind, now time.Time) (bool, int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told == nil {
		c.told = map[EventKind]*told{}
	}
	t := c.told[kind]
	if t == nil {
		t = &told{}
		c.told[kind] = t
	} else if now.Sub(t.at) < eventEvery {
		t.suppressed++
		return false, 0
	}
	n := t.suppressed
	t.at, t.suppressed = now, 0
	return true, n
}

func (c *counts) snapshot() RuleStats {
	s := RuleStats{
		Rule: c.name, Allowed: c.allowed.Load(), Denied: c.denied.Load(), OverLimit: c.over.Load(), NearLimit: c.near.Load(),
		Calls: c.calls.Load(), Commands: c.commands.Load(), Errors: c.errors.Load(),
		LeaseHits: c.leaseHits.Load(), DenyHits: c.denyHits.Load(),
		LeaseTaken: c.leaseTaken.Load(), LeaseReturned: c.leaseReturned.Load(), LeaseExpired: c.leaseExpired.Load(),
		Bypassed: c.bypassed.Load(), Local: c.local.Load(), FailShut: c.shut.Load(), NoWho: c.nobody.Load(),
		Carried: c.carried.Load(), Alone: c.alone.Load(),
	}
	s.Checks = s.Allowed + s.Denied
	return s
}

// book are the counts of all rules there ever were.
type book struct {
	mu    sync.Mutex
	rules map[string]*counts
	order []*counts
}

// rule are the counts of a rule, made on first use; they outlive its replacement.
func (b *book) rule(name string) *counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rules == nil {
		b.rules = map[string]*counts{}
	}
	c := b.rules[name]
	if c == nil {
		c = &counts{name: name}
		b.rules[name] = c
		b.order = append(b.order, c)
	}
	return c
}

// snapshot has the rules of set first.
func (b *book) snapshot(set *ruleSet) []RuleStats {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := []RuleStats{}
	for _, c := range set.order {
		all = append(all, c.stats.snapshot())
	}
	for _, c := range b.order {
		if set.byName[c.name] == nil {
			all = append(all, c.snapshot())
		}
	}
	return all
}
