package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate/preflight"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// app is one run of the program: its streams, its global flags and how far it came. Commands are
// methods of app; each is used by one goroutine.
type app struct {
	streams

	flags globalFlags

	// started is true once an action runs. Whatever fails before that is a mistake of usage.
	started bool

	// cmd is the command that runs, or that could not because it was used wrongly; nil before.
	cmd *cobra.Command

	// newSide is the second upstream of phase 1, nil while it is not used.
	newSide *upstream.Upstream

	// quota is what is left of the plan's commands this month, nil when that is not known; quotaAsked is true
	// once somebody has asked.
	quota      *preflight.Quota
	quotaAsked bool

	// now is the clock of documents; commands that wait use package time.
	now func() time.Time
}

// action wraps the work of a command. Every RunE of this program is made by it: cobra reports an
// unknown flag, an extra argument and a missing required flag as plain errors, and only the fact
// that no action started tells them from a failure of the work.
func (a *app) action(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := a.flags.validate(); err != nil {
			return err
		}
		a.started, a.cmd = true, cmd
		return f(cmd.Context(), args)
	}
}

// print writes the one answer of a command to stdout in the format the user asked for.
func (a *app) print(doc report.Document) error {
	return report.Write(a.out, a.flags.output, doc, a.writeOptions())
}

// stream returns a writer of many documents for commands that watch: one JSON object per line in
// JSON, one document after another in any other format.
func (a *app) stream() *report.Stream {
	return report.NewStream(a.out, a.flags.output, a.writeOptions())
}

func (a *app) writeOptions() report.WriteOptions {
	return report.WriteOptions{
		Width:   a.columns(),
		Color:   a.colorful(a.flags.color, a.outTerminal),
		Now:     a.now(),
		Version: programVersion(),
	}
}

// note tells the user something that is not part of the answer: one line on stderr, hidden by
// --quiet.
func (a *app) note(format string, args ...any) {
	if a.flags.quiet {
		return
	}
	a.say(fmt.Sprintf(format, args...))
}

// detail is a note that only --verbose shows.
func (a *app) detail(format string, args ...any) {
	if a.flags.verbose {
		a.note(format, args...)
	}
}

// say writes text to stderr and ends it with a newline. A terminal that is gone is not an error a
// command could act on.
func (a *app) say(text string) {
	_, _ = fmt.Fprintln(a.err, strings.TrimSuffix(text, "\n"))
}
