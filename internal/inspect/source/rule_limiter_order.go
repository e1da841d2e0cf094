package source

import "github.com/redisopt/redisopt/internal/inspect"

// limiterOrder finds rate limiters that add a request before they have decided on it.
func limiterOrder(f *facts) {
	for _, m := range f.scripts {
		for _, list := range sequences(m) {
			add, count, trim := index(list, "zadd"), index(list, "zcard", "zcount"), index(list, "zremrangebyscore")
			if add < 0 || count < 0 || list[add].queued || list[add].parallel != nil || add > count {
				continue
			}
			message := "the request is added before it is counted, so denied requests fill the window and keep whoever is slightly over the limit out for ever"
			if trim > count {
				message += "; expired ones are removed only after counting"
			}
			f.found(methodPlace(m, list[add].call), inspect.Finding{
				Severity: inspect.Critical, Subject: "rate limiter", Message: message,
				Remedy: "one script: remove what expired, count, add only if there is room; @upstash/ratelimit or redisopt's limiter do that in one command",
			})
		}
	}
}
