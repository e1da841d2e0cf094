package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// queueJobData is the contract of queue.job/v1: one line of an export.
type queueJobData struct {
	Queue mover.Endpoint `json:"queue"`
	*tend.Job
}

// queueExportData is the contract of queue.export/v1.
type queueExportData struct {
	Queue mover.Endpoint `json:"queue"`
	File  string         `json:"file"`
	Bytes int64          `json:"size_bytes"`
	tend.Exported
}

func (a *app) queueExportCommand() *cobra.Command {
	var (
		flags jobFlags
		file  string
	)
	cmd := &cobra.Command{
		Use:   "export QUEUE",
		Short: "Write the jobs of a queue, one JSON object a line",
		Long: `Writes every job with its payload and all fields of its hash, one queue.job/v1 document a line, to standard
output or to a file that appears only when it is complete. It holds 200 jobs in memory, whatever the queue's
size. Reads only: one command for every 200 jobs, and one for each. A job that moves on meanwhile is in it
twice, with its later state last.

The file may hold personal data: it can be read by its owner alone. A file that is there is not replaced.`,
		Example: `  redisopt queue export mail --state failed --out failed.ndjson
  redisopt queue export mail | jq -r .data.name | sort | uniq -c`,
		Args: cobra.ExactArgs(1),
		RunE: a.action(func(ctx context.Context, args []string) error { return a.queueExport(ctx, flags, file, args[0]) }),
	}
	flags.register(cmd, "default: all")
	cmd.Flags().StringVar(&file, "out", "", "write to this `file` (default: standard output)")
	return cmd
}

func (a *app) queueExport(ctx context.Context, flags jobFlags, file, name string) error {
	if file != "" {
		if _, err := os.Lstat(file); err == nil {
			return usagef("--out: %s is there already; choose another name", file)
		}
	}
	return a.withQueue(ctx, false, tend.Name{Prefix: flags.prefix, Queue: name}, func(up *upstream.Upstream, q *tend.Queue) error {
		states, filter, err := flags.parse(q)
		if err != nil {
			return err
		}
		left, err := q.Left(ctx, orAll(states, q.States()))
		if err != nil {
			return err
		}
		jobs := int64(0)
		for _, n := range left {
			jobs += n
		}
		if err := a.affordable(up, "to export "+plural(jobs, "job"), jobs+jobs/200+2*int64(len(left))); err != nil {
			return err
		}
		export := func(w io.Writer) (tend.Exported, error) {
			p := a.progress("jobs")
			if file != "" {
				p.begin("export", jobs)
			}
			defer p.finish()
			out := report.NewStream(w, report.FormatJSON, a.writeOptions())
			return q.Export(ctx, tend.ExportOptions{States: states, Filter: filter, Now: a.now(), OnProgress: p.update}, func(j *tend.Job) error {
				return out.Write(report.Document{Kind: "queue.job/v1", Data: queueJobData{Queue: q.Endpoint(), Job: j}})
			})
		}
		if file == "" {
			w := bufio.NewWriterSize(a.out, 1<<16)
			done, err := export(w)
			if err := errors.Join(err, w.Flush()); err != nil {
				return err
			}
			a.note("%s written, of %d looked at", plural(done.Jobs, "job"), done.Looked)
			return nil
		}
		d := queueExportData{Queue: q.Endpoint(), File: file}
		d.Bytes, err = writeWhole(file, func(w io.Writer) error {
			var err error
			d.Exported, err = export(w)
			return err
		})
		if err != nil {
			return err
		}
		return a.print(queueExportDocument(d))
	})
}

func orAll(states, all []mover.State) []mover.State {
	if len(states) == 0 {
		return all
	}
	return states
}

// writeWhole makes a file that only its owner can read, and that is there only when write has succeeded
// and all of it is on disk. A file that is there is not replaced.
func writeWhole(file string, write func(io.Writer) error) (size int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return 0, &usageError{fmt.Errorf("--out: %w", err)}
	}
	defer func() { _ = os.Remove(f.Name()) }() // after success it is another name of the file, or gone
	w := bufio.NewWriterSize(f, 1<<16)
	err = errors.Join(write(w), w.Flush(), f.Sync())
	if at, errSeek := f.Seek(0, io.SeekEnd); errSeek == nil {
		size = at
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	if err := os.Link(f.Name(), file); err != nil { // unlike a rename it replaces nothing
		if errors.Is(err, os.ErrExist) {
			return 0, usagef("--out: %s is there already; choose another name", file)
		}
		if err := os.Rename(f.Name(), file); err != nil { // a file system without links
			return 0, fmt.Errorf("--out: %w", err)
		}
	}
	return size, nil
}

// queueExportDocument is queue.export/v1.
func queueExportDocument(d queueExportData) report.Document {
	return report.Document{
		Kind: "queue.export/v1", Data: d, Title: "export of " + queueLabel(d.Queue),
		Sections: []report.Section{
			{Fields: []report.Field{
				{Name: "file", Value: d.File},
				{Name: "written", Value: fmt.Sprintf("%s, %d bytes", plural(d.Jobs, "job"), d.Bytes)},
				{Name: "looked at", Value: fmt.Sprint(d.Looked)},
			}},
			jobsSection("jobs", d.ByState),
		},
	}
}
