package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
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
	var (
		which whichMigration
		watch bool
		every time.Duration
	)
	cmd := &cobra.Command{
		Use:   "status [phase]",
		Short: "What is open, at which step, who works on it, and how to go on",
		Example: `  redisopt migrate status
  redisopt migrate status --queue mail --watch -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.action(func(ctx context.Context, args []string) error {
			if err := which.set(args); err != nil {
				return err
			}
			if every < 100*time.Millisecond {
				return usagef("--every: got %s, want at least 100ms", every)
			}
			return a.migrateStatus(ctx, which, watch, every)
		}),
	}
	which.register(cmd)
	cmd.Flags().BoolVar(&watch, "watch", false, "tell again whenever something changes, until nothing is open or Ctrl-C; in JSON one document a line")
	cmd.Flags().DurationVar(&every, "every", 5*time.Second, "with --watch, look this often; each look costs about 6 commands a migration")
	return cmd
}

func (a *app) migrateStatus(ctx context.Context, which whichMigration, watch bool, every time.Duration) error {
	return a.withRedis(ctx, reading(), func(up *upstream.Upstream, conf *config.Config) error {
		dir, err := a.migrationDir(conf)
		if err != nil {
			return err
		}
		if !watch {
			all, err := a.standings(ctx, up, which, dir)
			if err != nil {
				return err
			}
			return errors.Join(a.print(statusDocument(all)), unread(all))
		}
		return a.watchStatus(ctx, up, which, dir, every)
	})
}

// standings looks at the migration that was named, or at all there are of the phase that was. Of several, those
// whose journal cannot be read are among the others, with the reason as their Err.
func (a *app) standings(ctx context.Context, up *upstream.Upstream, which whichMigration, dir string) ([]migrate.Standing, error) {
	if which.named() {
		s, err := a.lookAmong(ctx, up, which.target(), dir)
		if err = errors.Join(err, s.Err); err != nil {
			return nil, err
		}
		return []migrate.Standing{s}, nil
	}
	targets, err := migrate.Targets(ctx, up.Client())
	if err != nil {
		return nil, err
	}
	all := make([]migrate.Standing, 0, len(targets))
	for _, t := range targets {
		if which.phase != "" && t.Phase != which.phase {
			continue
		}
		s, err := a.lookAmong(ctx, up, t, dir)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// watchStatus prints the status whenever it changes, until nobody works on anything and nothing waits.
func (a *app) watchStatus(ctx context.Context, up *upstream.Upstream, which whichMigration, dir string, every time.Duration) error {
	out := a.stream()
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last string
	for {
		all, err := a.standings(ctx, up, which, dir)
		if err != nil {
			return err
		}
		doc := statusDocument(all)
		seen, err := json.Marshal(doc.Data)
		if err != nil {
			return err
		}
		if now := withoutExpiry(string(seen)); now != last {
			last = now
			if err := out.Write(doc); err != nil {
				return err
			}
		}
		if !slices.ContainsFunc(all, func(s migrate.Standing) bool { return s.State.Stage.Open() || s.Holder != nil }) {
			return unread(all)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// withoutExpiry leaves out of a status what changes with every renewal of a lease.
func withoutExpiry(text string) string {
	return regexp.MustCompile(`"expires":"[^"]*"`).ReplaceAllString(text, "")
}

func (a *app) migrateHistoryCommand() *cobra.Command {
	return a.verb(&cobra.Command{
		Use:   "history [phase]",
		Short: "Everything that was done to one queue or in one phase, from its journal",
		Example: `  redisopt migrate history --queue mail
  redisopt migrate history phase2 -o json`,
	}, func(ctx context.Context, which whichMigration) error { return a.migrateHistory(ctx, which.target()) })
}

func (a *app) migrateHistory(ctx context.Context, t migrate.Target) error {
	return a.withMigration(ctx, reading(), t, func(_ *upstream.Upstream, s migrate.Standing, _ string) error {
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
		Windows []string        `json:"windows"`
	}
	if len(e.Detail) == 0 || json.Unmarshal(e.Detail, &detail) != nil {
		return string(e.Detail)
	}
	if detail.Reason != "" {
		return detail.Reason
	}
	only := ""
	if len(detail.Windows) > 0 {
		only = "only in " + strings.Join(detail.Windows, " and ")
	}
	if e.Kind == journal.Window {
		return cmp.Or(only, "at any time")
	}
	if route, err := step.ReadRoute(detail.Options); err == nil {
		text := fmt.Sprintf("%s to %s, order %s", route.From, route.To, route.Order)
		if only != "" {
			text += ", " + only
		}
		return text
	}
	return string(e.Detail)
}

// A heldLease is a lease that somebody holds.
type heldLease struct {
	target migrate.Target
	holder migrate.Holder
}

// heldLeases finds the lease of the queue or the whole phase that was named, or all that are held, of one
// phase or of any.
func heldLeases(ctx context.Context, up *upstream.Upstream, which whichMigration) ([]heldLease, error) {
	targets := []migrate.Target{{Phase: step.Phase3Name, Prefix: which.prefix, Queue: which.queue}}
	switch {
	case which.queue != "":
	case which.named():
		targets = []migrate.Target{which.target()}
	default:
		var err error
		if targets, err = migrate.Targets(ctx, up.Client()); err != nil {
			return nil, err
		}
	}
	var out []heldLease
	for _, t := range targets {
		if which.phase != "" && t.Phase != which.phase {
			continue
		}
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

// leaseNames are what has to be typed to choose one of held.
func leaseNames(held []heldLease) string {
	names := make([]string, len(held))
	for i, h := range held {
		names[i] = fmt.Sprintf("%s (%s)", strings.TrimSpace(unlockArgs(h.target)), h.holder.Owner)
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
