package bench

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// maxOperations bounds one run, so that no typing error asks for a year of work.
const maxOperations = 100_000_000

// A Pace says when operations start.
type Pace struct {
	// Rate is the operations started a second, evenly spaced. Default 50.
	Rate float64

	// RampTo is the rate at the end of the run, reached in a straight line; 0 means that Rate is kept.
	RampTo float64

	// Duration is for how long operations start. Default 10 s.
	Duration time.Duration

	// Times, when not nil, are the starts themselves, in order, instead of all the others.
	Times []time.Duration
}

func (p Pace) withDefaults() Pace {
	if p.Times != nil {
		p.Duration = time.Millisecond
		if n := len(p.Times); n > 0 {
			p.Duration += p.Times[n-1]
		}
		p.Rate = min(max(float64(len(p.Times))/p.Duration.Seconds(), 0.001), 1e6)
	}
	if p.Rate == 0 {
		p.Rate = 50
	}
	if p.RampTo == 0 {
		p.RampTo = p.Rate
	}
	if p.Duration == 0 {
		p.Duration = 10 * time.Second
	}
	return p
}

func (p Pace) validate() error {
	var errs []error
	if !(p.Rate > 0) || p.Rate > 1e6 {
		errs = append(errs, fmt.Errorf("rate: got %g, want more than 0 and at most 1000000 a second", p.Rate))
	}
	if !(p.RampTo > 0) || p.RampTo > 1e6 {
		errs = append(errs, fmt.Errorf("ramp to: got %g, want more than 0 and at most 1000000 a second", p.RampTo))
	}
	if p.Duration < time.Millisecond {
		errs = append(errs, fmt.Errorf("duration: got %s, want at least 1ms", p.Duration))
	}
	if !slices.IsSorted(p.Times) {
		errs = append(errs, errors.New("times: they are not in order"))
	}
	if len(errs) == 0 && p.mean()*p.Duration.Seconds() > maxOperations {
		errs = append(errs, fmt.Errorf("%g a second for %s are more than %d operations", p.mean(), p.Duration, maxOperations))
	}
	return errors.Join(errs...)
}

// mean is the rate over the whole run.
func (p Pace) mean() float64 { return (p.Rate + p.RampTo) / 2 }

// Span is for how long operations start.
func (p Pace) Span() time.Duration { return p.withDefaults().Duration }

// Count is how many operations start within Duration; at least one.
func (p Pace) Count() int {
	if p.Times != nil {
		return len(p.Times)
	}
	p = p.withDefaults()
	return max(1, int(math.Floor(p.mean()*p.Duration.Seconds()+1e-9)))
}

// At is the intended start of operation i, counted from 0, after the start of the run.
//
// With rate r growing by g a second each second, n(t) = r·t + g·t²/2 operations have started by t.
func (p Pace) At(i int) time.Duration {
	if p.Times != nil {
		return p.Times[i]
	}
	p = p.withDefaults()
	n := float64(i)
	grow := (p.RampTo - p.Rate) / p.Duration.Seconds()
	if math.Abs(grow) < 1e-9 {
		return time.Duration(n / p.Rate * float64(time.Second))
	}
	// The smaller root, in the form that does not cancel for small grow.
	root := math.Sqrt(max(0, p.Rate*p.Rate+2*grow*n))
	return time.Duration(2 * n / (p.Rate + root) * float64(time.Second))
}
