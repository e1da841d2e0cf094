package bench

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// resample draws n latencies from what a histogram counted, times factor.
func resample(random *rand.Rand, from []Bar, total int64, n int, factor float64) *Latency {
	l := &Latency{}
	cumulated := make([]int64, len(from))
	var sum int64
	for i, b := range from {
		sum += b.Count
		cumulated[i] = sum
	}
	for range n {
		at := random.Int64N(total)
		low, high := 0, len(cumulated)-1
		for low < high {
			if middle := (low + high) / 2; cumulated[middle] > at {
				high = middle
			} else {
				low = middle + 1
			}
		}
		bar := from[low]
		d := bar.From + time.Duration(random.Float64()*float64(bar.To-bar.From))
		l.All.Record(time.Duration(float64(d) * factor))
	}
	return l
}

func TestComparingRaisesHardlyAnyFalseAlarmAndFindsASlowDown(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	recorded := latencies(random, 30, 200, false).All
	bars, total := recorded.Bars(), recorded.Count()
	const pairs, samples = 1000 / scale, 2000
	var alarms, found int
	for range pairs {
		old := resample(random, bars, total, samples, 1)
		for _, pair := range []struct { // in this order: what is drawn must be the same in every run
			factor float64
			count  *int
		}{{1, &alarms}, {1.15, &found}} {
			changes, err := Compare(old, resample(random, bars, total, samples, pair.factor), []float64{0.5, 0.95, 0.99}, 0.10)
			if err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(changes, func(c Change) bool { return c.Worse }) {
				*pair.count++
			}
		}
	}
	t.Logf("%d false alarms in %d pairs of the same target, a slow-down of 15%% found in %d", alarms, pairs, found)
	if alarms > max(1, pairs/100) {
		t.Errorf("%d false alarms in %d pairs of the same target, want at most 1%%", alarms, pairs)
	}
	if found < pairs*95/100 {
		t.Errorf("a slow-down of 15%% was found in %d of %d pairs, want at least 95%%", found, pairs)
	}
}

func TestAChangeIsNotSignificantWhenBurstsExplainIt(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	worse := 0
	for range 200 / scale {
		changes, err := Compare(latencies(random, 60, 50, true), latencies(random, 60, 50, true), []float64{0.95}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if changes[0].Worse {
			worse++
		}
	}
	if worse > 4 {
		t.Errorf("%d of 200 equal pairs were called worse, want at most 2%%", worse)
	}
}

func TestAPercentileThatOneSideLacksIsAnError(t *testing.T) {
	changes, err := Compare(&steady(500, time.Millisecond).Latency, &steady(2000, time.Millisecond).Latency, []float64{0.5, 0.99}, 0)
	tooFew, ok := errors.AsType[*TooFewError](err)
	if !ok || tooFew.Got != 500 || len(changes) != 1 || changes[0].Worse {
		t.Errorf("Compare = %v, %v; want the p50 alone and an error about 500 samples", changes, err)
	}
}

func TestTwoTargetsInTurnsAreComparedPairByPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		target := func(slower float64) Operation {
			return func(ctx context.Context, _ *Span) error {
				drift := 1 + time.Since(began).Minutes()                                      // the whole machine gets slower meanwhile
				jitter := 1 + rand.New(rand.NewPCG(uint64(time.Since(began)), 5)).Float64()/5 // the same in every run
				return sleep(ctx, time.Duration(slower*drift*jitter*float64(time.Millisecond)))
			}
		}
		o := AlternateOptions{Run: Options{Pace: Pace{Rate: 200, Duration: 2 * time.Second}, wait: waitTimer}}
		x, err := Alternate(t.Context(), o, target(1), target(1.3))
		if err != nil {
			t.Fatal(err)
		}
		c, err := x.Compare(0.95, 0.1)
		if err != nil || !c.Worse || c.Ratio < 1.25 || c.Ratio > 1.35 || c.Low > 1.3 || c.High < 1.3 {
			t.Errorf("Compare = %+v, %v; want 1.3 and worse", c, err)
		}
		if x, err = Alternate(t.Context(), o, target(1), target(1)); err != nil {
			t.Fatal(err)
		}
		if c, err = x.Compare(0.95, 0.1); err != nil || c.Worse {
			t.Errorf("Compare of the same target = %+v, %v; want no change", c, err)
		}
		if len(x.Pairs) != 10 || x.A.Started != 4000 || x.B.Started != 4000 || len(x.A.Latency.Slices) < 20 {
			t.Errorf("%d pairs, %d and %d operations, %d slices; want 10, 4000 each, 20", len(x.Pairs), x.A.Started, x.B.Started, len(x.A.Latency.Slices))
		}
	})
}

func TestTooFewPairsAreNoComparison(t *testing.T) {
	one := Pair{A: steady(500, time.Millisecond), B: steady(500, time.Second)}
	if _, err := (&Alternated{Pairs: []Pair{one, one, one, one, one}, A: one.A, B: one.B}).Compare(0.95, 0); err == nil {
		t.Error("five pairs were compared, want an error")
	}
}

func TestTheKneeIsFoundWithinFivePercent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// One server that takes 2 ms for each: 500 a second, and a growing queue beyond.
		gate := make(chan struct{}, 1)
		op := func(ctx context.Context, _ *Span) error {
			select {
			case gate <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			defer func() { <-gate }()
			return sleep(ctx, 2*time.Millisecond)
		}
		steps, knee, err := Knee(t.Context(), KneeOptions{
			Run:    Options{Pace: Pace{Rate: 100, Duration: 5 * time.Second}, WarmUp: -1, wait: waitTimer},
			Within: []Assertion{assertion(t, "p95<50ms")},
		}, op)
		if err != nil || knee < 475 || knee > 515 {
			t.Errorf("knee = %.0f after %d steps, %v; want about 500 a second", knee, len(steps), err)
		}
	})
}

func TestNoSearchForTheKneeIsDearerThanTheOneThatIsPriced(t *testing.T) {
	for _, first := range []float64{1, 50, 700, 90_000, 200_000} {
		o := KneeOptions{Run: Options{Pace: Pace{Rate: first}}}
		var priced float64
		for _, rate := range o.Dearest() {
			priced += rate
		}
		for capacity := first / 40; capacity < 300_000; capacity *= 1.07 {
			rate, broken, knee, sum := min(first, 100_000), 0.0, 0.0, 0.0
			for range 20 { // as Knee does, on a target that takes so much
				sum += rate
				if rate <= capacity {
					knee = max(knee, rate)
				} else if broken == 0 || rate < broken {
					broken = rate
				}
				if broken == 0 && rate >= 100_000 || broken > 0 && (broken-knee <= 0.05*broken || broken < 1) {
					break
				}
				if rate = min(rate*1.5, 100_000); broken > 0 {
					rate = (knee + broken) / 2
				}
			}
			if sum > priced {
				t.Errorf("from %g a second, a target that takes %.0f: %.0f operations a second in all, %.0f were priced", first, capacity, sum, priced)
			}
		}
	}
}
