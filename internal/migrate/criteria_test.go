package migrate

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/migrate/journal"
	"github.com/redisopt/redisopt/internal/runtime/history"
)

func TestAReportComparesTheDayBeforeWithTheTimeSince(t *testing.T) {
	began := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	changed, now := began.Add(time.Hour), began.Add(26*time.Hour)
	var samples []history.Sample
	for at := began.Add(-24 * time.Hour); at.Before(now); at = at.Add(time.Minute) {
		x := history.Sample{Time: at, Span: time.Minute, Commands: 73, Connections: 42}
		if at.After(changed) {
			x.Commands, x.Connections = 40, 36
		}
		samples = append(samples, x)
	}
	hits, err := json.Marshal(SoakNote{Gates: []GateResult{{
		Gate: Gate{KPI: KPIHitRate}, Evidence: Evidence{Value: 91, Known: true, From: changed, To: now, Samples: 5000, Coverage: 1},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	s := Standing{
		Target: Target{Phase: "phase1"},
		State: State{
			Stage: Complete, Since: began,
			Steps:  []StepState{{Name: "phase1.ramp-100", Mark: Applied}, {Name: "phase1.soak", Mark: Applied, Checkpoint: hits}},
			Signed: []Signature{{KPI: "team", By: "ann"}, {KPI: "team", By: "bob"}},
		},
		Entries: []journal.Entry{
			{Kind: journal.Begin, Time: began},
			{Kind: journal.Done, Step: "phase1.ramp-100", Time: changed},
			{Kind: journal.Done, Step: "phase1.soak", Time: now},
		},
	}
	got := map[string]Assessment{}
	for _, a := range Assess(s, samples, now) {
		got[a.Name] = a
	}
	for name, want := range map[string]struct {
		before, after float64
		verdict       Verdict
	}{
		"connections":       {42, 36, GatePass},
		"commands":          {105120, 57600, GatePass},
		"connection errors": {0, 0, GatePass},
		"hit rate":          {0, 91, GatePass},
		"p95":               {0, 0, GateInconclusive}, // nobody measured it
		"users":             {0, 0, GateInconclusive}, // nobody vouched
		"team":              {0, 0, GatePass},
	} {
		a := got[name]
		if a.Before.Value != want.before || a.After.Value != want.after || a.Verdict != want.verdict {
			t.Errorf("%s: %g to %g, %s (%s), want %+v", name, a.Before.Value, a.After.Value, a.Verdict, a.Why, want)
		}
	}
	if by := got["team"].Signed; by == nil || by.By != "bob" {
		t.Errorf("the team's signature is %+v, want the last one", by)
	}
	for _, a := range Assess(s, samples, changed.Add(2*time.Hour)) {
		if a.Name == "connections" && a.Verdict != GateInconclusive {
			t.Errorf("after two hours of 24 it is %s (%s), want inconclusive", a.Verdict, a.Why)
		}
	}
}
