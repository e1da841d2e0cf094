package upstream

import (
	"errors"

	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
)

// muxClass is what a failure of the shared connection means by itself; false when err is none, or when
// its cause says more.
func muxClass(err error) (Class, bool) {
	var (
		busy     *mux.BusyError
		large    *mux.ReplyTooLargeError
		policy   *mux.PolicyError
		protocol *mux.ProtocolError
	)
	switch {
	case errors.As(err, &busy):
		return Timedout, true
	case errors.As(err, &large):
		return RequestSize, true
	case errors.As(err, &policy):
		return Unavailable, true
	case errors.As(err, &protocol):
		if e := stranger("", protocol.First); e != nil {
			return e.Class, true
		}
		return NotRedis, true
	case errors.Is(err, mux.ErrStalled):
		return Timedout, true
	case errors.Is(err, mux.ErrClosed):
		return Reset, true
	}
	return None, false
}

// unsent is whether err is a failure of a transport after which provably no command ran.
func unsent(err error) bool {
	if e, ok := errors.AsType[*mux.OutcomeError](err); ok {
		return !e.Sent
	}
	if _, busy := errors.AsType[*mux.BusyError](err); busy {
		return true
	}
	return restUnsent(err)
}
