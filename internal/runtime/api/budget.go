package api

import (
	"context"
	"math"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/redisopt/redisopt/internal/runtime/queue/shed"
)

// idleMonth is what the prices of idling are given for: 30 days.
const idleMonth = 30 * 24 * time.Hour

// An IdleCommand is one that is sent in intervals although there is nothing to do.
type IdleCommand struct {
	Component  string  `json:"component" doc:"Whom it is charged to"`
	Name       string  `json:"name"`
	IntervalMS int64   `json:"interval_ms"`
	Commands   float64 `json:"commands" doc:"Billed each time, those inside scripts included"`
	PerMonth   float64 `json:"commands_per_month" doc:"Of 30 days"`
	Free       bool    `json:"free" doc:"Nobody bills it; it is not in the sum"`
	Why        string  `json:"why"`
}

// NewIdleCommand is one that costs commands each time.
func NewIdleCommand(component, name string, every time.Duration, commands float64, why string) IdleCommand {
	return IdleCommand{
		Component: component, Name: name, IntervalMS: every.Milliseconds(), Commands: commands,
		PerMonth: math.Round(10*commands*float64(idleMonth)/float64(every)) / 10, Why: why,
	}
}

// IdlePerMonth is what idling costs in 30 days, in billed commands.
func IdlePerMonth(all []IdleCommand) float64 {
	sum := 0.0
	for _, c := range all {
		if !c.Free {
			sum += c.PerMonth
		}
	}
	return sum
}

// A BudgetState is what was spent, what is given up for the budget's sake, and what idling costs.
type BudgetState struct {
	Level       string        `json:"level" enum:"normal,frugal,tight,exhausted" doc:"How much is given up"`
	Since       *time.Time    `json:"since,omitempty"`
	Why         string        `json:"why"`
	Outlook     string        `json:"outlook" doc:"One sentence about how long the budget lasts"`
	PeriodStart *time.Time    `json:"period_start,omitempty"`
	PeriodEnd   *time.Time    `json:"period_end,omitempty"`
	Budget      int64         `json:"budget_commands" doc:"Allowed in the period; 0 when no budget is set"`
	Spent       float64       `json:"spent_commands"`
	Guessed     bool          `json:"spent_guessed" doc:"The count could not be read and has been carried on"`
	Projected   float64       `json:"projected_commands" doc:"What the period comes to"`
	Unshed      float64       `json:"projected_unshed_commands" doc:"What it would come to if nothing were given up"`
	RunsOut     *time.Time    `json:"runs_out,omitempty" doc:"When the budget ends at this rate; absent when it lasts"`
	SweepFactor int           `json:"sweep_factor" doc:"By how much the sweeps of idle queues are slowed"`
	Shed        []ShedClass   `json:"shed" nullable:"false" doc:"What is not done, in the order in which it is given up"`
	Queues      []QueueBudget `json:"queues" nullable:"false"`
	Idle        []IdleCommand `json:"idle" nullable:"false" doc:"What is sent in intervals although there is nothing to do"`
	IdleMonth   float64       `json:"idle_commands_per_month"`
}

// A ShedClass is one thing that is not done.
type ShedClass struct {
	Class          string    `json:"class"`
	Why            string    `json:"why"`
	Since          time.Time `json:"since"`
	SavesPerSecond float64   `json:"saves_commands_per_second"`
	SavesInPeriod  float64   `json:"saves_commands_in_period"`
}

// A QueueBudget is what happens to a queue for the budget's sake.
type QueueBudget struct {
	Queue   string `json:"queue"`
	Action  string `json:"action" enum:"run,batch,pause"`
	EveryMS int64  `json:"every_ms,omitempty" doc:"Between two batches"`
	Why     string `json:"why"`
	For     string `json:"for,omitempty" doc:"The critical queue that depends on it"`
}

type budgetOutput struct{ Body BudgetState }

func (a *API) budgetRoutes(h huma.API) {
	huma.Register(h, a.operation("budget", http.MethodGet, "/v1/budget", "control", "What is spent and given up, and what idling costs", ScopeControlRead,
		"Answered from memory: costs no command."), a.budget)
}

func (a *API) budget(context.Context, *struct{}) (*budgetOutput, error) {
	if a.opts.Plan == nil && a.opts.Idle == nil {
		return nil, notEnabled("the budget")
	}
	out := &budgetOutput{BudgetState{Level: shed.Normal.String(), SweepFactor: 1, Outlook: "nothing is known yet"}}
	if a.opts.Plan != nil {
		if plan := a.opts.Plan(); plan != nil {
			out.Body = budgetState(plan)
		}
	}
	if a.opts.Idle != nil {
		out.Body.Idle = a.opts.Idle()
	}
	out.Body.Shed, out.Body.Queues, out.Body.Idle = orNone(out.Body.Shed), orNone(out.Body.Queues), orNone(out.Body.Idle)
	out.Body.IdleMonth = IdlePerMonth(out.Body.Idle)
	return out, nil
}

func orNone[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func budgetState(p *shed.Plan) BudgetState {
	s := BudgetState{
		Level: p.Level.String(), Since: timeOrNone(p.Since), Why: p.Why, Outlook: p.Outlook(),
		PeriodStart: timeOrNone(p.Window.Start), PeriodEnd: timeOrNone(p.Window.End), Budget: p.Budget, Spent: p.Spent, Guessed: p.Guessed,
		Projected: p.Projected, Unshed: p.ProjectedDemand, RunsOut: timeOrNone(p.RunsOut), SweepFactor: p.SweepFactor,
	}
	for _, c := range p.Shed {
		s.Shed = append(s.Shed, ShedClass{string(c.Class), c.Why, c.Since.UTC(), c.SavesPerSecond, c.SavesInPeriod})
	}
	for _, q := range p.Queues {
		s.Queues = append(s.Queues, QueueBudget{q.Name, string(q.Action), q.Every.Milliseconds(), q.Why, q.For})
	}
	return s
}
