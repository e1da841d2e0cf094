package queue

import (
	"context"
	"encoding/json"
	"time"
)

// A Job is one attempt at a job, as who runs it sees it.
type Job struct {
	// Queue and ID name the job. Together they are the same in every attempt, so they are what to know a
	// repetition by.
	Queue string `json:"queue"`
	ID    string `json:"id"`

	// Name is what kind of job it is.
	Name string `json:"name"`

	// Payload is what was added. For a batch it is a JSON array of the items, in the order in which they
	// were added.
	Payload []byte `json:"payload"`

	// Items is how many items a batch has; 0 for a job that is none.
	Items int `json:"items"`

	// Headers are what the producer gave for tracing, never nil.
	Headers map[string]string `json:"headers"`

	// Priority is the band it came from.
	Priority Priority `json:"priority"`

	// Attempt counts the attempts from 1; Attempts is how many there are.
	Attempt  int `json:"attempt"`
	Attempts int `json:"attempts"`

	// Enqueued is when it was added, by the producer's clock; zero for a job that something else than this
	// package added.
	Enqueued time.Time `json:"enqueued_at"`

	// Deadline is when this attempt must have ended.
	Deadline time.Time `json:"deadline"`

	// Schedule is the schedule that added it; empty for none.
	Schedule string `json:"schedule,omitempty"`

	report func(json.RawMessage) error // how far the job is; nil where nobody listens
	at     *attempt                    // nil in a Job that the Engine did not make
}

// Progress tells how far the job is. Progress is JSON of at most 4 KiB, such as 42 or {"done": 42}. It is
// kept with the job, at most once a second: of what is told in between only the last stays. It costs 1
// script of 2 commands each time it is kept. It never waits for Redis. The error is about the document.
func (j Job) Progress(progress json.RawMessage) error {
	if err := checkProgress(progress); err != nil {
		return err
	}
	if j.report == nil {
		return nil
	}
	return j.report(progress)
}

// A Runner runs jobs. Run is called from several goroutines. Its context ends at the job's timeout or
// deadline, when the job is cancelled, when this process no longer holds it, and at the end of a
// shutdown's patience; Run must then return soon, because the job counts against its queue until it does.
//
// A nil error means done, and result is kept with the job. *DeadError makes it a dead letter at once.
// *RetryAfterError has it tried later without counting an attempt. Any other error is a failed attempt: it is tried
// again after the queue's backoff, or is a dead letter after the last one. A panic is a failed attempt
// too.
type Runner interface {
	Run(ctx context.Context, job Job) (result []byte, err error)
}

// RunnerFunc makes a Runner of a function.
type RunnerFunc func(ctx context.Context, job Job) ([]byte, error)

// Run calls f.
func (f RunnerFunc) Run(ctx context.Context, job Job) ([]byte, error) { return f(ctx, job) }

// An EnqueueRequest says what to add. Only Queue is required.
type EnqueueRequest struct {
	// Queue is a queue of Options.Queues. Required.
	Queue string

	// Name is what kind of job it is, at most 200 bytes. Default the queue's name.
	Name string

	// Payload is the application's; JSON where the queue has a schema.
	Payload []byte

	// ID names the job, at most 200 bytes. While a job with this id waits or runs, in any band, another
	// is a *DuplicateError; after it has ended, well or not, its traces make way. Default a random one.
	ID string

	// Unique makes the job the only one of its queue with this key, at most 200 bytes, while it waits or
	// runs; a failed one does not count. The key is held for 30 days at most. On a Redis Cluster it holds
	// within a band. Default none.
	Unique string

	// Once makes an ID or a Unique key that an ended job left behind a *DuplicateError too, as long as
	// its traces are kept. A schedule adds its ticks with it.
	Once bool

	// Priority is the band. Default Normal.
	Priority Priority

	// Delay is how long to wait before it may run; RunAt is the same as a time, and wins. Whole seconds of
	// the clock, rounded up. Default at once.
	Delay time.Duration
	RunAt time.Time

	// Attempts, Backoff and Timeout differ from the queue's where they are set.
	Attempts int
	Backoff  *Backoff
	Timeout  time.Duration

	// Deadline is when the job is of no use any more: no attempt runs beyond it. Default none.
	Deadline time.Time

	// Headers travel with the job, such as traceparent: at most 32, 8 KiB in all, none whose name begins
	// with "redisopt".
	Headers map[string]string

	// Batch puts the payload, which must be JSON, into the batch with this key, at most 200 bytes, instead
	// of making a job of its own. ID, Unique, Once, Delay and RunAt are refused with it.
	Batch string

	// Schedule is the name of the schedule that adds it, see Newest. Default none.
	Schedule string

	// Retain keeps the traces of the job for this much longer after it was done than the queue keeps them. Where
	// Keep.Count is exceeded, jobs that were done meanwhile without it go first. Default 0.
	Retain time.Duration
}

// An Enqueued is what became of an EnqueueRequest.
type Enqueued struct {
	Queue string `json:"queue"`
	ID    string `json:"id"` // of the batch's job where the request was an item

	// State is pending, or scheduled for one that waits for its time and for a batch that is open.
	State State `json:"state"`

	// RunAt is when it may run; zero when at once.
	RunAt time.Time `json:"run_at,omitzero"`

	// Items is how many items the batch has with this one; 0 for a job that is none.
	Items int `json:"items,omitempty"`
}

// A State is where a job is.
type State string

// The states, named as asynq does; a failed attempt waits in Retry, a dead letter is Archived.
const (
	Pending   State = "pending"
	Scheduled State = "scheduled"
	Active    State = "active"
	Retry     State = "retry"
	Archived  State = "archived"
	Completed State = "completed"
)
