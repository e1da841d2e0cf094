package main

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate/replica"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/config"
)

// rollbackPhase1Command is that of every phase of the whole database, and by --emergency the way back
// without the Redis.
func (a *app) rollbackPhase1Command() *cobra.Command {
	cmd := a.rollbackPhaseCommand(step.Phase1Name)
	emergency := cmd.Flags().Bool("emergency", false, "tell every replica by itself, at once; works while the Redis is down")
	reason := cmd.Flags().Lookup("reason").Value
	ordinary := cmd.RunE
	back := a.action(func(ctx context.Context, _ []string) error { return a.emergency(ctx, reason.String()) })
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *emergency {
			return back(cmd, args)
		}
		return ordinary(cmd, args)
	}
	cmd.Example += "\n  redisopt rollback phase1 --emergency --reason 'the Redis is down' --yes"
	return cmd
}

// emergencyData is the contract of rollback.emergency/v1.
type emergencyData struct {
	Phase    string             `json:"phase"`
	Reason   string             `json:"reason"`
	DryRun   bool               `json:"dry_run"`
	Replicas []emergencyReplica `json:"replicas"`
	TookMS   int64              `json:"took_ms"`

	// Note is the file in the state directory that remembers it; empty for a dry run.
	Note string `json:"note"`
}

// An emergencyReplica is what became of one replica.
type emergencyReplica struct {
	URL   string             `json:"url"`
	Done  bool               `json:"done"`
	Error string             `json:"error"` // empty when it did
	Now   map[string]float64 `json:"now"`   // percentages by route
}

// emergency takes all keys back on every replica, without the Redis.
func (a *app) emergency(ctx context.Context, reason string) error {
	conf, err := a.load(config.Need{})
	if err != nil {
		return err
	}
	if reason == "" {
		reason = "emergency"
	}
	fleet, err := fleetOf(conf)
	if err != nil {
		return err
	}
	plan := emergencyDocument(reason, true, fleet.Ramps(ctx), 0)
	if a.flags.dryRun {
		return a.print(plan)
	}
	if err := a.confirm(ctx, plan, "Take all keys back to the old side on these replicas?"); err != nil {
		return err
	}
	began := time.Now()
	said := step.Emergency(ctx, fleet, reason)
	took := time.Since(began)
	note, noteErr := a.noteEmergency(ctx, conf, reason, said)
	if noteErr != nil {
		note = ""
		a.note("warning: this is not remembered, write it down: %v", noteErr)
	}
	doc := emergencyDocument(reason, false, said, took)
	if data, ok := doc.Data.(emergencyData); ok {
		data.Note = note
		doc.Data = data
	}
	if err := a.print(doc); err != nil {
		return err
	}
	missed := 0
	for _, one := range said {
		if one.Err != nil {
			missed++
		}
	}
	if missed > 0 {
		return withHint(verdictf(exitUnreachable, "%s of %d not reached", plural(int64(missed), "replica"), len(said)),
			"run it again, or stop those replicas; they go on as they were")
	}
	a.note("it holds until the control document changes; when the Redis answers again: redisopt rollback phase1")
	return nil
}

func emergencyDocument(reason string, dryRun bool, said []replica.Answer[replica.Ramp], took time.Duration) report.Document {
	data := emergencyData{Phase: step.Phase1Name, Reason: reason, DryRun: dryRun, Replicas: []emergencyReplica{}, TookMS: took.Milliseconds()}
	table := &report.Table{Columns: []report.Column{{Name: "replica"}, {Name: "reached"}, {Name: "route"}, {Name: "on the new side", Right: true}}}
	var findings []report.Finding
	for _, one := range said {
		r := emergencyReplica{URL: one.URL, Done: one.Err == nil, Now: map[string]float64{}}
		if one.Err != nil {
			r.Error = one.Err.Error()
			table.Rows = append(table.Rows, []string{one.URL, "no", "", ""})
			findings = append(findings, report.Finding{
				Rule: "replica-not-reached", Severity: report.SeverityCritical, Subject: one.URL, Message: r.Error,
				Remedy: "see that serve.replicas and REDISOPT_TOKEN are right, or stop that replica",
			})
		}
		for _, route := range one.Said.Routes {
			r.Now[route.Name] = route.Percent
			table.Rows = append(table.Rows, []string{one.URL, yesNo(r.Done), route.Name, strconv.FormatFloat(route.Percent, 'g', -1, 64) + "%"})
		}
		data.Replicas = append(data.Replicas, r)
	}
	title := "back to the old side"
	if dryRun {
		title = "what would go back to the old side"
	}
	return report.Document{Kind: "rollback.emergency/v1", Title: title, Data: data, Findings: findings, Sections: []report.Section{{Table: table}}}
}
