package gateway

import (
	"context"
	"sync/atomic"
)

// statuses are the HTTP statuses that the gateway answers with.
func statuses() [12]int { return [...]int{200, 400, 401, 405, 408, 413, 429, 431, 500, 502, 503, 504} }

type counts struct {
	byStatus [12]atomic.Int64 // in the order of statuses
	streams  atomic.Int64
	panics   atomic.Int64
}

func (c *counts) answered(status int) {
	for i, s := range statuses() {
		if s == status {
			c.byStatus[i].Add(1)
			return
		}
	}
}

// Stats are the counters of a Gateway since it was made. What the commands cost is in the meter.
type Stats struct {
	// Requests is how many requests were answered, by HTTP status.
	Requests map[int]int64

	// Streams is how many streams are open now.
	Streams int64

	// Panics is how many requests met a defect of the gateway; they were answered with 500.
	Panics int64

	// RewrittenScripts is how many scripts are known that a plain Redis would have refused.
	RewrittenScripts int

	// Tokens are the counters of each token, since it was last configured.
	Tokens []TokenStats
}

// TokenStats are the counters of one token.
type TokenStats struct {
	Name     string
	Requests int64 // all of them
	Refused  int64 // those above MaxPerSecond or MaxConcurrent
	Active   int64 // being answered now; counted only when MaxConcurrent is set
}

// Stats is a snapshot of the counters. It takes no lock that a request waits for.
func (g *Gateway) Stats() Stats {
	s := Stats{
		Requests: make(map[int]int64),
		Streams:  g.counts.streams.Load(),
		Panics:   g.counts.panics.Load(),
	}
	for i, status := range statuses() {
		if n := g.counts.byStatus[i].Load(); n > 0 {
			s.Requests[status] = n
		}
	}
	g.scripts.mu.RLock()
	s.RewrittenScripts = len(g.scripts.names)
	g.scripts.mu.RUnlock()
	for _, c := range g.callers.Load().all {
		s.Tokens = append(s.Tokens, TokenStats{
			Name: c.name, Requests: c.requests.Load(), Refused: c.refused.Load(), Active: c.active.Load(),
		})
	}
	return s
}

// countedStream is stream with its caller's allowance given back at the end.
func (g *Gateway) countedStream(who *caller, stream streamFunc) streamFunc {
	return func(ctx context.Context, write func([]byte) error) error {
		defer who.done()
		g.counts.streams.Add(1)
		defer g.counts.streams.Add(-1)
		return stream(ctx, write)
	}
}

type streamFunc = func(ctx context.Context, write func([]byte) error) error
