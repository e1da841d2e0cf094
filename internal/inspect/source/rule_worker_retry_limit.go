package source

import "github.com/redisopt/redisopt/internal/inspect"

// workerRetryLimit finds shared instances that a BullMQ Worker refuses.
func workerRetryLimit(f *facts) {
	for _, s := range f.sites {
		k := s.first()
		if k.library != IORedis || !k.worker {
			continue
		}
		if k.options != nil && (k.options.open || k.option("maxRetriesPerRequest") == null{}) {
			continue
		}
		if v := k.option("maxRetriesPerRequest"); isUnknown(v) {
			continue
		}
		var change *inspect.Fix
		if e, ok := setOption(k.options, "maxRetriesPerRequest", "null"); ok {
			change = fix("set maxRetriesPerRequest to null", e)
		}
		f.found(k.place, inspect.Finding{
			Severity: inspect.Critical, Subject: "ioredis client",
			Message: "a Worker throws when it is given this instance: maxRetriesPerRequest must be null",
			Remedy:  "new IORedis(..., { maxRetriesPerRequest: null }); keep another instance, with a limit, for what answers requests",
			Fix:     change,
		})
	}
}
