package shed

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/budget"
)

// A month is what a simulated month came to.
type month struct {
	spent       float64 // share of the budget
	unshed      float64 // share that would have been spent
	changes     int
	critical    float64 // share of the critical work that was done
	noncritical float64 // the same of the other jobs, backlog worked off included
	first       time.Time
	worst       Level
	over        float64 // commands above the budget
	bound       float64 // what they may be
	backlog     float64 // commands of jobs that were put off and wait
}

// A load gives the rates at a time.
type load func(at time.Time) Rates

const simulated = 500_000

// simulate runs the planner from month to month, deciding every five minutes. Blind is how often the count is
// not known. What is shed is not spent; jobs of paused queues wait, and are worked off at up to three times
// the rate at which they come.
func simulate(t *testing.T, l load, months int, blind float64, rng *rand.Rand) []month {
	t.Helper()
	const step = 5 * time.Minute
	p := planner(t, func(o *Options) { o.Commands = budget.Commands{PerMonth: simulated} })
	var out []month
	backlog := 0.0
	at := feb(1)
	for range months {
		w := budget.Month(at)
		m := month{first: w.End}
		spent, demanded, fastest := 0.0, 0.0, 0.0
		var critical, criticalDone, jobs, jobsDone float64
		changed := at
		fixed, unknown, longest := 0.0, 1.0, 1.0
		for ; at.Before(w.End); at = at.Add(step) {
			r := l(at)
			seen := r
			level := p.State().Level
			if level >= Frugal {
				seen.Refresh = -1
			}
			if level >= Tight {
				seen.Cache, seen.Limit = -1, -1
			}
			in := Input{Now: at, Spent: int64(spent), Rates: seen}
			unknown++
			if rng.Float64() < blind {
				in.Spent = -1
			} else {
				unknown = 1
			}
			longest = max(longest, unknown)
			plan := p.Decide(in)
			if plan.Changed && !at.Equal(w.Start) {
				m.changes++
				if plan.Level < plan.From && at.Sub(changed) < DefaultHold {
					t.Errorf("%s: eased from %s to %s after only %s", at, plan.From, plan.Level, at.Sub(changed))
				}
				changed = at
			}
			if plan.Level > Normal && at.Before(m.first) {
				m.first = at
			}
			m.worst = max(m.worst, plan.Level)
			seconds := step.Seconds()
			rate := r.at(plan.Level, p.opts)
			work := 0.0 // of the backlog
			if plan.Level < Tight {
				work = min(backlog, 2*r.NonCritical*seconds)
				backlog -= work
				jobsDone += r.NonCritical*seconds + work
			} else {
				backlog += r.NonCritical * seconds
			}
			jobs += r.NonCritical * seconds
			critical += r.Critical * seconds
			if plan.Level < Exhausted {
				criticalDone += r.Critical * seconds
			} else {
				fixed += rate * seconds
			}
			spent += rate*seconds + work
			demanded += r.at(Normal, p.opts) * seconds
			fastest = max(fastest, rate*seconds+work)
		}
		m.spent, m.unshed = spent/simulated, demanded/simulated
		m.over, m.bound = max(0, spent-simulated), fastest*longest+fixed
		m.critical, m.noncritical, m.backlog = criticalDone/critical, jobsDone/jobs, backlog
		out = append(out, m)
	}
	return out
}

// steady is a load that would spend share of the budget in February, of which the critical part is critical.
func steady(share, critical float64) load {
	rest := share - critical - 0.02
	return func(time.Time) Rates {
		return Rates{
			Refresh: perSecond(0.15 * rest), Cache: perSecond(0.2 * rest), Limit: perSecond(0.15 * rest),
			NonCritical: perSecond(0.5 * rest), Critical: perSecond(critical), Sweep: perSecond(0.01), Fixed: perSecond(0.01),
		}
	}
}

func scaled(l load, by func(at time.Time) float64) load {
	return func(at time.Time) Rates {
		r := l(at)
		for _, f := range r.each() {
			*f *= by(at)
		}
		return r
	}
}

// days is the rhythm of day and night, of weekends, and noise.
func days(rng *rand.Rand) func(at time.Time) float64 {
	return func(at time.Time) float64 {
		hour := float64(at.Hour()) + float64(at.Minute())/60
		f := 1 + 0.8*math.Sin((hour-9)/24*2*math.Pi)
		if d := at.Weekday(); d == time.Saturday || d == time.Sunday {
			f *= 0.4
		}
		return f * (0.5 + rng.Float64())
	}
}

func TestAMonthInEveryWeather(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		name     string
		load     load
		months   int
		blind    float64
		feasible bool
	}{
		{"60% of the budget", steady(0.6, 0.2), 1, 0, true},
		{"exactly the budget, by day and night", scaled(steady(1, 0.4), days(rng)), 1, 0, true},
		{"1.2 times, a third critical", steady(1.2, 0.4), 1, 0, true},
		{"twice, by day and night", scaled(steady(2, 0.5), days(rng)), 1, 0, true},
		{"5 times, critical 70% of the budget", steady(5, 0.7), 1, 0, true},
		{"5 times, the count known half the time", steady(5, 0.7), 1, 0.5, true},
		{"critical alone 1.5 times", steady(3, 1.5), 1, 0, false},
		{"a burst of 20 times for 6 hours on the 10th", scaled(steady(0.7, 0.3), func(at time.Time) float64 {
			if at.Day() == 10 && at.Hour() < 6 {
				return 20
			}
			return 1
		}), 1, 0, true},
		{"twice, three months on end", steady(2, 0.4), 3, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i, m := range simulate(t, c.load, c.months, c.blind, rng) {
				first := "never"
				if m.worst > Normal {
					first = m.first.Format("2 Jan 15:04")
				}
				t.Logf("month %d: asked %.0f%%, spent %.1f%%, critical %.0f%% done, others %.0f%%, worst %s, first shed %s, %d changes, over by %.0f (bound %.0f)",
					i+1, 100*m.unshed, 100*m.spent, 100*m.critical, 100*m.noncritical, m.worst, first, m.changes, m.over, m.bound)
				if c.feasible && m.critical < 1 {
					t.Errorf("month %d: %.1f%% of the critical work was done", i+1, 100*m.critical)
				}
				if m.over > m.bound {
					t.Errorf("month %d: %.0f commands above the budget, the bound is %.0f", i+1, m.over, m.bound)
				}
				if m.changes > 16 {
					t.Errorf("month %d: %d changes of level", i+1, m.changes)
				}
				if m.unshed < 0.7 && m.worst > Normal {
					t.Errorf("month %d: something was shed of a load below the budget", i+1)
				}
			}
		})
	}
}

func TestForAnyLoadCriticalWorkGoesOnWhileItCanAndTheBudgetHolds(t *testing.T) {
	most := 0
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 7))
		share := 0.3 + 5*rng.Float64()
		critical := min(share*0.9, 1.6) * rng.Float64()
		l := steady(share, min(critical, share-0.02))
		if rng.IntN(2) == 0 {
			l = scaled(l, days(rng))
		}
		m := simulate(t, l, 1, 0.3*rng.Float64(), rng)[0]
		name := fmt.Sprintf("seed %d: %.2f of the budget, critical %.2f", seed, share, critical)
		// Before anything is shed a tenth of the budget may go, and nothing sheds another 2%.
		if critical < 0.7 && m.critical < 1 {
			t.Errorf("%s: %.2f%% of the critical work was done", name, 100*m.critical)
		}
		if m.over > m.bound {
			t.Errorf("%s: %.0f commands above the budget, the bound is %.0f", name, m.over, m.bound)
		}
		if m.changes > 16 {
			t.Errorf("%s: %d changes of level", name, m.changes)
		}
		most = max(most, m.changes)
	}
	t.Logf("at most %d changes of level in a month", most)
}
