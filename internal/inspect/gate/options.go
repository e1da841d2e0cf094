package gate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/budget"
)

// Options say what is judged against what.
type Options struct {
	// Budgets are the limits, levels, waivers and required evidence.
	Budgets budget.Budgets

	// Rules are the names of all rules whose findings may occur. A level or waiver for another name is a
	// mistake. Nil: every name is taken.
	Rules []string

	// Baseline is what the change is compared with. Nil: everything counts as new, and increases are
	// inconclusive.
	Baseline *Baseline

	// Now is the time by which waivers expire and prices age. Required.
	Now time.Time
}

// budgetNames are the budgets a waiver can name.
func budgetNames() []string {
	return []string{
		perProcess, fleet, deploy, planLimit, perMonth, money, "latency", "operations",
		increaseConnections, increaseConnectionsPercent, increaseCommands, increaseCommandsPercent,
	}
}

// The names of budgets, as keys of the budgets section.
const (
	perProcess                 = "connections.per_process"
	fleet                      = "connections.fleet"
	deploy                     = "connections.deploy_factor"
	planLimit                  = "connections.plan_limit"
	perMonth                   = "commands.per_month"
	money                      = "money.usd_per_month"
	increaseConnections        = "increase.connections"
	increaseConnectionsPercent = "increase.connections_percent"
	increaseCommands           = "increase.commands_per_month"
	increaseCommandsPercent    = "increase.commands_percent"
)

// ruleOldPrices is the gate's own rule.
const ruleOldPrices = "prices-out-of-date"

// Validate reports every contradiction in the budgets, and every rule that nobody knows. The errors are
// *budget.FieldError, relative to the budgets section.
func (o Options) Validate() error { return errors.Join(o.Budgets.Validate(), o.Unknown()) }

// Unknown reports the levels and waivers that name neither a rule nor a budget.
func (o Options) Unknown() error {
	var errs []error
	if o.Rules == nil {
		return nil
	}
	rules := append(slices.Clone(o.Rules), ruleOldPrices)
	for _, name := range sortedKeys(o.Budgets.Rules) {
		if !slices.Contains(rules, name) {
			errs = append(errs, &budget.FieldError{Field: "rules." + name, Message: "no rule has this name" + meant(name, rules)})
		}
	}
	either := slices.Concat(rules, budgetNames())
	for i, w := range o.Budgets.Waivers {
		known := slices.Contains(either, w.Rule) || strings.HasPrefix(w.Rule, "latency.") || strings.HasPrefix(w.Rule, "operations.")
		if w.Rule != "" && !known {
			errs = append(errs, &budget.FieldError{
				Field: fmt.Sprintf("waivers[%d].rule", i), Message: fmt.Sprintf("%q is neither a rule nor a budget%s", w.Rule, meant(w.Rule, either)),
			})
		}
	}
	return errors.Join(errs...)
}

// meant proposes the name that is nearest to what was written, if one is near.
func meant(name string, all []string) string {
	best, least := "", len(name)/3+2
	for _, candidate := range all {
		if d := distance(name, candidate); d < least {
			best, least = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance is the number of letters to insert, delete or change between two names.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
