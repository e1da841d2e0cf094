package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

// maxWait is the longest that a request may wait for a job, or for a queue to be empty.
const maxWait = 60 * time.Second

// A LeasedJob is a job that an application has fetched.
type LeasedJob struct {
	ID            string            `json:"id" doc:"The same in every attempt: what to know a repetition by"`
	Queue         string            `json:"queue"`
	Name          string            `json:"name"`
	Attempt       int               `json:"attempt" doc:"Counts from 1"`
	MaxAttempts   int               `json:"max_attempts"`
	Priority      string            `json:"priority" enum:"high,normal,low"`
	Lease         string            `json:"lease" doc:"Which one it is, in complete, fail, progress and extend"`
	LeaseMS       int64             `json:"lease_ms" doc:"How long nothing need be said about it"`
	LeaseUntil    time.Time         `json:"lease_until"`
	Deadline      *time.Time        `json:"deadline,omitempty" doc:"When this attempt must have ended"`
	Payload       json.RawMessage   `json:"payload,omitempty" doc:"Where it is JSON"`
	PayloadBase64 []byte            `json:"payload_base64,omitempty" doc:"Where it is bytes"`
	Headers       map[string]string `json:"headers" nullable:"false"`
	Items         int               `json:"items,omitempty" doc:"How many items a batch has"`
	Schedule      string            `json:"schedule,omitempty"`
}

type leaseInput struct {
	Queue string `path:"queue" maxLength:"200"`
	Body  struct {
		Max    int   `json:"max,omitempty" minimum:"1" maximum:"100" doc:"How many at most; 1 when absent"`
		WaitMS int64 `json:"wait_ms,omitempty" minimum:"0" maximum:"60000" doc:"How long to wait for the first one; 0 when absent"`
	}
}

type leaseOutput struct {
	Body struct {
		Jobs []LeasedJob `json:"jobs" nullable:"false" doc:"None when there was none in time"`
	}
}

type completeInput struct {
	Queue string `path:"queue" maxLength:"200"`
	Lease string `path:"lease" maxLength:"500"`
	Body  struct {
		Result       json.RawMessage `json:"result,omitempty" doc:"Kept with the job, as JSON; this or result_base64"`
		ResultBase64 *[]byte         `json:"result_base64,omitempty" doc:"The same as bytes"`
	}
}

type failInput struct {
	Queue string `path:"queue" maxLength:"200"`
	Lease string `path:"lease" maxLength:"500"`
	Body  struct {
		Reason       string `json:"reason" minLength:"1" maxLength:"10000" doc:"Kept with the job"`
		Dead         bool   `json:"dead,omitempty" doc:"Makes it a dead letter without further attempts"`
		RetryAfterMS int64  `json:"retry_after_ms,omitempty" minimum:"0" doc:"Has it tried again then, without counting an attempt"`
	}
}

type progressInput struct {
	Queue string `path:"queue" maxLength:"200"`
	Lease string `path:"lease" maxLength:"500"`
	Body  struct {
		Progress json.RawMessage `json:"progress" doc:"JSON of at most 4 KiB, such as 42"`
	}
}

type extendInput struct {
	Queue string `path:"queue" maxLength:"200"`
	Lease string `path:"lease" maxLength:"500"`
	Body  struct {
		MS int64 `json:"ms,omitempty" minimum:"0" maximum:"3600000" doc:"From now; the queue's lease when absent"`
	}
}

type extendOutput struct {
	Body struct {
		LeaseUntil time.Time `json:"lease_until"`
	}
}

func (a *API) leaseRoutes(h huma.API) {
	post := func(id, path, summary, description string) huma.Operation {
		return withErrors(takesJSON(a.operation(id, http.MethodPost, "/v1/queues/{queue}/"+path, "queue", summary, ScopeQueue, description)), http.StatusNotFound)
	}
	held := func(id, path, summary, description string) huma.Operation {
		return withErrors(post(id, "leases/{lease}/"+path, summary, description), http.StatusGone, http.StatusMisdirectedRequest)
	}
	huma.Register(h, waits(post("job-lease", "lease", "Fetch jobs to run",
		"Waits until there is one. Nothing is billed while it waits; a job costs what it costs. Say complete, fail, progress or extend "+
			"before the lease ends, to the same replica, or the job is tried again. A worker that waits again at once needs no pause.")), a.lease)
	huma.Register(h, held("lease-complete", "complete", "A leased job is done", "Answers when the upstream has it."), a.complete)
	huma.Register(h, held("lease-fail", "fail", "A leased job did not succeed", "It is tried again as its queue says, or becomes a dead letter."), a.fail)
	huma.Register(h, held("lease-progress", "progress", "How far a leased job is", "Extends the lease. Kept at most once a second, for 3 billed commands."), a.progress)
	huma.Register(h, held("lease-extend", "extend", "Keep a leased job", "Costs no command."), a.extend)
}

func (a *API) lease(ctx context.Context, in *leaseInput) (*leaseOutput, error) {
	if a.opts.Queue == nil {
		return nil, notEnabled("the queue engine")
	}
	if a.stopping.Load() {
		return nil, queueProblem(queue.ErrStopped) // a worker that asks again at once is told to wait
	}
	ctx, cancel := a.untilStopped(ctx)
	defer cancel()
	jobs, err := a.opts.Queue.Lease(ctx, in.Queue, max(1, in.Body.Max), milliseconds(in.Body.WaitMS))
	if err != nil && ctx.Err() == nil {
		return nil, queueProblem(err)
	}
	out := &leaseOutput{}
	out.Body.Jobs = []LeasedJob{}
	for _, l := range jobs {
		job := LeasedJob{
			ID: l.Job.ID, Queue: l.Job.Queue, Name: l.Job.Name, Attempt: l.Job.Attempt, MaxAttempts: l.Job.Attempts, Priority: string(l.Job.Priority),
			Lease: l.Token, LeaseMS: max(0, time.Until(l.Until).Milliseconds()), LeaseUntil: l.Until.UTC(), Deadline: timeOrNone(l.Job.Deadline),
			Headers: orEmptyMap(l.Job.Headers), Items: l.Job.Items, Schedule: l.Job.Schedule,
		}
		job.Payload, job.PayloadBase64 = jsonOrBytes(l.Job.Payload)
		out.Body.Jobs = append(out.Body.Jobs, job)
	}
	return out, nil
}

func (a *API) complete(ctx context.Context, in *completeInput) (*struct{}, error) {
	if a.opts.Queue == nil {
		return nil, notEnabled("the queue engine")
	}
	result := []byte(in.Body.Result)
	if in.Body.ResultBase64 != nil {
		if len(result) > 0 {
			return nil, invalid("body.result", "want result or result_base64, not both")
		}
		result = *in.Body.ResultBase64
	}
	if err := a.opts.Queue.LeaseOf(in.Queue, in.Lease); err != nil {
		return nil, queueProblem(err)
	}
	return said(a.opts.Queue.Complete(ctx, in.Lease, result))
}

func (a *API) fail(ctx context.Context, in *failInput) (*struct{}, error) {
	if a.opts.Queue == nil {
		return nil, notEnabled("the queue engine")
	}
	if in.Body.Dead && in.Body.RetryAfterMS > 0 {
		return nil, invalid("body.dead", "a dead letter is not tried again; want dead or retry_after_ms, not both")
	}
	if err := a.opts.Queue.LeaseOf(in.Queue, in.Lease); err != nil {
		return nil, queueProblem(err)
	}
	return said(a.opts.Queue.Fail(ctx, in.Lease, queue.Failure{
		Reason: in.Body.Reason, Dead: in.Body.Dead, RetryAfter: milliseconds(in.Body.RetryAfterMS),
	}))
}

func (a *API) progress(ctx context.Context, in *progressInput) (*struct{}, error) {
	if a.opts.Queue == nil {
		return nil, notEnabled("the queue engine")
	}
	if err := a.opts.Queue.LeaseOf(in.Queue, in.Lease); err != nil {
		return nil, queueProblem(err)
	}
	return said(a.opts.Queue.Progress(ctx, in.Lease, in.Body.Progress))
}

func (a *API) extend(ctx context.Context, in *extendInput) (*extendOutput, error) {
	if a.opts.Queue == nil {
		return nil, notEnabled("the queue engine")
	}
	if err := a.opts.Queue.LeaseOf(in.Queue, in.Lease); err != nil {
		return nil, queueProblem(err)
	}
	until, err := a.opts.Queue.Extend(ctx, in.Lease, milliseconds(in.Body.MS))
	if err != nil {
		return nil, queueProblem(err)
	}
	out := &extendOutput{}
	out.Body.LeaseUntil = until.UTC()
	return out, nil
}

// said answers without a body what was said about a lease.
func said(err error) (*struct{}, error) {
	if err != nil {
		return nil, queueProblem(err)
	}
	return nil, nil //nolint:nilnil // an answer without a body
}

// untilStopped is ctx that also ends when the server is told to stop, so that nobody waits then.
func (a *API) untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := context.AfterFunc(a.stop, func() { cancel(queue.ErrStopped) })
	return ctx, func() {
		ended()
		cancel(nil)
	}
}

// waits marks an operation that may wait for up to maxWait besides what it does.
func waits(op huma.Operation) huma.Operation {
	op.Metadata[waitKind] = maxWait
	return op
}
