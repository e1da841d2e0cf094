package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/meter"
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
	cmd.Flags().StringVar(&prefix, "prefix", "", "the queue's key `prefix`, taken literally (default: find it)")
	return cmd
}

func (a *app) queueShow(ctx context.Context, prefix, name string) error {
	return a.withRedis(ctx, redisUse{component: meter.Queue}, func(up *upstream.Upstream, _ *config.Config) error {
		at := mover.Endpoint{Prefix: prefix, Queue: name}
		if prefix == "" {
			at.Prefix = "bull"
		}
		detail, err := mover.Show(ctx, up.Client(), at)
		if errors.Is(err, mover.ErrNoQueue) {
			detail, err = showElsewhere(ctx, up, prefix, name, err)
		}
		if err != nil {
			return searchHint(err)
		}
		return a.print(queueDocument(detail))
	})
}

// showElsewhere looks for a queue under other prefixes, unless one was named.
func showElsewhere(ctx context.Context, up *upstream.Upstream, prefix, name string, missing error) (mover.QueueDetail, error) {
	if prefix != "" {
		return mover.QueueDetail{}, withHint(&usageError{missing}, "redisopt queue ls shows which queues there are")
	}
	found, err := mover.DetectQueues(ctx, up.Client(), mover.ListOptions{})
	if err != nil {
		return mover.QueueDetail{}, err
	}
	switch found = named(found, name); len(found) {
	case 0:
		return mover.QueueDetail{}, withHint(&usageError{missing}, "redisopt queue ls shows which queues there are")
	case 1:
		return mover.Show(ctx, up.Client(), found[0])
	}
	prefixes := []string{}
	for _, e := range found {
		prefixes = append(prefixes, e.Prefix)
	}
	return mover.QueueDetail{}, usagef("queue %q is kept under several prefixes, say which with --prefix: %s", name, strings.Join(prefixes, ", "))
}

// queueDocument is queue.show/v1.
func queueDocument(d mover.QueueDetail) report.Document {
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
			countsSection("jobs", []string{"jobs"}, d.Counts),
		},
	}
	if len(d.Repeated) > 0 {
		doc.Sections = append(doc.Sections, schedulesSection(d.Repeated))
	}
	return doc
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
