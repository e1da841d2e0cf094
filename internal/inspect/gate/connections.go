package gate

import (
	"fmt"

	"github.com/redisopt/redisopt/internal/runtime/budget"
)

// connections judges every budget for open connections.
func (j *judge) connections() {
	c := j.opts.Budgets.Connections
	if c.PerProcess > 0 {
		j.perProcess(float64(c.PerProcess))
	}
	if c.Fleet > 0 {
		j.fleet(c)
	}
	j.planLimit(c)
}

func (j *judge) perProcess(allowed float64) {
	judged := false
	before := map[string]Span{}
	for _, p := range j.base.Processes {
		before[p.Name] = p.Connections
	}
	each := func(kind budget.Evidence, processes []Process) {
		for _, p := range processes {
			judged = true
			n := Judgement{
				Budget: perProcess, Subject: p.Name, Evidence: kind, Verdict: within(p.Connections, allowed), Unit: "connection",
				Measured: &p.Connections, Allowed: allowed,
				Message: plural(p.Connections, "connection") + ", " + amount(allowed) + " allowed in one process",
			}
			if kind == budget.Static {
				if b, ok := before[p.Name]; ok {
					n.Baseline = &b
				}
				n.Places = j.placesIn(p.Name, connectionsOf)
				n.Remedy = j.remedyFor(n, perProcess)
			}
			j.add(n)
		}
	}
	if s := j.ev.Static; s != nil {
		each(budget.Static, s.Processes)
		judged = true
	}
	if l := j.ev.Live; l != nil {
		each(budget.Live, l.Processes)
		judged = judged || len(l.Processes) > 0
	}
	if r := j.ev.Recorded; r != nil && r.PeakPerProcess > 0 {
		each(budget.Recorded, []Process{{Name: "the one with most", Connections: Exactly(float64(r.PeakPerProcess))}})
	}
	if !judged {
		j.unmeasured(perProcess, "connection", allowed, budget.Static, budget.Live)
	}
}

func (j *judge) fleet(c budget.Connections) {
	allowed := float64(c.Fleet)
	if s := j.ev.Static; s != nil {
		n := Judgement{
			Budget: fleet, Evidence: budget.Static, Verdict: within(s.Connections, allowed), Unit: "connection",
			Measured: &s.Connections, Allowed: allowed, Baseline: j.base.Connections,
			Message: plural(s.Connections, "connection") + ", " + amount(allowed) + " allowed",
			Places:  j.placesOf(connectionsOf),
		}
		n.Remedy = j.remedyFor(n, fleet)
		j.add(n)
		// A rolling deploy doubles the prediction, so with a factor of 2 or more it says the same again.
		if most := float64(c.Allowed(true)); c.DeployFactor < 2 {
			j.add(Judgement{
				Budget: deploy, Evidence: budget.Static, Verdict: within(s.RollingDeploy, most), Unit: "connection",
				Measured: &s.RollingDeploy, Allowed: most, Places: n.Places, Remedy: n.Remedy,
				Message: fmt.Sprintf("%s while old and new run beside each other, %s allowed", plural(s.RollingDeploy, "connection"), amount(most)),
			})
		}
	}
	open := j.open()
	if open != nil {
		j.add(Judgement{
			Budget: fleet, Evidence: budget.Live, Verdict: within(*open, allowed), Unit: "connection",
			Measured: open, Allowed: allowed, Baseline: j.base.LiveConnections,
			Message: plural(*open, "connection") + " open, " + amount(allowed) + " allowed",
			Remedy:  "redisopt audit connections shows who holds them",
		})
	}
	if j.ev.Static == nil && open == nil {
		j.unmeasured(fleet, "connection", allowed, budget.Static, budget.Live)
	}
}

// planLimit judges how near the plan's or server's limit is; it needs no budget to be set, only a limit.
func (j *judge) planLimit(c budget.Connections) {
	open := j.open()
	if open != nil {
		limit := c.PlanLimit
		if limit == 0 {
			limit = j.ev.Live.Limit
		}
		if limit > 0 {
			allowed := c.FailAt * float64(limit)
			j.add(Judgement{
				Budget: planLimit, Evidence: budget.Live, Verdict: within(*open, allowed), Unit: "connection",
				Measured: open, Allowed: allowed,
				Message: fmt.Sprintf("%s open, %s allowed of a limit of %d", plural(*open, "connection"), amount(allowed), limit),
				Remedy:  "share connections, or raise the limit before a deploy doubles them",
			})
		}
	}
	if s := j.ev.Static; s != nil && c.PlanLimit > 0 {
		allowed := c.FailAt * float64(c.PlanLimit)
		n := Judgement{
			Budget: planLimit, Evidence: budget.Static, Verdict: within(s.RollingDeploy, allowed), Unit: "connection",
			Measured: &s.RollingDeploy, Allowed: allowed, Places: j.placesOf(connectionsOf),
			Message: fmt.Sprintf("%s in a rolling deploy, %s allowed of a limit of %d", plural(s.RollingDeploy, "connection"), amount(allowed), c.PlanLimit),
		}
		n.Remedy = j.remedyFor(n, "")
		j.add(n)
	}
	if c.PlanLimit > 0 && j.ev.Static == nil && open == nil {
		j.unmeasured(planLimit, "connection", c.FailAt*float64(c.PlanLimit), budget.Static, budget.Live)
	}
}

// open is how many connections a running Redis has; nil when not known.
func (j *judge) open() *Span {
	if j.ev.Live == nil {
		return nil
	}
	return j.ev.Live.Connections
}
