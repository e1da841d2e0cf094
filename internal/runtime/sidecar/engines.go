package sidecar

import (
	"maps"
	"slices"

	"github.com/redisopt/redisopt/internal/runtime/cache"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/limit"
	"github.com/redisopt/redisopt/internal/runtime/limit/window"
)

// CacheOptions is what the configuration says about the cache. The caller adds the client, what counts
// commands in scripts, and whether the transport is binary-safe.
func CacheOptions(conf *config.Config) cache.Options {
	c := conf.Cache
	o := cache.Options{
		Environment:  c.Environment,
		Prefix:       c.Prefix,
		DefaultTTL:   c.DefaultTTL,
		MaxTTL:       c.MaxTTL,
		NegativeTTL:  c.NegativeTTL,
		Jitter:       offIfZero(c.Jitter),
		L1Bytes:      int64(offIfZero(c.L1Bytes)),
		MaxL1TTL:     c.L1MaxTTL,
		StaleOnError: offIfZero(c.StaleOnError),
		Deadline:     c.Deadline,
		CompressFrom: offIfZero(c.CompressFrom),
		KeySecret:    []byte(c.NameSecret.Reveal()),
		Deny:         c.Deny,
		Classes:      map[string]cache.Class{},
		Namespaces:   map[string]cache.Namespace{},
	}
	keys, _ := c.Keys() // a wrong one is a problem that Load has reported
	for _, k := range keys {
		o.Keys = append(o.Keys, cache.Key{ID: k.ID, Secret: k.Secret})
	}
	for name, class := range c.Classes {
		o.Classes[name] = cache.Class{
			TTL: class.TTL, StaleFor: class.StaleFor, L1TTL: class.L1TTL, NegativeTTL: class.NegativeTTL,
			Sensitive: class.Sensitive, LimiterOnly: class.LimiterOnly,
		}
	}
	for name, ns := range c.Namespaces {
		o.Namespaces[name] = cache.Namespace{
			Codec: cache.Codec(ns.Codec), Class: ns.Class, OwnerParts: ns.OwnerParts, Guard: ns.Guard, Allow: ns.Allow,
		}
	}
	return o
}

// offIfZero is n, or what the engines understand as "off", because in the file 0 is off and in their
// options it is the default.
func offIfZero[T ~int | ~int64 | ~float64](n T) T {
	if n == 0 {
		return -1
	}
	return n
}

// LimitOptions is what the configuration says about the limiters. The caller adds the client and what
// counts commands in scripts.
func LimitOptions(conf *config.Config) limit.Options {
	l := conf.Limits
	o := limit.Options{
		Rules:     LimitRules(conf),
		HashKey:   []byte(l.HashKey.Reveal()),
		Instances: l.Instances,
		Deadline:  l.Deadline,
	}
	if l.Environment != "" {
		o.Prefix = l.Environment + ":" + limit.DefaultPrefix
	}
	return o
}

// LimitRules are the rules of the configuration, by name. They can be replaced while a limiter runs.
func LimitRules(conf *config.Config) []limit.Rule {
	configured := conf.UsableRules()
	rules := make([]limit.Rule, 0, len(configured))
	for _, name := range slices.Sorted(maps.Keys(configured)) {
		r := configured[name]
		rule := limit.Rule{
			Name:        name,
			Algorithm:   limit.Algorithm(r.Algorithm),
			Limit:       int64(r.Limit),
			Period:      r.Period,
			Burst:       int64(r.Burst),
			Buckets:     r.Buckets,
			Every:       window.Unit(r.Every),
			TimeZone:    r.TimeZone,
			By:          limit.Identity(r.By),
			OnError:     limit.OnError(r.OnError),
			Mode:        limit.Mode(r.Mode),
			Lease:       limit.LeaseMode(r.Lease),
			NearRatio:   r.NearRatio,
			HashSubject: r.HashSubject,
			Legacy:      r.Legacy,
			LegacyShare: r.LegacyShare,
		}
		for tier, n := range r.Tiers {
			if rule.Tiers == nil {
				rule.Tiers = map[string]int64{}
			}
			rule.Tiers[tier] = int64(n)
		}
		rules = append(rules, rule)
	}
	return rules
}
