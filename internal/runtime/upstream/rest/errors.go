package rest

import (
	"fmt"
	"time"
)

// A Kind is why a request got no reply that could be used.
type Kind string

// The kinds.
const (
	Unreached Kind = "unreached"  // no connection could be made; Err says why
	TimedOut  Kind = "timed_out"  // no reply in time, here or, with status 504, at the endpoint
	Lost      Kind = "lost"       // the connection ended, or the reply is not whole
	NotREST   Kind = "not_rest"   // something else answers there
	NeedsTLS  Kind = "needs_tls"  // the endpoint wants https
	NoAuth    Kind = "no_auth"    // the token is refused, without words that a Redis would use
	Forbidden Kind = "forbidden"  // status 403
	TooLarge  Kind = "too_large"  // the reply is longer than Options.MaxReplyBytes
	TooMany   Kind = "too_many"   // status 429: nothing ran
	NotReady  Kind = "not_ready"  // status 503
	NoBackend Kind = "no_backend" // status 502
	Broken    Kind = "broken"     // any other status of 500 and above
	Refused   Kind = "refused"    // the endpoint refuses a subscription in words
	Canceled  Kind = "canceled"   // the connection was closed meanwhile
)

// An Error reports that a request got no reply that could be used. It unwraps to its cause.
type Error struct {
	Kind   Kind
	Addr   string        // host:port of the endpoint
	Status int           // of the HTTP reply; 0 without one
	After  time.Duration // time spent on the attempt
	Err    error         // the cause; its text has no credentials

	// Unsent is true when provably no command ran.
	Unsent bool

	// Open is true when the request was not even tried, because those before it failed for this reason.
	Open bool
}

func (e *Error) Error() string {
	s := e.Addr + ": "
	if e.Open {
		s += "not tried, because the requests before failed: "
	}
	s += e.what()
	if e.Status != 0 {
		s += fmt.Sprintf(" (status %d)", e.Status)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Timeout makes an Error a net.Error.
func (e *Error) Timeout() bool { return e.Kind == TimedOut }

// Temporary makes an Error a net.Error.
func (e *Error) Temporary() bool { return false }

func (e *Error) what() string {
	switch e.Kind {
	case Unreached:
		return "no connection to the REST endpoint"
	case TimedOut:
		return "no reply from the REST endpoint in time"
	case Lost:
		return "connection to the REST endpoint lost"
	case NotREST:
		return "not a Redis REST endpoint"
	case NeedsTLS:
		return "the REST endpoint wants https instead of http"
	case NoAuth:
		return "the REST token is refused"
	case Forbidden:
		return "the REST token may not do this"
	case TooLarge:
		return "the reply is too large"
	case TooMany:
		return "the REST endpoint allows no more requests now"
	case NotReady:
		return "the REST endpoint is not ready"
	case NoBackend:
		return "the REST endpoint does not reach its Redis"
	case Broken:
		return "the REST endpoint is broken"
	case Refused:
		return "the REST endpoint refuses the subscription"
	case Canceled:
		return "closed while a request was under way"
	}
	return "unusable"
}
