package main

import (
	"fmt"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/bench/scenario"
)

// turnsData is the contract of bench.turns/v1.
type turnsData struct {
	A          string          `json:"a"`
	B          string          `json:"b"`
	Evidence   bool            `json:"evidence"`
	Pairs      int             `json:"pairs"`
	MaxRegress float64         `json:"max_regress"`
	Scenarios  []turnsScenario `json:"scenarios"`
}

// turnsScenario is one scenario on both targets. Changes are of B against A.
type turnsScenario struct {
	Operation string        `json:"operation"`
	Pairs     int           `json:"pairs"` // that are whole
	Changes   []benchChange `json:"changes"`
	Missing   []string      `json:"missing"`

	// FailedA and FailedB are the operations that failed, which have no latency.
	FailedA int64 `json:"failed_a"`
	FailedB int64 `json:"failed_b"`

	// A and B are what each side measured by itself in the whole pairs; null where there is none.
	A *benchOperation `json:"a"`
	B *benchOperation `json:"b"`
}

// turnsOf is one scenario, of which a million commands cost usd.
func turnsOf(name string, x *scenario.Turns, maxRegress, usd float64) turnsScenario {
	out := turnsScenario{Operation: name, Pairs: len(x.Pairs), Changes: []benchChange{}, Missing: []string{}}
	for i, side := range []struct {
		into   **benchOperation
		failed *int64
	}{{&out.A, &out.FailedA}, {&out.B, &out.FailedB}} {
		if m := x.Sides[i]; m.Result != nil {
			*side.into, *side.failed = new(operationOf(m, usd)), m.Result.Failed()
		}
	}
	for _, p := range comparedPercentiles() {
		c, err := x.Compare(p, maxRegress)
		if err != nil {
			out.Missing = append(out.Missing, firstLine(err))
			continue
		}
		out.Changes = append(out.Changes, changeOf(name, c))
	}
	return out
}

func (d turnsData) changes() (changes []benchChange, missing []comparedMissing) {
	for _, s := range d.Scenarios {
		changes = append(changes, s.Changes...)
		for _, why := range s.Missing {
			missing = append(missing, comparedMissing{s.Operation, why})
		}
	}
	return changes, missing
}

// broken is what was wrong with the answers of either side.
func (d turnsData) broken() []report.Check {
	var out []report.Check
	for _, s := range d.Scenarios {
		for i, o := range []*benchOperation{s.A, s.B} {
			if o != nil && o.Broken != "" {
				out = append(out, report.Check{
					Group: s.Operation, Name: fmt.Sprintf("correct on %c", 'A'+rune(i)), Verdict: report.Fail, Message: o.Broken, Rule: "bench-broken",
				})
			}
		}
	}
	return out
}

func (d turnsData) verdict(strict bool) error {
	if broken := d.broken(); len(broken) > 0 {
		return verdictf(exitMismatch, "%s, %s: %s", broken[0].Group, broken[0].Name, broken[0].Message)
	}
	changes, missing := d.changes()
	if !d.Evidence {
		if strict {
			return verdictf(exitInconclusive, "inconclusive: the target is no evidence: %s", d.A)
		}
		return nil
	}
	return verdictOnChanges(changes, missing, strict)
}

func turnsDocument(data turnsData) report.Document {
	changes, missing := data.changes()
	doc := report.Document{
		Kind: "bench.turns/v1", Data: data, Title: "benchmark, two targets in turns", Verdicts: true,
		Checks: append(data.broken(), changeChecks(changes, data.MaxRegress)...),
		Sections: []report.Section{
			{Fields: []report.Field{{Name: "A", Value: data.A}, {Name: "B", Value: data.B}, {Name: "turns", Value: fmt.Sprintf("%d each: A B B A", data.Pairs)}}},
			{Title: "latency in ms", Table: changeTable(changes, "A", "B")},
			{Title: "each target by itself", Table: sidesTable(data.sides())},
		},
		Notes: []string{"the change of B against A is the middle one of the pairs of turns; ~: no more than chance explains"},
	}
	if parts := partsTable(data.sides()); parts != nil {
		doc.Sections = append(doc.Sections, report.Section{Title: "where the time goes, p95 in ms", Table: parts})
	}
	if !data.Evidence {
		doc.Notes = append(doc.Notes, "a target is no evidence: nothing is concluded")
	}
	for _, s := range data.Scenarios {
		if s.FailedA+s.FailedB > 0 {
			doc.Notes = append(doc.Notes, fmt.Sprintf("%s: %d operations failed on A and %d on B, and have no latency", s.Operation, s.FailedA, s.FailedB))
		}
		if s.Pairs < data.Pairs {
			doc.Notes = append(doc.Notes, fmt.Sprintf("%s: ended early, after %d of %d pairs", s.Operation, s.Pairs, data.Pairs))
		}
	}
	for _, m := range missing {
		doc.Notes = append(doc.Notes, m.Operation+": "+m.Why)
	}
	return doc
}

// sides are both sides of every scenario, and how each is called.
func (d turnsData) sides() (operations []benchOperation, names []string) {
	for _, s := range d.Scenarios {
		for i, o := range []*benchOperation{s.A, s.B} {
			if o != nil {
				operations, names = append(operations, *o), append(names, fmt.Sprintf("%s, %c", s.Operation, 'A'+rune(i)))
			}
		}
	}
	return operations, names
}

// sidesTable is what each side did.
func sidesTable(operations []benchOperation, names []string) *report.Table {
	table := &report.Table{Columns: []report.Column{
		{Name: "scenario"},
		{Name: "rate/s", Right: true},
		{Name: "done", Right: true},
		{Name: "failed", Right: true},
		{Name: "cmds", Right: true},
		{Name: "$/M", Right: true},
	}}
	for i, o := range operations {
		table.Rows = append(table.Rows, []string{
			names[i], fmt.Sprintf("%.4g", o.AchievedPerSecond), fmt.Sprint(o.Samples), failedText(o.Started-o.Samples-o.Limited, o.Limited),
			optional(o.CommandsPerOperation), optional(o.USDPerMillionOperations),
		})
	}
	return table
}
