package source

import "github.com/redisopt/redisopt/internal/inspect"

// retriesForever finds clients that answer requests and never give up: with maxRetriesPerRequest null
// a call waits as long as the server is away.
func retriesForever(f *facts) {
	for _, s := range f.sites {
		k := s.first()
		if k.library != IORedis || k.worker || len(k.roles) > 0 || k.option("maxRetriesPerRequest") != (null{}) {
			continue
		}
		sends := false
		for _, c := range f.sent {
			sends = sends || c.client == k
		}
		if !sends {
			continue
		}
		var change *inspect.Fix
		if e, ok := setOption(k.options, "maxRetriesPerRequest", "3"); ok {
			change = fix("limit retries", e)
		}
		f.found(k.place, inspect.Finding{
			Severity: inspect.Warning, Subject: "ioredis client",
			Message: "maxRetriesPerRequest: null retries for ever, so whoever awaits a command of this client hangs while the server is away",
			Remedy:  "a limit such as 3 here; null belongs only to what BullMQ's workers are given", Fix: change,
		})
	}
}
