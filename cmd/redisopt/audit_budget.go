package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect/commands"
	"github.com/redisopt/redisopt/internal/inspect/gate"
	"github.com/redisopt/redisopt/internal/inspect/source"
	"github.com/redisopt/redisopt/internal/runtime/budget"
	"github.com/redisopt/redisopt/internal/runtime/config"
)

// budgetFlags are the flags of audit budget.
type budgetFlags struct {
	gateFlags
	source.Options
	env []string

	budget        string
	code          string
	baseline      string
	writeBaseline string
	record        []string
	bench         []string
	live          []string
	offline       bool
	window        time.Duration
	provider      choice
	deep          bool
	reports       reportFiles
	comment       string
}

func (a *app) auditBudgetCommand() *cobra.Command {
	f := budgetFlags{provider: choice{allowed: commands.Providers()}}
	cmd := &cobra.Command{
		Use:   "budget",
		Short: "The gate for CI: every budget against live, recorded and static evidence",
		Long: `Judges the budgets section of redisopt.yaml by what the code predicts, what a running Redis shows, what
redisopt record counted and what a benchmark measured. With a baseline, a file or a git revision, only what is
new fails. With --offline it needs no Redis, no credentials and no network.`,
		Example: `  redisopt audit budget --offline --baseline origin/main -o github
  redisopt audit budget --record record.json --bench bench.json --report markdown=comment.md`,
		Args:    cobra.NoArgs,
		PreRunE: func(*cobra.Command, []string) error { return f.validate(a) },
		RunE:    a.action(func(ctx context.Context, _ []string) error { return a.auditBudget(ctx, f) }),
	}
	set := cmd.Flags()
	f.register(set)
	set.StringVar(&f.budget, "budget", "", "read the budgets from this `file` (default: the configuration file)")
	set.StringVar(&f.code, "code", ".", "read the code below this `path`; empty reads none")
	set.StringVar(&f.baseline, "baseline", "", "compare with this `file`, or with the code of this git revision: only what is new fails")
	set.StringVar(&f.writeBaseline, "write-baseline", "", "write what is so now to this `file`, as a baseline for later")
	set.StringArrayVar(&f.record, "record", nil, "take what redisopt record counted from this `file`")
	set.StringArrayVar(&f.bench, "bench", nil, "take what a benchmark measured from this `file`")
	set.StringArrayVar(&f.live, "live", nil, "take this `file` of audit connections or audit commands -o json instead of asking the Redis")
	set.BoolVar(&f.offline, "offline", false, "ask no Redis, and read no variable of the environment")
	set.DurationVar(&f.window, "window", time.Minute, "measure commands for this long")
	set.Var(&f.provider, "provider", "bill like "+strings.Join(commands.Providers(), ", "))
	set.BoolVar(&f.deep, "deep", false, "also ask each queue whether something is delayed: one command per queue")
	set.Var(&f.reports, "report", "also write the answer in this format to a file, `format=file`; may be repeated")
	set.StringVar(&f.comment, "comment-id", "default", "tells several gates of one repository apart in the marker of -o markdown")
	set.IntVar(&f.Replicas, "replicas", 1, "`n` instances of every process run")
	set.StringArrayVar(&f.Entries, "entry", nil, "a process begins with this `file` or these files")
	set.StringArrayVar(&f.Exclude, "exclude", nil, "do not read paths or names of code like this `glob`")
	set.StringArrayVar(&f.env, "env", nil, "an environment variable of the code has this value, `NAME=VALUE`; no secrets")
	return cmd
}

// validate reports every mistake in the flags at once. It also takes the budgets' file for the
// configuration of this run.
func (f *budgetFlags) validate(a *app) error {
	var errs []error
	f.Env = map[string]string{}
	for _, pair := range f.env {
		name, v, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			errs = append(errs, fmt.Errorf("--env: got %q, want NAME=VALUE", pair))
			continue
		}
		f.Env[name] = v
	}
	if f.window < time.Second {
		errs = append(errs, fmt.Errorf("--window: got %s, want at least 1s", f.window))
	}
	if f.budget != "" && a.flags.config != "" && f.budget != a.flags.config {
		errs = append(errs, errors.New("--budget and --config: one file holds both, name it once"))
	}
	if f.offline && (a.flags.redisURL != "" || f.deep) {
		errs = append(errs, errors.New("--offline asks no Redis, so --redis-url and --deep have no meaning beside it"))
	}
	if len(f.live) > 0 && (a.flags.redisURL != "" || f.deep) {
		errs = append(errs, errors.New("--live takes what another audit measured, so --redis-url and --deep have no meaning beside it"))
	}
	if f.comment == "" || strings.ContainsAny(f.comment, "<>\n") || len(f.comment) > 64 {
		errs = append(errs, fmt.Errorf("--comment-id: got %q, want 1 to 64 characters without < and >", f.comment))
	}
	errs = append(errs, f.Validate())
	return errors.Join(errs...)
}

func (a *app) auditBudget(ctx context.Context, f budgetFlags) error {
	if f.budget != "" {
		a.flags.config = f.budget
	}
	conf, opts, err := a.budgets(f)
	if err != nil {
		return err
	}
	ev, root, err := a.offlineEvidence(ctx, f)
	if err != nil {
		return err
	}
	if opts.Baseline, err = a.baselineOf(ctx, f); err != nil {
		return err
	}
	liveErr := a.liveEvidence(ctx, f, conf, &ev)
	if err := ctx.Err(); err != nil {
		return err
	}
	r, err := gate.Judge(ev, opts)
	if err != nil {
		return &usageError{err}
	}
	doc := budgetDocument(r, budgetView{root: root, comment: f.comment, file: a.configFile(), line: budgetLines(conf)})
	if err := a.writeReports(f.reports, doc); err != nil {
		return err
	}
	if err := a.print(doc); err != nil {
		return err
	}
	if err := a.keepBaseline(f.writeBaseline, ev); err != nil {
		return err
	}
	return errors.Join(f.verdictOf(r), liveErr)
}

// budgets reads the budgets and everything that is wrong with them. Offline no variable of the
// environment is read, so that a broken or missing one cannot matter.
func (a *app) budgets(f budgetFlags) (*config.Config, gate.Options, error) {
	sources := a.sources(config.Need{})
	if f.offline {
		sources.Env = func(string) (string, bool) { return "", false }
	}
	conf, err := config.Load(sources)
	opts := gate.Options{Budgets: conf.Budgets, Rules: knownRules(), Now: a.now()}
	for _, p := range unknownNames(conf) {
		err = errors.Join(err, p)
	}
	if err != nil {
		return nil, opts, withHint(&usageError{err}, "redisopt config check lists what is wrong with the file; docs/budget-gate.md explains the section")
	}
	if _, asked := conf.TCP(); !asked || f.offline || len(f.live) > 0 { // asking loads it again, and tells
		for _, w := range conf.Warnings() {
			a.note("warning: %s", w)
		}
	}
	return conf, opts, nil
}

// unknownNames are the levels and waivers that name neither a rule nor a budget, which reading the
// configuration cannot know.
func unknownNames(conf *config.Config) []*config.Problem {
	origins := map[string]config.Origin{}
	for _, v := range conf.Values() {
		origins[v.Key] = v.Origin
	}
	var out []*config.Problem
	walk(gate.Options{Budgets: conf.Budgets, Rules: knownRules()}.Unknown(), func(e error) {
		if f, ok := e.(*budget.FieldError); ok { //nolint:errorlint // walk unwraps
			key := "budgets." + f.Field
			out = append(out, &config.Problem{Key: key, Origin: origins[key], Message: f.Message})
		}
	})
	return out
}

// verdictOf is how the gate ends the command. Missing evidence that the budgets require is
// inconclusive even without --strict.
func (f *budgetFlags) verdictOf(r *gate.Report) error {
	var why []string
	for _, n := range r.Judgements {
		if n.Verdict == gate.Fail || n.Verdict == gate.Warn && f.failOn.value == "warn" {
			why = append(why, fmt.Sprintf("%s (%s)", n.Name(), n.Message))
		}
	}
	for _, x := range r.Findings {
		if x.Fails() || x.State == gate.New && x.Level == budget.RuleWarn && f.failOn.value == "warn" {
			why = append(why, fmt.Sprintf("%s (%s)", x.Rule, x.Message))
		}
	}
	for _, w := range r.Waivers {
		if w.Verdict == gate.Fail || w.Verdict == gate.Warn && f.failOn.value == "warn" {
			why = append(why, fmt.Sprintf("waiver of %s (%s)", w.Rule, w.Message))
		}
	}
	if len(why) > 0 {
		return verdictf(exitViolated, "%s", few(why))
	}
	if missing, required := r.Unmet(); len(missing) > 0 && (required || f.strict) {
		return verdictf(exitInconclusive, "inconclusive: %s", few(missing))
	}
	return nil
}

// few is the first reasons, and how many more there are: the document has all of them.
func few(why []string) string {
	const most = 5
	if len(why) <= most {
		return strings.Join(why, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(why[:most], "; "), len(why)-most)
}

// A reportFile is one more rendering of the answer.
type reportFile struct {
	format report.Format
	path   string
}

// reportFiles is the flag --report.
type reportFiles []reportFile

// String returns what was given.
func (r *reportFiles) String() string {
	var all []string
	for _, x := range *r {
		all = append(all, string(x.format)+"="+x.path)
	}
	return strings.Join(all, " ")
}

// Type is what help shows as the flag's value.
func (r *reportFiles) Type() string { return "format=file" }

// Set takes one more format=file.
func (r *reportFiles) Set(s string) error {
	name, path, ok := strings.Cut(s, "=")
	if !ok || path == "" {
		return errors.New("want format=file, such as markdown=comment.md")
	}
	var x reportFile
	if err := x.format.Set(name); err != nil {
		return err
	}
	x.path = path
	*r = append(*r, x)
	return nil
}

// writeReports writes every further rendering, also under --dry-run: they are answers, not changes.
func (a *app) writeReports(files reportFiles, doc report.Document) error {
	for _, x := range files {
		err := replaceFile(x.path, func(out *os.File) error { return report.Write(out, x.format, doc, a.writeOptions()) })
		if err != nil {
			return usagef("--report %s=%s: %w", x.format, x.path, withoutPath(err))
		}
	}
	return nil
}

// replaceFile writes a file that is there as a whole or not at all.
func replaceFile(path string, write func(*os.File) error) error {
	out, err := os.CreateTemp(filepath.Dir(path), ".redisopt-*")
	if err != nil {
		return err
	}
	err = errors.Join(write(out), out.Chmod(0o644), out.Close())
	if err == nil {
		err = os.Rename(out.Name(), path)
	}
	if err != nil {
		_ = os.Remove(out.Name()) // what could not be written is no answer
	}
	return err
}
