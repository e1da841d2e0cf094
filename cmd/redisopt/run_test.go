package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/journal"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// A recorder holds what a run printed.
type recorder struct{ out, err bytes.Buffer }

func (r *recorder) streams() streams {
	return streams{in: strings.NewReader(""), out: &r.out, err: &r.err, ansi: true}
}

// failing runs a command whose work ends with err, after work has started.
func failing(err error) func(*app) *cobra.Command {
	return func(a *app) *cobra.Command {
		cmd := &cobra.Command{
			Use: "work", Args: cobra.NoArgs,
			RunE: a.action(func(context.Context, []string) error { return err }),
		}
		cmd.Flags().String("needed", "", "")
		return cmd
	}
}

func TestExitCodes(t *testing.T) {
	redisError := func(class upstream.Class) error {
		return fmt.Errorf("read the queue: %w", &upstream.Error{Class: class, Addr: "db:6379"})
	}
	_, badConfig := config.Load(config.Sources{
		Env:      func(string) (string, bool) { return "", false },
		ReadFile: func(string) ([]byte, error) { return []byte("nonsense: 1\n"), nil },
	})
	verdict := func(code int) error { return verdictf(code, "no") }

	cases := []struct {
		name   string
		args   []string // default: the command "work", which fails with err
		err    error
		signal bool
		want   int
	}{
		{name: "nothing fails", want: 0},
		{name: "version", args: []string{"version"}, want: 0},
		{name: "help", args: []string{"help"}, want: 0},
		{name: "no command at all shows help", args: []string{}, want: 0},
		{name: "work ends well although a signal came", signal: true, want: 0},

		{name: "an unexpected failure", err: io.ErrUnexpectedEOF, want: 1},
		{name: "an error reply that is nobody's fault", err: redisError(upstream.Server), want: 1},
		{name: "work stopped without a signal", err: context.Canceled, want: 1},
		{name: "a missing file is no refused connection", err: &os.PathError{Op: "open", Path: "f", Err: os.ErrNotExist}, want: 1},

		{name: "an unknown command", args: []string{"walk"}, want: 2},
		{name: "an unknown flag", args: []string{"version", "--nonsense"}, want: 2},
		{name: "an extra argument", args: []string{"version", "extra"}, want: 2},
		{name: "an unknown format", args: []string{"version", "-o", "yaml"}, want: 2},
		{name: "a flag without its value", args: []string{"version", "--timeout"}, want: 2},
		{name: "a timeout of nothing", args: []string{"version", "--timeout", "0s"}, want: 2},
		{name: "a negative limit of commands", args: []string{"version", "--max-commands", "-1"}, want: 2},
		{name: "flags that contradict each other", args: []string{"version", "--quiet", "--verbose"}, want: 2},
		{name: "a colour that is none", args: []string{"version", "--color", "blue"}, want: 2},
		{name: "a password on the command line", args: []string{"version", "--redis-url", "redis://u:secret@h"}, want: 2},
		{name: "usage found out by the work", err: usagef("no"), want: 2},
		{name: "a broken configuration", err: badConfig, want: 2},
		{name: "options of a connection that are wrong", err: redisError(upstream.BadOptions), want: 2},
		{name: "a queue that does not exist", err: &step.UnknownQueueError{}, want: 2},

		{name: "a gate that says no", err: verdict(exitViolated), want: 3},
		{name: "our own limit of commands", err: &upstream.SpendError{}, want: 3},

		{name: "data that differ", err: verdict(exitMismatch), want: 4},
		{name: "a move that does not verify", err: &migrate.StepError{Err: &step.MismatchError{}}, want: 4},

		{name: "a refused connection", err: redisError(upstream.Refused), want: 5},
		{name: "no reply in time", err: redisError(upstream.Timedout), want: 5},
		{name: "a deadline", err: context.DeadlineExceeded, want: 5},
		{name: "TLS where none is spoken", err: redisError(upstream.TLSMismatch), want: 5},
		{name: "a host name that does not resolve", err: redisError(upstream.DNS), want: 5},
		{name: "a web server", err: redisError(upstream.NotRedis), want: 5},

		{name: "a wrong password", err: redisError(upstream.Auth), want: 6},
		{name: "a user who may not", err: redisError(upstream.Permission), want: 6},

		{name: "a lease held by another", err: &migrate.HeldError{}, want: 7},
		{name: "a lease that was taken over", err: fmt.Errorf("append: %w", journal.ErrFenced), want: 7},
		{name: "a lease lost between two chunks", err: mover.ErrFenced, want: 7},
		{name: "a live worker in place", err: &mover.AttachedError{}, want: 7},
		{name: "a key of the wrong type", err: &mover.WrongTypeError{}, want: 7},
		{name: "a forked journal", err: &journal.ForkError{}, want: 7},
		{name: "a journal of a newer version", err: &journal.SchemaError{}, want: 7},
		{name: "the wrong phase", err: &migrate.StageError{}, want: 7},

		{name: "too little evidence under --strict", err: verdict(exitInconclusive), want: 8},
		{name: "rolled back automatically", err: verdict(exitRolledBack), want: 9},
		{name: "a plan that has changes", err: verdict(exitChanges), want: 10},

		{name: "a spent quota", err: redisError(upstream.Quota), want: 75},
		{name: "no connection left", err: redisError(upstream.ConnectionLimit), want: 75},
		{name: "a server that starts", err: redisError(upstream.Loading), want: 75},

		{name: "a signal", err: fmt.Errorf("move: %w", context.Canceled), signal: true, want: 130},
		{name: "a signal while a reply was awaited", err: errors.Join(redisError(upstream.Timedout), context.Canceled), signal: true, want: 130},
		{name: "a signal does not hide what was wrong before", err: verdict(exitMismatch), signal: true, want: 4},

		{name: "usage before denied", err: errors.Join(redisError(upstream.Auth), usagef("no")), want: 2},
		{name: "denied before unreachable", err: errors.Join(redisError(upstream.Refused), redisError(upstream.Auth)), want: 6},
		{name: "unreachable before try later", err: errors.Join(redisError(upstream.Quota), redisError(upstream.Refused)), want: 5},
		{name: "try later before blocked", err: errors.Join(&migrate.HeldError{}, redisError(upstream.Quota)), want: 75},
		{name: "blocked before rolled back", err: errors.Join(verdict(exitRolledBack), &migrate.HeldError{}), want: 7},
		{name: "rolled back before mismatch", err: errors.Join(verdict(exitMismatch), verdict(exitRolledBack)), want: 9},
		{name: "mismatch before violated", err: errors.Join(verdict(exitViolated), verdict(exitMismatch)), want: 4},
		{name: "violated before inconclusive", err: errors.Join(verdict(exitInconclusive), verdict(exitViolated)), want: 3},
		{name: "inconclusive before failure", err: errors.Join(io.ErrUnexpectedEOF, verdict(exitInconclusive)), want: 8},
		{name: "a cause under a cause", err: fmt.Errorf("a: %w", errors.Join(io.EOF, fmt.Errorf("b: %w", redisError(upstream.Auth)))), want: 6},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			args := c.args
			if args == nil {
				args = []string{"work"}
			}
			for _, format := range []report.Format{report.FormatTable, report.FormatJSON, report.FormatGitHub} {
				var printed recorder
				a := &app{streams: printed.streams(), now: time.Now}
				ctx, cancel := context.WithCancelCause(t.Context())
				if c.signal {
					cancel(errInterrupted)
				}
				commands := append([]*cobra.Command{a.versionCommand()}, failing(c.err)(a))
				if got := a.execute(ctx, withFormat(args, format), commands); got != c.want {
					t.Errorf("as %s: exit code %d, want %d; stderr: %s", format, got, c.want, printed.err.String())
				}
				cancel(nil)
				if (c.want == 0) != (printed.err.Len() == 0) {
					t.Errorf("as %s: exit code %d with this on stderr: %q", format, c.want, printed.err.String())
				}
			}
		})
	}
}

// withFormat asks for format unless args ask for one themselves or are help.
func withFormat(args []string, format report.Format) []string {
	line := strings.Join(args, " ")
	if strings.Contains(line, "-o ") || format == report.FormatTable {
		return args
	}
	return append([]string{"-o", string(format)}, args...)
}

func TestAFailureInJSONModeIsOneDocumentOnStderr(t *testing.T) {
	cases := []struct {
		name string
		args []string
		err  error
		want string
	}{
		{
			"work that fails",
			[]string{"work", "-o", "json"},
			&upstream.Error{Class: upstream.Quota, Addr: "db:6379"},
			`{"kind":"error/v1","data":{"code":"try_later","message":"db:6379: the plan's command quota is used up","hint":"wait for the next billing period or raise the plan; redisopt audit commands shows who spends","exit_code":75}}`,
		},
		{
			"a flag that is refused before -o is read",
			[]string{"work", "--bad", "-o", "json"},
			nil,
			`{"kind":"error/v1","data":{"code":"usage","message":"unknown flag: --bad","hint":"the command is redisopt work; redisopt work --help shows examples","exit_code":2}}`,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var printed recorder
			a := &app{streams: printed.streams(), now: time.Now}
			a.execute(t.Context(), c.args, []*cobra.Command{failing(c.err)(a)})
			if got := strings.TrimSuffix(printed.err.String(), "\n"); got != c.want {
				t.Errorf("stderr is\n%s\nwant\n%s", got, c.want)
			}
			if printed.out.Len() > 0 {
				t.Errorf("stdout is %q, want nothing", printed.out.String())
			}
		})
	}
}

func TestAsksForJSON(t *testing.T) {
	cases := map[string]bool{
		"-o json":            true,
		"-ojson":             true,
		"-o=json":            true,
		"a --output=json":    true,
		"--output json b":    true,
		"-o table":           false,
		"--output":           false,
		"":                   false,
		"record -- x -ojson": false,
	}
	for line, want := range cases {
		if got := asksForJSON(strings.Fields(line)); got != want {
			t.Errorf("asksForJSON(%q) = %t, want %t", line, got, want)
		}
	}
}

func TestEveryCommandShowsTwoExamplesAndTakesAnAction(t *testing.T) {
	a := &app{now: time.Now}
	root := a.rootCommand()
	root.AddCommand(a.commands()...)
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		if n := len(strings.Split(strings.TrimSpace(cmd.Example), "\n")); n < 2 {
			t.Errorf("%s: help leads with %d examples, want 2 or more", cmd.CommandPath(), n)
		}
		if cmd.Short == "" {
			t.Errorf("%s: no short description", cmd.CommandPath())
		}
		if cmd.Run != nil || cmd.RunE == nil {
			t.Errorf("%s: want RunE made by action or group", cmd.CommandPath())
		}
		for _, child := range cmd.Commands() {
			check(child)
		}
	}
	check(root)
}
