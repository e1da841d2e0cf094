package queue

import "time"

// An EventKind is what happened to a job.
type EventKind string

// The kinds. Failed is one attempt that did not succeed; the job is tried again. Dead is a job that failed
// for good, so that a person may have to be told; it comes once, without a Failed for the same attempt.
const (
	Done        EventKind = "completed"
	Failed      EventKind = "failed_attempt"
	Dead        EventKind = "failed_permanently"
	Rescheduled EventKind = "rescheduled" // tried later without counting an attempt
)

// An Event is one thing that happened to a job, told after Redis has confirmed it.
type Event struct {
	Kind    EventKind     `json:"kind"`
	Queue   string        `json:"queue"`
	ID      string        `json:"id"`
	Name    string        `json:"name"`
	Attempt int           `json:"attempt"` // that ended
	Reason  string        `json:"reason,omitempty"`
	RetryAt time.Time     `json:"retry_at,omitzero"` // of Failed and Rescheduled
	Took    time.Duration `json:"took"`              // the attempt; 0 when another process made it
	At      time.Time     `json:"at"`
}
