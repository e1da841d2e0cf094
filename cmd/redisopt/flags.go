package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/runtime/config"
)

// defaultTimeout is how long one reply of a Redis may take.
const defaultTimeout = 5 * time.Second

// globalFlags are the flags every command has.
type globalFlags struct {
	config      string
	redisURL    string
	timeout     time.Duration
	output      report.Format
	quiet       bool
	verbose     bool
	color       colorMode
	yes         bool
	dryRun      bool
	maxCommands int64
}

func (f *globalFlags) register(set *pflag.FlagSet) {
	f.output = report.FormatTable
	f.color = colorAuto
	set.StringVar(&f.config, "config", "", "read this configuration `file` (default: redisopt.yaml if it is there)")
	set.StringVar(&f.redisURL, "redis-url", "", "talk to this Redis; `url` without a password, which comes from REDIS_URL or a file")
	set.DurationVar(&f.timeout, "timeout", defaultTimeout, "wait this long for one reply")
	set.VarP(&f.output, "output", "o", "print as table, json, markdown, junit, sarif, github or gitlab")
	set.BoolVar(&f.quiet, "quiet", false, "hide notes and progress, never errors")
	set.BoolVar(&f.verbose, "verbose", false, "say more on stderr")
	set.Var(&f.color, "color", "colour the output: auto, always or never")
	set.BoolVar(&f.yes, "yes", false, "make the change without asking")
	set.BoolVar(&f.dryRun, "dry-run", false, "print the plan that would run and write nothing")
	set.Int64Var(&f.maxCommands, "max-commands", 0, "stop before more than `n` commands are spent (0: no limit)")
}

// validate reports every problem of the flags' values at once.
func (f *globalFlags) validate() error {
	var errs []error
	if f.timeout <= 0 {
		errs = append(errs, fmt.Errorf("--timeout: got %s, want more than 0", f.timeout))
	}
	if f.maxCommands < 0 {
		errs = append(errs, fmt.Errorf("--max-commands: got %d, want 0 or more", f.maxCommands))
	}
	if f.quiet && f.verbose {
		errs = append(errs, errors.New("--quiet and --verbose contradict each other"))
	}
	if err := config.CheckURLFlag(f.redisURL); err != nil {
		errs = append(errs, fmt.Errorf("--redis-url: %w", err))
	}
	return errors.Join(errs...)
}

// A colorMode is the value of --color.
type colorMode string

const (
	colorAuto   colorMode = "auto"
	colorAlways colorMode = "always"
	colorNever  colorMode = "never"
)

// String returns the name of m.
func (m *colorMode) String() string { return string(*m) }

// Type is what help shows as the flag's value.
func (m *colorMode) Type() string { return "when" }

// Set parses name.
func (m *colorMode) Set(name string) error {
	switch colorMode(name) {
	case colorAuto, colorAlways, colorNever:
		*m = colorMode(name)
		return nil
	}
	return errors.New("want auto, always or never")
}
