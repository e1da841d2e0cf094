package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

// queueProblem is an error of the queue engine as an HTTP error.
func queueProblem(err error) *problemError {
	detail := clean(err.Error())
	if e, ok := errors.AsType[*queue.UnknownQueueError](err); ok {
		return newProblem(http.StatusNotFound, "unknown_queue", "Unknown queue", "no queue has this name", "the queues are: "+strings.Join(e.Known, ", "))
	}
	if e, ok := errors.AsType[*queue.InvalidError](err); ok {
		p := newProblem(http.StatusUnprocessableEntity, "invalid_payload", "Invalid payload", "the payload does not match the schema of queue "+e.Queue,
			"send what the schema in the server's configuration describes")
		for _, problem := range e.Problems {
			p = p.at("body.payload", clean(problem))
		}
		return p
	}
	if e, ok := errors.AsType[*queue.SizeError](err); ok {
		return newProblem(http.StatusRequestEntityTooLarge, "payload_too_large", "Payload too large", detail,
			fmt.Sprintf("keep the data elsewhere and send its key, or raise the queue's max_payload_bytes from %d", e.Limit))
	}
	if e, ok := errors.AsType[*queue.RequestError](err); ok {
		p := newProblem(http.StatusUnprocessableEntity, "invalid_request", "Invalid request", "queue "+e.Queue+" cannot take this request", "compare with /openapi.json")
		for problem := range strings.Lines(e.Err.Error()) {
			p = p.at("body", clean(problem))
		}
		return p
	}
	if e, ok := errors.AsType[*queue.DuplicateError](err); ok {
		p := newProblem(http.StatusConflict, "duplicate_job", "There already", detail, "nothing was added; the job that is there will do, or choose another id")
		return p.with("Redisopt-Job-Id", headerValue(e.ID))
	}
	if p := refusedForNow(err, detail); p != nil {
		return p
	}
	if p := notInThisState(err, detail); p != nil {
		return p
	}
	if p := leaseProblem(err, detail); p != nil {
		return p
	}
	if _, ok := errors.AsType[*queue.UncertainError](err); ok || errors.Is(err, context.DeadlineExceeded) {
		return newProblem(http.StatusGatewayTimeout, "uncertain", "Not known whether it was done", detail,
			"send it again under the same id: it is not done twice while its traces are kept")
	}
	if e, ok := errors.AsType[*problemError](upstreamProblem(err)); ok {
		return e
	}
	return internal()
}

// refusedForNow is for what may succeed later.
func refusedForNow(err error, detail string) *problemError {
	if e, ok := errors.AsType[*queue.BacklogError](err); ok {
		hint := "try again after the queue is resumed; GET /v1/queues says what is paused"
		if e.Shed {
			hint = "the job was dropped, as the queue's backlog policy says"
		}
		return newProblem(http.StatusServiceUnavailable, "backlog_full", "Backlog full", detail, hint).with("Retry-After", "60")
	}
	if _, ok := errors.AsType[*queue.DrainingError](err); ok {
		return newProblem(http.StatusServiceUnavailable, "draining", "Being drained", detail, "try again after the queue is resumed").with("Retry-After", "10")
	}
	if errors.Is(err, queue.ErrStopped) {
		return newProblem(http.StatusServiceUnavailable, "stopping", "Stopping", "this replica shuts down", "ask another replica, or try again").with("Retry-After", "1")
	}
	return nil
}

func notInThisState(err error, detail string) *problemError {
	if e, ok := errors.AsType[*queue.NotFoundError](err); ok {
		return newProblem(http.StatusNotFound, "unknown_job", "Unknown job", "queue "+e.Queue+" has no such job", "it may have ended and its traces may be gone")
	}
	if _, ok := errors.AsType[*queue.StateError](err); ok {
		return newProblem(http.StatusConflict, "wrong_state", "Not in this state", detail, "look at it again")
	}
	if _, ok := errors.AsType[*queue.GuardError](err); ok {
		return newProblem(http.StatusConflict, "queue_guarded", "Not paused", detail, "pause it for as long as it may be, with for_ms, or with force")
	}
	if _, ok := errors.AsType[*queue.SchemaError](err); ok {
		return newProblem(http.StatusConflict, "newer_schema", "Newer schema", detail, "upgrade this replica")
	}
	return nil
}

func leaseProblem(err error, detail string) *problemError {
	e, ok := errors.AsType[*queue.LeaseError](err)
	if !ok {
		return nil
	}
	switch e.Problem {
	case queue.LeaseElse:
		return newProblem(http.StatusMisdirectedRequest, "lease_of_other_replica", "Other replica", detail,
			"send what is about a lease to the replica that gave it").with("Redisopt-Replica", headerValue(e.Replica))
	case queue.LeaseEnded, queue.LeaseGone:
		return newProblem(http.StatusGone, "lease_ended", "Lease ended", detail, "stop working on it, and extend leases in time")
	case queue.LeaseOther:
		return newProblem(http.StatusNotFound, "lease_of_other_queue", "Other queue", detail, "send what is about a lease under its job's queue")
	case queue.LeaseUnknown:
	}
	return newProblem(http.StatusNotFound, "unknown_lease", "Unknown lease", detail, "stop working on it; the job is tried again if it had not ended")
}

// headerValue is s as far as a header can hold it.
func headerValue(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
