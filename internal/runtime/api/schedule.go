package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/redisopt/redisopt/internal/runtime/queue/cron"
)

// ConfiguredOrigin marks schedules of the configuration, which are changed there alone.
const ConfiguredOrigin = "config"

// nextRuns is how many of the times to come are shown.
const nextRuns = 5

// A ScheduledJob is what a schedule adds.
type ScheduledJob struct {
	Name     string          `json:"name,omitempty" maxLength:"200" doc:"What kind of job it is; the queue's name when absent"`
	Payload  json.RawMessage `json:"payload,omitempty" doc:"JSON"`
	Priority string          `json:"priority,omitempty" enum:"high,normal,low" doc:"normal when absent"`
	Attempts int             `json:"attempts,omitempty" minimum:"1" doc:"As the queue has it when absent"`
}

// A ScheduleRequest is a schedule as it is to be. One of cron and every_ms is needed.
type ScheduleRequest struct {
	Queue      string        `json:"queue" minLength:"1" maxLength:"200"`
	Cron       string        `json:"cron,omitempty" maxLength:"200" doc:"Minute, hour, day of the month, month, day of the week; or @daily and the like"`
	EveryMS    int64         `json:"every_ms,omitempty" minimum:"1000" doc:"Whole seconds, counted from the Unix epoch"`
	TimeZone   string        `json:"time_zone,omitempty" maxLength:"64" doc:"Of cron, such as Europe/Berlin; UTC when absent"`
	Misfire    string        `json:"misfire,omitempty" enum:"once,skip,all" doc:"What is made up for that was missed; once when absent"`
	MisfireMax int           `json:"misfire_max,omitempty" minimum:"1" maximum:"1000" doc:"The most that all makes up for; 10 when absent"`
	JitterMS   int64         `json:"jitter_ms,omitempty" minimum:"0" maximum:"3600000" doc:"Delays each job by something up to it"`
	Job        *ScheduledJob `json:"job,omitempty"`
	Paused     bool          `json:"paused,omitempty"`
}

// A ScheduleState is a schedule and when it is due.
type ScheduleState struct {
	Name       string          `json:"name"`
	Queue      string          `json:"queue"`
	Cron       string          `json:"cron,omitempty"`
	EveryMS    int64           `json:"every_ms,omitempty"`
	TimeZone   string          `json:"time_zone"`
	Misfire    string          `json:"misfire"`
	MisfireMax int             `json:"misfire_max,omitempty"`
	JitterMS   int64           `json:"jitter_ms,omitempty"`
	Job        json.RawMessage `json:"job,omitempty"`
	Paused     bool            `json:"paused"`
	Configured bool            `json:"configured" doc:"It is in the configuration, and changed there"`
	Next       []time.Time     `json:"next" nullable:"false" doc:"The next five times, jitter aside; none while it is paused"`
	Last       *time.Time      `json:"last,omitempty" doc:"The last time that is known; for misfire once up to 5 minutes old, for skip absent"`
}

type schedulesOutput struct {
	Body struct {
		Schedules []ScheduleState `json:"schedules" nullable:"false"`
		Damaged   []string        `json:"damaged" nullable:"false" doc:"What is stored and cannot be read"`
	}
}

type scheduleInput struct {
	Name string `path:"name" maxLength:"128"`
}

type schedulePutInput struct {
	Name string `path:"name" maxLength:"128"`
	Body ScheduleRequest
}

func (a *API) scheduleRoutes(h huma.API) {
	at := func(id, method, path, summary, description string) huma.Operation {
		return withErrors(a.operation(id, method, "/v1/schedules/{name}"+path, "queue", summary, ScopeQueue, description),
			http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable)
	}
	huma.Register(h, a.operation("schedule-list", http.MethodGet, "/v1/schedules", "queue", "The schedules of the fleet", ScopeQueue, "Costs 1 billed command."), a.schedules)
	huma.Register(h, takesJSON(at("schedule-put", http.MethodPut, "", "Add or replace a schedule",
		"Every replica fires it from now on, each time once in all. Costs at most 8 billed commands. 409: it is in the configuration.")), a.schedulePut)
	huma.Register(h, at("schedule-delete", http.MethodDelete, "", "Remove a schedule", "Costs 8 billed commands. 409: it is in the configuration."), a.scheduleDelete)
	huma.Register(h, at("schedule-pause", http.MethodPost, "/pause", "Stop a schedule", "Until it is resumed; what falls into the pause is not made up for. Costs 6 billed commands."), a.schedulePause)
	huma.Register(h, at("schedule-resume", http.MethodPost, "/resume", "Let a paused schedule go on", "As schedule-pause."), a.scheduleResume)
}

func (a *API) schedules(ctx context.Context, _ *struct{}) (*schedulesOutput, error) {
	if a.opts.Schedules == nil {
		return nil, notEnabled("the queue engine")
	}
	list, err := a.opts.Schedules.List(ctx)
	if err != nil && list == nil {
		return nil, scheduleProblem(err)
	}
	out := &schedulesOutput{}
	out.Body.Schedules, out.Body.Damaged = []ScheduleState{}, []string{}
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			out.Body.Damaged = append(out.Body.Damaged, clean(strings.TrimSuffix(line, "\n")))
		}
	}
	for _, e := range list {
		out.Body.Schedules = append(out.Body.Schedules, scheduleState(e))
	}
	return out, nil
}

func scheduleState(e cron.Entry) ScheduleState {
	s := e.Schedule
	out := ScheduleState{
		Name: s.Name, Queue: s.Queue, Cron: s.Cron, EveryMS: s.Every.Milliseconds(), TimeZone: s.Zone, Misfire: string(s.Misfire),
		MisfireMax: s.MisfireMax, JitterMS: s.Jitter.Milliseconds(), Job: s.Job, Paused: s.Paused, Configured: s.Origin == ConfiguredOrigin,
		Next: []time.Time{}, Last: timeOrNone(e.Last),
	}
	set(&out.TimeZone, "UTC")
	set(&out.Misfire, string(cron.Once))
	table, err := s.Timetable()
	for at := e.Next; err == nil && !at.IsZero() && len(out.Next) < nextRuns; at = table.Next(at) {
		out.Next = append(out.Next, at.UTC())
	}
	return out
}

func (a *API) schedulePut(ctx context.Context, in *schedulePutInput) (*struct{}, error) {
	if a.opts.Schedules == nil {
		return nil, notEnabled("the queue engine")
	}
	if err := a.ownSchedule(ctx, in.Name, false); err != nil {
		return nil, err
	}
	b := in.Body
	if b.Job == nil {
		b.Job = &ScheduledJob{}
	}
	job, err := json.Marshal(b.Job)
	if err != nil {
		return nil, invalid("body.job", "is no JSON")
	}
	s := cron.Schedule{
		Name: in.Name, Queue: b.Queue, Cron: b.Cron, Every: milliseconds(b.EveryMS), Zone: b.TimeZone, Misfire: cron.Misfire(b.Misfire),
		MisfireMax: b.MisfireMax, Jitter: milliseconds(b.JitterMS), Job: job, Paused: b.Paused,
	}
	if a.opts.Queue != nil && !slices.ContainsFunc(a.opts.Queue.Stats(), hasName(b.Queue)) {
		return nil, invalid("body.queue", "no queue has this name")
	}
	if _, err := s.Timetable(); err != nil {
		refused := newProblem(http.StatusUnprocessableEntity, "invalid_request", "Invalid request", "this is no schedule", "compare with /openapi.json")
		for problem := range strings.Lines(err.Error()) {
			refused = refused.at("body", clean(strings.TrimSuffix(problem, "\n")))
		}
		return nil, refused
	}
	return scheduled(a.opts.Schedules.Add(ctx, s))
}

func (a *API) scheduleDelete(ctx context.Context, in *scheduleInput) (*struct{}, error) {
	if a.opts.Schedules == nil {
		return nil, notEnabled("the queue engine")
	}
	if err := a.ownSchedule(ctx, in.Name, true); err != nil {
		return nil, err
	}
	return scheduled(a.opts.Schedules.Remove(ctx, in.Name))
}

// ownSchedule refuses what the configuration would put back.
func (a *API) ownSchedule(ctx context.Context, name string, needed bool) error {
	list, err := a.opts.Schedules.List(ctx)
	if err != nil && list == nil {
		return scheduleProblem(err)
	}
	i := slices.IndexFunc(list, func(e cron.Entry) bool { return e.Schedule.Name == name })
	switch {
	case i < 0 && needed:
		return scheduleProblem(cron.ErrUnknown)
	case i >= 0 && list[i].Schedule.Origin == ConfiguredOrigin:
		return newProblem(http.StatusConflict, "configured_schedule", "In the configuration", "schedule "+clip(name)+" is in the configuration, which would put it back",
			"change queues.schedules, or pause it")
	}
	return nil
}

func (a *API) schedulePause(ctx context.Context, in *scheduleInput) (*struct{}, error) {
	if a.opts.Schedules == nil {
		return nil, notEnabled("the queue engine")
	}
	return scheduled(a.opts.Schedules.Pause(ctx, in.Name))
}

func (a *API) scheduleResume(ctx context.Context, in *scheduleInput) (*struct{}, error) {
	if a.opts.Schedules == nil {
		return nil, notEnabled("the queue engine")
	}
	return scheduled(a.opts.Schedules.Resume(ctx, in.Name))
}

// scheduled answers without a body what was done to a schedule.
func scheduled(err error) (*struct{}, error) {
	if err != nil {
		return nil, scheduleProblem(err)
	}
	return nil, nil //nolint:nilnil // an answer without a body
}

func scheduleProblem(err error) error {
	if errors.Is(err, cron.ErrUnknown) {
		return newProblem(http.StatusNotFound, "unknown_schedule", "Unknown schedule", "there is no schedule of this name", "GET /v1/schedules lists them")
	}
	if _, newer := errors.AsType[*cron.SchemaError](err); newer {
		return newProblem(http.StatusConflict, "newer_schema", "Newer schema", clean(err.Error()), "upgrade this replica")
	}
	return upstreamProblem(err)
}
