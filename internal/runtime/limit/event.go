package limit

import "time"

// An EventKind is something an operator may want to log; its text is the log message.
type EventKind string

// The kinds.
const (
	EventExceeded    EventKind = "rate_limit_exceeded"     // over the limit: denied, or passed by Warn or Shadow
	EventApproaching EventKind = "rate_limit_approaching"  // used share has reached NearRatio
	EventBypassed    EventKind = "rate_limit_bypassed"     // Redis did not answer and OnError is Open
	EventLocal       EventKind = "rate_limit_local"        // Redis did not answer and OnError is Local
	EventClosed      EventKind = "rate_limit_error_closed" // Redis did not answer and OnError is Closed
)

// An Event is one thing that happened and how often it happened since it was last told.
type Event struct {
	Kind EventKind
	Rule string

	// Subject is who, as in the key: hashed where the rule says so.
	Subject string

	// Limit and Remaining are those of the Result.
	Limit     int64
	Remaining int64

	// Allowed is whether the request passed.
	Allowed bool

	// Suppressed is how many events of the same rule and kind were not told since the last one.
	Suppressed int64

	// Err is why Redis did not answer, or nil.
	Err error

	Time time.Time
}
