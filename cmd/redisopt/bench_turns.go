package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/bench/scenario"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/sidecar"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// benchInTurns runs each scenario on two targets in turns, and compares them pair by pair.
func (a *app) benchInTurns(ctx context.Context, conf *config.Config, f benchFlags, t *benchTarget, args []string) (err error) {
	opts, name, err := a.otherTarget(conf, f.against)
	if err != nil {
		return err
	}
	if (f.against == "tcp" || f.against == "rest") && isProduction(conf) && !a.flags.yes && !a.flags.dryRun {
		return errTaggedProduction()
	}
	opts.Component, opts.Meter, opts.MaxCommands, opts.ReadOnly, opts.Lazy = meter.Bench, meter.New(), a.flags.maxCommands, a.flags.dryRun, true
	up, err := upstream.Open(ctx, opts)
	if err != nil {
		return fmt.Errorf("--against: %w", err)
	}
	defer func() {
		_ = up.Close() // every command has its reply
		a.note("the other target: %s", plural(up.Spent().Commands, "command"))
	}()
	other := scenario.Target{Upstream: up, Cluster: len(opts.Cluster) > 0}
	p, err := a.benchPlan(conf, f, t, args)
	if err != nil {
		return err
	}
	if up.Transport() != "tcp" {
		p.Scenarios = withoutTCP(p.Scenarios)
	}
	p.Turns = f.pairs
	if a.flags.dryRun {
		return a.print(benchPlanDocument(p, t))
	}
	if err := a.benchQuota(ctx, conf, &p, t); err != nil {
		return err
	}
	data := turnsData{A: t.name, B: name, Evidence: t.evidence, Pairs: f.pairs, MaxRegress: float64(f.regress), Scenarios: []turnsScenario{}}
	progress := a.progress("turns")
	for _, s := range p.Scenarios {
		progress.begin(s.Name, 0)
		both := p
		both.Target, both.Run, both.MaxCommands = other, p.Bounded(s), a.flags.maxCommands
		x, err := scenario.Alternate(ctx, s, t.Target, other, p.Options, bench.AlternateOptions{Run: both.Bounded(s), Pairs: f.pairs})
		progress.finish()
		if x != nil {
			data.Scenarios = append(data.Scenarios, turnsOf(s.Name, x, float64(f.regress)))
		}
		if err != nil {
			if len(data.Scenarios) > 0 { // what was measured before is kept
				err = errors.Join(err, a.print(turnsDocument(data)))
			}
			return err
		}
	}
	if len(data.Scenarios) == 0 {
		return usagef("no scenario runs on both targets: those that were chosen need TCP")
	}
	if err := a.print(turnsDocument(data)); err != nil {
		return err
	}
	return data.verdict(f.strict)
}

func withoutTCP(all []scenario.Scenario) []scenario.Scenario {
	var out []scenario.Scenario
	for _, s := range all {
		if !s.TCP {
			out = append(out, s)
		}
	}
	return out
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

// benchKnee looks for the highest rate at which the assertions hold, for each scenario.
func (a *app) benchKnee(ctx context.Context, conf *config.Config, f benchFlags, t *benchTarget, args []string, asserts []bench.Assertion) error {
	p, err := a.benchPlan(conf, f, t, args)
	if err != nil {
		return err
	}
	if a.flags.dryRun {
		a.note("the rate is raised until an assertion no longer holds: the price is that of the first rate; --max-commands bounds it")
		return a.print(benchPlanDocument(p, t))
	}
	if err := a.benchQuota(ctx, conf, &p, t); err != nil {
		return err
	}
	data := kneeData{Target: t.name, Evidence: t.evidence, Scenarios: []kneeScenario{}}
	for _, s := range p.Scenarios {
		within := assertionsAbout(asserts, s.Name)
		if len(within) == 0 {
			a.note("%s: no assertion is about it, left out", s.Name)
			continue
		}
		p.Begin(s, 0, 1)
		found, err := scenario.Knee(ctx, p, s, within)
		p.End()
		if found != nil {
			data.Scenarios = append(data.Scenarios, kneeOf(s.Name, found))
		}
		if err != nil {
			return errors.Join(a.print(kneeDocument(data)), err)
		}
	}
	return a.print(kneeDocument(data))
}

// assertionsAbout are the assertions about one scenario.
func assertionsAbout(asserts []bench.Assertion, name string) []bench.Assertion {
	var out []bench.Assertion
	for _, one := range asserts {
		if one.About(name) {
			out = append(out, one)
		}
	}
	return out
}

// turnsData is the contract of bench.turns/v1.
type turnsData struct {
	A          string          `json:"a"`
	B          string          `json:"b"`
	Evidence   bool            `json:"evidence"`
	Pairs      int             `json:"pairs"`
	MaxRegress float64         `json:"max_regress"`
	Scenarios  []turnsScenario `json:"scenarios"`
}

// turnsScenario is one scenario on both targets. Changes are of B against A.
type turnsScenario struct {
	Operation string        `json:"operation"`
	Pairs     int           `json:"pairs"` // that are whole
	Changes   []benchChange `json:"changes"`
	Missing   []string      `json:"missing"`

	// FailedA and FailedB are the operations that failed, which have no latency.
	FailedA int64 `json:"failed_a"`
	FailedB int64 `json:"failed_b"`
}

func turnsOf(name string, x *bench.Alternated, maxRegress float64) turnsScenario {
	out := turnsScenario{Operation: name, Pairs: len(x.Pairs), Changes: []benchChange{}, Missing: []string{}}
	if x.A != nil {
		out.FailedA, out.FailedB = x.A.Failed(), x.B.Failed()
	}
	for _, p := range comparedPercentiles() {
		c, err := x.Compare(p, maxRegress)
		if err != nil {
			out.Missing = append(out.Missing, firstLine(err))
			continue
		}
		out.Changes = append(out.Changes, changeOf(name, c))
	}
	return out
}

func (d turnsData) changes() (changes []benchChange, missing []comparedMissing) {
	for _, s := range d.Scenarios {
		changes = append(changes, s.Changes...)
		for _, why := range s.Missing {
			missing = append(missing, comparedMissing{s.Operation, why})
		}
	}
	return changes, missing
}

func (d turnsData) verdict(strict bool) error {
	changes, missing := d.changes()
	if !d.Evidence {
		if strict {
			return verdictf(exitInconclusive, "inconclusive: the target is no evidence: %s", d.A)
		}
		return nil
	}
	return verdictOnChanges(changes, missing, strict)
}

func turnsDocument(data turnsData) report.Document {
	changes, missing := data.changes()
	doc := report.Document{
		Kind: "bench.turns/v1", Data: data, Title: "benchmark, two targets in turns", Verdicts: true, Checks: changeChecks(changes, data.MaxRegress),
		Sections: []report.Section{
			{Fields: []report.Field{{Name: "A", Value: data.A}, {Name: "B", Value: data.B}, {Name: "turns", Value: fmt.Sprintf("%d each: A B B A", data.Pairs)}}},
			{Title: "latency in ms", Table: changeTable(changes, "A", "B")},
		},
		Notes: []string{"the change of B against A is the middle one of the pairs of turns; ~: no more than chance explains"},
	}
	if !data.Evidence {
		doc.Notes = append(doc.Notes, "a target is no evidence: nothing is concluded")
	}
	for _, s := range data.Scenarios {
		if s.FailedA+s.FailedB > 0 {
			doc.Notes = append(doc.Notes, fmt.Sprintf("%s: %d operations failed on A and %d on B, and have no latency", s.Operation, s.FailedA, s.FailedB))
		}
		if s.Pairs < data.Pairs {
			doc.Notes = append(doc.Notes, fmt.Sprintf("%s: ended early, after %d of %d pairs", s.Operation, s.Pairs, data.Pairs))
		}
	}
	for _, m := range missing {
		doc.Notes = append(doc.Notes, m.Operation+": "+m.Why)
	}
	return doc
}

// kneeData is the contract of bench.knee/v1.
type kneeData struct {
	Target    string         `json:"target"`
	Evidence  bool           `json:"evidence"`
	Scenarios []kneeScenario `json:"scenarios"`
}

// kneeScenario is one scenario: the highest rate that was taken, 0 for none, and what was tried.
type kneeScenario struct {
	Operation     string     `json:"operation"`
	RatePerSecond float64    `json:"rate_per_second"`
	Steps         []kneeStep `json:"steps"`
}

// kneeStep is one rate that was tried.
type kneeStep struct {
	RatePerSecond     float64  `json:"rate_per_second"`
	AchievedPerSecond float64  `json:"achieved_per_second"`
	P95MS             *float64 `json:"p95_ms"`
	P99MS             *float64 `json:"p99_ms"`
	Failed            int64    `json:"failed"`
	Taken             bool     `json:"taken"`
}

func kneeOf(name string, found *scenario.Found) kneeScenario {
	out := kneeScenario{Operation: name, RatePerSecond: found.RatePerSecond, Steps: []kneeStep{}}
	for _, s := range found.Steps {
		step := kneeStep{RatePerSecond: s.RatePerSecond, AchievedPerSecond: s.Result.AchievedPerSecond(), Failed: s.Result.Failed(), Taken: s.Taken}
		_, step.P95MS = quantileOf(&s.Result.Latency, 0.95)
		_, step.P99MS = quantileOf(&s.Result.Latency, 0.99)
		out.Steps = append(out.Steps, step)
	}
	return out
}

func kneeDocument(data kneeData) report.Document {
	table := &report.Table{Columns: []report.Column{
		{Name: "scenario"},
		{Name: "rate/s", Right: true},
		{Name: "achieved/s", Right: true},
		{Name: "p95 ms", Right: true},
		{Name: "p99 ms", Right: true},
		{Name: "failed", Right: true},
		{Name: "held"},
	}}
	doc := report.Document{Kind: "bench.knee/v1", Data: data, Title: "how much it takes"}
	fields := []report.Field{{Name: "target", Value: data.Target}}
	for _, s := range data.Scenarios {
		value := "none of the rates that were tried"
		if s.RatePerSecond > 0 {
			value = fmt.Sprintf("up to %.4g a second", s.RatePerSecond)
		}
		fields = append(fields, report.Field{Name: s.Operation, Value: value})
		for _, step := range s.Steps {
			table.Rows = append(table.Rows, []string{
				s.Operation, fmt.Sprintf("%.4g", step.RatePerSecond), fmt.Sprintf("%.4g", step.AchievedPerSecond),
				shortMS(step.P95MS), shortMS(step.P99MS), fmt.Sprint(step.Failed), yesNo(step.Taken),
			})
		}
	}
	doc.Sections = []report.Section{{Fields: fields}, {Title: "rates that were tried", Table: table}}
	if !data.Evidence {
		doc.Notes = []string{"the target is no evidence"}
	}
	return doc
}
