package demo

import (
	"slices"
	"time"

	"github.com/redisopt/redisopt/internal/inspect/connections"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/rehearsal"
	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// A Result is what the demo did and found: the contract of demo/v1.
type Result struct {
	// Server is the Redis it ran on.
	Server embedded.Description `json:"server"`

	// Capture is what was loaded into it.
	Capture Capture `json:"capture"`

	// Connections and Commands are what the two audits found before anything moved.
	Connections Connections `json:"connections"`
	Commands    Commands    `json:"commands"`

	// Table compares the setups, the present one first.
	Table []Setup `json:"table"`

	// Queues are the moves there and back, one for each captured queue.
	Queues []Queue `json:"queues"`

	// Phases are the four phases there and back, in their order.
	Phases []Phase `json:"phases"`

	// Added is how many jobs the simulated producer added while the queues were moved: there, and back.
	Added Added `json:"added_live"`

	// Comparison is the proof that the keys are what they were.
	Comparison Comparison `json:"comparison"`

	// Cost is what all this asked of the Redis, without what the simulated application sent.
	Cost Cost `json:"cost"`

	// Duration is how long it took.
	Duration        time.Duration `json:"-"`
	DurationSeconds float64       `json:"duration_s"`

	// Simulated names what is not real.
	Simulated []string `json:"simulated"`
}

// Passed reports that no job was lost or doubled and that the way back left the keys as they were.
func (r *Result) Passed() bool {
	for _, q := range r.Queues {
		if !q.There.Complete() || !q.Back.Complete() {
			return false
		}
	}
	return len(r.Comparison.Unexplained) == 0 && !slices.ContainsFunc(r.Phases, func(p Phase) bool { return !p.Passed })
}

// A Phase is one phase there and back.
type Phase struct {
	Name  string   `json:"name"` // "phase 1"
	There PhaseLeg `json:"there"`
	Back  PhaseLeg `json:"back"`

	// Keys are those that were compared after the way back, and Identical those that were what they had
	// been; 0 for phase 3, whose queues are compared one by one.
	Keys      int           `json:"keys"`
	Identical int           `json:"identical"`
	Explained []Explanation `json:"explained"`

	// Traffic is what callers of phase 1 did and saw; nil for the others.
	Traffic *rehearsal.Traffic `json:"traffic"`

	Passed bool   `json:"passed"`
	Why    string `json:"why"` // what is wrong, empty when nothing is
}

// A PhaseLeg is a phase in one direction.
type PhaseLeg struct {
	Moved  int64         `json:"moved"`
	What   string        `json:"what"` // that was moved: "jobs", "keys", "queues", "prefixes"
	Steps  int           `json:"steps"`
	Cost   upstream.Cost `json:"cost"` // of the migration, without callers and producers
	Took   time.Duration `json:"-"`
	TookMS int64         `json:"duration_ms"`
}

// A Capture is a set of keys that a real library left behind.
type Capture struct {
	Library string `json:"library"` // "bull"
	Version string `json:"version"`
	Queues  int    `json:"queues"`
	Jobs    int    `json:"jobs"`
	Keys    int    `json:"keys"`
}

// Connections is the audit of the connections, in short.
type Connections struct {
	Total     int                 `json:"total"`
	Bull      int                 `json:"bull"`
	Unknown   int                 `json:"unknown"`
	Roles     []connections.Count `json:"roles"`
	Phases    []connections.Phase `json:"phases"`
	Simulated bool                `json:"simulated"` // always: the clients are
}

// Commands is the audit of the commands, in short.
type Commands struct {
	WindowSeconds  float64 `json:"window_s"`
	TopLevel       int64   `json:"top_level"` // counted in the window
	InScript       int64   `json:"in_script"`
	TopPerMonth    float64 `json:"top_level_per_month"`
	AllPerMonth    float64 `json:"all_per_month"`
	BudgetMultiple float64 `json:"budget_multiple"` // of a free plan's 500,000, in-script commands billed
	Method         string  `json:"method"`
	Simulated      bool    `json:"simulated"`
}

// A Setup is one row of the table: eleven queues, each with a worker, and nothing to do.
type Setup struct {
	Name        string  `json:"name"`
	Connections int     `json:"queue_connections"`
	TopPerMonth float64 `json:"idle_top_level_per_month"`
	AllPerMonth float64 `json:"idle_all_per_month"`

	// Source says where the numbers are from.
	Source string `json:"source"`
}

// A Queue is one queue's way there and back.
type Queue struct {
	Name   string                `json:"name"`
	From   mover.Endpoint        `json:"from"`
	To     mover.Endpoint        `json:"to"`
	Counts map[mover.State]int64 `json:"counts"` // by state, when it was planned
	Losses []mover.Loss          `json:"losses"` // named before anything moved
	Price  mover.Price           `json:"estimated_commands"`
	There  Passage               `json:"there"`
	Back   Passage               `json:"back"`
}

// A Passage is a queue's move in one direction.
type Passage struct {
	Moved    map[mover.State]int64 `json:"moved"`
	Jobs     int64                 `json:"jobs"`       // sum of Moved
	Found    int                   `json:"jobs_found"` // job hashes at the target, counted by ourselves
	Expected int                   `json:"jobs_expected"`
	Left     int                   `json:"jobs_left"` // job hashes still at the source
	Skipped  []mover.Problem       `json:"skipped"`
	Problems []mover.Problem       `json:"mismatches"`
	Scripts  int64                 `json:"scripts"`
	Took     time.Duration         `json:"-"`
	TookMS   int64                 `json:"duration_ms"`
}

// Complete reports that every job arrived, once, and none is left behind.
func (p Passage) Complete() bool {
	return p.Left == 0 && p.Found == p.Expected && len(p.Problems) == 0 && len(p.Skipped) == 0
}

// Added counts the live producer's jobs.
type Added struct {
	There int `json:"while_moving"`
	Back  int `json:"while_rolling_back"`
}

// A Comparison is the keys after the way back against the capture.
type Comparison struct {
	Keys        int           `json:"keys"`      // of the capture
	Identical   int           `json:"identical"` // without any difference
	Expected    []Explanation `json:"expected"`
	Unexplained []string      `json:"unexplained"`
}

// An Explanation is a kind of difference that is meant to be.
type Explanation struct {
	Kind  string   `json:"kind"` // "lock", "active", "limiter", "stalled-check", "id", "live"
	Why   string   `json:"why"`
	Keys  []string `json:"keys"`  // at most ten
	Count int      `json:"count"` // all of them
}

// Cost is what the audits and the moves asked of the Redis.
type Cost struct {
	Audit   upstream.Cost `json:"audit"`
	Migrate upstream.Cost `json:"migrate"`
}
