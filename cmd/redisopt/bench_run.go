package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/bench/page"
	"github.com/redisopt/redisopt/internal/bench/scenario"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/sidecar"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// A benchTarget is what is measured, and how it is called.
type benchTarget struct {
	scenario.Target
	name     string
	evidence bool
	close    func() error
}

func (a *app) bench(ctx context.Context, f benchFlags, args []string) error {
	asserts, err := f.assertions()
	if err := errors.Join(err, f.validate(args)); err != nil {
		return &usageError{err}
	}
	conf, err := a.load(config.Need{})
	if err != nil {
		return err
	}
	return a.withBenchTarget(ctx, conf, &f, func(t *benchTarget) error {
		switch {
		case f.against != "":
			return a.benchInTurns(ctx, conf, f, t, args)
		case f.knee:
			return a.benchKnee(ctx, conf, f, t, args, asserts)
		}
		return a.benchScenarios(ctx, conf, f, t, args, asserts)
	})
}

// withBenchTarget opens what is measured: the configured Redis as serve reaches it, or the one inside this
// program.
func (a *app) withBenchTarget(ctx context.Context, conf *config.Config, f *benchFlags, do func(*benchTarget) error) (err error) {
	opts, ok := sidecar.TCPOptions(conf)
	name := "redis over TCP"
	if ok {
		opts.Shared = len(opts.Cluster) == 0
	} else if opts, ok = sidecar.RESTOptions(conf); ok {
		name = "redis over REST"
	}
	t := &benchTarget{name: name, evidence: true, close: func() error { return nil }}
	switch {
	case !ok || f.embedded || f.inject != "":
		if ok && f.inject != "" && !f.embedded {
			return withHint(usagef("--inject: faults can only be injected in front of the Redis inside this program, and %s is configured", name), "add --embedded to use that one")
		}
		var faults scenario.Faults
		if f.inject != "" {
			if faults, err = scenario.ParseFaults(f.inject); err != nil {
				return &usageError{fmt.Errorf("--inject: %w", err)}
			}
		}
		server, err := scenario.StartEmbedded(ctx, faults)
		if err != nil {
			return err
		}
		t.close = server.Close
		t.name, t.evidence = "embedded, not evidence", false
		opts = upstream.Options{URL: server.URL, Shared: true, Timeout: conf.Upstream.Timeout}
	case isProduction(conf) && !a.flags.yes && !a.flags.dryRun:
		return errTaggedProduction()
	}
	defer func() { err = errors.Join(err, t.close()) }()
	return a.openBenchTarget(ctx, opts, t, do)
}

// openBenchTarget connects, calls do, and tells what was spent.
func (a *app) openBenchTarget(ctx context.Context, opts upstream.Options, t *benchTarget, do func(*benchTarget) error) error {
	up, parts, err := a.openMeasured(ctx, opts)
	if err != nil {
		return err
	}
	defer func() {
		_ = up.Close() // every command has its reply
		a.cost(up.Spent())
	}()
	t.Target = scenario.Target{Upstream: up, Cluster: len(opts.Cluster) > 0, Parts: parts}
	return do(t)
}

// openMeasured opens the way to a target so that it tells where the time of its requests goes.
func (a *app) openMeasured(ctx context.Context, opts upstream.Options) (*upstream.Upstream, *scenario.Parts, error) {
	parts := &scenario.Parts{}
	opts.Component, opts.Meter, opts.Timed = meter.Bench, meter.New(), parts.Record
	opts.MaxCommands, opts.ReadOnly = a.flags.maxCommands, a.flags.dryRun
	opts.Lazy = true // a scenario's first command connects, so a dry run costs nothing
	up, err := upstream.Open(ctx, opts)
	return up, parts, err
}

func errTaggedProduction() error {
	return withHint(usagef("the upstream is tagged production (upstream.environment), and a benchmark loads it"),
		"measure another one, or add --yes; --dry-run says how many commands it would be")
}

func isProduction(conf *config.Config) bool {
	return strings.EqualFold(conf.Upstream.Environment, "production") || strings.EqualFold(conf.Upstream.Environment, "prod")
}

// benchPlan is what is going to run.
func (a *app) benchPlan(conf *config.Config, f benchFlags, t *benchTarget, args []string) (scenario.Plan, error) {
	p := scenario.Plan{
		Target: t.Target, Options: f.options(conf.Upstream.Timeout), Run: f.load.options(conf.Upstream.Timeout), MaxCommands: a.flags.maxCommands,
		StopAtQuota: t.evidence,
	}
	var err error
	if f.trace != "" {
		var trace *scenario.Trace
		if trace, err = a.readTrace(f.trace); err == nil {
			p.Scenarios = []scenario.Scenario{scenario.Replaying(trace)}
			p.Run.Pace, p.Run.WarmUp = bench.Pace{Times: trace.Times(f.speed)}, -1
		}
	} else {
		p.Scenarios, err = scenario.Choose(args, t.Upstream.Transport() == "tcp")
	}
	if err != nil {
		return p, &usageError{err}
	}
	if f.trace == "" {
		a.leftOut(args, p.Scenarios, "they need a Redis over TCP, and "+t.name+" is none")
	}
	progress := a.progress("operations")
	p.Begin = func(s scenario.Scenario, _, _ int) { progress.begin(s.Name, 0) }
	p.Run.OnProgress = func(now bench.Progress) {
		if !now.WarmingUp {
			progress.update(now.Done, int64(p.Run.Pace.Count()))
		}
	}
	p.End = progress.finish
	return p, nil
}

// leftOut says which of the scenarios that were asked for do not run, and why.
func (a *app) leftOut(args []string, run []scenario.Scenario, why string) {
	asked, err := scenario.Choose(args, true)
	if err != nil {
		return // Choose has said so before
	}
	var names []string
	for _, s := range asked {
		if !slices.ContainsFunc(run, func(other scenario.Scenario) bool { return other.Name == s.Name }) {
			names = append(names, s.Name)
		}
	}
	if len(names) > 0 {
		a.note("left out: %s: %s", strings.Join(names, ", "), why)
	}
}

func (a *app) readTrace(path string) (*scenario.Trace, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--trace %s: %w", path, withoutPath(err))
	}
	defer func() { _ = in.Close() }()
	trace, err := scenario.ReadTrace(in)
	if err != nil {
		return nil, fmt.Errorf("--trace %s: %w", path, err)
	}
	return trace, nil
}

// benchScenarios runs scenarios one after the other and judges them.
func (a *app) benchScenarios(ctx context.Context, conf *config.Config, f benchFlags, t *benchTarget, args []string, asserts []bench.Assertion) error {
	p, err := a.benchPlan(conf, f, t, args)
	if err != nil {
		return err
	}
	if a.flags.dryRun {
		return a.print(benchPlanDocument(p, t))
	}
	return a.withQuota(ctx, conf, &p, t, p.Commands(), t.spent, func() error {
		measured, runErr := scenario.Measure(ctx, p)
		if len(measured) == 0 {
			return runErr
		}
		file := a.benchFile(f.seed, t.name, t.evidence, measured)
		return a.finishBench(file, asserts, f.out, f.html, f.strict, runErr)
	})
}

// spent is what was sent to t so far, in scripts too.
func (t *benchTarget) spent() int64 { return spentOn(t.Upstream) }

func spentOn(up *upstream.Upstream) int64 {
	spent := up.Spent()
	return spent.Commands + spent.InScript
}

// benchFile is a result file of this program and machine.
func (a *app) benchFile(seed uint64, target string, evidence bool, measured []bench.Measured) *bench.File {
	return &bench.File{
		Program: programVersion(), Target: target, Evidence: evidence, Seed: seed, Made: a.now().UTC(), Scenarios: measured,
		Host: fmt.Sprintf("%s/%s, %d CPUs", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()),
	}
}

// finishBench writes and prints a result and ends the command with its verdict. runErr is why the run ended
// early; what was measured is kept all the same.
func (a *app) finishBench(file *bench.File, asserts []bench.Assertion, out, html string, strict bool, runErr error) error {
	verdicts := judge(file, asserts)
	var errs []error
	if out != "" {
		errs = append(errs, file.WriteFile(out))
	}
	if html != "" {
		errs = append(errs, page.WriteFile(html, file, verdicts))
	}
	usd, err := usdPerMillion(a.now())
	errs = append(errs, err, a.print(benchDocument(file, verdicts, usd)))
	if err := errors.Join(errs...); err != nil {
		return errors.Join(err, runErr)
	}
	return errors.Join(runErr, benchVerdict(file, verdicts, strict))
}

// judge applies the assertions to the scenarios that they are about. One that is about none is
// inconclusive.
func judge(file *bench.File, asserts []bench.Assertion) []bench.Verdict {
	var out []bench.Verdict
	for _, one := range asserts {
		about := false
		for _, m := range file.Scenarios {
			if !one.About(m.Name) {
				continue
			}
			about = true
			v := bench.Judge(m.Name, one, m.Result, m.CommandsPerOperation())
			if !file.Evidence && v.Outcome != bench.Inconclusive {
				v.Outcome, v.Why = bench.Inconclusive, "the target is "+file.Target
			}
			out = append(out, v)
		}
		if !about {
			out = append(out, bench.Verdict{
				Scenario: one.Scenario, Assertion: one, Text: one.String(), Outcome: bench.Inconclusive, Why: "no scenario that was measured is about it",
			})
		}
	}
	return out
}

// benchVerdict is how a finished benchmark ends the command.
func benchVerdict(file *bench.File, verdicts []bench.Verdict, strict bool) error {
	var broken, failed, unsure []string
	for _, m := range file.Scenarios {
		if m.Broken != "" {
			broken = append(broken, m.Name+": "+m.Broken)
		}
	}
	for _, v := range verdicts {
		switch v.Outcome {
		case bench.Fail:
			failed = append(failed, v.Scenario+": "+v.Why)
		case bench.Inconclusive:
			unsure = append(unsure, v.Scenario+" "+v.Text+": "+v.Why)
		case bench.Pass:
		}
	}
	switch {
	case len(broken) > 0:
		return verdictf(exitMismatch, "%s", strings.Join(broken, "; "))
	case len(failed) > 0:
		return verdictf(exitViolated, "%s", strings.Join(failed, "; "))
	case len(unsure) > 0 && strict:
		return verdictf(exitInconclusive, "inconclusive: %s", strings.Join(unsure, "; "))
	}
	return nil
}
