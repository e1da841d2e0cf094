package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// limits reports what contradicts what in the rate limits.
func (k *checker) limits() {
	l := k.config.Limits
	if l.Environment != "" && !validName.MatchString(l.Environment) {
		k.bad("limits.environment", "got %s, want 1 to 64 letters, digits, dots, hyphens and underscores", quote(l.Environment))
	}
	if n := len(l.HashKey); n > 0 && n < 16 {
		k.bad("limits.hash_key", "is %d bytes long, want at least 16; make one with: openssl rand -hex 32", n)
	}
	for i, network := range l.TrustedProxies {
		if _, err := ParseNetwork(network); err != nil {
			k.bad(fmt.Sprintf("limits.trusted_proxies[%d]", i), "got %s, want a network such as 10.0.0.0/8, or an address", quote(network))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.Rules)) {
		k.rule("limits.rules."+name, l.Rules[name])
	}
}

func (k *checker) rule(key string, r Rule) {
	if r.Limit == 0 {
		k.bad(key+".limit", "missing; write how many requests each period allows")
	}
	calendar := r.Algorithm == Calendar
	switch {
	case !calendar && r.Period == 0:
		k.bad(key+".period", "missing; write the length of the window, such as 1m")
	case calendar && r.Period != 0:
		k.bad(key+".period", "a calendar rule counts by day or month; write every instead")
	}
	if r.Burst > 0 && r.Algorithm != TokenBucket {
		k.bad(key+".burst", "only a token-bucket has one, and this rule is a %s", r.Algorithm)
	}
	if r.Buckets > 0 && r.Algorithm != SlidingWindow {
		k.bad(key+".buckets", "only a sliding-window has them, and this rule is a %s", r.Algorithm)
	}
	if !calendar && r.Every != "" {
		k.bad(key+".every", "only a calendar rule has it; write period instead")
	}
	if !calendar && r.TimeZone != "" {
		k.bad(key+".time_zone", "only a calendar rule has one")
	}
	if _, err := time.LoadLocation(r.TimeZone); err != nil {
		k.bad(key+".time_zone", "got %s, want the name of a time zone, such as Europe/Berlin", quote(r.TimeZone))
	}
	k.legacy(key, r)
}

func (k *checker) legacy(key string, r Rule) {
	switch {
	case r.Legacy == "":
		if r.LegacyShare {
			k.bad(key+".legacy_share", "needs legacy, the key that is shared")
		}
	case !strings.Contains(r.Legacy, "{user}"):
		k.bad(key+".legacy", "got %s, which has no {user}: all would share one key", quote(r.Legacy))
	case r.Algorithm == TokenBucket || r.Algorithm == Calendar:
		k.bad(key+".legacy", "a %s cannot count what a former sliding window holds", r.Algorithm)
	case r.LegacyShare && r.Algorithm != SlidingLog:
		k.bad(key+".legacy_share", "needs algorithm sliding-log, and this rule is a %s", r.Algorithm)
	case r.Lease == LeaseOn:
		k.bad(key+".lease", "cannot be on while a former limiter counts beside us (legacy)")
	}
}

// UsableRules are the rules that can work as configured. The default rule sms counts by hashed telephone
// numbers, so without hash_key it is left out, unless the file itself asks for it.
func (c *Config) UsableRules() map[string]Rule {
	rules := maps.Clone(c.Limits.Rules)
	if _, asked := c.origins["limits.rules.sms"]; !asked && c.Limits.HashKey == "" {
		delete(rules, "sms")
	}
	return rules
}

// unhashable reports the rules that need a hash_key while there is none.
func (c *Config) unhashable() []*Problem {
	var all []*Problem
	if c.Limits.HashKey != "" {
		return nil
	}
	rules := c.UsableRules()
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		if r := rules[name]; r.HashSubject || r.By == ByPhone {
			key := "limits.rules." + name
			all = append(all, &Problem{
				Key: key, Origin: c.originNear(key),
				Message: "stores whom it counts only hashed, and limits.hash_key is missing; set REDISOPT_LIMIT_HASH_KEY or REDISOPT_LIMIT_HASH_KEY_FILE, the same on all replicas (openssl rand -hex 32)",
			})
		}
	}
	return all
}

// ParseNetwork reads a network such as 10.0.0.0/8, or a single address.
func ParseNetwork(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}
