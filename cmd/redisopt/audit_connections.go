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
	"github.com/redisopt/redisopt/internal/inspect/cause"
	"github.com/redisopt/redisopt/internal/inspect/connections"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// connectionsFlags are the flags of audit connections.
type connectionsFlags struct {
	gateFlags
	watch time.Duration
	every time.Duration
	max   int
	limit int
	deep  bool

	errors  string
	offline bool
}

// connectionsData is the contract of audit.connections/v1.
type connectionsData struct {
	*connections.Report

	// Watch is there with --watch: every sample, and what they show together.
	Watch *connections.WatchReport `json:"watch,omitempty"`

	// Errors is there with --errors: why the application's connections fail.
	Errors *errorsData `json:"errors,omitempty"`
}

func (a *app) auditConnectionsCommand() *cobra.Command {
	var f connectionsFlags
	cmd := &cobra.Command{
		Use:   "connections",
		Short: "Who holds connections: library, role, queue, process; the limit; what each phase leaves",
		Long: `Attributes every connection of the server to a library, a role, a queue and a process,
compares their number with the limit, and computes what each phase of a migration leaves.
Reads only: INFO, CLIENT LIST, CLIENT ID, and PUBSUB CHANNELS when somebody subscribes.`,
		Example: `  redisopt audit connections
  redisopt audit connections --watch 10m --max 40 -o junit
  kubectl logs deploy/api | redisopt audit connections --errors -`,
		Args: cobra.NoArgs,
		PreRunE: func(*cobra.Command, []string) error {
			return f.validate()
		},
		RunE: a.action(func(ctx context.Context, _ []string) error { return a.auditConnections(ctx, f) }),
	}
	set := cmd.Flags()
	f.register(set)
	set.DurationVar(&f.watch, "watch", 0, "look again and again for this long: churn, leaks, reconnect storms")
	set.DurationVar(&f.every, "every", 5*time.Second, "time between two looks of --watch")
	set.IntVar(&f.max, "max", 0, "fail (exit 3) above `n` connections, ours not counted")
	set.IntVar(&f.limit, "limit", 0, "the plan allows `n` connections (default: what the server says)")
	set.BoolVar(&f.deep, "deep", false, "also ask each BullMQ queue for its version: one command per queue")
	set.StringVar(&f.errors, "errors", "", "say why connections fail, from this log of the application: a `file`, text or JSON lines, - for standard input")
	set.BoolVar(&f.offline, "offline", false, "with --errors: judge the log alone and ask no Redis")
	return cmd
}

func (f *connectionsFlags) validate() error {
	if f.watch < 0 || f.watch > 0 && f.every < 100*time.Millisecond {
		return fmt.Errorf("--watch and --every: got %s and %s, want 0 or more, and at least 100ms", f.watch, f.every)
	}
	if f.offline && f.errors == "" {
		return errors.New("--offline: without --errors there is nothing to judge")
	}
	if f.errors != "" && f.watch > 0 {
		return errors.New("--errors and --watch: want one of the two")
	}
	_, err := connections.New(nil, connections.Options{Limit: f.limit, Max: f.max})
	return err
}

func (a *app) auditConnections(ctx context.Context, f connectionsFlags) error {
	log, err := a.readErrors(f.errors)
	if err != nil {
		return err
	}
	return a.askForErrors(ctx, f, log, func(ctx context.Context) error { return a.askConnections(ctx, f, log) })
}

// askConnections audits the configured Redis; log may be nil.
func (a *app) askConnections(ctx context.Context, f connectionsFlags, log *cause.Log) error {
	return a.withRedis(ctx, redisUse{component: meter.Audit}, func(up *upstream.Upstream, conf *config.Config) error {
		opts := connections.Options{Limit: f.limit, Max: f.max, Deep: f.deep, Paused: pausable(conf)}
		if opts.Limit == 0 {
			opts.Limit = conf.Budgets.Connections.PlanLimit
		}
		auditor, err := connections.New(up.Client(), opts)
		if err != nil {
			return err
		}
		if f.watch > 0 {
			return a.watchConnections(ctx, auditor, f)
		}
		r, err := auditor.Audit(ctx)
		if err != nil {
			return err
		}
		data := connectionsData{Report: r}
		if log != nil {
			data.Errors = judgeErrors(log, errorsSource(f.errors), factsOf(r, conf, a.now()), true)
			r.Findings = append(r.Findings, cause.Findings(data.Errors.Causes, data.Errors.Source)...)
		}
		if err := a.print(connectionsDocument(data, f, a.flags.verbose)); err != nil {
			return err
		}
		return f.verdict(r.Findings, r.Missing)
	})
}

// watchConnections streams samples in JSON; for people they are notes, and the answer is the last report.
func (a *app) watchConnections(ctx context.Context, auditor *connections.Auditor, f connectionsFlags) error {
	stream := a.stream()
	asJSON := a.flags.output == report.FormatJSON
	var broken error
	limited, stop := context.WithTimeout(ctx, f.watch)
	defer stop()
	w, err := auditor.Watch(limited, f.every, func(s connections.Sample) {
		if !asJSON {
			a.note("%s", sampleLine(s))
			return
		}
		if err := stream.Write(sampleDocument(s)); err != nil {
			broken = err
			stop() // nobody reads any more
		}
	})
	if err != nil {
		return err
	}
	if broken != nil {
		return broken
	}
	w.Last.Findings = append(w.Findings, w.Last.Findings...)
	w.Last.Measures = append(w.Last.Measures, w.Measures...)
	doc := connectionsDocument(connectionsData{Report: w.Last, Watch: w}, f, a.flags.verbose)
	if err := stream.Write(doc); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("watch ended after %s: %w", shortDuration(w.Duration), err)
	}
	return f.verdict(w.Last.Findings, w.Last.Missing)
}

func sampleDocument(s connections.Sample) report.Document {
	return report.Document{Kind: "audit.connections.sample/v1", Data: s}
}

func sampleLine(s connections.Sample) string {
	at := s.At.Format(time.TimeOnly)
	if s.Problem != "" {
		return at + "  " + s.Problem
	}
	line := fmt.Sprintf("%s  %d connections, %d opened, %d closed", at, s.Total, s.Opened, s.Closed)
	if s.ShortLived > 0 {
		line += fmt.Sprintf(", %d came and went", s.ShortLived)
	}
	return line
}

// pausable are the queues that phase 2 would pause: those configured as not critical.
func pausable(conf *config.Config) []string {
	var names []string
	for _, q := range conf.Queues.List {
		if q.Criticality == config.Normal {
			names = append(names, q.Name)
		}
	}
	return names
}

func connectionsDocument(d connectionsData, f connectionsFlags, every bool) report.Document {
	r := d.Report
	doc := report.Document{
		Kind:     "audit.connections/v1",
		Data:     d,
		Title:    "Connections",
		Findings: reportFindings(r.Findings),
		Checks:   connectionChecks(r, f),
		Sections: []report.Section{{Fields: connectionFields(r)}},
	}
	for _, m := range r.Missing {
		doc.Notes = append(doc.Notes, "not observed: "+m)
	}
	if w := d.Watch; w != nil {
		doc.Sections[0].Fields = append(doc.Sections[0].Fields, report.Field{
			Name: "watched", Value: fmt.Sprintf("%s, %d samples", shortDuration(w.Duration), len(w.Samples)),
		})
	}
	if d.Errors != nil {
		doc.Sections = append(doc.Sections, errorSections(d.Errors)...)
		doc.Notes = append(doc.Notes, errorNotes(d.Errors)...)
	}
	if !r.Complete() {
		return doc
	}
	doc.Sections = append(doc.Sections,
		roleSection(r), queueSection(r), processSection(r), sharingSection(r), phaseSection(r))
	if every {
		doc.Sections = append(doc.Sections, everyConnection(r))
	}
	return doc
}

func connectionFields(r *connections.Report) []report.Field {
	fields := []report.Field{
		{Name: "server", Value: strings.TrimSpace(r.Server.Provider + " " + r.Server.Version)},
		{Name: "connections", Value: fmt.Sprintf("%d, and %d of ours", r.Total, r.Own)},
	}
	if r.Complete() {
		fields = append(fields, report.Field{Name: "unattributed", Value: strconv.Itoa(r.Unknown)})
	}
	if l := r.Limit; l.Connections > 0 {
		fields = append(fields, report.Field{
			Name: "limit", Value: fmt.Sprintf("%d (%s): %.1f%% used, room for %d", l.Connections, l.Source, l.UsedPercent, l.HeadRoom),
		})
	}
	return fields
}

func connectionChecks(r *connections.Report, f connectionsFlags) []report.Check {
	var checks []report.Check
	check := func(name string, ok bool, message string) {
		c := report.Check{Group: "connections", Name: name, Verdict: report.Pass, Message: message}
		if !ok {
			c.Verdict = report.Fail
		}
		checks = append(checks, c)
	}
	if f.max > 0 {
		check(fmt.Sprintf("at most %d", f.max), r.Total <= f.max, fmt.Sprintf("%d connections", r.Total))
	}
	attributed := report.Check{
		Group: "connections", Name: "all attributed", Verdict: report.Pass,
		Message: fmt.Sprintf("%d of %d unknown", r.Unknown, r.Total),
	}
	if !r.Complete() || r.Unknown > 0 {
		attributed.Verdict = report.Inconclusive
	}
	return append(checks, attributed)
}

func number(n int) string { return strconv.Itoa(n) }

func roleSection(r *connections.Report) report.Section {
	t := &report.Table{Columns: []report.Column{{Name: "role"}, {Name: "library"}, {Name: "connections", Right: true}, {Name: "known"}}}
	type id struct {
		role       connections.Role
		library    connections.Library
		confidence connections.Confidence
	}
	n := make(map[id]int)
	for _, c := range r.Connections {
		if !c.Own {
			n[id{c.Role, c.Library, c.Confidence}]++
		}
	}
	for _, role := range r.Roles {
		for _, lib := range []connections.Library{connections.LibraryBull, connections.LibraryBullMQ, connections.LibraryEither, connections.LibraryNone} {
			for _, sure := range []connections.Confidence{connections.Certain, connections.Arithmetic, connections.Likely, connections.Unsure} {
				if k := (id{connections.Role(role.Name), lib, sure}); n[k] > 0 {
					t.Rows = append(t.Rows, []string{role.Name, dash(string(lib)), number(n[k]), string(sure)})
				}
			}
		}
	}
	if len(t.Rows) == 0 {
		return report.Section{}
	}
	t.Total = []string{"total", "", number(r.Total)}
	return report.Section{Title: "By role", Table: t}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func queueSection(r *connections.Report) report.Section {
	t := &report.Table{Columns: []report.Column{
		{Name: "queue"},
		{Name: "library"},
		{Name: "connections", Right: true},
		{Name: "workers", Right: true},
		{Name: "events", Right: true},
		{Name: "processes", Right: true},
	}}
	for _, q := range r.Queues {
		lib := string(q.Library)
		if q.Version != "" {
			lib = q.Version
		}
		t.Rows = append(t.Rows, []string{q.Prefix + ":" + q.Queue, lib, number(q.Connections), number(q.Workers), number(q.Events), number(q.Processes)})
	}
	s := report.Section{Title: "By queue", Table: t}
	if len(t.Rows) == 0 {
		s.Table, s.Text = nil, "no queue of Bull or BullMQ has a worker or a QueueEvents connected"
	}
	return s
}

func processSection(r *connections.Report) report.Section {
	t := &report.Table{Columns: []report.Column{{Name: "process"}, {Name: "connections", Right: true}, {Name: "unnamed", Right: true}}}
	for _, p := range r.Processes {
		t.Rows = append(t.Rows, []string{p.ID, number(p.Connections), number(p.Unnamed)})
	}
	if len(t.Rows) == 0 {
		return report.Section{Title: "By process", Text: "nobody but us"}
	}
	return report.Section{Title: "By process", Table: t}
}

func sharingSection(r *connections.Report) report.Section {
	t := &report.Table{Columns: []report.Column{
		{Name: "process"}, {Name: "library"}, {Name: "now", Right: true}, {Name: "shared", Right: true}, {Name: "why", Elastic: true},
	}}
	for _, s := range r.Sharing {
		t.Rows = append(t.Rows, []string{s.Process, string(s.Library), number(s.Connections), number(s.IfShared), s.Explain})
	}
	if len(t.Rows) == 0 {
		return report.Section{}
	}
	return report.Section{Title: "Sharing", Table: t}
}

func phaseSection(r *connections.Report) report.Section {
	t := &report.Table{Columns: []report.Column{
		{Name: "phase"}, {Name: "what", Elastic: true}, {Name: "left", Right: true}, {Name: "less", Right: true}, {Name: "from", Elastic: true},
	}}
	for _, p := range r.Phases {
		t.Rows = append(t.Rows, []string{p.Phase, p.Target, number(p.Left), fmt.Sprintf("%.1f%%", p.LessPercent), p.Formula})
	}
	return report.Section{Title: "What each phase leaves", Table: t}
}

func everyConnection(r *connections.Report) report.Section {
	t := &report.Table{Columns: []report.Column{
		{Name: "id", Right: true}, {Name: "role"}, {Name: "queue"}, {Name: "known"}, {Name: "why", Elastic: true},
	}}
	for _, c := range r.Connections {
		t.Rows = append(t.Rows, []string{strconv.FormatInt(c.ID, 10), string(c.Role), dash(c.Queue), string(c.Confidence), c.Why})
	}
	return report.Section{Title: "Every connection", Table: t}
}
