package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// queueCommand is the group of commands about queues as they are.
func (a *app) queueCommand() *cobra.Command {
	return a.group("queue", "Queues as they are, in the layout of Bull, BullMQ or asynq", `  redisopt queue ls
  redisopt queue retry mail --filter 'reason~timeout,age<1d'`,
		a.queueLsCommand(), a.queueShowCommand(), a.queueJobsCommand(), a.queueEnqueueCommand(), a.queueRetryCommand(),
		a.queueDeleteCommand(), a.queuePauseCommand(), a.queueResumeCommand(), a.queueDrainCommand(), a.queueDeadCommand(),
		a.queueExportCommand())
}

// prefixFlag adds --prefix to a command about one queue.
func prefixFlag(cmd *cobra.Command, prefix *string) {
	cmd.Flags().StringVar(prefix, "prefix", "", "the queue's key `prefix`, taken literally; asynq for asynq (default: find it)")
}

// jobFlags say which jobs of a queue a command is about.
type jobFlags struct {
	prefix string
	states []string
	filter string
}

func (f *jobFlags) register(cmd *cobra.Command, states string) {
	prefixFlag(cmd, &f.prefix)
	cmd.Flags().StringSliceVar(&f.states, "state", nil, "only jobs in these `states`, separated by commas ("+states+")")
	cmd.Flags().StringVar(&f.filter, "filter", "", "only jobs that meet this `filter`: name=send,age>1h,reason~timeout,data.userId=42")
}

// parse reads the flags as this queue understands them, and reports every problem at once.
func (f *jobFlags) parse(q *tend.Queue) ([]mover.State, tend.Filter, error) {
	states, err := q.ParseStates(f.states)
	filter, err2 := tend.ParseFilter(f.filter)
	if err := errors.Join(flagged("--state", err), flagged("--filter", err2)); err != nil {
		return nil, tend.Filter{}, &usageError{err}
	}
	return states, filter, nil
}

func flagged(flag string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", flag, err)
}

// withQueue opens the Redis and finds the queue.
func (a *app) withQueue(ctx context.Context, writes bool, at tend.Name, f func(up *upstream.Upstream, q *tend.Queue) error) error {
	return a.withRedis(ctx, redisUse{component: meter.Queue, writes: writes}, func(up *upstream.Upstream, _ *config.Config) error {
		q, err := tend.Find(ctx, up.Client(), at)
		if err != nil {
			return queueHint(err)
		}
		q.InScript = func(n int64) { up.AddInScript(meter.Queue, "evalsha", n) }
		return f(up, q)
	})
}

// queueHint says what is a mistake of usage about a queue that was not found, and how to go on.
func queueHint(err error) error {
	if errors.Is(err, mover.ErrNoQueue) {
		return withHint(&usageError{err}, "redisopt queue ls shows which queues there are")
	}
	if _, several := errors.AsType[*tend.AmbiguousError](err); several {
		return &usageError{err}
	}
	return searchHint(err)
}

// affordable refuses what would cost more than --max-commands allows, before any of it is spent.
func (a *app) affordable(up *upstream.Upstream, what string, price int64) error {
	limit, spent := a.flags.maxCommands, up.Spent().Commands
	if limit <= 0 || spent+price <= limit {
		return nil
	}
	return verdictf(exitViolated, "%s costs about %s more, and --max-commands allows %d, %d of them spent", what, plural(price, "command"), limit, spent)
}

// queueLabel is how a queue is named to people: bull:mail.
func queueLabel(e mover.Endpoint) string { return e.Prefix + ":" + e.Queue }

// libraryOf is how a queue's library is shown: its own note of its version where it left one.
func libraryOf(q mover.QueueSummary) string {
	if name, version, ok := strings.Cut(q.Version, ":"); ok {
		return name + " " + version
	}
	if q.Endpoint.Layout == mover.BullMQ {
		return string(q.Endpoint.Layout) // a queue that was moved and that no BullMQ opened yet; 5 and 6 look alike
	}
	return layoutOf(q.Endpoint)
}

func layoutOf(e mover.Endpoint) string {
	if e.Major == 0 {
		return string(e.Layout)
	}
	return fmt.Sprintf("%s %d", e.Layout, e.Major)
}

// shownStates is the order in which people are shown the states.
func shownStates() []mover.State {
	first := []mover.State{mover.Waiting, mover.Paused, mover.Prioritized, mover.Active, mover.Delayed}
	rest := slices.DeleteFunc(slices.Clone(tend.Order()), func(s mover.State) bool { return slices.Contains(first, s) })
	last := []mover.State{mover.Completed, mover.Failed, mover.WaitingChildren}
	rest = slices.DeleteFunc(rest, func(s mover.State) bool { return slices.Contains(last, s) })
	return slices.Concat(first, rest, last)
}

// jobsSection is jobs by state; a state that nothing is in is left out.
func jobsSection(title string, counts map[mover.State]int64) report.Section {
	table := &report.Table{Columns: []report.Column{{Name: "state"}, {Name: "jobs", Right: true}}}
	all := int64(0)
	for _, state := range shownStates() {
		if n := counts[state]; n > 0 {
			all += n
			table.Rows = append(table.Rows, []string{string(state), fmt.Sprint(n)})
		}
	}
	if len(table.Rows) == 0 {
		return report.Section{Title: title, Text: "none"}
	}
	table.Total = []string{"all", fmt.Sprint(all)}
	return report.Section{Title: title, Table: table}
}

// waitedFor is the age of the job that is next in line.
func waitedFor(ms int64) string {
	if ms < 0 {
		return "-"
	}
	return roughly(time.Duration(ms) * time.Millisecond)
}

// roughly is a duration in its two largest units: 3h33m, 12d4h.
func roughly(d time.Duration) string {
	switch day := 24 * time.Hour; {
	case d >= day:
		return strings.TrimSuffix(fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour), "0h")
	case d >= time.Hour:
		return strings.TrimSuffix(fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute), "0m")
	case d >= time.Minute:
		return strings.TrimSuffix(fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second), "0s")
	}
	return shortDuration(d)
}

// ago is how long before now a time in Unix milliseconds was, or in how long it will be.
func ago(ms int64, now time.Time) string {
	if ms <= 0 {
		return "-"
	}
	if d := now.Sub(time.UnixMilli(ms)); d >= 0 {
		return roughly(d.Truncate(time.Second)) + " ago"
	}
	return "in " + roughly(time.UnixMilli(ms).Sub(now).Truncate(time.Second))
}

// searchHint tells how to go on after a search that gave up.
func searchHint(err error) error {
	if errors.Is(err, mover.ErrTooManyKeys) {
		return withHint(err, "redisopt queue ls --prefix bull, or a larger --max-keys")
	}
	return err
}
