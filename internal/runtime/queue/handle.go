package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hibiken/asynq"
)

var (
	errShutdown = errors.New("the process shuts down")
	errTimeout  = errors.New("timed out")
)

// An outcome is what asynq is told about a failed attempt.
type outcome struct {
	text  string
	dead  bool
	quiet bool          // not an attempt
	after time.Duration // until the next one
	plan  *settlement   // instead of what asynq would do
}

func (o *outcome) Error() string { return o.text }

// Is makes asynq archive what is dead.
func (o *outcome) Is(target error) bool { return o.dead && target == asynq.SkipRetry }

// A handler is what asynq calls.
type handler struct{ e *Engine }

// ProcessTask runs one attempt.
func (h handler) ProcessTask(ctx context.Context, t *asynq.Task) error {
	e := h.e
	id, _ := asynq.GetTaskID(ctx)
	band, _ := asynq.GetQueueName(ctx)
	l := e.byBand[band]
	a := e.witness.handle(place{band, id})
	if l == nil || a == nil {
		return &outcome{text: "this process does not know how it came by the job", quiet: true, after: time.Second}
	}
	defer e.witness.returned(a)
	job, v, err := e.job(ctx, l, a, t)
	if newer, ok := errors.AsType[*SchemaError](err); ok {
		l.newer(band, time.Now(), func() { e.governor.Admitted(band) })
		e.opts.Notice(newer)
		return planned(newer.Error(), toTail())
	}
	l.known(band)
	if err != nil {
		return e.judge(ctx, a, v, job, err)
	}
	result, err := e.attempt(ctx, l, job)
	if err == nil && len(result) > 0 && a.stays() {
		// The work is done, so a result that cannot be kept does not have it done again.
		if failed := e.keep(ctx, a, "result", result); failed != nil {
			e.opts.Notice(failed)
		}
	}
	return e.judge(ctx, a, v, job, err)
}

// stays is whether the job is kept after it was done.
func (a *attempt) stays() bool { return a.msg.Retention > 0 }

// planned is an outcome for which asynq has no way.
func planned(why string, s settlement) error { return &outcome{text: why, quiet: true, plan: &s} }

// job reads what there is to do.
func (e *Engine) job(ctx context.Context, l *line, a *attempt, t *asynq.Task) (Job, envelope, error) {
	retried, _ := asynq.GetRetryCount(ctx)
	retry, _ := asynq.GetMaxRetry(ctx)
	v, headers, err := unseal(t.Headers())
	job := Job{
		Queue: l.def.Name, ID: a.id, Name: t.Type(), Payload: t.Payload(), Headers: headers,
		Priority: priorities()[slices.Index(l.bands, a.band)],
		Attempt:  retried + 1, Attempts: retry + 1, Enqueued: v.enqueued(), Schedule: v.Schedule,
		report: e.reporter(a), at: a,
	}
	if newer, ok := errors.AsType[*SchemaError](err); ok {
		newer.Queue, newer.ID = l.def.Name, a.id
		return job, v, newer
	}
	if err != nil {
		return job, v, &DeadError{Reason: err.Error()}
	}
	timeout := l.def.Timeout
	if v.Timeout > 0 {
		timeout = time.Duration(v.Timeout) * time.Millisecond
	}
	now := time.Now()
	job.Deadline = now.Add(timeout)
	if v.Deadline > 0 {
		if end := time.UnixMilli(v.Deadline); end.Before(job.Deadline) {
			job.Deadline = end
		}
		if !job.Deadline.After(now) {
			return job, v, &DeadError{Reason: "its deadline, " + job.Deadline.UTC().Format(time.RFC3339) + ", has passed"}
		}
	}
	if v.At > 0 {
		l.count(func(s *Stats) { s.Wait = max(0, now.Sub(v.ready())) })
	}
	if v.Batch != "" {
		job.Payload, job.Items, err = e.items(ctx, a)
	}
	return job, v, err
}

// items puts the items of a batch together. It costs 1 command.
func (e *Engine) items(ctx context.Context, a *attempt) ([]byte, int, error) {
	ctx, cancel := context.WithTimeout(ctx, e.opts.CommandTimeout)
	defer cancel()
	all, err := e.opts.Client.HGetAll(ctx, taskKey(a.band, a.id)).Result()
	if err != nil {
		return nil, 0, &outcome{text: "read the items of the batch: " + err.Error(), quiet: true, after: time.Second}
	}
	n, err := strconv.Atoi(all["items"])
	if err != nil || n < 1 {
		return nil, 0, &DeadError{Reason: "the batch has lost its items"}
	}
	parts := make([][]byte, n)
	for i := range n {
		item, ok := all["item:"+strconv.Itoa(i+1)]
		if !ok || !json.Valid([]byte(item)) {
			return nil, 0, &DeadError{Reason: fmt.Sprintf("the batch has lost item %d of %d", i+1, n)}
		}
		parts[i] = []byte(item)
	}
	return slices.Concat([]byte("["), bytes.Join(parts, []byte(",")), []byte("]")), n, nil
}

// attempt has the job run, and returns when who runs it does.
func (e *Engine) attempt(ctx context.Context, l *line, job Job) (result []byte, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(e.interrupt, func() { cancel(errShutdown) })()
	ctx, stop := context.WithDeadlineCause(ctx, job.Deadline, errTimeout)
	defer stop()
	begin := time.Now()
	defer func() {
		if x := recover(); x != nil {
			err = fmt.Errorf("panic: %v", x)
		}
		if err == nil || ctx.Err() == nil {
			return
		}
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, errShutdown) && !decided(err):
			err = errShutdown
		case errors.Is(cause, errTimeout):
			err = fmt.Errorf("timed out after %s: %w", time.Since(begin).Round(time.Millisecond), err)
		}
	}()
	return l.runner.Run(ctx, job)
}

// decided is whether who ran the job has said what becomes of it.
func decided(err error) bool {
	_, dead := errors.AsType[*DeadError](err)
	_, later := errors.AsType[*RetryAfterError](err)
	_, planned := errors.AsType[*outcome](err)
	return dead || later || planned
}

// judge says what becomes of the job.
func (e *Engine) judge(ctx context.Context, a *attempt, v envelope, job Job, err error) error {
	var (
		dead  *DeadError
		later *RetryAfterError
		told  *outcome
	)
	l := a.line
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errShutdown):
		return planned(err.Error(), toHead())
	case errors.Is(ctx.Err(), context.Canceled) && !decided(err):
		return planned("cancelled", toArchive("cancelled"))
	case errors.As(err, &told):
		if told.plan != nil {
			return told
		}
		return postpone(job, told)
	case errors.As(err, &dead):
		return &outcome{text: reason(err.Error()), dead: true}
	case errors.As(err, &later):
		if age := time.Since(v.ready()); v.At > 0 && age > l.def.Failed.Age+l.def.Timeout {
			return &outcome{text: reason(fmt.Sprintf("put off for %s: %s", age.Round(time.Second), err)), dead: true}
		}
		return postpone(job, &outcome{text: reason(err.Error()), quiet: true, after: max(0, later.After)})
	}
	text := reason(err.Error())
	for _, class := range l.def.Final {
		if strings.Contains(text, class) {
			return &outcome{text: text, dead: true}
		}
	}
	return &outcome{text: text, after: whole(l.pause(v, job.Attempt))}
}

// postpone has the job tried later without counting an attempt. asynq can do that, except after the last
// attempt, when it would archive the job.
func postpone(job Job, o *outcome) error {
	if job.Attempt < job.Attempts {
		o.after = whole(o.after)
		return o
	}
	return planned(o.text, toRetry(time.Now().Add(o.after), o.text))
}

// pause is the backoff after an attempt.
func (l *line) pause(v envelope, attempt int) time.Duration {
	b := l.def.Backoff
	if v.Backoff != nil {
		b = v.Backoff.withDefaults()
	}
	return b.pause(attempt, rand.Float64()) //nolint:gosec // it spreads load and keeps no secret
}

// whole makes a pause end on a whole second, which is what asynq would cut it to: never early.
func whole(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	now := time.Now()
	return time.Unix(ceilSecond(now.Add(d)), 0).Sub(now)
}

// retryDelay is asynq's RetryDelayFunc. It also speaks for jobs whose worker is gone.
func (e *Engine) retryDelay(n int, err error, t *asynq.Task) time.Duration {
	if o, ok := errors.AsType[*outcome](err); ok {
		return o.after
	}
	v, _, _ := unseal(t.Headers())
	b := Backoff{}.withDefaults()
	if l := e.lines[v.Queue]; l != nil {
		b = l.def.Backoff
	}
	if v.Backoff != nil {
		b = v.Backoff.withDefaults()
	}
	return whole(b.pause(n+1, rand.Float64())) //nolint:gosec // it spreads load and keeps no secret
}

// isFailure is asynq's IsFailure: whether an attempt counts.
func isFailure(err error) bool {
	o, ok := errors.AsType[*outcome](err)
	return !ok || !o.quiet
}

// HandleError is asynq's ErrorHandler, which is also asked when a handler was not.
func (h handler) HandleError(ctx context.Context, _ *asynq.Task, err error) {
	id, _ := asynq.GetTaskID(ctx)
	band, _ := asynq.GetQueueName(ctx)
	var plan *settlement
	if o, ok := errors.AsType[*outcome](err); ok {
		plan = o.plan
	} else if errors.Is(err, context.Canceled) {
		cancelled := toArchive("cancelled")
		plan = &cancelled
	}
	h.e.witness.failing(place{band, id}, plan)
}

func text(n int64) string { return strconv.FormatInt(n, 10) }
