package migrate

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"
)

// A Verdict is what a gate says.
type Verdict string

// The verdicts. Inconclusive is never a pass: something that the gate needs was not measured.
const (
	GatePass         Verdict = "pass"
	GateFail         Verdict = "fail"
	GateInconclusive Verdict = "inconclusive"
)

// A Gate is one condition on a KPI that must hold for a phase to go on.
type Gate struct {
	// KPI is what is measured; Unit is shown with it.
	KPI  string `json:"kpi"`
	Unit string `json:"unit"`

	// AtLeast turns the condition round: the value must be Limit or more instead of Limit or less.
	AtLeast bool    `json:"at_least,omitempty"`
	Limit   float64 `json:"limit"`

	// Baseline, when not nil, is what was measured before the phase. Limit is then the percentage by
	// which the value may exceed it.
	Baseline *float64 `json:"baseline,omitempty"`

	// Window is how far back the measurement looks. Default: since the wait began.
	Window time.Duration `json:"window,omitempty"`

	// MinSamples is how many observations are needed. Default 1.
	MinSamples int64 `json:"min_samples,omitempty"`

	// MinCoverage is the share of the window that must be covered. Default 0.95; negative: any.
	MinCoverage float64 `json:"min_coverage,omitempty"`

	// MinWindow is how long the window must be before anything is said, for a rate that a moment tells nothing
	// of. Default 0: any length.
	MinWindow time.Duration `json:"min_window,omitempty"`

	// Held makes a failure a remark, where Evidence.Before does not keep the limit either or is not known: the
	// phase was not what brought it beyond, and cannot be held up by a target that it does not reach.
	Held bool `json:"held,omitempty"`

	// Optional makes a lack of evidence a remark instead of a reason to wait. A failure still counts.
	Optional bool `json:"optional,omitempty"`
}

func (g Gate) withDefaults() Gate {
	if g.MinSamples == 0 {
		g.MinSamples = 1
	}
	if g.MinCoverage == 0 {
		g.MinCoverage = 0.95
	}
	return g
}

// Bound is the value that may not be exceeded, or with AtLeast not be undercut.
func (g Gate) Bound() float64 {
	if g.Baseline == nil {
		return g.Limit
	}
	return *g.Baseline * (1 + g.Limit/100)
}

// A GateResult is one look at one gate.
type GateResult struct {
	Gate     Gate     `json:"gate"`
	Verdict  Verdict  `json:"verdict"`
	Evidence Evidence `json:"evidence"`

	// Why is one sentence with the numbers.
	Why string `json:"why"`

	// Remark is true when the verdict is told and holds nothing up; see Gate.Held.
	Remark bool `json:"remark,omitempty"`
}

// Judge compares evidence with the gate. It is pure.
func (g Gate) Judge(e Evidence) GateResult {
	g = g.withDefaults()
	if e.Missing == nil {
		e.Missing = []string{}
	}
	if math.IsNaN(e.Value) || math.IsInf(e.Value, 0) {
		e.Value, e.Known = 0, false
	}
	if e.Coverage = min(e.Coverage, 1); !(e.Coverage >= 0) { // nothing of an empty window
		e.Coverage = 0
	}
	r := GateResult{Gate: g, Evidence: e}
	missing := func(format string, args ...any) GateResult {
		why := fmt.Sprintf(format, args...)
		r.Verdict, r.Why = GateInconclusive, g.KPI+": "+why
		if len(r.Evidence.Missing) == 0 {
			r.Evidence.Missing = append(r.Evidence.Missing, why)
		}
		return r
	}
	op, within := "at most", g.keeps(e.Value)
	if g.AtLeast {
		op = "at least"
	}
	r.Remark = g.Held && (e.Before == nil || !g.keeps(*e.Before))
	switch {
	case !e.Known && len(e.Missing) > 0:
		return missing("%s", e.Missing[0])
	case !e.Known:
		return missing("nothing measures it")
	case e.To.Sub(e.From) < g.MinWindow:
		return missing("a window of %s is too short for it, want at least %s", e.To.Sub(e.From).Round(time.Second), g.MinWindow)
	case e.Samples < g.MinSamples:
		return missing("%d samples, want at least %d", e.Samples, g.MinSamples)
	// A failure needs no full window: what was seen was seen. Only a sum or a rate of too little would be.
	case within && e.Coverage < g.MinCoverage:
		return missing("%.1f%% of the window is covered, want %.0f%%", 100*e.Coverage, 100*g.MinCoverage)
	}
	r.Why = fmt.Sprintf("%s: %.6g %s, want %s %.6g", g.KPI, e.Value, g.Unit, op, g.Bound())
	if e.Before != nil {
		r.Why += fmt.Sprintf(", %.6g before", *e.Before)
	}
	if r.Verdict = GateFail; within {
		r.Verdict = GatePass
	}
	if r.Remark && r.Verdict == GateFail {
		r.Why += "; a remark, because it was so before or nobody knows"
	}
	return r
}

// keeps is whether v is on the good side of the bound.
func (g Gate) keeps(v float64) bool {
	if g.AtLeast {
		return v >= g.Bound()
	}
	return v <= g.Bound()
}

// Says is the condition for people: "commands_per_day at most 70000 commands/day".
func (g Gate) Says() string {
	op := "at most"
	if g.AtLeast {
		op = "at least"
	}
	text := fmt.Sprintf("%s %s %.10g %s", g.KPI, op, g.Limit, g.Unit)
	if g.MinSamples > 1 {
		text += fmt.Sprintf(" of %d samples", g.MinSamples)
	}
	switch {
	case g.Held:
		text += ", a remark where it was beyond before"
	case g.Optional:
		text += ", where it is measured"
	}
	return text
}

// JudgeAll measures and judges every gate. since is when the wait began. A watch that cannot look makes its
// gate inconclusive.
func JudgeAll(ctx context.Context, watch Watch, gates []Gate, since, now time.Time) []GateResult {
	out := make([]GateResult, len(gates))
	for i, g := range gates {
		from := since
		if g.Window > 0 {
			from = now.Add(-g.Window)
		}
		e := Evidence{From: from, To: now, Missing: []string{"nobody watches it"}}
		if watch != nil {
			var err error
			if e, err = watch.Read(ctx, g.KPI, from, now); err != nil {
				e = Evidence{From: from, To: now, Missing: []string{err.Error()}}
			}
		}
		out[i] = g.Judge(e)
	}
	return out
}

// A GateError reports gates that failed for good.
type GateError struct {
	Step    string
	Results []GateResult // the ones that failed
}

func (e *GateError) Error() string {
	why := make([]string, len(e.Results))
	for i, r := range e.Results {
		why[i] = r.Why
	}
	return fmt.Sprintf("gate of %s failed: %s", e.Step, strings.Join(why, "; "))
}
