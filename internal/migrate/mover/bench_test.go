package mover

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// fill adds n waiting Bull jobs as the library writes them.
func fill(ctx context.Context, tb testing.TB, client redis.UniversalClient, e Endpoint, n int) {
	tb.Helper()
	fillWith(ctx, tb, client, e, n, func(i int) (string, string) {
		return strconv.Itoa(i), fmt.Sprintf(`{"attempts":3,"delay":0,"timestamp":%d}`, 1795380456459+i)
	})
}

func fillWith(ctx context.Context, tb testing.TB, client redis.UniversalClient, e Endpoint, n int, job func(int) (id, opts string)) {
	tb.Helper()
	for at := 1; at <= n; at += 1000 {
		_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
			var ids []any
			for i := at; i < at+1000 && i <= n; i++ {
				id, opts := job(i)
				p.HSet(ctx, e.Key(id), "name", "__default__", "data", fmt.Sprintf(`{"n":%d,"user":"someone@example.com"}`, i),
					"opts", opts, "timestamp", 1795380456459+i, "delay", "0", "priority", "0")
				ids = append(ids, id)
			}
			p.LPush(ctx, e.Key("wait"), ids...)
			return nil
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	if err := client.Set(ctx, e.Key("id"), n, 0).Err(); err != nil {
		tb.Fatal(err)
	}
}

// A measured is what one move cost.
type measured struct {
	perSecond    float64
	scriptUS     float64 // mean time of one script on the server, by its clock
	cpuUS        float64 // processor time of the server for each script, the network included
	heapBytes    uint64  // most in use by this process, as seen between chunks
	bystanderP99 time.Duration
}

// measureMove moves n waiting jobs, with a bystander who pings all the time, or with nobody.
func measureMove(b *testing.B, srv *redistest.Server, n, chunkSize int, job func(int) (string, string), bystander bool) measured {
	b.Helper()
	ctx := b.Context()
	client := srv.Client(b)
	client.FlushAll(ctx)
	from, to := queueQ()
	fillWith(ctx, b, client, from, n, job)
	runtime.GC()
	var m measured
	opts := Options{From: from, To: to, ChunkSize: chunkSize, ActiveTimeout: -1}
	every := int64(max(n/20, 1))
	seen := int64(0)
	opts.OnProgress = func(p Progress) {
		if p.Moved < seen {
			return
		}
		seen += every
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		m.heapBytes = max(m.heapBytes, mem.HeapInuse)
	}
	mv, err := New(client, opts)
	if err != nil {
		b.Fatal(err)
	}
	stop := func() time.Duration { return 0 }
	if bystander {
		stop = ping(b, srv)
	}
	client.ConfigResetStat(ctx)
	cpu, start := serverCPU(b, client), time.Now()
	result, err := mv.Move(ctx)
	took := time.Since(start)
	m.bystanderP99 = stop()
	m.cpuUS = (serverCPU(b, client) - cpu) * 1e6 / float64(max(result.Scripts, 1))
	if err != nil || result.Moved[Waiting] != int64(n) {
		b.Fatalf("moved %v, %v", result.Moved, err)
	}
	m.perSecond = float64(n) / took.Seconds()
	m.scriptUS = scriptTime(b, client)
	return m
}

// scriptTime is what commandstats says about EVALSHA.
func scriptTime(b *testing.B, client *redis.Client) float64 {
	b.Helper()
	text, err := client.Info(b.Context(), "commandstats").Result()
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(text, "cmdstat_evalsha:")
	_, rest, _ = strings.Cut(rest, "usec_per_call=")
	number, _, _ := strings.Cut(rest, ",")
	us, err := strconv.ParseFloat(number, 64)
	if err != nil {
		b.Fatal(err)
	}
	return us
}

// serverCPU is the processor time that the server's main thread has used, in seconds. Unlike the clock
// it does not count the time in which another process had the processor.
func serverCPU(b *testing.B, client *redis.Client) float64 {
	b.Helper()
	text, err := client.Info(b.Context(), "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	total := 0.0
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_user_main_thread" || name == "used_cpu_sys_main_thread" {
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil {
				b.Fatal(err)
			}
			total += seconds
		}
	}
	return total
}

// ping asks the server something every millisecond on a connection of its own, until the returned
// function is called, which returns the p99 of the answers, counted from when each was due.
func ping(b *testing.B, srv *redistest.Server) func() time.Duration {
	b.Helper()
	client := srv.Client(b)
	ctx, cancel := context.WithCancel(b.Context())
	var all []time.Duration
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for {
			var due time.Time
			select {
			case <-ctx.Done():
				return
			case due = <-ticker.C:
			}
			if client.Get(ctx, "nothing").Err() != redis.Nil { //nolint:errorlint // the sentinel as the client returns it
				return
			}
			all = append(all, time.Since(due))
		}
	})
	return func() time.Duration {
		cancel()
		wg.Wait()
		if len(all) == 0 {
			return 0
		}
		slices.Sort(all)
		return all[len(all)*99/100]
	}
}

func plainJob(i int) (id, opts string) {
	return strconv.Itoa(i), fmt.Sprintf(`{"attempts":3,"delay":0,"timestamp":%d}`, 1795380456459+i)
}

// editedJob has an id of its own and options that lose something: none of the short cuts apply.
func editedJob(i int) (id, opts string) {
	id = fmt.Sprintf("user:%d", i)
	return id, fmt.Sprintf(`{"jobId":%q,"timeout":5000,"attempts":3,"delay":0,"timestamp":%d}`, id, 1795380456459+i)
}

// BenchmarkMove moves 100,000 waiting jobs, and 10,000 of them with one round trip a job.
func BenchmarkMove(b *testing.B) {
	srv := redistest.Start(b)
	for name, job := range map[string]func(int) (string, string){"plain": plainJob, "edited": editedJob} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				stop := ping(b, srv)
				sleepFor(b, 2*time.Second)
				idle := stop()
				one := measureMove(b, srv, 10000, 1, job, false)
				all := measureMove(b, srv, 100000, defaultChunk, job, false)
				watched := measureMove(b, srv, 100000, defaultChunk, job, true)
				b.ReportMetric(all.perSecond, "jobs/s")
				b.ReportMetric(all.perSecond/one.perSecond, "x-chunk-1")
				b.ReportMetric(all.scriptUS, "us/script")
				b.ReportMetric(all.cpuUS, "cpu-us/script")
				b.ReportMetric(float64(idle.Microseconds()), "idle-p99-us")
				b.ReportMetric(float64(watched.bystanderP99.Microseconds()), "moving-p99-us")
			}
		})
	}
}

// sleepFor waits without work, so that the bystander has an idle server.
func sleepFor(b *testing.B, d time.Duration) {
	b.Helper()
	if err := sleepUntil(b.Context(), time.Now().Add(d)); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkMoveMemory shows that the mover's memory does not depend on how many jobs there are.
func BenchmarkMoveMemory(b *testing.B) {
	for _, n := range []int{10000, 100000, 1000000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			if n == 1000000 && os.Getenv("REDISOPT_BENCH_MILLION") == "" {
				b.Skip("needs REDISOPT_BENCH_MILLION=1, and a minute")
			}
			srv := redistest.Start(b)
			for b.Loop() {
				m := measureMove(b, srv, n, defaultChunk, plainJob, false)
				b.ReportMetric(m.perSecond, "jobs/s")
				b.ReportMetric(float64(m.heapBytes), "heap-bytes")
			}
		})
	}
}
