package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/inspect"
)

// staleDays is the age from which a price is warned about.
const staleDays = 180

// assume lists what the numbers take for granted.
func (r *Report) assume(c *Catalogue) {
	add := func(s string) {
		if !slices.Contains(r.Assumptions, s) {
			r.Assumptions = append(r.Assumptions, s)
		}
	}
	add("a month has 30 days, and the next ones are like this one")
	if r.Load.InScript == 0 {
		add("no command runs in a script; what scripts run is billed by some providers")
	}
	for _, q := range r.Quotes {
		p := c.provider(q.Provider)
		for _, s := range p.Assumptions {
			add(p.Title + ": " + s)
		}
		if p.WritesPerReadRegion && r.Load.ReadRegions > 0 && r.Load.WriteShare == nil {
			add("every command writes, which costs most with read regions: the share of writes is not known")
		}
	}
	for _, q := range r.Quotes {
		if q.Plan == r.Cheapest {
			for _, s := range q.NotJudged {
				r.Missing = append(r.Missing, fmt.Sprintf("%s: %s has a limit, the load gives no number", s, q.Plan))
			}
		}
	}
}

func (r *Report) find(rule string, severity inspect.Severity, subject, remedy, format string, args ...any) *inspect.Finding {
	r.Findings = append(r.Findings, inspect.Finding{
		Rule: rule, Severity: severity, Subject: subject, Remedy: remedy, Message: fmt.Sprintf(format, args...),
	})
	return &r.Findings[len(r.Findings)-1]
}

func (r *Report) judge(c *Catalogue) {
	cheapest, some := r.quoteOf(r.Cheapest)
	current, paid := r.quoteOf(r.Current)
	switch {
	case paid && !current.Fits:
		remedy := ""
		if some {
			remedy = fmt.Sprintf("%s at %.2f dollars a month carries it", cheapest.Plan, cheapest.USDPerMonth)
		}
		r.find("plan-too-small", inspect.Critical, current.Plan, remedy, "%s does not carry the load: %s", current.Plan, strings.Join(current.Blockers, "; "))
	case paid && some && cheapest.USDPerMonth < current.USDPerMonth-0.005:
		f := r.find("cheaper-plan", inspect.Warning, current.Plan, "change to "+cheapest.Plan,
			"%s costs %.2f dollars a month, %s would cost %.2f", current.Plan, current.USDPerMonth, cheapest.Plan, cheapest.USDPerMonth)
		f.SavingUSDPerMonth = current.USDPerMonth - cheapest.USDPerMonth
	}
	if !some && !paid && len(r.Quotes) > 0 {
		var why []string
		for _, q := range r.Quotes {
			why = append(why, q.Plan+": "+strings.Join(q.Blockers, ", "))
		}
		r.find("no-plan-fits", inspect.Critical, "load", "lower the load, or compare other plans with --rate", "no plan carries the load: %s", strings.Join(why, "; "))
	}
	subject, judged := current, paid
	if !paid {
		subject, judged = cheapest, some
	}
	if judged {
		r.judgeBudget(subject)
	}
	r.judgeScripts(c, subject, judged)
	if w := r.Work; w != nil {
		switch {
		case w.Pay || w.SavingUSD == 0:
			r.find("paying-beats-work", inspect.Note, w.Plan, "pay, and spend the hours elsewhere", "%s", w.Text)
		case w.Hours > 0:
			r.find("work-pays", inspect.Note, w.Plan, "", "%s", w.Text)
		}
	}
	r.judgeAge(c)
}

// judgeBudget says how much of the budget a plan uses, at the steps at which operators are warned.
func (r *Report) judgeBudget(q Quote) {
	budget := r.Load.BudgetUSDPerMonth
	if budget <= 0 || !q.Fits {
		return // what does not fit is critical already
	}
	share := q.USDPerMonth / budget
	severity := inspect.Note
	switch {
	case share > 1:
		severity = inspect.Critical
	case share >= 0.9:
		severity = inspect.Warning
	case share < 0.7:
		return
	}
	r.find("money-budget", severity, q.Plan, "", "%.2f dollars a month on %s are %.0f%% of a budget of %.2f", q.USDPerMonth, q.Plan, 100*share, budget)
}

// judgeScripts tells what scripts add to a bill, because what clients send does not show it.
func (r *Report) judgeScripts(c *Catalogue, q Quote, judged bool) {
	if !judged || !c.provider(q.Provider).BillsInScript || r.Load.InScript < r.Load.Top || r.Load.InScript == 0 {
		return
	}
	r.find("scripts-billed", inspect.Note, q.Plan, "",
		"%s of %s commands a month run inside scripts and are billed: a count of what clients send sees %.0f%% of the bill",
		amount(r.Load.InScript), amount(r.Load.sent()), 100*r.Load.Top/r.Load.sent())
}

// judgeAge warns about old prices, of plans and of the add-ons that are bought.
func (r *Report) judgeAge(c *Catalogue) {
	old := map[string][]string{}
	check := func(name, asOf string) {
		t, err := date(asOf)
		if err != nil {
			return // a rate of the caller's has no date
		}
		days := int(r.At.Sub(t) / (24 * time.Hour))
		r.OldestPriceAge = max(r.OldestPriceAge, days)
		if days > staleDays || days < -1 {
			old[asOf] = append(old[asOf], name)
		}
	}
	for _, q := range r.Quotes {
		check(q.Plan, q.AsOf)
	}
	for _, a := range c.AddOns {
		if slices.Contains(r.Load.AddOns, a.Name) {
			check(a.Name, a.AsOf)
		}
	}
	dates := make([]string, 0, len(old))
	for d := range old {
		dates = append(dates, d)
	}
	slices.Sort(dates)
	for _, d := range dates {
		t, _ := date(d)
		days := int(r.At.Sub(t) / (24 * time.Hour))
		age := fmt.Sprintf("%d days old", days)
		if days < 0 {
			age = "of a date to come"
		}
		r.find("prices-out-of-date", inspect.Warning, "prices of "+d, "compare with the provider's page and give newer ones: --catalogue FILE",
			"prices of %s are %s: %s", strings.Join(old[d], ", "), age, d)
	}
}

func (r *Report) measure() {
	r.Measures = []inspect.Measure{}
	evidence := func(q Quote) inspect.Evidence {
		return inspect.Evidence{Source: strings.Join(append(slices.Clone(r.Load.Sources), "prices of "+q.AsOf), ", "), Samples: 1, Missing: q.NotJudged}
	}
	for _, q := range r.Quotes {
		labels := map[string]string{"plan": q.Plan}
		r.Measures = append(r.Measures,
			inspect.Measure{Name: "plan.cost", Value: q.USDPerMonth, Unit: "usd/month", Labels: labels, Evidence: evidence(q)},
			inspect.Measure{Name: "plan.billed_commands", Value: q.BilledPerMonth, Unit: "command/month", Labels: labels, Evidence: evidence(q)})
	}
	if q, ok := r.quoteOf(r.Cheapest); ok {
		r.Measures = append(r.Measures, inspect.Measure{Name: "plan.cheapest_cost", Value: q.USDPerMonth, Unit: "usd/month", Labels: map[string]string{"plan": q.Plan}, Evidence: evidence(q)})
	}
}
