package plan

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/inspect"
)

// Options say what to compare. The zero value compares every plan of the embedded catalogue.
type Options struct {
	// Catalogue holds the prices. Default Embedded.
	Catalogue *Catalogue

	// Now is the time of the comparison, from which the age of prices follows. Required.
	Now time.Time

	// Provider is a plan, which is then judged by itself, or a provider, to whose plans the comparison
	// is then limited. Default none.
	Provider string

	// Current is the plan that is paid for now. Default none, or Provider where that is a plan.
	Current string

	// Rates are what the caller pays for plans without a published price, by plan.
	Rates map[string]Rate

	// Work is the effort that would lower the load. Nil: not judged.
	Work *Effort
}

// A Report is the comparison of all plans for one load.
type Report struct {
	At             time.Time `json:"at"`
	CatalogueAsOf  string    `json:"catalogue_as_of"`
	OldestPriceAge int       `json:"oldest_price_days"`
	Load           Load      `json:"load"`

	// Quotes are what was priced, what fits first and cheapest first.
	Quotes []Quote `json:"quotes"`

	// Cheapest is the cheapest plan that fits, empty where none does.
	Cheapest string `json:"cheapest,omitempty"`
	Current  string `json:"current,omitempty"`

	// Steps say which plan is cheapest from how many commands on, the rest of the load as it is.
	Steps []Step `json:"steps"`

	// BreakEven are the loads at which a plan charged by the command and a flat one cost the same.
	BreakEven []BreakEven `json:"break_even"`

	Work *Verdict `json:"work,omitempty"`

	// Unpriced are plans of the catalogue for which no rate was given.
	Unpriced []string `json:"unpriced"`

	Measures    []inspect.Measure `json:"measures"`
	Findings    []inspect.Finding `json:"findings"`
	Assumptions []string          `json:"assumptions"`
	Missing     []string          `json:"missing"`
}

// An UnknownError names a plan, provider or add-on that the catalogue does not have.
type UnknownError struct {
	Kind  string // "plan or provider", "plan", "add-on"
	Name  string
	Known []string
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("no %s is called %q; there are %s", e.Kind, e.Name, strings.Join(e.Known, ", "))
}

// Compare prices load on every plan. It joins every problem of load and opts into one error.
func Compare(load Load, opts Options) (*Report, error) {
	if opts.Catalogue == nil {
		c, err := Embedded()
		if err != nil {
			return nil, fmt.Errorf("embedded prices: %w", err)
		}
		opts.Catalogue = c
	}
	load = load.withDefaults()
	if err := errors.Join(load.validate(), opts.validate(load)); err != nil {
		return nil, err
	}
	c := opts.Catalogue
	r := &Report{
		At: opts.Now.UTC(), CatalogueAsOf: c.AsOf, Load: load, Current: opts.current(),
		Quotes: []Quote{}, Unpriced: []string{}, Findings: []inspect.Finding{}, Missing: []string{}, Assumptions: []string{},
	}
	for _, p := range c.Plans {
		if !opts.wants(p) {
			continue
		}
		rate, rated := opts.Rates[p.Name]
		switch {
		case rated:
			r.Quotes = append(r.Quotes, c.quote(p, load, &rate))
		case p.RatesFromUser:
			r.Unpriced = append(r.Unpriced, p.Name)
		default:
			r.Quotes = append(r.Quotes, c.quote(p, load, nil))
		}
	}
	slices.SortStableFunc(r.Quotes, cheaper)
	if len(r.Quotes) > 0 && r.Quotes[0].Fits {
		r.Cheapest = r.Quotes[0].Plan
	}
	r.Steps = steps(r.Quotes)
	r.BreakEven = breakEvens(r.Quotes)
	if opts.Work != nil {
		if err := r.weigh(opts); err != nil {
			return nil, err
		}
	}
	r.assume(c)
	r.judge(c)
	r.measure()
	return r, nil
}

// cheaper orders what fits before what does not, and then by price.
func cheaper(a, b Quote) int {
	if a.Fits != b.Fits {
		if a.Fits {
			return -1
		}
		return 1
	}
	switch {
	case a.USDPerMonth < b.USDPerMonth:
		return -1
	case a.USDPerMonth > b.USDPerMonth:
		return 1
	}
	return 0
}

// wants reports that p is compared.
func (o Options) wants(p Plan) bool {
	return o.Provider == "" || o.isPlan(o.Provider) || p.Provider == o.Provider
}

func (o Options) isPlan(name string) bool { return slices.Contains(o.Catalogue.Names(), name) }

func (o Options) current() string {
	if o.Current == "" && o.isPlan(o.Provider) {
		return o.Provider
	}
	return o.Current
}

func (o Options) validate(load Load) error {
	c := o.Catalogue
	var errs []error
	if o.Now.IsZero() {
		errs = append(errs, errors.New("now: the time of the comparison is missing"))
	}
	plans, providers, addOns := c.Names(), []string{}, []string{}
	for _, p := range c.Providers {
		providers = append(providers, p.Name)
	}
	for _, a := range c.AddOns {
		addOns = append(addOns, a.Name)
	}
	if o.Provider != "" && !slices.Contains(plans, o.Provider) && !slices.Contains(providers, o.Provider) {
		errs = append(errs, &UnknownError{"plan or provider", o.Provider, slices.Compact(slices.Sorted(slices.Values(slices.Concat(plans, providers))))})
	}
	if o.Current != "" && !slices.Contains(plans, o.Current) {
		errs = append(errs, &UnknownError{"plan", o.Current, plans})
	}
	if o.isPlan(o.Provider) && o.Current != "" && o.Current != o.Provider {
		errs = append(errs, fmt.Errorf("current plan: got %s and %s", o.Current, o.Provider))
	}
	for name, rate := range o.Rates {
		if !slices.Contains(plans, name) {
			errs = append(errs, &UnknownError{"plan", name, plans})
		}
		for _, n := range []float64{rate.USDPerMonth, float64(rate.Nodes), rate.MemoryBytes, rate.MaxConnections} {
			if n < 0 || math.IsNaN(n) || math.IsInf(n, 0) {
				errs = append(errs, fmt.Errorf("rate of %s: got %v, want 0 or more", name, n))
			}
		}
	}
	for _, name := range load.AddOns {
		if !slices.Contains(addOns, name) {
			errs = append(errs, &UnknownError{"add-on", name, addOns})
		}
	}
	if p := o.current(); p != "" && o.isPlan(p) {
		i := slices.IndexFunc(c.Plans, func(x Plan) bool { return x.Name == p })
		if _, rated := o.Rates[p]; !rated && c.Plans[i].RatesFromUser {
			errs = append(errs, fmt.Errorf("%s has no published price; a rate is needed", p))
		}
	}
	if o.Work != nil {
		errs = append(errs, o.Work.validate(load))
	}
	return errors.Join(errs...)
}

// quoteOf is the quote of the plan called name.
func (r *Report) quoteOf(name string) (Quote, bool) {
	i := slices.IndexFunc(r.Quotes, func(q Quote) bool { return q.Plan == name })
	if i < 0 {
		return Quote{}, false
	}
	return r.Quotes[i], true
}
