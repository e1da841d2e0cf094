package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/api"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/queue"
	"github.com/redisopt/redisopt/internal/runtime/queue/cron"
)

// The pauses between attempts to write the schedules of the configuration while the Redis does not answer.
const (
	declareAgain = 5 * time.Second
	declareLast  = 5 * time.Minute
)

// Schedules are those of the configuration. The error has every problem, each with its key.
func Schedules(conf *config.Config) ([]cron.Schedule, error) {
	var all []cron.Schedule
	var problems []error
	for i, s := range conf.Queues.Schedules {
		job, err := json.Marshal(api.ScheduledJob{Name: s.JobName, Payload: json.RawMessage(s.Payload)})
		if err != nil {
			problems = append(problems, &config.Problem{Key: fmt.Sprintf("queues.schedules[%d].payload", i), Message: err.Error()})
			continue
		}
		schedule := cron.Schedule{
			Name: s.Name, Cron: s.Cron, Every: s.Every, Zone: s.TimeZone, Misfire: cron.Misfire(s.Misfire), MisfireMax: s.MisfireMax,
			Jitter: s.Jitter, Queue: s.Queue, Job: job,
		}
		if _, err := schedule.Timetable(); err != nil {
			problems = append(problems, &config.Problem{Key: fmt.Sprintf("queues.schedules[%d]", i), Message: err.Error()})
		}
		all = append(all, schedule)
	}
	return all, errors.Join(problems...)
}

// openSchedules makes what adds jobs by the clock, where there are queues.
func (w *world) openSchedules(context.Context) (err error) {
	if w.jobs == nil {
		return nil
	}
	log, up := w.sidecar.log, w.main
	w.cron, err = cron.New(cron.Options{
		Client: up.As(meter.Queue), Enqueue: w.tick,
		Subscribe: func(ctx context.Context, channel string) (cron.Feed, error) {
			rings, gaps, done, err := payloads(ctx, up.Bell(), channel)
			return cron.Feed{Rings: rings, Gaps: gaps, Close: done}, err
		},
		InScript: func(command string, n int64) { up.AddInScript(meter.Queue, command, n) },
		Failed:   notices(log),
		Missed: func(m cron.Missed) {
			log.Warn(eventScheduleMissed, "schedule", m.Schedule, "count", m.Count, "more", m.More, "until", m.Until.UTC())
		},
	})
	w.declare = make(chan []cron.Schedule, 1)
	return err
}

// tick adds the job of one firing.
func (w *world) tick(ctx context.Context, t cron.Tick) error {
	var job api.ScheduledJob
	if len(t.Schedule.Job) > 0 {
		if err := json.Unmarshal(t.Schedule.Job, &job); err != nil {
			return fmt.Errorf("%w: %w", cron.ErrRefused, err)
		}
	}
	_, err := w.jobs.engine.Enqueue(ctx, queue.EnqueueRequest{
		Queue: t.Schedule.Queue, Name: job.Name, Payload: job.Payload, Priority: queue.Priority(job.Priority), Attempts: job.Attempts,
		ID: t.ID, Once: true, Schedule: t.Schedule.Name, Retain: t.Retain,
	})
	switch {
	case isA[*queue.DuplicateError](err):
		return fmt.Errorf("%w: %w", cron.ErrDuplicate, err)
	case isA[*queue.RequestError](err), isA[*queue.InvalidError](err), isA[*queue.SizeError](err), isA[*queue.UnknownQueueError](err):
		return fmt.Errorf("%w: %w", cron.ErrRefused, err)
	}
	if e, ok := errors.AsType[*queue.BacklogError](err); ok && e.Shed {
		return fmt.Errorf("%w: %w", cron.ErrRefused, err)
	}
	return err
}

func isA[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

// declareSchedules makes the schedules of the configuration those in force, at the start and when they have
// changed, until ctx ends.
func (w *world) declareSchedules(ctx context.Context) error {
	list := w.sidecar.schedules
	for pause := declareAgain; ; {
		err := w.cron.Declare(ctx, api.ConfiguredOrigin, list)
		var again <-chan time.Time
		if err != nil && ctx.Err() == nil {
			w.sidecar.log.Warn(eventSchedulesFailed, "cause", err.Error())
			again, pause = time.After(pause), min(2*pause, declareLast)
		} else {
			pause = declareAgain
		}
		select {
		case <-ctx.Done():
			return nil
		case list = <-w.declare:
		case <-again:
		}
	}
}

// redeclare replaces the schedules of the configuration while it runs.
func (w *world) redeclare(list []cron.Schedule) {
	if w.cron == nil {
		return
	}
	select {
	case <-w.declare: // nobody has taken those before
	default:
	}
	w.declare <- list
}
