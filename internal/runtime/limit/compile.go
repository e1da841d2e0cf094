package limit

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/limit/lease"
	"github.com/redisopt/redisopt/internal/runtime/limit/window"
)

// leaseFrom is the limit a minute from which LeaseAuto leases.
const leaseFrom = 200

// maxHold is the longest that tokens are held, whatever the period.
const maxHold = time.Minute

// compiled is a rule ready for use. It is never changed.
type compiled struct {
	Rule
	base  *plan
	tiers map[string]*plan
	loc   *time.Location
	stats *counts
}

// plan is a rule with the limit of one tier.
type plan struct {
	policy window.Policy
	share  window.Policy // of this process alone, while Redis is away
	bounds lease.Bounds  // zero: no leases
	letter string        // what the script calls the algorithm
}

// ruleSet is all rules in force.
type ruleSet struct {
	byName map[string]*compiled
	order  []*compiled
}

// compile validates rules as a whole and reports all problems.
// A rule that is as it is in old stays the same one, with what is known of its keys.
func compile(rules []Rule, o Options, stats func(name string) *counts, old *ruleSet) (*ruleSet, error) {
	set := &ruleSet{byName: map[string]*compiled{}}
	var errs []error
	for i, r := range rules {
		r = r.withDefaults()
		name := r.Name
		if name == "" {
			name = fmt.Sprintf("%d", i+1)
		}
		problems := []error{r.validate()}
		if set.byName[r.Name] != nil {
			problems = append(problems, errors.New("name: there is another rule of that name"))
		}
		if r.HashSubject && len(o.HashKey) == 0 {
			problems = append(problems, errors.New("hash_subject: needs a hash key, the same in every replica"))
		}
		if r.Legacy != "" && o.Cluster {
			problems = append(problems, errors.New("legacy: cannot be read on a Cluster, where it is in another slot than our own count"))
		}
		if err := errors.Join(problems...); err != nil {
			errs = append(errs, fmt.Errorf("rule %s: %w", name, err))
			continue
		}
		c := newCompiled(r, o.Instances)
		if old != nil && old.byName[r.Name] != nil && reflect.DeepEqual(old.byName[r.Name].Rule, r) {
			c = old.byName[r.Name]
		}
		set.byName[r.Name] = c
		set.order = append(set.order, c)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, c := range set.order {
		c.stats = stats(c.Name)
	}
	return set, nil
}

func newCompiled(r Rule, instances int) *compiled {
	c := &compiled{Rule: r, tiers: map[string]*plan{}}
	if r.Algorithm == Calendar {
		c.loc, _ = time.LoadLocation(r.TimeZone) // validate has loaded it
	}
	c.base = c.plan(r.Limit, instances)
	for tier, limit := range r.Tiers {
		c.tiers[tier] = c.plan(limit, instances)
	}
	return c
}

func (c *compiled) plan(limit int64, instances int) *plan {
	p := &plan{policy: window.Policy{
		Algorithm: c.Algorithm, Limit: limit, Period: c.Period,
		Buckets: c.Buckets, Every: c.Every, Location: c.loc,
	}}
	if c.Algorithm == TokenBucket {
		p.policy.Burst = max(1, int64(float64(c.Burst)*float64(limit)/float64(c.Limit)))
	}
	if c.leases(limit) {
		p.bounds = lease.Bounds{
			Units: p.policy.Capacity() / int64(4*instances),
			Hold:  min(c.nominal()/4, maxHold).Microseconds(),
		}
	}
	p.share = p.policy
	p.share.Limit = max(1, p.policy.Limit/int64(instances))
	p.share.Burst = max(1, p.policy.Burst/int64(instances))
	switch c.Algorithm {
	case SlidingWindow, SlidingLog:
		p.letter = "L"
	case SlidingCounter:
		p.letter = "C"
	case FixedWindow, Calendar:
		p.letter = "F"
	case TokenBucket:
		p.letter = "G"
	}
	if c.LegacyShare {
		p.letter = "Z"
	}
	return p
}

// nominal is the period, for a Calendar rule its least length.
func (r Rule) nominal() time.Duration {
	switch {
	case r.Algorithm != Calendar:
		return r.Period
	case r.Every == window.Month:
		return 28 * 24 * time.Hour
	}
	return 23 * time.Hour
}

func (r Rule) leases(limit int64) bool {
	if r.Legacy != "" || r.Lease == LeaseOff {
		return false
	}
	return r.Lease == LeaseOn || float64(limit)*float64(time.Minute)/float64(r.nominal()) >= leaseFrom
}

// tier is the plan for a tier's name.
func (c *compiled) tier(name string) *plan {
	if p, ok := c.tiers[name]; ok {
		return p
	}
	return c.base
}

// key is where a subject is counted.
func (c *compiled) key(prefix, feature, subject string) string {
	var b strings.Builder
	b.Grow(len(prefix) + len(c.Name) + len(feature) + len(subject) + 5)
	b.WriteString(prefix)
	b.WriteByte(':')
	b.WriteString(c.Name)
	if feature != "" {
		b.WriteByte('/')
		b.WriteString(escape(feature))
	}
	b.WriteString(":{")
	b.WriteString(subject)
	b.WriteByte('}')
	return b.String()
}

// former is the key of the former limiter's set.
func (c *compiled) former(user string) string {
	if c.Legacy == "" {
		return ""
	}
	return strings.ReplaceAll(strings.ReplaceAll(c.Legacy, "{type}", c.Name), "{user}", user)
}

// bound is what the rule admits at worst.
func (c *compiled) bound(p *plan, instances int) window.Bound {
	if p.bounds.Units < 2 {
		return p.policy.Bound(window.Holding{})
	}
	return p.policy.Bound(window.Holding{
		Units: p.bounds.Units, Replicas: instances, Hold: time.Duration(p.bounds.Hold) * time.Microsecond,
	})
}

// Resolve is what a rule decides by and may hold in advance, for whoever decides without a Limiter. It
// reports all problems of the rule.
func Resolve(r Rule, instances int) (window.Policy, lease.Bounds, error) {
	r = r.withDefaults()
	if err := r.validate(); err != nil {
		return window.Policy{}, lease.Bounds{}, fmt.Errorf("rule %s: %w", r.Name, err)
	}
	p := newCompiled(r, max(1, instances)).base
	return p.policy, p.bounds, nil
}
