package limit

// Stats are the counts of a Limiter since it was made. Nothing of it is written to Redis.
type Stats struct {
	// Rules are the counts by rule, in the order of the rules; rules that were taken away stay, at the
	// end.
	Rules []RuleStats `json:"rules"`

	// LocalKeys is how many keys are remembered in memory.
	LocalKeys int `json:"local_keys"`

	// BreakerOpen is whether Redis is being left alone at the moment.
	BreakerOpen bool `json:"breaker_open"`
}

// RuleStats are the counts of one rule.
type RuleStats struct {
	Rule string `json:"rule"`

	Checks    int64 `json:"checks"`     // Allowed + Denied
	Allowed   int64 `json:"allowed"`    // those that went on, in any mode
	Denied    int64 `json:"denied"`     // those that did not
	OverLimit int64 `json:"over_limit"` // those whose quota was used up, in any mode
	NearLimit int64 `json:"near_limit"` // allowed ones at NearRatio or more

	Calls    int64 `json:"calls"`    // scripts sent that were about this rule
	Commands int64 `json:"commands"` // billed commands, those inside scripts included
	Errors   int64 `json:"errors"`   // calls that failed or came too late

	LeaseHits int64 `json:"lease_hits"` // checks answered by a token taken earlier: 0 commands
	DenyHits  int64 `json:"deny_hits"`  // checks answered by a denial that still holds: 0 commands

	LeaseTaken    int64 `json:"lease_taken"`    // tokens taken in advance
	LeaseReturned int64 `json:"lease_returned"` // of those, given back
	LeaseExpired  int64 `json:"lease_expired"`  // of those, neither spent nor given back in time

	Bypassed int64 `json:"bypassed"`   // passed by OnError Open
	Local    int64 `json:"local"`      // decided by OnError Local
	FailShut int64 `json:"fail_shut"`  // denied by OnError Closed
	NoWho    int64 `json:"no_subject"` // refused because nothing was known of who asked

	Carried int64 `json:"buckets_carried"` // token buckets fetched from the other side of a ramp
	Alone   int64 `json:"buckets_alone"`   // those that began with what their side knew, since the other one did not answer
}
