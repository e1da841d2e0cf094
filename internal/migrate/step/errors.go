package step

import (
	"fmt"
	"strings"

	"github.com/redisopt/redisopt/internal/migrate/mover"
)

// A HeldJobsError reports jobs that a live worker is still running, which nobody may take from it.
type HeldJobsError struct {
	Queue mover.Endpoint // where the worker runs
	IDs   []string       // at most 1,000
}

func (e *HeldJobsError) Error() string {
	return fmt.Sprintf("a worker of %s still runs active jobs (%d): %s", e.Queue, len(e.IDs), some(e.IDs))
}

// A BlockedError reports what must be solved before anything may move.
type BlockedError struct {
	Queue    mover.Endpoint
	Problems []mover.Problem // all of them blocking
}

func (e *BlockedError) Error() string {
	messages := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		messages[i] = p.Message
	}
	return fmt.Sprintf("%s cannot be moved: %s", e.Queue, strings.Join(messages, "; "))
}

// A MismatchError reports that source, target and ledger do not agree after a move.
type MismatchError struct {
	Queue      mover.Endpoint
	Mismatches []mover.Problem
}

func (e *MismatchError) Error() string {
	messages := make([]string, len(e.Mismatches))
	for i, p := range e.Mismatches {
		messages[i] = p.Message
	}
	return fmt.Sprintf("%d mismatches in %s: %s", len(messages), e.Queue, some(messages))
}

// An UnknownQueueError reports a queue that has no keys.
type UnknownQueueError struct {
	Prefix, Queue string
	Near          []string // names of queues under Prefix, nearest first; empty when there are none
}

func (e *UnknownQueueError) Error() string {
	if len(e.Near) == 0 {
		return fmt.Sprintf("no queue %q under prefix %q, and no other queue either", e.Queue, e.Prefix)
	}
	return fmt.Sprintf("no queue %q under prefix %q; there are: %s", e.Queue, e.Prefix, some(e.Near))
}

// A LayoutError reports a queue that is not in the layout that the migration starts from.
type LayoutError struct {
	Queue mover.Endpoint
	Want  mover.Layout
}

func (e *LayoutError) Error() string {
	return fmt.Sprintf("queue %s:%s is in the %s layout, want %s", e.Queue.Prefix, e.Queue.Queue, e.Queue.Layout, e.Want)
}

// A MajorError reports that the version of the target's library decides how this queue is written, and
// that it can not be told from Redis.
type MajorError struct{ Queue mover.Endpoint }

func (e *MajorError) Error() string {
	return fmt.Sprintf("%s:%s is paused, BullMQ 5 and 6 keep a paused queue's jobs in different places, and which of them will run %s:%s is not known yet",
		e.Queue.Prefix, e.Queue.Queue, e.Queue.Prefix, e.Queue.Queue)
}

// some lists the first few of many.
func some(all []string) string {
	const shown = 5
	if len(all) <= shown {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:shown], ", "), len(all)-shown)
}
