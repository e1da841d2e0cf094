package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/demo"
	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
)

func (a *app) demoCommand() *cobra.Command {
	var opts demo.Options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Try everything on an embedded Redis: audit, four phases there and back, compare",
		Long: `demo starts a Redis inside this program, loads keys that a real Bull 4.16 left
behind, attaches a simulated application and audits it. Then it walks all four
phases: cache and limits go to a second Redis while callers go on, queues that
can wait are paused, the queues move to the BullMQ layout while a producer goes
on adding, and what is left of a queue is saved and deleted. It goes all the way
back, one queue goes to redisopt's own engine and back besides, and every key is
compared with what it was. It needs no network and nothing installed, and takes
about 15 seconds.`,
		Example: `  redisopt demo
  redisopt demo -o json | jq .data.table`,
		Args: cobra.NoArgs,
		RunE: a.action(func(ctx context.Context, _ []string) error { return a.demo(ctx, opts) }),
	}
	cmd.Flags().DurationVar(&opts.Window, "window", 10*time.Second, "count the idle commands for this `duration`")
	return cmd
}

func (a *app) demo(ctx context.Context, opts demo.Options) error {
	if opts.Window < time.Second {
		return usagef("--window: got %s, want at least 1s", opts.Window)
	}
	p := a.progress("s")
	opts.Progress = func(stage string) { p.begin(stage, 0) }
	opts.Tick = func(elapsed, window time.Duration) {
		p.update(int64(elapsed.Seconds()), int64(window.Seconds()))
	}
	r, err := demo.Run(ctx, opts)
	p.finish()
	if err != nil {
		return err
	}
	if err := a.print(demoDocument(r)); err != nil {
		return err
	}
	a.cost(r.Cost.Audit.Plus(r.Cost.Migrate))
	if !r.Passed() {
		return verdictf(exitMismatch, "the demo found differences that must not be")
	}
	return nil
}

func demoDocument(r *demo.Result) report.Document {
	doc := report.Document{
		Kind: "demo/v1", Data: r,
		Title: "Four phases there and back, on an embedded Redis",
		Sections: []report.Section{
			demoSummary(r), demoTable(r), demoPhases(r), demoQueues(r), demoLosses(r), demoDifferences(r), demoCost(r),
		},
		Checks: demoChecks(r),
		Notes: []string{
			"Polling every 300 s is drainDelay: 300 and stalledInterval: 300000; new jobs still start at once.",
			"BullMQ does not lower connections or idle commands by itself: an options object per queue opens as many connections as Bull did, and its idle polling runs more commands inside scripts.",
			"Of tuned BullMQ, one job or schedule that is due later makes an idle worker poll every 10 s again, whatever its settings.",
		},
	}
	for _, s := range r.Simulated {
		doc.Notes = append(doc.Notes, "simulated: "+s)
	}
	return doc
}

func demoSummary(r *demo.Result) report.Section {
	c := r.Commands
	return report.Section{Fields: []report.Field{
		{Name: "redis", Value: r.Server.Engine + "; volatile"},
		{Name: "loaded", Value: fmt.Sprintf("%d jobs in %d queues, %d keys, left behind by a real %s", r.Capture.Jobs, r.Capture.Queues, r.Capture.Keys, "Bull "+r.Capture.Version)},
		{Name: "connections", Value: fmt.Sprintf("%d (simulated): %d Bull, %d others, %d unknown", r.Connections.Total, r.Connections.Bull, r.Connections.Total-r.Connections.Bull, r.Connections.Unknown)},
		{Name: "idle commands", Value: fmt.Sprintf("%s a month, %s with in-script ones", millions(c.TopPerMonth), millions(c.AllPerMonth))},
		{Name: "added live", Value: fmt.Sprintf("%d jobs by a simulated producer: %d there, %d on the way back", r.Added.There+r.Added.Back, r.Added.There, r.Added.Back)},
		{Name: "took", Value: fmt.Sprintf("%.1f s", r.DurationSeconds)},
	}}
}

// millions writes a monthly number of commands.
func millions(n float64) string { return strconv.FormatFloat(n/1e6, 'f', 2, 64) + " M" }

func demoTable(r *demo.Result) report.Section {
	t := &report.Table{Columns: []report.Column{
		{Name: "11 idle queues, a worker each", Elastic: true},
		{Name: "Conns", Right: true},
		{Name: "Top/month", Right: true},
		{Name: "All/month", Right: true},
		{Name: "Counted on", Elastic: true},
	}}
	for _, s := range r.Table {
		t.Rows = append(t.Rows, []string{s.Name, strconv.Itoa(s.Connections), millions(s.TopPerMonth), millions(s.AllPerMonth), s.Source})
	}
	return report.Section{
		Title: "Before and after",
		Text:  "Top is what clients send, all is with what scripts call; providers bill either.",
		Table: t,
	}
}

// demoPhases tell what each phase moved, what it cost, and what came back.
func demoPhases(r *demo.Result) report.Section {
	t := &report.Table{Columns: []report.Column{
		{Name: "Phase"},
		{Name: "There"},
		{Name: "Commands", Right: true},
		{Name: "Back"},
		{Name: "Commands", Right: true},
		{Name: "As it was", Elastic: true},
	}}
	for _, p := range r.Phases {
		t.Rows = append(t.Rows, []string{p.Name, legText(p.There), costText(p.There.Cost), legText(p.Back), costText(p.Back.Cost), asItWas(p)})
	}
	return report.Section{
		Title: "All four phases and back", Table: t,
		Text: "Phases 1, 2, 3, 4 there, then 4, 3, 2, 1 back. Commands are the migrations' own, a script is one.",
	}
}

// legText is what a phase moved in one direction: "30 jobs".
func legText(l demo.PhaseLeg) string {
	if l.What == "" {
		return "nothing"
	}
	return countOf(l.Moved, l.What)
}

// asItWas is what was compared after the way back.
func asItWas(p demo.Phase) string {
	switch {
	case !p.Passed:
		return "NO: " + p.Why
	case p.Keys == 0:
		return "see below"
	}
	text := fmt.Sprintf("%d of %d keys", p.Identical, p.Keys)
	if t := p.Traffic; t != nil {
		text += fmt.Sprintf(", %s wrong", plural(int64(len(t.Wrong)), "answer"))
	}
	return text
}

func demoQueues(r *demo.Result) report.Section {
	t := &report.Table{Columns: []report.Column{
		{Name: "Queue"},
		{Name: "From"},
		{Name: "To"},
		{Name: "Moved", Right: true},
		{Name: "Took", Right: true},
		{Name: "Returned", Right: true},
		{Name: "Took", Right: true},
		{Name: "Lost", Right: true},
	}}
	for _, q := range r.Queues {
		lost := max(q.There.Expected-q.There.Found, 0) + max(q.Back.Expected-q.Back.Found, 0)
		t.Rows = append(t.Rows, []string{
			q.Name, q.From.Prefix, q.To.Prefix,
			strconv.FormatInt(q.There.Jobs, 10), shortDuration(q.There.Took),
			strconv.FormatInt(q.Back.Jobs, 10), shortDuration(q.Back.Took), strconv.Itoa(lost),
		})
	}
	return report.Section{Title: "Queues moved and rolled back", Table: t}
}

// demoLosses gathers the losses by what is lost; JSON names every job.
func demoLosses(r *demo.Result) report.Section {
	t := &report.Table{Columns: []report.Column{{Name: "Lost"}, {Name: "Jobs", Right: true}, {Name: "What BullMQ does instead", Elastic: true}}}
	type kind struct{ field, why string }
	var kinds []kind
	jobs := map[kind]int{}
	for _, q := range r.Queues {
		for _, l := range q.Losses {
			k := kind{l.Field, l.Why}
			if jobs[k] == 0 {
				kinds = append(kinds, k)
			}
			jobs[k]++
		}
	}
	for _, k := range kinds {
		t.Rows = append(t.Rows, []string{k.field, strconv.Itoa(jobs[k]), k.why})
	}
	return report.Section{Title: "What BullMQ cannot express, named before anything moved", Table: t}
}

func demoDifferences(r *demo.Result) report.Section {
	c := r.Comparison
	t := &report.Table{Columns: []report.Column{{Name: "Differs"}, {Name: "Keys", Right: true}, {Name: "Why it must", Elastic: true}}}
	for _, e := range c.Expected {
		t.Rows = append(t.Rows, []string{e.Kind, strconv.Itoa(e.Count), e.Why})
	}
	for _, u := range c.Unexplained {
		t.Rows = append(t.Rows, []string{"UNEXPLAINED", "1", u})
	}
	return report.Section{
		Title: "After the way back, against the capture", Table: t,
		Text: fmt.Sprintf("%d of %d captured keys are identical, byte for byte.", c.Identical, c.Keys),
	}
}

func demoCost(r *demo.Result) report.Section {
	var scripts, jobs int64
	for _, q := range r.Queues {
		scripts += q.There.Scripts + q.Back.Scripts
		jobs += q.There.Jobs + q.Back.Jobs
	}
	return report.Section{Title: "What it cost", Fields: []report.Field{
		{Name: "both audits", Value: fmt.Sprintf("%s, %s", plural(r.Cost.Audit.Commands, "command"), plural(r.Cost.Audit.Writes, "write"))},
		{Name: "plans, moves, rollbacks", Value: fmt.Sprintf("%s for %d job moves, %d of them scripts", plural(r.Cost.Migrate.Commands, "command"), jobs, scripts)},
	}}
}

func demoChecks(r *demo.Result) []report.Check {
	check := func(name string, ok bool, message string) report.Check {
		verdict := report.Pass
		if !ok {
			verdict = report.Fail
		}
		return report.Check{Name: name, Verdict: verdict, Message: message}
	}
	checks := []report.Check{
		check("every connection attributed", r.Connections.Unknown == 0, fmt.Sprintf("%d connections, %d unknown", r.Connections.Total, r.Connections.Unknown)),
	}
	for _, p := range r.Phases {
		message := fmt.Sprintf("%s there, %s back", legText(p.There), legText(p.Back))
		if !p.Passed {
			message = p.Why
		} else if p.Keys > 0 {
			message += fmt.Sprintf("; %d of %d keys are what they were, %d must differ", p.Identical, p.Keys, p.Keys-p.Identical)
		}
		checks = append(checks, check(p.Name+" there and back", p.Passed, message))
	}
	for _, q := range r.Queues {
		checks = append(checks,
			check(q.Name+" moved", q.There.Complete(), passageMessage(q.There)),
			check(q.Name+" rolled back", q.Back.Complete(), passageMessage(q.Back)))
	}
	c := r.Comparison
	message := fmt.Sprintf("%d of %d identical, the others as listed", c.Identical, c.Keys)
	if len(c.Unexplained) > 0 {
		message = strings.Join(c.Unexplained, "; ")
	}
	return append(checks, check("keys equal the capture", len(c.Unexplained) == 0, message))
}

func passageMessage(p demo.Passage) string {
	return fmt.Sprintf("%d of %d jobs found, %d left behind, %d mismatches, %d skipped", p.Found, p.Expected, p.Left, len(p.Problems), len(p.Skipped))
}
