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
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// queueJobsData is the contract of queue.jobs/v1.
type queueJobsData struct {
	Queue  mover.Endpoint `json:"queue"`
	States []mover.State  `json:"states"`
	Filter string         `json:"filter"`
	tend.Page
}

func (a *app) queueJobsCommand() *cobra.Command {
	var (
		flags jobFlags
		opts  tend.PageOptions
	)
	cmd := &cobra.Command{
		Use:   "jobs QUEUE",
		Short: "The jobs of a queue, what runs next or finished last first",
		Long: `Lists jobs, at most --limit of them, and says with which --cursor to go on. Reads only: one command for
every 200 jobs looked at, and one for each; it looks at no more than --scan of them, so that a filter that
few jobs meet has a price that is known.

A filter is terms separated by commas, all of which must hold:
  id name reason band      = != ~ !~        ~ is a regular expression found anywhere
  age finished due         > >= < <=        with a duration: 90s, 1h30m, 2d, 1w
  attempts priority        = != > >= < <=   with a number
  data.user.id             all of them      a part of the payload; data.items.0 is an element
A value with a comma or a quote stands in "double quotes". A job without the field meets only != and !~.

States are waiting, active, delayed, completed, failed, and where the library has them paused, prioritized,
waiting-children, retrying, aggregating; asynq's own names are understood too. waiting includes paused and
prioritized.`,
		Example: `  redisopt queue jobs mail --state failed --filter 'reason~timeout,age<1d'
  redisopt queue jobs mail --state waiting --filter data.userId=42 --data -o json`,
		Args: cobra.ExactArgs(1),
		RunE: a.action(func(ctx context.Context, args []string) error { return a.queueJobs(ctx, flags, opts, args[0]) }),
	}
	flags.register(cmd, "default: all")
	cmd.Flags().IntVar(&opts.Limit, "limit", 50, "at most `n` jobs")
	cmd.Flags().IntVar(&opts.Scan, "scan", 10000, "look at no more than `n` jobs for them")
	cmd.Flags().StringVar(&opts.Cursor, "cursor", "", "go on where the page ended that printed this `cursor`")
	cmd.Flags().BoolVar(&opts.Data, "data", false, "show the payloads as well")
	return cmd
}

func (a *app) queueJobs(ctx context.Context, flags jobFlags, opts tend.PageOptions, name string) error {
	if opts.Limit < 1 || opts.Limit > 10000 || opts.Scan < 1 {
		return usagef("--limit and --scan: got %d and %d, want a limit of 1 to 10000 and a scan of 1 or more", opts.Limit, opts.Scan)
	}
	return a.withQueue(ctx, false, tend.Name{Prefix: flags.prefix, Queue: name}, func(_ *upstream.Upstream, q *tend.Queue) error {
		var err error
		if opts.States, opts.Filter, err = flags.parse(q); err != nil {
			return err
		}
		if len(opts.States) == 0 {
			opts.States = q.States()
		}
		opts.Now = a.now()
		page, err := q.Page(ctx, opts)
		if errors.Is(err, tend.ErrCursor) {
			return usagef("--cursor: %w", err)
		}
		if err != nil {
			return err
		}
		data := queueJobsData{Queue: q.Endpoint(), States: opts.States, Filter: flags.filter, Page: page}
		if page.Cursor != "" {
			a.note("there may be more: add --cursor '%s'", page.Cursor)
		}
		return a.print(queueJobsDocument(data, opts.Now))
	})
}

// queueJobsDocument is queue.jobs/v1.
func queueJobsDocument(d queueJobsData, now time.Time) report.Document {
	doc := report.Document{Kind: "queue.jobs/v1", Data: d, Title: "jobs of " + queueLabel(d.Queue)}
	if len(d.Jobs) == 0 {
		doc.Sections = []report.Section{{Text: "no job there that meets this"}}
	} else {
		doc.Sections = []report.Section{jobTable("", d.Jobs, now)}
	}
	if looked := fmt.Sprintf("%s of %d looked at", plural(int64(len(d.Jobs)), "job"), d.Looked); d.Cursor != "" {
		doc.Notes = append(doc.Notes, looked+"; it goes on with the cursor "+d.Cursor)
	} else {
		doc.Notes = append(doc.Notes, looked)
	}
	return doc
}

// jobTable shows jobs one to a line.
func jobTable(title string, jobs []tend.Job, now time.Time) report.Section {
	table := &report.Table{Columns: []report.Column{
		{Name: "job", Elastic: true},
		{Name: "state"},
		{Name: "name", Elastic: true},
		{Name: "added", Right: true},
		{Name: "tries", Right: true},
		{Name: "about", Elastic: true},
	}}
	for i := range jobs {
		j := &jobs[i]
		state := string(j.State)
		if j.Band != "" {
			state += "/" + j.Band
		}
		tries := fmt.Sprint(j.Attempts)
		if j.MaxAttempts > 0 {
			tries += fmt.Sprintf("/%d", j.MaxAttempts)
		}
		table.Rows = append(table.Rows, []string{j.ID, state, j.Name, ago(j.AddedMS, now), tries, about(j, now)})
	}
	return report.Section{Title: title, Table: table}
}

// about is what is worth knowing of a job, in a few words.
func about(j *tend.Job, now time.Time) string {
	var parts []string
	if j.Hollow {
		parts = append(parts, "no job under this id")
	}
	if j.Problem != "" {
		parts = append(parts, j.Problem)
	}
	if j.DueMS > 0 {
		parts = append(parts, "due "+ago(j.DueMS, now))
	}
	if j.Priority > 0 {
		parts = append(parts, fmt.Sprintf("priority %d", j.Priority))
	}
	if j.Scheduler != "" {
		parts = append(parts, "of schedule "+j.Scheduler)
	}
	if j.Parent != "" {
		parts = append(parts, "child of "+j.Parent)
	}
	if j.Reason != "" {
		line, _, _ := strings.Cut(j.Reason, "\n")
		parts = append(parts, shortened(line, 160))
	}
	if len(j.Data) > 0 {
		parts = append(parts, shortened(string(j.Data), 160))
	}
	return strings.Join(parts, "; ")
}

// shortened is at most n characters of text.
func shortened(text string, n int) string {
	if runes := []rune(text); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return text
}
