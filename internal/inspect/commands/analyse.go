package commands

import (
	"fmt"
	"math"
	"slices"

	"github.com/redisopt/redisopt/internal/inspect/connections"
)

// analyse turns what was read into the report.
func (a *audit) analyse(d delta, delayed map[string]int64) {
	r := a.report
	window := r.WindowSeconds
	c := crowdOf(a.before, a.after, a.received())
	c.ownReads = int64(len(a.nodes)) + a.ours["pubsub|channels"] // the second look, and what followed the first
	provider := a.provider()
	r.Provider = provider.Name
	r.Commands, r.Components, r.Queues, r.Clients = []Row{}, []Row{}, []Row{}, []Row{}
	r.Polling = []Polling{}
	if a.before == nil || a.after == nil {
		r.Missing = append(r.Missing, "queues and clients: CLIENT LIST is refused")
	}
	switch {
	case d.hasCalls:
		r.Observable = ByCommand
		var factors map[string]float64
		r.Split = splitOf(d, c)
		r.Polling, factors = pollingOf(r, d, a.before, a.after, delayed)
		r.Commands = byCommand(d, r.Split, c, factors, window, provider)
		r.Components = byComponent(r.Commands, c)
		r.Queues = byWorkers(r.Commands, a.after, c, func(x connections.Connection) string { return x.Prefix + ":" + x.Queue })
		if c.known && c.counted {
			r.Clients = byConnection(a.before, a.after, window)
		} else {
			r.Clients = byWorkers(r.Commands, a.after, c, func(x connections.Connection) string { return x.Process })
		}
	case d.processed >= 0:
		r.Observable = TotalOnly
		r.Split = Split{All: d.processed, Top: d.processed, High: d.processed, Method: "only a total is counted (total_commands_processed)"}
		r.Missing = append(r.Missing, "calls by command, in-script commands, queues: the server does not count them (no INFO commandstats)")
	default:
		r.Observable = Nothing
		r.Missing = append(r.Missing, "everything: the server counts no commands in INFO")
	}
	r.project(d, provider, a.opts.Budget)
	a.judge(provider)
}

// provider is the profile asked for, or the one the server's own words suggest.
func (a *audit) provider() Provider {
	name := a.opts.Provider
	if name == "" {
		name = "none"
		if a.report.Server.Provider == "upstash" {
			name = "upstash-free"
		}
	}
	p, _ := providerByName(name)
	return p
}

// received is how many connections the server accepted between the two lists; -1 when not known.
func (a *audit) received() int64 {
	if a.before == nil || a.after == nil {
		return -1
	}
	b, f := a.before.Accepted(), a.after.Accepted()
	if b < 0 || f < b {
		return -1
	}
	return f - b
}

// project extrapolates the window to 30 days.
func (r *Report) project(d delta, provider Provider, budget int64) {
	p := &r.Projection
	p.Budget = budget
	p.Assumptions = []string{
		fmt.Sprintf("30 days like these %.0f s", r.WindowSeconds),
		"the same processes stay connected",
	}
	if r.Observable == TotalOnly && r.WindowSeconds > 0 {
		perMonth := float64(r.Split.All) / r.WindowSeconds * secondsInMonth
		p.TopPerMonth, p.AllPerMonth, p.BilledPerMonth = perMonth, perMonth, perMonth
		p.Assumptions = append(p.Assumptions, "free commands cannot be told from billed ones here, so all count")
	}
	for _, c := range r.Commands {
		p.AllPerMonth += c.PerMonth
		p.TopPerMonth += c.TopPerMonth
		p.BilledPerMonth += c.BilledPerMonth
	}
	for i := range r.Polling {
		// A stalled check that finds another worker's mark runs one command instead of all; the counters know.
		r.Polling[i].TopPerMonth = min(r.Polling[i].TopPerMonth, p.TopPerMonth)
		r.Polling[i].AllPerMonth = min(r.Polling[i].AllPerMonth, p.AllPerMonth)
	}
	if budget > 0 {
		p.TopBudget, p.AllBudget = p.TopPerMonth/float64(budget), p.AllPerMonth/float64(budget)
	}
	p.UncertaintyPercent = r.uncertainty(d)
	if len(r.Polling) > 0 {
		p.Assumptions = append(p.Assumptions, fmt.Sprintf("no timer is longer than the %.0f s measured: one that did not fire in them is not in the sum", r.WindowSeconds))
	}
	idle := slices.ContainsFunc(r.Polling, func(x Polling) bool { return x.Jobs == 0 && x.TopPerMonth > 0 })
	if idle {
		p.Assumptions = append(p.Assumptions, "polling is counted from the phase each worker was in when the window began and ended")
	}
	if provider.BillsScripts {
		p.Assumptions = append(p.Assumptions, "the plan bills a script and every command inside it ("+provider.AsOf+")")
	}
	r.Bills = bills(r, provider)
}

// uncertainty adds up how far the length of the window lets each count be off: a second of phase for
// what workers do on a timer, the square root of the count for everything else.
func (r *Report) uncertainty(d delta) float64 {
	total := float64(r.Split.All)
	if total <= 0 || r.WindowSeconds <= 0 {
		return 0
	}
	timed := 0.0
	for _, p := range r.Polling {
		if p.Jobs == 0 && p.PollSeconds > 0 {
			timed += p.AllPerMonth * r.WindowSeconds / secondsInMonth
		}
	}
	timed = min(timed, total)
	if d.total == 0 {
		timed = 0
	}
	return 100 * (timed/r.WindowSeconds + math.Sqrt(total-timed)) / total
}

// bills prices the month on the chosen plan first, then on Upstash's two for comparison.
func bills(r *Report, chosen Provider) []Bill {
	out := []Bill{}
	for _, name := range []string{chosen.Name, "upstash-free", "upstash-payg"} {
		p, ok := providerByName(name)
		if !ok || name == "none" || slices.ContainsFunc(out, func(b Bill) bool { return b.Provider.Name == name }) {
			continue
		}
		billed := 0.0
		for _, c := range r.Commands {
			if p.bills(c.Name) {
				billed += c.PerMonth
			}
		}
		if r.Observable == TotalOnly {
			billed = r.Projection.AllPerMonth
		}
		b := Bill{Provider: p, BilledPerMonth: billed, USDPerMonth: billed / 100_000 * p.USDPer100K}
		if p.Included > 0 {
			b.BudgetMultiple = billed / float64(p.Included)
			if b.BudgetMultiple > 1 {
				b.LastsHours = secondsInMonth / 3600 / b.BudgetMultiple
			}
		}
		out = append(out, b)
	}
	return out
}
