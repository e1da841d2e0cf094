package gate

import (
	"fmt"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/budget"
)

// commands judges the month: what idling alone spends, as code tells it, and what a running Redis counted.
func (j *judge) commands() {
	c := j.opts.Budgets.Commands
	if c.PerMonth <= 0 {
		return
	}
	allowed := float64(c.PerMonth)
	judged := false
	if s := j.ev.Static; s != nil {
		judged = true
		n := j.month(c, budget.Static, s.Idle, j.base.Idle, "idling alone")
		n.Places = j.placesOf(idleOf)
		n.Remedy = j.idleRemedy(n)
		j.add(n)
	}
	if l := j.ev.Live; l != nil && l.CommandsPerMonth != nil {
		judged = true
		n := j.month(c, budget.Live, *l.CommandsPerMonth, j.base.LiveCommands, fmt.Sprintf("as in %s", l.Window.Round(time.Second)))
		n.Remedy = "redisopt audit commands shows who spends them"
		j.add(n)
	}
	if !judged {
		j.unmeasured(perMonth, "command/month", allowed, budget.Live, budget.Static)
	}
}

// month judges commands by the shares at which the budget warns and fails.
func (j *judge) month(c budget.Commands, kind budget.Evidence, used Span, before *Span, how string) Judgement {
	n := Judgement{
		Budget: perMonth, Evidence: kind, Verdict: Pass, Unit: "command/month",
		Measured: &used, Allowed: c.FailAt * float64(c.PerMonth), Baseline: before,
	}
	low, high := c.Level(used.Min), c.Level(used.most())
	switch {
	case low >= budget.Fail:
		n.Verdict = Fail
	case high >= budget.Fail:
		n.Verdict = Inconclusive
	case high >= budget.Warn:
		n.Verdict = Warn
	}
	share := ""
	if used.Exact() {
		share = fmt.Sprintf(" (%.0f%%, warns at %.0f%%, fails at %.0f%%)", 100*used.Min/float64(c.PerMonth), 100*c.WarnAt, 100*c.FailAt)
	}
	n.Message = fmt.Sprintf("%s, %s, of %s%s", plural(used, "command a month"), how, amount(float64(c.PerMonth)), share)
	return n
}

// increase judges what the change adds to its baseline.
func (j *judge) increase() {
	i := j.opts.Budgets.Increase
	var connections, idle *Span
	if s := j.ev.Static; s != nil {
		connections, idle = &s.Connections, &s.Idle
	}
	j.grown(increaseConnections, "connection", connections, j.base.Connections, float64(i.Connections), false, connectionsOf)
	j.grown(increaseConnectionsPercent, "connection", connections, j.base.Connections, i.ConnectionsPercent, true, connectionsOf)
	j.grown(increaseCommands, "command a month", idle, j.base.Idle, float64(i.CommandsPerMonth), false, idleOf)
	j.grown(increaseCommandsPercent, "command a month", idle, j.base.Idle, i.CommandsPercent, true, idleOf)
}

// grown judges one kind of increase: of what of measures, in itself or relative to the baseline.
func (j *judge) grown(name, unit string, now, before *Span, allowed float64, relative bool, of func(Site) Span) {
	if allowed < 0 {
		return
	}
	limit := amount(allowed)
	if relative {
		limit = fmt.Sprintf("%g%%", allowed)
	}
	n := Judgement{Budget: name, Evidence: budget.Static, Unit: unit, Allowed: allowed, Measured: now, Baseline: before}
	switch {
	case now == nil:
		j.unmeasured(name, unit, allowed, budget.Static)
		return
	case before == nil:
		n.Verdict, n.Message = Inconclusive, "there is nothing to compare with: --baseline FILE or a git revision"
		n.Missing = []string{"a baseline"}
	default:
		d := now.minus(*before)
		if relative {
			d = share(d, *before)
		}
		n.Verdict = within(d, allowed)
		n.Message = fmt.Sprintf("%s, and one change may add %s", plural(*now, unit), limit)
		n.Places = j.placesOf(of)
		if of(Site{Connections: Exactly(1)}).Min == 1 {
			n.Remedy = j.remedyFor(n, "")
		} else {
			n.Remedy = j.idleRemedy(n)
		}
	}
	j.add(n)
}

// share is d in percent of base. Anything on top of nothing is more than any share.
func share(d, base Span) Span {
	of := func(n, of float64) float64 {
		switch {
		case n <= 0 && of == 0:
			return 0
		case of == 0:
			return 1e18
		}
		return 100 * n / of
	}
	return Span{Min: of(d.Min, base.Min), Max: max(of(d.Min, base.Min), of(d.Max, base.Max)), Open: d.Open}
}
