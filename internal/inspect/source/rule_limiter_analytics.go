package source

import "github.com/redisopt/redisopt/internal/inspect"

// limiterAnalytics finds limiters of @upstash/ratelimit that write statistics with every check.
func limiterAnalytics(f *facts) {
	for _, s := range f.sites {
		k := s.first()
		if k.library != Ratelimit || k.option("analytics") != true {
			continue
		}
		var change *inspect.Fix
		if e, ok := setOption(k.options, "analytics", "false"); ok {
			change = fix("turn analytics off", e)
		}
		at := k.place
		if p := k.options.props["analytics"].place; p.mod != nil {
			at = p
		}
		f.found(at, inspect.Finding{
			Severity: inspect.Warning, Subject: "@upstash/ratelimit",
			Message: "analytics writes a counter with every check, denied ones included: at least one more command each, in keys without a TTL",
			Remedy:  "analytics: false, and count in the application", Fix: change,
		})
	}
}
