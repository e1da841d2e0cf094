package shed

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/budget"
)

// A Planner makes one plan after another. It is for one goroutine.
type Planner struct {
	opts   Options
	queues []Queue           // dependants first
	guards map[string]string // see guards
	state  State
	began  time.Time // when this run first decided
}

// A State is what must survive a restart. It is small and made for JSON.
type State struct {
	Window   budget.Window       `json:"window"`
	Level    Level               `json:"level"`
	Since    time.Time           `json:"since"`
	Why      string              `json:"why"`
	Hold     time.Duration       `json:"hold_ns"`
	Eased    time.Time           `json:"eased"` // when a milder level was last taken
	Spent    float64             `json:"spent"`
	At       time.Time           `json:"at"`
	Demand   Rates               `json:"demand"`
	Measured time.Duration       `json:"measured_ns"` // for how long Demand has been, at most Options.Smooth
	Shed     map[Class]time.Time `json:"shed"`
}

// New returns a Planner that has decided nothing yet.
func New(o Options) (*Planner, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("shed: %w", err)
	}
	p := &Planner{opts: o, queues: dependantsFirst(o.Queues), guards: guards(o.Queues)}
	if o.State != nil {
		p.state = *o.State
		p.state.Shed = maps.Clone(o.State.Shed)
		p.state.Measured = min(max(0, p.state.Measured), o.Smooth)
		for _, r := range p.state.Demand.each() {
			if !sane(*r) {
				*r, p.state.Measured = 0, 0
			}
		}
	}
	return p, nil
}

// State is what to give the next run.
func (p *Planner) State() State {
	s := p.state
	s.Shed = maps.Clone(s.Shed)
	return s
}

// Essential is whether a queue is critical or one that is depends on it: whether its commands belong to
// Rates.Critical.
func (p *Planner) Essential(queue string) bool {
	if _, ok := p.guards[queue]; ok {
		return true
	}
	return slices.ContainsFunc(p.queues, func(q Queue) bool { return q.Name == queue && q.Critical })
}

// An Input is what is known at a decision.
type Input struct {
	// Now is when it is made.
	Now time.Time

	// Spent is the commands of the period so far, of everybody who is billed together. Negative means
	// unknown: the last known one is carried on at the planned rate.
	Spent int64

	// Rates are those since the last decision, or over the last minutes.
	Rates Rates
}

// Decide makes the plan that holds from in.Now to the next decision; one a minute is enough. A clock that went
// back, a period's count that sank and rates that are no numbers are borne: what was known stays.
func (p *Planner) Decide(in Input) Plan {
	now := in.Now.UTC()
	s := &p.state
	from := s.Level
	w := p.opts.Commands.Window(now)
	if !w.Start.Equal(s.Window.Start) {
		p.turn(w, now)
	}
	if p.began.IsZero() {
		p.began = now
	}
	passed := max(0, now.Sub(s.At))
	if s.At.IsZero() {
		passed = 0
	}
	p.measure(in.Rates, passed)
	guessed := in.Spent < 0
	if guessed {
		s.Spent += s.Demand.at(s.Level, p.opts) * passed.Seconds()
	} else {
		s.Spent = max(s.Spent, float64(in.Spent))
	}
	s.At = now
	p.choose(now)
	return p.describe(now, from, guessed)
}

// turn begins a period.
func (p *Planner) turn(w budget.Window, now time.Time) {
	s := &p.state
	at := s.At
	if at.Before(w.Start) && !at.IsZero() {
		at = w.Start // what is guessed belongs to this period only from there
	}
	*s = State{
		Window: w, Since: now, Why: "the period began", Hold: p.opts.Hold, At: at,
		Demand: s.Demand, Measured: s.Measured, Shed: map[Class]time.Time{},
	}
}

// measure takes new rates into the average.
func (p *Planner) measure(now Rates, passed time.Duration) {
	s := &p.state
	weight := 1.0 // the plain average until Smooth has passed, then one that forgets
	if known := min(s.Measured, p.opts.Smooth) + passed; s.Demand != (Rates{}) && known > 0 {
		weight = float64(passed) / float64(known)
	}
	s.Measured = min(s.Measured+passed, p.opts.Smooth)
	fresh := now.each()
	for i, old := range s.Demand.each() {
		if sane(*fresh[i]) {
			*old += weight * (*fresh[i] - *old)
		}
	}
}

// sane is whether a rate is a number that can be added up.
func sane(r float64) bool { return r >= 0 && r < 1e12 }

// ends is what the period comes to at a level.
func (p *Planner) ends(l Level, now time.Time) float64 {
	return p.state.Window.ProjectRate(p.state.Spent, p.state.Demand.at(l, p.opts), now)
}

// choose sets the level: a stricter one at once, a milder one after a while.
func (p *Planner) choose(now time.Time) {
	s, c := &p.state, p.opts.Commands
	if c.PerMonth <= 0 {
		return
	}
	all := float64(c.PerMonth)
	if s.Spent >= all {
		p.set(Exhausted, now, "the whole budget is spent")
		return
	}
	if s.Level == Exhausted { // the budget was raised
		p.set(Tight, now, "the budget is not spent any more")
	}
	switch {
	case s.Spent >= c.DegradeAt*all:
		if s.Level < Tight {
			p.set(Tight, now, fmt.Sprintf("%.0f%% of the budget is spent", 100*s.Spent/all))
		}
		return
	case p.settling(now):
		return
	}
	for l := s.Level; ; l++ {
		if l >= Tight || p.ends(l, now) <= c.DegradeAt*all {
			if l > s.Level {
				p.set(l, now, fmt.Sprintf("the period would end at %.0f%% of the budget at level %s", 100*p.ends(l-1, now)/all, l-1))
				return
			}
			break
		}
	}
	for l := Normal; l < s.Level; l++ {
		if p.ends(l, now) <= c.FailAt*all && now.Sub(s.Since) >= s.Hold {
			p.set(l, now, fmt.Sprintf("the period will end at %.0f%% of the budget", 100*p.ends(l, now)/all))
			s.Eased = now
			return
		}
	}
}

// settling is whether it is too early to judge: at the start of a period, and of a run that knows no rates yet.
func (p *Planner) settling(now time.Time) bool {
	s := &p.state
	if s.Spent >= settleShare*float64(p.opts.Commands.PerMonth) && now.Sub(p.began) >= p.opts.Hold {
		return false
	}
	if s.Level > Normal {
		return false
	}
	return now.Sub(s.Window.Start) < p.opts.Settle || p.opts.State == nil && now.Sub(p.began) < p.opts.Hold
}

func (p *Planner) set(l Level, now time.Time, why string) {
	s := &p.state
	if s.Level == l {
		return
	}
	if l > s.Level && !s.Eased.IsZero() && now.Sub(s.Eased) < forgiven {
		s.Hold = min(2*s.Hold, max(longestHold, p.opts.Hold)) // the milder level was too mild
	}
	s.Level, s.Since, s.Why = l, now, why
}

// describe is the plan at the level that was chosen.
func (p *Planner) describe(now time.Time, from Level, guessed bool) Plan {
	s, w := &p.state, p.state.Window
	all := float64(p.opts.Commands.PerMonth)
	plan := Plan{
		At: now, Level: s.Level, Since: s.Since, Why: s.Why, Changed: s.Level != from, From: from,
		Window: w, Budget: p.opts.Commands.PerMonth, Spent: s.Spent, Guessed: guessed,
		BudgetLevel:     p.opts.Commands.Level(s.Spent),
		DemandPerSecond: s.Demand.at(Normal, p.opts), PlannedPerSecond: s.Demand.at(s.Level, p.opts),
		ProjectedDemand: p.ends(Normal, now), Projected: p.ends(s.Level, now),
		SweepFactor: s.Level.SweepFactor(), LimiterLocal: s.Level >= Tight, CacheLocal: s.Level >= Tight, NoRefresh: s.Level >= Frugal,
		Shed: []Shed{}, Queues: p.plan(s.Level),
	}
	if all > 0 {
		plan.AllowedPerSecond = w.AllowedPerSecond(all, s.Spent, now)
		plan.RunsOut, _ = w.RunOut(all, s.Spent, plan.PlannedPerSecond, now)
		plan.RunsOutUnshed, _ = w.RunOut(all, s.Spent, plan.DemandPerSecond, now)
	}
	since := map[Class]time.Time{}
	for _, shed := range s.Demand.classes(s.Level, p.opts) {
		shed.Why, shed.Since = s.Why, s.Since
		if earlier, ok := s.Shed[shed.Class]; ok {
			shed.Since = earlier
		}
		since[shed.Class] = shed.Since
		shed.SavesInPeriod = shed.SavesPerSecond * w.Remaining(now).Seconds()
		plan.Shed = append(plan.Shed, shed)
	}
	s.Shed = since
	return plan
}
