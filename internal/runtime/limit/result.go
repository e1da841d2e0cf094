package limit

import (
	"errors"
	"time"
)

// A Request asks whether something may happen now.
type Request struct {
	// Rule is the name of the rule to ask.
	Rule string `json:"rule"`

	// Subject is who asks.
	Subject Subject `json:"subject"`

	// Feature counts apart from other features under the same rule. Empty: none.
	Feature string `json:"feature,omitempty"`

	// Tier picks a limit of the rule's Tiers. Empty, or not listed: the rule's Limit.
	Tier string `json:"tier,omitempty"`

	// Cost is how much of the quota the request takes. Default 1; a negative cost is refused.
	Cost int64 `json:"cost,omitempty"`
}

// A Reason says what a Result rests on.
type Reason string

// The reasons.
const (
	ReasonChecked  Reason = "checked"    // Redis decided
	ReasonLeased   Reason = "leased"     // a token taken earlier was spent: no command
	ReasonBlocked  Reason = "blocked"    // known to be over the limit until RetryAfter: no command
	ReasonTooLarge Reason = "cost"       // the cost exceeds the limit itself: no command
	ReasonOther    Reason = "other"      // would pass, but another limit of the same CheckAll did not
	ReasonLocal    Reason = "local"      // Redis did not answer; counted in this process
	ReasonOpen     Reason = "error_open" // Redis did not answer; passes
	ReasonClosed   Reason = "error_closed"
)

// A Result is the answer to one Request.
type Result struct {
	// Rule and Tier are the request's.
	Rule string `json:"rule"`
	Tier string `json:"tier,omitempty"`

	// Allowed says whether to go on. A denied request has consumed nothing.
	Allowed bool `json:"allowed"`

	// OverLimit says that the quota was used up: with Enforce the request is then denied, with Warn and
	// Shadow it is Allowed all the same.
	OverLimit bool `json:"over_limit"`

	// Warning says that an OverLimit request passed because the rule only warns.
	Warning bool `json:"warning"`

	// NearLimit says that the used share has reached the rule's NearRatio.
	NearLimit bool `json:"near_limit"`

	// Reason says what the answer rests on.
	Reason Reason `json:"reason"`

	// Limit, Used and Remaining are the quota after this request. With a lease, Used includes tokens
	// that are taken and not yet spent.
	Limit     int64 `json:"limit"`
	Used      int64 `json:"used"`
	Remaining int64 `json:"remaining"`

	// Period is the rule's; for a Calendar rule the length of the current day or month.
	Period time.Duration `json:"-"`

	// ResetAfter is how long until the oldest counted request stops counting, and 0 when none counts;
	// for FixedWindow, SlidingCounter and Calendar until the period ends, for TokenBucket until the
	// bucket is full.
	ResetAfter time.Duration `json:"-"`

	// ResetAt is ResetAfter from now by the clock of the Redis server, as far as it is known, or else by
	// our own.
	ResetAt time.Time `json:"reset_at"`

	// RetryAfter is how long until the same request would be admitted if nobody else asked; 0 when it
	// was admitted or when it never can be (ReasonTooLarge).
	RetryAfter time.Duration `json:"-"`

	// Subject is who was counted, as it is in the key: hashed where the rule says so.
	Subject string `json:"subject"`

	// Commands is what this check was billed for, those inside the script included. In CheckMany and
	// CheckAll the call's commands are in its first result that needed one.
	Commands int64 `json:"commands"`
}

// Errors of a request that cannot be decided. All other trouble is decided by the rule's OnError.
var (
	ErrUnknownRule = errors.New("no such rule")
	ErrNoIdentity  = errors.New("nothing is known of who asks")
	ErrBadCost     = errors.New("cost is negative")
	ErrTooMany     = errors.New("too many requests in one call")
	ErrSlots       = errors.New("all requests of one CheckAll must be counted in one place: on a Cluster about one subject, and of rules that are on the same side of a migration")
)

// Strictest is the result that leaves a caller the least: a denied one before an allowed one, of denied
// ones the longest to wait for, of allowed ones the smallest share that remains. It is the zero Result
// for none.
func Strictest(results []Result) Result {
	var worst Result
	for i, r := range results {
		if i == 0 || stricter(r, worst) {
			worst = r
		}
	}
	return worst
}

func stricter(a, b Result) bool {
	switch {
	case a.Allowed != b.Allowed:
		return !a.Allowed
	case a.Allowed && a.OverLimit != b.OverLimit:
		return a.OverLimit
	case a.RetryAfter != b.RetryAfter:
		return a.RetryAfter > b.RetryAfter
	}
	return float64(a.Remaining)*float64(b.Limit) < float64(b.Remaining)*float64(a.Limit)
}
