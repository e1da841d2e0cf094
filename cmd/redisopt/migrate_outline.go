package main

import (
	"fmt"
	"strconv"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// outlineData is the contract of migrate.outline/v1.
type outlineData struct {
	Phases []migrate.Outline `json:"phases"`

	// Refused are those that cannot be planned as things are, while the others are.
	Refused []refusedPhase `json:"refused"`

	// Skipped are those that have nothing to do as things are: in place already, or without what they need.
	Skipped []refusedPhase `json:"skipped"`

	// Hash is that of the plan file that was written, empty when none was.
	Hash string `json:"hash"`

	Commands int64 `json:"commands"`  // of all steps of all phases
	InScript int64 `json:"in_script"` // inside their scripts
}

// outlineDocument is migrate.outline/v1: what phases would do, cost and lose, and which cannot be planned.
func outlineDocument(phases []migrate.Outline, hash string, refused ...refusedPhase) report.Document {
	return planOutlineDocument(phases, hash, planned{refused: refused})
}

// planOutlineDocument is the same of migrate plan, which also says what was skipped. Of all it takes no phases.
func planOutlineDocument(phases []migrate.Outline, hash string, all planned) report.Document {
	data := outlineData{
		Phases: append([]migrate.Outline{}, phases...), Refused: append([]refusedPhase{}, all.refused...),
		Skipped: append([]refusedPhase{}, all.skipped...), Hash: hash,
	}
	doc := report.Document{Kind: "migrate.outline/v1", Title: "plan"}
	for _, o := range phases {
		top, inner := o.Commands()
		data.Commands += top
		data.InScript += inner
		doc.Sections = append(doc.Sections, outlineSections(o)...)
		for _, p := range o.Problems {
			f := report.Finding{Rule: p.Rule, Severity: report.SeverityWarning, Subject: p.Subject, Message: p.Message, Remedy: p.Fix}
			if p.Blocking {
				f.Severity = report.SeverityCritical
			}
			doc.Findings = append(doc.Findings, f)
		}
	}
	if len(phases) == 0 {
		doc.Sections = []report.Section{{Text: "nothing to do"}}
	}
	doc.Findings = append(doc.Findings, refusedFindings(all.refused)...)
	if hash != "" {
		doc.Notes = append(doc.Notes, fmt.Sprintf("the hash of the plan file is %.12s", hash))
	}
	doc.Data = data
	return doc
}

// outlineSections show one phase.
func outlineSections(o migrate.Outline) []report.Section {
	head := report.Section{Title: o.Target.String()}
	for _, s := range o.Settings {
		head.Fields = append(head.Fields, report.Field{Name: s.Name, Value: s.Value})
	}
	top, inner := o.Commands()
	head.Fields = append(head.Fields, report.Field{
		Name: "price", Value: fmt.Sprintf("about %s, %d more inside scripts", plural(top, "command"), inner),
	})
	if o.PointOfNoReturn != "" {
		head.Fields = append(head.Fields, report.Field{Name: "no way back", Value: o.PointOfNoReturn})
	}
	steps := &report.Table{Columns: []report.Column{
		{Name: "#", Right: true}, {Name: "step"}, {Name: "what", Elastic: true}, {Name: "commands", Right: true}, {Name: "writes"},
	}}
	for i, s := range o.Steps {
		steps.Rows = append(steps.Rows, []string{
			strconv.Itoa(i + 1), s.Name, s.Summary, strconv.FormatInt(s.Commands+s.InScript, 10), yesNo(s.Writes),
		})
	}
	out := []report.Section{head, {Title: "steps", Table: steps}, outlineLosses(o)}
	if len(o.Claims) > 0 {
		out = append(out, claimsSection(o.Claims))
	}
	if len(o.KPIs) > 0 {
		out = append(out, report.Section{Title: "before and after", Table: kpiTable(o.KPIs)})
	}
	if len(o.Application) > 0 {
		out = append(out, sentences("what the application must change", o.Application))
	}
	if len(o.Code) > 0 {
		lines := make([]string, len(o.Code))
		for i, c := range o.Code {
			lines[i] = fmt.Sprintf("%s:%d: %s", c.File, c.Line, c.Change)
		}
		out = append(out, sentences("where", lines))
	}
	return out
}

// claimsSection says which goals can be reached.
func claimsSection(claims []migrate.Claim) report.Section {
	table := &report.Table{Columns: []report.Column{{Name: "goal"}, {Name: "reachable"}, {Name: "why", Elastic: true}}}
	for _, c := range claims {
		table.Rows = append(table.Rows, []string{c.Target, yesNo(c.Reachable), c.Why})
	}
	return report.Section{Title: "what this phase can reach", Table: table}
}

func outlineLosses(o migrate.Outline) report.Section {
	if o.LossesTotal == 0 && len(o.Losses) == 0 {
		return report.Section{Title: "losses", Text: "none"}
	}
	lines := make([]string, 0, len(o.Losses)+1)
	for _, l := range o.Losses {
		line := l.Field
		if l.Subject != "" {
			line += " of " + l.Subject
		}
		switch {
		case l.Becomes != "":
			line += fmt.Sprintf(": %s becomes %s", l.Was, l.Becomes)
		case l.Was != "":
			line += fmt.Sprintf(": %s is dropped", l.Was)
		}
		line += " (" + l.Why + ")"
		if !l.Reversible {
			line += "; the way back does not restore it"
		}
		lines = append(lines, line)
	}
	all := max(o.LossesTotal, int64(len(o.Losses)))
	if more := all - int64(len(o.Losses)); more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more of whichever kind", more))
	}
	return sentences(fmt.Sprintf("losses (%d)", all), lines)
}

func kpiTable(kpis []migrate.KPI) *report.Table {
	table := &report.Table{Columns: []report.Column{
		{Name: "measure"}, {Name: "before", Right: true}, {Name: "after", Right: true}, {Name: "unit"}, {Name: "how", Elastic: true},
	}}
	for _, k := range kpis {
		table.Rows = append(table.Rows, []string{k.Name, kpiValue(k.Before), kpiValue(k.After), k.Unit, k.Method})
	}
	return table
}

// kpiValue is a number as people read it, "unknown" where there is none.
func kpiValue(v *float64) string {
	if v == nil {
		return "unknown"
	}
	return strconv.FormatFloat(*v, 'f', -1, 64)
}

// hostedData is the contract of migrate.hosted/v1.
type hostedData struct {
	Target    migrate.Target    `json:"target"`
	Condition migrate.Condition `json:"condition"`
	State     migrate.State     `json:"state"`
	TookMS    int64             `json:"took_ms"`
	Cost      upstream.Cost     `json:"cost"`
	Next      string            `json:"next"` // the command to type next, empty when there is none
}

// hostedDocument is migrate.hosted/v1: where a migration stands after it was hosted, step by step.
func hostedDocument(t migrate.Target, h migrate.Hosted, cost upstream.Cost) report.Document {
	s := migrate.Standing{Target: t, State: h.State}
	data := hostedData{
		Target: t, Condition: s.Condition(), State: h.State, TookMS: h.Took.Milliseconds(), Cost: cost, Next: next(s),
	}
	table := &report.Table{Columns: []report.Column{{Name: "step"}, {Name: "state"}}}
	for _, st := range h.State.Steps {
		table.Rows = append(table.Rows, []string{st.Name, string(st.Mark)})
	}
	doc := report.Document{
		Kind: "migrate.hosted/v1", Data: data, Title: t.String(),
		Sections: []report.Section{
			{Fields: []report.Field{
				{Name: "state", Value: string(data.Condition)}, {Name: "took", Value: shortDuration(h.Took)},
			}},
			{Title: "steps", Table: table},
		},
	}
	switch h.State.Stage { //nolint:exhaustive // the others have nothing to say
	case migrate.Complete:
		doc.Notes = append(doc.Notes, "undo: "+data.Next, "keep it for good: redisopt migrate complete"+targetArgs(t))
	default:
		if data.Next != "" {
			doc.Notes = append(doc.Notes, data.Next)
		}
	}
	return doc
}
