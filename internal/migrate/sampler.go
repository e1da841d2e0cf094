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

	// Own, when not nil, tells how many commands this process has sent so far, those inside its scripts included.
	// They are kept with each sample and are no part of what a gate on commands judges.
	Own func() int64

	// Counted, when not nil, is asked where INFO does not tell how many commands there were: the provider's own
	// count, which begins anew with a new RunID.
	Counted func(ctx context.Context) (history.Counters, error)
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
		ring *history.Ring
		last look
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
			now := s.look(ctx, first/2)
			if ctx.Err() != nil {
				return nil
			}
			if x, ok := now.since(last); ok {
				if err := ring.Append(x); err != nil {
					return fmt.Errorf("keep samples: %w", err)
				}
			}
			if now.answered {
				last = now
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

// HistoryDir is where the samples of the database called id are kept under the state directory.
func HistoryDir(stateDir, id string) string {
	return filepath.Join(stateDir, "migrations", id, "history")
}
