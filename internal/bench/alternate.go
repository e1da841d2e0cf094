package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// AlternateOptions say how to run two operations in turns.
type AlternateOptions struct {
	// Run is how each turn runs. Its Pace.Duration is that of one turn; default 2 s here. Only the first
	// turn of each side is warmed up.
	Run Options

	// Pairs is how often each side has its turn. Default 10; 2 to 1,000.
	Pairs int

	// OnTurn, when not nil, is called when recording begins in a turn of side 0 (A) or 1 (B), and OnTurned
	// when the last operation of it has ended, whole or not.
	OnTurn, OnTurned func(side int)
}

// A Pair is one turn of each side, next to each other in time.
type Pair struct {
	A, B *Result
}

// Alternated is what two operations measured that ran in turns: A B B A A B ..., so that what the machine
// and the network did meanwhile happened to both.
type Alternated struct {
	Pairs []Pair

	// A and B are all turns of each side together.
	A, B *Result
}

// Alternate runs a and b in turns. When ctx ends, or Stop says so, the pairs that are whole are returned.
func Alternate(ctx context.Context, o AlternateOptions, a, b Operation) (*Alternated, error) {
	if o.Run.Pace.Duration == 0 {
		o.Run.Pace.Duration = 2 * time.Second
	}
	if o.Pairs == 0 {
		o.Pairs = 10
	}
	if o.Pairs < 2 || o.Pairs > 1000 {
		return nil, fmt.Errorf("pairs: got %d, want 2 to 1000", o.Pairs)
	}
	var out Alternated
	sides := [2]Operation{a, b}
	for i := range o.Pairs {
		var turn [2]*Result
		for _, side := range order(i) {
			run := o.Run
			if i > 0 {
				run.WarmUp = -1
			}
			if o.OnTurn != nil {
				begin := run.OnBegin
				run.OnBegin = func() {
					if begin != nil {
						begin()
					}
					o.OnTurn(side)
				}
			}
			r, err := Run(ctx, run, sides[side])
			if r != nil && o.OnTurned != nil {
				o.OnTurned(side)
			}
			if err != nil {
				return &out, err
			}
			if r.Stopped != "" {
				return &out, nil
			}
			turn[side] = r
		}
		out.Pairs = append(out.Pairs, Pair{A: turn[0], B: turn[1]})
		for i, sum := range []**Result{&out.A, &out.B} {
			if *sum == nil {
				*sum = &Result{Loop: turn[i].Loop, Began: turn[i].Began}
			}
			(*sum).Add(turn[i])
		}
	}
	return &out, nil
}

// order is which side goes first in pair i, so that a drift of the machine is none between the sides.
func order(i int) [2]int {
	if i%2 == 0 {
		return [2]int{0, 1}
	}
	return [2]int{1, 0}
}

// Compare compares a percentile of both sides pair by pair: the ratio is the middle one of the pairs'
// own, its interval that of the Wilcoxon signed-rank test (Hodges-Lehmann), and significant means that
// the interval at the level of Compare does not hold 1. It returns an error when fewer than six pairs have
// the percentile: with five, no test can be that sure.
func (x *Alternated) Compare(p, maxRegress float64) (Change, error) {
	var (
		shifts []float64
		errs   []error
	)
	for _, pair := range x.Pairs {
		a, errA := pair.A.Latency.Quantile(p)
		b, errB := pair.B.Latency.Quantile(p)
		if errA != nil || errB != nil {
			errs = append(errs, errA, errB)
			continue
		}
		shifts = append(shifts, logRatio(b.Value, a.Value))
	}
	const fewest = 6
	if len(shifts) < fewest {
		return Change{}, errors.Join(append([]error{fmt.Errorf("%d pairs have a %s, want at least %d", len(shifts), percentileName(p), fewest)}, errs...)...)
	}
	middle, low, high := hodgesLehmann(shifts, confidence)
	_, surelyLow, surelyHigh := hodgesLehmann(shifts, 1-alarm)
	c := Change{
		P: p, Old: x.A.Latency.All.rank(p), New: x.B.Latency.All.rank(p),
		Ratio: math.Exp(middle), Low: math.Exp(low), High: math.Exp(high),
		Significant: surelyLow > 0 || surelyHigh < 0,
	}
	c.Worse = c.Significant && c.Ratio > 1+maxRegress
	return c, nil
}

// hodgesLehmann is the median of the means of every two values, and the interval with confidence c that
// goes with the signed-rank test, in its normal approximation with the ends rounded outwards.
func hodgesLehmann(values []float64, c float64) (middle, low, high float64) {
	n := len(values)
	means := make([]float64, 0, n*(n+1)/2)
	for i := range values {
		for j := i; j < n; j++ {
			means = append(means, (values[i]+values[j])/2)
		}
	}
	slices.Sort(means)
	m := len(means)
	middle = (means[(m-1)/2] + means[m/2]) / 2
	mean := float64(n*(n+1)) / 4
	deviation := math.Sqrt(float64(n*(n+1)*(2*n+1)) / 24)
	k := max(0, int(math.Floor(mean-normalQuantile(c)*deviation-0.5)))
	return middle, means[k], means[m-1-k]
}
