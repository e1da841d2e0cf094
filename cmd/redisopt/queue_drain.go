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

// drainFlags say how a queue becomes empty.
type drainFlags struct {
	delayed bool
	wait    bool
	every   time.Duration
	most    time.Duration
}

func (a *app) queueDrainCommand() *cobra.Command {
	var d drainFlags
	c := queueChange{kind: "drain", action: tend.Delete}
	cmd := &cobra.Command{
		Use:   "drain QUEUE",
		Short: "Empty a queue: delete what waits, or with --wait let the workers do it",
		Long: `Deletes the jobs that wait, with --delayed also those that are delayed, after counting them and asking. Jobs
that workers run, and the next runs of schedules, stay. Producers may go on adding: pause what adds first.

With --wait nothing is deleted: it waits until no job waits or runs, looking every --every for at most --for,
and is exit 7 when there are still some. A look costs one command for each state.`,
		Example: `  redisopt queue drain mail --dry-run
  redisopt queue drain mail --wait --for 30m`,
		Args: cobra.ExactArgs(1),
		RunE: a.action(func(ctx context.Context, args []string) error {
			if d.wait {
				return a.queueDrainWait(ctx, c, d, args[0])
			}
			c.defaults = func(q *tend.Queue, _ []string) ([]mover.State, error) { return d.states(q), nil }
			return a.queueChange(ctx, c, args[0], nil)
		}),
	}
	prefixFlag(cmd, &c.flags.prefix)
	cmd.Flags().StringVar(&c.flags.filter, "filter", "", "only jobs that meet this `filter`; see redisopt queue jobs --help")
	cmd.Flags().IntVar(&c.maxJobs, "max-jobs", 100000, "delete at most `n` jobs in one run")
	cmd.Flags().BoolVar(&d.delayed, "delayed", false, "delayed jobs, and those that are tried again, as well")
	cmd.Flags().BoolVar(&d.wait, "wait", false, "delete nothing; wait until the workers have done all of it")
	cmd.Flags().DurationVar(&d.every, "every", 5*time.Second, "with --wait: look this often")
	cmd.Flags().DurationVar(&d.most, "for", 10*time.Minute, "with --wait: give up after this long")
	return cmd
}

// states are those of the jobs that are deleted, or waited for.
func (d drainFlags) states(q *tend.Queue) []mover.State {
	states := q.Waits()
	if d.delayed {
		states = append(states, mover.Delayed, tend.Retrying)
	}
	if d.wait {
		states = append(states, mover.Active)
	}
	var known []mover.State
	for _, s := range q.States() {
		for _, wanted := range states {
			if s == wanted {
				known = append(known, s)
			}
		}
	}
	return known
}

// queueDrainWaitData is the contract of queue.drain_wait/v1.
type queueDrainWaitData struct {
	Queue         mover.Endpoint        `json:"queue"`
	States        []mover.State         `json:"states"`
	Empty         bool                  `json:"empty"`
	Left          map[mover.State]int64 `json:"left"`
	Looks         int64                 `json:"looks"`
	WaitedSeconds float64               `json:"waited_seconds"`
	Paused        bool                  `json:"paused"`
}

func (a *app) queueDrainWait(ctx context.Context, c queueChange, d drainFlags, name string) error {
	if c.flags.filter != "" {
		return usagef("--filter: --wait waits for every job; leave the filter away")
	}
	if d.every < 100*time.Millisecond || d.most < 0 {
		return usagef("--every and --for: got %s and %s, want at least 100ms and 0s", d.every, d.most)
	}
	at := tend.Name{Prefix: c.flags.prefix, Queue: name}
	return a.withQueue(ctx, false, at, func(up *upstream.Upstream, q *tend.Queue) error {
		data := queueDrainWaitData{Queue: q.Endpoint(), States: d.states(q)}
		var err error
		if data.Paused, err = q.Paused(ctx); err != nil {
			return err
		}
		before := up.Spent().Commands
		began := time.Now()
		look := func() (int64, error) {
			data.Looks++
			if data.Left, err = q.Left(ctx, data.States); err != nil {
				return 0, err
			}
			left := int64(0)
			for _, n := range data.Left {
				left += n
			}
			return left, nil
		}
		left, err := look()
		if err != nil {
			return err
		}
		total := left
		if left > 0 {
			each := up.Spent().Commands - before
			a.note("looking every %s for at most %s: %s a look, at most %d in all", d.every, d.most, plural(each, "command"), each*(1+int64(d.most/d.every)))
		}
		p := a.progress("jobs")
		p.begin("drain", left)
		for left > 0 && time.Since(began)+d.every <= d.most {
			select {
			case <-ctx.Done():
				p.finish()
				return ctx.Err()
			case <-time.After(d.every):
			}
			if left, err = look(); err != nil {
				p.finish()
				return err
			}
			total = max(total, left)
			p.update(total-left, total)
		}
		p.finish()
		data.Empty, data.WaitedSeconds = left == 0, time.Since(began).Seconds()
		if err := a.print(queueDrainWaitDocument(data)); err != nil {
			return err
		}
		if !data.Empty {
			return verdictf(exitBlocked, "%s still there after %s", plural(left, "job"), shortDuration(time.Since(began)))
		}
		return nil
	})
}

// queueDrainWaitDocument is queue.drain_wait/v1.
func queueDrainWaitDocument(d queueDrainWaitData) report.Document {
	state := "empty"
	if !d.Empty {
		state = "not empty"
	}
	doc := report.Document{
		Kind: "queue.drain_wait/v1", Data: d, Title: "drain " + queueLabel(d.Queue),
		Sections: []report.Section{
			{Fields: []report.Field{
				{Name: "queue", Value: state},
				{Name: "waited", Value: fmt.Sprintf("%s, %s", shortDuration(time.Duration(d.WaitedSeconds*float64(time.Second))), plural(d.Looks, "look"))},
			}},
		},
	}
	if !d.Empty {
		doc.Sections = append(doc.Sections, jobsSection("left", d.Left))
	}
	if d.Paused {
		doc.Notes = append(doc.Notes, "the queue is paused: no worker takes a job until redisopt queue resume "+d.Queue.Queue)
	}
	return doc
}
