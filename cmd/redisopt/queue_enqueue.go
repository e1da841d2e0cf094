package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// maxJobData is the largest payload that is read.
const maxJobData = 16 << 20

// enqueueFlags say what to add.
type enqueueFlags struct {
	prefix   string
	layout   string
	data     string
	delay    time.Duration
	at       string
	priority string
	job      tend.NewJob
}

// queueEnqueueData is the contract of queue.enqueue/v1.
type queueEnqueueData struct {
	Queue     mover.Endpoint `json:"queue"`
	Job       tend.Added     `json:"job"`
	Name      string         `json:"name"`
	DataBytes int            `json:"data_bytes"`
	Changed   bool           `json:"changed"`
}

func (a *app) queueEnqueueCommand() *cobra.Command {
	var f enqueueFlags
	cmd := &cobra.Command{
		Use:   "enqueue QUEUE [NAME]",
		Short: "Add one job so that the library's own workers run it",
		Long: `Adds one job as the library's own add does: the id by its counter, workers that wait are woken. An --id that
is there, or a --unique value that a job which has not ended holds, is refused (exit 7) and changes nothing.
NAME is what the worker knows the job by; asynq calls it the type, Bull can do without.

Should the connection break before the answer, it is not known whether the job was added. With --id the
command can be run again, since it then finds the first. Costs about twenty commands.

A queue that is not there yet needs --layout, and so does a band of asynq's that nothing was added to.`,
		Example: `  redisopt queue enqueue mail send --data '{"to": "ann"}' --delay 10m
  redisopt queue enqueue mail send --data @job.json --id invoice-7 --yes`,
		Args: cobra.RangeArgs(1, 2),
		RunE: a.action(func(ctx context.Context, args []string) error { return a.queueEnqueue(ctx, f, args) }),
	}
	prefixFlag(cmd, &f.prefix)
	flags := cmd.Flags()
	flags.StringVar(&f.layout, "layout", "", "make the queue, or asynq's band, if it is not there: bull, bullmq5, bullmq6 or asynq")
	flags.StringVar(&f.data, "data", "{}", "the payload: `JSON`, @FILE, or - for standard input")
	flags.DurationVar(&f.delay, "delay", 0, "how long to wait before it may run")
	flags.StringVar(&f.at, "at", "", "the `time` from which it may run, as in 2026-11-30T08:00:00Z")
	flags.StringVar(&f.priority, "priority", "", "1 is the most urgent; for asynq the band: high, normal or low")
	flags.StringVar(&f.job.ID, "id", "", "the job's `id` (default: the library's next)")
	flags.IntVar(&f.job.Attempts, "attempts", 0, "try it `n` times (default: as the library does, once; asynq 26 times)")
	flags.StringVar(&f.job.Unique, "unique", "", "refuse it while a job with the same `value` has not ended")
	flags.DurationVar(&f.job.UniqueTTL, "unique-ttl", 0, "with --unique: for this long instead (asynq at most 30 days by default)")
	return cmd
}

// newJob is the job that the flags describe.
func (a *app) newJob(f enqueueFlags, args []string) (tend.NewJob, error) {
	j := f.job
	j.Now, j.Delay = a.now(), f.delay
	if len(args) == 2 {
		j.Name = args[1]
	}
	var errs []error
	if f.at != "" {
		at, err := time.Parse(time.RFC3339, f.at)
		if err != nil {
			errs = append(errs, fmt.Errorf("--at: got %q, want a time such as 2026-11-30T08:00:00Z", f.at))
		}
		j.At = at
	}
	switch f.priority {
	case "", "normal":
	case "high", "low":
		j.Band = f.priority
	default:
		n, err := strconv.ParseInt(f.priority, 10, 64)
		if err != nil || n < 1 {
			errs = append(errs, fmt.Errorf("--priority: got %q, want a number from 1, or high, normal or low", f.priority))
		}
		j.Priority = n
	}
	if err := errors.Join(errs...); err != nil {
		return j, &usageError{err}
	}
	var err error
	j.Data, err = a.jobData(f.data)
	return j, err
}

// jobData reads a payload: JSON, @FILE, or standard input.
func (a *app) jobData(from string) ([]byte, error) {
	in := a.in
	switch name, isFile := strings.CutPrefix(from, "@"); {
	case isFile:
		f, err := os.Open(name)
		if err != nil {
			return nil, &usageError{fmt.Errorf("--data: %w", err)}
		}
		defer func() { _ = f.Close() }() // it was only read
		in = f
	case from != "-":
		return []byte(from), nil
	case !a.flags.yes && !a.flags.dryRun:
		return nil, usagef("standard input is the payload, so nobody can be asked; read the plan with --dry-run, then add --yes")
	}
	text, err := io.ReadAll(io.LimitReader(in, maxJobData+1))
	if err != nil {
		return nil, fmt.Errorf("read the payload: %w", err)
	}
	if len(text) > maxJobData {
		return nil, usagef("--data: got more than %d bytes", maxJobData)
	}
	return text, nil
}

func (a *app) queueEnqueue(ctx context.Context, f enqueueFlags, args []string) error {
	j, err := a.newJob(f, args)
	if err != nil {
		return err
	}
	made, err := layoutNamed(f.layout, f.prefix, args[0])
	if err != nil {
		return err
	}
	return a.withRedis(ctx, redisUse{component: meter.Queue, writes: true}, func(up *upstream.Upstream, _ *config.Config) error {
		q, err := tend.Find(ctx, up.Client(), tend.Name{Prefix: f.prefix, Queue: args[0]})
		switch {
		case errors.Is(err, mover.ErrNoQueue) && made != nil:
			q, err = tend.At(up.Client(), *made), nil
		case errors.Is(err, mover.ErrNoQueue):
			return withHint(&usageError{err}, "redisopt queue ls shows which queues there are; --layout bull, bullmq5, bullmq6 or asynq makes one")
		case err == nil && made != nil && made.Layout != q.Endpoint().Layout:
			return usagef("--layout: %s is there, in the layout of %s", queueLabel(q.Endpoint()), layoutOf(q.Endpoint()))
		case err == nil && made != nil && made.Layout == tend.Asynq:
			q = tend.At(up.Client(), *made) // with every band
		}
		if err != nil {
			return queueHint(err)
		}
		q.InScript = func(n int64) { up.AddInScript(meter.Queue, "evalsha", n) }
		plan, err := q.Check(ctx, j)
		if err != nil {
			return enqueueError(err)
		}
		d := queueEnqueueData{Queue: q.Endpoint(), Job: plan, Name: j.Name, DataBytes: len(j.Data)}
		if a.flags.dryRun {
			return a.print(queueEnqueueDocument(d))
		}
		if err := a.confirm(ctx, queueEnqueueDocument(d), "Add the job?"); err != nil {
			return err
		}
		if d.Job, err = q.Enqueue(ctx, j); err != nil {
			return enqueueError(err)
		}
		d.Changed = true
		return a.print(queueEnqueueDocument(d))
	})
}

// layoutNamed is where a queue that is not there would be; nil without a layout.
func layoutNamed(layout, prefix, queue string) (*mover.Endpoint, error) {
	e := mover.Endpoint{Prefix: prefix, Queue: queue}
	if prefix == "" {
		e.Prefix = "bull"
	}
	switch layout {
	case "":
		return nil, nil
	case "bull":
		e.Layout, e.Major = mover.Bull, 4
	case "bullmq5":
		e.Layout, e.Major = mover.BullMQ, 5
	case "bullmq6":
		e.Layout, e.Major = mover.BullMQ, 6
	case "asynq":
		if prefix != "" && prefix != "asynq" {
			return nil, usagef("--prefix: asynq's keys always begin with asynq, got %q", prefix)
		}
		e.Layout, e.Prefix = tend.Asynq, "asynq"
	default:
		return nil, usagef("--layout: got %q, want bull, bullmq5, bullmq6 or asynq", layout)
	}
	return &e, nil
}

// enqueueError says what kind of answer no is.
func enqueueError(err error) error {
	if _, wrong := errors.AsType[*tend.JobError](err); wrong {
		return &usageError{err}
	}
	if taken, is := errors.AsType[*tend.TakenError](err); is {
		return withHint(verdictf(exitBlocked, "%s", taken.Error()), "redisopt queue jobs QUEUE --state all --filter 'id="+taken.ID+"' shows it")
	}
	class := upstream.Classify(err)
	if slices.Contains([]upstream.Class{upstream.Timedout, upstream.Reset, upstream.IdleClose, upstream.Canceled}, class) {
		return withHint(err, "it is not known whether the job was added: look with redisopt queue jobs; with --id the command can be run again")
	}
	return err
}

// queueEnqueueDocument is queue.enqueue/v1.
func queueEnqueueDocument(d queueEnqueueData) report.Document {
	what, id := "would add", d.Job.ID
	if d.Changed {
		what = "added"
	}
	if id == "" {
		id = "the library's next"
	}
	name := d.Name
	if name == "" {
		name = "-"
	}
	state := string(d.Job.State)
	if d.Job.DueMS > 0 {
		state += ", due " + time.UnixMilli(d.Job.DueMS).UTC().Format("2006-01-02 15:04:05 UTC")
	}
	if d.Job.Band != "" {
		state += ", band " + d.Job.Band
	}
	return report.Document{
		Kind: "queue.enqueue/v1", Data: d, Title: "enqueue to " + queueLabel(d.Queue),
		Sections: []report.Section{{Fields: []report.Field{
			{Name: what, Value: "job " + id},
			{Name: "name", Value: name},
			{Name: "state", Value: state},
			{Name: "data", Value: fmt.Sprintf("%d bytes", d.DataBytes)},
			{Name: "library", Value: layoutOf(d.Queue)},
		}}},
	}
}
