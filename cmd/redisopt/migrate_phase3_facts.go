package main

import (
	"context"

	"github.com/redisopt/redisopt/internal/inspect/connections"
	"github.com/redisopt/redisopt/internal/inspect/source"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// phase3Facts are what the audit of connections, the code and the configuration know about queues under a prefix; code
// and conf may be nil. Where the server does not tell who is connected nothing of that is known. Price: that of the
// audit, once.
func phase3Facts(
	ctx context.Context, up *upstream.Upstream, prefix string, names []string, conf *config.Config, code *source.Report,
) map[string]*step.Phase3Facts {
	all := len(names)
	if conf != nil {
		all = max(all, len(conf.Queues.List))
	}
	out := make(map[string]*step.Phase3Facts, len(names))
	for _, name := range names {
		out[name] = &step.Phase3Facts{Queues: all, Idle: idleInCode(code, name)}
	}
	r, err := connections.Audit(ctx, up.Client(), connections.Options{})
	if err != nil {
		return out
	}
	connected := map[string]bool{}
	for _, c := range r.Connections {
		if c.Queue != "" && c.Prefix == prefix {
			connected[c.Queue] = true
		}
		f := out[c.Queue]
		if f == nil || c.Own || c.Prefix != prefix {
			continue
		}
		f.Measured = true
		f.Connections++
		if c.Role == connections.RoleWorker {
			f.Workers++
		}
	}
	for _, f := range out {
		f.Queues = max(f.Queues, len(connected))
	}
	return out
}

// idleInCode is what the workers of a queue send in 30 days with nothing to do, as the code's settings have it, nil
// where it does not tell. It counts one instance of each process.
func idleInCode(code *source.Report, queue string) *float64 {
	if code == nil {
		return nil
	}
	sum := 0.0
	for _, p := range code.Processes {
		for _, q := range p.Queues {
			if !p.Started || q.Queue != queue || q.Library != source.Bull && q.Library != source.BullMQ {
				continue
			}
			if q.Idle.Top.Open {
				return nil
			}
			sum += q.Idle.Top.Max
		}
	}
	if sum == 0 {
		return nil
	}
	return &sum
}
