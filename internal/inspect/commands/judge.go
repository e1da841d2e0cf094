package commands

import (
	"fmt"

	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/inspect/connections"
)

// handshakeShare is the share of connection commands from which something reconnects too often.
const handshakeShare = 0.2

// judge fills the measures and findings.
func (a *audit) judge(provider Provider) {
	r := a.report
	r.measure()
	r.Findings = []inspect.Finding{}
	for _, p := range r.Polling {
		r.judgePolling(p, a.opts.Budget)
	}
	a.judgeBudget(provider)
	r.judgeRest()
}

// judgeBudget compares the month with what the plan includes. Only a plan that was asked for and a whole
// measurement make it a verdict.
func (a *audit) judgeBudget(provider Provider) {
	r := a.report
	for _, b := range r.Bills {
		if b.Provider.Name != provider.Name || b.BudgetMultiple <= 1 {
			continue
		}
		f := inspect.Finding{
			Rule: "monthly-budget-exceeded", Severity: inspect.Warning, Subject: provider.Name,
			Message: fmt.Sprintf("%s billed commands a month are %.1f times the %s included, which last %.0f hours",
				Millions(b.BilledPerMonth), b.BudgetMultiple, Millions(float64(b.Provider.Included)), b.LastsHours),
			Remedy: "take the findings with the largest saving first; a fixed plan has no price per command",
		}
		switch {
		case r.Observable != ByCommand:
			f.Severity = inspect.Note
			f.Message = "at most " + f.Message + "; free commands could not be told from billed ones"
		case a.opts.Provider != "" && r.Conclusive():
			f.Severity = inspect.Critical
		}
		r.add(f)
	}
}

func (r *Report) add(f inspect.Finding) { r.Findings = append(r.Findings, f) }

func (r *Report) judgePolling(p Polling, budget int64) {
	subject := fmt.Sprintf("%d %s workers", p.Workers, name(p.Library))
	if p.PollSeconds == 0 {
		r.add(inspect.Finding{
			Rule: "polling-not-seen", Severity: inspect.Note, Subject: subject,
			Message: fmt.Sprintf("no worker polled in %.0f s, so the interval is longer than the window", r.WindowSeconds),
			Remedy:  "use --window 10m to see intervals of minutes",
		})
		return
	}
	saving := p.AllPerMonth - p.AfterAll
	what := fmt.Sprintf("poll every %g s", p.PollSeconds)
	if p.GuardSeconds > 0 {
		what += fmt.Sprintf(", look for delayed jobs every %g s", p.GuardSeconds)
	}
	if p.StalledSeconds > 0 {
		what += fmt.Sprintf(" and for stalled jobs every %g s", p.StalledSeconds)
	}
	if p.Jobs > 0 {
		r.add(inspect.Finding{
			Rule: "idle-polling", Severity: inspect.Note, Subject: subject,
			Message: fmt.Sprintf("%d jobs ended in the window, so the poll interval cannot be told from the rate; at most %s commands a month are polling",
				p.Jobs, Millions(p.AllPerMonth)),
			Remedy: "measure again while the queues are quiet",
		})
		return
	}
	severity := inspect.Note
	if budget > 0 && p.TopPerMonth > 0.1*float64(budget) {
		severity = inspect.Warning
	}
	r.add(inspect.Finding{
		Rule: "idle-polling", Severity: severity, Subject: subject,
		Message: fmt.Sprintf("%s without a job to do: %s top-level commands a month, %s with those in scripts, %.1f times a budget of %s",
			what, Millions(p.TopPerMonth), Millions(p.AllPerMonth), p.AllPerMonth/float64(max(budget, 1)), Millions(float64(budget))),
		Remedy:                 fmt.Sprintf("%s; leaves %s top-level, %s in all", p.Remedy, Millions(p.AfterTop), Millions(p.AfterAll)),
		SavingCommandsPerMonth: max(saving, 0),
	})
	if p.Pinned {
		message := fmt.Sprintf("%d of %d queues have something delayed, which makes idle workers poll every %d s whatever drainDelay says", p.DelayedQueues, p.Queues, pinnedSeconds)
		if p.DelayedQueues < 0 {
			message = fmt.Sprintf("a poll every %d s is what BullMQ does while a job or scheduler is delayed, whatever drainDelay says", pinnedSeconds)
		}
		r.add(inspect.Finding{
			Rule: "delayed-pins-polling", Severity: inspect.Note, Subject: subject, Message: message,
			Remedy: "keep delayed jobs and schedulers on as few queues as possible; --deep tells which queues have any",
		})
	}
}

func name(l connections.Library) string {
	if l == connections.LibraryBull {
		return "Bull"
	}
	return "BullMQ"
}

func (r *Report) judgeRest() {
	var total, handshake float64
	for _, c := range r.Components {
		total += c.TopPerMonth
		if c.Name == "connection" {
			handshake = c.TopPerMonth
		}
	}
	if total > 0 && handshake > handshakeShare*total {
		r.add(inspect.Finding{
			Rule: "handshakes", Severity: inspect.Note, Subject: "server",
			Message: fmt.Sprintf("%.0f%% of the top-level commands set up or test connections", 100*handshake/total),
			Remedy:  "keep connections open; redisopt audit connections --watch 10m shows who does not",
		})
	}
	if r.Split.InScript > r.Split.Top && r.Split.Top > 0 {
		r.add(inspect.Finding{
			Rule: "scripts-dominate", Severity: inspect.Note, Subject: "server",
			Message: fmt.Sprintf("scripts run %.1f commands for each one sent; a plan that bills them bills %s a month",
				float64(r.Split.InScript)/float64(r.Split.Top), Millions(r.Projection.AllPerMonth)),
		})
	}
	if r.Observable != ByCommand {
		r.add(inspect.Finding{
			Rule: "commands-not-observable", Severity: inspect.Note, Subject: "server",
			Message: "the server does not count calls by command, so components, queues and scripts cannot be told apart",
			Remedy:  "measure the same application on a plain Redis, or read the provider's own usage figures",
		})
	}
}

func (r *Report) measure() {
	ev := inspect.Evidence{Source: "INFO commandstats", Window: r.Window, Samples: 2, Missing: r.Missing}
	if r.Observable == TotalOnly {
		ev.Source = "INFO total_commands_processed"
	}
	r.Measures = []inspect.Measure{}
	one := func(n string, v float64, unit string, labels map[string]string) {
		r.Measures = append(r.Measures, inspect.Measure{Name: n, Value: v, Unit: unit, Labels: labels, Evidence: ev})
	}
	if r.Observable == Nothing {
		return
	}
	one("commands.per_month", r.Projection.AllPerMonth, "command/month", nil)
	if r.Observable == ByCommand {
		one("commands.top_level_per_month", r.Projection.TopPerMonth, "command/month", nil)
		for _, c := range r.Components {
			one("commands.by_component_per_month", c.PerMonth, "command/month", map[string]string{"component": c.Name})
		}
		for _, q := range r.Queues {
			one("commands.by_queue_per_month", q.PerMonth, "command/month", map[string]string{"queue": q.Name})
		}
		for _, p := range r.Polling {
			if p.Jobs == 0 {
				one("commands.idle_per_month", p.AllPerMonth, "command/month", map[string]string{"library": string(p.Library)})
			}
		}
	}
	for _, b := range r.Bills {
		labels := map[string]string{"provider": b.Provider.Name}
		one("commands.billed_per_month", b.BilledPerMonth, "command/month", labels)
		one("commands.cost_per_month", b.USDPerMonth, "usd/month", labels)
	}
}

// Millions writes a number of commands the way people compare them: "500,000", "1.19 M", "26.9 M".
func Millions(n float64) string {
	switch {
	case n >= 10e6:
		return fmt.Sprintf("%.1f M", n/1e6)
	case n >= 1e6:
		return fmt.Sprintf("%.2f M", n/1e6)
	case n >= 1000:
		return fmt.Sprintf("%d,%03d", int64(n)/1000, int64(n)%1000)
	default:
		return fmt.Sprintf("%.0f", n)
	}
}
