package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/rehearsal"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// rehearsalData is the contract of rollback.rehearsal/v1.
type rehearsalData struct {
	DryRun bool `json:"dry_run"`

	// Price is what copying may cost the real Redis at most, and Cost what all of it has cost so far.
	Price rehearsal.Price `json:"price"`
	Cost  upstream.Cost   `json:"cost"`

	// Planned are the migrations, Sample what was copied (null with --dry-run), and Walks how they went.
	Planned []plannedWalk     `json:"planned"`
	Sample  *rehearsal.Sample `json:"sample"`
	Walks   []rehearsal.Walk  `json:"walks"`
	Passed  bool              `json:"passed"`
}

// A plannedWalk is one migration that is rehearsed.
type plannedWalk struct {
	Target migrate.Target `json:"target"`

	// OnlyBack is true for a migration that is open or in place: its way back is rehearsed from there.
	OnlyBack bool `json:"only_back"`
}

func plannedWalks(legs []rehearsal.Leg) []plannedWalk {
	out := []plannedWalk{}
	for _, leg := range legs {
		out = append(out, plannedWalk{Target: leg.Target, OnlyBack: len(leg.Begun) > 0})
	}
	return out
}

// ways is which ways a migration goes.
func ways(onlyBack bool) string {
	if onlyBack {
		return "back"
	}
	return "there and back"
}

// rehearsalDocument is rollback.rehearsal/v1.
func rehearsalDocument(d rehearsalData) report.Document {
	if d.Walks == nil {
		d.Walks = []rehearsal.Walk{}
	}
	doc := report.Document{Kind: "rollback.rehearsal/v1", Title: "There and back on a copy", Data: d}
	switch {
	case len(d.Planned) == 0:
		doc.Sections = []report.Section{{Text: "nothing to rehearse"}}
		return doc
	case d.Sample == nil:
		doc.Title = "What a rehearsal would read"
		doc.Sections = []report.Section{rehearsalPrice(d), rehearsalPlanned(d)}
		return doc
	}
	doc.Sections = append(doc.Sections, rehearsalSummary(d), rehearsalWalks(d))
	if s := rehearsalLosses(d); s != nil {
		doc.Sections = append(doc.Sections, *s)
	}
	if s := rehearsalExplained(d); s != nil {
		doc.Sections = append(doc.Sections, *s)
	}
	doc.Sections = append(doc.Sections, rehearsalCopies(d)...)
	doc.Sections = append(doc.Sections, rehearsalAdapted(d))
	for i := range d.Walks {
		doc.Findings = append(doc.Findings, walkFindings(&d.Walks[i])...)
		doc.Checks = append(doc.Checks, walkCheck(&d.Walks[i]))
	}
	return doc
}

func rehearsalPrice(d rehearsalData) report.Section {
	return report.Section{Fields: []report.Field{
		{Name: "keys there", Value: strconv.FormatInt(d.Price.Database, 10)},
		{Name: "copied at most", Value: plural(d.Price.Keys, "key")},
		{Name: "price at most", Value: plural(d.Price.Commands, "command") + ", none of which writes"},
		{Name: "takes at most", Value: fmt.Sprintf("%.0f s of reading, as fast as --read-rate allows", d.Price.Seconds)},
	}}
}

func rehearsalPlanned(d rehearsalData) report.Section {
	t := &report.Table{Columns: []report.Column{{Name: "migration", Elastic: true}, {Name: "goes"}}}
	for _, p := range d.Planned {
		t.Rows = append(t.Rows, []string{p.Target.String(), ways(p.OnlyBack)})
	}
	return report.Section{Title: "migrations", Table: t}
}

func rehearsalSummary(d rehearsalData) report.Section {
	jobs := int64(0)
	for _, q := range d.Sample.Queues {
		for _, n := range q.Copied {
			jobs += n
		}
	}
	others := int64(0)
	for _, s := range d.Sample.Shapes {
		others += s.Copied
	}
	return report.Section{Fields: []report.Field{
		{Name: "copied", Value: fmt.Sprintf("%s of %s, %s beside them", plural(jobs, "job"), plural(int64(len(d.Sample.Queues)), "queue"), plural(others, "key"))},
		{Name: "read", Value: fmt.Sprintf("%s on the real Redis, %s", plural(d.Cost.Commands, "command"), plural(d.Cost.Writes, "write"))},
		{Name: "walked on", Value: "an embedded Redis in this process, which is gone now"},
	}}
}

func rehearsalWalks(d rehearsalData) report.Section {
	t := &report.Table{Columns: []report.Column{
		{Name: "migration", Elastic: true},
		{Name: "moved"},
		{Name: "commands", Right: true},
		{Name: "back", Right: true},
		{Name: "same keys", Right: true},
		{Name: "result"},
	}}
	for i := range d.Walks {
		w := &d.Walks[i]
		same := fmt.Sprintf("%d of %d", w.Comparison.Identical, w.Comparison.Keys)
		if w.OnlyBack || w.Comparison.Keys == 0 {
			same = ""
		}
		t.Rows = append(t.Rows, []string{
			w.Target.String(), movedText(w), costText(w.There.Cost), costText(w.Back.Cost), same, string(w.Verdict),
		})
	}
	return report.Section{
		Title: "There and back", Table: t,
		Text: "Commands are those sent for the copy, there and back, scripts as one each.",
	}
}

// movedText is what a walk moved: "30 jobs".
func movedText(w *rehearsal.Walk) string {
	moved := w.There.Moved
	if w.OnlyBack {
		moved = w.Back.Moved
	}
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(moved)) {
		parts = append(parts, countOf(moved[what], what))
	}
	return strings.Join(parts, ", ")
}

// countOf is n of what a rehearsal counts, given as a plural: "1 prefix", "30 jobs".
func countOf(n int64, what string) string {
	switch {
	case n != 1:
		return fmt.Sprintf("%d %s", n, what)
	case what == "prefixes":
		return "1 prefix"
	}
	return "1 " + strings.TrimSuffix(what, "s")
}

func costText(c upstream.Cost) string {
	if c.Commands == 0 {
		return ""
	}
	return strconv.FormatInt(c.Commands, 10)
}

// rehearsalLosses gathers losses by what is lost; nil without any.
func rehearsalLosses(d rehearsalData) *report.Section {
	type kind struct {
		field, why string
		comes      bool
	}
	var kinds []kind
	jobs := map[kind]int{}
	for i := range d.Walks {
		for _, l := range d.Walks[i].Losses {
			k := kind{l.Field, l.Why, l.Reversible}
			if jobs[k] == 0 {
				kinds = append(kinds, k)
			}
			jobs[k]++
		}
	}
	if len(kinds) == 0 {
		return nil
	}
	t := &report.Table{Columns: []report.Column{{Name: "lost there"}, {Name: "times", Right: true}, {Name: "comes back"}, {Name: "why", Elastic: true}}}
	for _, k := range kinds {
		t.Rows = append(t.Rows, []string{k.field, strconv.Itoa(jobs[k]), yesNo(k.comes), k.why})
	}
	return &report.Section{Title: "What targets cannot express", Table: t}
}

// rehearsalExplained are the differences that must be; nil without any.
func rehearsalExplained(d rehearsalData) *report.Section {
	counts, why := map[string]int{}, map[string]string{}
	for i := range d.Walks {
		for _, e := range d.Walks[i].Comparison.Explained {
			counts[e.Kind] += e.Of
			why[e.Kind] = e.Why
		}
	}
	if len(counts) == 0 {
		return nil
	}
	t := &report.Table{Columns: []report.Column{{Name: "differs"}, {Name: "keys", Right: true}, {Name: "why it must", Elastic: true}}}
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		t.Rows = append(t.Rows, []string{kind, strconv.Itoa(counts[kind]), why[kind]})
	}
	return &report.Section{Title: "Different after the way back", Table: t}
}

// rehearsalCopies are what was copied.
func rehearsalCopies(d rehearsalData) []report.Section {
	var out []report.Section
	if len(d.Sample.Queues) > 0 {
		t := &report.Table{Columns: []report.Column{{Name: "queue", Elastic: true}, {Name: "jobs copied", Right: true}, {Name: "of", Right: true}, {Name: "in"}}}
		for _, q := range d.Sample.Queues {
			copied, there := int64(0), int64(0)
			for _, n := range q.Copied {
				copied += n
			}
			for _, n := range q.There {
				there += n
			}
			if there == 0 {
				continue // it is a target
			}
			t.Rows = append(t.Rows, []string{q.Queue.String(), strconv.FormatInt(copied, 10), strconv.FormatInt(there, 10), strings.Join(slices.Sorted(maps.Keys(q.There)), " ")})
		}
		if len(t.Rows) > 0 {
			out = append(out, report.Section{Title: "Copied queues", Table: t})
		}
	}
	if len(d.Sample.Shapes) > 0 {
		t := &report.Table{Columns: []report.Column{{Name: "begins with", Elastic: true}, {Name: "type"}, {Name: "value"}, {Name: "expires"}, {Name: "copied", Right: true}}}
		for _, s := range d.Sample.Shapes {
			word := s.Prefix
			if word == "" {
				word = "(no plain word)"
			}
			t.Rows = append(t.Rows, []string{word, s.Type, s.Format, yesNo(s.Expires), strconv.FormatInt(s.Copied, 10)})
		}
		out = append(out, report.Section{Title: "Copied keys beside queues", Table: t})
	}
	if len(d.Sample.Left) > 0 {
		t := &report.Table{Columns: []report.Column{{Name: "not copied", Elastic: true}, {Name: "keys", Right: true}}}
		for _, l := range d.Sample.Left {
			t.Rows = append(t.Rows, []string{l.Why, strconv.FormatInt(l.Keys, 10)})
		}
		out = append(out, report.Section{Table: t})
	}
	return out
}

// rehearsalAdapted is what was different from a real migration.
func rehearsalAdapted(d rehearsalData) report.Section {
	var lines []string
	for i := range d.Walks {
		for _, text := range d.Walks[i].Adapted {
			line := d.Walks[i].Target.Phase + ": " + text
			if !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	lines = append(lines, "the journal is in memory, nobody holds a lease, and nothing is throttled")
	return sentences("What is different from the real one", lines)
}

// walkFindings are what a person should act on.
func walkFindings(w *rehearsal.Walk) []report.Finding {
	var out []report.Finding
	for _, d := range w.Comparison.Unexplained {
		subject := d.Key
		if d.Field != "" {
			subject += "." + d.Field
		}
		out = append(out, report.Finding{
			Rule: "not-as-it-was", Severity: report.SeverityCritical, Subject: subject,
			Message: fmt.Sprintf("%s: after the way back it is %s, and was %s", w.Target, d.Is, d.Was),
			Remedy:  "do not run this migration before it is known why",
		})
	}
	if t := w.Traffic; t != nil {
		for _, text := range t.Wrong {
			out = append(out, report.Finding{Rule: "wrong-answer", Severity: report.SeverityCritical, Subject: w.Target.String(), Message: text})
		}
		if t.Again > 0 {
			out = append(out, report.Finding{
				Rule: "limit-starts-anew", Severity: report.SeverityWarning, Subject: w.Target.String(),
				Message: fmt.Sprintf("%d units were admitted beyond their limit after the way back: what only the new side had counted in the window could not be read any more", t.Again),
				Remedy:  "expect up to one limit more for each subject in the window of a rollback, where the new side does not answer",
			})
		}
		for _, kind := range slices.Sorted(maps.Keys(t.NotCarried)) {
			out = append(out, report.Finding{
				Rule: "type-stays", Severity: report.SeverityNote, Subject: kind,
				Message: fmt.Sprintf("%d copied keys of type %s stay on the old side: phase 1 carries strings, and limits that redisopt counts", t.NotCarried[kind], kind),
			})
		}
	}
	for _, p := range w.Problems {
		f := report.Finding{Rule: p.Rule, Severity: report.SeverityWarning, Subject: p.Subject, Message: p.Message, Remedy: p.Fix}
		if p.Blocking {
			f.Severity = report.SeverityCritical
		}
		out = append(out, f)
	}
	return out
}

func walkCheck(w *rehearsal.Walk) report.Check {
	c := report.Check{Name: w.Target.String(), Verdict: report.Pass}
	switch {
	case w.Verdict != rehearsal.Passed:
		c.Verdict, c.Message = report.Fail, w.Why
	case w.OnlyBack:
		c.Message = fmt.Sprintf("back from where it is: %d jobs before, %d after", w.Jobs.Before, w.Jobs.After)
	default:
		c.Message = fmt.Sprintf("%d of %d keys are what they were, the others as listed", w.Comparison.Identical, w.Comparison.Keys)
	}
	return c
}
