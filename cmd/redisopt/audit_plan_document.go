package main

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect/commands"
	"github.com/redisopt/redisopt/internal/inspect/plan"
	"github.com/redisopt/redisopt/internal/inspect/upstash"
)

// pricesData is what audit plan prints: the comparison and, where the Developer API is configured, what
// Upstash counts.
type pricesData struct {
	*plan.Report
	Upstash *upstash.Usage `json:"upstash,omitempty"`
	Drift   *upstash.Drift `json:"drift,omitempty"`
}

func pricesDocument(data pricesData) report.Document {
	doc := report.Document{
		Kind: "audit.plan/v1", Data: data, Title: "Plans", Findings: reportFindings(data.Findings), Checks: planChecks(data.Report),
		Sections: []report.Section{{Fields: planFields(data.Report)}, quoteSection(data.Report), planStepSection(data.Report)},
	}
	if len(data.BreakEven) > 0 {
		doc.Sections = append(doc.Sections, breakEvenSection(data.Report))
	}
	if data.Upstash != nil {
		doc.Sections = append(doc.Sections, upstashSection(data.Upstash, data.Drift))
	}
	if len(data.Unpriced) > 0 {
		doc.Notes = append(doc.Notes, "not compared, because they publish no price by the command: "+strings.Join(data.Unpriced, ", ")+" (--rate)")
	}
	for _, s := range data.Assumptions {
		doc.Notes = append(doc.Notes, "assumed: "+s)
	}
	for _, s := range data.Missing {
		doc.Notes = append(doc.Notes, "not known: "+s)
	}
	return doc
}

func planFields(r *plan.Report) []report.Field {
	l := r.Load
	load := commands.Millions(l.Top) + " commands a month"
	if l.InScript > 0 {
		load += ", and " + commands.Millions(l.InScript) + " in scripts"
	}
	fields := []report.Field{
		{Name: "load", Value: load},
		{Name: "from", Value: strings.Join(l.Sources, ", ")},
		{Name: "prices", Value: fmt.Sprintf("of %s, the oldest %d days old", r.CatalogueAsOf, r.OldestPriceAge)},
	}
	add := func(name, which string) {
		i := slices.IndexFunc(r.Quotes, func(q plan.Quote) bool { return q.Plan == which })
		if i >= 0 {
			fields = append(fields, report.Field{Name: name, Value: fmt.Sprintf("%s, %.2f dollars a month", which, r.Quotes[i].USDPerMonth)})
		}
	}
	add("paid for", r.Current)
	add("cheapest", r.Cheapest)
	if r.Cheapest == "" {
		fields = append(fields, report.Field{Name: "cheapest", Value: "no plan carries the load"})
	}
	if r.Work != nil {
		fields = append(fields, report.Field{Name: "pay or work", Value: r.Work.Text})
	}
	return fields
}

// planChecks judges the plan that is paid for, or else whether there is one to pay for.
func planChecks(r *plan.Report) []report.Check {
	c := report.Check{Group: "plan", Name: "some plan carries the load", Verdict: report.Pass, Message: r.Cheapest}
	if r.Cheapest == "" {
		c.Verdict, c.Message = report.Fail, "none does"
	}
	for _, q := range r.Quotes {
		if q.Plan != r.Current {
			continue
		}
		c = report.Check{Group: "plan", Name: q.Plan + " carries the load", Verdict: report.Pass, Message: fmt.Sprintf("%.2f dollars a month", q.USDPerMonth)}
		if !q.Fits {
			c.Verdict, c.Message = report.Fail, strings.Join(q.Blockers, "; ")
		}
	}
	return []report.Check{c}
}

func quoteSection(r *plan.Report) report.Section {
	t := &report.Table{Columns: []report.Column{
		{Name: "plan"}, {Name: "billed/month", Right: true}, {Name: "usd/month", Right: true}, {Name: "why", Elastic: true}, {Name: "as of"},
	}}
	for _, q := range r.Quotes {
		why := []string{}
		for _, l := range q.Lines {
			why = append(why, fmt.Sprintf("%s %.2f", l.What, l.USD))
		}
		if !q.Fits {
			why = []string{"does not fit: " + strings.Join(q.Blockers, "; ")}
		}
		t.Rows = append(t.Rows, []string{q.Plan, commands.Millions(q.BilledPerMonth), fmt.Sprintf("%.2f", q.USDPerMonth), strings.Join(why, "; "), q.AsOf})
	}
	return report.Section{Title: "A month on each plan", Table: t}
}

func planStepSection(r *plan.Report) report.Section {
	t := &report.Table{Columns: []report.Column{{Name: "from", Right: true}, {Name: "up to", Right: true}, {Name: "cheapest"}}}
	for _, s := range r.Steps {
		name, to := s.Plan, "any"
		if !math.IsInf(s.To, 1) {
			to = commands.Millions(s.To)
		}
		if name == "" {
			name = "none carries so many"
		}
		t.Rows = append(t.Rows, []string{commands.Millions(s.From), to, name})
	}
	return report.Section{Title: "Cheapest by commands a month, in scripts included", Table: t}
}

func breakEvenSection(r *plan.Report) report.Section {
	t := &report.Table{Columns: []report.Column{{Name: "charged by the command"}, {Name: "flat"}, {Name: "same price at", Right: true}, {Name: "billed", Right: true}}}
	for _, b := range r.BreakEven {
		t.Rows = append(t.Rows, []string{b.PerCommand, b.Flat, commands.Millions(b.SentPerMonth), commands.Millions(b.BilledPerMonth)})
	}
	return report.Section{Title: "Break-even, commands a month", Table: t}
}
