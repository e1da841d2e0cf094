package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/bench/scenario"
	"github.com/redisopt/redisopt/internal/inspect/commands"
	"github.com/redisopt/redisopt/internal/inspect/keys"
	"github.com/redisopt/redisopt/internal/inspect/record"
	"github.com/redisopt/redisopt/internal/inspect/upstash"
	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/backup"
	"github.com/redisopt/redisopt/internal/migrate/journal"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/portable"
	"github.com/redisopt/redisopt/internal/migrate/replica"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/migrate/transfer"
	"github.com/redisopt/redisopt/internal/runtime/cache"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/control"
	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/history"
	"github.com/redisopt/redisopt/internal/runtime/queue"
	"github.com/redisopt/redisopt/internal/runtime/sidecar"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/fleet"
)

// The exit codes. They name the cause and are the same in every output format.
const (
	exitOK           = 0   // done; gate passed
	exitFailure      = 1   // unexpected failure; never used for findings
	exitUsage        = 2   // usage or configuration; confirmation impossible
	exitViolated     = 3   // budget, threshold or policy violated
	exitMismatch     = 4   // verification mismatch: data differ
	exitUnreachable  = 5   // target unreachable or timed out
	exitDenied       = 6   // not authenticated or not authorised
	exitBlocked      = 7   // blocked: lease held, precondition, wrong phase
	exitInconclusive = 8   // inconclusive under --strict
	exitRolledBack   = 9   // aborted, rolled back automatically
	exitChanges      = 10  // migrate plan --detailed-exitcode: the plan has changes
	exitTryLater     = 75  // throttled, quota spent
	exitInterrupted  = 130 // interrupted by a signal, state saved
)

// precedence says which of several causes wins: the most specific.
func precedence() []int {
	return []int{
		exitUsage, exitDenied, exitUnreachable, exitTryLater, exitBlocked, exitRolledBack,
		exitMismatch, exitViolated, exitInconclusive, exitChanges, exitFailure,
	}
}

// A usageError is a mistake in how the program was called or configured.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usagef makes a usageError for a mistake that only an action can see.
func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// A verdictError is how a command whose work went well answers no. Its document is already printed.
type verdictError struct {
	code    int // exitViolated, exitMismatch, exitInconclusive, exitBlocked, exitRolledBack or exitChanges
	message string
}

func (e *verdictError) Error() string { return e.message }

// verdictf makes the error that ends a command with code.
func verdictf(code int, format string, args ...any) error {
	return &verdictError{code: code, message: fmt.Sprintf(format, args...)}
}

// exitCode says how the process ends for err. Of several causes joined or wrapped in err, the first
// in the order of precedence wins. signalled says whether a signal cancelled the work: then an error
// that is only the consequence of stopping is exitInterrupted.
func exitCode(err error, signalled bool) int {
	if err == nil {
		return exitOK
	}
	if ended, ok := errors.AsType[*commandError](err); ok {
		return ended.exit.Code // of a recorded command, whatever it is
	}
	if signalled && (errors.Is(err, context.Canceled) || errors.Is(err, errInterrupted)) {
		return exitInterrupted
	}
	causes := map[int]bool{}
	walk(err, func(e error) {
		if code, known := causeOf(e); known {
			causes[code] = true
		}
	})
	order := precedence()
	if i := slices.IndexFunc(order, func(code int) bool { return causes[code] }); i >= 0 {
		return order[i]
	}
	return exitFailure
}

// walk calls visit for every error in the tree of err, joined errors included, outermost first.
func walk(err error, visit func(error)) {
	visit(err)
	switch e := err.(type) { //nolint:errorlint // this is the walk that errors.As would do, over every branch
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			walk(inner, visit)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			walk(inner, visit)
		}
	}
}

// causeOf returns the exit code of one error value, without looking at what it wraps.
func causeOf(err error) (code int, known bool) {
	switch e := err.(type) { //nolint:errorlint // walk unwraps
	case *usageError, *config.Problem, *step.UnknownQueueError, *step.MajorError, *sidecar.LoopError, *fleet.ImpossibleError,
		*upstash.ChoiceError, *keys.DumpError:
		return exitUsage, true
	case *verdictError:
		return e.code, true
	case *cache.DeniedError, *scenario.BudgetError:
		return exitViolated, true
	case *cache.SizeError:
		return exitBlocked, true
	case *step.MismatchError, *step.RestoreError, *step.LeftoversError, *transfer.DifferError, *transfer.PauseError:
		return exitMismatch, true
	case *migrate.GateError:
		return exitViolated, true
	case *migrate.RolledBackError:
		return exitRolledBack, true
	case *migrate.HeldError, *migrate.StageError, *migrate.PlanError, *migrate.RefusedError, *migrate.FinishedError,
		*migrate.IntentError, *migrate.PlanFileError, *step.PhaseError, *step.HeadRoomError,
		*step.InUseError, *step.FileError, *backup.VersionError, *backup.DamagedError, *transfer.StateError,
		*step.HeldJobsError, *step.BlockedError, *step.LayoutError,
		*mover.AttachedError, *mover.BlockedError, *mover.WrongTypeError,
		*journal.ForkError, *journal.SchemaError, *journal.DamagedError,
		*history.SchemaError, *history.DamagedError, *record.ListenError,
		*control.SchemaError, *control.DamagedError, *fleet.SchemaError, *fleet.DamagedError, *sidecar.ListenError:
		return exitBlocked, true
	case *mover.DeniedError:
		return exitDenied, true
	case *replica.StatusError:
		if e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden {
			return exitDenied, true
		}
		return exitUnreachable, true
	case *step.NotFollowedError:
		return exitUnreachable, true
	case *queue.UnreachableError, *unansweredError:
		return exitUnreachable, true
	case *upstash.Error:
		return upstashCause(e.Class)
	case *commands.ResetError, *fleet.FullError:
		return exitTryLater, true
	}
	switch err { //nolint:errorlint // walk unwraps
	case context.DeadlineExceeded:
		return exitUnreachable, true
	case cache.ErrKey, cache.ErrValue, cache.ErrClass:
		return exitUsage, true
	case cache.ErrBudget:
		return exitViolated, true
	case migrate.ErrLeaseLost, migrate.ErrNothingToRollBack, step.ErrKilled, journal.ErrFenced, mover.ErrFenced,
		history.ErrLocked, embedded.ErrNoServer, keys.ErrNoServer, portable.ErrUnwatchable:
		return exitBlocked, true
	}
	return upstreamCause(classOf(err))
}

// upstreamClass is the class of the first error in the tree of err that is about a Redis.
func upstreamClass(err error) upstream.Class {
	found := upstream.None
	walk(err, func(e error) {
		if found == upstream.None {
			found = classOf(e)
		}
	})
	return found
}

// classOf is the class of one error value, None where it is not about a Redis. It asks only about
// errors that can come from nowhere else: a missing file is no refused connection.
func classOf(err error) upstream.Class {
	switch err.(type) { //nolint:errorlint // the callers unwrap
	case *upstream.Error, *upstream.SpendError, *upstream.ReadOnlyError, *upstream.CapError, *upstream.OptionsError,
		redis.Error, *net.OpError, *net.DNSError:
		return upstream.Classify(err)
	}
	return upstream.None
}

// upstreamCause is the exit code of an error class.
func upstreamCause(class upstream.Class) (code int, known bool) {
	switch class {
	case upstream.BadOptions:
		return exitUsage, true
	case upstream.Auth, upstream.Permission:
		return exitDenied, true
	case upstream.TLSMismatch, upstream.TLSUntrusted, upstream.Refused, upstream.Reset, upstream.IdleClose,
		upstream.Timedout, upstream.DNS, upstream.Unreachable, upstream.NotRedis:
		return exitUnreachable, true
	case upstream.Quota, upstream.Capacity, upstream.ConnectionLimit, upstream.Loading:
		return exitTryLater, true
	case upstream.RequestSize, upstream.Unavailable:
		return exitBlocked, true
	case upstream.Spend:
		return exitViolated, true
	case upstream.None, upstream.ReadOnly, upstream.Canceled, upstream.Server, upstream.Unknown:
	}
	return 0, false
}

// printError tells the user what went wrong and what to type next: two lines, or one error/v1
// document where the answer was asked for as JSON.
func (a *app) printError(err error, code int) {
	hint := hintFor(err, code)
	if hint == usageHint {
		hint = usageHintOf(a.cmd)
	}
	if a.flags.output == report.FormatJSON {
		_ = report.WriteError(a.err, report.Error{Code: errorName(err, code), Message: err.Error(), Hint: hint, ExitCode: code})
		return
	}
	a.say("error: " + err.Error())
	if hint != "" {
		a.say("hint: " + hint)
	}
}

// errorName is the stable word for err, which ends the program with code.
func errorName(err error, code int) string {
	if isA[*commandError](err) {
		return "command" // the code is that of another program
	}
	return codeName(code)
}

// codeName is the stable word for an exit code in error/v1.
func codeName(code int) string {
	switch code {
	case exitUsage:
		return "usage"
	case exitViolated:
		return "violated"
	case exitMismatch:
		return "mismatch"
	case exitUnreachable:
		return "unreachable"
	case exitDenied:
		return "denied"
	case exitBlocked:
		return "blocked"
	case exitInconclusive:
		return "inconclusive"
	case exitRolledBack:
		return "rolled_back"
	case exitChanges:
		return "changes"
	case exitTryLater:
		return "try_later"
	case exitInterrupted:
		return "interrupted"
	}
	return "failure"
}
