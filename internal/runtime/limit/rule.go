package limit

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/limit/window"
)

// An Algorithm says how a rule counts. See the constants of package window for what each admits at
// worst.
type Algorithm = window.Algorithm

// The algorithms.
const (
	SlidingWindow  = window.Sliding  // never over the limit in any period, in bounded memory; the default
	SlidingLog     = window.Log      // the same, exact to the microsecond, memory grows with the limit
	SlidingCounter = window.Counter  // two counters and a weight: cheap, up to twice the limit
	FixedWindow    = window.Fixed    // one counter a period: up to twice the limit around its end
	TokenBucket    = window.Bucket   // a burst, and a steady rate after it
	Calendar       = window.Calendar // a quota for each day or month of a time zone
)

// Identity is what a rule counts by.
type Identity string

// The identities. A request that lacks what its rule counts by is counted by the next thing that is
// known of it (user, then token, then address); a request of which nothing is known is refused with
// ErrNoIdentity and never shares a key with others like it.
const (
	ByUser  Identity = "user"  // the user's id; the default
	ByToken Identity = "token" // the bearer token or API key, which is always hashed
	ByIP    Identity = "ip"    // the client's address, IPv6 by its /64
	ByPhone Identity = "phone" // a telephone number, always hashed; nothing else takes its place
	ByKey   Identity = "key"   // the caller's own key; nothing else takes its place
)

// OnError is what a rule does when Redis does not answer in time.
type OnError string

// What a rule does without Redis. Each decision made so is counted in Stats.
const (
	Local  OnError = "local"  // count in this process, with a share of limit/instances; the default
	Open   OnError = "open"   // let the request pass
	Closed OnError = "closed" // refuse it
)

// A Mode says whether a rule's answer counts.
type Mode string

// The modes. In all three a request over the limit consumes nothing.
const (
	Enforce Mode = "enforce" // over the limit is refused; the default
	Warn    Mode = "warn"    // over the limit passes, and the Result says so
	Shadow  Mode = "shadow"  // over the limit passes, and only Stats say so
)

// A LeaseMode says whether a rule may take tokens in advance.
type LeaseMode string

// The lease modes.
const (
	// LeaseAuto leases where the limit is 200 a minute or more; the default. A key that is asked for
	// less than about 20 times a minute gets no lease, whatever the mode.
	LeaseAuto LeaseMode = "auto"
	LeaseOn   LeaseMode = "on"
	LeaseOff  LeaseMode = "off"
)

// Limits of what a Rule may say.
const (
	MaxLimit  = 1_000_000_000
	MaxPeriod = 366 * 24 * time.Hour
)

// A Rule is one rate limit. Its zero value is none: Name is required, everything else has a default,
// which together are 60 requests in any 60 seconds for each user.
type Rule struct {
	// Name is how requests ask for the rule, and part of its keys: 1 to 64 of a-z A-Z 0-9 _ . -
	Name string `json:"name"`

	// Algorithm says how to count. Default SlidingWindow.
	Algorithm Algorithm `json:"algorithm"`

	// Limit is the number of requests (or their cost) allowed in each Period. Default 60; at most
	// MaxLimit.
	Limit int64 `json:"limit"`

	// Period is the length of the window. Default 1 minute; 1ms to MaxPeriod. A Calendar rule has
	// none.
	Period time.Duration `json:"period"`

	// Burst is how many requests a full TokenBucket lets through at once. Default Limit.
	Burst int64 `json:"burst,omitempty"`

	// Buckets is into how many parts a SlidingWindow divides its Period: a request counts at most one
	// part too long. Default 60, which is one second in a minute; 1 to 3600.
	Buckets int `json:"buckets,omitempty"`

	// Every is the period of a Calendar rule: Day or Month. Default Day.
	Every window.Unit `json:"every,omitempty"`

	// TimeZone is where a Calendar rule's days begin, an IANA name. Default UTC.
	TimeZone string `json:"time_zone,omitempty"`

	// By is what requests are counted by. Default ByUser.
	By Identity `json:"by"`

	// Tiers are limits for users of a tier, by its name; a tier that is not listed has Limit. A user
	// who changes tier keeps what is used.
	Tiers map[string]int64 `json:"tiers,omitempty"`

	// OnError is what happens when Redis does not answer in time. Default Local.
	OnError OnError `json:"on_error"`

	// Mode is Enforce, Warn or Shadow. Default Enforce.
	Mode Mode `json:"mode"`

	// Lease says whether tokens may be taken in advance, so that most checks cost no command. Default
	// LeaseAuto. See Bound for what it does to what is admitted.
	Lease LeaseMode `json:"lease"`

	// NearRatio is the used share of the limit from which a Result is NearLimit. Default 0.8.
	NearRatio float64 `json:"near_ratio"`

	// HashSubject stores and reports who was limited only as an HMAC under Options.HashKey. Always so
	// with ByPhone and ByToken.
	HashSubject bool `json:"hash_subject"`

	// Legacy is the key of the sorted set in which the application's former limiter counts, with
	// {user} for whoever is counted (taken literally) and {type} for Name: "rate_limit:{user}:{type}".
	// What that set holds of the window counts besides our own count, so that a quota carries over and
	// a request on either side counts once. Empty: none. It costs 1 command more for each check that
	// is not answered from memory, and turns leases off.
	Legacy string `json:"legacy,omitempty"`

	// LegacyShare makes Legacy's set the only place that is counted in, by the former limiter and by
	// us: each side sees the other's requests while both run. Only with SlidingLog. It costs 6
	// commands a check. Without it the former limiter does not see ours.
	LegacyShare bool `json:"legacy_share,omitempty"`
}

// DefaultRules are the rules of an installation that configures none: api, 60 requests in any 60
// seconds for each user.
func DefaultRules() []Rule { return []Rule{{Name: "api"}} }

// SMS is the preset for text messages: 20 in any 3600 seconds for each telephone number, exact, without
// leases, refused while Redis does not answer (a message costs money), the number only as an HMAC in
// keys and events.
func SMS() Rule {
	return Rule{
		Name: "sms", Algorithm: SlidingLog, Limit: 20, Period: time.Hour, By: ByPhone,
		OnError: Closed, Lease: LeaseOff, HashSubject: true,
	}
}

func (r Rule) withDefaults() Rule {
	if r.Algorithm == "" {
		r.Algorithm = SlidingWindow
	}
	if r.Limit == 0 {
		r.Limit = 60
	}
	if r.Period == 0 && r.Algorithm != Calendar {
		r.Period = time.Minute
	}
	if r.Burst == 0 && r.Algorithm == TokenBucket {
		r.Burst = r.Limit
	}
	if r.Buckets == 0 && r.Algorithm == SlidingWindow {
		r.Buckets = 60
	}
	if r.Algorithm == Calendar {
		if r.Every == "" {
			r.Every = window.Day
		}
		if r.TimeZone == "" {
			r.TimeZone = "UTC"
		}
	}
	if r.By == "" {
		r.By = ByUser
	}
	if r.OnError == "" {
		r.OnError = Local
	}
	if r.Mode == "" {
		r.Mode = Enforce
	}
	if r.Lease == "" {
		r.Lease = LeaseAuto
	}
	if r.NearRatio == 0 {
		r.NearRatio = 0.8
	}
	r.HashSubject = r.HashSubject || r.By == ByPhone
	return r
}

var ruleName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// validate reports all problems of a rule that has its defaults.
func (r Rule) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !ruleName.MatchString(r.Name) {
		bad("name: got %q, want 1 to 64 of a-z A-Z 0-9 _ . -", r.Name)
	}
	if !slices.Contains(window.Algorithms(), r.Algorithm) {
		bad("algorithm: got %q, want one of %s", r.Algorithm, joined(window.Algorithms()))
	}
	if r.Limit < 1 || r.Limit > MaxLimit {
		bad("limit: got %d, want 1 to %d", r.Limit, int64(MaxLimit))
	}
	switch {
	case r.Algorithm == Calendar && r.Period != 0:
		bad("period: got %s, want none: a calendar rule counts by day or month (every)", r.Period)
	case r.Algorithm != Calendar && (r.Period < time.Millisecond || r.Period > MaxPeriod):
		bad("period: got %s, want 1ms to %s", r.Period, MaxPeriod)
	case r.Algorithm != Calendar && r.Period%time.Microsecond != 0:
		bad("period: got %s, want whole microseconds", r.Period)
	}
	if r.Algorithm != TokenBucket && r.Burst != 0 {
		bad("burst: only a token-bucket has one")
	} else if r.Burst < 0 || r.Burst > MaxLimit {
		bad("burst: got %d, want 1 to %d", r.Burst, int64(MaxLimit))
	}
	if r.Algorithm != SlidingWindow && r.Buckets != 0 {
		bad("buckets: only a sliding-window has them")
	} else if r.Buckets < 0 || r.Buckets > 3600 {
		bad("buckets: got %d, want 1 to 3600", r.Buckets)
	}
	if r.Algorithm != Calendar && (r.Every != "" || r.TimeZone != "") {
		bad("every, time_zone: only a calendar rule has them")
	}
	if r.Algorithm == Calendar {
		if r.Every != window.Day && r.Every != window.Month {
			bad("every: got %q, want day or month", r.Every)
		}
		if _, err := time.LoadLocation(r.TimeZone); err != nil {
			bad("time_zone: %w", err)
		}
	}
	oneOf(&errs, "by", r.By, ByUser, ByToken, ByIP, ByPhone, ByKey)
	oneOf(&errs, "on_error", r.OnError, Local, Open, Closed)
	oneOf(&errs, "mode", r.Mode, Enforce, Warn, Shadow)
	oneOf(&errs, "lease", r.Lease, LeaseAuto, LeaseOn, LeaseOff)
	if !(r.NearRatio > 0 && r.NearRatio <= 1) || math.IsNaN(r.NearRatio) {
		bad("near_ratio: got %v, want more than 0 and at most 1", r.NearRatio)
	}
	for tier, limit := range r.Tiers {
		if tier == "" || limit < 1 || limit > MaxLimit {
			bad("tiers: got %d for %q, want a name and 1 to %d", limit, tier, int64(MaxLimit))
		}
	}
	return errors.Join(append(errs, r.validateLegacy())...)
}

func (r Rule) validateLegacy() error {
	switch {
	case r.Legacy == "" && r.LegacyShare:
		return errors.New("legacy_share: needs legacy, the key that is shared")
	case r.Legacy == "":
		return nil
	case !strings.Contains(r.Legacy, "{user}"):
		return fmt.Errorf("legacy: %q has no {user}, so all would share one key", r.Legacy)
	case r.Algorithm == TokenBucket || r.Algorithm == Calendar:
		return fmt.Errorf("legacy: a %s cannot count what a former sliding window holds", r.Algorithm)
	case r.LegacyShare && r.Algorithm != SlidingLog:
		return fmt.Errorf("legacy_share: got %s, want sliding-log, which is how the former limiter counts", r.Algorithm)
	case r.Lease == LeaseOn:
		return errors.New("lease: cannot be on while a former limiter counts beside us (legacy)")
	}
	return nil
}

func oneOf[T ~string](errs *[]error, field string, got T, want ...T) {
	if !slices.Contains(want, got) {
		*errs = append(*errs, fmt.Errorf("%s: got %q, want one of %s", field, got, joined(want)))
	}
}

func joined[T ~string](all []T) string {
	words := make([]string, len(all))
	for i, w := range all {
		words[i] = string(w)
	}
	return strings.Join(words, ", ")
}
