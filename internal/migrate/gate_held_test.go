package migrate

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestADefaultOnCommandsIsOnlyARemarkWhereItWasBeyondBefore(t *testing.T) {
	now := time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)
	ptr := func(v float64) *float64 { return &v }
	gate := Gate{KPI: KPICommandsPerDay, Unit: "commands/day", Limit: 70_000, MinWindow: day, Held: true}
	for name, tt := range map[string]struct {
		gate    Gate
		window  time.Duration
		value   float64
		before  *float64
		verdict Verdict
		remark  bool
		why     string
	}{
		"kept before and now":                       {gate, day, 69_000, ptr(60_000), GatePass, false, "69000 commands/day, want at most 70000, 60000 before"},
		"kept before and not now":                   {gate, day, 71_000, ptr(60_000), GateFail, false, "60000 before"},
		"not kept before either":                    {gate, day, 105_000, ptr(104_000), GateFail, true, "104000 before; a remark"},
		"not kept before, but now":                  {gate, day, 12_000, ptr(104_000), GatePass, true, "104000 before"},
		"nobody knows how it was before":            {gate, day, 105_000, nil, GateFail, true, "a remark"},
		"a window that is too short to pass":        {gate, day - time.Second, 1, ptr(1), GateInconclusive, false, "a window of 23h59m59s is too short for it, want at least 24h0m0s"},
		"a window that is too short to fail":        {gate, time.Hour, 900_000, ptr(1), GateInconclusive, false, "too short"},
		"somebody asked for it, whatever it was":    {Gate{KPI: KPICommandsPerDay, Limit: 70_000}, day, 105_000, ptr(104_000), GateFail, false, "104000 before"},
		"the least that must be, and was not there": {Gate{KPI: KPIHitRate, Limit: 80, AtLeast: true, Held: true}, day, 70, ptr(60), GateFail, true, "want at least 80"},
	} {
		r := tt.gate.Judge(Evidence{Value: tt.value, Known: true, Before: tt.before, From: now.Add(-tt.window), To: now, Samples: 300, Coverage: 1})
		if r.Verdict != tt.verdict || r.Remark != tt.remark || !strings.Contains(r.Why, tt.why) {
			t.Errorf("%s: %s, remark %t, %q; want %s, %t, %q", name, r.Verdict, r.Remark, r.Why, tt.verdict, tt.remark, tt.why)
		}
	}
}

// told is a Watch that says the same of everything.
type told Evidence

func (e told) Read(_ context.Context, _ string, from, to time.Time) (Evidence, error) {
	e.From, e.To = from, to
	return Evidence(e), nil
}

func TestARemarkHoldsNoSoakUpAndABindingGateDoes(t *testing.T) {
	before := 60_000.0
	for name, tt := range map[string]struct {
		limit float64
		fails bool
	}{"it was beyond the limit before": {50_000, false}, "it kept the limit before": {65_000, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				soak, err := NewSoak(SoakOptions{
					Name: "phase1.soak", For: 24 * time.Hour,
					Gates: []Gate{{KPI: KPICommandsPerDay, Limit: tt.limit, MinWindow: 24 * time.Hour, Held: true}},
					Env:   Env{Watch: told{Value: 66_000, Known: true, Before: &before, Samples: 300, Coverage: 1}},
				})
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				if err := soak.Apply(t.Context()); (err != nil) != tt.fails {
					t.Errorf("the soak ended with %v, fails want %t", err, tt.fails)
				}
				if took := time.Since(began); took < 24*time.Hour {
					t.Errorf("it took %s, and less than a day tells nothing of a day", took)
				}
			})
		})
	}
}
