package source

import (
	"slices"

	"github.com/redisopt/redisopt/internal/inspect"
)

// bullCreateClient finds clients that Bull refuses: those it subscribes or blocks on may neither check
// for readiness nor limit retries.
func bullCreateClient(f *facts) {
	for _, s := range f.sites {
		k := s.first()
		if k.library != IORedis || !slices.ContainsFunc(k.roles, func(r string) bool { return r != "client" }) {
			continue
		}
		if k.options != nil && k.options.open {
			continue
		}
		ready, retries := k.option("enableReadyCheck"), k.option("maxRetriesPerRequest")
		if (ready == false || isUnknown(ready)) && (retries == null{} || isUnknown(retries)) {
			continue
		}
		var change *inspect.Fix
		a, ok := setOption(k.options, "enableReadyCheck", "false")
		b, ok2 := setOption(k.options, "maxRetriesPerRequest", "null")
		if ok && ok2 && a.Column == b.Column && a.Line == b.Line {
			b.Text = " enableReadyCheck: false," + b.Text
			change = fix("set what Bull asks for", b)
		} else if ok && ok2 {
			change = fix("set what Bull asks for", a, b)
		}
		f.found(k.place, inspect.Finding{
			Severity: inspect.Critical, Subject: "ioredis client",
			Message: "Bull's process() throws when createClient returns this for its subscriber or blocking client",
			Remedy:  "give it { enableReadyCheck: false, maxRetriesPerRequest: null }",
			Fix:     change,
		})
	}
}
