package source

import (
	"go/ast"
	"math"
)

// What go-redis and asynq do by themselves, as measured on go-redis 9.23 and asynq 0.26.
const (
	goPipelineConnections = 10 // a second pool for pipelines, beside PoolSize
	goPoolPerCPU          = 10

	asynqHeartbeatSeconds = 5
	asynqRecoverSeconds   = 60
	asynqPingSeconds      = 3
)

// A goClient is what rules ask about a client in Go.
type goClient struct {
	options  *ast.CompositeLit
	pipeline bool // PipelinePoolSize is not turned off
	queues   float64
}

// redisClient is redis.NewClient and its relatives.
func (g *goFile) redisClient(name string, call *ast.CallExpr) *construction {
	switch name {
	case "NewClient", "NewUniversalClient", "NewClusterClient", "NewFailoverClient", "NewRing", "NewFailoverClusterClient":
	default:
		return nil
	}
	k := &construction{library: GoRedis, kind: Client, goClient: &goClient{pipeline: true}}
	if len(call.Args) > 0 {
		k.goClient.options = g.literalOf(call.Args[0])
	}
	o := k.goClient.options
	pool := span{min: 1, max: goPoolPerCPU, open: true} // times the number of CPUs
	if n, ok := goNumber(field(o, "PoolSize")); ok {
		pool = span{min: 1, max: n}
	} else if n, ok := goNumber(field(o, "MaxActiveConns")); ok && n > 0 {
		pool = span{min: 1, max: n}
	}
	if n, ok := goNumber(field(o, "PipelinePoolSize")); ok {
		k.goClient.pipeline = n > 0
		pool.max += max(n, 0)
	} else {
		pool.max += goPipelineConnections
	}
	k.holds = &pool
	return k
}

// asynqPart is a server, client, scheduler or inspector of asynq.
func (g *goFile) asynqPart(name string, call *ast.CallExpr) *construction {
	k := &construction{library: Asynq, goClient: &goClient{queues: 1}}
	pool := span{min: 1, max: goPoolPerCPU, open: true}
	if len(call.Args) > 0 {
		if n, ok := goNumber(field(g.literalOf(call.Args[0]), "PoolSize")); ok {
			pool = span{min: 1, max: n}
		}
	}
	switch name {
	case "NewServer":
		k.kind = Server
		pool = pool.plus(span{min: 1, max: 1}) // the subscription
	case "NewServerFromRedisClient":
		k.kind = Server
		pool = span{min: 1, max: 1}
	case "NewClient", "NewInspector":
		k.kind = Client
	case "NewScheduler", "NewPeriodicTaskManager":
		k.kind = FlowProducer
		var s spend
		s.every(period{fast: 10, slow: 10}, 2, 0)
		k.spends = &s
	default:
		return nil
	}
	k.holds = &pool
	if k.kind != Server || len(call.Args) < 2 {
		return k
	}
	config := g.literalOf(call.Args[1])
	k.goClient.options = config
	if queues, ok := field(config, "Queues").(*ast.CompositeLit); ok && len(queues.Elts) > 0 {
		k.goClient.queues = float64(len(queues.Elts))
	}
	s := asynqIdle(config, k.goClient.queues)
	k.spends = &s
	return k
}

// asynqIdle is what a server spends with empty queues: per queue the processor, the forwarder, the
// janitor and the recoverer, and once the heartbeat and the health of the subscription.
func asynqIdle(config *ast.CompositeLit, queues float64) spend {
	every := func(name string, fallback float64) period {
		e := field(config, name)
		if e == nil {
			return period{fast: fallback, slow: fallback}
		}
		if n, ok := goNumber(e); ok && n > 0 {
			return period{fast: n, slow: n}
		}
		return period{fast: fallback, slow: math.Inf(1), open: true}
	}
	fixed := func(seconds float64) period { return period{fast: seconds, slow: seconds} }
	var s spend
	s.every(every("TaskCheckInterval", 1), queues, 2*queues)
	s.every(every("DelayedTaskCheckInterval", 5), 2*queues, 2*queues)
	s.every(every("JanitorInterval", 8), queues, queues)
	s.every(fixed(asynqHeartbeatSeconds), 3, 3)
	s.every(fixed(asynqRecoverSeconds), 2*queues, 4*queues)
	s.every(fixed(asynqPingSeconds), 1, 0)
	return s
}
