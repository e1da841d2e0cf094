package queue

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Defaults of a Queue.
const (
	DefaultAttempts      = 3
	DefaultBackoff       = time.Second
	DefaultMaxBackoff    = time.Hour
	DefaultTimeout       = 30 * time.Minute
	DefaultKeepAge       = time.Hour
	DefaultKeepCount     = 1000
	DefaultKeepFailed    = 7 * 24 * time.Hour
	DefaultKeepFailedMax = 100_000
	DefaultMaxPayload    = 256 << 10
	DefaultBacklog       = 10_000
	DefaultLease         = 30 * time.Second
	DefaultLeased        = 100
	DefaultBatchWait     = 10 * time.Second
	DefaultBatchSize     = 100
)

// A Mode is how the jobs of a queue reach who runs them.
type Mode string

// The modes. The zero Mode runs nothing here: this process only adds and looks.
const (
	Push  Mode = "push"  // delivered to the application over HTTP; Queue.Runner does it
	Lease Mode = "lease" // fetched by the application, see Engine.Lease
	Exec  Mode = "exec"  // a command for each job; Queue.Runner does it
)

// A Priority is one of three bands of a queue. Inside a band the order is kept.
type Priority string

// The priorities. The zero Priority is Normal.
const (
	High   Priority = "high"
	Normal Priority = "normal"
	Low    Priority = "low"
)

// Weights say how often each band is looked at first while all three have jobs. A band is never starved:
// with the default weights low is first in one of ten turns.
type Weights struct {
	High, Normal, Low int // default 6, 3, 1; each at least 1
}

// A Rate limits how many jobs begin.
type Rate struct {
	// Jobs may begin within Per, by this process. 0 means no limit.
	Jobs int

	// Per is the length of the window. Default 1s.
	Per time.Duration

	// Burst is how many may begin at once after a quiet time. Default Jobs, at least 1.
	Burst int
}

// BackoffKind is how the pause grows between attempts.
type BackoffKind string

// The kinds.
const (
	Exponential BackoffKind = "exponential" // Delay, then twice that, then four times
	Fixed       BackoffKind = "fixed"       // always Delay
)

// A Backoff is the pause before the next attempt. Pauses end on whole seconds of the clock, because that
// is how the layout keeps them: an attempt is never early and up to a second late.
type Backoff struct {
	// Kind is how it grows. Default Exponential.
	Kind BackoffKind `json:"kind,omitempty"`

	// Delay is the pause before the second attempt. Default 1s.
	Delay time.Duration `json:"delay,omitempty"`

	// Max bounds the pause. Default 1h.
	Max time.Duration `json:"max,omitempty"`

	// Jitter is the largest share by which a pause is lengthened at random, 0 to 1, so that what failed
	// together does not come back together. Default 0.
	Jitter float64 `json:"jitter,omitempty"`
}

// pause is the time between attempt n, counted from 1, and the next; random is in [0, 1).
func (b Backoff) pause(n int, random float64) time.Duration {
	d := float64(b.Delay)
	if b.Kind == Exponential {
		d *= math.Pow(2, float64(max(0, n-1)))
	}
	return time.Duration(min(d, float64(b.Max)) * (1 + b.Jitter*random))
}

func (b Backoff) withDefaults() Backoff {
	if b.Kind == "" {
		b.Kind = Exponential
	}
	if b.Delay == 0 {
		b.Delay = DefaultBackoff
	}
	if b.Max == 0 {
		b.Max = max(DefaultMaxBackoff, b.Delay)
	}
	return b
}

func (b Backoff) validate() error {
	var errs []error
	if b.Kind != Exponential && b.Kind != Fixed {
		errs = append(errs, fmt.Errorf("kind: got %q, want exponential or fixed", b.Kind))
	}
	if b.Delay < 0 {
		errs = append(errs, fmt.Errorf("delay: got %s, want 0 or more", b.Delay))
	}
	if b.Max < b.Delay {
		errs = append(errs, fmt.Errorf("max: got %s, want at least the delay, %s", b.Max, b.Delay))
	}
	if math.IsNaN(b.Jitter) || b.Jitter < 0 || b.Jitter > 1 {
		errs = append(errs, fmt.Errorf("jitter: got %v, want 0 to 1", b.Jitter))
	}
	return errors.Join(errs...)
}

// A Keep says what stays of jobs that have ended.
type Keep struct {
	// Age is how long it stays. For completed jobs default 1h, negative means that nothing stays, neither
	// job nor result; for failed ones default 7 days.
	Age time.Duration

	// Count is how many stay at most, the oldest go first. Default 1000 completed, 100,000 failed. Of
	// completed jobs up to a tenth more may be there, because they are counted now and then.
	Count int
}

// A Backlog says what happens to jobs that are added while a queue is paused or being drained.
type Backlog struct {
	// Limit is how many jobs may wait in each band of a paused queue. Default 10,000; negative means no
	// limit.
	Limit int

	// Shed makes a job beyond the limit vanish, and its producer told so, instead of being refused for a
	// later try. Either way Enqueue returns a *BacklogError.
	Shed bool
}

// A CatchUp is what happens to the backlog when a queue is resumed.
type CatchUp string

// The ways to catch up. The zero CatchUp is Staged.
const (
	Staged CatchUp = "staged" // slowly at first, so that not everything fires at once
	All    CatchUp = "all"    // at full speed
	Newest CatchUp = "newest" // of each schedule only the newest job stays
)

// A Batch says how jobs that are added with a batch key are put together.
type Batch struct {
	// Wait is how long the first item of a batch waits for others. Default 10s, at least 1s; whole
	// seconds, rounded up.
	Wait time.Duration

	// Size is how many items make a batch go at once. Default 100, at most 1000.
	Size int
}

// A Queue is one queue and how it is run. Only Name is required.
type Queue struct {
	// Name is the queue's name: 1 to 200 printable characters without braces, and not ending in ":high"
	// or ":low". Required.
	Name string

	// Mode is how its jobs reach who runs them. Default none: this process does not run them.
	Mode Mode

	// Runner runs the jobs. Required for Push and Exec, refused otherwise.
	Runner Runner

	// Concurrency is how many jobs run at the same time in this process. Default 1; for Lease, where the
	// applications decide, default 100.
	Concurrency int

	// Rate limits how many begin. It is asked before a job is taken from Redis. Default no limit.
	Rate Rate

	// Weights share the turns between the bands.
	Weights Weights

	// Attempts is how often a job is tried in all. Default 3.
	Attempts int

	// Backoff is the pause between attempts.
	Backoff Backoff

	// Final are classes of errors that are not tried again: a job whose error text contains one of them
	// becomes a dead letter at once. Default none.
	Final []string

	// Timeout is how long one attempt may take. Default 30m.
	Timeout time.Duration

	// Completed and Failed say what stays of jobs that have ended.
	Completed, Failed Keep

	// MaxPayload is the largest payload in bytes, and of a batch the largest item. Default 256 KiB.
	MaxPayload int

	// Schema is a JSON Schema, draft 2020-12 unless it names another, that every payload must match
	// when it is added. References to other documents are refused. Default none.
	Schema json.RawMessage

	// Critical is whether users notice within minutes that the queue stands still. It is not paused
	// without force.
	Critical bool

	// DependsOn are the queues without which this one stops being right after a while. Default none.
	DependsOn []string

	// MaxPause is how long this queue may be paused while a critical one depends on it. Default 0:
	// unknown, so it is not paused then.
	MaxPause time.Duration

	// Backlog bounds what is added while the queue is paused.
	Backlog Backlog

	// CatchUp is what happens to the backlog when the queue is resumed. Default Staged.
	CatchUp CatchUp

	// Lease is how long an application may be silent about a job it has fetched. Default 30s, at least
	// 1s.
	Lease time.Duration

	// Batch is how items are put together.
	Batch Batch
}

func (q Queue) withDefaults() Queue {
	def := func(n *int, d int) {
		if *n == 0 {
			*n = d
		}
	}
	last := func(n *time.Duration, d time.Duration) {
		if *n == 0 {
			*n = d
		}
	}
	if q.Mode == Lease {
		def(&q.Concurrency, DefaultLeased)
	}
	def(&q.Concurrency, 1)
	last(&q.Rate.Per, time.Second)
	def(&q.Rate.Burst, max(1, q.Rate.Jobs))
	def(&q.Weights.High, 6)
	def(&q.Weights.Normal, 3)
	def(&q.Weights.Low, 1)
	def(&q.Attempts, DefaultAttempts)
	q.Backoff = q.Backoff.withDefaults()
	last(&q.Timeout, DefaultTimeout)
	last(&q.Completed.Age, DefaultKeepAge)
	def(&q.Completed.Count, DefaultKeepCount)
	last(&q.Failed.Age, DefaultKeepFailed)
	def(&q.Failed.Count, DefaultKeepFailedMax)
	def(&q.MaxPayload, DefaultMaxPayload)
	def(&q.Backlog.Limit, DefaultBacklog)
	if q.CatchUp == "" {
		q.CatchUp = Staged
	}
	last(&q.Lease, DefaultLease)
	last(&q.Batch.Wait, DefaultBatchWait)
	def(&q.Batch.Size, DefaultBatchSize)
	return q
}

func (q Queue) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := checkName(q.Name); err != nil {
		bad("name: %w", err)
	}
	switch q.Mode {
	case Push, Exec:
		if q.Runner == nil {
			bad("runner: missing, mode %s needs one", q.Mode)
		}
	case Lease, "":
		if q.Runner != nil {
			bad("runner: mode %q has none", q.Mode)
		}
	default:
		bad("mode: got %q, want push, lease or exec", q.Mode)
	}
	atLeast := func(name string, n, least int) {
		if n < least {
			bad("%s: got %d, want at least %d", name, n, least)
		}
	}
	atLeast("concurrency", q.Concurrency, 1)
	atLeast("rate.jobs", q.Rate.Jobs, 0)
	atLeast("rate.burst", q.Rate.Burst, 1)
	atLeast("weights.high", q.Weights.High, 1)
	atLeast("weights.normal", q.Weights.Normal, 1)
	atLeast("weights.low", q.Weights.Low, 1)
	atLeast("attempts", q.Attempts, 1)
	atLeast("completed.count", q.Completed.Count, 1)
	atLeast("failed.count", q.Failed.Count, 1)
	atLeast("max_payload", q.MaxPayload, 1)
	atLeast("batch.size", q.Batch.Size, 1)
	if q.Batch.Size > 1000 {
		bad("batch.size: got %d, want at most 1000", q.Batch.Size)
	}
	for name, d := range map[string]time.Duration{
		"rate.per": q.Rate.Per, "timeout": q.Timeout, "failed.age": q.Failed.Age, "lease": q.Lease, "batch.wait": q.Batch.Wait,
	} {
		least := time.Second
		if name == "rate.per" || name == "timeout" {
			least = time.Millisecond
		}
		if d < least {
			bad("%s: got %s, want at least %s", name, d, least)
		}
	}
	if q.MaxPause < 0 {
		bad("max_pause: got %s, want 0 or more", q.MaxPause)
	}
	if err := q.Backoff.validate(); err != nil {
		bad("backoff: %w", err)
	}
	if q.CatchUp != Staged && q.CatchUp != All && q.CatchUp != Newest {
		bad("catch_up: got %q, want staged, all or newest", q.CatchUp)
	}
	return errors.Join(errs...)
}

// checkName is about the names of queues.
func checkName(name string) error {
	switch {
	case strings.TrimSpace(name) == "" || len(name) > 200:
		return fmt.Errorf("%d bytes, want 1 to 200", len(name))
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("%q: want printable UTF-8", name)
	case strings.ContainsAny(name, "{}"):
		return fmt.Errorf("%q: want no braces", name)
	case strings.HasSuffix(name, highSuffix) || strings.HasSuffix(name, lowSuffix):
		return fmt.Errorf("%q: %s and %s at the end are the bands of another queue", name, highSuffix, lowSuffix)
	}
	return nil
}

// What asynq's queues of the bands that are not normal end in.
const (
	highSuffix = ":high"
	lowSuffix  = ":low"
)

// priorities in the order in which they are looked for.
func priorities() []Priority { return []Priority{High, Normal, Low} }

// band is the name of asynq's queue.
func band(queue string, p Priority) string {
	switch p {
	case High:
		return queue + highSuffix
	case Low:
		return queue + lowSuffix
	case Normal:
	}
	return queue
}

// Bands are the names of asynq's queues that queue is made of: high, normal, low.
func Bands(queue string) []string {
	return []string{band(queue, High), band(queue, Normal), band(queue, Low)}
}
