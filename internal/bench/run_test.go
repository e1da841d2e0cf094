package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stalling is a target that answers after base, and not at all for the first stall of every second.
func stalling(base, stall time.Duration) Operation {
	began := time.Now()
	return func(ctx context.Context, _ *Span) error {
		answer := base
		if phase := time.Since(began) % time.Second; phase < stall {
			answer += stall - phase
		}
		return sleep(ctx, answer)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// inBubble runs op in made-up time.
func inBubble(t *testing.T, o Options, op func() Operation) *Result {
	t.Helper()
	var r *Result
	synctest.Test(t, func(t *testing.T) {
		o.wait = waitTimer
		var err error
		if r, err = Run(t.Context(), o, op()); err != nil {
			t.Fatal(err)
		}
	})
	return r
}

func quantile(t *testing.T, r *Result, p float64) Quantile {
	t.Helper()
	q, err := r.Latency.Quantile(p)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func TestAnOpenLoopSeesTheStallsThatAClosedOneMisses(t *testing.T) {
	target := func() Operation { return stalling(5*time.Millisecond, 100*time.Millisecond) }
	open := inBubble(t, Options{Pace: Pace{Rate: 500, Duration: 20 * time.Second}, WarmUp: -1}, target)
	// A tenth of the requests come in the stall, and wait for what is left of it.
	for p, want := range map[float64]time.Duration{
		0.5: 5 * time.Millisecond, 0.95: 55 * time.Millisecond, 0.99: 95 * time.Millisecond,
	} {
		got := quantile(t, open, p).Value
		if off := (got - want).Abs(); off > max(time.Millisecond, want/50) {
			t.Errorf("open loop: p%g = %s, want %s within 2%% or 1ms", p*100, got, want)
		}
	}
	closed := inBubble(t, Options{Closed: 1, Pace: Pace{Duration: 20 * time.Second}, WarmUp: -1}, target)
	if got := quantile(t, closed, 0.99).Value; closed.Loop != Closed || got > 6*time.Millisecond {
		t.Errorf("closed loop: p99 = %s, want 5ms: it sees one slow answer a second", got)
	}
}

func TestALatencyCountsFromTheIntendedStart(t *testing.T) {
	r := inBubble(t, Options{Pace: Pace{Rate: 100, Duration: 2 * time.Second}, InFlight: 1, WarmUp: -1}, func() Operation {
		return func(ctx context.Context, _ *Span) error { return sleep(ctx, 12*time.Millisecond) }
	})
	// One at a time takes 12 ms each, and one should start every 10 ms: the queue grows by 2 ms each.
	if r.Waited == 0 || r.Started >= r.Planned || r.Service.Max() > 13*time.Millisecond {
		t.Errorf("waited %d, started %d of %d, service max %s; want some waiting, fewer started, 12ms", r.Waited, r.Started, r.Planned, r.Service.Max())
	}
	if got := r.Latency.All.Max(); got < 300*time.Millisecond {
		t.Errorf("longest latency = %s, want the 330ms that the last one waited", got)
	}
	v := Judge("x", assertion(t, "p95<1s"), r, -1)
	if v.Outcome != Inconclusive || !strings.Contains(v.Why, "rate could not be kept") {
		t.Errorf("verdict = %s (%s), want inconclusive: the rate could not be kept", v.Outcome, v.Why)
	}
}

func TestErrorsAndRefusalsAreCountedApartAndHaveNoLatency(t *testing.T) {
	var mu sync.Mutex
	n := 0
	r := inBubble(t, Options{Pace: Pace{Rate: 100, Duration: 3 * time.Second}, WarmUp: -1, Timeout: 50 * time.Millisecond}, func() Operation {
		return func(ctx context.Context, _ *Span) error {
			mu.Lock()
			n++
			turn := n % 4
			mu.Unlock()
			switch turn {
			case 1:
				return fmt.Errorf("check: %w", ErrLimited)
			case 2:
				return errors.New("boom")
			case 3:
				return sleep(ctx, time.Second)
			}
			return sleep(ctx, time.Millisecond)
		}
	})
	if r.Done != 75 || r.Limited != 75 || r.Errors["error"] != 75 || r.Errors["timeout"] != 75 || r.FirstError != "boom" {
		t.Errorf("done %d, limited %d, errors %v, first %q; want 75 of each, first boom", r.Done, r.Limited, r.Errors, r.FirstError)
	}
	if got := r.Latency.All.Count(); got != 75 {
		t.Errorf("%d latencies, want those of the 75 that ended well", got)
	}
}

func TestARunThatIsInterruptedKeepsWhatItHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 2500*time.Millisecond, errors.New("enough"))
		defer cancel()
		r, err := Run(ctx, Options{Pace: Pace{Rate: 10, Duration: time.Minute}, WarmUp: -1, wait: waitTimer},
			func(ctx context.Context, _ *Span) error { return sleep(ctx, 30*time.Millisecond) })
		if err == nil || err.Error() != "enough" || r.Stopped != "enough" || r.Done != 25 || r.Failed() != 0 {
			t.Errorf("Run = %v, stopped %q, done %d, failed %d; want enough, 25 done, none failed", err, r.Stopped, r.Done, r.Failed())
		}
	})
}

func TestStopEndsARunWithoutAnError(t *testing.T) {
	n := 0
	r := inBubble(t, Options{
		Pace: Pace{Rate: 10, Duration: time.Minute}, WarmUp: -1,
		Stop: func() error {
			if n++; n > 5 {
				return errors.New("the quota is near")
			}
			return nil
		},
	}, func() Operation { return func(context.Context, *Span) error { return nil } })
	if r.Stopped != "the quota is near" || r.Started != 5 {
		t.Errorf("stopped %q after %d, want after 5", r.Stopped, r.Started)
	}
}

func TestARampIsAsFastAsItSaysAtBothEnds(t *testing.T) {
	p := Pace{Rate: 10, RampTo: 110, Duration: 10 * time.Second}
	if got := p.Count(); got != 600 {
		t.Errorf("Count = %d, want the 600 of 60 a second on average", got)
	}
	for i, want := range map[int]float64{0: 10, 300: 78.1, 598: 109.8} {
		rate := 1 / (p.At(i+1) - p.At(i)).Seconds()
		if math.Abs(rate-want) > 0.06*want {
			t.Errorf("rate at operation %d = %.1f a second, want %.1f", i, rate, want)
		}
	}
	if got := p.At(600); got < 9990*time.Millisecond || got > 10010*time.Millisecond {
		t.Errorf("operation 600 at %s, want 10s", got)
	}
}

func TestAVeryLongRunHasAFewHundredSlices(t *testing.T) {
	rec := newRecorder(Options{}.withDefaults())
	for i := range 10_000 {
		rec.ended(ended{intended: time.Duration(i) * time.Second, began: time.Duration(i) * time.Second, end: time.Duration(i)*time.Second + time.Millisecond})
	}
	r := rec.result()
	var n int64
	for i := range r.Latency.Slices {
		n += r.Latency.Slices[i].Latency.Count()
	}
	if got := len(r.Latency.Slices); got > mostSlices || got < mostSlices/2 || n != 10_000 || r.Latency.Width() != 32*time.Second {
		t.Errorf("%d slices of %s with %d, want 300 to 600 of 32s with all 10,000", got, r.Latency.Width(), n)
	}
}

func TestOptionsThatCannotWorkAreRefusedAllAtOnce(t *testing.T) {
	_, err := Run(t.Context(), Options{Pace: Pace{Rate: -1, Duration: time.Nanosecond}, InFlight: -1, Timeout: 1}, nil)
	for _, want := range []string{"rate: got -1", "duration: got 1ns", "in flight: got -1", "timeout: got 1ns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Run = %v, want it to say %q", err, want)
		}
	}
}

func TestTheKernelsTimerIsWaitedForAndAnEndedContextIsNot(t *testing.T) {
	at := time.Now().Add(30 * time.Millisecond)
	wait(t.Context(), at)
	if late := time.Since(at); late < 0 {
		t.Errorf("returned %s early", -late)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wait(ctx, time.Now().Add(time.Hour))
}
