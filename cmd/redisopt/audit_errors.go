package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect/cause"
	"github.com/redisopt/redisopt/internal/inspect/connections"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// errorsData is why connections fail: a field of audit.connections/v1, and the data of
// audit.connections.errors/v1 where no server was asked or could be.
type errorsData struct {
	*cause.Log
	Source   string        `json:"source"`
	Causes   []cause.Cause `json:"causes"`
	RuledOut []cause.Cause `json:"ruled_out"`
	Live     bool          `json:"live"` // whether the server was asked, too
}

// readErrors reads the log that --errors names; nil where none is.
func (a *app) readErrors(path string) (*cause.Log, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // no log is no mistake
	}
	if path == "-" {
		return cause.ReadLog(a.in)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, usagef("--errors: %w", err)
	}
	defer func() { _ = file.Close() }()
	l, err := cause.ReadLog(io.Reader(file))
	if err != nil {
		return nil, usagef("--errors: %w", err)
	}
	return l, nil
}

// judgeErrors is what the log and the facts come to.
func judgeErrors(l *cause.Log, source string, f cause.Facts, live bool) *errorsData {
	d := &errorsData{Log: l, Source: source, Live: live}
	d.Causes, d.RuledOut = cause.Judge(l, f)
	return d
}

// factsOf are what an audit of connections knows about why they fail.
func factsOf(r *connections.Report, conf *config.Config, now time.Time) cause.Facts {
	f := cause.Facts{
		Connections: r.Total + r.Own, Limit: r.Limit.Connections, Rejected: r.Limit.Rejected, Reached: true,
		Uptime: time.Duration(r.Server.UptimeSeconds) * time.Second, Now: now,
	}
	for _, c := range r.Connections {
		if c.Role == connections.RoleApp || c.Role == connections.RoleUnknown || c.Role == connections.RoleQueueClient {
			f.LongestIdle = max(f.LongestIdle, c.Idle)
		}
	}
	if tcp, ok := conf.TCP(); ok {
		secure := tcp.TLS || strings.HasPrefix(tcp.URL.Reveal(), "rediss://")
		f.TLS = &secure
	}
	return f
}

// errorsAlone judges the log without a server; met is what this program met when it asked one, nil where it
// did not.
func (a *app) errorsAlone(l *cause.Log, f connectionsFlags, met error) error {
	facts := cause.Facts{Rejected: -1, Now: a.now()}
	if met != nil {
		facts.Seen, facts.SeenText = causeSeen(upstreamClass(met)), met.Error()
	}
	d := judgeErrors(l, errorsSource(f.errors), facts, false)
	if err := a.print(errorsDocument(d)); err != nil {
		return err
	}
	if met != nil {
		return met
	}
	return f.verdict(cause.Findings(d.Causes, d.Source), l.Missing)
}

// causeSeen is the cause behind a class of errors; empty for one that is none.
func causeSeen(class upstream.Class) cause.Kind {
	switch class { //nolint:exhaustive // the others are no cause of failing connections
	case upstream.TLSMismatch:
		return cause.TLSMismatch
	case upstream.TLSUntrusted:
		return cause.TLSUntrusted
	case upstream.Refused:
		return cause.Refused
	case upstream.Auth, upstream.Permission:
		return cause.Auth
	case upstream.Quota:
		return cause.Quota
	case upstream.Capacity:
		return cause.OutOfMemory
	case upstream.ConnectionLimit:
		return cause.ConnectionLimit
	case upstream.DNS:
		return cause.DNS
	case upstream.Unreachable, upstream.Timedout:
		return cause.Unreachable
	case upstream.Loading:
		return cause.Restart
	}
	return ""
}

func errorsSource(path string) string {
	if path == "-" {
		return "standard input"
	}
	return path
}

func errorsDocument(d *errorsData) report.Document {
	doc := report.Document{
		Kind: "audit.connections.errors/v1", Data: d, Title: "Connection errors",
		Findings: reportFindings(cause.Findings(d.Causes, d.Source)),
		Sections: errorSections(d),
	}
	doc.Notes = append(doc.Notes, errorNotes(d)...)
	if !d.Live {
		doc.Notes = append(doc.Notes, "not observed: the server itself, its limit and its age")
	}
	return doc
}

func errorNotes(d *errorsData) []string {
	var notes []string
	for _, m := range d.Missing {
		notes = append(notes, "not observed: "+m)
	}
	for _, c := range d.RuledOut {
		notes = append(notes, fmt.Sprintf("ruled out: %s, since %s", c.Kind, strings.Join(c.Against, "; ")))
	}
	if d.Errors == 0 {
		notes = append(notes, fmt.Sprintf("none of the %d lines has an error of a connection that is known", d.Lines))
	}
	return notes
}

func errorSections(d *errorsData) []report.Section {
	causes := &report.Table{Columns: []report.Column{
		{Name: "cause"}, {Name: "confidence"}, {Name: "for it", Elastic: true}, {Name: "against it", Elastic: true},
	}}
	for _, c := range d.Causes {
		causes.Rows = append(causes.Rows, []string{string(c.Kind), string(c.Confidence), strings.Join(c.For, "; "), dash(strings.Join(c.Against, "; "))})
	}
	texts := &report.Table{Columns: []report.Column{{Name: "error", Elastic: true}, {Name: "times", Right: true}}}
	for _, t := range d.Texts {
		if t.Sign != "" && len(texts.Rows) < 20 {
			texts.Rows = append(texts.Rows, []string{t.Text, count(t.Count)})
		}
	}
	return []report.Section{tabled("Why connections fail", causes), tabled("What was logged", texts)}
}

// askForErrors audits the server for what the log alone cannot tell. It answers by itself where the server
// cannot be asked.
func (a *app) askForErrors(ctx context.Context, f connectionsFlags, l *cause.Log, audit func(ctx context.Context) error) error {
	if l == nil {
		return audit(ctx)
	}
	if f.offline {
		return a.errorsAlone(l, f, nil)
	}
	err := audit(ctx)
	if err != nil && causeSeen(upstreamClass(err)) != "" {
		return a.errorsAlone(l, f, err)
	}
	return err
}
