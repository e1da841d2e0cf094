package main

import (
	"fmt"
	"strconv"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect/record"
)

// shownTests is how many tests the table for people has; JSON has them all.
const shownTests = 40

// recordPlan is the data of record.plan/v1: what --dry-run would run.
type recordPlan struct {
	Command   []string `json:"command"`
	Engine    string   `json:"engine"`
	Variables []string `json:"variables"`
}

func recordPlanDocument(f recordFlags, args []string) report.Document {
	p := recordPlan{Command: masked(args), Engine: "embedded", Variables: []string{"REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDISOPT_RECORD"}}
	if f.upstream {
		p.Engine = "upstream"
	}
	if !f.noGate {
		p.Variables = append(p.Variables, "UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN", "KV_REST_API_URL", "KV_REST_API_TOKEN")
	}
	p.Variables = append(p.Variables, f.env...)
	return report.Document{
		Kind: "record.plan/v1", Data: p, Title: "Would be recorded",
		Sections: []report.Section{{Fields: []report.Field{
			{Name: "command", Value: fmt.Sprintf("%q", p.Command)},
			{Name: "redis", Value: p.Engine},
			{Name: "variables set", Value: fmt.Sprint(p.Variables)},
		}}},
	}
}

func recordDocument(r *record.Report) report.Document {
	doc := report.Document{
		Kind: "record/v1", Data: r, Title: "Recorded commands",
		Findings: reportFindings(r.Findings),
		Sections: []report.Section{
			{Fields: recordFields(r)},
			recordTests(r), recordSources(r), recordClients(r),
			recordRows("By command", "command", len(r.Commands), func(i int) (string, record.Count) { return r.Commands[i].Command, r.Commands[i].Count }),
			recordRows("By key", "first key", len(r.Prefixes), func(i int) (string, record.Count) { return r.Prefixes[i].Prefix, r.Prefixes[i].Count }),
			recordRows("By script", "script", len(r.Scripts), func(i int) (string, record.Count) { return scriptTitle(r.Scripts[i]), r.Scripts[i].Count }),
			recordErrors(r),
		},
	}
	for _, m := range r.Missing {
		doc.Notes = append(doc.Notes, "not observed: "+m)
	}
	return doc
}

func recordFields(r *record.Report) []report.Field {
	t, c := r.Total, r.Connections
	redis := r.Redis.Engine
	if r.Redis.Addr != "" {
		redis += " " + r.Redis.Addr
	}
	fields := []report.Field{
		{Name: "command", Value: fmt.Sprintf("%q", r.Command)},
		{Name: "ended", Value: fmt.Sprintf("exit code %d after %.1f s", r.Exit.Code, r.Seconds)},
		{Name: "redis", Value: redis},
		{Name: "commands", Value: fmt.Sprintf("%d sent, %d in scripts", t.Sent, t.InScript)},
		{Name: "of these", Value: fmt.Sprintf("%d work, %d idle, %d setup", t.Work, t.Idle, t.Setup)},
		{Name: "billed", Value: fmt.Sprintf("%d by %s, %d of them work", t.Billed, r.Provider.Name, t.BilledWork)},
		{Name: "connections", Value: fmt.Sprintf("%d opened, %d at a time, %d left open", c.Opened, c.Peak, c.Left)},
	}
	if c.HTTPRequests > 0 {
		fields = append(fields, report.Field{Name: "http requests", Value: strconv.FormatInt(c.HTTPRequests, 10)})
	}
	if t.Errors > 0 {
		fields = append(fields, report.Field{Name: "errors", Value: strconv.FormatInt(t.Errors, 10)})
	}
	return fields
}

func recordTests(r *record.Report) report.Section {
	t := &report.Table{Columns: []report.Column{
		{Name: "test"}, {Name: "runs", Right: true}, {Name: "most a run", Right: true}, {Name: "billed work", Right: true}, {Name: "errors", Right: true},
	}}
	named := 0
	for _, test := range r.Tests {
		name := test.Name
		if name == "" {
			name = "(outside of tests)"
		} else {
			named++
		}
		if named > shownTests {
			continue
		}
		t.Rows = append(t.Rows, []string{name, count(test.Runs), count(test.MaxPerRun), count(test.BilledWork), count(test.Errors)})
	}
	if named == 0 {
		return report.Section{}
	}
	s := report.Section{Title: "By test", Table: t}
	if named > shownTests {
		s.Text = fmt.Sprintf("%d more tests are in the JSON.", named-shownTests)
	}
	return s
}

func recordSources(r *record.Report) report.Section {
	t := &report.Table{Columns: []report.Column{
		{Name: "source"},
		{Name: "known by"},
		{Name: "conns", Right: true},
		{Name: "sent", Right: true},
		{Name: "in scripts", Right: true},
		{Name: "idle", Right: true},
		{Name: "billed", Right: true},
	}}
	for _, s := range r.Sources {
		t.Rows = append(t.Rows, []string{s.Name, s.Named, number(s.PeakConnections), count(s.Sent), count(s.InScript), count(s.Idle), count(s.Billed)})
	}
	return tabled("By source", t)
}

func recordClients(r *record.Report) report.Section {
	t := &report.Table{Columns: []report.Column{
		{Name: "client name"}, {Name: "library"}, {Name: "conns", Right: true}, {Name: "sent", Right: true}, {Name: "errors", Right: true},
	}}
	for _, c := range r.Clients {
		t.Rows = append(t.Rows, []string{dash(c.Name), dash(c.Library), count(c.Connections), count(c.Sent), count(c.Errors)})
	}
	return tabled("By client", t)
}

func recordRows(title, column string, n int, row func(int) (string, record.Count)) report.Section {
	t := &report.Table{Columns: []report.Column{
		{Name: column}, {Name: "sent", Right: true}, {Name: "in scripts", Right: true}, {Name: "idle", Right: true}, {Name: "billed", Right: true}, {Name: "errors", Right: true},
	}}
	for i := range n {
		name, c := row(i)
		t.Rows = append(t.Rows, []string{name, count(c.Sent), count(c.InScript), count(c.Idle), count(c.Billed), count(c.Errors)})
	}
	return tabled(title, t)
}

func recordErrors(r *record.Report) report.Section {
	t := &report.Table{Columns: []report.Column{{Name: "error", Elastic: true}, {Name: "command"}, {Name: "times", Right: true}}}
	for _, e := range r.Errors {
		t.Rows = append(t.Rows, []string{e.Text, e.Command, count(e.Count)})
	}
	return tabled("Errors", t)
}

// tabled is a section of t, none where it has no rows.
func tabled(title string, t *report.Table) report.Section {
	if len(t.Rows) == 0 {
		return report.Section{}
	}
	return report.Section{Title: title, Table: t}
}

func scriptTitle(s record.Script) string {
	name := s.SHA1
	if len(name) == 40 {
		name = name[:8]
	}
	if s.Title != "" {
		name += " " + s.Title
	}
	return name
}

func count(n int64) string { return strconv.FormatInt(n, 10) }
