package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/budget"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/queue/shed"
)

const (
	// budgetEvery is how often it is decided what to give up.
	budgetEvery = time.Minute

	// budgetKept is how often what was decided is written although it is the same.
	budgetKept = 15 * time.Minute

	// budgetFile is what survives a restart, in the state directory.
	budgetFile   = "budget.json"
	budgetSchema = 1
)

// thrift keeps to the budget of commands: it decides from memory what is given up, and has it given up.
type thrift struct {
	world   *world
	planner *shed.Planner
	file    string
	plan    atomic.Pointer[shed.Plan]
	before  spendings
	since   time.Time
	kept    time.Time
}

// spendings are what was sent until some time.
type spendings struct {
	cache, limit, queue, rest float64
	critical, normal          float64 // what happened to jobs of queues that are essential, and of others
}

// A storedPlan is what a file holds.
type storedPlan struct {
	Schema int        `json:"schema"`
	State  shed.State `json:"state"`
}

// BudgetOptions is what the configuration says about what may be spent, and what there is to give up.
func BudgetOptions(conf *config.Config) shed.Options {
	o := shed.Options{Commands: conf.Budgets.Commands}
	for _, q := range conf.Queues.Served() {
		o.Queues = append(o.Queues, shed.Queue{Name: q.Name, Critical: q.Criticality == config.Critical, DependsOn: servedNeeds(conf.Queues, q.Name)})
	}
	return o
}

// openBudget makes what keeps to the budget.
func (w *world) openBudget(context.Context) error {
	t := &thrift{world: w, file: filepath.Join(w.conf.Serve.StateDir, budgetFile)}
	o := BudgetOptions(w.conf)
	state, err := t.read()
	if err != nil {
		w.sidecar.log.Warn(eventBudgetFailed, "cause", err.Error())
	}
	o.State = state
	if t.planner, err = shed.New(o); err != nil {
		return err
	}
	w.budget = t
	return nil
}

// read is what was kept; nil where nothing was, or nothing that this program understands.
func (t *thrift) read() (*shed.State, error) {
	text, err := os.ReadFile(t.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // a first start
	}
	if err != nil {
		return nil, err
	}
	var s storedPlan
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", t.file, err)
	}
	if s.Schema != budgetSchema {
		return nil, fmt.Errorf("%s has schema %d, this program knows %d", t.file, s.Schema, budgetSchema)
	}
	return &s.State, nil
}

// keep writes what must survive a restart. Losing it costs a level that is found again.
func (t *thrift) keep(now time.Time) error {
	t.kept = now
	text, err := json.Marshal(storedPlan{budgetSchema, t.planner.State()})
	if err != nil {
		return err
	}
	part := t.file + ".new"
	if err := os.WriteFile(part, text, 0o600); err != nil {
		return err
	}
	return os.Rename(part, t.file)
}

// admits is whether jobs of a queue may be taken now.
func (t *thrift) admits(name string, now time.Time) bool {
	if t == nil {
		return true
	}
	plan := t.plan.Load()
	return plan == nil || plan.Admit(name, now)
}

// current is the plan in force, nil before the first.
func (t *thrift) current() *shed.Plan { return t.plan.Load() }

// run decides every budgetEvery, and wakes queues whose batch begins, until ctx ends.
func (t *thrift) run(ctx context.Context) error {
	t.before, t.since = t.spent(), time.Now()
	ticker := time.NewTicker(budgetEvery)
	defer ticker.Stop()
	batch := time.NewTimer(budgetEvery)
	defer batch.Stop()
	for {
		now := time.Now()
		t.decide(now)
		wait, wake := t.nextBatch(now)
		batch.Reset(wait)
		select {
		case <-ctx.Done():
			if err := t.keep(time.Now()); err != nil {
				t.world.sidecar.log.Warn(eventBudgetFailed, "cause", err.Error())
			}
			return nil
		case <-ticker.C:
		case <-batch.C:
			if wake != "" {
				t.world.jobs.engine.Admitted()
			}
		}
	}
}

// nextBatch is how long until a queue that is drained now and then goes on, and which.
func (t *thrift) nextBatch(now time.Time) (wait time.Duration, queue string) {
	wait = time.Hour
	plan := t.plan.Load()
	if plan == nil || t.world.jobs == nil {
		return wait, ""
	}
	for _, q := range plan.Queues {
		if at, ok := plan.NextBatch(q.Name, now); ok && q.Action == shed.Batch && at.After(now) && at.Sub(now) < wait {
			wait, queue = at.Sub(now), q.Name
		}
	}
	return wait, queue
}

// decide makes the next plan and puts it in force.
func (t *thrift) decide(now time.Time) {
	w := t.world
	spent := int64(-1)
	// The fleet's month is a calendar month; of other periods the count is not known.
	if month, ok := w.books.monthSoFar(); ok && w.conf.Budgets.Commands.Period != budget.ThirtyDays {
		spent = month
	}
	plan := t.planner.Decide(shed.Input{Now: now, Spent: spent, Rates: t.rates(now)})
	t.plan.Store(&plan)
	w.cache.MemoryOnly(plan.CacheLocal)
	w.cache.NoRefresh(plan.NoRefresh)
	w.limit.DecideHere(plan.LimiterLocal)
	if w.jobs != nil {
		w.jobs.engine.SlowSweeps(plan.SweepFactor)
		if plan.Changed {
			w.jobs.engine.Admitted()
		}
	}
	if plan.Changed {
		w.sidecar.log.Warn(eventBudget, "level", plan.Level.String(), "from", plan.From.String(), "cause", plan.Why, "outlook", plan.Outlook(),
			"budget_commands", plan.Budget, "spent_commands", int64(plan.Spent))
	}
	if plan.Changed || now.Sub(t.kept) >= budgetKept {
		if err := t.keep(now); err != nil {
			w.sidecar.log.Warn(eventBudgetFailed, "cause", err.Error())
		}
	}
}

// spent is what was sent so far, by what it was for. INFO and PING are left out: who bills does not bill them.
func (t *thrift) spent() spendings {
	var s spendings
	for _, row := range t.world.meter.Snapshot().Rows {
		n := float64(row.Sent + row.InScript)
		switch {
		case row.Command == "info" || row.Command == "ping":
		case row.Component == meter.Cache:
			s.cache += n
		case row.Component == meter.RateLimit || row.Component == meter.SMS:
			s.limit += n
		case row.Component == meter.Queue:
			s.queue += n
		default:
			s.rest += n
		}
	}
	if t.world.jobs == nil {
		return s
	}
	for _, q := range t.world.jobs.engine.Stats() {
		done := float64(q.Enqueued + q.Done + q.Failed + q.Dead + q.Rescheduled)
		if t.planner.Essential(q.Queue) {
			s.critical += done
		} else {
			s.normal += done
		}
	}
	return s
}

// rates are commands a second of the fleet since the decision before: what this process sent, times what the
// fleet spends for each of its commands. Which queues they were for is told by what happened to jobs.
func (t *thrift) rates(now time.Time) shed.Rates {
	unknown := shed.Rates{Refresh: 0, Cache: -1, Limit: -1, NonCritical: -1, Critical: -1, Sweep: -1, Fixed: -1}
	seconds := now.Sub(t.since).Seconds()
	if seconds < 1 {
		return unknown
	}
	last := t.before
	t.before, t.since = t.spent(), now
	fleet := 1.0
	if m := t.world.books.month.Load(); m != nil && m.others > 1 {
		fleet = m.others
	}
	rate := func(now, before float64) float64 { return fleet * max(0, now-before) / seconds }
	r := shed.Rates{
		Cache: rate(t.before.cache, last.cache), Limit: rate(t.before.limit, last.limit), Fixed: rate(t.before.rest, last.rest),
	}
	queues := rate(t.before.queue, last.queue)
	plan := t.plan.Load()
	factor := 1.0
	if plan != nil {
		factor = float64(plan.SweepFactor)
	}
	if t.world.jobs != nil {
		idle := t.world.jobs.engine.MonthlyCost() / budget.ThirtyDayMonth.Seconds()
		r.Sweep = idle * factor
		queues = max(0, queues-idle)
	}
	critical, normal := t.before.critical-last.critical, t.before.normal-last.normal
	if critical+normal > 0 {
		r.NonCritical = queues * normal / (critical + normal)
		r.Critical = queues - r.NonCritical
	} else {
		r.Critical = queues
	}
	return hidden(r, plan)
}

// hidden leaves out what cannot be seen while it is given up.
func hidden(r shed.Rates, plan *shed.Plan) shed.Rates {
	if plan == nil {
		return r
	}
	if plan.Level >= shed.Frugal {
		r.Refresh, r.NonCritical = -1, -1
	}
	if plan.Level >= shed.Tight {
		r.Cache, r.Limit = -1, -1
	}
	if plan.Level >= shed.Exhausted {
		r.Critical = -1
	}
	return r
}
