package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

func (a *app) queueShowCommand() *cobra.Command {
	prefix := ""
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "One queue: jobs by state, schedules with their next run, what is wrong with it",
		Long: `Reads one queue of any layout without reading every job. Without --prefix the prefix is bull, and
where nothing is kept there, the only one under which a queue of that name is found.`,
		Example: `  redisopt queue show mail
  redisopt queue show mail --prefix '{bull}' -o json`,
		Args: cobra.ExactArgs(1),
		RunE: a.action(func(ctx context.Context, args []string) error { return a.queueShow(ctx, prefix, args[0]) }),
	}
	prefixFlag(cmd, &prefix)
	return cmd
}

func (a *app) queueShow(ctx context.Context, prefix, name string) error {
	return a.withQueue(ctx, false, tend.Name{Prefix: prefix, Queue: name}, func(_ *upstream.Upstream, q *tend.Queue) error {
		detail, err := q.Show(ctx)
		if err != nil {
			return queueHint(err)
		}
		return a.print(queueDocument(detail))
	})
}

// queueDocument is queue.show/v1.
func queueDocument(d tend.Detail) report.Document {
	doc := report.Document{
		Kind:     "queue.show/v1",
		Data:     d,
		Title:    fmt.Sprintf("queue %s", d.Endpoint.Queue),
		Findings: problemFindings(d.Problems),
		Sections: []report.Section{
			{Fields: []report.Field{
				{Name: "library", Value: libraryOf(d.QueueSummary)},
				{Name: "prefix", Value: d.Endpoint.Prefix},
				{Name: "paused", Value: yesNo(d.Paused)},
				{Name: "next job waits", Value: waitedFor(d.OldestWaitingMS)},
			}},
			jobsSection("jobs", d.Counts),
		},
	}
	if len(d.Bands) > 0 {
		doc.Sections = append(doc.Sections, bandsSection(d.Bands))
	}
	if len(d.Repeated) > 0 {
		doc.Sections = append(doc.Sections, schedulesSection(d.Repeated))
	}
	return doc
}

// bandsSection is asynq's queues that are one.
func bandsSection(bands []tend.Band) report.Section {
	table := &report.Table{Columns: []report.Column{
		{Name: "band", Elastic: true},
		{Name: "waiting", Right: true},
		{Name: "active", Right: true},
		{Name: "delayed", Right: true},
		{Name: "failed", Right: true},
		{Name: "paused"},
	}}
	for _, b := range bands {
		table.Rows = append(table.Rows, []string{
			b.Queue, fmt.Sprint(b.Counts[mover.Waiting] + b.Counts[tend.Aggregating]), fmt.Sprint(b.Counts[mover.Active]),
			fmt.Sprint(b.Counts[mover.Delayed] + b.Counts[tend.Retrying]), fmt.Sprint(b.Counts[mover.Failed]), yesNo(b.Paused),
		})
	}
	return report.Section{Title: "bands", Table: table}
}

func schedulesSection(repeats []mover.Repeat) report.Section {
	table := &report.Table{Columns: []report.Column{
		{Name: "key", Elastic: true}, {Name: "job"}, {Name: "schedule"}, {Name: "next run, UTC"}, {Name: "runs", Right: true},
	}}
	for _, r := range repeats {
		schedule := r.Pattern
		if r.EveryMS > 0 {
			schedule = "every " + roughly(time.Duration(r.EveryMS)*time.Millisecond)
		}
		if r.TZ != "" {
			schedule += " " + r.TZ
		}
		table.Rows = append(table.Rows, []string{
			r.Key, r.Name, schedule, time.UnixMilli(r.NextMS).UTC().Format("2006-01-02 15:04"), fmt.Sprint(max(0, r.Count-1)),
		})
	}
	return report.Section{Title: "schedules", Table: table}
}
