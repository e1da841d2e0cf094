package mover

import (
	"context"
	"fmt"
	"time"
)

// A Layout is how a queue library keeps jobs in Redis.
type Layout string

// The layouts that can be read and written.
const (
	Bull   Layout = "bull"   // Bull 4.x
	BullMQ Layout = "bullmq" // BullMQ 5.x and 6.x
	Asynq  Layout = "asynq"  // asynq 0.26, named as redisopt's own queues do
)

// An Endpoint is one queue in one layout.
type Endpoint struct {
	// Layout is the library's layout.
	Layout Layout `json:"layout"`

	// Major is the library's major version: 4 for Bull; 5 or 6 for BullMQ, which differ in where a
	// paused queue keeps its waiting jobs; 0 for asynq.
	Major int `json:"major"`

	// Prefix is the key prefix, taken literally, hash tags included. Bull and BullMQ default to "bull";
	// asynq's is always "asynq".
	Prefix string `json:"prefix"`

	// Queue is the queue's name. At asynq that is the normal band; the queues of the other two end in
	// ":high" and ":low".
	Queue string `json:"queue"`
}

// Key is the Redis key of suffix in e's queue: prefix:queue:suffix, or asynq:{queue}:suffix.
func (e Endpoint) Key(suffix string) string {
	if e.Layout == Asynq {
		return e.Prefix + ":{" + e.Queue + "}:" + suffix
	}
	return e.Prefix + ":" + e.Queue + ":" + suffix
}

// String is how e is shown to people: "bullmq 6 bullmq:mail", "asynq mail".
func (e Endpoint) String() string {
	if e.Layout == Asynq {
		return "asynq " + e.Queue
	}
	return fmt.Sprintf("%s %d %s:%s", e.Layout, e.Major, e.Prefix, e.Queue)
}

// A State is where a job is in its life.
type State string

// The states of a job. Prioritized and WaitingChildren exist only in BullMQ.
const (
	Waiting         State = "waiting"
	Paused          State = "paused"
	Prioritized     State = "prioritized"
	Active          State = "active"
	Delayed         State = "delayed"
	Completed       State = "completed"
	Failed          State = "failed"
	WaitingChildren State = "waiting-children"
)

// Order is how priorities survive the way from Bull to BullMQ.
type Order string

// Keep leaves prioritized ids in the wait list, in Bull's own run order, and is the default: it
// reproduces Bull's order exactly. ByPriority puts them in BullMQ's prioritized set, where BullMQ
// runs them after every unprioritized job.
const (
	Keep       Order = "keep"
	ByPriority Order = "zset"
)

// A Loss is something the target layout cannot express, named before anything moves.
type Loss struct {
	// JobID is the job, as the source calls it; empty when the whole queue is meant.
	JobID string `json:"job_id,omitempty"`

	// Field is what is lost or changed: "opts.timeout", "opts.priority", "id", "limiter".
	Field string `json:"field"`

	// Was and Becomes are the values before and after; Becomes is empty when the value is dropped.
	Was     string `json:"was,omitempty"`
	Becomes string `json:"becomes,omitempty"`

	// Why says what the target does instead.
	Why string `json:"why"`

	// Reversible is true when the ledger keeps enough to restore it on the way back.
	Reversible bool `json:"reversible"`
}

// A Problem is something that keeps a job, or the whole queue, from being moved.
type Problem struct {
	// JobID is the job; empty when the whole queue is meant.
	JobID string `json:"job_id,omitempty"`

	// Rule is stable. Of a job: missing-hash, malformed-opts, malformed-field, wrong-type, collision,
	// live-lock, marker-like-id, flow, batch. Of a scheduler: scheduler-without-job, scheduler-pending, scheduler-unlike,
	// scheduler-legacy, scheduler-id-colon, collision. Of a queue: wrong-type, live-worker, flow,
	// archive-limit, cluster, aggregating. Found
	// by Verify: in-two-containers, no-container, missing-hash, wrong-type.
	Rule string `json:"rule"`

	// Message is one sentence: what is wrong and on which key.
	Message string `json:"message"`

	// Blocking is true when nothing may move until it is solved; otherwise only this job stays.
	Blocking bool `json:"blocking"`
}

// Options say what to move where and how.
type Options struct {
	// From and To are the queue as it is and as it shall be. From.Queue and To.Queue may differ.
	// Equal prefix and queue name mean in place, which is refused while anybody is attached.
	From, To Endpoint

	// Order is how priorities survive; default Keep.
	Order Order

	// ChunkSize is the number of jobs one server-side script moves; of jobs that need an edit it moves
	// half as many, so that no script takes longer. Default 50, 1 to 500.
	ChunkSize int

	// MaxRate is the most jobs to move in a second; 0 means as fast as the server answers.
	MaxRate int

	// Pace, when not nil, is asked before every chunk in the place of MaxRate, with the number of jobs
	// in it; it returns when they may be moved, or an error that stops the move. On the way to asynq it is
	// asked by two goroutines at once.
	Pace func(ctx context.Context, jobs int) error

	// SchedulerID chooses the BullMQ job scheduler id for a Bull repeatable; default: its repeat
	// jobId if set, else the 32 hex digits of its occurrence id, which needs no id change. On the way to
	// asynq it chooses what follows the queue's name and a colon in the name of the schedule; default also
	// the job's name.
	SchedulerID func(Repeat) string

	// Timetable reads a schedule of redisopt's own: five cron fields and a zone, or an interval; an error says
	// what is wrong with it. On the way to asynq nil means that schedulers are not checked beforehand; without
	// it no schedule can come back.
	Timetable func(cron, zone string, every time.Duration) (Timetable, error)

	// Ledger is the key prefix under which progress, losses and what the way back needs are kept,
	// written by the same script that moves the jobs. Default "redisopt:ledger:<prefix>:<queue>" of From.
	Ledger string

	// Fence, when its Key is not empty, makes every script check that Key still holds Token, so that
	// an operator who lost the lease can move nothing more.
	Fence Fence

	// Reverse is true on the way back: From is what was the target. Values that the ledger kept are
	// restored, and returned jobs go to the head of the queue, since they are older than what was added.
	Reverse bool

	// WorkersStopped is the operator's word that no worker of the source is running, for servers
	// where CLIENT LIST cannot show it. Active jobs without a lock are moved only if this is set or
	// CLIENT LIST shows that nobody is attached.
	WorkersStopped bool

	// ActiveTimeout is how long Move waits for a live source worker to finish its active jobs before
	// it leaves them and reports them as held. Default 30s; negative: do not wait.
	ActiveTimeout time.Duration

	// LeaveFlows moves the rest of a queue that holds parents of flows, which Bull has no form for.
	// Without it such a queue is refused as a whole on the way to Bull. A child becomes a plain job.
	LeaveFlows bool

	// Straggling is true when the queue has been moved before and its new workers run: what comes late is
	// taken in without pausing them, and asynq's bands are not paused while it arrives.
	Straggling bool

	// Sample is how many jobs of each state Plan reads, spread evenly, where there are more. 0: all of them. A
	// plan in place, and Move itself, always look at every job.
	Sample int64

	// OnProgress, when not nil, is called after every chunk from the goroutine that called Move.
	OnProgress func(Progress)

	now func() time.Time // that asynq tells the age of dead letters by; default time.Now
}

// A Fence is a key that must hold Token.
type Fence struct{ Key, Token string }

// Progress is how far a move is.
type Progress struct {
	State State `json:"state"`
	Moved int64 `json:"moved"`
	Total int64 `json:"total"` // as counted when the move began; producers may add
}

// A Plan is what a move would do. Making it writes nothing.
type Plan struct {
	From     Endpoint        `json:"from"`
	To       Endpoint        `json:"to"`
	Counts   map[State]int64 `json:"counts"`
	Paused   bool            `json:"paused"`
	Repeats  []Repeat        `json:"repeats"`
	Losses   []Loss          `json:"losses"`
	Problems []Problem       `json:"problems"`

	// LossesTotal counts all losses; Losses holds at most 1,000 of them, so that a plan over a
	// million jobs stays small.
	LossesTotal int64 `json:"losses_total"`

	// Commands is the estimated price of Move: top-level and in-script.
	Commands Price `json:"commands"`
}

// A Price is a number of commands.
type Price struct {
	TopLevel int64 `json:"top_level"`
	InScript int64 `json:"in_script"`
}

// A Result is what one Move did.
type Result struct {
	Moved    map[State]int64 `json:"moved"`
	Held     []string        `json:"held"` // active at the source, still running there (at most 1,000 ids)
	Skipped  []Problem       `json:"skipped"`
	Losses   int64           `json:"losses"`
	Scripts  int64           `json:"scripts"`
	Duration time.Duration   `json:"-"`
}

// A Verification compares source and target after a move.
type Verification struct {
	Remaining map[State]int64 `json:"remaining"` // still at the source, by state
	Moved     map[State]int64 `json:"moved"`     // ledger total, by state
	Target    map[State]int64 `json:"target"`    // at the target now, by state

	// Hollow is how many of Remaining are ids without a job, which nothing can move or needs to. It is
	// counted only while at most 1,000 remain.
	Hollow int64 `json:"hollow"`

	// Schedulers is how many schedulers are still at the source; 0 in place, where Move reports them.
	Schedulers int64 `json:"schedulers"`

	// Known is how many mismatches were there before the first job moved, as Note found them. They are
	// no fault of the move and are left out of Mismatches.
	Known int64 `json:"known"`

	// Finished says that the last Move this way came to its end: with what belongs to the queue as a
	// whole, which comes after the last job.
	Finished bool `json:"finished"`

	Mismatches []Problem `json:"mismatches"` // jobs in two containers, hashes without a container …
}
