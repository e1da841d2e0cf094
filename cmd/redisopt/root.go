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
)

// commands lists every command in the order help shows them. A new command is one constructor in a
// file of its own and one line here.
func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{
		a.demoCommand(),
		a.auditCommand(),
		a.recordCommand(),
		a.benchCommand(),
		a.configCommand(),
		a.migrateCommand(),
		a.rollbackCommand(),
		a.queueCommand(),
		a.cacheCommand(),
		a.limitCommand(),
		a.serveCommand(),
		a.versionCommand(),
	}
}

// run executes one command line and returns the exit code of the process. It never panics on bad
// input, touches no global and may be called many times, as tests do. A ctx that was cancelled by a
// signal (see interruptible) makes the exit code 130.
func run(ctx context.Context, args []string, s streams) int {
	a := &app{streams: s, now: time.Now}
	return a.execute(ctx, args, a.commands())
}

func (a *app) execute(ctx context.Context, args []string, commands []*cobra.Command) int {
	root := a.rootCommand()
	root.AddCommand(commands...)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if !a.started {
		err = &usageError{err}
		a.cmd = cmd
		if asksForJSON(args) {
			a.flags.output = report.FormatJSON // flags were perhaps not parsed that far
		}
	}
	code := exitCode(err, interrupted(ctx))
	a.printError(err, code)
	return code
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "redisopt",
		Short: "Find what an application costs a Redis, and move its queues off that cost",
		Long: `redisopt measures what an application costs a Redis, moves its job queues off that
cost while they run, proves every step and can undo it.`,
		Example: `  redisopt demo                                        try everything, no Redis needed
  REDIS_URL=redis://localhost redisopt audit connections   who holds connections`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE:          groupAction,
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	a.flags.register(root.PersistentFlags())
	root.SetHelpTemplate(helpTemplate)
	root.SetUsageTemplate(helpTemplate)
	return root
}

// group makes a command that only has subcommands. Alone it prints its help; with a word that is no
// subcommand it is a mistake of usage, where cobra would print help and succeed.
func (a *app) group(use, short, example string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Example: example,
		Args: cobra.ArbitraryArgs,
		RunE: groupAction,
	}
	cmd.AddCommand(children...)
	return cmd
}

func groupAction(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	message := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
	cmd.SuggestionsMinimumDistance = 2 // letters that may be wrong; cobra's own default is none
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		message += fmt.Sprintf(", did you mean %s?", strings.Join(near, " or "))
	}
	return errors.New(message)
}

// asksForJSON reports whether args ask for JSON output, for errors that happen before the flags are
// parsed: a script that asked for JSON gets its error as JSON too.
func asksForJSON(args []string) bool {
	if end := slices.Index(args, "--"); end >= 0 {
		args = args[:end]
	}
	for i, arg := range args {
		switch arg {
		case "-ojson", "-o=json", "--output=json":
			return true
		case "-o", "--output":
			if i+1 < len(args) && args[i+1] == "json" {
				return true
			}
		}
	}
	return false
}

// helpTemplate leads with what the command does and its examples, then the rest.
const helpTemplate = `{{with (or .Long .Short)}}{{. | trimTrailingWhitespaces}}{{end}}
{{if .HasExample}}
Examples:
{{.Example}}
{{end}}
Usage:
{{- if .Runnable}}
  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} COMMAND{{end}}
{{if .HasAvailableSubCommands}}
Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}
{{end}}{{if .HasAvailableLocalFlags}}
Flags:
{{.LocalFlags.FlagUsagesWrapped 80 | trimTrailingWhitespaces}}
{{end}}{{if .HasAvailableInheritedFlags}}
Global flags:
{{.InheritedFlags.FlagUsagesWrapped 80 | trimTrailingWhitespaces}}
{{end}}`
