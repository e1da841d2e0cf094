package source

import "github.com/redisopt/redisopt/internal/inspect"

// limiterParallel finds rate limiters whose commands are sent side by side as if that made them one.
func limiterParallel(f *facts) {
	for _, m := range f.scripts {
		for _, list := range sequences(m) {
			add, count := index(list, "zadd", "incr"), index(list, "zcard", "zcount", "zremrangebyscore", "expire", "pexpire")
			if add < 0 || count < 0 || list[add].parallel == nil || list[count].parallel != list[add].parallel {
				continue
			}
			f.found(place{mod: m, at: list[add].parallel.Idx0()}, inspect.Finding{
				Severity: inspect.Critical, Subject: "rate limiter",
				Message: "Promise.all is neither a pipeline nor atomic: the commands are separate requests in any order, so many at once are all let through or all denied",
				Remedy:  "one script, or MULTI: removing, counting and adding have to be one step",
			})
		}
	}
}
