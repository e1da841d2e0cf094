package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// queueChangeData is the contract of queue.retry/v1, queue.delete/v1 and queue.drain/v1. As a plan Changed
// is false and nothing is done.
type queueChangeData struct {
	Queue    mover.Endpoint        `json:"queue"`
	States   []mover.State         `json:"states"`
	Filter   string                `json:"filter"`
	Selected int64                 `json:"selected"`
	ByState  map[mover.State]int64 `json:"by_state"`
	Looked   int64                 `json:"looked_at"`

	// SchedulesKept is how many next runs of schedules were left out.
	SchedulesKept int64 `json:"schedules_kept"`

	// More says that there are more jobs than --max-jobs.
	More bool `json:"more"`

	Estimated mover.Price `json:"estimated_commands"`
	Changed   bool        `json:"changed"`
	tend.Outcome
}

// A queueChange is what retry, delete and drain have in common.
type queueChange struct {
	kind      string // retry, delete, drain
	action    tend.Action
	flags     jobFlags
	maxJobs   int
	schedules bool

	// defaults are the states where none were given. It may refuse.
	defaults func(q *tend.Queue, ids []string) ([]mover.State, error)
}

func (a *app) queueRetryCommand() *cobra.Command {
	c := queueChange{kind: "retry", action: tend.Retry, defaults: func(*tend.Queue, []string) ([]mover.State, error) {
		return []mover.State{mover.Failed}, nil
	}}
	cmd := &cobra.Command{
		Use:   "retry QUEUE [JOB...]",
		Short: "Give failed jobs back to the workers, as the library's own retry does",
		Long: `Counts the failed jobs that are meant, asks, and gives them back: all, those that meet --filter, or those
that are named. What the library keeps of earlier tries stays, so that a job whose tries are used up runs
once more. BullMQ can retry completed jobs too, asynq runs delayed, retrying and aggregating ones at once.

Each job is looked at again in the script that moves it: what failed, changed or was taken meanwhile is left
alone and named. Run again, it goes on. Counting costs one command for every 200 failed jobs, and with a
filter one for each; acting one script for every 50. See redisopt queue jobs --help for filters.`,
		Example: `  redisopt queue retry mail --filter 'reason~timeout,age<1d' --dry-run
  redisopt queue retry mail 4711 4712 --yes`,
		Args: cobra.MinimumNArgs(1),
		RunE: a.action(func(ctx context.Context, args []string) error { return a.queueChange(ctx, c, args[0], args[1:]) }),
	}
	c.register(cmd, "default: failed")
	return cmd
}

func (a *app) queueDeleteCommand() *cobra.Command {
	c := queueChange{kind: "delete", action: tend.Delete, defaults: func(q *tend.Queue, ids []string) ([]mover.State, error) {
		if len(ids) == 0 {
			return nil, usagef("say which jobs: name them, or give --state (all is every state), with or without --filter")
		}
		return q.Deletable(), nil
	}}
	cmd := &cobra.Command{
		Use:   "delete QUEUE [JOB...]",
		Short: "Delete jobs with all that is kept of them",
		Long: `Counts the jobs that are meant, asks, and deletes them with their logs and locks on uniqueness, as the
library's own remove does. Left alone, and named: a job that a worker runs, one that has children or whose
parent waits for it, and the next run of a schedule, which would end with it; --schedules ends the schedule
too.

Each job is looked at again in the script that deletes it. Run again, it goes on. Counting costs one command
for every 200 jobs, and with a filter one for each; acting one script for every 50. redisopt queue export
keeps a copy. See redisopt queue jobs --help for filters.`,
		Example: `  redisopt queue delete mail --state failed --filter 'age>30d' --dry-run
  redisopt queue delete mail 4711 --yes`,
		Args: cobra.MinimumNArgs(1),
		RunE: a.action(func(ctx context.Context, args []string) error { return a.queueChange(ctx, c, args[0], args[1:]) }),
	}
	c.register(cmd, "required unless jobs are named")
	cmd.Flags().BoolVar(&c.schedules, "schedules", false, "delete the next runs of schedules as well, and end the schedules")
	return cmd
}

func (c *queueChange) register(cmd *cobra.Command, states string) {
	c.flags.register(cmd, states)
	cmd.Flags().IntVar(&c.maxJobs, "max-jobs", 100000, "at most `n` jobs in one run")
}

func (a *app) queueChange(ctx context.Context, c queueChange, name string, ids []string) error {
	if c.maxJobs < 1 || len(ids) > 1000 {
		return usagef("--max-jobs: got %d, want 1 or more; and at most 1000 jobs can be named, got %d", c.maxJobs, len(ids))
	}
	at := tend.Name{Prefix: c.flags.prefix, Queue: name}
	return a.withQueue(ctx, true, at, func(up *upstream.Upstream, q *tend.Queue) error {
		states, filter, err := c.flags.parse(q)
		if err != nil {
			return err
		}
		if len(states) == 0 {
			if states, err = c.defaults(q, ids); err != nil {
				return err
			}
		}
		if states, err = c.possible(q, states); err != nil {
			return err
		}
		p := a.progress("jobs")
		look := false
		selection, err := q.Select(ctx, tend.Criteria{
			States: states, Filter: filter, IDs: ids, MaxJobs: c.maxJobs, Schedules: c.schedules, Now: a.now(),
			OnProgress: func(looked, total int64) {
				if !look && total > 1000 {
					p.begin("look at jobs", total)
					look = true
				}
				p.update(looked, total)
			},
		})
		p.finish()
		if err != nil {
			return err
		}
		data := queueChangeData{
			Queue: q.Endpoint(), States: states, Filter: c.flags.filter, Selected: selection.Jobs, ByState: selection.ByState,
			Looked: selection.Looked, SchedulesKept: selection.Schedules, More: selection.More,
			Estimated: q.EstimateAct(c.action, selection),
			Outcome:   tend.Outcome{Skipped: map[string]int64{}, Skips: []tend.Skip{}, Left: selection.Jobs},
		}
		for _, id := range selection.Missing {
			data.Skipped[tend.NotThere]++
			data.Skips = append(data.Skips, tend.Skip{ID: id, Why: tend.NotThere})
		}
		return a.carryOut(ctx, up, q, c, selection, data)
	})
}

// possible refuses states that were asked for and cannot be acted on. What a wider word brought along
// is left out.
func (c *queueChange) possible(q *tend.Queue, states []mover.State) ([]mover.State, error) {
	allowed := q.Deletable()
	if c.action == tend.Retry {
		allowed = q.Retryable()
	}
	kept := slices.DeleteFunc(slices.Clone(states), func(s mover.State) bool { return !slices.Contains(allowed, s) })
	if len(kept) == 0 || (len(kept) < len(states) && !slices.Contains(c.flags.states, "all")) {
		return nil, usagef("--state: %s of %s can be of jobs that are %s, got %s",
			c.action, q.Endpoint().Layout, joined(allowed), joined(states))
	}
	return kept, nil
}

func joined(states []mover.State) string {
	names := make([]string, len(states))
	for i, s := range states {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

// carryOut asks about a selection and acts on it.
func (a *app) carryOut(
	ctx context.Context, up *upstream.Upstream, q *tend.Queue, c queueChange, selection *tend.Selection, data queueChangeData,
) error {
	if a.flags.dryRun || selection.Jobs == 0 {
		data.Changed = !a.flags.dryRun
		return errors.Join(a.print(queueChangeDocument(c.kind, data)), unmet(c, selection, data.Outcome))
	}
	if err := a.affordable(up, fmt.Sprintf("to %s %s", c.kind, plural(selection.Jobs, "job")), data.Estimated.TopLevel); err != nil {
		return err
	}
	question := fmt.Sprintf("%s %s?", map[string]string{"retry": "Retry", "delete": "Delete", "drain": "Delete"}[c.kind], plural(selection.Jobs, "job"))
	if err := a.confirm(ctx, queueChangeDocument(c.kind, data), question); err != nil {
		return err
	}
	p := a.progress("jobs")
	p.begin(c.kind, selection.Jobs)
	out, err := q.Act(ctx, c.action, selection, tend.ActOptions{Schedules: c.schedules, OnProgress: p.update, Now: a.now})
	p.finish()
	data.Changed, data.Outcome = true, out
	if err != nil && out.Done == 0 && out.Unknown == 0 {
		return err
	}
	if err != nil {
		return errors.Join(a.print(queueChangeDocument(c.kind, data)), withHint(err, "what was done is not found again: run the same command to go on"))
	}
	return errors.Join(a.print(queueChangeDocument(c.kind, data)), unmet(c, selection, out))
}

// unmet is the verdict about jobs that were named and left alone.
func unmet(_ queueChange, selection *tend.Selection, out tend.Outcome) error {
	left := int64(0)
	for _, n := range out.Skipped {
		left += n
	}
	if !selection.Named || left == 0 {
		return nil
	}
	return verdictf(exitBlocked, "%s left alone: %s %s", plural(left, "job"), out.Skips[0].ID, whyLeft(out.Skips[0].Why))
}

// queueChangeDocument is queue.retry/v1, queue.delete/v1 or queue.drain/v1.
func queueChangeDocument(kind string, d queueChangeData) report.Document {
	doc := report.Document{Kind: "queue." + kind + "/v1", Data: d, Title: kind + " jobs of " + queueLabel(d.Queue)}
	fields := []report.Field{{Name: "queue", Value: d.Queue.String()}, {Name: "states", Value: joined(d.States)}}
	if d.Queue.Layout == tend.Asynq {
		fields[0].Value = "asynq " + queueLabel(d.Queue)
	}
	if d.Filter != "" {
		fields = append(fields, report.Field{Name: "filter", Value: d.Filter})
	}
	verb := map[string]string{"retry": "retried", "delete": "deleted", "drain": "deleted"}[kind]
	if d.Changed {
		fields = append(fields, report.Field{Name: verb, Value: fmt.Sprintf("%d of %d", d.Done, d.Selected)})
		if d.Left > 0 {
			fields = append(fields, report.Field{Name: "not begun", Value: fmt.Sprint(d.Left)})
		}
		if d.Unknown > 0 {
			fields = append(fields, report.Field{Name: "unknown", Value: fmt.Sprintf("%d, in a script whose reply did not come", d.Unknown)})
		}
	} else {
		fields = append(fields,
			report.Field{Name: "would be " + verb, Value: fmt.Sprintf("%s, of %d looked at", plural(d.Selected, "job"), d.Looked)},
			report.Field{Name: "price", Value: fmt.Sprintf("about %s, %d more inside scripts", plural(d.Estimated.TopLevel, "command"), d.Estimated.InScript)})
	}
	doc.Sections = []report.Section{{Fields: fields}}
	if !d.Changed && d.Selected > 0 {
		doc.Sections = append(doc.Sections, jobsSection("jobs", d.ByState))
	}
	if len(d.Skipped) > 0 {
		doc.Sections = append(doc.Sections, skippedSection(d.Outcome))
	}
	if d.SchedulesKept > 0 {
		doc.Notes = append(doc.Notes, plural(d.SchedulesKept, "next run")+" of schedules left out; delete --schedules ends them")
	}
	if d.More {
		doc.Notes = append(doc.Notes, "there are more; raise --max-jobs, or run it again")
	}
	return doc
}

func skippedSection(out tend.Outcome) report.Section {
	table := &report.Table{Columns: []report.Column{{Name: "left alone", Right: true}, {Name: "why", Elastic: true}, {Name: "such as"}}}
	for _, why := range slices.Sorted(maps.Keys(out.Skipped)) {
		example := "-"
		if i := slices.IndexFunc(out.Skips, func(s tend.Skip) bool { return s.Why == why }); i >= 0 {
			example = out.Skips[i].ID
		}
		table.Rows = append(table.Rows, []string{fmt.Sprint(out.Skipped[why]), whyLeft(why), example})
	}
	return report.Section{Title: "left alone", Table: table}
}

// whyLeft is why a job was left alone, for people.
func whyLeft(why string) string {
	return map[string]string{
		tend.Gone:       "is no longer there: a worker or somebody else took it",
		tend.Changed:    "is no longer what the filter matched",
		tend.Locked:     "is being run by a worker",
		tend.NoJob:      "is an id without a job",
		tend.WrongType:  "has a key that is no job",
		tend.Scheduled:  "is the next run of a schedule, which would end with it",
		tend.Children:   "is the parent of a flow",
		tend.Awaited:    "is a child that its parent waits for",
		tend.MaybeTaken: "may have just been taken by a worker",
		tend.Marker:     "is a mark of the library's, not a job",
		tend.NotThere:   "is not there in these states",
	}[why]
}
