package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/bench/page"
	"github.com/redisopt/redisopt/internal/bench/scenario"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/sidecar"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// benchInTurns runs each scenario on two targets in turns, and compares them pair by pair.
func (a *app) benchInTurns(ctx context.Context, conf *config.Config, f benchFlags, t *benchTarget, args []string) error {
	opts, name, err := a.otherTarget(conf, f.against)
	if err != nil {
		return err
	}
	configured := f.against == "tcp" || f.against == "rest"
	if configured && isProduction(conf) && !a.flags.yes && !a.flags.dryRun {
		return errTaggedProduction()
	}
	up, parts, err := a.openMeasured(ctx, opts)
	if err != nil {
		return fmt.Errorf("--against: %w", err)
	}
	defer func() {
		_ = up.Close() // every command has its reply
		a.note("the other target: %s", plural(up.Spent().Commands, "command"))
	}()
	other := scenario.Target{Upstream: up, Cluster: len(opts.Cluster) > 0, Parts: parts}
	p, err := a.benchPlan(conf, f, t, args)
	if err != nil {
		return err
	}
	if up.Transport() != "tcp" {
		if p.Scenarios, err = a.withoutTCP(args, p.Scenarios, name); err != nil {
			return err
		}
	}
	p.Turns = f.pairs
	if a.flags.dryRun {
		a.note("price and time are those of each of the two targets")
		return a.print(benchPlanDocument(p, t))
	}
	// The configured Redis over TCP and over REST is one database.
	want, spent := p.Commands(), t.spent
	if configured {
		want, spent = 2*want, func() int64 { return t.spent() + spentOn(up) }
	}
	return a.withQuota(ctx, conf, &p, t, want, spent, func() error {
		return a.benchTurns(ctx, f, turns{plan: p, a: t, b: other, nameB: name, both: configured})
	})
}

// turns is what runs in turns.
type turns struct {
	plan  scenario.Plan
	a     *benchTarget
	b     scenario.Target
	nameB string
	both  bool // are one database, which has one budget
}

// benchTurns runs the turns, and keeps what was measured before something went wrong.
func (a *app) benchTurns(ctx context.Context, f benchFlags, t turns) error {
	usd, err := usdPerMillion(a.now())
	if err != nil {
		return err
	}
	data := turnsData{A: t.a.name, B: t.nameB, Evidence: t.a.evidence, Pairs: f.pairs, MaxRegress: float64(f.regress), Scenarios: []turnsScenario{}}
	var sides [2][]bench.Measured
	progress := a.progress("turns")
	var runErr error
	for _, s := range t.plan.Scenarios {
		progress.begin(s.Name, 0)
		x, err := scenario.Alternate(ctx, s, t.a.Target, t.b, t.plan.Options, bench.AlternateOptions{Run: t.bounded(s), Pairs: f.pairs})
		progress.finish()
		if x != nil {
			data.Scenarios = append(data.Scenarios, turnsOf(s.Name, x, float64(f.regress), usd))
			for i, m := range x.Sides {
				if m.Result != nil {
					sides[i] = append(sides[i], m)
				}
			}
		}
		if err != nil {
			runErr = err
			break
		}
	}
	if len(data.Scenarios) == 0 {
		return runErr
	}
	return errors.Join(runErr, a.writeTurns(f, data, sides), a.print(turnsDocument(data)), data.verdict(f.strict))
}

// bounded is how s runs so that neither target is sent more than it may be.
func (t turns) bounded(s scenario.Scenario) bench.Options {
	first, second := t.plan, t.plan
	if t.both && t.plan.Allowed != nil {
		// Each is asked for what the other has left of it.
		first.Allowed = func() int64 { return t.plan.Allowed() - spentOn(t.b.Upstream) }
		second.Allowed = func() int64 { return t.plan.Allowed() - t.a.spent() }
	} else {
		second.Allowed = nil
	}
	second.Target, second.Run = t.b, first.Bounded(s)
	return second.Bounded(s)
}

// writeTurns writes what each side measured to a result file of its own, and both to one page.
func (a *app) writeTurns(f benchFlags, data turnsData, sides [2][]bench.Measured) error {
	var errs []error
	file := a.benchFile(f.seed, "A: "+data.A+", B: "+data.B, data.Evidence, nil)
	for i, target := range []string{data.A, data.B} {
		side := string('a' + rune(i))
		if f.out != "" {
			errs = append(errs, a.benchFile(f.seed, target, data.Evidence, sides[i]).WriteFile(sidePath(f.out, side)))
		}
		for _, m := range sides[i] {
			m.Name += ", " + strings.ToUpper(side)
			file.Scenarios = append(file.Scenarios, m)
		}
	}
	if f.html != "" {
		errs = append(errs, page.WriteFile(f.html, file, nil))
	}
	return errors.Join(errs...)
}

// sidePath is where the result of one side goes: new.json becomes new.a.json.
func sidePath(path, side string) string {
	extension := filepath.Ext(path)
	return strings.TrimSuffix(path, extension) + "." + side + extension
}

// withoutTCP leaves out what the other target cannot run, and says so. What was named is an error.
func (a *app) withoutTCP(args []string, all []scenario.Scenario, other string) ([]scenario.Scenario, error) {
	var out []scenario.Scenario
	var left []string
	for _, s := range all {
		switch {
		case !s.TCP:
			out = append(out, s)
		case slices.Contains(args, s.Name):
			return nil, usagef("scenario %s needs a Redis over TCP on both sides, and B is %s", s.Name, other)
		default:
			left = append(left, s.Name)
		}
	}
	if len(out) == 0 {
		return nil, usagef("no scenario runs on both targets: %s need a Redis over TCP, and B is %s", strings.Join(left, ", "), other)
	}
	if len(left) > 0 {
		a.note("left out: %s: they need a Redis over TCP, and B is %s", strings.Join(left, ", "), other)
	}
	return out, nil
}

// otherTarget is what --against names: the configured upstream over the other transport, the URL in an
// environment variable, or a URL without a password.
func (a *app) otherTarget(conf *config.Config, against string) (upstream.Options, string, error) {
	switch against {
	case "tcp":
		opts, ok := sidecar.TCPOptions(conf)
		if !ok {
			return opts, "", usagef("--against tcp: no Redis over TCP is configured: set REDIS_URL")
		}
		opts.Shared = len(opts.Cluster) == 0
		return opts, "redis over TCP", nil
	case "rest":
		opts, ok := sidecar.RESTOptions(conf)
		if !ok {
			return opts, "", usagef("--against rest: no REST is configured: set UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN")
		}
		return opts, "redis over REST", nil
	}
	if strings.HasPrefix(against, "http://") || strings.HasPrefix(against, "https://") {
		return upstream.Options{}, "", usagef("--against: a REST address goes with a token: set UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN, and say --against rest")
	}
	url, name := against, "another redis"
	if variable, isVariable := strings.CutPrefix(against, "env:"); isVariable {
		if url = a.getenv(variable); url == "" {
			return upstream.Options{}, "", usagef("--against: the environment variable %s is not set", variable)
		}
		name = "the redis of " + variable
	} else if err := config.CheckURLFlag(url); err != nil {
		return upstream.Options{}, "", &usageError{fmt.Errorf("--against: %w", errors.Join(err, errors.New("env:NAME takes the URL from the environment")))}
	}
	return upstream.Options{URL: url, Shared: true, Timeout: conf.Upstream.Timeout}, name, nil
}
