package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// shownJobs is how many jobs of one kind of loss people are shown; JSON has up to 1,000.
const shownJobs = 5

// planDocument is migrate.plan/v1: what would move, what it costs, what would be lost.
func planDocument(p *step.Plan) report.Document {
	doc := report.Document{
		Kind:     "migrate.plan/v1",
		Data:     p,
		Title:    fmt.Sprintf("plan: move %s to %s", p.From, p.To),
		Findings: problemFindings(p.Problems),
	}
	doc.Sections = append(doc.Sections, report.Section{
		Fields: []report.Field{
			{Name: "from", Value: p.From.String()},
			{Name: "to", Value: p.To.String()},
			{Name: "in place", Value: yesNo(p.InPlace)},
			{Name: "paused", Value: yesNo(p.Paused)},
			{Name: "migration", Value: stageText(p.Stage)},
			{Name: "price", Value: fmt.Sprintf("about %s, %d more inside scripts", plural(p.Commands.TopLevel, "command"), p.Commands.InScript)},
		},
	})
	if p.Soak != "" {
		fields := &doc.Sections[0].Fields
		*fields = append(*fields, report.Field{Name: "afterwards", Value: p.Soak})
	}
	doc.Sections = append(doc.Sections, countsSection("jobs", []string{"would move"}, p.Counts))
	if len(p.Repeats) > 0 {
		doc.Sections = append(doc.Sections, repeatsSection(p.Repeats))
	}
	doc.Sections = append(doc.Sections, lossesSection(p.Losses, p.LossesTotal))
	if len(p.Claims) > 0 {
		doc.Sections = append(doc.Sections, claimsSection(p.Claims))
	}
	if len(p.Application) > 0 {
		doc.Sections = append(doc.Sections, sentences("what the application must change", p.Application))
	}
	return doc
}

// resultData is the contract of migrate.result/v1.
type resultData struct {
	Target     migrate.Target        `json:"target"`
	Direction  step.Direction        `json:"direction"`
	Stage      migrate.Stage         `json:"stage"`
	From       mover.Endpoint        `json:"from"`
	To         mover.Endpoint        `json:"to"`
	Moved      map[mover.State]int64 `json:"moved"`       // by this run
	MovedTotal map[mover.State]int64 `json:"moved_total"` // by all runs in this direction
	Remaining  map[mover.State]int64 `json:"remaining"`   // still at the source, skipped ones and newcomers
	TargetNow  map[mover.State]int64 `json:"target_jobs"`
	Held       []string              `json:"held"`
	Skipped    []mover.Problem       `json:"skipped"`
	Losses     int64                 `json:"losses"`
	Scripts    int64                 `json:"scripts"`
	TookMS     int64                 `json:"took_ms"`
	Cost       upstream.Cost         `json:"cost"`
	Compared   *mover.Comparison     `json:"compared,omitempty"` // with --compare
}

// resultDocument is migrate.result/v1: what was moved, and the proof.
func resultDocument(t migrate.Target, d step.Direction, r step.Report, cost upstream.Cost) report.Document {
	from, to := r.Route.From, r.Route.To
	if d == step.BackAgain {
		from, to = to, from
	}
	data := resultData{
		Target: t, Direction: d, Stage: r.State.Stage, From: from, To: to,
		Moved: counts(r.Outcome.Moved), MovedTotal: counts(r.Outcome.Check.Moved),
		Remaining: counts(r.Outcome.Check.Remaining), TargetNow: counts(r.Outcome.Check.Target),
		Held: []string{}, Skipped: r.Outcome.Skipped, Losses: r.Outcome.Losses, Scripts: r.Outcome.Scripts,
		TookMS: r.Took.Milliseconds(), Cost: cost,
	}
	doc := report.Document{
		Kind:     "migrate.result/v1",
		Data:     data,
		Title:    fmt.Sprintf("moved %s to %s", from, to),
		Findings: problemFindings(r.Outcome.Skipped),
		Checks: []report.Check{{
			Group: "queue " + to.Queue, Name: "every job is in exactly one place", Verdict: report.Pass,
			Message: fmt.Sprintf("source, target and ledger agree, %s at the target", plural(sum(data.TargetNow), "job")),
		}},
		Sections: []report.Section{
			{Fields: []report.Field{
				{Name: "migration", Value: stageText(r.State.Stage)},
				{Name: "moved", Value: plural(sum(data.Moved), "job")},
				{Name: "skipped", Value: plural(int64(len(data.Skipped)), "job")},
				{Name: "losses", Value: fmt.Sprint(data.Losses)},
				{Name: "took", Value: shortDuration(r.Took)},
			}},
			countsSection("jobs", []string{"moved now", "at the target", "left at the source"}, data.Moved, data.TargetNow, data.Remaining),
		},
	}
	if c := r.Outcome.Compared; c != nil {
		data.Compared = c
		doc.Data = data
		doc.Checks = append(doc.Checks, comparedCheck(to.Queue, c))
	}
	if left := sum(data.Remaining) - int64(len(data.Skipped)); left > 0 && d == step.There {
		doc.Notes = append(doc.Notes, fmt.Sprintf("%s came to the old queue meanwhile; run the same command again when its producers are gone", plural(left, "job")))
	}
	if d == step.There {
		doc.Notes = append(doc.Notes, "undo: redisopt rollback phase3 "+queueArgs(t))
	}
	return doc
}

// comparedCheck says what came of --compare. Digests that differ are no failure, since jobs are added and run
// while a queue is moved.
func comparedCheck(queue string, c *mover.Comparison) report.Check {
	check := report.Check{
		Group: "queue " + queue, Name: "the jobs are what they were", Verdict: report.Pass,
		Message: fmt.Sprintf("the digests of all states and the order are equal; %s compared field by field", plural(int64(c.Compared), "job")),
	}
	if !c.Same {
		check.Message = fmt.Sprintf("%s compared field by field, none differs; the digests do, as jobs came or went meanwhile (%d of the sample are gone)",
			plural(int64(c.Compared), "job"), c.Gone)
	}
	return check
}

// statusData is the contract of migrate.status/v1.
type statusData struct {
	Migrations []statusEntry `json:"migrations"`
}

type statusEntry struct {
	migrate.Standing
	Condition migrate.Condition `json:"condition"`
	Next      string            `json:"next"`            // the command to type next, empty when there is none
	Error     string            `json:"error,omitempty"` // why the journal cannot be read; then state says nothing
	Hint      string            `json:"hint,omitempty"`  // what to do about the error
}

// statusDocument is migrate.status/v1: what is open, at which step, and who works on it.
func statusDocument(all []migrate.Standing) report.Document {
	data := statusData{Migrations: make([]statusEntry, len(all))}
	table := &report.Table{Columns: []report.Column{
		{Name: "phase"}, {Name: "queue"}, {Name: "state"}, {Name: "step"}, {Name: "since"}, {Name: "lease", Elastic: true},
	}}
	doc := report.Document{Kind: "migrate.status/v1", Title: "migrations"}
	for i, s := range all {
		e := statusEntry{Standing: s, Condition: s.Condition(), Next: next(s)}
		e.Error, e.Hint = unreadText(s)
		data.Migrations[i] = e
		row := []string{s.Target.Phase, targetQueue(s.Target), string(e.Condition), "", "", "free"}
		if current := s.State.Current(); current != nil {
			row[3] = strings.TrimPrefix(current.Name, s.Target.Phase+".")
		}
		if !s.State.Since.IsZero() {
			row[4] = s.State.Since.UTC().Format("2006-01-02 15:04")
		}
		if s.Holder != nil {
			row[5] = fmt.Sprintf("%s until %s", s.Holder.Owner, s.Holder.Expires.UTC().Format(time.RFC3339))
		}
		table.Rows = append(table.Rows, row)
		doc.Notes = append(doc.Notes, statusNotes(s, e.Next)...)
	}
	doc.Data = data
	if len(all) == 0 {
		doc.Sections = []report.Section{{Text: "no migration was ever begun in this database"}}
	} else {
		doc.Sections = []report.Section{{Table: table}}
	}
	return doc
}

// targetQueue is what a migration is about, as a table shows it.
func targetQueue(t migrate.Target) string {
	if t.Whole() {
		return "(all)"
	}
	return t.Prefix + ":" + t.Queue
}

// targetName is how notes call a migration.
func targetName(t migrate.Target) string {
	if t.Whole() {
		return t.Phase
	}
	return t.Queue
}

// statusNotes say what a table has no room for: why it waits, how far it is, what was asked of it, and
// what to type next.
func statusNotes(s migrate.Standing, next string) []string {
	var out []string
	note := func(format string, args ...any) {
		out = append(out, targetName(s.Target)+": "+fmt.Sprintf(format, args...))
	}
	if why, hint := unreadText(s); why != "" {
		note("%s", why)
		if hint != "" {
			note("%s", hint)
		}
	}
	if s.Emergency != nil {
		note("%s; when it is over: redisopt rollback %s", s.Emergency, s.Target.Phase)
	}
	if s.State.Reason != "" {
		note("%s", s.State.Reason)
	}
	if s.Holder != nil && s.Pulse != nil {
		if p := s.Pulse.Progress; p != nil {
			note("%s, %d of %d %s", p.Part, p.Done, p.Total, p.Unit)
		}
		if s.Pulse.Why != "" {
			note("%s", s.Pulse.Why)
		}
	}
	if len(s.State.Windows) > 0 && (s.State.Stage == migrate.Forward || s.State.Stage == migrate.Complete) {
		note("steps are applied only in %s", strings.Join(s.State.Windows, " and "))
	}
	for _, i := range s.Intents {
		note("%s asked for %s, until %s", i.By, i.Verb, i.Expires.UTC().Format(time.RFC3339))
	}
	if next != "" {
		note("%s", next)
	}
	return out
}

// next is the command that goes on with s.
func next(s migrate.Standing) string {
	switch {
	case s.Holder != nil:
		return ""
	case s.State.Stage == migrate.Finishing:
		return "redisopt migrate complete" + targetArgs(s.Target)
	case s.State.Stage.Open():
		return "redisopt migrate resume" + targetArgs(s.Target)
	case s.State.Stage == migrate.Complete:
		return "redisopt rollback " + s.Target.Phase + queueFlagArgs(s.Target)
	}
	return ""
}

// stageText is a stage as people are told of it, in the words of its condition where that follows from it alone.
func stageText(s migrate.Stage) string {
	switch s {
	case migrate.NotStarted, migrate.Complete, migrate.RolledBack, migrate.Finished:
		return string(migrate.Standing{State: migrate.State{Stage: s}}.Condition())
	case migrate.Forward, migrate.Backward, migrate.Finishing:
	}
	return string(s)
}

// problemFindings shows what keeps jobs from being moved.
func problemFindings(problems []mover.Problem) []report.Finding {
	out := make([]report.Finding, len(problems))
	for i, p := range problems {
		out[i] = report.Finding{Rule: p.Rule, Severity: report.SeverityWarning, Subject: p.JobID, Message: p.Message}
		if p.Blocking {
			out[i].Severity = report.SeverityCritical
		}
	}
	return out
}

// lossesSection groups losses that are alike: a million jobs with a timeout are one line.
func lossesSection(losses []mover.Loss, all int64) report.Section {
	if all == 0 {
		return report.Section{Title: "losses", Text: "none: the target can express everything"}
	}
	type kind struct {
		field, why string
		reversible bool
	}
	var order []kind
	alike := map[kind][]mover.Loss{}
	for _, l := range losses {
		k := kind{l.Field, l.Why, l.Reversible}
		if alike[k] == nil {
			order = append(order, k)
		}
		alike[k] = append(alike[k], l)
	}
	lines := make([]string, 0, len(order)+1)
	for _, k := range order {
		lines = append(lines, lossLine(alike[k]))
	}
	if more := all - int64(len(losses)); more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more of whichever kind", more))
	}
	return sentences(fmt.Sprintf("losses (%d)", all), lines)
}

// lossLine tells losses that differ only in job and value.
func lossLine(alike []mover.Loss) string {
	first := alike[0]
	jobs := make([]string, 0, shownJobs)
	for _, l := range alike[:min(len(alike), shownJobs)] {
		if l.JobID != "" {
			jobs = append(jobs, l.JobID)
		}
	}
	line := first.Field
	if len(jobs) > 0 {
		line += " of " + strings.Join(jobs, ", ")
	}
	if more := len(alike) - shownJobs; more > 0 {
		line += fmt.Sprintf(" and %s more", plural(int64(more), "job"))
	}
	switch {
	case first.Becomes != "":
		line += fmt.Sprintf(": %s becomes %s", first.Was, first.Becomes)
	case first.Was != "":
		line += fmt.Sprintf(": %s is dropped", first.Was)
	}
	line += " (" + first.Why + ")"
	if !first.Reversible {
		line += "; the way back does not restore it"
	}
	return line
}

func repeatsSection(repeats []mover.Repeat) report.Section {
	table := &report.Table{Columns: []report.Column{{Name: "key", Elastic: true}, {Name: "becomes"}, {Name: "job"}, {Name: "next run"}}}
	for _, r := range repeats {
		table.Rows = append(table.Rows, []string{r.Key, r.TargetKey, r.Name, time.UnixMilli(r.NextMS).UTC().Format(time.RFC3339)})
	}
	return report.Section{Title: "repeatables", Table: table}
}

// countsSection is a table of jobs by state, one column for each of all. States without jobs are left out.
func countsSection(title string, names []string, all ...map[mover.State]int64) report.Section {
	table := &report.Table{Columns: []report.Column{{Name: "state"}}}
	table.Total = []string{"all"}
	for i, c := range all {
		table.Columns = append(table.Columns, report.Column{Name: names[i], Right: true})
		table.Total = append(table.Total, fmt.Sprint(sum(c)))
	}
	for _, state := range []mover.State{
		mover.Waiting, mover.Paused, mover.Prioritized, mover.Active, mover.Delayed,
		mover.Completed, mover.Failed, mover.WaitingChildren,
	} {
		row := []string{string(state)}
		for _, c := range all {
			row = append(row, fmt.Sprint(c[state]))
		}
		if slices.ContainsFunc(row[1:], func(cell string) bool { return cell != "0" }) {
			table.Rows = append(table.Rows, row)
		}
	}
	if len(table.Rows) == 0 {
		return report.Section{Title: title, Text: "none"}
	}
	return report.Section{Title: title, Table: table}
}

func sentences(title string, lines []string) report.Section {
	return report.Section{Title: title, Text: "- " + strings.Join(lines, "\n- ")}
}

// counts is c, or an empty map where there is none, so that JSON has {} and not null.
func counts(c map[mover.State]int64) map[mover.State]int64 {
	if c == nil {
		return map[mover.State]int64{}
	}
	return c
}

func sum(c map[mover.State]int64) int64 {
	var all int64
	for _, n := range c {
		all += n
	}
	return all
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
