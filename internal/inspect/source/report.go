package source

import "github.com/redisopt/redisopt/internal/inspect"

// A Range is a number that the code tells, or the bounds of one that it does not.
type Range struct {
	Min float64 `json:"min"`
	Max float64 `json:"max"`

	// Open says that it may be more than Max: as many as something the code does not tell.
	Open bool `json:"open_above"`
}

func rangeOf(s span, factor float64) Range {
	return Range{Min: s.min * factor, Max: s.max * factor, Open: s.open}
}

// Exact reports that it is one number.
func (r Range) Exact() bool { return r.Min == r.Max && !r.Open }

// Idle is what is spent when there is nothing to do, in commands per 30 days.
type Idle struct {
	// Top are the commands that clients send.
	Top Range `json:"top_level_per_month"`

	// All adds those that their scripts run, which Upstash bills.
	All Range `json:"all_per_month"`
}

// A Site is one place in the code that makes something, in one process.
type Site struct {
	Library Library `json:"library"`
	Kind    Kind    `json:"kind"`
	File    string  `json:"file"`
	Line    int     `json:"line"`
	Column  int     `json:"column"`

	// Made is how many the place makes.
	Made Range `json:"made"`

	// Queues are their names as far as known, at most 100.
	Queues []string `json:"queues"`

	// Shared says that they use a connection that was made elsewhere.
	Shared      bool  `json:"shared_connection"`
	Connections Range `json:"connections"`
	Idle        Idle  `json:"idle"`
}

// A QueueCost is what one queue costs in one process. Connections that several queues share belong to
// none of them.
type QueueCost struct {
	Queue       string  `json:"queue"` // "" for those whose name the code does not tell
	Library     Library `json:"library"`
	Connections Range   `json:"connections"`
	Idle        Idle    `json:"idle"`
}

// A Process is what one instance of one process holds and spends.
type Process struct {
	Name        string      `json:"name"`
	Entries     []string    `json:"entries"`
	Files       int         `json:"files"` // loaded
	Connections Range       `json:"connections"`
	Idle        Idle        `json:"idle"`
	Queues      []QueueCost `json:"queues"`
	Sites       []Site      `json:"sites"`

	// Started is false for files that no entry point loads. They do not count into the totals.
	Started bool `json:"started"`
}

// An Unresolved is something the code does not tell, and what hangs on it.
type Unresolved struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	What   string `json:"what"`
	Why    string `json:"why"`
}

// A Package is a dependency that talks to a Redis.
type Package struct {
	Name   string `json:"name"`
	Wanted string `json:"wanted"`           // as package.json or go.mod says
	Locked string `json:"locked,omitempty"` // as the lock file says
	File   string `json:"file"`
}

// Files says what was read.
type Files struct {
	Scripts  int     `json:"scripts"`
	Go       int     `json:"go"`
	Lines    int     `json:"lines"`
	Unparsed int     `json:"unparsed"`
	Skipped  Skipped `json:"skipped"`
}

// A Report is one scan of a tree of code.
type Report struct {
	Files     Files     `json:"files"`
	Processes []Process `json:"processes"`
	Replicas  int       `json:"replicas"`

	// Connections are those of all processes with their replicas; RollingDeploy is while the old
	// and the new version run beside each other.
	Connections   Range `json:"connections"`
	RollingDeploy Range `json:"rolling_deploy_connections"`
	Idle          Idle  `json:"idle"`
	Budget        int64 `json:"budget_commands_per_month"`

	Bills      []Bill       `json:"bills"`
	Packages   []Package    `json:"packages"`
	Env        []string     `json:"environment"` // names that the code reads; never values
	Unresolved []Unresolved `json:"unresolved"`

	Measures    []inspect.Measure `json:"measures"`
	Findings    []inspect.Finding `json:"findings"`
	Assumptions []string          `json:"assumptions"`

	// Missing names what could not be followed and why.
	Missing []string `json:"missing"`
}

// A Bill is what idling for a month is on one plan.
type Bill struct {
	Plan           string  `json:"plan"`
	BilledPerMonth Range   `json:"billed_commands_per_month"`
	USDPerMonth    Range   `json:"usd_per_month"`
	Included       float64 `json:"included_commands_per_month,omitempty"`
	Note           string  `json:"note"`
	AsOf           string  `json:"as_of,omitempty"`
}
