package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

// A QueueState is what this replica knows of a queue without asking.
type QueueState struct {
	Queue       string `json:"queue"`
	Mode        string `json:"mode" doc:"push, lease or exec; empty where this replica runs none of its jobs"`
	Critical    bool   `json:"critical"`
	Paused      bool   `json:"paused"`
	Draining    bool   `json:"draining"`
	Running     int    `json:"running"`
	Concurrency int    `json:"concurrency"`
	Waiting     int    `json:"waiting_workers" doc:"Jobs that applications wait for in lease"`
	Leased      int    `json:"leased" doc:"Jobs that applications have"`
	Enqueued    int64  `json:"enqueued"`
	Done        int64  `json:"done"`
	Failed      int64  `json:"failed_attempts"`
	Dead        int64  `json:"failed_permanently"`
	Rescheduled int64  `json:"rescheduled"`
	WaitMS      int64  `json:"wait_ms" doc:"How long the job that was taken last had been due"`
}

// A QueueDepth is how much a queue has to do.
type QueueDepth struct {
	Queue     string `json:"queue"`
	Pending   int    `json:"pending"`
	Scheduled int    `json:"scheduled"`
	Retry     int    `json:"retry"`
	Active    int    `json:"active"`
	Archived  int    `json:"archived" doc:"Dead letters"`
	Completed int    `json:"completed"`
	OldestMS  int64  `json:"oldest_ms" doc:"How long the oldest pending job has waited"`
	Paused    bool   `json:"paused"`
}

// A DeadFilter chooses dead letters. What is given must all hold; nothing chooses all.
type DeadFilter struct {
	IDs      []string   `json:"ids,omitempty" maxItems:"1000" nullable:"false" doc:"One of these"`
	Name     string     `json:"name,omitempty" maxLength:"200" doc:"Exactly"`
	Reason   string     `json:"reason,omitempty" maxLength:"1000" doc:"A part of the reason"`
	Before   *time.Time `json:"before,omitempty" doc:"Failed before"`
	After    *time.Time `json:"after,omitempty" doc:"Failed at or after"`
	Schedule string     `json:"schedule,omitempty" maxLength:"200" doc:"Exactly"`
}

type queuesOutput struct {
	Body struct {
		Queues []QueueState `json:"queues" nullable:"false"`
	}
}

type queueInput struct {
	Queue string `path:"queue" maxLength:"200"`
}

type depthOutput struct{ Body QueueDepth }

type deadInput struct {
	Queue string `path:"queue" maxLength:"200"`
	Body  struct {
		Filter DeadFilter `json:"filter,omitzero"`
		DryRun bool       `json:"dry_run,omitempty" doc:"Changes nothing, and says how many it would be"`
	}
}

type deadOutput struct {
	Body struct {
		Jobs   int  `json:"jobs" doc:"How many were, or would be, concerned"`
		DryRun bool `json:"dry_run"`
	}
}

type pauseInput struct {
	Queue string `path:"queue" maxLength:"200"`
	Body  struct {
		ForMS int64 `json:"for_ms,omitempty" minimum:"1" doc:"The pause ends by itself after it"`
		Force bool  `json:"force,omitempty" doc:"Also what critical queues need"`
	}
}

type resumeInput struct {
	Queue string `path:"queue" maxLength:"200"`
	Body  struct {
		CatchUp string `json:"catch_up,omitempty" enum:"staged,all,newest" doc:"What happens to the backlog; as the queue has it when absent"`
	}
}

type drainInput struct {
	Queue string `path:"queue" maxLength:"200"`
	Body  struct {
		WaitMS int64 `json:"wait_ms,omitempty" minimum:"0" maximum:"60000" doc:"How long to wait until the queue is empty; 0 when absent"`
	}
}

type drainOutput struct {
	Body struct {
		Drained bool `json:"drained" doc:"Nothing waits or runs any more; ask again when false"`
	}
}

func (a *API) queueRoutes(h huma.API) {
	a.jobRoutes(h)
	a.leaseRoutes(h)
	huma.Register(h, a.operation("queue-list", http.MethodGet, "/v1/queues", "queue", "The queues, as this replica knows them", ScopeQueue, "Costs no command."), a.queues)
	at := func(id, method, path, summary, description string) huma.Operation {
		return withErrors(a.operation(id, method, "/v1/queues/{queue}"+path, "queue", summary, ScopeQueue, description), http.StatusNotFound)
	}
	huma.Register(h, at("queue-depth", http.MethodGet, "", "How much a queue has to do", "Asks the upstream: costs about 26 billed commands, so do not poll it."), a.depth)
	huma.Register(h, withErrors(takesJSON(at("queue-pause", http.MethodPost, "/pause", "Stop taking jobs of a queue",
		"On every replica; running ones go on. Costs 3 billed commands. 409: a critical queue would suffer.")), http.StatusConflict), a.pause)
	huma.Register(h, takesJSON(at("queue-resume", http.MethodPost, "/resume", "Take jobs of a queue again", "Ends a pause and a drain.")), a.resume)
	huma.Register(h, waits(takesJSON(at("queue-drain", http.MethodPost, "/drain", "Let a queue run empty",
		"New jobs are refused by this replica until the queue is resumed. Looks at the upstream at most once a second while it waits."))), a.drain)
	huma.Register(h, takesJSON(at("dead-retry", http.MethodPost, "/dead/retry", "Try dead letters again",
		"Done inside the upstream. Costs 4 billed commands for each 100 looked at, 1 for each looked at and 4 for each tried.")), a.retryDead)
	huma.Register(h, takesJSON(at("dead-delete", http.MethodPost, "/dead/delete", "Delete dead letters", "As dead-retry.")), a.deleteDead)
}

func hasName(name string) func(queue.Stats) bool {
	return func(s queue.Stats) bool { return s.Queue == name }
}

func (a *API) queues(context.Context, *struct{}) (*queuesOutput, error) {
	if a.opts.Queue == nil {
		return nil, notEnabled("the queue engine")
	}
	critical := map[string]bool{}
	for _, q := range a.opts.Queue.Queues() {
		critical[q.Name] = q.Critical
	}
	out := &queuesOutput{}
	out.Body.Queues = []QueueState{}
	for _, s := range a.opts.Queue.Stats() {
		out.Body.Queues = append(out.Body.Queues, QueueState{
			Queue: s.Queue, Mode: string(s.Mode), Critical: critical[s.Queue], Paused: s.Paused, Draining: s.Draining, Running: s.Running,
			Concurrency: s.Concurrency, Waiting: s.Waiting, Leased: s.Leased, Enqueued: s.Enqueued, Done: s.Done, Failed: s.Failed,
			Dead: s.Dead, Rescheduled: s.Rescheduled, WaitMS: s.Wait.Milliseconds(),
		})
	}
	return out, nil
}

func (a *API) depth(ctx context.Context, in *queueInput) (*depthOutput, error) {
	if a.opts.Queue == nil {
		return nil, notEnabled("the queue engine")
	}
	d, err := a.opts.Queue.Depth(ctx, in.Queue)
	if err != nil {
		return nil, queueProblem(err)
	}
	return &depthOutput{QueueDepth{
		Queue: d.Queue, Pending: d.Pending, Scheduled: d.Scheduled, Retry: d.Retry, Active: d.Active, Archived: d.Archived,
		Completed: d.Completed, OldestMS: d.Oldest.Milliseconds(), Paused: d.Paused,
	}}, nil
}

func (a *API) pause(ctx context.Context, in *pauseInput) (*struct{}, error) {
	if a.opts.Queue == nil {
		return nil, notEnabled("the queue engine")
	}
	return said(a.opts.Queue.Pause(ctx, in.Queue, queue.PauseOptions{For: milliseconds(in.Body.ForMS), Force: in.Body.Force}))
}

func (a *API) resume(ctx context.Context, in *resumeInput) (*struct{}, error) {
	if a.opts.Queue == nil {
		return nil, notEnabled("the queue engine")
	}
	return said(a.opts.Queue.Resume(ctx, in.Queue, queue.CatchUp(in.Body.CatchUp)))
}

func (a *API) drain(ctx context.Context, in *drainInput) (*drainOutput, error) {
	if a.opts.Queue == nil {
		return nil, notEnabled("the queue engine")
	}
	ctx, cancel := a.untilStopped(ctx)
	defer cancel()
	// Draining begins even where nobody waits for its end; one look at the upstream needs a moment.
	waiting, ended := context.WithTimeout(ctx, max(time.Second, milliseconds(in.Body.WaitMS)))
	defer ended()
	err := a.opts.Queue.Drain(waiting, in.Queue)
	if err != nil && waiting.Err() == nil {
		return nil, queueProblem(err)
	}
	out := &drainOutput{}
	out.Body.Drained = err == nil
	return out, nil
}

func (a *API) retryDead(ctx context.Context, in *deadInput) (*deadOutput, error) {
	if a.opts.Queue == nil {
		return nil, notEnabled("the queue engine")
	}
	return dead(ctx, in, a.opts.Queue.RetryDead)
}

func (a *API) deleteDead(ctx context.Context, in *deadInput) (*deadOutput, error) {
	if a.opts.Queue == nil {
		return nil, notEnabled("the queue engine")
	}
	return dead(ctx, in, a.opts.Queue.DeleteDead)
}

func dead(ctx context.Context, in *deadInput, do func(context.Context, string, queue.Filter, bool) (int, error)) (*deadOutput, error) {
	f := queue.Filter{IDs: in.Body.Filter.IDs, Name: in.Body.Filter.Name, Reason: in.Body.Filter.Reason, Schedule: in.Body.Filter.Schedule}
	if t := in.Body.Filter.Before; t != nil {
		f.Before = *t
	}
	if t := in.Body.Filter.After; t != nil {
		f.After = *t
	}
	n, err := do(ctx, in.Queue, f, in.Body.DryRun)
	if err != nil {
		return nil, queueProblem(err)
	}
	out := &deadOutput{}
	out.Body.Jobs, out.Body.DryRun = n, in.Body.DryRun
	return out, nil
}
