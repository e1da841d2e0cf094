package queue

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// ErrStopped means that the Engine is shutting down or has ended.
var ErrStopped = errors.New("the queues are shutting down")

// A DeadError from a Runner makes the job a dead letter without further attempts.
type DeadError struct {
	Reason string
}

func (e *DeadError) Error() string { return e.Reason }

// A RetryAfterError from a Runner has the job tried again after After without counting an attempt.
type RetryAfterError struct {
	After  time.Duration // 0: as soon as possible
	Reason string
}

func (e *RetryAfterError) Error() string {
	if e.Reason != "" {
		return e.Reason
	}
	return fmt.Sprintf("asked to try again after %s", e.After)
}

// An UnknownQueueError means that no queue has this name.
type UnknownQueueError struct {
	Queue string
	Known []string // sorted
}

func (e *UnknownQueueError) Error() string {
	return fmt.Sprintf("no queue is named %q; there are %s", e.Queue, strings.Join(e.Known, ", "))
}

// A RequestError means that an EnqueueRequest, or another request, cannot be taken as it is. It unwraps
// to every problem.
type RequestError struct {
	Queue string
	Err   error
}

func (e *RequestError) Error() string { return fmt.Sprintf("queue %s: %s", e.Queue, e.Err) }
func (e *RequestError) Unwrap() error { return e.Err }

// An InvalidError means that a payload does not match its queue's schema.
type InvalidError struct {
	Queue    string
	Problems []string // each with the place in the payload, such as "/user/id: missing"
}

func (e *InvalidError) Error() string {
	return fmt.Sprintf("queue %s: the payload does not match its schema: %s", e.Queue, strings.Join(e.Problems, "; "))
}

// A SizeError means that a payload is larger than its queue takes.
type SizeError struct {
	Queue string
	Bytes int
	Limit int
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("queue %s: the payload has %d bytes, at most %d are taken", e.Queue, e.Bytes, e.Limit)
}

// A DuplicateError means that a job with this id or unique key is there already. Nothing was added.
type DuplicateError struct {
	Queue string
	ID    string // of the job that is there
	Key   string // the unique key; empty when it is the id
	State State  // where that job is; empty when unknown
}

func (e *DuplicateError) Error() string {
	if e.Key != "" {
		return fmt.Sprintf("queue %s: job %s holds the unique key %q", e.Queue, e.ID, e.Key)
	}
	return fmt.Sprintf("queue %s: job %s is there already (%s)", e.Queue, e.ID, e.State)
}

// A BacklogError means that a paused queue has as many waiting jobs as it may. Nothing was added.
type BacklogError struct {
	Queue string
	Limit int
	Shed  bool // the queue's policy is that the job is dropped, not tried again
}

func (e *BacklogError) Error() string {
	if e.Shed {
		return fmt.Sprintf("queue %s is paused and has its %d waiting jobs: the job was shed", e.Queue, e.Limit)
	}
	return fmt.Sprintf("queue %s is paused and has its %d waiting jobs: try again later", e.Queue, e.Limit)
}

// A DrainingError means that a queue takes no jobs because it is being drained.
type DrainingError struct {
	Queue string
}

func (e *DrainingError) Error() string {
	return fmt.Sprintf("queue %s is being drained and takes no jobs", e.Queue)
}

// A GuardError means that a queue was not paused because a critical one would suffer.
type GuardError struct {
	Queue  string
	Guards []string      // the critical queues: itself, or those that depend on it; sorted
	Most   time.Duration // how long it may be paused; 0: not at all
}

func (e *GuardError) Error() string {
	if e.Most > 0 {
		return fmt.Sprintf("queue %s may be paused for at most %s, because %s depends on it", e.Queue, e.Most, strings.Join(e.Guards, ", "))
	}
	return fmt.Sprintf("queue %s is not paused, because of the critical queue %s", e.Queue, strings.Join(e.Guards, ", "))
}

// A NotFoundError means that a queue has no job with this id.
type NotFoundError struct {
	Queue string
	ID    string
}

func (e *NotFoundError) Error() string { return fmt.Sprintf("queue %s has no job %s", e.Queue, e.ID) }

// A StateError means that a job is where what was asked cannot be done.
type StateError struct {
	Queue string
	ID    string
	State State
}

func (e *StateError) Error() string {
	return fmt.Sprintf("queue %s: job %s is %s", e.Queue, e.ID, e.State)
}

// LeaseProblem is why a lease token is not taken.
type LeaseProblem string

// The problems.
const (
	LeaseUnknown LeaseProblem = "unknown" // no such token, or used up, or ended too long ago to be remembered
	LeaseEnded   LeaseProblem = "ended"   // nothing was heard in time: the job is tried again
	LeaseElse    LeaseProblem = "replica" // another replica gave it
	LeaseGone    LeaseProblem = "gone"    // the job was cancelled, ran out of time, or the process shuts down
	LeaseOther   LeaseProblem = "queue"   // it is for a job of another queue
)

// A LeaseError means that what was said about a leased job came too late or to the wrong place. Nothing
// was changed.
type LeaseError struct {
	Problem LeaseProblem
	Replica string // that gave the token, for LeaseElse
	Queue   string // of the job, for LeaseOther
}

func (e *LeaseError) Error() string {
	switch e.Problem {
	case LeaseEnded:
		return "the lease has ended, and the job is tried again"
	case LeaseElse:
		return fmt.Sprintf("replica %s gave this lease token; say it there", e.Replica)
	case LeaseGone:
		return "the job was taken back"
	case LeaseOther:
		return fmt.Sprintf("this lease token is for a job of queue %s; nothing was changed", e.Queue)
	case LeaseUnknown:
	}
	return "no lease has this token"
}

// A SchemaError means that a newer program wrote a job. It is left where a newer replica finds it.
type SchemaError struct {
	Queue string
	ID    string
	Got   int
	Known int
}

func (e *SchemaError) Error() string {
	return fmt.Sprintf("queue %s: job %s has schema %d, this program knows %d; use the newer program", e.Queue, e.ID, e.Got, e.Known)
}

// An UncertainError means that Redis did not answer in time, or not at all, and may have done what was
// asked. Adding a job again under the same ID does not double it while its traces are kept.
type UncertainError struct {
	Queue string
	ID    string // of the job; empty where several or none were concerned
	Err   error
}

func (e *UncertainError) Error() string {
	return fmt.Sprintf("queue %s: it is not known whether job %s was changed: %s", e.Queue, e.ID, e.Err)
}
func (e *UncertainError) Unwrap() error { return e.Err }

// A RefusedError means that Redis did not do what was asked, for sure: no memory, a read-only replica, a
// used up quota, or no connection. Class says what to do about it.
type RefusedError struct {
	Queue string
	Class upstream.Class
	Err   error
}

func (e *RefusedError) Error() string { return fmt.Sprintf("queue %s: %s", e.Queue, e.Err) }
func (e *RefusedError) Unwrap() error { return e.Err }

// An UnreachableError ends Run: nothing was heard from Redis for as long as Options.Watchdog allows, also
// after a reconnect.
type UnreachableError struct {
	Since time.Time // the last answer
	Err   error     // the last failure
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no answer from Redis since %s: %s", e.Since.UTC().Format(time.RFC3339), e.Err)
}
func (e *UnreachableError) Unwrap() error { return e.Err }
