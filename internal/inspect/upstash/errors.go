package upstash

import (
	"fmt"
	"net/http"
	"time"
)

// A Class is what kind of failure an Error is.
type Class string

// The classes.
const (
	Denied      Class = "denied"      // the key is wrong, or may not do this
	NotFound    Class = "not found"   // no such database
	Throttled   Class = "throttled"   // too many requests
	Unreachable Class = "unreachable" // no answer in time, or one that says the API is down
	Malformed   Class = "malformed"   // an answer, but not of this API
	Rejected    Class = "rejected"    // the API refuses the request for another reason
)

// An Error is a request that the API did not answer as asked. It never holds the key.
type Error struct {
	Class  Class
	Path   string        // what was asked for, below the base address
	Host   string        // who was asked
	Status int           // of HTTP; 0 where there was no answer
	Said   string        // the API's own message, one printable line; may be empty
	After  time.Duration // time spent, retries included
	Err    error         // the reason where there was no answer; may be nil
}

func (e *Error) Error() string {
	what := fmt.Sprintf("ask %s for %s: ", e.Host, e.Path)
	switch e.Class {
	case Denied:
		what += "the email or API key is not accepted"
	case NotFound:
		what += "it does not exist there"
	case Throttled:
		what += "too many requests"
	case Unreachable:
		what += fmt.Sprintf("no usable answer within %s", e.After.Round(time.Millisecond))
	case Malformed:
		what += "the answer is not one of the Upstash Developer API"
	case Rejected:
		what += "the request is refused"
	}
	if e.Status != 0 {
		what += fmt.Sprintf(" (HTTP %d)", e.Status)
	}
	switch {
	case e.Said != "":
		what += ": " + e.Said
	case e.Err != nil:
		what += ": " + e.Err.Error()
	}
	return what
}

// Unwrap is the reason where there was no answer.
func (e *Error) Unwrap() error { return e.Err }

// classOf is the class of an HTTP status that is not 200.
func classOf(status int) Class {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return Denied
	case status == http.StatusNotFound:
		return NotFound
	case status == http.StatusTooManyRequests:
		return Throttled
	case status >= 500:
		return Unreachable
	case status >= 300 && status < 400, status < 300:
		return Malformed // a redirect would carry the key elsewhere
	}
	return Rejected
}
