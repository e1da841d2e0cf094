package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Limits configures the rate limits.
type Limits struct {
	// Environment is the first part of every key, so that two environments can share a database.
	// Default none.
	Environment string `yaml:"environment"`

	// Deadline is the longest a check may take in all; after it the rule's on_error decides. Default
	// 50ms.
	Deadline time.Duration `yaml:"deadline" min:"1ms" max:"1m"`

	// Instances is how many replicas of serve there are: without an upstream each of them counts up to
	// its share of a limit. Default 1.
	Instances int `yaml:"instances" jsonschema:"minimum=1,maximum=10000"`

	// HashKey is the secret under which telephone numbers and other hashed subjects are stored: the same
	// on all replicas, at least 16 bytes. Default none: the default rule sms is then left out, and any
	// other rule that needs it is refused.
	HashKey Secret `yaml:"hash_key" env:"REDISOPT_LIMIT_HASH_KEY"`

	// TrustedProxies are the networks, such as 10.0.0.0/8, whose X-Forwarded-For is believed when a
	// rule counts by address. Default none: the address of the connection counts.
	TrustedProxies []string `yaml:"trusted_proxies"`

	// Rules are the limits, by the rule's name. A rule in the file is added to the default ones, or
	// changes the one of its name.
	Rules map[string]Rule `yaml:"rules"`
}

// A Rule is one rate limit.
type Rule struct {
	// Limit is the number of requests allowed in each period. Required.
	Limit int `yaml:"limit" jsonschema:"minimum=1,maximum=1000000000"`

	// Period is the length of the window. Required, except with algorithm calendar, which has every.
	Period time.Duration `yaml:"period" min:"1ms" max:"8784h"`

	// Algorithm is how to count: sliding-window never admits more than the limit in any period, in
	// bounded memory; sliding-log the same, exact to the microsecond; sliding-counter and fixed-window
	// up to twice the limit in the worst period; token-bucket a burst and then a steady rate; calendar
	// a quota for each day or month. Default sliding-window.
	Algorithm Algorithm `yaml:"algorithm" jsonschema:"enum=sliding-window,enum=sliding-log,enum=sliding-counter,enum=fixed-window,enum=token-bucket,enum=calendar"`

	// Burst is how many requests a full token-bucket lets through at once. Default 0: the limit.
	Burst int `yaml:"burst" jsonschema:"minimum=0,maximum=1000000000"`

	// Buckets is into how many parts a sliding-window divides its period: a request counts at most one
	// part too long. Default 0: 60.
	Buckets int `yaml:"buckets" jsonschema:"minimum=0,maximum=3600"`

	// Every is the period of a calendar rule. Default day.
	Every Unit `yaml:"every" jsonschema:"enum=day,enum=month"`

	// TimeZone is where the days of a calendar rule begin, such as Europe/Berlin. Default UTC.
	TimeZone string `yaml:"time_zone"`

	// By is what requests are counted by: the user's id, the bearer token, the client's address (IPv6
	// by its /64), a telephone number, or the caller's own key. Default user.
	By Identity `yaml:"by" jsonschema:"enum=user,enum=token,enum=ip,enum=phone,enum=key"`

	// Tiers are limits for users of a tier, by its name; a tier that is not listed has limit. Default
	// none.
	Tiers map[string]int `yaml:"tiers" jsonschema:"minimum=1,maximum=1000000000"`

	// OnError is what happens when the upstream does not answer in time: local counts in this
	// process, open lets the request pass, closed refuses it. Default local.
	OnError OnError `yaml:"on_error" jsonschema:"enum=local,enum=open,enum=closed"`

	// Mode is what the answer is for: enforce refuses what is over the limit, warn lets it pass and
	// says so, shadow only counts it. Default enforce.
	Mode Mode `yaml:"mode" jsonschema:"enum=enforce,enum=warn,enum=shadow"`

	// Lease is whether tokens may be taken in advance, so that most checks cost no command: auto does
	// so where the limit is 200 a minute or more. Default auto.
	Lease Lease `yaml:"lease" jsonschema:"enum=auto,enum=on,enum=off"`

	// NearRatio is the used share of the limit from which an answer says that it is near. Default 0:
	// 0.8.
	NearRatio float64 `yaml:"near_ratio" jsonschema:"minimum=0,maximum=1"`

	// HashSubject is whether who was limited is only stored and reported hashed. Always so by phone and
	// token. Default false.
	HashSubject bool `yaml:"hash_subject"`

	// Legacy is the key of the sorted set in which the application's former limiter counts, with {user}
	// and {type} in it: what it holds counts too, so that a quota carries over. It costs one command
	// more for each check, and turns leases off. Default none.
	Legacy string `yaml:"legacy"`

	// LegacyShare makes that set the only place that is counted in, by the former limiter and by us.
	// Only with sliding-log. Default false.
	LegacyShare bool `yaml:"legacy_share"`
}

// Algorithm is how a rule counts.
type Algorithm string

// The algorithms.
const (
	SlidingWindow  Algorithm = "sliding-window"
	SlidingLog     Algorithm = "sliding-log"
	SlidingCounter Algorithm = "sliding-counter"
	FixedWindow    Algorithm = "fixed-window"
	TokenBucket    Algorithm = "token-bucket"
	Calendar       Algorithm = "calendar"
)

// Unit is the period of a calendar rule.
type Unit string

// The units.
const (
	Day   Unit = "day"
	Month Unit = "month"
)

// Identity is what a rule counts by.
type Identity string

// The identities.
const (
	ByUser  Identity = "user"
	ByToken Identity = "token"
	ByIP    Identity = "ip"
	ByPhone Identity = "phone"
	ByKey   Identity = "key"
)

// Mode is what a rule's answer is for.
type Mode string

// The modes.
const (
	Enforce Mode = "enforce"
	Warn    Mode = "warn"
	Shadow  Mode = "shadow"
)

// Lease is whether tokens may be taken in advance.
type Lease string

// The lease modes.
const (
	LeaseAuto Lease = "auto"
	LeaseOn   Lease = "on"
	LeaseOff  Lease = "off"
)

// OnError is what a limiter does without an upstream.
type OnError string

// What a limiter does without an upstream.
const (
	Local  OnError = "local"  // count in this process
	Open   OnError = "open"   // let everything pass
	Closed OnError = "closed" // refuse everything
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
