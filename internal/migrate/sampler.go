package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/history"
)

// day is what rates are told for.
const day = 24 * time.Hour

// How often a sampler looks that chooses by itself: a fiftieth of the shortest time that is asked about, so that
// what the last sample does not cover yet is little of it.
const (
	sampleOften  = time.Minute
	sampleSeldom = 5 * time.Minute
	sampleShare  = 50
)

// SamplerOptions say which Redis is sampled and where the samples are kept.
type SamplerOptions struct {
	// Client reaches the Redis. Required.
	Client redis.UniversalClient

	// Dir is the directory of the ring of samples. Required.
	Dir string

	// Every is the time between two samples; at least 10 milliseconds. Default: 1 to 5 minutes, a fiftieth of
	// the shortest time that somebody asks about.
	Every time.Duration
}

// A Sampler counts what a whole Redis is asked to do and keeps it on disk for 35 days, so that evidence
// survives restarts, and is a Watch over that. It begins to sample when it is first asked, or after a minute.
// One process samples for all that share a directory; the others read. It is safe for concurrent use.
type Sampler struct {
	opts  SamplerOptions
	gauge *gauge
	asked chan struct{} // closed by the first Read
	once  sync.Once

	mu       sync.Mutex
	shortest time.Duration // that somebody asked about since the last sample; 0: nobody did
	before   time.Duration // what shortest was before that sample
}

// NewSampler returns a sampler that does nothing until Run.
func NewSampler(opts SamplerOptions) (*Sampler, error) {
	var errs []error
	if opts.Client == nil {
		errs = append(errs, errors.New("client: got none"))
	}
	if opts.Dir == "" {
		errs = append(errs, errors.New("directory of samples: got none"))
	}
	if opts.Every != 0 && opts.Every < 10*time.Millisecond {
		errs = append(errs, fmt.Errorf("interval: got %s, want 0 or at least 10ms", opts.Every))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Sampler{opts: opts, gauge: &gauge{client: opts.Client}, asked: make(chan struct{})}, nil
}

// Run samples until ctx ends, and returns nil then. A ring that cannot be written is an error; a Redis that
// does not answer is a sample that says so. Price: 1 command (INFO) every Every.
func (s *Sampler) Run(ctx context.Context) error {
	first := cmp.Or(s.opts.Every, sampleOften)
	timer := time.NewTimer(first)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil
	case <-s.asked:
	case <-timer.C:
	}
	var (
		ring   *history.Ring
		before history.Counters
		at     time.Time // of before; zero without one
	)
	defer func() {
		if ring != nil {
			_ = ring.Close() // every sample is durable already
		}
	}()
	for {
		if ring == nil {
			var err error
			if ring, err = history.Open(s.opts.Dir); err != nil && !errors.Is(err, history.ErrLocked) {
				return fmt.Errorf("keep samples: %w", err)
			}
		}
		if ring != nil {
			r := s.gauge.look(ctx, first/2)
			now := r.at
			switch {
			case ctx.Err() != nil:
				return nil
			case r.err != nil:
				if err := ring.Append(unanswered(now)); err != nil {
					return fmt.Errorf("keep samples: %w", err)
				}
			case at.IsZero():
				before, at = r.counters, now
			default:
				if err := ring.Append(r.counters.Since(before, now.Sub(at), now)); err != nil {
					return fmt.Errorf("keep samples: %w", err)
				}
				before, at = r.counters, now
			}
		}
		if !s.pause(ctx) {
			return nil
		}
	}
}

// pause waits until the next sample is due, which somebody who asks about a shorter time brings forward. It
// is false when ctx ended first.
func (s *Sampler) pause(ctx context.Context) bool {
	if s.opts.Every > 0 {
		return passes(ctx, s.opts.Every)
	}
	s.mu.Lock()
	s.before, s.shortest = s.shortest, 0
	s.mu.Unlock()
	for waited := time.Duration(0); waited < s.interval(); waited += sampleOften {
		if !passes(ctx, sampleOften) {
			return false
		}
	}
	return true
}

// passes is false when ctx ended before d had passed.
func passes(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// interval is how long the next sample may wait, by what was asked since the last one, or before it.
func (s *Sampler) interval() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	shortest := cmp.Or(s.shortest, s.before)
	if shortest == 0 {
		return sampleSeldom
	}
	return min(max(shortest/sampleShare, sampleOften), sampleSeldom)
}

// unanswered is the sample of a look that had no answer: it covers no time, and nothing in it is known.
func unanswered(now time.Time) history.Sample {
	return history.Sample{
		Time: now, Source: history.FromInfo, Commands: history.Unknown, InScript: history.Unknown, Writes: history.Unknown,
		Errors: history.Unknown, Connections: history.Unknown, MemoryBytes: history.Unknown,
	}
}

// Read measures one KPI from the samples on disk.
func (s *Sampler) Read(_ context.Context, kpi string, from, to time.Time) (Evidence, error) {
	s.once.Do(func() { close(s.asked) })
	s.mu.Lock()
	if span := to.Sub(from); span > 0 && (s.shortest == 0 || span < s.shortest) {
		s.shortest = span
	}
	s.mu.Unlock()
	samples, err := history.Read(s.opts.Dir, from, to)
	if err != nil {
		return Evidence{}, err
	}
	return SampleEvidence(samples, kpi, from, to), nil
}

// SampleEvidence is what samples of one Redis say of a KPI between two times. It is pure.
func SampleEvidence(samples []history.Sample, kpi string, from, to time.Time) Evidence {
	e := Evidence{
		From: from, To: to, Source: "INFO of the whole Redis, every 1 to 5 minutes", Missing: []string{},
		Coverage: history.Coverage(samples, from, to),
	}
	switch kpi {
	case KPIConnectionErrors, KPIConnections, KPICommandsPerDay, KPICommandsPerMonth, KPIErrorReplies:
	default:
		e.Missing = []string{"INFO does not tell " + kpi + ", and nothing else here measures it"}
		switch kpi {
		case KPIJobSuccess:
			e.Missing = []string{"what became of jobs was not looked at: a soak does (--soak)"}
		case KPILatencyIncrease:
			e.Missing = []string{"the application's latency is not known: a soak with --metrics and --metric p95_ms=SERIES judges it"}
		}
		return e
	}
	var span time.Duration
	for _, x := range samples {
		failed := x.Span == 0
		switch kpi {
		case KPIConnectionErrors:
			e.Known, e.Samples = true, e.Samples+1
			if failed {
				e.Value++
			}
			continue
		case KPIConnections:
			if x.Connections >= 0 {
				e.Known, e.Samples, e.Value = true, e.Samples+1, max(e.Value, float64(x.Connections))
			}
		case KPICommandsPerDay, KPICommandsPerMonth:
			if x.Commands >= 0 && !failed {
				e.Known, e.Samples, e.Value = true, e.Samples+1, e.Value+float64(x.Commands)
				span += x.Span
			}
		case KPIErrorReplies:
			if x.Errors >= 0 {
				e.Known, e.Samples, e.Value = true, e.Samples+1, e.Value+float64(x.Errors)
			}
		}
	}
	switch {
	case !e.Known:
		e.Missing = []string{fmt.Sprintf("there is no sample between %s and %s: redisopt migrate run takes one every 1 to 5 minutes while a migration is open",
			from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339))}
	case kpi == KPICommandsPerDay:
		e.Value *= float64(day) / float64(span)
	case kpi == KPICommandsPerMonth:
		e.Value *= 30 * float64(day) / float64(span)
	case kpi == KPIConnectionErrors:
		e.Source = "our own attempts, every 1 to 5 minutes; what applications met is in their logs"
		e.Coverage = history.Coverage(attempts(samples), from, to)
	}
	return e
}

// attempts are samples as attempts to reach the Redis: one without an answer covers the time since the one
// before it too, as long as nobody could have looked more often.
func attempts(samples []history.Sample) []history.Sample {
	out := make([]history.Sample, len(samples))
	for i, x := range samples {
		if out[i] = x; x.Span == 0 {
			out[i].Span = sampleOften
			if i > 0 && x.Time.After(samples[i-1].Time) {
				out[i].Span = min(x.Time.Sub(samples[i-1].Time), sampleSeldom)
			}
		}
	}
	return out
}

// HistoryDir is where the samples of the database called id are kept under the state directory.
func HistoryDir(stateDir, id string) string {
	return filepath.Join(stateDir, "migrations", id, "history")
}
