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

func TestWhatLacksEvidenceCanBeVouchedForAndWhatWasMissedCannot(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	note := func(success float64) json.RawMessage {
		raw, err := json.Marshal(SoakNote{Gates: []GateResult{{
			Gate: Gate{KPI: KPIJobSuccess}, Evidence: Evidence{Known: true, Value: success, Samples: 50, Coverage: 1, From: now.Add(-8 * day), To: now},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	before, err := json.Marshal(BaselineNote{At: now, Evidence: map[string]Evidence{KPIJobSuccess: {Known: true, Value: 97, Samples: 400, Coverage: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		soak json.RawMessage
		want Verdict
	}{"nothing was measured": {nil, GatePass}, "it was missed": {note(80), GateFail}, "it was reached": {note(99), GatePass}} {
		s := Standing{Target: Target{Phase: "phase3", Prefix: "bull", Queue: "mail"}, State: State{
			Since:  now.Add(-9 * day),
			Signed: []Signature{{KPI: "job success", By: "Ann", At: now}},
			Steps: []StepState{
				{Name: "phase3.preflight-baseline", Mark: Applied, Checkpoint: before}, {Name: "phase3.soak", Mark: Applied, Checkpoint: tt.soak},
			},
		}}
		for _, a := range Assess(s, nil, now) {
			if a.Name != "job success" {
				continue
			}
			if a.Verdict != tt.want || !a.Before.Known || a.Before.Value != 97 {
				t.Errorf("%s: %s, %s, before %+v, want %s and 97 before", name, a.Verdict, a.Why, a.Before, tt.want)
			}
		}
		if !s.State.Vouched("phase3", KPIJobSuccess) || s.State.Vouched("phase3", KPIConnections) {
			t.Errorf("%s: Vouched is wrong about who vouched for what", name)
		}
	}
}
