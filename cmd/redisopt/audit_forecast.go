package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/inspect/commands"
	"github.com/redisopt/redisopt/internal/inspect/forecast"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/history"
)

// forecastData is what the month will come to: a field of audit.commands/v1.
type forecastData struct {
	forecast.Forecast

	// Counted is "server", or "serve" where only what redisopt serve itself sent was sampled.
	Counted string `json:"counted"`
	Samples int    `json:"samples"`

	// Budget is the configured one, 0 for none. RunsOut is the day on which it is spent, empty where that is
	// not in this month; Earliest and Latest are those of the band.
	Budget   int64  `json:"budget_commands_per_month"`
	RunsOut  string `json:"runs_out,omitempty"`
	Earliest string `json:"runs_out_earliest,omitempty"`
	Latest   string `json:"runs_out_latest,omitempty"`
}

const (
	countedServer = "server"
	countedServe  = "serve"
)

// forecastMonth adds the window just measured to the history, unless somebody else writes it, and forecasts
// the month from it.
func (a *app) forecastMonth(f commandsFlags, conf *config.Config, r *commands.Report) (*forecastData, error) {
	zone, err := time.LoadLocation(f.zone)
	if err != nil {
		return nil, usagef("--zone: %w", err)
	}
	dir, now := conf.Serve.StateDir, a.now()
	if !a.flags.dryRun && !r.Partial && r.Observable == commands.ByCommand {
		if err := appendSample(dir, sampleOf(r, now)); err != nil {
			return nil, err
		}
	}
	samples, err := history.Read(dir, now.Add(-history.Slots*history.Interval), now.Add(time.Second))
	if err != nil {
		return nil, err
	}
	return forecastOf(samples, now, zone, conf.Budgets.Commands.PerMonth), nil
}

// forecastOf forecasts from samples of the whole server where there are any, else from those of serve.
func forecastOf(samples []history.Sample, now time.Time, zone *time.Location, budget int64) *forecastData {
	d := &forecastData{Counted: countedServer, Budget: budget}
	taken := takeSamples(samples, history.FromInfo|history.FromCommandStats|history.FromProvider)
	if len(taken) == 0 {
		if taken = takeSamples(samples, history.FromMeter); len(taken) > 0 {
			d.Counted = countedServe
		}
	}
	d.Samples = len(taken)
	d.Forecast = forecast.Month(taken, now, zone)
	d.RunsOut, d.Earliest, d.Latest = d.RunOut(float64(budget))
	return d
}

// takeSamples are the samples from the given sources, of real servers, with what their scripts ran.
func takeSamples(samples []history.Sample, from history.Source) []forecast.Sample {
	var out []forecast.Sample
	for _, s := range samples {
		if s.Source&from == 0 || s.Source&history.Embedded != 0 || s.Commands < 0 {
			continue
		}
		out = append(out, forecast.Sample{At: s.Time, Span: s.Span, Commands: float64(s.Commands + max(0, s.InScript))})
	}
	return out
}

// sampleOf is the window of an audit as the history keeps it.
func sampleOf(r *commands.Report, now time.Time) history.Sample {
	share := r.WindowSeconds / (30 * 24 * 3600)
	return history.Sample{
		Time: now, Span: time.Duration(r.WindowSeconds * float64(time.Second)), Source: history.FromCommandStats,
		Commands: int64(r.Projection.TopPerMonth * share), InScript: int64((r.Projection.AllPerMonth - r.Projection.TopPerMonth) * share),
		Writes: history.Unknown, Errors: history.Unknown, Connections: history.Unknown, MemoryBytes: history.Unknown,
	}
}

// appendSample writes s into the history in dir. Where redisopt serve writes it, that has samples of its own.
func appendSample(dir string, s history.Sample) error {
	ring, err := history.Open(dir)
	if errors.Is(err, history.ErrLocked) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(ring.Append(s), ring.Close())
}

// findings are what the forecast means for the budget.
func (d *forecastData) findings() []inspect.Finding {
	if d.Inconclusive != "" || d.Budget <= 0 || d.High < float64(d.Budget) {
		return nil
	}
	f := inspect.Finding{
		Rule: "month-runs-out", Severity: inspect.Note, Subject: "month",
		Message: fmt.Sprintf("the month may come to %s commands of a budget of %s: %s are expected, %s to %s with 80%% confidence",
			commands.Millions(d.High), commands.Millions(float64(d.Budget)), commands.Millions(d.Expected), commands.Millions(d.Low), commands.Millions(d.High)),
		Remedy: "redisopt audit commands --by queue shows who spends, redisopt audit plan what another plan costs",
	}
	if d.Expected >= float64(d.Budget) {
		f.Severity = inspect.Warning
		f.Message = fmt.Sprintf("the budget of %s commands will be spent on %s, and %s by the end of the month (%s to %s with 80%% confidence)",
			commands.Millions(float64(d.Budget)), d.RunsOut, commands.Millions(d.Expected), commands.Millions(d.Low), commands.Millions(d.High))
	}
	if d.Low >= float64(d.Budget) {
		f.Severity = inspect.Critical
	}
	return []inspect.Finding{f}
}

func forecastSection(d *forecastData) report.Section {
	s := report.Section{Title: "The month"}
	if d.Inconclusive != "" {
		s.Text = "inconclusive: " + d.Inconclusive
		return s
	}
	run := "not in this month"
	if d.RunsOut != "" {
		run = fmt.Sprintf("%s, %s at the earliest", d.RunsOut, d.Earliest)
	} else if d.Earliest != "" {
		run = "perhaps, " + d.Earliest + " at the earliest"
	}
	s.Fields = []report.Field{
		{Name: "to date", Value: fmt.Sprintf("%s, %s of it estimated", commands.Millions(d.Spent), commands.Millions(d.Estimated))},
		{Name: "expected", Value: fmt.Sprintf("%s by %s (%s)", commands.Millions(d.Expected), d.End.AddDate(0, 0, -1).Format(time.DateOnly), d.Zone)},
		{Name: "80% band", Value: commands.Millions(d.Low) + " to " + commands.Millions(d.High)},
		{Name: "from", Value: fmt.Sprintf("%d days, %d samples: %s", d.History, d.Samples, d.Model)},
	}
	if d.Budget > 0 {
		s.Fields = append(s.Fields, report.Field{Name: "budget spent", Value: run})
	}
	return s
}

// forecastNotes are what the numbers stand for.
func forecastNotes(d *forecastData) []string {
	notes := []string{"assumed: the forecast counts every command, free ones and those in scripts too"}
	if d.Counted == countedServe {
		notes = append(notes, "not observed: what others than redisopt serve sent; the history has only its own commands")
	}
	return notes
}
