package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/bench/scenario"
	"github.com/redisopt/redisopt/internal/runtime/config"
)

// benchKnee looks for the highest rate at which the assertions hold, for each scenario.
func (a *app) benchKnee(ctx context.Context, conf *config.Config, f benchFlags, t *benchTarget, args []string, asserts []bench.Assertion) error {
	p, err := a.benchPlan(conf, f, t, args)
	if err != nil {
		return err
	}
	p.Scenarios = a.withinAssertions(p.Scenarios, asserts)
	if a.flags.dryRun {
		p.Rates = bench.KneeOptions{Run: p.Run}.Dearest()
		a.note("the price is that of a target that takes every rate up to %g a second; a search ends soon after the first that is not taken, and --max-commands bounds it", slices.Max(p.Rates))
		return a.print(benchPlanDocument(p, t))
	}
	return a.withQuota(ctx, conf, &p, t, p.Commands(), t.spent, func() error { return a.benchRates(ctx, p, t, asserts) })
}

// withinAssertions are the scenarios that an assertion is about: no other has a knee.
func (a *app) withinAssertions(all []scenario.Scenario, asserts []bench.Assertion) []scenario.Scenario {
	var out []scenario.Scenario
	for _, s := range all {
		if len(assertionsAbout(asserts, s.Name)) == 0 {
			a.note("%s: no assertion is about it, left out", s.Name)
			continue
		}
		out = append(out, s)
	}
	return out
}

// benchRates tries the rates.
func (a *app) benchRates(ctx context.Context, p scenario.Plan, t *benchTarget, asserts []bench.Assertion) error {
	data := kneeData{Target: t.name, Evidence: t.evidence, Scenarios: []kneeScenario{}}
	for _, s := range p.Scenarios {
		p.Begin(s, 0, 1)
		found, err := scenario.Knee(ctx, p, s, assertionsAbout(asserts, s.Name))
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
