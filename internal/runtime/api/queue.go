package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

// A JobRequest is a job to be added.
type JobRequest struct {
	Name          string            `json:"name,omitempty" maxLength:"200" doc:"What kind of job it is; the queue's name when absent"`
	Payload       json.RawMessage   `json:"payload,omitempty" doc:"What the job is about, as JSON; this or payload_base64"`
	PayloadBase64 *[]byte           `json:"payload_base64,omitempty" doc:"The same as bytes"`
	ID            string            `json:"id,omitempty" maxLength:"200" doc:"Names the job: while one of this id waits or runs another is refused with 409. A random one when absent"`
	Unique        string            `json:"unique,omitempty" maxLength:"200" doc:"Makes it the only job of the queue with this key while it waits or runs; a failed one does not count"`
	Once          bool              `json:"once,omitempty" doc:"A job that has ended under this id or key refuses it too, as long as its traces are kept"`
	Priority      string            `json:"priority,omitempty" enum:"high,normal,low" doc:"normal when absent"`
	DelayMS       int64             `json:"delay_ms,omitempty" minimum:"0" doc:"How long to wait; kept in whole seconds, rounded up"`
	RunAt         *time.Time        `json:"run_at,omitempty" doc:"The same as a time; wins over delay_ms"`
	Attempts      int               `json:"attempts,omitempty" minimum:"1" maximum:"1000" doc:"As the queue has it when absent"`
	Backoff       *JobBackoff       `json:"backoff,omitempty" doc:"As the queue has it when absent"`
	TimeoutMS     int64             `json:"timeout_ms,omitempty" minimum:"1" doc:"How long an attempt may take; as the queue has it when absent"`
	Deadline      *time.Time        `json:"deadline,omitempty" doc:"No attempt runs beyond it"`
	Headers       map[string]string `json:"headers,omitempty" doc:"They travel with the job, such as traceparent"`
	Batch         string            `json:"batch,omitempty" maxLength:"200" doc:"Puts the payload into the batch with this key instead of making a job of its own"`
}

// A JobBackoff is the pause before another attempt.
type JobBackoff struct {
	Kind    string  `json:"kind,omitempty" enum:"exponential,fixed" doc:"exponential when absent"`
	DelayMS int64   `json:"delay_ms,omitempty" minimum:"1" doc:"The pause before the second attempt; 1000 when absent"`
	MaxMS   int64   `json:"max_ms,omitempty" minimum:"1" doc:"The longest pause; an hour when absent"`
	Jitter  float64 `json:"jitter,omitempty" minimum:"0" maximum:"1" doc:"The largest share by which a pause is lengthened at random"`
}

// A JobResult is what became of one request of a bulk.
type JobResult struct {
	Job     *queue.Enqueued `json:"job,omitempty" doc:"The job that was added"`
	Problem *Problem        `json:"problem,omitempty" doc:"Why it was not"`
}

// A QueuedJob is a job as it is kept.
type QueuedJob struct {
	Queue         string            `json:"queue"`
	ID            string            `json:"id"`
	Name          string            `json:"name"`
	State         string            `json:"state" enum:"pending,scheduled,active,retry,archived,completed" doc:"retry waits for another attempt; archived is a dead letter"`
	Priority      string            `json:"priority" enum:"high,normal,low"`
	Payload       json.RawMessage   `json:"payload,omitempty" doc:"Where it is JSON"`
	PayloadBase64 []byte            `json:"payload_base64,omitempty" doc:"Where it is bytes"`
	Headers       map[string]string `json:"headers" nullable:"false"`
	Failures      int               `json:"failed_attempts"`
	MaxAttempts   int               `json:"max_attempts"`
	Reason        string            `json:"reason,omitempty" doc:"Of the last failure"`
	EnqueuedAt    *time.Time        `json:"enqueued_at,omitempty"`
	RunAt         *time.Time        `json:"run_at,omitempty"`
	FailedAt      *time.Time        `json:"failed_at,omitempty"`
	CompletedAt   *time.Time        `json:"completed_at,omitempty"`
	Result        json.RawMessage   `json:"result,omitempty" doc:"Where it is JSON"`
	ResultBase64  []byte            `json:"result_base64,omitempty" doc:"Where it is bytes"`
	Progress      json.RawMessage   `json:"progress,omitempty"`
	Schedule      string            `json:"schedule,omitempty" doc:"The schedule that added it"`
	Items         int               `json:"items,omitempty" doc:"How many items a batch has"`
}

type enqueueInput struct {
	Queue string `path:"queue" maxLength:"200"`
	Body  JobRequest
}

type enqueueOutput struct{ Body queue.Enqueued }

type bulkInput struct {
	Queue string `path:"queue" maxLength:"200"`
	Body  struct {
		Jobs []JobRequest `json:"jobs" minItems:"1" maxItems:"1000" nullable:"false"`
	}
}

type bulkOutput struct {
	Body struct {
		Added   int         `json:"added" doc:"How many of them were added"`
		Results []JobResult `json:"results" nullable:"false" doc:"In the order of the jobs"`
	}
}

type jobInput struct {
	Queue string `path:"queue" maxLength:"200"`
	ID    string `path:"id" maxLength:"200"`
}

type jobOutput struct{ Body QueuedJob }

type jobsInput struct {
	Queue  string `path:"queue" maxLength:"200"`
	State  string `query:"state" enum:"pending,scheduled,active,retry,archived,completed" default:"pending"`
	Offset int    `query:"offset" minimum:"0" default:"0"`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"20"`
}

type jobsOutput struct {
	Body struct {
		Total int         `json:"total" doc:"How many there are in this state"`
		Jobs  []QueuedJob `json:"jobs" nullable:"false"`
	}
}

func (a *API) jobRoutes(h huma.API) {
	at := func(id, method, path, summary, description string) huma.Operation {
		return withErrors(a.operation(id, method, "/v1/queues/{queue}/"+path, "queue", summary, ScopeQueue, description), http.StatusNotFound)
	}
	add := at("job-enqueue", http.MethodPost, "jobs", "Add a job",
		"Costs 4 billed commands. 409: a job with this id or unique key is there; 503: the queue is paused and full, or being drained. "+
			"After 504 it is not known whether it was added: send it again under the same id.")
	add.DefaultStatus = http.StatusCreated
	huma.Register(h, withErrors(takesJSON(add), http.StatusConflict, http.StatusServiceUnavailable, http.StatusGatewayTimeout), a.enqueue)
	huma.Register(h, takesJSON(at("job-enqueue-bulk", http.MethodPost, "jobs/bulk", "Add jobs in one round trip",
		"Costs at most 4 billed commands for each. Each is added or refused by itself; the answer is 200 either way.")), a.enqueueBulk)
	huma.Register(h, at("job-list", http.MethodGet, "jobs", "The jobs in one state",
		"Those first that ran, run or ended first. Costs 7 billed commands and 1 for each job."), a.listJobs)
	huma.Register(h, at("job-get", http.MethodGet, "jobs/{id}", "One job", "Costs at most 6 billed commands."), a.findJob)
	huma.Register(h, withErrors(at("job-cancel", http.MethodDelete, "jobs/{id}", "Cancel a job",
		"Removes one that waits; interrupts one that runs, on whatever replica. 409: it has ended."), http.StatusConflict), a.cancelJob)
}

// jobRequest makes an engine's request of an API's.
func jobRequest(in string, r JobRequest, at string) (queue.EnqueueRequest, *problemError) {
	out := queue.EnqueueRequest{
		Queue: in, Name: r.Name, Payload: r.Payload, ID: r.ID, Unique: r.Unique, Once: r.Once, Priority: queue.Priority(r.Priority),
		Delay: milliseconds(r.DelayMS), Attempts: r.Attempts, Timeout: milliseconds(r.TimeoutMS), Headers: r.Headers, Batch: r.Batch,
	}
	if r.PayloadBase64 != nil {
		if len(r.Payload) > 0 {
			return out, invalid(at+".payload", "want payload or payload_base64, not both")
		}
		out.Payload = *r.PayloadBase64
	}
	if r.RunAt != nil {
		out.RunAt = *r.RunAt
	}
	if r.Deadline != nil {
		out.Deadline = *r.Deadline
	}
	if b := r.Backoff; b != nil {
		out.Backoff = &queue.Backoff{Kind: queue.BackoffKind(b.Kind), Delay: milliseconds(b.DelayMS), Max: milliseconds(b.MaxMS), Jitter: b.Jitter}
	}
	return out, nil
}

func (a *API) enqueue(ctx context.Context, in *enqueueInput) (*enqueueOutput, error) {
	if a.opts.Queue == nil {
		return nil, notEnabled("the queue engine")
	}
	r, refused := jobRequest(in.Queue, in.Body, "body")
	if refused != nil {
		return nil, refused
	}
	job, err := a.opts.Queue.Enqueue(ctx, r)
	if err != nil {
		return nil, queueProblem(err)
	}
	return &enqueueOutput{job}, nil
}

func (a *API) enqueueBulk(ctx context.Context, in *bulkInput) (*bulkOutput, error) {
	if a.opts.Queue == nil {
		return nil, notEnabled("the queue engine")
	}
	requests := make([]queue.EnqueueRequest, len(in.Body.Jobs))
	for i, job := range in.Body.Jobs {
		var refused *problemError
		if requests[i], refused = jobRequest(in.Queue, job, "body.jobs["+itoa(i)+"]"); refused != nil {
			return nil, refused
		}
	}
	jobs, errs := a.opts.Queue.EnqueueMany(ctx, requests)
	out := &bulkOutput{}
	out.Body.Results = make([]JobResult, len(requests))
	for i := range requests {
		if errs[i] != nil {
			p := queueProblem(errs[i]).problem
			p.RequestID = infoOf(ctx).id
			out.Body.Results[i].Problem = &p
			continue
		}
		out.Body.Added++
		out.Body.Results[i].Job = &jobs[i]
	}
	return out, nil
}

func (a *API) findJob(ctx context.Context, in *jobInput) (*jobOutput, error) {
	if a.opts.Queue == nil {
		return nil, notEnabled("the queue engine")
	}
	job, err := a.opts.Queue.Find(ctx, in.Queue, in.ID)
	if err != nil {
		return nil, queueProblem(err)
	}
	return &jobOutput{queuedJob(job)}, nil
}

func (a *API) listJobs(ctx context.Context, in *jobsInput) (*jobsOutput, error) {
	if a.opts.Queue == nil {
		return nil, notEnabled("the queue engine")
	}
	jobs, total, err := a.opts.Queue.List(ctx, in.Queue, queue.State(in.State), queue.Page{Offset: in.Offset, Limit: in.Limit})
	if err != nil {
		return nil, queueProblem(err)
	}
	out := &jobsOutput{}
	out.Body.Total, out.Body.Jobs = total, []QueuedJob{}
	for _, job := range jobs {
		out.Body.Jobs = append(out.Body.Jobs, queuedJob(job))
	}
	return out, nil
}

func (a *API) cancelJob(ctx context.Context, in *jobInput) (*struct{}, error) {
	if a.opts.Queue == nil {
		return nil, notEnabled("the queue engine")
	}
	if err := a.opts.Queue.Cancel(ctx, in.Queue, in.ID); err != nil {
		return nil, queueProblem(err)
	}
	return nil, nil //nolint:nilnil // an answer without a body
}

func queuedJob(f queue.Found) QueuedJob {
	out := QueuedJob{
		Queue: f.Queue, ID: f.ID, Name: f.Name, State: string(f.State), Priority: string(f.Priority), Headers: orEmptyMap(f.Headers),
		Failures: f.Attempt, MaxAttempts: f.Attempts, Reason: f.Reason, Progress: f.Progress, Schedule: f.Schedule, Items: f.Items,
		EnqueuedAt: timeOrNone(f.Enqueued), RunAt: timeOrNone(f.RunAt), FailedAt: timeOrNone(f.FailedAt), CompletedAt: timeOrNone(f.Completed),
	}
	out.Payload, out.PayloadBase64 = jsonOrBytes(f.Payload)
	out.Result, out.ResultBase64 = jsonOrBytes(f.Result)
	return out
}

// jsonOrBytes is how a value travels inside a JSON document: as JSON where it is, else as base64.
func jsonOrBytes(value []byte) (json.RawMessage, []byte) {
	switch {
	case len(value) == 0:
		return nil, nil
	case json.Valid(value):
		return value, nil
	}
	return nil, value
}

func timeOrNone(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// milliseconds is n of them; what a duration cannot hold becomes the longest one.
func milliseconds(n int64) time.Duration {
	const longest = int64(1<<63-1) / int64(time.Millisecond)
	return time.Duration(min(n, longest)) * time.Millisecond
}
