package step

import (
	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
)

// The names of phase 3's steps around the move.
const (
	phase3Baseline = "phase3.preflight-baseline"
	phase3Soak     = "phase3.soak"
)

func (p *Phase3) baseline() *baseline {
	return &baseline{
		name: phase3Baseline, soak: *p.opts.Route.Soak, env: p.opts.env, client: p.client, queues: []mover.Endpoint{p.opts.Route.From},
	}
}

// soak waits, and meanwhile takes over what straggling producers still add to the source.
func (p *Phase3) soak() *soakStep {
	queue := QueuePhase{Phase3: p, client: p.client, env: p.opts.env}
	return &soakStep{
		name: phase3Soak, first: p.baseline(), queues: []mover.Endpoint{p.opts.Route.To}, beside: queue.Keep,
	}
}

// soakOutline puts the steps around the move to those of the plan.
func (p QueuePhase) soakOutline(steps []migrate.OutlineStep) []migrate.OutlineStep {
	s := p.opts.Route.Soak
	if s == nil {
		return steps
	}
	const look = 12 // commands at most
	first := migrate.OutlineStep{Name: phase3Baseline, Summary: "measure how it is before anything changes", Commands: look + 4}
	last := migrate.OutlineStep{Name: phase3Soak, Summary: s.says(), Commands: look * (1 + int64(max(0, s.length())/s.readEvery()))}
	return append(append([]migrate.OutlineStep{first}, steps...), last)
}
