package rehearsal

import (
	"encoding/json"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/journal"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// maxTold is how many single differences, faults and names are listed.
const maxTold = 20

// A Leg is one migration to walk.
type Leg struct {
	Target migrate.Target

	// Options is what the migration is made from, as its journal or a plan file keeps it.
	Options json.RawMessage

	// Begun are the entries of the real journal where the migration is open or in place: then only its
	// way back is walked. Nil: it was not begun, and is walked there and back.
	Begun []journal.Entry
}

// A Verdict is what a rehearsal comes to.
type Verdict string

// The verdicts.
const (
	Passed  Verdict = "pass"    // it went there and back, and nothing differs that is not explained
	Differs Verdict = "differs" // it went there and back, and something differs
	Stuck   Verdict = "stuck"   // a step did not work
	Refused Verdict = "refused" // it may not begin with these keys
)

// A Walk is one migration there and back on the stage.
type Walk struct {
	Target migrate.Target `json:"target"`

	// OnlyBack is true for a migration that is open or in place on the real Redis.
	OnlyBack bool `json:"only_back"`

	// Adapted says what was different from the real one, one sentence each.
	Adapted []string `json:"adapted"`

	// Losses are what the target cannot express, LossesTotal of them; Problems what the plan names.
	Losses      []migrate.Loss    `json:"losses"`
	LossesTotal int64             `json:"losses_total"`
	Problems    []migrate.Problem `json:"problems"`

	There Passage `json:"there"`
	Back  Passage `json:"back"`

	// Jobs are those in Redis before it began, when every step was in place, and after the way back.
	Jobs Jobs `json:"jobs"`

	// Traffic is what callers saw of phase 1; nil for the other phases.
	Traffic *Traffic `json:"traffic"`

	Comparison Comparison `json:"comparison"`

	Verdict Verdict `json:"verdict"`

	// Why is what is wrong in one sentence, empty with Passed; Err the error behind it, if there is one.
	Why string `json:"why"`
	Err error  `json:"-"`
}

// A Passage is a migration in one direction.
type Passage struct {
	// Steps are the names of the steps that were done, in this order.
	Steps []string `json:"steps"`

	// Moved says what it did, in numbers: "jobs", "keys", "queues".
	Moved map[string]int64 `json:"moved"`

	// Cost is what it asked of the stage, in commands: of the real Redis as much for as many keys.
	Cost upstream.Cost `json:"cost"`

	Took   time.Duration `json:"-"`
	TookMS int64         `json:"duration_ms"`
}

// Jobs are numbers of jobs in all layouts.
type Jobs struct {
	Before int `json:"before"`
	There  int `json:"there"`
	After  int `json:"after"`
}

// Traffic is what callers of phase 1 did and saw.
type Traffic struct {
	Keys    int      `json:"keys"`
	Reads   int64    `json:"reads"`
	Writes  int64    `json:"writes"`
	Checks  int64    `json:"limit_checks"`
	Again   int64    `json:"admitted_again"` // units beyond a limit after the way back, of those that only the new side had counted
	Arrived int      `json:"arrived"`        // keys that the new side had as they should be
	Wrong   []string `json:"wrong"`          // what callers were answered wrongly

	// NotCarried are the copied keys of types that phase 1 does not move, by type.
	NotCarried map[string]int64 `json:"not_carried"`
}

// A Comparison is every key after the way back beside what it was.
type Comparison struct {
	Keys      int `json:"keys"`
	Identical int `json:"identical"`

	// Explained are the differences that must be, by kind.
	Explained []Explanation `json:"explained"`

	// Unexplained are the others; Differing counts them all.
	Unexplained []Difference `json:"unexplained"`
	Differing   int          `json:"differing"`
}

// An Explanation is a kind of difference that is meant to be.
type Explanation struct {
	Kind string   `json:"kind"`
	Why  string   `json:"why"`
	Keys []string `json:"keys"` // at most twenty
	Of   int      `json:"count"`
}

// A Difference is one key, or field, that is not what it was. Values are not shown: each is its length in
// bytes and the beginning of its SHA-256.
type Difference struct {
	Key   string `json:"key"`
	Field string `json:"field"`
	Was   string `json:"was"`
	Is    string `json:"is"`
}

// A Result is all walks of one rehearsal.
type Result struct {
	Sample *Sample `json:"sample"`
	Walks  []Walk  `json:"walks"`
}

// Passed is true when every walk passed.
func (r *Result) Passed() bool {
	for i := range r.Walks {
		if r.Walks[i].Verdict != Passed {
			return false
		}
	}
	return true
}
