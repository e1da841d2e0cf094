package config

import (
	"time"

	"github.com/redisopt/redisopt/internal/runtime/budget"
)

// Default is the configuration that holds without flags, environment and file.
func Default() *Config {
	return &Config{
		Version: Version,
		Upstream: Upstream{
			Port:           6379,
			MaxConnections: 3,
			Timeout:        5 * time.Second,
			DialTimeout:    10 * time.Second,
			KeepAlive:      30 * time.Second,
			Retry:          Retry{Retries: 3, Base: time.Second, Cap: 10 * time.Second, Share: 0.1},
		},
		Cache: Cache{
			Prefix:       "cache",
			DefaultTTL:   3600 * time.Second,
			MaxTTL:       86400 * time.Second,
			NegativeTTL:  30 * time.Second,
			Jitter:       0.1,
			Deadline:     150 * time.Millisecond,
			L1Bytes:      64 << 20,
			L1MaxTTL:     time.Minute,
			StaleOnError: time.Hour,
			CompressFrom: 4 << 10,
			Classes: map[string]Class{
				"USER_PROFILE":  {TTL: 3600 * time.Second},
				"CONTACTS_LIST": {TTL: 1800 * time.Second},
				"SUGGESTIONS":   {TTL: 300 * time.Second},
				"RATE_LIMIT":    {TTL: 60 * time.Second, LimiterOnly: true},
				"SESSION":       {TTL: 86400 * time.Second, Sensitive: true},
			},
		},
		Limits: Limits{
			Deadline:  50 * time.Millisecond,
			Instances: 1,
			Rules: map[string]Rule{
				"api": Rule{Limit: 60, Period: time.Minute}.filled(),
				// A message costs money, and its number is personal data.
				"sms": Rule{
					Limit: 20, Period: time.Hour, Algorithm: SlidingLog, By: ByPhone,
					OnError: Closed, Lease: LeaseOff, HashSubject: true,
				}.filled(),
			},
		},
		Queues: Queues{
			Prefix:   "bull",
			Sweep:    345 * time.Second,
			Watchdog: 2 * time.Minute,
			Push:     Push{MaxConnections: 64},
			Defaults: QueueDefaults{
				Attempts:          3,
				Backoff:           time.Second,
				BacklogLimit:      10_000,
				CatchUp:           Staged,
				FailureWarnAt:     0.05,
				FailureCriticalAt: 0.1,
				FailureMinJobs:    20,
			},
		},
		Budgets: budget.Default(),
		Migrate: defaultMigrate(),
		Upstash: Upstash{APIURL: "https://api.upstash.com/v2"},
		Serve: Serve{
			Listen:          "127.0.0.1:8080",
			GatewayListen:   "127.0.0.1:8079",
			StateDir:        ".redisopt",
			ShutdownTimeout: 25 * time.Second,
			ControlKey:      "redisopt:control",
			ControlSweep:    6 * time.Hour,
			SampleEvery:     time.Minute,
			MaxBodyBytes:    1 << 20,
			LogLevel:        LogInfo,
			LogService:      "redisopt",
			Gateway: Gateway{
				MaxRequestBytes: 10 << 20,
				MaxReplyBytes:   10 << 20,
				MaxBodyBytes:    32 << 20,
				MaxPipeline:     1000,
				MaxClients:      10_000,
				Timeout:         4 * time.Second,
			},
		},
		origins: map[string]Origin{},
	}
}

// fillElements gives list and map entries the defaults that depend on their being there, and
// shortens default times to live to a max_ttl that is set: whoever lowers it need not repeat the rest.
func (c *Config) fillElements() {
	if _, set := c.origins["cache.default_ttl"]; !set {
		c.Cache.DefaultTTL = min(c.Cache.DefaultTTL, c.Cache.MaxTTL)
	}
	for name, class := range c.Cache.Classes {
		if class.TTL == 0 {
			class.TTL = c.Cache.DefaultTTL
		}
		if _, set := c.origins["cache.classes."+name+".ttl"]; !set {
			class.TTL = min(class.TTL, c.Cache.MaxTTL)
		}
		c.Cache.Classes[name] = class
	}
	for name, ns := range c.Cache.Namespaces {
		if ns.Codec == "" {
			ns.Codec = RawCodec
			c.Cache.Namespaces[name] = ns
		}
	}
	if _, set := c.origins["cache.negative_ttl"]; !set {
		c.Cache.NegativeTTL = min(c.Cache.NegativeTTL, c.Cache.MaxTTL)
	}
	for name, rule := range c.Limits.Rules {
		c.Limits.Rules[name] = rule.filled()
	}
	for i := range c.Queues.List {
		if c.Queues.List[i].Criticality == "" {
			c.Queues.List[i].Criticality = Normal
		}
	}
	for i := range c.Serve.Tokens {
		if c.Serve.Tokens[i].Gateway == "" {
			c.Serve.Tokens[i].Gateway = NoAccess
		}
	}
	for op, latency := range c.Budgets.Latency {
		if latency.MinSamples == 0 {
			latency.MinSamples = budget.DefaultMinSamples
			c.Budgets.Latency[op] = latency
		}
	}
}

// filled is r with the defaults of what it does not say.
func (r Rule) filled() Rule {
	r.Algorithm = or(r.Algorithm, SlidingWindow)
	r.By = or(r.By, ByUser)
	r.OnError = or(r.OnError, Local)
	r.Mode = or(r.Mode, Enforce)
	r.Lease = or(r.Lease, LeaseAuto)
	if r.Algorithm == Calendar {
		r.Every = or(r.Every, Day)
		r.TimeZone = or(r.TimeZone, "UTC")
	}
	return r
}

// or is value, or fallback where value is empty.
func or[T ~string](value, fallback T) T {
	if value == "" {
		return fallback
	}
	return value
}
