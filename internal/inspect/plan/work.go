package plan

import (
	"errors"
	"fmt"
	"math"
)

// An Effort is work that lowers the load.
type Effort struct {
	// Hours of work, at USDPerHour each. Hours 0: how many hours would pay is told instead.
	Hours      float64
	USDPerHour float64

	// Months is how long the saving counts. Default 12.
	Months float64

	// TargetPerMonth is the commands a month, those in scripts included, that are left afterwards.
	// 0 is not known: then the most that work could save, all of the bill, is taken.
	TargetPerMonth float64
}

// A Verdict is whether to pay or to work.
type Verdict struct {
	Hours      float64 `json:"hours"`
	USDPerHour float64 `json:"usd_per_hour"`
	Months     float64 `json:"months"`
	WorkUSD    float64 `json:"work_usd"`

	// Plan and USDPerMonth are the cheapest for the load as it is, AfterPlan and AfterUSDPerMonth for
	// what the work leaves; empty and 0 where that is not known.
	Plan             string  `json:"plan"`
	USDPerMonth      float64 `json:"usd_per_month"`
	AfterPlan        string  `json:"after_plan,omitempty"`
	AfterUSDPerMonth float64 `json:"after_usd_per_month"`

	// SavingUSD is over all Months. AtMost says that it is a bound and not an expectation.
	SavingUSD float64 `json:"saving_usd"`
	AtMost    bool    `json:"saving_is_at_most"`

	// HoursWorth is how many hours the saving pays for. PaybackMonths is how long it takes to pay for
	// Hours; 0 where nothing is saved or no hours are given.
	HoursWorth    float64 `json:"hours_worth"`
	PaybackMonths float64 `json:"payback_months,omitempty"`

	// Pay says that paying is cheaper than the work. False without hours.
	Pay bool `json:"paying_beats_work"`

	// Text says it in one sentence.
	Text string `json:"text"`
}

func (e *Effort) validate(load Load) error {
	var errs []error
	for _, n := range []struct {
		name  string
		value float64
	}{{"hours of work", e.Hours}, {"hourly rate", e.USDPerHour}, {"months", e.Months}, {"target commands", e.TargetPerMonth}} {
		if n.value < 0 || math.IsNaN(n.value) || math.IsInf(n.value, 0) {
			errs = append(errs, fmt.Errorf("%s: got %v, want 0 or more", n.name, n.value))
		}
	}
	if e.USDPerHour == 0 {
		errs = append(errs, errors.New("hourly rate: not given, and the work cannot be weighed without"))
	}
	if e.TargetPerMonth > load.sent() {
		errs = append(errs, fmt.Errorf("target commands: got %.0f a month, which is more than the %.0f of today", e.TargetPerMonth, load.sent()))
	}
	return errors.Join(errs...)
}

// weigh compares paying for the load with the work that lowers it. A plan that is paid for now counts as
// the price of today only where it fits; else the cheapest that does.
func (r *Report) weigh(opts Options) error {
	e := *opts.Work
	if e.Months == 0 {
		e.Months = 12
	}
	if r.Cheapest == "" {
		r.Missing = append(r.Missing, "whether the work pays: no plan carries the load, so there is nothing to pay instead")
		return nil
	}
	now, _ := r.quoteOf(r.Cheapest)
	v := &Verdict{
		Hours: e.Hours, USDPerHour: e.USDPerHour, Months: e.Months, WorkUSD: e.Hours * e.USDPerHour,
		Plan: now.Plan, USDPerMonth: now.USDPerMonth, AtMost: e.TargetPerMonth == 0,
	}
	if e.TargetPerMonth > 0 {
		after, err := Compare(r.Load.scaled(e.TargetPerMonth), Options{Catalogue: opts.Catalogue, Now: opts.Now, Provider: opts.Provider, Current: opts.Current, Rates: opts.Rates})
		if err != nil {
			return fmt.Errorf("after the work: %w", err)
		}
		if q, ok := after.quoteOf(after.Cheapest); ok {
			v.AfterPlan, v.AfterUSDPerMonth = q.Plan, q.USDPerMonth
		}
	}
	monthly := max(0, v.USDPerMonth-v.AfterUSDPerMonth)
	v.SavingUSD = monthly * e.Months
	v.HoursWorth = v.SavingUSD / e.USDPerHour
	if monthly > 0 && e.Hours > 0 {
		v.PaybackMonths = v.WorkUSD / monthly
	}
	v.Pay = e.Hours > 0 && v.WorkUSD > v.SavingUSD
	v.Text = v.sentence()
	r.Work = v
	return nil
}

func (v *Verdict) sentence() string {
	most := ""
	if v.AtMost {
		most = "at most "
	}
	saves := fmt.Sprintf("the work saves %s%.2f dollars in %g months", most, v.SavingUSD, v.Months)
	switch {
	case v.SavingUSD == 0:
		return fmt.Sprintf("%s costs %.2f dollars a month, and the work saves nothing of it", v.Plan, v.USDPerMonth)
	case v.Hours == 0:
		return fmt.Sprintf("%s, which pays for %.1f hours at %.2f", saves, v.HoursWorth, v.USDPerHour)
	case v.Pay:
		return fmt.Sprintf("paying %.2f dollars a month for %s beats the work: %s, and costs %.2f", v.USDPerMonth, v.Plan, saves, v.WorkUSD)
	}
	return fmt.Sprintf("the work beats paying %.2f dollars a month for %s: %s, and costs %.2f", v.USDPerMonth, v.Plan, saves, v.WorkUSD)
}

// scaled is the load with another number of commands in the same mix.
func (l Load) scaled(sent float64) Load {
	f := sent / l.sent()
	l.Top, l.InScript, l.PeakPerSecond = l.Top*f, l.InScript*f, l.PeakPerSecond*f
	by := make(map[string]float64, len(l.ByCommand))
	for name, n := range l.ByCommand {
		by[name] = n * f
	}
	l.ByCommand = by
	return l
}
