package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// queuePauseData is the contract of queue.pause/v1 and queue.resume/v1.
type queuePauseData struct {
	Queue   mover.Endpoint        `json:"queue"`
	Paused  bool                  `json:"paused"` // how the queue is, or would be
	Changed bool                  `json:"changed"`
	Jobs    map[mover.State]int64 `json:"jobs"` // that are there and have not ended, when it was looked at
	tend.Pausing
}

func (a *app) queuePauseCommand() *cobra.Command {
	prefix := ""
	cmd := &cobra.Command{
		Use:   "pause QUEUE",
		Short: "Make the workers of a queue take no further job",
		Long: `Pauses a queue for all of its workers, as the library's own pause does: workers that run now stop taking
jobs, those under way go on to their end. Jobs can be added meanwhile. Costs about twenty commands.`,
		Example: `  redisopt queue pause mail
  redisopt queue pause mail --yes -o json`,
		Args: cobra.ExactArgs(1),
		RunE: a.action(func(ctx context.Context, args []string) error { return a.queuePause(ctx, prefix, args[0], true) }),
	}
	prefixFlag(cmd, &prefix)
	return cmd
}

func (a *app) queueResumeCommand() *cobra.Command {
	prefix := ""
	cmd := &cobra.Command{
		Use:   "resume QUEUE",
		Short: "Let the workers of a paused queue take jobs again",
		Long: `Ends a pause for all workers, as the library's own resume does, and wakes those that wait. A governed
asynq worker (redisopt serve) that hears no key events notices at its next sweep. Costs about twenty
commands.`,
		Example: `  redisopt queue resume mail
  redisopt queue resume mail --yes -o json`,
		Args: cobra.ExactArgs(1),
		RunE: a.action(func(ctx context.Context, args []string) error { return a.queuePause(ctx, prefix, args[0], false) }),
	}
	prefixFlag(cmd, &prefix)
	return cmd
}

func (a *app) queuePause(ctx context.Context, prefix, name string, pause bool) error {
	return a.withQueue(ctx, true, tend.Name{Prefix: prefix, Queue: name}, func(_ *upstream.Upstream, q *tend.Queue) error {
		is, err := q.Paused(ctx)
		if err != nil {
			return err
		}
		d := queuePauseData{Queue: q.Endpoint(), Paused: pause, Pausing: tend.Pausing{Already: is == pause}}
		if d.Jobs, err = q.Left(ctx, append(q.Waits(), mover.Active, mover.Delayed, tend.Retrying)); err != nil {
			return err
		}
		if a.flags.dryRun {
			return a.print(queuePauseDocument(d))
		}
		question := "Resume it?"
		if pause {
			question = "Pause it?"
		}
		if err := a.confirm(ctx, queuePauseDocument(d), question); err != nil {
			return err
		}
		change := q.Resume
		if pause {
			change = q.Pause
		}
		if d.Pausing, err = change(ctx); err != nil {
			return withHint(err, "it is safe to run it again")
		}
		d.Changed = true
		return a.print(queuePauseDocument(d))
	})
}

// queuePauseDocument is queue.pause/v1 or queue.resume/v1.
func queuePauseDocument(d queuePauseData) report.Document {
	kind, now := "resume", "running"
	if d.Paused {
		kind, now = "pause", "paused"
	}
	if !d.Changed {
		now = "would be " + now
	}
	if d.Already {
		now += ", as before"
	}
	doc := report.Document{
		Kind: "queue." + kind + "/v1", Data: d, Title: kind + " " + queueLabel(d.Queue),
		Sections: []report.Section{{Fields: []report.Field{{Name: "library", Value: layoutOf(d.Queue)}, {Name: "queue", Value: now}}}, jobsSection("jobs", d.Jobs)},
	}
	if len(d.Bands) > 1 {
		doc.Notes = append(doc.Notes, "its bands: "+strings.Join(d.Bands, ", "))
	}
	if n := d.Jobs[mover.Active]; d.Paused && d.Changed && n > 0 {
		doc.Notes = append(doc.Notes, plural(n, "job")+" under way, which the workers end; redisopt queue show tells when")
	}
	return doc
}
