package step

import (
	"fmt"
	"time"

	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/runtime/queue/cron"
)

// timetable reads a schedule as redisopt's own queues will.
func timetable(expression, zone string, every time.Duration) (mover.Timetable, error) {
	t, err := cron.Schedule{Name: "any", Queue: "any", Cron: expression, Zone: zone, Every: every}.Timetable()
	if err != nil {
		return nil, err
	}
	return t.Next, nil
}

// engineName is a layout as people write it.
func engineName(layout mover.Layout) string {
	switch layout {
	case mover.Bull:
		return "Bull"
	case mover.BullMQ:
		return "BullMQ"
	case mover.Asynq:
	}
	return string(layout)
}

// adviceAsynq is what the application must change when a queue goes to redisopt's own queues.
func adviceAsynq(plan mover.Plan, route Route) []string {
	queue := route.To.Queue
	out := []string{
		fmt.Sprintf("add queue %q to queues of the configuration of redisopt serve, with mode push, lease or exec: without it nothing runs its jobs", queue),
		fmt.Sprintf("add jobs of %q over HTTP, POST /v1/queues/%s/jobs, instead of %s", queue, queue, engineName(route.From.Layout)),
		fmt.Sprintf("jobs that a %s producer still adds under %q wait there until this command runs again, or the migration's host takes them over",
			engineName(route.From.Layout), route.From.Prefix),
		"the job's name, payload, attempt and id arrive with each delivery; a number that was a job's id has the queue's name before it",
	}
	if len(plan.Repeats) > 0 {
		out = append(out, "add no schedule for what repeats: it is one of redisopt's own already, under these names")
	}
	for _, r := range plan.Repeats {
		when := fmt.Sprintf("cron %q", r.Pattern)
		if r.EveryMS > 0 {
			when = fmt.Sprintf("every %s", time.Duration(r.EveryMS)*time.Millisecond)
		}
		out = append(out, fmt.Sprintf("remove the repeatable of job %q (%s) from the application: it is schedule %q now", r.Name, when, r.TargetKey))
	}
	return out
}
