package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/history"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// reportFlags are the flags of migrate report.
type reportFlags struct {
	out    string
	sign   string
	by     string
	why    string
	strict bool
}

func (a *app) migrateReportCommand() *cobra.Command {
	var f reportFlags
	cmd := a.verb(&cobra.Command{
		Use:   "report [phase]",
		Short: "Every success criterion before and after a migration, with its evidence",
		Long: `report judges each success criterion of the design by what was measured before the migration began and since
its last change: value, source, window, samples and coverage. What lacks evidence is inconclusive and says
what is missing. What no instrument measures, and what lacks evidence, is for a person to vouch for, with
--sign and --by; what was measured and missed stays missed.`,
		Example: `  redisopt migrate report phase1 -o markdown
  redisopt migrate report phase1 --out report.html
  redisopt migrate report phase1 --sign users --by 'Ann Lee' --note 'no ticket in 7 days' --yes`,
	}, func(ctx context.Context, which whichMigration) error { return a.migrateReport(ctx, which.target(), f) })
	cmd.Flags().StringVar(&f.out, "out", "", "also write a page with charts, which needs nothing else, to this `file`")
	cmd.Flags().StringVar(&f.sign, "sign", "", "vouch for this `criterion`, which no instrument measured")
	cmd.Flags().StringVar(&f.by, "by", "", "with --sign, the `name` of who vouches")
	cmd.Flags().StringVar(&f.why, "note", "", "with --sign, on what grounds")
	cmd.Flags().BoolVar(&f.strict, "strict", false, "exit 8 when something is inconclusive")
	return cmd
}

// reportData is the contract of migrate.report/v1.
type reportData struct {
	Target    migrate.Target       `json:"target"`
	Condition migrate.Condition    `json:"condition"`
	Since     time.Time            `json:"since"` // when the last run began
	Until     time.Time            `json:"until"` // when the report was made
	Criteria  []migrate.Assessment `json:"criteria"`
}

func (a *app) migrateReport(ctx context.Context, t migrate.Target, f reportFlags) error {
	if (f.sign == "") != (f.by == "") {
		return usagef("--sign and --by: want both or neither")
	}
	use := reading()
	if f.sign != "" {
		use = writing()
	}
	return a.withMigrationOf(ctx, use, t, func(up *upstream.Upstream, conf *config.Config, s migrate.Standing, dir string) error {
		if s.State.Stage == migrate.NotStarted {
			return withHint(verdictf(exitBlocked, "%s was never begun", t), beginCommand(t))
		}
		if f.sign != "" {
			if err := a.sign(ctx, up, &s, dir, f); err != nil || a.flags.dryRun {
				return err
			}
		}
		now := a.now().UTC()
		samples, err := a.samples(ctx, up, conf, s, dir, now)
		if err != nil {
			return err
		}
		data := reportData{
			Target: t, Condition: s.Condition(), Since: s.State.Since.UTC(), Until: now, Criteria: migrate.Assess(s, samples, now),
		}
		if f.out != "" {
			if err := writeReportPage(f.out, data, samples); err != nil {
				return err
			}
			a.note("written to %s", f.out)
		}
		if err := a.print(migrateReportDocument(data)); err != nil {
			return err
		}
		return reportVerdict(data, f.strict)
	})
}

// samples are those that hosts took beside the journal, and those of redisopt serve on this host; where
// both have some, the ones that reach back further.
func (a *app) samples(
	ctx context.Context, up *upstream.Upstream, conf *config.Config, s migrate.Standing, dir string, now time.Time,
) ([]history.Sample, error) {
	id, err := migrate.DatabaseID(ctx, up.Client())
	if err != nil {
		return nil, err
	}
	from := s.State.Since.Add(-24 * time.Hour)
	ours, err := history.Read(migrate.HistoryDir(dir, id), from, now)
	if err != nil {
		return nil, err
	}
	if conf.Serve.StateDir == "" {
		return ours, nil
	}
	served, err := history.Read(conf.Serve.StateDir, from, now)
	if err != nil || len(served) == 0 {
		return ours, nil //nolint:nilerr // the ring of serve is a help where it is there; its absence is no failure
	}
	served = slices.DeleteFunc(served, func(x history.Sample) bool {
		return x.Source&history.FromInfo == 0 && x.Source&history.FromCommandStats == 0 // its own commands alone
	})
	if history.Coverage(served, from, now) > history.Coverage(ours, from, now) {
		return served, nil
	}
	return ours, nil
}

// sign records that somebody vouches for a criterion, and reads the journal anew.
func (a *app) sign(ctx context.Context, up *upstream.Upstream, s *migrate.Standing, dir string, f reportFlags) error {
	var names []string
	for _, c := range migrate.Criteria(s.Target.Phase) {
		names = append(names, c.Name)
	}
	if !slices.Contains(names, f.sign) {
		return usagef("--sign: got %q, want one of: %s", f.sign, strings.Join(names, ", "))
	}
	signature := migrate.Signature{KPI: f.sign, By: f.by, Note: f.why, At: a.now().UTC()}
	doc := signDocument(s.Target, signature)
	if a.flags.dryRun {
		return a.print(doc)
	}
	if err := a.confirm(ctx, doc, "Write this into the journal?"); err != nil {
		return err
	}
	opts := migrate.SessionOptions{Target: s.Target, StateDir: dir}
	session, err := migrate.OpenSession(ctx, up.Client(), opts)
	if err != nil {
		return err
	}
	err = session.Run(ctx, func(ctx context.Context) error {
		return migrate.NewEngine(session.Journal).Sign(ctx, signature)
	})
	if err != nil {
		return err
	}
	*s, err = migrate.Look(ctx, up.Client(), opts)
	return err
}

// signDocument is migrate.sign/v1: who vouches for what, and on what grounds.
func signDocument(t migrate.Target, s migrate.Signature) report.Document {
	return report.Document{
		Kind: "migrate.sign/v1", Title: "vouch for " + s.KPI + " of " + t.String(), Data: s,
		Sections: []report.Section{{Fields: []report.Field{
			{Name: "by", Value: s.By}, {Name: "note", Value: s.Note}, {Name: "at", Value: s.At.UTC().Format(time.RFC3339)},
		}}},
	}
}

// migrateReportDocument is migrate.report/v1: every criterion before and after.
func migrateReportDocument(data reportData) report.Document {
	doc := report.Document{Kind: "migrate.report/v1", Title: "report of " + data.Target.String(), Data: data}
	table := &report.Table{Columns: []report.Column{
		{Name: "criterion"},
		{Name: "before", Right: true},
		{Name: "after", Right: true},
		{Name: "goal"},
		{Name: "verdict"},
		{Name: "evidence", Elastic: true},
	}}
	for _, c := range data.Criteria {
		table.Rows = append(table.Rows, []string{
			c.Name, evidenceValue(c.Before), evidenceValue(c.After), c.Goal, string(c.Verdict), evidenceText(c),
		})
		doc.Checks = append(doc.Checks, report.Check{
			Group: data.Target.String(), Name: c.Name, Verdict: report.Verdict(c.Verdict), Message: c.Why,
		})
		if c.Remark != "" {
			doc.Notes = append(doc.Notes, c.Name+": "+c.Remark)
		}
	}
	doc.Sections = []report.Section{
		{Fields: []report.Field{
			{Name: "state", Value: string(data.Condition)},
			{Name: "began", Value: data.Since.Format(time.RFC3339)},
			{Name: "reported", Value: data.Until.Format(time.RFC3339)},
		}},
		{Title: "before and after", Table: table},
	}
	return doc
}

// evidenceValue is a measured number, a dash where there is none.
func evidenceValue(e migrate.Evidence) string {
	if !e.Known {
		return "-"
	}
	return strconv.FormatFloat(e.Value, 'f', decimals(e.Value), 64)
}

// decimals is how many digits after the point say something of v.
func decimals(v float64) int {
	if v == float64(int64(v)) || v >= 100 {
		return 0
	}
	return 1
}

// evidenceText is how a number came about, or what is missing.
func evidenceText(c migrate.Assessment) string {
	switch {
	case c.Gate == nil || !c.After.Known:
		return c.Why
	case c.Verdict == migrate.GateInconclusive:
		return c.Why + "; " + method(c.After)
	}
	return method(c.After)
}

// method says where evidence came from.
func method(e migrate.Evidence) string {
	return fmt.Sprintf("%s; %s of %s, %.0f%% covered", e.Source, plural(e.Samples, "sample"), shortDuration(e.To.Sub(e.From)), 100*e.Coverage)
}

// reportVerdict says by the exit code what the report says.
func reportVerdict(data reportData, strict bool) error {
	var failed, open []string
	for _, c := range data.Criteria {
		switch c.Verdict {
		case migrate.GateFail:
			failed = append(failed, c.Name)
		case migrate.GateInconclusive:
			open = append(open, c.Name)
		case migrate.GatePass:
		}
	}
	switch {
	case len(failed) > 0:
		return verdictf(exitViolated, "not reached: %s", strings.Join(failed, ", "))
	case strict && len(open) > 0:
		return verdictf(exitInconclusive, "inconclusive: %s", strings.Join(open, ", "))
	}
	return nil
}

// writeReportPage writes the page whole or not at all.
func writeReportPage(path string, data reportData, samples []history.Sample) error {
	text, err := reportPage(data, samples)
	if err != nil {
		return err
	}
	temporary := path + ".new"
	if err := os.WriteFile(temporary, text, 0o644); err != nil { //nolint:gosec // a report is for others to read
		return &usageError{err}
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return nil
}
