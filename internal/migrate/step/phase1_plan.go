package step

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/runtime/ramp"
)

// Phase1Facts are what audits know about the connections that phase 1 ends.
type Phase1Facts struct {
	// Connections are those of the application, ours not counted, and Limit the server's; 0 when not known.
	Connections int64
	Limit       int64

	// Cache, Limiter, SMS and Pool are those of each role that moves, as measured.
	Cache, Limiter, SMS, Pool int64

	// PoolUsers are who uses the connection pool manager: "pid 4711 (node): 4 connections".
	PoolUsers []string

	// CommandsPerDay is what the database is sent; nil when it was not measured.
	CommandsPerDay *float64

	// Missing is what could not be measured, and why.
	Missing []string

	// Code is what the application's people must change, where the source was scanned.
	Code []migrate.CodeChange
}

// moves is how many connections end with phase 1.
func (f Phase1Facts) moves() int64 { return f.Cache + f.Limiter + f.SMS + f.Pool }

// Plan tells what the phase would do. It writes nothing. Price: 2 commands on the old side and what the prover
// may spend, 1 and up to 200 SCANs on the new one.
func (p *Phase1) Plan(ctx context.Context) (migrate.Outline, error) {
	o := migrate.Outline{
		Target:   p.Target(),
		Settings: p.settings(),
		PointOfNoReturn: "redisopt migrate complete phase1: from then on keys are no longer written on the old side, " +
			"and the way back is a new plan in the opposite direction",
	}
	if p.plan.SameDatabase {
		o.PointOfNoReturn = ""
	}
	var err error
	if o.Problems, err = p.problems(ctx); err != nil {
		return o, err
	}
	var proof Proof
	if p.plan.Prove > 0 {
		if proof, err = p.prove(ctx); err != nil {
			return o, err
		}
		o.Problems = append(o.Problems, p.proofProblems(proof)...)
	}
	d, err := p.current(ctx)
	if err != nil {
		return o, err
	}
	for _, route := range p.plan.Routes {
		if d.Killed(route) {
			o.Problems = append(o.Problems, migrate.Problem{
				Rule: "kill-switch", Subject: route, Blocking: true,
				Message: fmt.Sprintf("the kill switch of %s is thrown, by %s: %s", route, d.By, d.Reason),
				Fix:     "find out why, and take it out of the control document",
			})
		}
	}
	o.Steps = p.outlineSteps(proof)
	o.Claims, o.KPIs = p.claims()
	o.Application = p.application()
	if p.Facts != nil {
		o.Code = p.Facts.Code
		for _, user := range p.Facts.PoolUsers {
			o.Application = append(o.Application, "the connection pool manager is used by "+user+"; give it the new client, or its connections stay")
		}
		for _, why := range p.Facts.Missing {
			o.Problems = append(o.Problems, migrate.Problem{Rule: "not-measured", Message: why})
		}
	}
	return o.Normal(), nil
}

// PlanBack tells what the way back would do.
func (p *Phase1) PlanBack(ctx context.Context) (migrate.Outline, error) {
	o := migrate.Outline{Target: p.Target(), Settings: p.settings()[:3]}
	d, err := p.current(ctx)
	if err != nil {
		return o, err
	}
	for _, a := range p.Fleet.Ramps(ctx) {
		if a.Err != nil {
			o.Problems = append(o.Problems, migrate.Problem{
				Rule: "replica-unreachable", Subject: a.URL, Message: "a replica does not answer, and follows when it does: " + a.Err.Error(),
			})
		}
	}
	for _, route := range p.plan.Routes {
		if d.Ramps[route] > 0 && d.Ramps[ramp.Mirror(route)] == 0 && !p.plan.SameDatabase {
			o.Problems = append(o.Problems, migrate.Problem{
				Rule: "complete", Subject: route, Blocking: true,
				Message: "keys of " + route + " are no longer written on the old side, so what is there is out of date",
				Fix:     "plan phase1 in the opposite direction, with upstream and ramp exchanged",
			})
		}
	}
	o.Steps = []migrate.OutlineStep{
		{Name: "phase1.ramp-0", Summary: "take all keys back to the old side on every replica at once", Commands: 3, InScript: 3, Writes: true},
		{Name: phase1Shadow, Summary: "end writing on both sides and comparing", Commands: 3, InScript: 3, Writes: true},
	}
	return o.Normal(), nil
}

func (p *Phase1) settings() []migrate.Setting {
	kind := "two databases: keys are written on both until complete"
	if p.plan.SameDatabase {
		kind = "one database, reached in two ways"
	}
	newSide := p.plan.New
	if newSide == "" {
		newSide = "the application's own second client"
	}
	out := []migrate.Setting{
		{Name: "routes", Value: strings.Join(p.plan.Routes, ", ")},
		{Name: "old side", Value: p.plan.Old},
		{Name: "new side", Value: newSide},
		{Name: "sides are", Value: kind},
		{Name: "mode", Value: p.mode()},
		{Name: "shares", Value: percentages(p.plan.Percentages) + "% of the keys, by their hash"},
		{Name: "each held", Value: heldFor(p.plan.StepMS)},
		{Name: "soak", Value: heldFor(p.plan.SoakMS)},
		{Name: "reads compared", Value: percentages([]float64{p.plan.ShadowPercent}) + "% of those of the old side"},
		{Name: "limits compared", Value: p.decisions()},
		{Name: "replicas", Value: strings.Join(p.plan.Replicas, ", ")},
	}
	g := p.plan.Gates
	gates := []string{
		fmt.Sprintf("unanswered calls of the new side at most %g", g.Errors),
		fmt.Sprintf("differing reads at most %g", g.Differences),
	}
	if len(p.decisionGates()) > 0 {
		gates = append(gates, fmt.Sprintf("differing decisions about limits at most %g", g.Differences))
	}
	if g.P95 > 0 {
		gates = append(gates, fmt.Sprintf("p95 at most %g%% longer", g.P95))
	}
	if g.HitRate > 0 && p.compares() {
		gates = append(gates, fmt.Sprintf("hit rate at least %g%%", g.HitRate))
	}
	if g.CommandsPerDay > 0 {
		text := fmt.Sprintf("commands a day at most %.10g", g.CommandsPerDay)
		if g.CommandsDefault {
			text += ", a remark where there were more before, as this phase changes no command counts"
		}
		gates = append(gates, text)
	}
	if g.Connections > 0 {
		gates = append(gates, fmt.Sprintf("connections at most %.10g", g.Connections))
	}
	return append(out, migrate.Setting{Name: "gates", Value: strings.Join(gates, "; ") + fmt.Sprintf("; %d samples each", g.MinSamples)})
}

// mode says who divides the keys.
func (p *Phase1) mode() string {
	var serve, app []string
	for _, r := range p.plan.Routes {
		if own(r) {
			serve = append(serve, r)
		} else {
			app = append(app, r)
		}
	}
	var out []string
	if len(serve) > 0 {
		out = append(out, "redisopt serve divides "+strings.Join(serve, " and ")+" between its two upstreams")
	}
	if len(app) > 0 {
		out = append(out, "the application divides "+strings.Join(app, " and ")+" by GET /v1/ramp")
	}
	return strings.Join(out, "; ")
}

// decisions says how many decisions about limits are compared, and at what price.
func (p *Phase1) decisions() string {
	if len(p.decisionGates()) == 0 {
		return "none"
	}
	return percentages([]float64{p.plan.ShadowPercent}) + "% of the checks that ask the old side, at most 10 a second on each replica: up to 5 commands there and 4 on the new side each"
}

func heldFor(ms int64) string {
	if ms < 0 {
		return "until the gates pass"
	}
	return (time.Duration(ms) * time.Millisecond).String()
}

func (p *Phase1) outlineSteps(proof Proof) []migrate.OutlineStep {
	var out []migrate.OutlineStep
	for _, s := range p.Steps() {
		step := migrate.OutlineStep{Name: s.Name()}
		switch s := s.(type) {
		case *phase1Check:
			step.Summary, step.Commands, step.Writes = "look whether replicas and both sides are ready, and whether these are one database", 6, true
		case *phase1Proof:
			step.Summary, step.Commands = fmt.Sprintf("look at values of the old side, %d of them now", proof.Sampled), max(proof.Commands, 1)
		case *phase1Clearing:
			step.Summary, step.Commands, step.Writes = "remove what the new side has under "+strings.Join(p.plan.KeyPrefixes, ", "), 10, true
		case *phase1Shadowing:
			step.Summary, step.Commands, step.InScript, step.Writes = "write keys on both sides, and compare reads", 3, 3, true
			if p.plan.SameDatabase {
				step.Summary = "compare reads"
			}
			if len(p.decisionGates()) > 0 {
				step.Summary += " and what both sides decide about limits"
			}
		case *phase1Share:
			step.Summary, step.Commands, step.InScript, step.Writes = percentages([]float64{s.percent})+"% of the keys to the new side", 6, 6, true
		default:
			step.Summary = "wait until the gates pass"
		}
		out = append(out, step)
	}
	return out
}

// claims says which goals of the design this phase can reach, and the numbers before and after.
func (p *Phase1) claims() ([]migrate.Claim, []migrate.KPI) {
	claims := []migrate.Claim{{
		Target: "30-40% fewer commands, under 70,000 a day", Reachable: false,
		Why: "HTTP and TCP cost the same number of commands; only what a cause is removed of saves some",
	}}
	connections := migrate.KPI{Name: migrate.KPIConnections, Unit: "connections", Method: "not measured: redisopt audit connections needs TCP and a running application"}
	perDay := migrate.KPI{Name: migrate.KPICommandsPerDay, Unit: "commands/day", Method: "not measured; phase 1 leaves it as it is, apart from what mirroring and comparing add until complete"}
	if f := p.Facts; f != nil && f.Connections > 0 {
		before, after := float64(f.Connections), float64(f.Connections-f.moves())
		connections.Before, connections.After = &before, &after
		connections.Method = fmt.Sprintf("CLIENT LIST now; %d - (cache %d + limiter %d + sms limiter %d + pool %d), once their processes hold the old client no more",
			f.Connections, f.Cache, f.Limiter, f.SMS, f.Pool)
		claims = append(claims, migrate.Claim{
			Target: "38-46 to 33-36 connections", Reachable: f.moves() > 0,
			Why: fmt.Sprintf("measured here: %d now, %d of them move, %d stay; three connections of 38 to 46 would leave 35 to 43", f.Connections, f.moves(), f.Connections-f.moves()),
		})
	} else {
		claims = append(claims, migrate.Claim{
			Target: "38-46 to 33-36 connections", Reachable: false,
			Why: "cache, limiter and sms limiter hold three, so 35 to 43 would be left; the pool manager's come on top, and nothing was measured here",
		})
	}
	if f := p.Facts; f != nil && f.CommandsPerDay != nil {
		perDay.Before, perDay.After = f.CommandsPerDay, f.CommandsPerDay
		perDay.Method = "INFO, all commands since the server started; phase 1 leaves it as it is, apart from what mirroring and comparing add until complete"
	}
	zero := 0.0
	claims = append(claims,
		migrate.Claim{Target: "zero connection errors of the new side", Reachable: true, Why: "judged after every share and over the soak, from what every replica counted"},
		migrate.Claim{
			Target: "p95 within 10%", Reachable: true,
			Why: "judged against what callers waited during the shadow; where HTTP is farther away than TCP it fails, and the ramp goes back",
		})
	return claims, []migrate.KPI{
		connections, perDay,
		{Name: migrate.KPIConnectionErrors, Unit: "errors", After: &zero, Method: "unanswered calls of the new side, GET /v1/ramp/stats of every replica"},
		{Name: migrate.KPILatencyP95, Unit: "ms", Method: "what callers of every replica waited, before the first share and over the soak"},
		{Name: migrate.KPIHitRate, Unit: "%", Method: "reads of the cache that found something, GET /v1/ramp/stats of every replica"},
	}
}

// application is what the application's people have to do.
func (p *Phase1) application() []string {
	var out []string
	if slices.ContainsFunc(p.plan.Routes, own) {
		out = append(out, "after complete: move what is under ramp in the configuration of every replica to upstream, remove ramp, and restart them one by one")
	}
	if slices.ContainsFunc(p.plan.Routes, func(r string) bool { return !own(r) }) {
		out = append(out,
			"before the first share: read and write through deploy/node/ramp.mjs (or do the same), with the route's name",
			"after complete: use the new client directly, and remove the old one",
		)
	}
	return append(out, "processes that hold the old client keep their connections until they are restarted without it")
}
