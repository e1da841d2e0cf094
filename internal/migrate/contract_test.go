package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestAGateNeverPassesOnTooLittle(t *testing.T) {
	baseline := 100.0
	known := Evidence{Value: 5, Known: true, Samples: 60, Coverage: 1}
	for name, c := range map[string]struct {
		gate Gate
		e    Evidence
		want Verdict
	}{
		"a value at the limit passes":                  {Gate{Limit: 5}, known, GatePass},
		"a value over the limit fails":                 {Gate{Limit: 4}, known, GateFail},
		"at least turns it round":                      {Gate{Limit: 6, AtLeast: true}, known, GateFail},
		"at least passes at the limit":                 {Gate{Limit: 5, AtLeast: true}, known, GatePass},
		"nothing measured is inconclusive":             {Gate{Limit: 5}, Evidence{}, GateInconclusive},
		"too few samples are inconclusive":             {Gate{Limit: 5, MinSamples: 61}, known, GateInconclusive},
		"a gap is inconclusive":                        {Gate{Limit: 5}, Evidence{Value: 5, Known: true, Samples: 60, Coverage: 0.94}, GateInconclusive},
		"a failure needs no full window":               {Gate{Limit: 4}, Evidence{Value: 5, Known: true, Samples: 1, Coverage: 0.1}, GateFail},
		"any coverage is enough where that is allowed": {Gate{Limit: 5, MinCoverage: -1}, Evidence{Value: 5, Known: true, Samples: 1}, GatePass},
		"ten percent over the baseline passes":         {Gate{Limit: 10, Baseline: &baseline}, Evidence{Value: 110, Known: true, Samples: 1, Coverage: 1}, GatePass},
		"eleven percent over the baseline fails":       {Gate{Limit: 10, Baseline: &baseline}, Evidence{Value: 111, Known: true, Samples: 1, Coverage: 1}, GateFail},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.gate.Judge(c.e)
			if got.Verdict != c.want {
				t.Errorf("Judge = %s (%s), want %s", got.Verdict, got.Why, c.want)
			}
			if got.Verdict == GateInconclusive && len(got.Evidence.Missing) == 0 {
				t.Error("it does not say what is missing")
			}
		})
	}
}

// A story is a Watch that tells one value, and a journal of one step.
type story struct {
	value func(from, to time.Time) Evidence
	note  json.RawMessage
	notes int
}

func (s *story) Read(_ context.Context, _ string, from, to time.Time) (Evidence, error) {
	return s.value(from, to), nil
}

func (s *story) env() Env {
	return Env{
		Checkpoint: func(_ context.Context, _ string, detail any) error {
			s.notes++
			var err error
			s.note, err = json.Marshal(detail)
			return err
		},
		Last:  func(string) json.RawMessage { return s.note },
		Watch: s,
	}
}

func well(from, to time.Time) Evidence {
	return Evidence{Known: true, From: from, To: to, Samples: 10, Coverage: 1}
}

func newSoak(t *testing.T, opts SoakOptions) *Soak {
	t.Helper()
	opts.Name = "phase1.soak"
	s, err := NewSoak(opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestASoakLastsADayAlsoWhenItIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &story{value: well}
		began := time.Now()
		gates := []Gate{{KPI: KPIConnectionErrors}}
		half, cancel := context.WithTimeout(t.Context(), 12*time.Hour)
		defer cancel()
		if err := newSoak(t, SoakOptions{Gates: gates, Env: s.env()}).Apply(half); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Apply = %v, want the end of its context", err)
		}
		again := newSoak(t, SoakOptions{Gates: gates, Env: s.env()})
		if err := again.Verify(t.Context()); !errors.Is(err, ErrNotApplied) {
			t.Errorf("Verify half-way = %v, want %v", err, ErrNotApplied)
		}
		time.Sleep(3 * time.Hour) // nobody hosts it, and the history says that everything was well
		if err := again.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 24*time.Hour || took > 24*time.Hour+time.Minute {
			t.Errorf("it took %s, want a day", took)
		}
		if err := again.Verify(t.Context()); err != nil {
			t.Errorf("Verify = %v, want nil", err)
		}
		if s.notes > 3 {
			t.Errorf("%d checkpoints for a day in which nothing changed, want at most 3", s.notes)
		}
	})
}

func TestASoakWaitsForEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s := &story{value: func(from, to time.Time) Evidence {
			e := well(from, to)
			if dark := began.Add(2 * time.Hour); from.Before(dark) { // nobody watched the first two hours
				e.Coverage = 1 - float64(dark.Sub(from))/float64(to.Sub(from))
			}
			return e
		}}
		if err := newSoak(t, SoakOptions{Gates: []Gate{{}}, Env: s.env()}).Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		// 5% of a day may be missing, 72 minutes: the window moves until no more than that is dark.
		if took, want := time.Since(began), 24*time.Hour+48*time.Minute; took < want || took > want+2*time.Minute {
			t.Errorf("it took %s, want %s", took, want)
		}
	})
}

func TestASoakFailsOnlyAfterFailuresInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		s := &story{value: func(from, to time.Time) Evidence {
			e := well(from, to)
			looks++
			if looks%3 != 0 && looks < 9 || looks >= 20 { // two in a row are forgiven
				e.Value = 1
			}
			return e
		}}
		err := newSoak(t, SoakOptions{Gates: []Gate{{KPI: KPIConnectionErrors}}, Env: s.env()}).Apply(t.Context())
		failed, ok := errors.AsType[*GateError](err)
		if !ok || looks != 22 {
			t.Fatalf("Apply = %v after %d looks, want a *GateError after 22", err, looks)
		}
		if len(failed.Results) != 1 || failed.Results[0].Gate.KPI != KPIConnectionErrors {
			t.Errorf("it names %+v, want the gate of connection errors", failed.Results)
		}
	})
}

func TestAPaceKeepsItsRateAndFollowsChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pace
		p.SetRate(100)
		began := time.Now()
		for range 20 {
			if err := p.Wait(t.Context(), 50); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 9500*time.Millisecond { // the last one is not waited for
			t.Errorf("1,000 at 100/s took %s, want 9.5s", took)
		}
		p.Throttle("budget")
		passed := make(chan error)
		go func() { passed <- p.Wait(t.Context(), 1) }()
		time.Sleep(3 * time.Hour)
		select {
		case err := <-passed:
			t.Log(err)
			t.Fatal("it passed while it was throttled")
		default:
		}
		p.Release()
		if err := <-passed; err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		p.Throttle("latency")
		why := errors.New("paused")
		cancel(why)
		if err := p.Wait(ctx, 1); !errors.Is(err, why) {
			t.Errorf("Wait = %v, want the cause", err)
		}
	})
}

func TestNamesOfStepsSayWhatTheyAreFor(t *testing.T) {
	for name, want := range map[string]StepKind{
		"phase1.preflight": ForPreflight, "phase1.shadow": ForShadow, "phase1.ramp-5": ForRamp,
		"phase1.hold-5": ForSoak, "phase1.soak": ForSoak, "phase3.move": ForRamp, "phase2.pause-mail.soak": ForRamp,
		"phase3.verify": ForVerify, "": ForRamp,
	} {
		if got := KindOf(name); got != want {
			t.Errorf("KindOf(%q) = %s, want %s", name, got, want)
		}
	}
}

func TestAnOutlineIsRefusedOnlyForWhatBlocks(t *testing.T) {
	o := Outline{Problems: []Problem{{Rule: "flow", Message: "job 7 stays"}}}
	if err := o.Refused(); err != nil {
		t.Errorf("Refused = %v, want nil", err)
	}
	o.Problems = append(o.Problems, Problem{Rule: "quota", Message: "too little is left", Blocking: true})
	refused, ok := errors.AsType[*RefusedError](o.Refused())
	if !ok || len(refused.Problems) != 1 || refused.Problems[0].Rule != "quota" {
		t.Errorf("Refused = %v, want the quota alone", o.Refused())
	}
	text, err := json.Marshal(Outline{}.Normal())
	if err != nil {
		t.Fatal(err)
	}
	var lists map[string]json.RawMessage
	if err := json.Unmarshal(text, &lists); err != nil {
		t.Fatal(err)
	}
	for name, value := range lists {
		if string(value) == "null" {
			t.Errorf("%s is null", name)
		}
	}
}
