package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect/commands"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// commandsFlags are the flags of audit commands.
type commandsFlags struct {
	gateFlags
	window   time.Duration
	by       choice
	provider choice
	deep     bool
	forecast bool
	zone     string
}

func (a *app) auditCommandsCommand() *cobra.Command {
	f := commandsFlags{
		by:       choice{value: "component", allowed: []string{"component", "command", "queue", "client"}},
		provider: choice{allowed: commands.Providers()},
	}
	cmd := &cobra.Command{
		Use:   "commands",
		Short: "Who spends commands: component, queue, command, script; idle cost; projected month",
		Long: `Reads INFO commandstats twice, tells what clients sent from what their scripts ran, finds
idle polling and prices a month. Reads only; never MONITOR, never CONFIG RESETSTAT.`,
		Example: `  redisopt audit commands --window 60s --by queue
  redisopt audit commands --provider upstash-free -o json
  redisopt audit commands --forecast                         every hour, for a forecast of the month`,
		Args: cobra.NoArgs,
		PreRunE: func(*cobra.Command, []string) error {
			if _, err := time.LoadLocation(f.zone); err != nil {
				return fmt.Errorf("--zone: %w", err)
			}
			if f.window < time.Second {
				return fmt.Errorf("--window: got %s, want at least 1s", f.window)
			}
			return nil
		},
		RunE: a.action(func(ctx context.Context, _ []string) error { return a.auditCommands(ctx, f) }),
	}
	set := cmd.Flags()
	f.register(set)
	set.DurationVar(&f.window, "window", time.Minute, "measure for this long")
	set.Var(&f.by, "by", "show shares by component, command, queue or client")
	set.Var(&f.provider, "provider", "price like "+strings.Join(commands.Providers(), ", "))
	set.BoolVar(&f.deep, "deep", false, "also ask each queue whether something is delayed: one command per queue")
	set.BoolVar(&f.forecast, "forecast", false, "say what the month will come to, from the history; the window is added to it")
	set.StringVar(&f.zone, "zone", "UTC", "with --forecast: the month and its days are those of this time `zone`")
	set.String(stateDirFlag, "", "with --forecast: the history is in this `directory` (default: that of redisopt serve)")
	return cmd
}

func (a *app) auditCommands(ctx context.Context, f commandsFlags) error {
	return a.withRedis(ctx, redisUse{component: meter.Audit}, func(up *upstream.Upstream, conf *config.Config) error {
		bar := a.progress("seconds")
		bar.begin("measure commands for "+f.window.String(), 0)
		r, err := commands.Audit(ctx, up.Client(), commands.Options{
			Window: f.window, Provider: f.provider.value, Deep: f.deep, Budget: conf.Budgets.Commands.PerMonth,
			Progress: func(time.Duration, time.Duration) { bar.update(0, 0) },
		})
		bar.finish()
		if err != nil {
			if _, reset := errors.AsType[*commands.ResetError](err); reset {
				return withHint(err, "redisopt audit commands --window "+f.window.String())
			}
			return err
		}
		data := a.askUpstash(ctx, conf, r)
		if f.forecast {
			if data.Forecast, err = a.forecastMonth(f, conf, r); err != nil {
				return err
			}
			r.Findings = append(r.Findings, data.Forecast.findings()...)
			if why := data.Forecast.Inconclusive; why != "" {
				r.Missing = append(r.Missing, "the month: "+why)
			}
		}
		if err := a.print(commandsDocument(data, f)); err != nil {
			return err
		}
		if r.Partial {
			return fmt.Errorf("measured %s of %s: %w", shortDuration(r.Window), f.window, ctx.Err())
		}
		return f.verdict(r.Findings, r.Missing)
	})
}

func commandsDocument(data commandsData, f commandsFlags) report.Document {
	r := data.Report
	doc := report.Document{
		Kind:     "audit.commands/v1",
		Data:     data,
		Title:    "Commands",
		Findings: reportFindings(r.Findings),
		Checks:   commandChecks(r, f),
		Sections: []report.Section{{Fields: commandFields(r)}},
	}
	if r.Observable == commands.ByCommand {
		doc.Sections = append(doc.Sections, shareSection(r, f.by.value))
		if len(r.Polling) > 0 {
			doc.Sections = append(doc.Sections, pollingSection(r))
		}
	}
	if len(r.Bills) > 0 {
		doc.Sections = append(doc.Sections, billSection(r))
	}
	if data.Upstash != nil {
		doc.Sections = append(doc.Sections, upstashSection(data.Upstash, data.Drift))
	}
	if data.Forecast != nil {
		doc.Sections = append(doc.Sections, forecastSection(data.Forecast))
		doc.Notes = append(doc.Notes, forecastNotes(data.Forecast)...)
	}
	for _, m := range r.Missing {
		doc.Notes = append(doc.Notes, "not observed: "+m)
	}
	for _, s := range r.Projection.Assumptions {
		doc.Notes = append(doc.Notes, "assumed: "+s)
	}
	if r.Split.Method != "" {
		doc.Notes = append(doc.Notes, "top-level and in-script: "+r.Split.Method)
	}
	return doc
}

func commandFields(r *commands.Report) []report.Field {
	window := fmt.Sprintf("%.0f s", r.WindowSeconds)
	if r.Partial {
		window += ", cut short"
	}
	fields := []report.Field{
		{Name: "server", Value: strings.TrimSpace(r.Server.Provider + " " + r.Server.Version)},
		{Name: "window", Value: window},
	}
	if r.Observable == commands.Nothing {
		return append(fields, report.Field{Name: "commands", Value: "not observable on this server"})
	}
	s, p := r.Split, r.Projection
	if r.Observable == commands.TotalOnly {
		return append(fields,
			report.Field{Name: "commands", Value: fmt.Sprintf("%d in the window, not told apart", s.All)},
			report.Field{Name: "a month", Value: fmt.Sprintf("%s, %.1f times %s", commands.Millions(p.AllPerMonth), p.AllBudget, commands.Millions(float64(p.Budget)))})
	}
	top := strconv.FormatInt(s.Top, 10)
	if !s.Exact && s.Low != s.High {
		top += fmt.Sprintf(" (between %d and %d)", s.Low, s.High)
	}
	return append(fields,
		report.Field{Name: "commands", Value: fmt.Sprintf("%s top-level, %d in scripts", top, s.InScript)},
		report.Field{Name: "a month, top-level", Value: fmt.Sprintf("%s, %.1f times %s", commands.Millions(p.TopPerMonth), p.TopBudget, commands.Millions(float64(p.Budget)))},
		report.Field{Name: "a month, all", Value: fmt.Sprintf("%s, %.1f times %s", commands.Millions(p.AllPerMonth), p.AllBudget, commands.Millions(float64(p.Budget)))},
		report.Field{Name: "uncertainty", Value: fmt.Sprintf("%.1f%% for the length of the window", p.UncertaintyPercent)},
	)
}

// commandChecks judges only a plan that was asked for.
func commandChecks(r *commands.Report, f commandsFlags) []report.Check {
	for _, b := range r.Bills {
		if b.Provider.Name != f.provider.value || b.Provider.Included == 0 {
			continue
		}
		c := report.Check{
			Group: "commands", Name: "within what " + b.Provider.Name + " includes", Verdict: report.Pass,
			Message: fmt.Sprintf("%s of %s a month", commands.Millions(b.BilledPerMonth), commands.Millions(float64(b.Provider.Included))),
		}
		switch {
		case !r.Conclusive():
			c.Verdict = report.Inconclusive
		case b.BudgetMultiple > 1:
			c.Verdict = report.Fail
		}
		return []report.Check{c}
	}
	return nil
}

func shareSection(r *commands.Report, by string) report.Section {
	rows := map[string][]commands.Row{"component": r.Components, "command": r.Commands, "queue": r.Queues, "client": r.Clients}[by]
	t := &report.Table{Columns: []report.Column{
		{Name: by},
		{Name: "top-level", Right: true},
		{Name: "in-script", Right: true},
		{Name: "top-level/month", Right: true},
		{Name: "all/month", Right: true},
	}}
	for _, row := range rows {
		t.Rows = append(t.Rows, []string{
			row.Name, strconv.FormatInt(row.Top, 10), strconv.FormatInt(row.InScript, 10),
			commands.Millions(row.TopPerMonth), commands.Millions(row.PerMonth),
		})
	}
	s := report.Section{Title: "By " + by, Table: t}
	if len(t.Rows) == 0 {
		s.Table, s.Text = nil, "nothing was sent in the window"
		if by == "queue" || by == "client" {
			s.Text = "no queue library's worker is connected, so there is nothing to divide"
		}
	}
	return s
}

func pollingSection(r *commands.Report) report.Section {
	t := &report.Table{Columns: []report.Column{
		{Name: "library"},
		{Name: "workers", Right: true},
		{Name: "poll", Right: true},
		{Name: "guard", Right: true},
		{Name: "stalled", Right: true},
		{Name: "top/month", Right: true},
		{Name: "all/month", Right: true},
		{Name: "after", Right: true},
	}}
	period := func(s float64) string {
		if s == 0 {
			return "-"
		}
		return fmt.Sprintf("%g s", s)
	}
	for _, p := range r.Polling {
		t.Rows = append(t.Rows, []string{
			string(p.Library), strconv.Itoa(p.Workers), period(p.PollSeconds), period(p.GuardSeconds), period(p.StalledSeconds),
			commands.Millions(p.TopPerMonth), commands.Millions(p.AllPerMonth), commands.Millions(p.AfterAll),
		})
	}
	return report.Section{Title: "Idle polling", Table: t}
}

func billSection(r *commands.Report) report.Section {
	t := &report.Table{Columns: []report.Column{
		{Name: "plan"}, {Name: "billed/month", Right: true}, {Name: "usd/month", Right: true}, {Name: "x included", Right: true}, {Name: "as of"},
	}}
	for _, b := range r.Bills {
		usd, over := fmt.Sprintf("%.2f", b.USDPerMonth), "-"
		if b.BudgetMultiple > 0 {
			over = fmt.Sprintf("%.1f", b.BudgetMultiple)
		}
		t.Rows = append(t.Rows, []string{b.Provider.Name, commands.Millions(b.BilledPerMonth), usd, over, b.Provider.AsOf})
	}
	return report.Section{Title: "A month on a plan", Table: t}
}
