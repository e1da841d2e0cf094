package limit

import (
	"fmt"
	"time"
)

// A Header is one field of an HTTP response.
type Header struct{ Name, Value string }

// Headers are the fields that tell a client where it stands, for a response that one or more results
// decided: RateLimit-Policy and RateLimit as the IETF's draft has them (RateLimit header fields for HTTP,
// revision 8 and later: q the quota, w the window in seconds, r what remains, t seconds until more is
// available), and Retry-After in whole seconds, rounded up, when the strictest result is denied and waiting
// helps.
//
// Results of rules in Shadow mode are left out: a client must not see a limit that does not hold.
func Headers(shadowed func(rule string) bool, results ...Result) []Header {
	var policy, state string
	shown := []Result{}
	for _, r := range results {
		if shadowed != nil && shadowed(r.Rule) {
			continue
		}
		shown = append(shown, r)
		if policy != "" {
			policy += ", "
			state += ", "
		}
		policy += fmt.Sprintf("%q;q=%d", r.Rule, r.Limit)
		if w := seconds(r.Period); w > 0 {
			policy += fmt.Sprintf(";w=%d", w)
		}
		state += fmt.Sprintf("%q;r=%d", r.Rule, r.Remaining)
		if t := max(r.ResetAfter, r.RetryAfter); t > 0 {
			state += fmt.Sprintf(";t=%d", seconds(t))
		}
	}
	if len(shown) == 0 {
		return nil
	}
	headers := []Header{{"RateLimit-Policy", policy}, {"RateLimit", state}}
	if worst := Strictest(shown); !worst.Allowed && worst.RetryAfter > 0 {
		headers = append(headers, Header{"Retry-After", fmt.Sprint(seconds(worst.RetryAfter))})
	}
	return headers
}

// seconds is d in whole seconds, rounded up: a client that waits so long is not early.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// RetryAfterSeconds is RetryAfter in whole seconds, rounded up, as Retry-After has it.
func (r Result) RetryAfterSeconds() int64 { return seconds(r.RetryAfter) }

// ResetAfterSeconds is ResetAfter in whole seconds, rounded up.
func (r Result) ResetAfterSeconds() int64 { return seconds(r.ResetAfter) }

// Shadowed is whether the named rule only counts, for Headers.
func (l *Limiter) Shadowed(rule string) bool {
	c := l.rules.Load().byName[rule]
	return c != nil && c.Mode == Shadow
}
