package bench

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func assertion(t *testing.T, text string) Assertion {
	t.Helper()
	a, err := ParseAssertion(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// steady is the result of n operations that took from 1 to 1+spread ms, evenly.
func steady(n int, spread time.Duration) *Result {
	r := &Result{Loop: Open, Planned: int64(n), Started: int64(n), Done: int64(n), Took: time.Duration(n) * 10 * time.Millisecond}
	for i := range n {
		r.Latency.All.Record(time.Millisecond + spread*time.Duration(i)/time.Duration(n))
	}
	return r
}

func TestAssertionsAreReadAndWrittenTheSame(t *testing.T) {
	for _, text := range []string{"p95<100ms", "cache.p99.9<=1.5s", "errors<0.1%", "limited<=0%", "rate>=50", "queue-add.max<1m0s", "commands<=4", "mean>1ms"} {
		if got := assertion(t, text).String(); got != text {
			t.Errorf("ParseAssertion(%q) = %s", text, got)
		}
	}
	if a := assertion(t, " errors < 0.001 "); a.Limit != 0.001 {
		t.Errorf("a share without %% = %g, want 0.001", a.Limit)
	}
	for _, text := range []string{"", "p95", "p0<1ms", "p100<1ms", "p95<100", "p95<-1ms", "errors<200%", "rate<-1", "rate<NaN", "p95=1ms", "Cache.p95<1s", "latency<1s"} {
		if a, err := ParseAssertion(text); err == nil {
			t.Errorf("ParseAssertion(%q) = %v, want an error", text, a)
		}
	}
}

func TestAnAssertionWithAFirstWordIsAboutEveryScenarioOfIt(t *testing.T) {
	a := assertion(t, "cache.p95<1s")
	for name, want := range map[string]bool{"cache-get": true, "cache": true, "cached": false, "queue-add": false} {
		if got := a.About(name); got != want {
			t.Errorf("About(%s) = %t, want %t", name, got, want)
		}
	}
}

func TestAPercentileNeedsItsSamples(t *testing.T) {
	for p, want := range map[float64]int64{0.5: 20, 0.95: 200, 0.99: 1000, 0.999: 10000} {
		if got := Needed(p); got != want {
			t.Errorf("Needed(%g) = %d, want %d", p, got, want)
		}
	}
	v := Judge("x", assertion(t, "p95<1s"), steady(199, time.Millisecond), -1)
	if v.Outcome != Inconclusive || v.Value != nil || !strings.Contains(v.Why, "insufficient samples for p95: 199, want 200") {
		t.Errorf("verdict on 199 samples = %+v, want inconclusive and no number", v)
	}
}

func TestAPercentileOfWhatWasAnsweredDoesNotHideWhatFailed(t *testing.T) {
	for failed, want := range map[int64]Outcome{0: Pass, 20: Pass, 60: Inconclusive, 600: Fail} {
		r := steady(1000, time.Millisecond)
		r.Started, r.Planned, r.Errors, r.FirstError = 1000+failed, 1000+failed, map[string]int64{"error": failed}, "reset"
		if v := Judge("x", assertion(t, "p95<1s"), r, -1); v.Outcome != want || (want != Pass && !strings.Contains(v.Why, "first: reset")) {
			t.Errorf("%d of %d failed: %s (%s), want %s", failed, r.Started, v.Outcome, v.Why, want)
		}
	}
}

func TestAVerdictIsPassFailOrNotSure(t *testing.T) {
	r := steady(1000, 100*time.Millisecond) // p95 = 96 ms
	for text, want := range map[string]Outcome{
		"p95<150ms": Pass, "p95<50ms": Fail, "p95<96ms": Inconclusive, "p99<200ms": Pass, "max<102ms": Pass, "mean<10ms": Fail,
		"errors<=0%": Pass, "errors<0.1%": Pass, "limited<1%": Pass, "rate>=90": Pass, "rate>=200": Fail, "commands<=4": Inconclusive, "p99.9<1s": Inconclusive,
	} {
		if v := Judge("x", assertion(t, text), r, -1); v.Outcome != want || (want != Pass && v.Why == "") {
			t.Errorf("%s: %s (%s), want %s", text, v.Outcome, v.Why, want)
		}
	}
	if v := Judge("x", assertion(t, "commands<=4"), r, 5); v.Outcome != Fail || v.Why != "commands is 5, want at most 4" {
		t.Errorf("5 commands: %s (%s), want fail", v.Outcome, v.Why)
	}
	r.Errors = map[string]int64{"timeout": 1}
	r.FirstError = "no reply"
	if v := Judge("x", assertion(t, "errors<=0%"), r, -1); v.Outcome != Fail || !strings.Contains(v.Why, "first: no reply") {
		t.Errorf("one error: %s (%s), want fail with its text", v.Outcome, v.Why)
	}
	if v := Judge("x", assertion(t, "p95<1s"), &Result{}, -1); v.Outcome != Inconclusive {
		t.Errorf("no samples: %s, want inconclusive", v.Outcome)
	}
}

func TestAProgramThatIsItselfLatePassesNothing(t *testing.T) {
	r := steady(1000, time.Millisecond)
	for range 1000 {
		r.Lateness.Record(2 * time.Millisecond)
	}
	if v := Judge("x", assertion(t, "p95<10ms"), r, -1); v.Outcome != Inconclusive || !strings.Contains(v.Why, "generator-limited") {
		t.Errorf("2ms late for a limit of 10ms: %s (%s), want generator-limited", v.Outcome, v.Why)
	}
	if v := Judge("x", assertion(t, "p95<100ms"), r, -1); v.Outcome != Pass {
		t.Errorf("2ms late for a limit of 100ms: %s (%s), want pass", v.Outcome, v.Why)
	}
	if v := Judge("x", assertion(t, "p95<1ms"), r, -1); v.Outcome != Inconclusive {
		t.Errorf("too slow because it was late: %s (%s), want generator-limited", v.Outcome, v.Why)
	}
	for range 1000 {
		r.Service.Record(3 * time.Millisecond)
	}
	if v := Judge("x", assertion(t, "p95<1ms"), r, -1); v.Outcome != Fail {
		t.Errorf("too slow, and late besides: %s (%s), want fail", v.Outcome, v.Why)
	}
}

func TestTheIntervalOfAPercentileHoldsTheTruthAsOftenAsItSays(t *testing.T) {
	const runs = 400 / scale
	for name, bursty := range map[string]bool{"independent": false, "in bursts": true} {
		random := rand.New(rand.NewPCG(1, 2))
		held := 0
		for range runs {
			l := latencies(random, 60, 50, bursty)
			q, err := l.Quantile(0.95)
			if err != nil {
				t.Fatal(err)
			}
			truth := truth95(bursty)
			if q.Low <= truth && truth <= q.High {
				held++
			}
		}
		if share := float64(held) / runs; scale == 1 && (share < 0.90 || share > 0.995) {
			t.Errorf("%s: the 95%% interval held the truth in %.1f%% of runs, want about 95%%", name, share*100)
		}
	}
}

// latencies are slices of n answers: 1 to 2 ms each; in bursts, whole slices are three times
// as slow, one of ten.
func latencies(random *rand.Rand, slices, n int, bursty bool) *Latency {
	l := &Latency{}
	for i := range slices {
		s := Slice{At: time.Duration(i) * time.Second, Latency: Histogram{coarse: true}}
		scale := float64(time.Millisecond)
		if bursty && random.IntN(10) == 0 {
			scale *= 3
		}
		for range n {
			d := time.Duration((1 + random.Float64()) * scale)
			s.Latency.Record(d)
			l.All.Record(d)
		}
		l.Slices = append(l.Slices, s)
	}
	return l
}

// truth95 is the 95th percentile of what latencies draws.
func truth95(bursty bool) time.Duration {
	if bursty { // half of the slow tenth: 3 to 6 ms, its middle
		return 4500 * time.Microsecond
	}
	return 1950 * time.Microsecond
}
