package migrate

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/history"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// sent counts the commands of one client.
type sent struct{ n atomic.Int64 }

func (s *sent) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (s *sent) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		defer s.n.Add(1)
		return next(ctx, cmd)
	}
}

func (s *sent) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// sampling runs a sampler until the sum of its samples is enough, and returns them.
func sampling(t *testing.T, opts SamplerOptions, enough func(samples []history.Sample) bool) []history.Sample {
	t.Helper()
	opts.Dir, opts.Every = t.TempDir(), 10*time.Millisecond
	s, err := NewSampler(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	began := time.Now().Add(-time.Second)
	for deadline := time.Now().Add(time.Minute); ; {
		samples, err := history.Read(opts.Dir, began, time.Now().Add(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if enough(samples) {
			return samples
		}
		if time.Now().After(deadline) {
			t.Fatalf("after a minute the samples are %+v", samples)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestWhatTheHostSendsItselfIsTakenOffTheServersCount(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ours, theirs := server.Client(t), server.Client(t)
	own := &sent{}
	ours.AddHook(own)
	if err := theirs.Ping(t.Context()).Err(); err != nil { // what sets its connection up is counted before
		t.Fatal(err)
	}
	const foreign = 500
	added := false
	samples := sampling(t, SamplerOptions{Client: ours, Own: own.n.Load}, func(samples []history.Sample) bool {
		if len(samples) >= 3 && !added {
			added = true
			for range foreign {
				if err := theirs.Ping(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
		all := int64(0)
		for _, x := range samples {
			all += x.Commands - x.Own
		}
		return all >= foreign
	})
	var others, us int64
	for _, x := range samples {
		others, us = others+x.Commands-x.Own, us+x.Own
	}
	if others != foreign || us < int64(len(samples)) {
		t.Errorf("%d commands of others and %d of our own in %d samples, want exactly %d, and one of ours a sample", others, us, len(samples), foreign)
	}
}

func TestWhereINFOIsNotAllowedTheProviderTells(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	if err := client.Do(t.Context(), "ACL", "SETUSER", "default", "-info").Err(); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	samples := sampling(t, SamplerOptions{Client: client, Counted: func(context.Context) (history.Counters, error) {
		return history.Counters{RunID: "november", Commands: 100 * asked.Add(1), Connections: history.Unknown}, nil
	}}, func(samples []history.Sample) bool { return len(samples) >= 3 })
	for _, x := range samples {
		if x.Commands != 100 || x.Source != history.FromProvider || x.Span <= 0 {
			t.Errorf("sample = %+v, want 100 commands that the provider counted", x)
		}
	}
}
