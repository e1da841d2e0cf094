package main

import (
	"math"
	"testing"
	"time"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/inspect/commands"
	"github.com/redisopt/redisopt/internal/runtime/history"
)

// historyOf has 34 days of one sample an hour: 500 commands and 500 in scripts, less on weekends.
func historyOf(source history.Source, now time.Time) []history.Sample {
	var all []history.Sample
	for at := now.AddDate(0, 0, -34); !at.After(now); at = at.Add(time.Hour) {
		n := int64(500)
		if w := at.Add(-time.Minute).Weekday(); w == time.Saturday || w == time.Sunday {
			n = 200
		}
		all = append(all, history.Sample{Time: at, Span: time.Hour, Commands: n, InScript: n, Source: source})
	}
	return all
}

func TestAForecastSaysWhenTheBudgetRunsOut(t *testing.T) {
	now := time.Date(2026, 11, 12, 0, 0, 0, 0, time.UTC)
	d := forecastOf(historyOf(history.FromCommandStats, now), now, time.UTC, 500_000)
	// November 2026 has 21 weekdays and 9 days of weekends.
	if want := 21*24_000 + 9*9_600.0; math.Abs(d.Expected-want) > 500 || d.Counted != countedServer {
		t.Errorf("got %+v, want %.0f commands", d, want)
	}
	if f := d.findings(); d.RunsOut != "2026-11-26" || len(f) != 1 || f[0].Severity != inspect.Critical {
		t.Errorf("runs out on %s, %+v", d.RunsOut, f)
	}
	if f := forecastOf(historyOf(history.FromCommandStats, now), now, time.UTC, 900_000).findings(); len(f) != 0 {
		t.Errorf("a budget that is enough: %+v", f)
	}
	if d := forecastOf(historyOf(history.FromMeter, now), now, time.UTC, 0); d.Counted != countedServe || d.Inconclusive != "" {
		t.Errorf("got %+v, want a forecast of serve's own commands", d)
	}
	if d := forecastOf(historyOf(history.FromMeter|history.Embedded, now), now, time.UTC, 0); d.Inconclusive == "" {
		t.Errorf("forecast of an embedded Redis: %+v", d)
	}
}

func TestTheForecastIsShownInEveryFormat(t *testing.T) {
	now := time.Date(2026, 11, 12, 0, 0, 0, 0, time.UTC)
	r := &commands.Report{Observable: commands.ByCommand, WindowSeconds: 60, Provider: "none"}
	data := commandsData{Report: r, Forecast: forecastOf(historyOf(history.FromInfo, now), now, time.UTC, 500_000)}
	r.Findings = data.Forecast.findings()
	for _, format := range report.Formats() {
		wantGolden(t, "audit.commands.forecast", format, commandsDocument(data, commandsFlags{by: choice{value: "component"}}))
	}
}

func TestAnAuditAddsItsWindowToTheHistoryAndLeavesThatOfServeAlone(t *testing.T) {
	dir, now := t.TempDir(), time.Date(2026, 11, 12, 0, 0, 0, 0, time.UTC)
	r := &commands.Report{WindowSeconds: 60}
	r.Projection.TopPerMonth, r.Projection.AllPerMonth = 43_200*100, 43_200*250
	if err := appendSample(dir, sampleOf(r, now)); err != nil {
		t.Fatal(err)
	}
	got, err := history.Read(dir, now.Add(-time.Hour), now.Add(time.Hour))
	if err != nil || len(got) != 1 || got[0].Commands != 100 || got[0].InScript != 150 || got[0].Span != time.Minute {
		t.Fatalf("got %+v, %v, want 100 commands and 150 in scripts", got, err)
	}
	ring, err := history.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ring.Close() }()
	if err := appendSample(dir, sampleOf(r, now)); err != nil {
		t.Errorf("another process writes the history: %v, want nothing done", err)
	}
}
