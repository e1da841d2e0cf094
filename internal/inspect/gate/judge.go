package gate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/runtime/budget"
)

// staleDays is the age from which a price is warned about.
const staleDays = 180

// A judge is one run of the gate.
type judge struct {
	opts   Options
	ev     Evidence
	report *Report
	base   *Baseline // empty where there is none
	source string    // of the baseline; empty where there is none
}

// Judge compares what is known with the budgets. The error joins everything that is wrong with the
// options; whatever the evidence says is in the report.
func Judge(e Evidence, opts Options) (*Report, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	j := &judge{opts: opts, ev: e, base: &Baseline{}, report: &Report{
		Judgements: []Judgement{}, Findings: []Judged{}, Waivers: []WaiverUse{}, Evidence: []Source{}, Notes: []string{},
	}}
	if b := opts.Baseline; b != nil {
		j.base, j.source = b, b.Source
		j.report.Baseline = b.Source
	}
	j.sources()
	j.connections()
	j.commands()
	j.money()
	j.operations()
	j.latency()
	j.increase()
	j.findings()
	j.waive()
	j.sum()
	return j.report, nil
}

// sources lists the kinds of evidence.
func (j *judge) sources() {
	missing := map[budget.Evidence][]string{}
	if s := j.ev.Static; s != nil {
		missing[budget.Static] = s.Missing
	}
	if l := j.ev.Live; l != nil {
		missing[budget.Live] = l.Missing
	}
	if r := j.ev.Recorded; r != nil {
		missing[budget.Recorded] = r.Missing
	}
	if b := j.ev.Bench; b != nil {
		missing[budget.Bench] = b.Missing
	}
	for _, kind := range []budget.Evidence{budget.Static, budget.Recorded, budget.Live, budget.Bench} {
		s := Source{Kind: kind, Present: j.ev.has(kind), Required: slices.Contains(j.opts.Budgets.Require, kind), Missing: missing[kind]}
		if !s.Present {
			s.Why = j.ev.howTo(kind)
		}
		j.report.Evidence = append(j.report.Evidence, s)
	}
}

// add keeps a judgement. It fills in what all have in common.
func (j *judge) add(n Judgement) {
	n.WaivedBy = -1
	if n.Baseline != nil && n.Measured != nil {
		d := n.Measured.minus(*n.Baseline)
		n.Increase = &d
		if p, ok := percent(d, *n.Baseline); ok {
			n.IncreasePercent = &p
		}
	}
	n.Message += n.against(j.source)
	if n.Verdict == Fail && n.inherited() {
		n.Verdict = Warn
		n.Message += "; it was over before, and the change does not add to it"
	}
	if n.Verdict == Inconclusive && len(n.Missing) == 0 {
		j.doubt(&n)
	}
	if len(n.Places) > 0 && n.Fix == nil {
		n.Fix = n.Places[0].fix
	}
	if n.Verdict == Pass || n.Verdict == Inconclusive {
		n.Remedy, n.Fix = "", nil
	}
	j.report.Judgements = append(j.report.Judgements, n)
}

// inherited reports that a budget was over in the baseline already and has not become worse, so that a
// change is not held up by what it did not do.
func (n Judgement) inherited() bool {
	if n.Baseline == nil || n.Increase == nil || n.Increase.most() > 0 || strings.HasPrefix(n.Budget, "increase.") {
		return false
	}
	return n.Baseline.Min > n.Allowed || n.Budget == perMonth && n.Baseline.Min == n.Allowed // which fails from its share on
}

// doubt says why a range does not decide.
func (j *judge) doubt(n *Judgement) {
	switch n.Evidence {
	case budget.Static:
		n.Missing = slices.Clone(j.ev.Static.Unresolved[:min(len(j.ev.Static.Unresolved), maxPlaces)])
		if len(n.Missing) == 0 {
			n.Missing = []string{"what the code does not tell"}
		}
	case budget.Live:
		n.Missing = []string{"a longer window"}
	case budget.Recorded, budget.Bench:
		n.Missing = []string{"more samples"}
	}
	n.Message += "; missing: " + n.Missing[0]
	if more := len(n.Missing) - 1; more > 0 {
		n.Message += fmt.Sprintf(", and %d more", more)
	}
}

// within judges a number that may be at most allowed.
func within(measured Span, allowed float64) Verdict {
	switch {
	case measured.Min > allowed:
		return Fail
	case measured.most() > allowed:
		return Inconclusive
	}
	return Pass
}

// unmeasured says that a budget has no evidence of any kind that could judge it.
func (j *judge) unmeasured(name, unit string, allowed float64, kinds ...budget.Evidence) {
	var why []string
	for _, kind := range kinds {
		why = append(why, j.ev.howTo(kind))
	}
	j.add(Judgement{
		Budget: name, Evidence: kinds[0], Verdict: Inconclusive, Unit: unit, Allowed: allowed,
		Message: "nothing measured it: " + strings.Join(why, "; "), Missing: why,
	})
}

// money judges the bill, as far as somebody priced it.
func (j *judge) money() {
	allowed := j.opts.Budgets.Money.USDPerMonth
	if allowed <= 0 {
		return
	}
	judged := false
	one := func(kind budget.Evidence, c *Cost, what string, places []Place) {
		if c == nil {
			return
		}
		judged = true
		n := Judgement{
			Budget: money, Evidence: kind, Verdict: within(c.USDPerMonth, allowed), Unit: "usd/month", Measured: &c.USDPerMonth, Allowed: allowed,
			Message: fmt.Sprintf("%s dollars a month for %s on %s, %s allowed", c.USDPerMonth.text(), what, c.Plan, amount(allowed)),
			Remedy:  "redisopt audit plan compares the plans, and what less work would cost",
			Places:  places,
		}
		j.add(n)
		j.oldPrices(kind, c)
	}
	if s := j.ev.Static; s != nil {
		one(budget.Static, s.Cost, "idling alone", j.placesOf(idleOf))
	}
	if l := j.ev.Live; l != nil {
		one(budget.Live, l.Cost, "what was measured", nil)
	}
	if !judged {
		j.unmeasured(money, "usd/month", allowed, budget.Live, budget.Static)
	}
}

// oldPrices warns of prices that nobody looked at for half a year.
func (j *judge) oldPrices(kind budget.Evidence, c *Cost) {
	asOf, err := time.Parse(time.DateOnly, c.AsOf)
	if err != nil {
		return
	}
	days := int(j.opts.Now.Sub(asOf) / (24 * time.Hour))
	if days <= staleDays || slices.ContainsFunc(j.report.Findings, func(f Judged) bool { return f.Rule == ruleOldPrices && f.Subject == c.Plan }) {
		return
	}
	j.finding(kind, Finding{Finding: inspect.Finding{
		Rule: ruleOldPrices, Severity: inspect.Warning, Subject: c.Plan,
		Message: fmt.Sprintf("the prices are %d days old: %s", days, c.AsOf),
		Remedy:  "compare with the provider's page; redisopt audit plan --catalogue FILE takes newer ones",
	}}, New)
}

// sum decides the verdict on everything.
func (j *judge) sum() {
	r := j.report
	fails, warns, open, told := false, false, 0, 0
	for _, n := range r.Judgements {
		switch n.Verdict {
		case Fail:
			fails = true
		case Warn:
			warns = true
		case Inconclusive:
			open++
		case Pass, Waived:
		}
		told++
	}
	for _, f := range r.Findings {
		fails = fails || f.Fails()
		warns = warns || f.State == New && f.Level == budget.RuleWarn
	}
	for _, w := range r.Waivers {
		fails = fails || w.Verdict == Fail
		warns = warns || w.Verdict == Warn
	}
	_, required := r.Unmet()
	nothing := !slices.ContainsFunc(r.Evidence, func(s Source) bool { return s.Present })
	switch {
	case fails:
		r.Verdict = Fail
	case required || nothing || told > 0 && open == told:
		r.Verdict = Inconclusive
	case warns:
		r.Verdict = Warn
	default:
		r.Verdict = Pass
	}
	if told == 0 {
		r.Notes = append(r.Notes, "no budget is set, so only findings were judged; the budgets section of redisopt.yaml sets them")
	}
}
