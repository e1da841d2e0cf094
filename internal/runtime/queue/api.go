package queue

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"
)

var errSoon = errors.New("in the next commit")

func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func checkProgress(json.RawMessage) error { return nil }

// An Engine runs queues. Its methods may be called from several goroutines, before, while and after Run
// is called; only Lease needs Run.
type Engine struct{ opts Options }

// New checks Options and compiles the queues' schemas. It sends nothing.
func New(o Options) (*Engine, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	return &Engine{opts: o}, nil
}

// Run takes and runs jobs until ctx ends, then lets running ones end, and returns nil, or an
// *UnreachableError when the watchdog ended it. It is called once. When it returns nothing it started is
// left.
func (e *Engine) Run(ctx context.Context) error { return errSoon }

// Enqueue adds one job. It costs 1 script of 3 commands; 1 more where something is there already, and 1 the first
// time a band is used. Errors: *UnknownQueueError, *RequestError, *InvalidError, *SizeError,
// *DuplicateError, *BacklogError, *DrainingError, *RefusedError, *UncertainError.
func (e *Engine) Enqueue(ctx context.Context, r EnqueueRequest) (Enqueued, error) {
	return Enqueued{}, errSoon
}

// EnqueueMany adds jobs in one round trip, at most 4 commands each. results and errs have one entry for
// each request, in order: either the error is nil or nothing was added for that request.
func (e *Engine) EnqueueMany(ctx context.Context, rs []EnqueueRequest) (results []Enqueued, errs []error) {
	return nil, nil
}

// A Leased is a job that an application has fetched.
type Leased struct {
	Job   Job       `json:"job"`
	Token string    `json:"token"` // says in Complete, Fail, Progress and Extend which one it is
	Until time.Time `json:"until"` // the lease ends then
}

// Lease hands out up to most jobs of a queue of mode Lease. It waits up to wait for the first one and
// returns none without an error when there is none. Jobs are taken from Redis only while somebody waits.
func (e *Engine) Lease(ctx context.Context, queue string, most int, wait time.Duration) ([]Leased, error) {
	return nil, errSoon
}

// Complete says that a leased job is done. It returns when Redis has it. Errors: *LeaseError.
func (e *Engine) Complete(ctx context.Context, token string, result []byte) error { return errSoon }

// A Failure is what an application says about a job that did not succeed.
type Failure struct {
	// Reason is kept with the job.
	Reason string

	// Dead makes the job a dead letter without further attempts.
	Dead bool

	// RetryAfter, where positive, has it tried again then, without counting an attempt.
	RetryAfter time.Duration
}

// Fail says that a leased job did not succeed. Errors: *LeaseError.
func (e *Engine) Fail(ctx context.Context, token string, f Failure) error { return errSoon }

// Progress tells how far a leased job is, and extends its lease by the queue's. Errors: *LeaseError, *RequestError.
func (e *Engine) Progress(ctx context.Context, token string, progress json.RawMessage) error {
	return errSoon
}

// Extend makes the lease end after d from now, at most 1h and never beyond the job's deadline; 0 means
// the queue's Lease. It costs no command. Errors: *LeaseError.
func (e *Engine) Extend(ctx context.Context, token string, d time.Duration) (until time.Time, err error) {
	return time.Time{}, errSoon
}

// A Found is a job as it is kept.
type Found struct {
	Queue     string            `json:"queue"`
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	State     State             `json:"state"`
	Priority  Priority          `json:"priority"`
	Payload   []byte            `json:"payload"`
	Headers   map[string]string `json:"headers"`
	Attempt   int               `json:"attempt"`  // attempts that failed
	Attempts  int               `json:"attempts"` // that there are in all
	Reason    string            `json:"reason"`   // of the last failure
	FailedAt  time.Time         `json:"failed_at,omitzero"`
	Enqueued  time.Time         `json:"enqueued_at,omitzero"`
	RunAt     time.Time         `json:"run_at,omitzero"`
	Completed time.Time         `json:"completed_at,omitzero"`
	Result    []byte            `json:"result,omitempty"`
	Progress  json.RawMessage   `json:"progress,omitempty"`
	Schedule  string            `json:"schedule,omitempty"`
	Items     int               `json:"items,omitempty"`
}

// Find looks one job up by its id, in all bands. It costs 1 script of at most 5 commands. Errors: *NotFoundError.
func (e *Engine) Find(ctx context.Context, queue, id string) (Found, error) {
	return Found{}, errSoon
}

// A Page says which part of a list is wanted.
type Page struct {
	Offset int
	Limit  int // default 20, at most 500
}

// List shows jobs in a state, of all bands, those first that ran, run or ended first. It costs 1 script of 6
// commands and 1 for each job.
func (e *Engine) List(ctx context.Context, queue string, s State, p Page) (jobs []Found, total int, err error) {
	return nil, 0, errSoon
}

// A Filter chooses jobs. The zero Filter chooses all; what is set must all hold.
type Filter struct {
	IDs      []string  // one of these, at most 1000
	Name     string    // exactly
	Reason   string    // part of the reason
	Before   time.Time // ended before
	After    time.Time // ended at or after
	Schedule string    // exactly
}

// RetryDead has the dead letters that f chooses tried once more, and DeleteDead removes them. With dry
// nothing is changed. It returns how many were, or would be, concerned. The work is done inside Redis, at
// most 100 at a time; it costs 1 script of 3 commands for each 100 looked at, 1 for each looked at and 4
// for each changed.
func (e *Engine) RetryDead(ctx context.Context, queue string, f Filter, dry bool) (int, error) {
	return 0, errSoon
}

// DeleteDead is explained at RetryDead.
func (e *Engine) DeleteDead(ctx context.Context, queue string, f Filter, dry bool) (int, error) {
	return 0, errSoon
}

// Cancel removes a job that waits, or interrupts one that runs, on whatever replica. Errors:
// *NotFoundError; *StateError for one that has ended.
func (e *Engine) Cancel(ctx context.Context, queue, id string) error { return errSoon }

// PauseOptions say how a queue is paused.
type PauseOptions struct {
	// For is how long; the pause then ends by itself. Default until Resume, or MaxPause where a critical
	// queue depends on it.
	For time.Duration

	// Force pauses also what critical queues need.
	Force bool
}

// Pause stops jobs of a queue from being taken, on every replica and for every asynq worker. Running ones
// go on. It costs 3 commands. Errors: *GuardError.
func (e *Engine) Pause(ctx context.Context, queue string, o PauseOptions) error { return errSoon }

// Resume ends Pause and Drain, and catches up as how says; empty means as the queue has it. What the
// control document pauses stays paused. It costs 1 command; Newest some more.
func (e *Engine) Resume(ctx context.Context, queue string, how CatchUp) error { return errSoon }

// Drain refuses new jobs with *DrainingError in this process and returns when the queue has none that wait or run,
// or when ctx ends. The queue stays closed until Resume. It looks once a second at most.
func (e *Engine) Drain(ctx context.Context, queue string) error { return errSoon }

// A Depth is how much a queue has to do.
type Depth struct {
	Queue     string        `json:"queue"`
	Pending   int           `json:"pending"`
	Scheduled int           `json:"scheduled"`
	Retry     int           `json:"retry"`
	Active    int           `json:"active"`
	Archived  int           `json:"archived"`
	Completed int           `json:"completed"`
	Oldest    time.Duration `json:"oldest"` // how long the oldest pending job has waited
	Paused    bool          `json:"paused"` // by Pause, or by the control document
}

// Depth asks Redis. It costs 1 script of about 25 commands.
func (e *Engine) Depth(ctx context.Context, queue string) (Depth, error) { return Depth{}, errSoon }

// Stats is what this process knows of a queue without asking.
type Stats struct {
	Queue       string        `json:"queue"`
	Mode        Mode          `json:"mode"`
	Running     int           `json:"running"`
	Concurrency int           `json:"concurrency"`
	Waiting     int           `json:"waiting"` // jobs that applications wait for in Lease
	Leased      int           `json:"leased"`  // jobs that applications have
	Enqueued    int64         `json:"enqueued"`
	Done        int64         `json:"done"`
	Failed      int64         `json:"failed_attempts"`
	Dead        int64         `json:"failed_permanently"`
	Rescheduled int64         `json:"rescheduled"`
	Wait        time.Duration `json:"wait"` // how long the job that was taken last had been due
	Paused      bool          `json:"paused"`
	Draining    bool          `json:"draining"`
}

// Stats has one entry for each queue, in the order of Options.Queues. It sends nothing.
func (e *Engine) Stats() []Stats { return nil }

// Queues are the queues with their defaults. It sends nothing.
func (e *Engine) Queues() []Queue { return e.opts.Queues }
