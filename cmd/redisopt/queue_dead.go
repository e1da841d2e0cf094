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

// queueDeadData is the contract of queue.dead/v1.
type queueDeadData struct {
	Queue  mover.Endpoint `json:"queue"`
	Filter string         `json:"filter"`
	tend.Dead
}

func (a *app) queueDeadCommand() *cobra.Command {
	var (
		flags         jobFlags
		opts          tend.DeadOptions
		retry, remove bool
		maxJobs       int
	)
	cmd := &cobra.Command{
		Use:   "dead QUEUE",
		Short: "Jobs that failed for good: why, how many, the newest first",
		Long: `Counts the failed jobs by reason, with numbers and ids left out so that alike ones are one, and lists the
newest. asynq calls them archived, and deletes them beyond 10,000 a queue and after 90 days. Reads only: one
command for every 200 jobs looked at, and one for each, at most --scan.

--retry gives them back to the workers, --delete deletes them: the same as redisopt queue retry and redisopt
queue delete with --state failed, with the same questions, --filter and --dry-run.`,
		Example: `  redisopt queue dead mail
  redisopt queue dead mail --retry --filter 'reason~ECONNRESET' --dry-run`,
		Args: cobra.ExactArgs(1),
		RunE: a.action(func(ctx context.Context, args []string) error {
			c := queueChange{kind: "retry", action: tend.Retry, flags: flags, maxJobs: maxJobs}
			if remove {
				c.kind, c.action = "delete", tend.Delete
			}
			c.defaults = func(*tend.Queue, []string) ([]mover.State, error) { return []mover.State{mover.Failed}, nil }
			switch {
			case retry && remove:
				return usagef("--retry and --delete contradict each other")
			case retry || remove:
				return a.queueChange(ctx, c, args[0], nil)
			}
			return a.queueDead(ctx, flags, opts, args[0])
		}),
	}
	prefixFlag(cmd, &flags.prefix)
	cmd.Flags().StringVar(&flags.filter, "filter", "", "only jobs that meet this `filter`; see redisopt queue jobs --help")
	cmd.Flags().IntVar(&opts.Limit, "limit", 20, "list the `n` newest")
	cmd.Flags().IntVar(&opts.Scan, "scan", 10000, "look at no more than `n` jobs")
	cmd.Flags().BoolVar(&retry, "retry", false, "give them back to the workers")
	cmd.Flags().BoolVar(&remove, "delete", false, "delete them")
	cmd.Flags().IntVar(&maxJobs, "max-jobs", 100000, "with --retry or --delete: at most `n` jobs in one run")
	return cmd
}

func (a *app) queueDead(ctx context.Context, flags jobFlags, opts tend.DeadOptions, name string) error {
	if opts.Limit < 0 || opts.Limit > 10000 || opts.Scan < 1 {
		return usagef("--limit and --scan: got %d and %d, want a limit of 0 to 10000 and a scan of 1 or more", opts.Limit, opts.Scan)
	}
	if opts.Limit == 0 {
		opts.Limit = -1
	}
	return a.withQueue(ctx, false, tend.Name{Prefix: flags.prefix, Queue: name}, func(_ *upstream.Upstream, q *tend.Queue) error {
		var err error
		if _, opts.Filter, err = flags.parse(q); err != nil {
			return err
		}
		opts.Now = a.now()
		dead, err := q.Dead(ctx, opts)
		if err != nil {
			return err
		}
		return a.print(queueDeadDocument(queueDeadData{Queue: q.Endpoint(), Filter: flags.filter, Dead: dead}, opts.Now))
	})
}

// queueDeadDocument is queue.dead/v1.
func queueDeadDocument(d queueDeadData, now time.Time) report.Document {
	doc := report.Document{Kind: "queue.dead/v1", Data: d, Title: "failed jobs of " + queueLabel(d.Queue)}
	if d.Matched == 0 {
		doc.Sections = []report.Section{{Text: "none"}}
	} else {
		table := &report.Table{Columns: []report.Column{
			{Name: "jobs", Right: true}, {Name: "why", Elastic: true}, {Name: "newest", Right: true}, {Name: "such as"},
		}}
		for _, r := range d.Reasons {
			table.Rows = append(table.Rows, []string{fmt.Sprint(r.Jobs), r.Reason, ago(r.NewestMS, now), r.Example})
		}
		doc.Sections = append(doc.Sections, report.Section{Title: "reasons", Table: table})
	}
	if len(d.Jobs) > 0 {
		table := &report.Table{Columns: []report.Column{
			{Name: "job", Elastic: true}, {Name: "name", Elastic: true}, {Name: "failed", Right: true}, {Name: "tries", Right: true}, {Name: "why", Elastic: true},
		}}
		for i := range d.Jobs {
			j := &d.Jobs[i]
			table.Rows = append(table.Rows, []string{j.ID, j.Name, ago(j.FinishedMS, now), fmt.Sprint(j.Attempts), shortened(tend.Kind(j.Reason), 60)})
		}
		doc.Sections = append(doc.Sections, report.Section{Title: "newest", Table: table})
	}
	doc.Notes = append(doc.Notes, fmt.Sprintf("%d of %d looked at, %d meet the filter", d.Looked, d.Total, d.Matched))
	return doc
}
