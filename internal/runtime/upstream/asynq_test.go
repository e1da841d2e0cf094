package upstream_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

const asynqWorkers = 20

// runJobs enqueues n jobs from many goroutines while a server works on them, and returns when all were
// run. It reports how often each ran.
func runJobs(tb testing.TB, client redis.UniversalClient, n int) []int32 {
	tb.Helper()
	ran := make([]int32, n)
	var left atomic.Int64
	left.Store(int64(n))
	done := make(chan struct{})
	server := asynq.NewServerFromRedisClient(client, asynq.Config{
		Concurrency: asynqWorkers, LogLevel: asynq.FatalLevel, TaskCheckInterval: 10 * time.Millisecond,
	})
	err := server.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		i, err := strconv.Atoi(string(task.Payload()))
		if err != nil {
			return err
		}
		atomic.AddInt32(&ran[i], 1)
		if left.Add(-1) == 0 {
			close(done)
		}
		return nil
	}))
	if err != nil {
		tb.Fatal(err)
	}
	defer server.Shutdown()
	producer := asynq.NewClientFromRedisClient(client)
	var wg sync.WaitGroup
	for p := range asynqWorkers {
		wg.Go(func() {
			for i := p; i < n; i += asynqWorkers {
				if _, err := producer.EnqueueContext(tb.Context(), asynq.NewTask("count", strconv.AppendInt(nil, int64(i), 10))); err != nil {
					tb.Errorf("job %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		tb.Errorf("%d jobs were not run in two minutes", left.Load())
	}
	return ran
}

// An asynq server, its client, subscriptions and a heartbeat of its own share the connections that there
// are: one for all commands, one to be told of cancelled jobs.
func TestAsynqOverTheSharedConnection(t *testing.T) {
	s := redistest.Start(t)
	u := open(t, upstream.PatientWithServers(upstream.Options{URL: s.URL(), Shared: true}, patience))
	look := s.Client(t)
	ctx, stop := context.WithCancel(t.Context())
	most, worst := 0, ""
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			list, err := look.ClientList(ctx).Result()
			if n := strings.Count(list, "\n") - 1; err == nil && n > most {
				most, worst = n, list
			}
		}
	})
	const jobs = 3000
	ran := runJobs(t, u.As(meter.Queue), jobs)
	stop()
	wg.Wait()
	for i, n := range ran {
		if n != 1 {
			t.Errorf("job %d ran %d times, want once", i, n)
		}
	}
	if most > 3 || most < 1 {
		t.Errorf("CLIENT LIST showed up to %d connections, want 1 to 3:\n%s", most, worst)
	}
	t.Logf("%d jobs, at most %d connections", jobs, most)
}

// BenchmarkAsynq runs jobs through asynq on the shared connection and on a pool of two, in turn within
// one run.
func BenchmarkAsynq(b *testing.B) {
	for round := range 3 {
		for _, c := range []struct {
			name    string
			options upstream.Options
		}{{"shared", upstream.Options{Shared: true}}, {"pool of 2", upstream.Options{MaxConnections: 3}}} {
			b.Run(fmt.Sprintf("%s round %d", c.name, round+1), func(b *testing.B) {
				s := redistest.Start(b)
				c.options.URL = s.URL()
				u, err := upstream.Open(b.Context(), c.options)
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = u.Close() }()
				b.ResetTimer()
				begin := time.Now()
				runJobs(b, u.As(meter.Queue), b.N)
				b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "jobs/s")
			})
		}
	}
}
