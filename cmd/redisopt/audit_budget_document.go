package main

import (
	"fmt"
	"strings"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/inspect/gate"
	"github.com/redisopt/redisopt/internal/runtime/budget"
	"github.com/redisopt/redisopt/internal/runtime/config"
)

// A budgetView is what a document needs besides the report.
type budgetView struct {
	root    string         // of the code; places are below it
	comment string         // tells comments of several gates apart
	file    string         // of the budgets
	line    map[string]int // where a key of the budgets section stands in file
}

// budgetLines are the lines of the keys that the configuration file sets.
func budgetLines(conf *config.Config) map[string]int {
	lines := map[string]int{}
	for _, v := range conf.Values() {
		if v.Origin.Kind == config.FromFile && strings.HasPrefix(v.Key, "budgets.") {
			lines[strings.TrimPrefix(v.Key, "budgets.")] = v.Origin.Line
		}
	}
	return lines
}

func budgetDocument(r *gate.Report, v budgetView) report.Document {
	doc := report.Document{
		Kind: "audit.budget/v1", Data: r, Title: "Budgets: " + string(r.Verdict),
		Verdicts: true, Marker: "redisopt:audit.budget:" + v.comment,
		Sections: []report.Section{{Fields: budgetFields(r)}},
		Notes:    r.Notes,
	}
	for _, n := range r.Judgements {
		doc.Checks = append(doc.Checks, judgementCheck(n))
	}
	files := make([]report.Finding, len(doc.Checks))
	for i, c := range doc.Checks {
		files[i] = report.Finding{File: c.File, Fix: c.Fix}
	}
	fromHere(files, v.root)
	for i := range doc.Checks {
		doc.Checks[i].File, doc.Checks[i].Fix = files[i].File, files[i].Fix
	}
	doc.Checks = append(doc.Checks, evidenceChecks(r)...)
	for i, w := range r.Waivers {
		doc.Checks = append(doc.Checks, waiverCheck(i, w, v))
	}
	known := 0
	for _, f := range r.Findings {
		switch f.State {
		case gate.New:
			doc.Findings = append(doc.Findings, judgedFinding(f))
		case gate.Known:
			known++
		case gate.StateWaived:
		}
	}
	fromHere(doc.Findings, v.root)
	if known > 0 {
		doc.Notes = append(doc.Notes, fmt.Sprintf("%s of the baseline not shown; -o json lists all", plural(int64(known), "finding")))
	}
	if r.Off > 0 {
		doc.Notes = append(doc.Notes, fmt.Sprintf("%s not shown because a rule is off", plural(int64(r.Off), "finding")))
	}
	for _, s := range r.Evidence {
		for _, m := range s.Missing {
			doc.Notes = append(doc.Notes, string(s.Kind)+" evidence does not cover: "+m)
		}
	}
	return doc
}

func budgetFields(r *gate.Report) []report.Field {
	var have, lack []string
	for _, s := range r.Evidence {
		if s.Present {
			have = append(have, string(s.Kind))
		} else {
			lack = append(lack, fmt.Sprintf("%s (%s)", s.Kind, s.Why))
		}
	}
	fields := []report.Field{{Name: "verdict", Value: string(r.Verdict)}}
	if len(have) > 0 {
		fields = append(fields, report.Field{Name: "evidence", Value: strings.Join(have, ", ")})
	}
	if len(lack) > 0 {
		fields = append(fields, report.Field{Name: "without", Value: strings.Join(lack, "; ")})
	}
	if r.Baseline != "" {
		fields = append(fields, report.Field{Name: "baseline", Value: r.Baseline})
	}
	return fields
}

// judgementCheck is one budget with the place that matters most.
func judgementCheck(n gate.Judgement) report.Check {
	group, name, _ := strings.Cut(n.Budget, ".")
	if n.Subject != "" {
		name += " of " + n.Subject
	}
	c := report.Check{
		Group: group, Name: fmt.Sprintf("%s (%s)", name, n.Evidence), Verdict: report.Verdict(n.Verdict),
		Message: n.Message, Remedy: n.Remedy, Rule: budgetRule(n.Budget), Anchor: n.Anchor(), Fix: reportFix(n.Fix),
	}
	if n.Verdict != gate.Pass && n.Verdict != gate.Inconclusive && len(n.Places) > 0 {
		c.File, c.Line, c.Column = n.Places[0].File, n.Places[0].Line, n.Places[0].Column
	}
	return c
}

// budgetRule names a budget where only rules are known: budget-connections-fleet. Those whose keys hold
// names of the operator's go by their section.
func budgetRule(key string) string {
	section, _, _ := strings.Cut(key, ".")
	if section == "operations" || section == "latency" {
		return "budget-" + section
	}
	return "budget-" + strings.NewReplacer(".", "-", "_", "-").Replace(key)
}

// evidenceChecks are the kinds of evidence that are required and missing.
func evidenceChecks(r *gate.Report) []report.Check {
	var out []report.Check
	for _, s := range r.Evidence {
		if s.Required && !s.Present {
			out = append(out, report.Check{
				Group: "evidence", Name: string(s.Kind), Verdict: report.Inconclusive, Rule: "evidence-missing",
				Message: "required and missing: " + s.Why,
			})
		}
	}
	return out
}

func waiverCheck(i int, w gate.WaiverUse, v budgetView) report.Check {
	name := w.Rule
	if w.Subject != "" {
		name += " of " + w.Subject
	}
	if w.File != "" {
		name += " in " + w.File
	}
	c := report.Check{Group: "waivers", Name: name, Verdict: report.Verdict(w.Verdict), Message: w.Message}
	switch w.Verdict {
	case gate.Fail:
		c.Rule = "waiver-expired"
	case gate.Warn:
		c.Rule = "waiver-unused"
	case gate.Pass, gate.Waived, gate.Inconclusive:
		return c
	}
	if line := v.line[fmt.Sprintf("waivers[%d].rule", i)]; line > 0 {
		c.File, c.Line = v.file, line
	}
	return c
}

// judgedFinding is a finding with the severity that its level gives it.
func judgedFinding(j gate.Judged) report.Finding {
	f := reportFindings([]inspect.Finding{j.Finding.Finding})[0]
	f.Anchor = j.Anchor
	switch j.Level {
	case budget.RuleFail:
		f.Severity = report.SeverityCritical
	case budget.RuleWarn:
		f.Severity = report.SeverityWarning
	case budget.RuleOff:
		f.Severity = report.SeverityNote
	default:
		f.Severity = report.SeverityNote
	}
	return f
}
