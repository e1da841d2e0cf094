package migrate

import (
	"context"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/history"
)

// A look is what a sampler saw of a Redis at one moment. The zero value is no look.
type look struct {
	at       time.Time
	answered bool           // the Redis did
	source   history.Source // who told the counters; 0: nobody
	counters history.Counters
	own      int64 // that this process had sent by then
}

// look takes one, which may be as old as fresh. Price: 1 command (INFO) or none, and what Counted costs.
func (s *Sampler) look(ctx context.Context, fresh time.Duration) look {
	r := s.gauge.look(ctx, fresh)
	l := look{at: r.at, answered: r.err == nil || r.untold, source: history.FromInfo, counters: r.counters}
	if s.opts.Own != nil {
		l.own = s.opts.Own()
	}
	if r.err == nil {
		return l
	}
	l.source, l.counters = 0, history.Counters{}
	if r.untold && s.opts.Counted != nil {
		ctx, cancel := context.WithTimeout(ctx, sampleOften)
		defer cancel()
		if c, err := s.opts.Counted(ctx); err == nil {
			l.source, l.counters = history.FromProvider, c
		}
	}
	return l
}

// since is the sample of the time since the last look that was answered. It is false for the first one, which
// covers nothing yet.
func (l look) since(last look) (history.Sample, bool) {
	untold := history.Sample{
		Time: l.at, Source: history.FromInfo, Commands: history.Unknown, InScript: history.Unknown, Writes: history.Unknown,
		Errors: history.Unknown, Connections: history.Unknown, MemoryBytes: history.Unknown,
	}
	switch {
	case !l.answered: // it covers no time, and nothing in it is known
		return untold, true
	case last.at.IsZero():
		return history.Sample{}, false
	case l.source == 0 || l.source != last.source:
		untold.Span = l.at.Sub(last.at)
		return untold, true
	}
	x := l.counters.Since(last.counters, l.at.Sub(last.at), l.at)
	x.Source = x.Source&^history.FromInfo | l.source
	if x.Commands >= 0 {
		x.Own = min(max(0, l.own-last.own), x.Commands)
	}
	return x, true
}
