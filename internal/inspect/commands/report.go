package commands

import (
	"time"

	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/inspect/connections"
)

// An Observable says how much of the spending a server lets us see.
type Observable string

// From the whole picture to none.
const (
	ByCommand Observable = "commands" // calls of every command
	TotalOnly Observable = "total"    // one number for all
	Nothing   Observable = "nothing"
)

// A Level says where a command ran.
type Level string

// The levels.
const (
	Top    Level = "top-level"
	Script Level = "in-script"
	Both   Level = "either" // the counters cannot say
)

// A Split divides all commands into those clients sent and those that scripts ran. When neither holds
// exactly, Low and High bound the top-level number and Top is the best estimate.
//
// Exact when no script ran, when the server counts per connection (tot-cmds) and none closed, or when
// nothing but commands that only clients can send ran beside the scripts. Otherwise: blocking
// commands, scripts and connection commands are top-level for certain. Every connection of the server
// belonging to Bull or BullMQ, whose ordinary commands all run in scripts, the rest is in-script; the
// number of times the server read from a socket, which without pipelining is the number of top-level
// commands plus the connections that closed, confirms or corrects it.
type Split struct {
	All      int64  `json:"all"`
	Top      int64  `json:"top_level"`
	InScript int64  `json:"in_script"`
	Low      int64  `json:"top_level_low"`
	High     int64  `json:"top_level_high"`
	Exact    bool   `json:"exact"`
	Method   string `json:"method"`
}

// A Row is the share of one command, component, queue or client.
type Row struct {
	Name string `json:"name"`

	// Level is set for commands only.
	Level    Level `json:"level,omitempty"`
	Top      int64 `json:"top_level"`
	InScript int64 `json:"in_script"`
	All      int64 `json:"all"`

	// PerMonth is All in 30 days; BilledPerMonth is what the provider counts of it.
	PerMonth       float64 `json:"per_month"`
	TopPerMonth    float64 `json:"top_level_per_month"`
	BilledPerMonth float64 `json:"billed_per_month"`

	// Method says how the share was found when it was not counted.
	Method string `json:"method,omitempty"`
}

// A Projection is the window's spending over 30 days.
type Projection struct {
	TopPerMonth    float64 `json:"top_level_per_month"`
	AllPerMonth    float64 `json:"all_per_month"`
	BilledPerMonth float64 `json:"billed_per_month"`
	TopBudget      float64 `json:"top_level_budget_multiple"`
	AllBudget      float64 `json:"all_budget_multiple"`
	Budget         int64   `json:"budget_commands_per_month"`

	// UncertaintyPercent is how far off the projection may be for the length of the window alone.
	UncertaintyPercent float64  `json:"uncertainty_percent"`
	Assumptions        []string `json:"assumptions"`
}

// A Bill is what a month would cost on one plan.
type Bill struct {
	Provider       Provider `json:"provider"`
	BilledPerMonth float64  `json:"billed_commands_per_month"`
	USDPerMonth    float64  `json:"usd_per_month"`

	// BudgetMultiple is the billed commands over what the plan includes; 0 where it includes no number.
	BudgetMultiple float64 `json:"included_multiple,omitempty"`

	// LastsHours is how long what the plan includes lasts at this rate; 0 where it lasts the month.
	LastsHours float64 `json:"lasts_hours,omitempty"`
}

// A Polling is what the idle workers of one library spend.
type Polling struct {
	Library connections.Library `json:"library"`
	Queues  int                 `json:"queues"`
	Workers int                 `json:"workers"`
	Events  int                 `json:"queue_events,omitempty"`

	// The intervals inferred from the rates, in seconds; 0 when not seen in the window.
	PollSeconds    float64 `json:"poll_s"`
	GuardSeconds   float64 `json:"guard_s,omitempty"` // Bull only
	StalledSeconds float64 `json:"stalled_s"`
	EventsSeconds  float64 `json:"events_s,omitempty"`

	// DelayedQueues is how many of the queues have something delayed; -1 when nobody asked.
	DelayedQueues int `json:"delayed_queues"`

	// Pinned says that a 10 s poll can come from something delayed rather than from drainDelay.
	Pinned bool `json:"pinned_by_delayed,omitempty"`

	// Jobs is how many jobs ended in the window. More than 0 makes the poll an upper bound.
	Jobs int64 `json:"jobs"`

	TopPerMonth float64 `json:"top_level_per_month"`
	AllPerMonth float64 `json:"all_per_month"`

	// AfterTop and AfterAll are the same with the remedy applied.
	AfterTop float64 `json:"after_remedy_top_level_per_month"`
	AfterAll float64 `json:"after_remedy_all_per_month"`
	Remedy   string  `json:"remedy"`
}

// A Report is one audit of the commands of a server.
type Report struct {
	From          time.Time          `json:"from"`
	To            time.Time          `json:"to"`
	Window        time.Duration      `json:"-"`
	WindowSeconds float64            `json:"window_s"`
	Partial       bool               `json:"partial"` // the window was cut short
	Server        connections.Server `json:"server"`
	Observable    Observable         `json:"observable"`
	Provider      string             `json:"provider"` // the profile that billed_per_month follows
	Split         Split              `json:"split"`
	Projection    Projection         `json:"projection"`
	Bills         []Bill             `json:"bills"`
	Commands      []Row              `json:"commands"`
	Components    []Row              `json:"components"`
	Queues        []Row              `json:"queues"`
	Clients       []Row              `json:"clients"`
	Polling       []Polling          `json:"polling"`

	// Own is what the audit itself sent inside the window, already taken out of every number.
	Own  int64 `json:"own_commands_in_window"`
	Sent int   `json:"own_commands"` // all the audit sent

	// Connections is who was connected at the end of the window, which the audit has to know anyway; nil
	// where nobody may know.
	Connections *connections.Report `json:"-"`

	Measures []inspect.Measure `json:"measures"`
	Findings []inspect.Finding `json:"findings"`

	// Missing names what could not be observed and why.
	Missing []string `json:"missing"`
}

// Conclusive reports that a gate may judge the report: calls by command over a whole window.
func (r *Report) Conclusive() bool { return r.Observable == ByCommand && !r.Partial }
