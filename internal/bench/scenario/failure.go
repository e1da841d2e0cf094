package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/runtime/cache"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/rest"
)

// A failure is the last error of an operation, and the first one that says that the plan's commands are
// used up.
type failure struct {
	mu    sync.Mutex
	err   error
	inRow int64 // operations that were not answered, since the last one that was
	known error // the last of those that says why
	quota error
}

// remember is op, whose errors are remembered. What a target refuses for being asked too often, HTTP 429 over
// REST, becomes a bench.ErrLimited.
func (f *failure) remember(op bench.Operation) bench.Operation {
	return func(ctx context.Context, span *bench.Span) error {
		err := op(ctx, span)
		if err == nil {
			f.mu.Lock()
			f.inRow = 0
			f.mu.Unlock()
			return nil
		}
		if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return err // it was interrupted
		}
		used := quotaUsedUp(err)
		f.mu.Lock()
		f.err = err
		switch isUnanswered, why := unanswered(err); {
		case !isUnanswered:
			f.inRow = 0
		case why:
			f.known = err
			fallthrough
		default:
			f.inRow++
		}
		if used && f.quota == nil {
			f.quota = err
		}
		f.mu.Unlock()
		if slow, ok := errors.AsType[*rest.Error](err); ok && slow.Kind == rest.TooMany && !used {
			return fmt.Errorf("%w: %w", bench.ErrLimited, err)
		}
		return err
	}
}

func (f *failure) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// gone is the reason where the target did not answer the last operations any more, ten at least, and how many
// those were.
func (f *failure) gone() (n int64, err error) {
	const fewest = 10
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inRow < fewest {
		return 0, nil
	}
	if f.known != nil {
		return f.inRow, f.known
	}
	return f.inRow, f.err
}

// errDecidedAlone means that a limiter decided without the Redis.
var errDecidedAlone = errors.New("the limiter decided without the Redis, which did not answer")

// unanswered is whether err says that nobody answered, and whether it says why: an engine that was not answered
// before does not ask again at once.
func unanswered(err error) (is, why bool) {
	switch upstream.Classify(err) { //nolint:exhaustive // every other class is an answer
	case upstream.Refused, upstream.Reset, upstream.IdleClose, upstream.Timedout, upstream.DNS, upstream.Unreachable:
		return true, true
	case upstream.None, upstream.Unknown:
		return errors.Is(err, errDecidedAlone) || errors.Is(err, cache.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded), false
	}
	return false, false
}

// usedUp is the first answer that said that the plan's commands are used up, or nil.
func (f *failure) usedUp() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.quota
}

// stopAtQuota is asked, which may be nil, and ends a run upon such an answer.
func (f *failure) stopAtQuota(asked func() error) func() error {
	return func() error {
		if f.usedUp() != nil {
			return errQuota
		}
		if asked != nil {
			return asked()
		}
		return nil
	}
}

// noted is asked, which may be nil, and notes in near that it ended a run with ErrNear.
func noted(asked func() error, near *atomic.Bool) func() error {
	if asked == nil {
		return nil
	}
	return func() error {
		err := asked()
		if errors.Is(err, ErrNear) {
			near.Store(true)
		}
		return err
	}
}

// errQuota ends a run on a target that answers nothing else any more.
var errQuota = errors.New("the commands of the target's plan are used up")

// quotaUsedUp is whether err says that there will be no answers until the plan's next day or month, and not
// just for a moment.
func quotaUsedUp(err error) bool {
	return upstream.Classify(err) == upstream.Quota && strings.Contains(err.Error(), "limit exceeded")
}
