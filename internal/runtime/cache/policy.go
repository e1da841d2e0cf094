package cache

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A policy is how one entry is kept: what its writer asked for, made to fit.
type policy struct {
	codec    Codec
	fresh    time.Duration
	kept     time.Duration // fresh and stale time
	forever  bool
	believed time.Duration // in memory
	clamped  bool
	sealed   bool
	tags     []string // in the upstream, the owner's first
}

// policy decides how an entry is kept, or refuses it.
func (c *Cache) policy(a address, o SetOptions) (policy, error) {
	refuse := func(format string, args ...any) (policy, error) {
		return policy{}, fmt.Errorf("%w: key %q: %s", ErrClass, shorten(a.text), fmt.Sprintf(format, args...))
	}
	sp := a.space
	name := or(o.Class, sp.Class)
	class, ok := c.opts.Classes[name]
	switch {
	case name != "" && !ok:
		return refuse("no class %q is configured; there are %s", name, strings.Join(slices.Sorted(maps.Keys(c.opts.Classes)), ", "))
	case class.LimiterOnly:
		return refuse("class %s is for rate limits, not for cache entries", name)
	case sp.sensitive && name != sp.Class:
		return refuse("namespace %s only holds entries of class %s", sp.name, sp.Class)
	case class.Sensitive && !sp.sensitive:
		return refuse("class %s is sensitive; use the namespace that is made for it (%s)", name, strings.Join(c.spaces.of(name), ", "))
	case class.Sensitive && c.ring.first == "":
		return refuse("class %s is sensitive and no encryption key is configured", name)
	}
	p := policy{codec: or(o.Codec, sp.Codec), forever: o.NoExpiry, sealed: class.Sensitive}
	if !p.codec.known() || (p.codec == IORedisJSON) != sp.bare {
		return policy{}, fmt.Errorf("%w: key %q: codec %q cannot be used in a namespace of codec %s", ErrValue, shorten(a.text), p.codec, sp.Codec)
	}
	var err error
	if p.tags, err = c.tagsOf(a, o.Tags); err != nil {
		return policy{}, err
	}
	if sp.bare && (o.StaleFor > 0 || o.Negative || len(p.tags) > 0) {
		return refuse("ioredis-json entries have no envelope, so tags, stale time and negative entries cannot be kept there")
	}
	if o.NoExpiry {
		if o.TTL != 0 || o.StaleFor != 0 || len(p.tags) > 0 {
			return refuse("an entry without expiry cannot have a time to live, a stale time or tags")
		}
		p.believed = c.believed(class, c.opts.MaxTTL)
		return p, nil
	}
	return p, c.times(&p, a, o, class)
}

// times fills in how long an entry is kept.
func (c *Cache) times(p *policy, a address, o SetOptions, class Class) error {
	if o.TTL < 0 || o.TTL > 0 && o.TTL < time.Millisecond || o.StaleFor < 0 {
		return fmt.Errorf("%w: key %q: time to live %s and stale time %s, want at least 1ms and 0s", ErrClass, shorten(a.text), o.TTL, o.StaleFor)
	}
	stale := or(o.StaleFor, class.StaleFor)
	switch {
	case o.TTL > 0:
		p.fresh = o.TTL
	case o.Negative:
		p.fresh = or(class.NegativeTTL, c.opts.NegativeTTL)
	default:
		p.fresh = or(class.TTL, c.opts.DefaultTTL)
	}
	if o.Negative || a.space.bare {
		stale = 0
	}
	if p.fresh > c.opts.MaxTTL {
		p.fresh, p.clamped = c.opts.MaxTTL, true
	}
	if (o.TTL == 0 || o.jitter) && c.opts.Jitter > 0 {
		p.fresh -= time.Duration(rand.Float64() * c.opts.Jitter * float64(p.fresh))
	}
	p.fresh = max(time.Millisecond, p.fresh.Truncate(time.Millisecond))
	if p.fresh+stale > c.opts.MaxTTL {
		stale, p.clamped = c.opts.MaxTTL-p.fresh, true
	}
	p.kept = (p.fresh + stale).Truncate(time.Millisecond)
	p.believed = c.believed(class, p.fresh)
	return nil
}

// believed is how long an entry in memory is served without looking at the upstream.
func (c *Cache) believed(class Class, fresh time.Duration) time.Duration {
	switch {
	case class.L1TTL > 0:
		return min(class.L1TTL, fresh)
	case class.L1TTL < 0 || class.Sensitive:
		return 0
	}
	return min(max(fresh/10, time.Second), c.opts.MaxL1TTL, fresh)
}

// tagsOf are the places of the owner's tag and of the given tags, each once.
func (c *Cache) tagsOf(a address, tags []string) ([]string, error) {
	if a.owner == "" && len(tags) == 0 {
		return nil, nil
	}
	out := make([]string, 0, 1+len(tags))
	if a.owner != "" {
		out = append(out, a.owner)
	}
	for _, tag := range tags {
		store, err := c.tagKey(tag)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, store) {
			out = append(out, store)
		}
	}
	if len(out) > maxTags {
		return nil, fmt.Errorf("%w: key %q: %d tags, want at most %d", ErrKey, shorten(a.text), len(out), maxTags)
	}
	return out, nil
}

// of are the configured namespaces of a class.
func (s *spaces) of(class string) []string {
	var names []string
	for name, sp := range s.configured {
		if sp.Class == class {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if names == nil {
		return []string{"none is configured"}
	}
	return names
}
