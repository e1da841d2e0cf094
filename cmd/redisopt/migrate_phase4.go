package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect/source"
	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/backup"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// phase4Flags are the flags of migrate phase4.
type phase4Flags struct {
	hostFlags
	plan      string
	backup    string
	prefixes  []string
	confirmed []string
	layouts   []string
	code      string
	rate      int
}

func (a *app) migratePhase4Command() *cobra.Command {
	var f phase4Flags
	cmd := &cobra.Command{
		Use:   "phase4",
		Short: "Save what other phases left behind to a file, and delete it prefix by prefix",
		Long: `phase4 finds queues of a legacy layout that nobody uses any more, saves all of their keys to a file, and
deletes them prefix by prefix, each key only while it is still what was saved. A prefix with a connected
worker or with a job that has not ended is refused. Each prefix has to be typed, or named with
--confirm-prefix besides --yes. The way back is redisopt rollback phase4, or redisopt migrate restore FILE.`,
		Example: `  redisopt migrate phase4 --dry-run --code .
  redisopt migrate phase4 --prefix bull:mail: --backup mail.backup --confirm-prefix bull:mail: --yes`,
		Args: cobra.NoArgs,
		RunE: a.action(func(ctx context.Context, _ []string) error { return a.migratePhase4(ctx, f) }),
	}
	set := cmd.Flags()
	set.String(stateDirFlag, "", "keep the journal in this `directory` (default: the user's state directory)")
	set.StringVar(&f.plan, "plan", "", "run exactly what this plan `file` says")
	set.StringVar(&f.backup, "backup", "", "save the keys to this `file`, which must not exist (default: one in the state directory)")
	set.StringArrayVar(&f.prefixes, "prefix", nil, "delete the keys that begin with this `text`, taken literally (repeatable; default: every unused queue of --layout)")
	set.StringArrayVar(&f.confirmed, "confirm-prefix", nil, "you confirm that all keys of this `prefix` are deleted (repeatable)")
	set.StringSliceVar(&f.layouts, "layout", []string{string(mover.Bull)}, "look for unused queues in these `layouts`: bull, bullmq, asynq")
	set.StringVar(&f.code, "code", "", "name packages, environment variables and lines of the application in this `directory` that are left")
	set.IntVar(&f.rate, "max-rate", 0, "save and delete at most `n` keys a second (0: as fast as the server answers)")
	f.register(cmd)
	return cmd
}

// parsedLayouts are the layouts to look for.
func (f *phase4Flags) parsedLayouts() ([]mover.Layout, error) {
	var out []mover.Layout
	for _, text := range f.layouts {
		l := mover.Layout(text)
		if l != mover.Bull && l != mover.BullMQ && l != tend.Asynq {
			return nil, usagef("--layout: got %q, want bull, bullmq or asynq", text)
		}
		out = append(out, l)
	}
	return out, nil
}

func (a *app) migratePhase4(ctx context.Context, f phase4Flags) error {
	layouts, err := f.parsedLayouts()
	if err != nil {
		return err
	}
	if f.rate < 0 {
		return usagef("--max-rate: got %d, want 0 or more", f.rate)
	}
	var code *source.Report
	if f.code != "" {
		if code, err = scanCode(ctx, f.code); err != nil {
			return err
		}
	}
	return a.runPhase(ctx, phaseRun{
		target: migrate.Target{Phase: step.Phase4Name}, host: f.hostFlags, plan: f.plan, rate: float64(f.rate),
		make: func(ctx context.Context, up *upstream.Upstream, conf *config.Config, s migrate.State) (migrate.Phase, error) {
			return a.makePhase4(ctx, up, conf, s, f, layouts, code)
		},
		confirm: func(ctx context.Context, phase migrate.Phase) error {
			plan, ok := phase.Options().(step.Phase4Plan)
			if !ok {
				return fmt.Errorf("phase 4 has options of type %T", phase.Options())
			}
			return a.confirmPrefixes(ctx, plan.Prefixes, f.confirmed)
		},
	})
}

// makePhase4 makes phase 4 as the flags and the Redis have it. What was begun goes on as it was begun: the
// keys by which it would be found again may be deleted.
func (a *app) makePhase4(
	ctx context.Context, up *upstream.Upstream, conf *config.Config, s migrate.State, f phase4Flags, layouts []mover.Layout, code *source.Report,
) (migrate.Phase, error) {
	if (s.Stage == migrate.Forward || s.Stage == migrate.Complete) && len(f.prefixes) == 0 && f.backup == "" {
		return step.Open(up.Client(), migrate.Target{Phase: step.Phase4Name}, s.Options, migrate.Env{})
	}
	all, err := step.FindLeftovers(ctx, up.Client())
	if err != nil {
		return nil, err
	}
	prefixes, left := step.ChooseLeftovers(all, layouts, f.prefixes)
	if len(prefixes) == 0 {
		err := verdictf(exitBlocked, "no queue is left over: %s", problemsText(left))
		return nil, withHint(err, "redisopt queue ls shows every queue; name keys of another kind with --prefix")
	}
	file := f.backup
	if file == "" {
		dir, err := a.migrationDir(conf)
		if err != nil {
			return nil, err
		}
		file = filepath.Join(dir, "backups", "phase4-"+a.now().UTC().Format("20060102-150405")+".backup")
	}
	if file, err = filepath.Abs(file); err != nil {
		return nil, err
	}
	p, err := step.NewPhase4(up.Client(), step.Phase4Plan{Prefixes: prefixes, File: file}, migrate.Env{})
	if err != nil {
		return nil, &usageError{err}
	}
	p.Left = left
	p.Facts = leftoverFacts(all, layouts, code)
	return p, nil
}

// leftoverFacts are what is left outside of Redis's keys.
func leftoverFacts(all []step.Leftover, layouts []mover.Layout, code *source.Report) *step.Phase4Facts {
	facts := &step.Phase4Facts{}
	for _, l := range all {
		if l.Workers > 0 && slices.Contains(layouts, l.Queue.Layout) {
			facts.Connections = append(facts.Connections, fmt.Sprintf("%s: %s", queueLabel(l.Queue), plural(int64(l.Workers), "worker")))
		}
	}
	if code == nil {
		return facts
	}
	for _, p := range code.Packages {
		if p.Name == string(source.Bull) && slices.Contains(layouts, mover.Bull) {
			facts.Packages = append(facts.Packages, strings.TrimSpace(fmt.Sprintf("%s %s in %s", p.Name, p.Wanted, p.File)))
		}
	}
	facts.Env = slices.Clone(code.Env)
	facts.Code = codeChanges(code, migrate.Target{Phase: step.Phase4Name})
	return facts
}

// confirmPrefixes has every prefix typed, unless all were confirmed by flags.
func (a *app) confirmPrefixes(ctx context.Context, prefixes, confirmed []string) error {
	for _, c := range confirmed {
		if !slices.Contains(prefixes, c) {
			return usagef("--confirm-prefix: %q is not deleted; these are: %s", c, strings.Join(prefixes, ", "))
		}
	}
	open := slices.DeleteFunc(slices.Clone(prefixes), func(p string) bool { return slices.Contains(confirmed, p) })
	if len(open) == 0 {
		return nil
	}
	if a.flags.yes || !a.inTerminal || !a.errTerminal {
		return usagef("deleting keys has to be confirmed for each prefix: add --confirm-prefix '%s'", strings.Join(open, "' --confirm-prefix '"))
	}
	for _, p := range open {
		_, _ = fmt.Fprintf(a.err, "\nType the prefix %s to delete its keys: ", p)
		answer, err := readLine(ctx, a.in)
		if err != nil {
			return err
		}
		if answer != p {
			return usagef("%q is not %q, nothing was changed", answer, p)
		}
	}
	return nil
}

// proposePhase4 proposes to delete every Bull queue that nobody uses any more.
func (a *app) proposePhase4(_ context.Context, p planning) ([]phaseRun, error) {
	return []phaseRun{{
		target: migrate.Target{Phase: step.Phase4Name},
		make: func(ctx context.Context, up *upstream.Upstream, conf *config.Config, s migrate.State) (migrate.Phase, error) {
			phase, err := a.makePhase4(ctx, up, conf, s, phase4Flags{}, []mover.Layout{mover.Bull}, p.code)
			if none, ok := errors.AsType[*verdictError](err); ok {
				return nil, &nothingToDoError{why: none.message}
			}
			return phase, err
		},
	}}, nil
}

// restoreData is the contract of migrate.restore/v1.
type restoreData struct {
	File     string           `json:"file"`
	Prefixes []string         `json:"prefixes"` // of the keys that are restored; none means all
	Keys     int64            `json:"keys"`     // in the file
	Types    map[string]int64 `json:"types"`    // of all keys in the file
	Done     bool             `json:"done"`

	// Restored is what was done; zero while nothing was.
	Restored step.Restored `json:"restored"`
}

func (a *app) migrateRestoreCommand() *cobra.Command {
	var prefixes []string
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Write the keys of a backup of phase 4 that are not there",
		Long: `restore reads a backup that redisopt migrate phase4 made, whole and checked, writes the keys that are not
there, and compares every one with what was saved. A key that exists is never overwritten: one that differs
is named, and the exit code is 4. Keys whose time to live is over are left out. It may run again.`,
		Example: `  redisopt migrate restore mail.backup --dry-run
  redisopt migrate restore mail.backup --prefix bull:mail: --yes`,
		Args: cobra.ExactArgs(1),
		RunE: a.action(func(ctx context.Context, args []string) error { return a.migrateRestore(ctx, args[0], prefixes) }),
	}
	cmd.Flags().StringArrayVar(&prefixes, "prefix", nil, "only keys that begin with this `text` (repeatable)")
	return cmd
}

func (a *app) migrateRestore(ctx context.Context, file string, prefixes []string) error {
	summary, err := step.CheckBackup(file, prefixes...)
	if isPathError(err) || errors.Is(err, backup.ErrNoBackup) || isA[*step.PrefixError](err) {
		return &usageError{err}
	}
	if err != nil {
		return err
	}
	data := restoreData{File: file, Prefixes: append([]string{}, prefixes...), Keys: summary.Keys, Types: summary.Types}
	if a.flags.dryRun {
		return a.print(restoreDocument(data))
	}
	return a.withRedis(ctx, writing(), func(up *upstream.Upstream, _ *config.Config) error {
		if err := a.confirm(ctx, restoreDocument(data), "Write what is not there?"); err != nil {
			return err
		}
		p := a.progress("keys")
		p.begin("restore", summary.Keys)
		restored, err := step.Restore(ctx, up.Client(), file, step.RestoreOptions{
			Prefixes: prefixes, Step: "restore",
			Env: migrate.Env{OnProgress: func(now migrate.Progress) { p.update(now.Done, summary.Keys) }},
		})
		p.finish()
		if err != nil {
			return withHint(err, "nothing was overwritten; solve that and run the same command again")
		}
		data.Restored, data.Done = restored, true
		return a.print(restoreDocument(data))
	})
}

// restoreDocument is migrate.restore/v1: what a backup holds, and what of it was written.
func restoreDocument(d restoreData) report.Document {
	doc := report.Document{Kind: "migrate.restore/v1", Data: d, Title: "restore " + d.File}
	fields := []report.Field{{Name: "keys in the file", Value: fmt.Sprint(d.Keys)}}
	if len(d.Prefixes) > 0 {
		fields = append(fields, report.Field{Name: "only", Value: strings.Join(d.Prefixes, ", ")})
	}
	if d.Done {
		fields = append(fields,
			report.Field{Name: "there as saved", Value: fmt.Sprint(d.Restored.Keys)},
			report.Field{Name: "written now", Value: fmt.Sprint(d.Restored.Written)},
			report.Field{Name: "expired before", Value: fmt.Sprint(d.Restored.Expired)})
		doc.Checks = []report.Check{{
			Group: "backup", Name: "every key is as it was saved", Verdict: report.Pass, Message: plural(d.Restored.Keys, "key") + " compared",
		}}
	}
	doc.Sections = []report.Section{{Fields: fields}}
	return doc
}
