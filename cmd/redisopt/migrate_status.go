package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/journal"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

func (a *app) migrateStatusCommand() *cobra.Command {
	var which queueFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "What is open, at which step, who works on it, and how to go on",
		Example: `  redisopt migrate status
  redisopt migrate status --queue mail -o json`,
		Args: cobra.NoArgs,
		RunE: a.action(func(ctx context.Context, _ []string) error { return a.migrateStatus(ctx, which) }),
	}
	which.register(cmd)
	return cmd
}

func (a *app) migrateStatus(ctx context.Context, which queueFlags) error {
	return a.withRedis(ctx, reading(), func(up *upstream.Upstream, conf *config.Config) error {
		dir, err := a.migrationDir(conf)
		if err != nil {
			return err
		}
		targets := []migrate.Target{which.target()}
		if which.queue == "" {
			if targets, err = migrate.Targets(ctx, up.Client()); err != nil {
				return err
			}
		}
		all := make([]migrate.Standing, 0, len(targets))
		for _, t := range targets {
			s, err := migrate.Look(ctx, up.Client(), migrate.SessionOptions{Target: t, StateDir: dir})
			if err != nil {
				return a.migrationHint(err, t)
			}
			all = append(all, s)
		}
		return a.print(statusDocument(all))
	})
}

func (a *app) migrateHistoryCommand() *cobra.Command {
	var which queueFlags
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Everything that was done to one queue, from its journal",
		Example: `  redisopt migrate history --queue mail
  redisopt migrate history --queue mail -o json`,
		Args: cobra.NoArgs,
		RunE: a.action(func(ctx context.Context, _ []string) error { return a.migrateHistory(ctx, which) }),
	}
	which.register(cmd)
	_ = cmd.MarkFlagRequired("queue") // the flag exists
	return cmd
}

func (a *app) migrateHistory(ctx context.Context, which queueFlags) error {
	return a.withMigration(ctx, reading(), which.target(), func(_ *upstream.Upstream, s migrate.Standing, _ string) error {
		return a.print(historyDocument(s))
	})
}

// historyData is the contract of migrate.history/v1.
type historyData struct {
	Target  migrate.Target  `json:"target"`
	Stage   migrate.Stage   `json:"stage"`
	Entries []journal.Entry `json:"entries"`
}

func historyDocument(s migrate.Standing) report.Document {
	doc := report.Document{
		Kind:  "migrate.history/v1",
		Data:  historyData{Target: s.Target, Stage: s.State.Stage, Entries: append([]journal.Entry{}, s.Entries...)},
		Title: "history of " + s.Target.String(),
	}
	if len(s.Entries) == 0 {
		doc.Sections = []report.Section{{Text: "nothing was ever done"}}
		return doc
	}
	table := &report.Table{Columns: []report.Column{
		{Name: "#", Right: true}, {Name: "time"}, {Name: "what"}, {Name: "step"}, {Name: "detail", Elastic: true},
	}}
	for _, e := range s.Entries {
		table.Rows = append(table.Rows, []string{
			fmt.Sprint(e.Seq), e.Time.UTC().Format(time.RFC3339), string(e.Kind), e.Step, detailText(e),
		})
	}
	doc.Sections = []report.Section{{Table: table}}
	return doc
}

// detailText is the detail of an entry as people read it: what was asked for, or why.
func detailText(e journal.Entry) string {
	var detail struct {
		Reason  string          `json:"reason"`
		Options json.RawMessage `json:"options"`
	}
	if len(e.Detail) == 0 || json.Unmarshal(e.Detail, &detail) != nil {
		return string(e.Detail)
	}
	if detail.Reason != "" {
		return detail.Reason
	}
	if route, err := step.ReadRoute(detail.Options); err == nil {
		return fmt.Sprintf("%s to %s, order %s", route.From, route.To, route.Order)
	}
	return string(e.Detail)
}

// A heldLease is a lease that somebody holds.
type heldLease struct {
	target migrate.Target
	holder migrate.Holder
}

// heldLeases finds the lease of the queue that was named, or all that are held.
func heldLeases(ctx context.Context, up *upstream.Upstream, which queueFlags) ([]heldLease, error) {
	targets := []migrate.Target{which.target()}
	if which.queue == "" {
		var err error
		if targets, err = migrate.Targets(ctx, up.Client()); err != nil {
			return nil, err
		}
	}
	var out []heldLease
	for _, t := range targets {
		h, err := migrate.Holding(ctx, up.Client(), t.LeaseKey())
		if err != nil {
			return nil, err
		}
		if h != nil {
			out = append(out, heldLease{target: t, holder: *h})
		}
	}
	return out, nil
}

func leaseNames(held []heldLease) string {
	names := make([]string, len(held))
	for i, h := range held {
		names[i] = h.target.Queue
	}
	return strings.Join(names, ", ")
}

// unlockData is the contract of migrate.unlock/v1.
type unlockData struct {
	Target   *migrate.Target `json:"target"` // nil when no lease is held
	Holder   *migrate.Holder `json:"holder"` // who had it
	Unlocked bool            `json:"unlocked"`
}

// unlockDocument tells whose lease is, or was, taken away.
func unlockDocument(held *heldLease, done bool) report.Document {
	doc := report.Document{Kind: "migrate.unlock/v1", Title: "lease"}
	if held == nil {
		doc.Data = unlockData{}
		doc.Sections = []report.Section{{Text: "no lease is held"}}
		return doc
	}
	doc.Data = unlockData{Target: &held.target, Holder: &held.holder, Unlocked: done}
	doc.Sections = []report.Section{{Fields: []report.Field{
		{Name: "migration", Value: held.target.String()},
		{Name: "held by", Value: held.holder.Owner},
		{Name: "expires", Value: held.holder.Expires.UTC().Format(time.RFC3339)},
		{Name: "taken away", Value: yesNo(done)},
	}}}
	return doc
}
