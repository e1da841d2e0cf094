package scenario_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/bench/scenario"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// chosen are the scenarios of these names.
func chosen(t testing.TB, names ...string) []scenario.Scenario {
	t.Helper()
	out, err := scenario.Choose(names, true)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// brief is a run that takes no time.
func brief(rate float64) bench.Options {
	return bench.Options{Pace: bench.Pace{Rate: rate, Duration: 400 * time.Millisecond}, WarmUp: 50 * time.Millisecond, Timeout: 20 * time.Second}
}

func TestCommandsAreThoseOfTheRecordedOperations(t *testing.T) {
	p := scenario.Plan{
		Target: open(t, redistest.Start(t).URL()), Scenarios: chosen(t, "cache-set", "legacy-limit", "limit-cold"),
		Options: scenario.Options{Keys: 20}, Run: brief(100),
	}
	measured, err := scenario.Measure(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []float64{1, 4, 4} {
		if got := measured[i].CommandsPerOperation(); got < want || got > want+0.2 { // a script may have to be sent first
			t.Errorf("%s costs %.2f commands, want %g", measured[i].Name, got, want)
		}
	}
	if got := measured[0].Result.Server.Count(); got < measured[0].Result.Done {
		t.Errorf("%d times of the server, want one for each of %d operations", got, measured[0].Result.Done)
	}
	if spent := p.Target.Upstream.Spent(); spent.Commands+spent.InScript > p.Commands() {
		t.Errorf("%d commands were spent, and at most %d announced", spent.Commands+spent.InScript, p.Commands())
	}
}

func TestARunStopsBeforeItSpendsMoreThanItMay(t *testing.T) {
	p := scenario.Plan{
		Target: open(t, redistest.Start(t).URL()), Scenarios: chosen(t, "legacy-limit"), Options: scenario.Options{Keys: 20},
		Run: brief(500), MaxCommands: 500,
	}
	measured, err := scenario.Measure(t.Context(), p)
	if err != nil || len(measured) != 1 {
		t.Fatalf("Measure = %d scenarios, %v", len(measured), err)
	}
	spent := p.Target.Upstream.Spent()
	if got := spent.Commands + spent.InScript; got > 500 || got < 200 || !strings.Contains(measured[0].Result.Stopped, "may be spent") {
		t.Errorf("spent %d of 500, stopped: %q", got, measured[0].Result.Stopped)
	}
}

// patience is how long an operation on a target that dies is waited for: longer than a busy machine is late with one on
// a target that lives.
const patience = 10 * time.Second

func TestATargetThatDiesKeepsWhatWasMeasuredBefore(t *testing.T) {
	server := redistest.Start(t)
	target := open(t, server.URL())
	p := scenario.Plan{Target: target, Scenarios: chosen(t, "cache-set", "cache-get"), Options: scenario.Options{Keys: 20, Timeout: patience}, Run: brief(50)}
	p.Run.Timeout = patience
	p.Begin = func(_ scenario.Scenario, i, _ int) {
		if i == 1 {
			server.Stop(t)
		}
	}
	measured, err := scenario.Measure(t.Context(), p)
	if err == nil || len(measured) != 2 || measured[0].Result.Done == 0 || measured[1].Result.Failed() == 0 {
		t.Fatalf("Measure = %d scenarios, %v; want the first one whole, the errors of the second, and an error", len(measured), err)
	}
	if class := upstream.Classify(err); class == upstream.None || class == upstream.Unknown {
		t.Errorf("class = %q of %v, want one that says that nobody answers", class, err)
	}
}

func TestATargetThatDiesDuringARunIsToldAsSuchWithWhatWasMeasured(t *testing.T) {
	for _, name := range []string{"cache-get", "limit-cold"} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			p := scenario.Plan{Target: open(t, server.URL()), Scenarios: chosen(t, name, "limit-denied"), Options: scenario.Options{Keys: 20, Timeout: patience}, Run: brief(50)}
			p.Run.Pace.Duration, p.Run.Timeout = 1500*time.Millisecond, 2*patience
			var asked atomic.Int64
			p.Run.Stop = func() error {
				if asked.Add(1) == 25 {
					server.Stop(t)
				}
				return nil
			}
			measured, err := scenario.Measure(t.Context(), p)
			if len(measured) != 1 || measured[0].Result.Done == 0 || measured[0].Result.Failed() < 10 {
				t.Fatalf("Measure = %d scenarios, %v; want one in part", len(measured), err)
			}
			if err == nil || !strings.Contains(err.Error(), name+": the target stopped answering, the last ") {
				t.Errorf("err = %v, want that the target stopped answering", err)
			}
			if class := upstream.Classify(err); class == upstream.None || class == upstream.Unknown {
				t.Errorf("class = %q of %v, want one that says that nobody answers", class, err)
			}
		})
	}
}

func TestTwoTargetsRunTheSameScenarioInTurns(t *testing.T) {
	a, b := open(t, redistest.Start(t).URL()), open(t, redistest.Start(t).URL())
	run := bench.AlternateOptions{Pairs: 2, Run: brief(100)}
	x, err := scenario.Alternate(t.Context(), chosen(t, "cache-get")[0], a, b, scenario.Options{Keys: 20}, run)
	if err != nil || len(x.Pairs) != 2 || x.A.Done != x.B.Done || x.A.Done == 0 {
		t.Fatalf("Alternate = %+v, %v", x, err)
	}
	nothingLeft(t, a)
	nothingLeft(t, b)
}

func TestATargetThatDiesBetweenTurnsIsToldWithThePairsBefore(t *testing.T) {
	server := redistest.Start(t)
	a, b := open(t, redistest.Start(t).URL()), open(t, server.URL())
	run := bench.AlternateOptions{Pairs: 3, Run: brief(50)}
	run.Run.Timeout = patience
	var began int
	run.Run.OnBegin = func() {
		if began++; began == 3 {
			server.Stop(t)
		}
	}
	x, err := scenario.Alternate(t.Context(), chosen(t, "cache-get")[0], a, b, scenario.Options{Keys: 20, Timeout: patience}, run)
	if x == nil || len(x.Pairs) == 0 || x.B.Failed() == 0 {
		t.Fatalf("Alternate = %+v, want the pairs", x)
	}
	if class := upstream.Classify(err); class == upstream.None || class == upstream.Unknown {
		t.Errorf("class = %q of %v, want one that says that nobody answers", class, err)
	}
	nothingLeft(t, a)
}

func TestABudgetForNothingIsAnErrorAndCleanedUp(t *testing.T) {
	p := scenario.Plan{
		Target: open(t, redistest.Start(t).URL()), Scenarios: chosen(t, "cache-get"), Options: scenario.Options{Keys: 20},
		Run: brief(100), MaxCommands: 40,
	}
	_, err := scenario.Measure(t.Context(), p)
	if b, ok := errors.AsType[*scenario.BudgetError](err); !ok || b.Max != 40 {
		t.Errorf("Measure = %v, want a *BudgetError", err)
	}
	nothingLeft(t, p.Target)
}

func TestALoadThatCannotBeIsRefusedBeforeAnythingIsSent(t *testing.T) {
	p := scenario.Plan{Target: open(t, redistest.Start(t).URL()), Scenarios: chosen(t, "cache-get"), Run: brief(-5)}
	before := p.Target.Upstream.Spent().Commands
	if measured, err := scenario.Measure(t.Context(), p); err == nil || len(measured) != 0 {
		t.Errorf("Measure = %v, %v; want an error alone", measured, err)
	}
	if got := p.Target.Upstream.Spent().Commands; got != before {
		t.Errorf("%d commands were sent", got-before)
	}
}

func TestFaultsAreFelt(t *testing.T) {
	for text, c := range map[string]struct {
		fails bool // and the run ends then
		felt  func(r *bench.Result) bool
	}{
		"latency=60ms": {false, func(r *bench.Result) bool { return r.Failed() == 0 && r.Latency.All.Mean() > 60*time.Millisecond }},
		"drop=30%":     {true, func(r *bench.Result) bool { return r.Failed() > 0 }},
		"quota=60":     {true, func(r *bench.Result) bool { return r.Failed() > 0 && r.Done > 0 }},
	} {
		t.Run(text, func(t *testing.T) {
			faults, err := scenario.ParseFaults(text)
			if err != nil {
				t.Fatal(err)
			}
			server, err := scenario.StartEmbedded(t.Context(), faults)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := server.Close(); err != nil {
					t.Error(err)
				}
			}()
			up, err := upstream.Open(t.Context(), upstream.Options{URL: server.URL, Shared: true, Lazy: true})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = up.Close() }()
			p := scenario.Plan{Target: scenario.Target{Upstream: up}, Scenarios: chosen(t, "cache-set"), Options: scenario.Options{Keys: 20}, Run: brief(300)}
			if c.fails {
				var failed atomic.Bool
				p.Run.WarmUp, p.Run.Pace.Duration = -1, time.Minute
				p.Run.Class = func(err error) string { failed.Store(true); return scenario.Class(err) }
				p.Run.Stop = func() error {
					if failed.Load() {
						return errors.New("felt")
					}
					return nil
				}
			}
			measured, _ := scenario.Measure(t.Context(), p) // cleaning up may meet the fault too
			if len(measured) != 1 || !c.felt(measured[0].Result) {
				t.Errorf("%s was not felt: %+v", text, measured)
			}
		})
	}
	for _, text := range []string{"", "latency=1h", "drop=200%", "quota=0", "connections=x", "fire=1"} {
		if _, err := scenario.ParseFaults(text); err == nil {
			t.Errorf("ParseFaults(%q) did not fail", text)
		}
	}
}

func TestABudgetThatIsTooSmallSaysHowSmall(t *testing.T) {
	err := error(&scenario.BudgetError{Want: 900, Max: 100})
	if b, ok := errors.AsType[*scenario.BudgetError](err); !ok || b.Want != 900 || !strings.Contains(err.Error(), "900") {
		t.Errorf("error = %v", err)
	}
}
