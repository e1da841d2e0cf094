package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/transfer"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// copyVariable names the environment variable that has the target's URL, with a password if need be; with
// _FILE behind it, a file that holds the URL.
const copyVariable = "REDISOPT_COPY_TO"

// copyFlags are the flags of migrate copy.
type copyFlags struct {
	to       string
	existing string
	eviction bool
	passes   int
	pause    time.Duration
	sample   int64
	rate     int
}

func (a *app) migrateCopyCommand() *cobra.Command {
	var f copyFlags
	cmd := &cobra.Command{
		Use:   "copy",
		Short: "Copy every key to another Redis, with what is written meanwhile, and compare",
		Long: `copy reads every key of the configured Redis and writes it to another one: its type, its values, its time
to live. Then it compares every key on both sides and copies again what differs, several times. What still
differs at the end, because somebody writes, is listed, and the exit code is 4. Interrupted at any instant,
the same command goes on. The target's URL comes from --to, or with a password from the environment
variable REDISOPT_COPY_TO or the file that REDISOPT_COPY_TO_FILE names.`,
		Example: `  redisopt migrate copy --to redis://10.0.0.9:6379/0 --dry-run
  REDISOPT_COPY_TO_FILE=/run/secrets/new redisopt migrate copy --pause-writes 10s --max-rate 5000 --yes`,
		Args: cobra.NoArgs,
		RunE: a.action(func(ctx context.Context, _ []string) error { return a.migrateCopy(ctx, f) }),
	}
	set := cmd.Flags()
	set.String(stateDirFlag, "", "keep how far the copy is in this `directory` (default: the user's state directory)")
	set.StringVar(&f.to, "to", "", "the target's `URL`, without a password")
	set.StringVar(&f.existing, "existing", "", "what becomes of keys that the target has: replace or keep (default: refuse a target that has any)")
	set.BoolVar(&f.eviction, "allow-eviction", false, "copy although the target may evict keys")
	set.IntVar(&f.passes, "passes", 3, "compare and copy again at most `n` times")
	set.DurationVar(&f.pause, "pause-writes", 0, "hold back everybody's writes at the source for at most so long during the last pass (0: nobody's)")
	set.Int64Var(&f.sample, "sample", 1000, "compare about `n` keys value by value besides (negative: none)")
	set.IntVar(&f.rate, "max-rate", 0, "look at no more than `n` keys a second (0: as fast as both answer)")
	return cmd
}

// target is the URL to copy to, and how it is shown.
func (f *copyFlags) target(a *app) (full, shown string, err error) {
	full = f.to
	if full != "" {
		if err := config.CheckURLFlag(full); err != nil {
			return "", "", usagef("--to: a password on the command line can be read by others; set %s or %s_FILE in the environment", copyVariable, copyVariable)
		}
	} else if full = a.getenv(copyVariable); full == "" {
		if path := a.getenv(copyVariable + "_FILE"); path != "" {
			text, err := os.ReadFile(path)
			if err != nil {
				return "", "", &usageError{fmt.Errorf("%s_FILE: %w", copyVariable, err)}
			}
			full = strings.TrimSpace(string(text))
		}
	}
	if full == "" {
		return "", "", usagef("--to: got none, want the URL of the Redis to copy to")
	}
	u, err := url.Parse(full)
	if err != nil || u.Host == "" && u.Path == "" || u.Scheme == "" {
		return "", "", usagef("the target is not a URL such as redis://host:6379/0")
	}
	return full, u.Host + u.Path, nil
}

func (a *app) migrateCopy(ctx context.Context, f copyFlags) error {
	full, shown, err := f.target(a)
	if err != nil {
		return err
	}
	if f.rate < 0 || f.passes < 1 || f.pause < 0 {
		return usagef("--max-rate, --passes and --pause-writes: want 0, 1 and 0s or more")
	}
	switch transfer.Existing(f.existing) {
	case transfer.Refuse, transfer.Replace, transfer.Keep:
	default:
		return usagef("--existing: got %q, want replace or keep", f.existing)
	}
	return a.withRedis(ctx, writing(), func(source *upstream.Upstream, conf *config.Config) error {
		opts, err := a.upstreamOptions(conf, writing())
		if err != nil {
			return err
		}
		from := "the configured Redis"
		if u, err := url.Parse(opts.URL); err == nil && u.Host != "" {
			from = u.Host + u.Path
		}
		target, err := upstream.Open(ctx, upstream.Options{
			URL: full, Component: meter.Migrate, Meter: meter.New(), MaxCommands: a.flags.maxCommands, ReadOnly: a.flags.dryRun,
			Timeout: opts.Timeout, DialTimeout: opts.DialTimeout, MaxConnections: opts.MaxConnections,
		})
		if err != nil {
			return fmt.Errorf("target %s: %w", shown, err)
		}
		defer func() {
			_ = target.Close() // every command has its reply
			c := target.Spent()
			a.note("cost at the target: %s, %s", plural(c.Commands, "command"), plural(c.Writes, "write"))
		}()
		dir, err := a.migrationDir(conf)
		if err != nil {
			return err
		}
		sum := sha256.Sum256([]byte(from + "\x00" + shown))
		pace := &migrate.Pace{}
		pace.SetRate(float64(f.rate))
		return a.copyKeys(ctx, source, transfer.Options{
			Source: source.Client(), Target: target.Client(), From: from, To: shown,
			File:     filepath.Join(dir, "copies", hex.EncodeToString(sum[:8])+".json"),
			Existing: transfer.Existing(f.existing), AllowEviction: f.eviction, Passes: f.passes,
			PauseWrites: f.pause, Sample: f.sample, Pace: pace,
		})
	})
}

// copyKeys plans, asks, copies and tells what became of it, also when keys differ in the end.
func (a *app) copyKeys(ctx context.Context, source *upstream.Upstream, o transfer.Options) error {
	plan, err := transfer.Check(ctx, o)
	if err != nil {
		return err
	}
	doc := copyPlanDocument(plan)
	if a.flags.dryRun {
		return errors.Join(a.print(doc), plan.Refused())
	}
	if err := plan.Refused(); err != nil {
		if refused, ok := errors.AsType[*migrate.RefusedError](err); ok {
			err = withHint(err, refusedNext(refused))
		}
		return err
	}
	if err := a.affordable(source, "the copy", plan.SourceCommands); err != nil {
		return err
	}
	if err := a.confirm(ctx, doc, "Copy every key?"); err != nil {
		return err
	}
	p, part := a.progress("keys"), ""
	o.OnProgress = func(now migrate.Progress) {
		if now.Part != part {
			part = now.Part
			p.begin(part, now.Total)
		}
		p.update(now.Done, now.Total)
	}
	result, err := transfer.Run(ctx, o)
	p.finish()
	if differ, ok := errors.AsType[*transfer.DifferError](err); ok {
		return errors.Join(a.print(copyDocument(plan, result)),
			withHint(differ, "stop the writers, or add --pause-writes 10s, and run the same command again with --existing replace"))
	}
	if short, ok := errors.AsType[*transfer.PauseError](err); ok {
		return withHint(short, "stop the writers and run the same command again, or hold writes back for longer with --pause-writes")
	}
	if err != nil {
		return withHint(err, "nothing is lost; the same command goes on where it stopped")
	}
	return a.print(copyDocument(plan, result))
}

// copyPlanDocument is migrate.copy-plan/v1: what would be copied, at what price, and what keeps it from
// beginning.
func copyPlanDocument(p transfer.Plan) report.Document {
	doc := report.Document{
		Kind: "migrate.copy-plan/v1", Data: p, Title: fmt.Sprintf("plan: copy %s to %s", p.From, p.To),
		Sections: []report.Section{{Fields: []report.Field{
			{Name: "keys", Value: fmt.Sprint(p.Keys)},
			{Name: "at the target", Value: fmt.Sprint(p.TargetKeys)},
			{Name: "goes on", Value: yesNo(p.Resumes)},
			{Name: "price", Value: fmt.Sprintf("about %s at the source and %s at the target", plural(p.SourceCommands, "command"), plural(p.TargetCommands, "command"))},
		}}},
	}
	for _, q := range p.Problems {
		one := report.Finding{Rule: q.Rule, Severity: report.SeverityWarning, Subject: p.To, Message: q.Message, Remedy: q.Fix}
		if q.Blocking {
			one.Severity = report.SeverityCritical
		}
		doc.Findings = append(doc.Findings, one)
	}
	return doc
}

// copyData is the contract of migrate.copy/v1.
type copyData struct {
	From string `json:"from"`
	To   string `json:"to"`
	transfer.Result
}

// copyDocument is migrate.copy/v1: what was copied, and the proof.
func copyDocument(p transfer.Plan, r transfer.Result) report.Document {
	table := &report.Table{Columns: []report.Column{
		{Name: "pass"}, {Name: "looked at", Right: true}, {Name: "differed", Right: true}, {Name: "copied", Right: true}, {Name: "kept", Right: true}, {Name: "deleted", Right: true},
	}}
	for _, one := range r.Passes {
		name := "copy"
		if one.Pass > 0 {
			name = fmt.Sprintf("compare %d", one.Pass)
		}
		table.Rows = append(table.Rows, []string{
			name, fmt.Sprint(one.Looked), fmt.Sprint(one.Differ), fmt.Sprint(one.Copied), fmt.Sprint(one.Kept), fmt.Sprint(one.Deleted),
		})
	}
	check := report.Check{
		Group: "copy", Name: "every key is the same on both sides", Verdict: report.Pass,
		Message: fmt.Sprintf("%d keys compared, %d of them value by value, digest %.12s", r.Compared, r.Sampled, r.Digest),
	}
	if r.DifferencesTotal > 0 {
		check.Verdict = report.Fail
		check.Message = fmt.Sprintf("%s differ, %d are the same", plural(r.DifferencesTotal, "key"), r.Compared)
	}
	doc := report.Document{
		Kind: "migrate.copy/v1", Data: copyData{From: p.From, To: p.To, Result: r},
		Title:  fmt.Sprintf("copied %s to %s", p.From, p.To),
		Checks: []report.Check{check},
		Sections: []report.Section{
			{Fields: []report.Field{
				{Name: "keys", Value: fmt.Sprintf("%d at the source, %d at the target", r.SourceKeys, r.TargetKeys)},
				{Name: "writes held back", Value: shortDuration(time.Duration(r.PausedMS) * time.Millisecond)},
			}},
			{Title: "passes", Table: table},
		},
	}
	if r.ByType > 0 {
		why := "large"
		if r.Why != "" {
			why = r.Why
		}
		doc.Notes = append(doc.Notes, fmt.Sprintf("%s copied by type: %s", plural(r.ByType, "key"), why))
	}
	if r.Interrupted {
		doc.Notes = append(doc.Notes, "the last pass was interrupted and gone on with: what it saw first may have changed since")
	}
	for _, d := range r.Differences {
		doc.Findings = append(doc.Findings, report.Finding{Rule: "differs", Severity: report.SeverityCritical, Subject: d.Key, Message: d.What})
	}
	return doc
}
