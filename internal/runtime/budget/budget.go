// Package budget holds what an operator is willing to spend on a Redis: connections, commands a
// month, latency and money. It is pure: types with their defaults, and the arithmetic of billing
// periods. Whoever enforces or judges a budget does the arithmetic here, so that a command line, a
// gate and an alert never disagree about the same numbers.
//
// The structs are read from redisopt.yaml, which is why they carry yaml tags. A zero limit means
// that nothing is budgeted, never that nothing is allowed; only Increase says so by -1.
package budget

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Budgets is every budget of one application. The zero value budgets nothing; Default adds the
// thresholds that apply once a limit is set.
type Budgets struct {
	// Connections is the budget for open connections to the upstream.
	Connections Connections `yaml:"connections"`

	// Commands is the budget for billed commands in a period.
	Commands Commands `yaml:"commands"`

	// Latency is the budget for each operation, by the operation's name: cache, limit, queue.
	Latency map[string]Latency `yaml:"latency"`

	// Money is the budget for the upstream's bill.
	Money Money `yaml:"money"`

	// Increase is the budget for what one change may add to its baseline.
	Increase Increase `yaml:"increase"`

	// Operations is the budget for tests and sources that a recorded run counted. Default none.
	Operations []Operation `yaml:"operations"`

	// Rules is what findings mean for a gate, by the name of their rule: off, warn or fail. Default:
	// critical findings fail, warnings and notes are told.
	Rules map[string]RuleLevel `yaml:"rules" jsonschema:"enum=off,enum=warn,enum=fail"`

	// Waivers let a gate pass in spite of something, each for a time. Default none.
	Waivers []Waiver `yaml:"waivers"`

	// Require is the kinds of evidence without which a gate may not pass: static (source code),
	// recorded (a test run behind a counting Redis), live (a running Redis), bench (latencies that a
	// benchmark measured). Default none.
	Require []Evidence `yaml:"require" jsonschema:"enum=static,enum=recorded,enum=live,enum=bench"`
}

// Evidence is a kind of evidence that a gate can be told to require.
type Evidence string

// The kinds of evidence.
const (
	Static   Evidence = "static"   // predicted from source code
	Recorded Evidence = "recorded" // counted during a recorded run
	Live     Evidence = "live"     // measured on a running Redis
	Bench    Evidence = "bench"    // latencies that a benchmark measured
)

// Connections budgets open connections.
type Connections struct {
	// PerProcess is the most connections one process may hold. Default 0: no budget.
	PerProcess int `yaml:"per_process" jsonschema:"minimum=0"`

	// Fleet is the most connections all processes together may hold outside a deploy. Default 0: no
	// budget.
	Fleet int `yaml:"fleet" jsonschema:"minimum=0"`

	// DeployFactor is how many times Fleet is allowed while old and new processes of a rolling deploy
	// run side by side. Default 2; at least 1.
	DeployFactor float64 `yaml:"deploy_factor" jsonschema:"minimum=1"`

	// PlanLimit is the number of connections the provider's plan allows. Default 0: what the server
	// says in INFO (maxclients).
	PlanLimit int `yaml:"plan_limit" jsonschema:"minimum=0"`

	// FailAt is the share of the plan's limit above which a gate fails, whatever Fleet says. Default 0.8;
	// more than 0, at most 1.
	FailAt float64 `yaml:"fail_at" jsonschema:"exclusiveMinimum=0,maximum=1"`
}

// Allowed is the most connections the fleet may hold now; zero means no budget. A deploy multiplies
// Fleet by DeployFactor, rounded down.
func (c Connections) Allowed(deploying bool) int {
	if !deploying || c.DeployFactor < 1 {
		return c.Fleet
	}
	return int(float64(c.Fleet) * c.DeployFactor)
}

// Level says what holding open connections means: Fail above FailAt of the plan's limit, Warn above
// the fleet's budget, else Within. The plan's limit is PlanLimit, or serverLimit (maxclients) when
// that is zero; when both are zero only the fleet's budget counts.
func (c Connections) Level(open, serverLimit int, deploying bool) Level {
	limit := c.PlanLimit
	if limit == 0 {
		limit = serverLimit
	}
	if limit > 0 && float64(open) > c.FailAt*float64(limit) {
		return Fail
	}
	if allowed := c.Allowed(deploying); allowed > 0 && open > allowed {
		return Warn
	}
	return Within
}

// Commands budgets billed commands. The shares are of PerMonth. TargetAt is below WarnAt on purpose:
// one number must not be success and alarm at once.
type Commands struct {
	// PerMonth is the number of billed commands allowed in one period. Default 0: no budget.
	PerMonth int64 `yaml:"per_month" jsonschema:"minimum=0"`

	// Period is how the provider counts a month: calendar-month (UTC) or 30-days. Default
	// calendar-month.
	Period Period `yaml:"period" jsonschema:"enum=calendar-month,enum=30-days"`

	// Start is the day, in UTC, on which some 30-day period began (2026-11-05). It is only used with
	// 30-days. Default 1970-01-01.
	Start string `yaml:"start" jsonschema:"pattern=^([0-9]{4}-[0-9]{2}-[0-9]{2})?$"`

	// TargetAt is the share of PerMonth up to which a migration counts as a success. Default 0.7.
	TargetAt float64 `yaml:"target_at" jsonschema:"exclusiveMinimum=0,maximum=1"`

	// WarnAt is the share of PerMonth from which a warning is given. Default 0.8.
	WarnAt float64 `yaml:"warn_at" jsonschema:"exclusiveMinimum=0,maximum=1"`

	// FailAt is the share of PerMonth from which a gate fails. Default 0.9.
	FailAt float64 `yaml:"fail_at" jsonschema:"exclusiveMinimum=0,maximum=1"`

	// DegradeAt is the share of PerMonth from which what is not critical is done without the upstream.
	// Default 0.95.
	DegradeAt float64 `yaml:"degrade_at" jsonschema:"exclusiveMinimum=0,maximum=1"`
}

// Latency budgets one operation's latency as its caller sees it.
type Latency struct {
	// P95 is the most the 95th percentile may be. Default 0s: no budget.
	P95 time.Duration `yaml:"p95" min:"0s"`

	// P99 is the most the 99th percentile may be. Default 0s: no budget.
	P99 time.Duration `yaml:"p99" min:"0s"`

	// MinSamples is how many samples a verdict needs; with fewer it is inconclusive. Default 200.
	MinSamples int `yaml:"min_samples" jsonschema:"minimum=0"`
}

// Money budgets the bill.
type Money struct {
	// USDPerMonth is the most the upstream may cost in US dollars a month. Default 0: no budget.
	USDPerMonth float64 `yaml:"usd_per_month" jsonschema:"minimum=0"`
}

// A Level is how far a measured or projected number has come within its budget. Levels are ordered.
type Level int

// The levels.
const (
	Unbudgeted Level = iota // no limit is set
	Target                  // at most the target share
	Within                  // above the target, below the warning
	Warn                    // from the warning share
	Fail                    // from the failing share
	Degrade                 // from the degrading share: shed what is not critical
	Exceeded                // the whole budget is spent
)

// String is the level's name in documents: "within", "warn".
func (l Level) String() string {
	switch l {
	case Unbudgeted:
		return "unbudgeted"
	case Target:
		return "target"
	case Within:
		return "within"
	case Warn:
		return "warn"
	case Fail:
		return "fail"
	case Degrade:
		return "degrade"
	case Exceeded:
		return "exceeded"
	default:
		return fmt.Sprintf("Level(%d)", int(l))
	}
}

// Level says what used commands mean: spent so far, or projected to the end of the period.
func (c Commands) Level(used float64) Level {
	if c.PerMonth <= 0 {
		return Unbudgeted
	}
	switch share := used / float64(c.PerMonth); {
	case share >= 1:
		return Exceeded
	case share >= c.DegradeAt:
		return Degrade
	case share >= c.FailAt:
		return Fail
	case share >= c.WarnAt:
		return Warn
	case share > c.TargetAt:
		return Within
	default:
		return Target
	}
}

// Default is the budgets that hold without a file: no limit on connections, commands or money, the
// thresholds that apply once a limit is set, and a 95th percentile of 100 ms for the cache, 50 ms for
// a limiter check and 10 ms for adding a job.
func Default() Budgets {
	return Budgets{
		Connections: Connections{DeployFactor: 2, FailAt: 0.8},
		Commands: Commands{
			Period: CalendarMonth, Start: "1970-01-01",
			TargetAt: 0.7, WarnAt: 0.8, FailAt: 0.9, DegradeAt: 0.95,
		},
		Latency: map[string]Latency{
			"cache": {P95: 100 * time.Millisecond, MinSamples: DefaultMinSamples},
			"limit": {P95: 50 * time.Millisecond, MinSamples: DefaultMinSamples},
			"queue": {P95: 10 * time.Millisecond, MinSamples: DefaultMinSamples},
		},
		Increase: Increase{Connections: -1, ConnectionsPercent: -1, CommandsPerMonth: -1, CommandsPercent: -1},
	}
}

// DefaultMinSamples is the number of samples a verdict on a percentile needs: at 200 samples the
// 95th percentile has ten samples above it.
const DefaultMinSamples = 200

// Validate reports every contradiction between the fields: thresholds out of order, a process that
// may hold more than the fleet, a fleet that the plan's limit forbids, a percentile above a higher one,
// a start that is not a day, a waiver that nobody answers for. The names in its errors are relative to
// the budgets section.
func (b Budgets) Validate() error {
	var errs []error
	if c := b.Connections; c.Fleet > 0 && c.PerProcess > c.Fleet {
		errs = append(errs, &FieldError{"connections.per_process", fmt.Sprintf("%d is more than the whole fleet may hold (fleet: %d)", c.PerProcess, c.Fleet)})
	}
	errs = append(errs, b.Commands.validate()...)
	for _, op := range slices.Sorted(maps.Keys(b.Latency)) {
		if l := b.Latency[op]; l.P99 > 0 && l.P95 > l.P99 {
			errs = append(errs, &FieldError{"latency." + op + ".p95", fmt.Sprintf("%s is above p99 (%s)", l.P95, l.P99)})
		}
	}
	return errors.Join(append(errs, b.gateProblems()...)...)
}

func (c Commands) validate() []error {
	var errs []error
	steps := []struct {
		name  string
		share float64
	}{{"target_at", c.TargetAt}, {"warn_at", c.WarnAt}, {"fail_at", c.FailAt}, {"degrade_at", c.DegradeAt}}
	for i := 1; i < len(steps); i++ {
		if low, high := steps[i-1], steps[i]; low.share > high.share {
			errs = append(errs, &FieldError{"commands." + low.name, fmt.Sprintf("%g is above %s (%g)", low.share, high.name, high.share)})
		}
	}
	if _, err := c.anchor(); err != nil {
		errs = append(errs, &FieldError{"commands.start", err.Error()})
	}
	return errs
}

// A FieldError is one field that contradicts another or itself.
type FieldError struct {
	Field   string // as in the file, relative to the budgets section: "commands.warn_at"
	Message string // what is wrong, without the field's name
}

// Error is the field and what is wrong with it.
func (e *FieldError) Error() string { return e.Field + ": " + e.Message }
