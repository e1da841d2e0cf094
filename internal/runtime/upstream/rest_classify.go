package upstream

import (
	"errors"
	"net/http"
	"strings"

	"github.com/redisopt/redisopt/internal/runtime/upstream/rest"
)

// A restError is a failure of the REST transport, as said by somebody who names the address already.
type restError struct {
	err  error
	text string
}

func (c *restError) Error() string { return c.text }
func (c *restError) Unwrap() error { return c.err }

// withoutAddr is err with the address left out of its text if it is a failure of the REST transport.
func withoutAddr(err error) error {
	if e, ok := errors.AsType[*rest.Error](err); ok {
		return &restError{err, strings.Replace(err.Error(), e.Addr+": ", "", 1)}
	}
	return err
}

// restUnsent is whether err is a failure of the REST transport after which provably no command ran.
func restUnsent(err error) bool {
	e, ok := errors.AsType[*rest.Error](err)
	return ok && e.Unsent
}

// restClass is what a failure of the REST transport means; false when err is none.
func restClass(err error) (Class, bool) {
	e, ok := errors.AsType[*rest.Error](err)
	if !ok {
		return None, false
	}
	switch e.Kind {
	case rest.Unreached:
		if errors.Is(e.Err, http.ErrSchemeMismatch) {
			return TLSMismatch, true
		}
		if c := classifyTransport(e.Err); c != Unknown {
			return c, true
		}
		return Unreachable, true
	case rest.TimedOut:
		return Timedout, true
	case rest.Lost:
		return Reset, true
	case rest.NotREST:
		return NotRedis, true
	case rest.NeedsTLS:
		return TLSMismatch, true
	case rest.NoAuth:
		return Auth, true
	case rest.Forbidden:
		return Permission, true
	case rest.TooLarge:
		return RequestSize, true
	case rest.TooMany:
		return Quota, true
	case rest.NotReady:
		return Loading, true
	case rest.NoBackend:
		return Unreachable, true
	case rest.Broken:
		return Server, true
	case rest.Refused:
		return replyError(e.Err.Error()).Class, true
	case rest.Canceled:
		return Canceled, true
	}
	return Unknown, true
}
