package scenario

import (
	"sync"
	"time"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// Parts collect where the time of a target's requests goes: Record is upstream.Options.Timed. A nil *Parts
// collects nothing. It is safe for concurrent use.
type Parts struct {
	mu                   sync.Mutex
	connect, tls, server bench.Histogram
}

// Record takes what one request, or one connection, has to tell.
func (p *Parts) Record(t upstream.Timing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	record := func(h *bench.Histogram, d time.Duration) {
		if d > 0 {
			h.Record(d)
		}
	}
	record(&p.connect, t.Connect)
	record(&p.tls, t.TLS)
	record(&p.server, t.Server)
}

// forget drops what was collected. Those of an answer alone are dropped when connections are to be kept:
// one that was made to prepare or to warm up is used by the operations.
func (p *Parts) forget(keepConnections bool) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.server = bench.Histogram{}
	if !keepConnections {
		p.connect, p.tls = bench.Histogram{}, bench.Histogram{}
	}
}

// into adds what was collected to r, and says whether there was anything of a server's answers.
func (p *Parts) into(r *bench.Result) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r.Connect.Add(&p.connect)
	r.TLS.Add(&p.tls)
	r.Server.Add(&p.server)
	return p.server.Count() > 0
}
