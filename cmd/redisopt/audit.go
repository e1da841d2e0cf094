package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/redisopt/redisopt/internal/inspect"
)

func (a *app) auditCommand() *cobra.Command {
	return a.group("audit", "Measure what an application costs a Redis; reads only",
		`  redisopt audit connections
  redisopt audit commands --window 60s`,
		a.auditConnectionsCommand(),
		a.auditCommandsCommand(),
		a.auditKeysCommand(),
		a.auditCodeCommand(),
		a.auditPlanCommand(),
		a.auditBudgetCommand(),
	)
}

// gateFlags are the flags of audits that can fail a build.
type gateFlags struct {
	failOn choice
	strict bool
}

func (g *gateFlags) register(set *pflag.FlagSet) {
	g.failOn = choice{value: "critical", allowed: []string{"critical", "warn"}}
	set.Var(&g.failOn, "fail-on", "exit 3 on findings of this severity or worse: critical or warn")
	set.BoolVar(&g.strict, "strict", false, "exit 8 where something needed for a verdict could not be observed")
}

// verdict is how a finished audit ends the command.
func (g *gateFlags) verdict(found []inspect.Finding, missing []string) error {
	var why []string
	for _, f := range found {
		if f.Severity == inspect.Critical || (f.Severity == inspect.Warning && g.failOn.value == "warn") {
			why = append(why, fmt.Sprintf("%s (%s)", f.Rule, f.Message))
		}
	}
	if len(why) > 0 {
		return verdictf(exitViolated, "%s", strings.Join(why, "; "))
	}
	if g.strict && len(missing) > 0 {
		return verdictf(exitInconclusive, "inconclusive: %s", strings.Join(missing, "; "))
	}
	return nil
}

// A choice is a flag with few possible values.
type choice struct {
	value   string
	allowed []string
}

// String returns the value.
func (c *choice) String() string { return c.value }

// Type is what help shows as the flag's value.
func (c *choice) Type() string { return "name" }

// Set takes one of the allowed values.
func (c *choice) Set(s string) error {
	if !slices.Contains(c.allowed, s) {
		return errors.New("want one of " + strings.Join(c.allowed, ", "))
	}
	c.value = s
	return nil
}
