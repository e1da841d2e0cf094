package budget

import (
	"fmt"
	"path"
	"strings"
	"time"
)

// Increase is how much one change may add to what its baseline had. Unlike every other budget, 0 means
// that nothing may be added, and -1 that nothing is budgeted.
type Increase struct {
	// Connections is the most connections that one change may add to those of all processes. Default -1:
	// no budget.
	Connections int `yaml:"connections" jsonschema:"minimum=-1"`

	// ConnectionsPercent is the same in percent of the baseline. Default -1: no budget.
	ConnectionsPercent float64 `yaml:"connections_percent" jsonschema:"minimum=-1"`

	// CommandsPerMonth is the most commands a month that one change may add. Default -1: no budget.
	CommandsPerMonth int64 `yaml:"commands_per_month" jsonschema:"minimum=-1"`

	// CommandsPercent is the same in percent of the baseline. Default -1: no budget.
	CommandsPercent float64 `yaml:"commands_percent" jsonschema:"minimum=-1"`
}

// Operation budgets what a recorded run counted for one of its tests or sources.
type Operation struct {
	// Name is the test or source, as the record names it; * stands for any text without a slash.
	Name string `yaml:"name" jsonschema:"minLength=1"`

	// Commands is the most commands, those inside scripts included, that it may cost. Default 0: none.
	Commands int64 `yaml:"commands" jsonschema:"minimum=0"`
}

// A RuleLevel says what a finding of one rule means for a gate.
type RuleLevel string

// The levels of rules.
const (
	RuleOff  RuleLevel = "off"  // not told
	RuleWarn RuleLevel = "warn" // told, and fails nothing
	RuleFail RuleLevel = "fail" // fails the gate
)

// Waiver lets a gate pass in spite of a finding or a budget, for a time.
type Waiver struct {
	// Rule is the rule or the budget that is waived: idle-polling, connections.fleet. Required.
	Rule string `yaml:"rule" jsonschema:"minLength=1"`

	// File is which files the waiver is for, relative to the code; * stands for any text without a slash.
	// Default: all.
	File string `yaml:"file"`

	// Subject is the queue, process or file that the finding must be about. Default: any.
	Subject string `yaml:"subject"`

	// Owner is who answers for it: a person or a team. Required.
	Owner string `yaml:"owner" jsonschema:"minLength=1"`

	// Reason is why it is waived. Required.
	Reason string `yaml:"reason" jsonschema:"minLength=1"`

	// Expires is the last day, in UTC, on which the waiver holds (2026-12-31). After it the gate fails
	// until the waiver is removed or renewed. Required.
	Expires string `yaml:"expires" jsonschema:"pattern=^[0-9]{4}-[0-9]{2}-[0-9]{2}$"`
}

// Expired reports whether now is after the last day of w. A day that is none has passed; Validate
// reports it.
func (w Waiver) Expired(now time.Time) bool {
	day, err := time.Parse(time.DateOnly, w.Expires)
	return err != nil || !now.UTC().Before(day.AddDate(0, 0, 1))
}

// gateProblems are the contradictions in what only a gate reads.
func (b Budgets) gateProblems() []error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &FieldError{field, fmt.Sprintf(format, args...)})
	}
	if c := b.Connections; c.Fleet > 0 && c.PlanLimit > 0 && float64(c.Fleet) > c.FailAt*float64(c.PlanLimit) {
		bad("connections.fleet", "%d can never be used: the gate fails above %g of the plan's limit of %d, which is %d",
			c.Fleet, c.FailAt, c.PlanLimit, int(c.FailAt*float64(c.PlanLimit)))
	}
	seen := map[string]int{}
	for i, o := range b.Operations {
		field := fmt.Sprintf("operations[%d].name", i)
		first, twice := seen[o.Name]
		switch _, err := path.Match(o.Name, ""); {
		case o.Name == "":
			bad(field, "missing; it is the test or source whose commands are budgeted")
		case err != nil:
			bad(field, "%q is no pattern", o.Name)
		case twice:
			bad(field, "%q is budgeted in operations[%d] too", o.Name, first)
		default:
			seen[o.Name] = i
		}
	}
	for i, w := range b.Waivers {
		b.waiverProblems(fmt.Sprintf("waivers[%d].", i), w, bad)
	}
	return errs
}

func (b Budgets) waiverProblems(at string, w Waiver, bad func(field, format string, args ...any)) {
	for _, x := range []struct{ name, value, why string }{
		{"rule", w.Rule, "missing; it is the rule or the budget that is waived"},
		{"owner", w.Owner, "missing; somebody answers for every waiver"},
		{"reason", w.Reason, "missing; say why, for whoever reads it when it expires"},
		{"expires", w.Expires, "missing; a waiver ends on a day such as 2026-12-31"},
	} {
		if strings.TrimSpace(x.value) == "" {
			bad(at+x.name, "%s", x.why)
		}
	}
	if _, err := time.Parse(time.DateOnly, w.Expires); w.Expires != "" && err != nil {
		bad(at+"expires", "got %q, want a day such as 2026-12-31", w.Expires)
	}
	if _, err := path.Match(w.File, ""); err != nil {
		bad(at+"file", "%q is no pattern", w.File)
	}
	if b.Rules[w.Rule] == RuleOff {
		bad(at+"rule", "%s is off already, so there is nothing to waive", w.Rule)
	}
}
