package bench

import (
	"context"
	"fmt"
	"time"
)

// KneeOptions say how to look for the most a target can take.
type KneeOptions struct {
	// Run is how each rate is tried. Its Pace.Rate is the first rate and its Pace.Duration how long each one
	// is tried; default 3 s here.
	Run Options

	// Within is what must hold for a rate to count as taken, beside that it was kept. At least one.
	Within []Assertion

	// MaxRate ends the search. Default 100,000 operations a second.
	MaxRate float64

	// Steps bounds the number of rates that are tried. Default 20; 2 to 100.
	Steps int
}

// A Step is one rate that was tried.
type Step struct {
	RatePerSecond float64
	Result        *Result
	Verdicts      []Verdict

	// Taken says that the rate was kept and everything held. Unlike a gate it goes by the number alone,
	// not by its interval: the next step is the check.
	Taken bool
}

// Dearest is the dearest search: no other starts more operations than a run at each of these rates does.
// It takes every rate up to the highest, and then looks between that and the one before, or none.
func (o KneeOptions) Dearest() []float64 {
	o = o.withDefaults()
	var out []float64
	rate := min(o.Run.Pace.Rate, o.MaxRate)
	for ; rate < o.MaxRate && len(out) < o.Steps; rate = min(rate*1.5, o.MaxRate) {
		out = append(out, rate)
	}
	// Down to a twentieth, that is five halves.
	for range 1 + 5 {
		if len(out) < o.Steps {
			out = append(out, rate)
		}
	}
	return out
}

func (o KneeOptions) withDefaults() KneeOptions {
	if o.Run.Pace.Duration == 0 {
		o.Run.Pace.Duration = 3 * time.Second
	}
	if o.MaxRate == 0 {
		o.MaxRate = 100_000
	}
	if o.Steps == 0 {
		o.Steps = 20
	}
	o.Run.Pace = o.Run.Pace.withDefaults()
	return o
}

// Knee raises the rate by half until it is no longer taken, then halves the distance between the highest
// rate that was taken and the lowest that was not, until they are within 5%. It returns the steps in the
// order in which they were tried; knee is the highest rate that was taken, 0 when none was.
func Knee(ctx context.Context, o KneeOptions, op Operation) (steps []Step, knee float64, err error) {
	o = o.withDefaults()
	if o.Steps < 2 || o.Steps > 100 {
		return nil, 0, fmt.Errorf("steps: got %d, want 2 to 100", o.Steps)
	}
	if len(o.Within) == 0 {
		return nil, 0, fmt.Errorf("knee: it takes a limit to find one, such as p95<100ms")
	}
	var (
		rate   = min(o.Run.Pace.Rate, o.MaxRate)
		broken float64 // the lowest rate that was not taken, 0 when there is none
	)
	for range o.Steps {
		run := o.Run
		run.Pace.Rate, run.Pace.RampTo = rate, 0
		r, err := Run(ctx, run, op)
		if err != nil {
			return steps, knee, err
		}
		if r.Stopped != "" {
			return steps, knee, nil
		}
		step := o.step(rate, r)
		steps = append(steps, step)
		if step.Taken {
			knee = max(knee, rate)
		} else if broken == 0 || rate < broken {
			broken = rate
		}
		switch {
		case broken == 0 && rate >= o.MaxRate:
			return steps, knee, nil
		case broken == 0:
			rate = min(rate*1.5, o.MaxRate)
		case broken-knee <= 0.05*broken || broken < 1:
			return steps, knee, nil
		default:
			rate = (knee + broken) / 2
		}
	}
	return steps, knee, nil
}

// step is the verdict on one rate.
func (o KneeOptions) step(rate float64, r *Result) Step {
	s := Step{RatePerSecond: rate, Result: r, Taken: r.Started >= r.Planned && r.Failed() == 0}
	for _, a := range o.Within {
		v := Judge("", a, r, -1)
		s.Verdicts = append(s.Verdicts, v)
		if v.Value == nil || !a.holds(*v.Value) {
			s.Taken = false
		}
	}
	return s
}
