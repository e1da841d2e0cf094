package step

import "github.com/redisopt/redisopt/internal/migrate/mover"

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
