package shed

import (
	"fmt"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/budget"
)

// A Plan is what holds from one decision to the next. It belongs to its caller.
type Plan struct {
	// At is when it was made.
	At time.Time `json:"at"`

	// Level is how much is shed, Since from when, and Why for what reason.
	Level Level     `json:"level"`
	Since time.Time `json:"since"`
	Why   string    `json:"why"`

	// Changed is whether the level is another than in the plan before, which was From.
	Changed bool  `json:"changed"`
	From    Level `json:"from"`

	// Window is the billing period; at its end everything comes back.
	Window budget.Window `json:"window"`

	// Budget is the commands allowed in the period, 0 for no budget, and Spent those spent.
	Budget int64   `json:"budget"`
	Spent  float64 `json:"spent"`

	// Guessed is whether Spent was not given and has been carried on from the last known.
	Guessed bool `json:"guessed"`

	// BudgetLevel is what Spent means by the budget's own thresholds.
	BudgetLevel budget.Level `json:"-"`

	// DemandPerSecond is what would be spent if nothing were shed, PlannedPerSecond what is at this level, and
	// AllowedPerSecond the rate at which the budget lasts exactly.
	DemandPerSecond  float64 `json:"demand_per_second"`
	PlannedPerSecond float64 `json:"planned_per_second"`
	AllowedPerSecond float64 `json:"allowed_per_second"`

	// ProjectedDemand and Projected are what the whole period comes to, without and with shedding.
	ProjectedDemand float64 `json:"projected_demand"`
	Projected       float64 `json:"projected"`

	// RunsOut is when the budget ends at this level's rate, RunsOutUnshed when it would if nothing were
	// shed; zero where it lasts.
	RunsOut       time.Time `json:"runs_out,omitzero"`
	RunsOutUnshed time.Time `json:"runs_out_unshed,omitzero"`

	// SweepFactor is by how much the queues' sweeps are slowed: 1, 2, 4 or 8.
	SweepFactor int `json:"sweep_factor"`

	// LimiterLocal is whether limiters decide without the upstream, CacheLocal whether the cache is memory
	// alone, NoRefresh whether it is neither refreshed ahead nor warmed.
	LimiterLocal bool `json:"limiter_local"`
	CacheLocal   bool `json:"cache_local"`
	NoRefresh    bool `json:"no_refresh"`

	// Shed is what is not done, in the order in which it is given up; Queues what happens to each queue,
	// those first that are shed first.
	Shed   []Shed      `json:"shed"`
	Queues []QueuePlan `json:"queues"`
}

// Queue is what happens to the queue of that name. One that is not known runs.
func (p Plan) Queue(name string) QueuePlan {
	for _, q := range p.Queues {
		if q.Name == name {
			return q
		}
	}
	return QueuePlan{Name: name, Action: Run, Why: "not known here: runs"}
}

// Admit is whether jobs of the queue may begin at now. A queue in batches is admitted for the first fifth
// of each Batch interval, counted from the period's start, so that all replicas drain at the same time.
func (p Plan) Admit(name string, now time.Time) bool {
	q := p.Queue(name)
	switch q.Action {
	case Pause:
		return false
	case Batch:
		return now.Sub(p.Window.Start)%q.Every < q.Every/5
	case Run:
	}
	return true
}

// NextBatch is when the next batch of the queue begins, or now where it may run. It is false for a queue
// that is paused.
func (p Plan) NextBatch(name string, now time.Time) (time.Time, bool) {
	q := p.Queue(name)
	switch {
	case q.Action == Pause:
		return time.Time{}, false
	case p.Admit(name, now):
		return now, true
	}
	return now.Add(q.Every - now.Sub(p.Window.Start)%q.Every), true
}

// Outlook says in one sentence how long the budget lasts.
func (p Plan) Outlook() string {
	const day = "2 Jan"
	switch {
	case p.Budget == 0:
		return "no budget is set"
	case p.Spent >= float64(p.Budget):
		return fmt.Sprintf("the budget of %d commands is spent; the next period begins on %s", p.Budget, p.Window.End.Format(day))
	case !p.RunsOut.IsZero():
		return fmt.Sprintf("at the present rate the budget ends on %s", p.RunsOut.Format(day))
	case !p.RunsOutUnshed.IsZero():
		return fmt.Sprintf("the budget lasts to %s; without shedding it would end on %s", p.Window.End.Format(day), p.RunsOutUnshed.Format(day))
	default:
		return fmt.Sprintf("the budget lasts to %s: %.0f%% of it will be used", p.Window.End.Format(day), 100*p.Projected/float64(p.Budget))
	}
}
