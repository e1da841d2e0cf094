package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// queuesData is the contract of queue.ls/v1.
type queuesData struct {
	Queues []tend.Summary `json:"queues"`
}

func (a *app) queueLsCommand() *cobra.Command {
	var opts mover.ListOptions
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "Every queue with its library, its jobs by state and whether it is paused",
		Long: `Finds the queues of Bull and BullMQ by the keys they keep and those of asynq by its own list, and counts
their jobs. asynq's queues mail:high, mail and mail:low are shown as one. Reads only: a SCAN over the whole
database by 1,000 keys, and about thirty commands a queue; with --prefix asynq no SCAN.`,
		Example: `  redisopt queue ls
  redisopt queue ls --prefix bull -o json`,
		Args: cobra.NoArgs,
		RunE: a.action(func(ctx context.Context, _ []string) error { return a.queueLs(ctx, opts) }),
	}
	cmd.Flags().StringVar(&opts.Prefix, "prefix", "", "only queues under this key `prefix`, taken literally (default: every prefix)")
	cmd.Flags().Int64Var(&opts.MaxKeys, "max-keys", 1000000, "give up after looking at `n` keys")
	return cmd
}

func (a *app) queueLs(ctx context.Context, opts mover.ListOptions) error {
	return a.withRedis(ctx, redisUse{component: meter.Queue}, func(up *upstream.Upstream, _ *config.Config) error {
		queues, err := tend.List(ctx, up.Client(), opts)
		if err != nil {
			return searchHint(err)
		}
		return a.print(queuesDocument(queues))
	})
}

// queuesDocument is queue.ls/v1.
func queuesDocument(queues []tend.Summary) report.Document {
	doc := report.Document{Kind: "queue.ls/v1", Data: queuesData{Queues: queues}, Title: "queues"}
	if len(queues) == 0 {
		doc.Sections = []report.Section{{Text: "no queue of Bull, BullMQ or asynq in this database"}}
		return doc
	}
	table := &report.Table{Columns: []report.Column{
		{Name: "queue", Elastic: true},
		{Name: "library"},
		{Name: "wait", Right: true},
		{Name: "active", Right: true},
		{Name: "delay", Right: true},
		{Name: "failed", Right: true},
		{Name: "done", Right: true},
		{Name: "sched", Right: true},
		{Name: "oldest", Right: true},
	}}
	for _, q := range queues {
		name, c := queueLabel(q.Endpoint), q.Counts
		table.Rows = append(table.Rows, []string{
			name, libraryOf(q.QueueSummary),
			fmt.Sprint(c[mover.Waiting] + c[mover.Paused] + c[mover.Prioritized] + c[mover.WaitingChildren] + c[tend.Aggregating]),
			fmt.Sprint(c[mover.Active]), fmt.Sprint(c[mover.Delayed] + c[tend.Retrying]), fmt.Sprint(c[mover.Failed]),
			fmt.Sprint(c[mover.Completed]), fmt.Sprint(q.Repeats), waitedFor(q.OldestWaitingMS),
		})
		if q.Paused {
			doc.Notes = append(doc.Notes, name+" is paused")
		}
	}
	doc.Sections = []report.Section{{Table: table}}
	return doc
}
