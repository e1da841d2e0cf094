package mover

import (
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// BenchmarkCompare moves waiting jobs, 100,000 or as BENCH_JOBS says, with everything read before and after, as
// --compare does, and says how much memory that takes at most.
func BenchmarkCompare(b *testing.B) {
	srv := redistest.Start(b)
	jobs := 100000
	if n, err := strconv.Atoi(os.Getenv("BENCH_JOBS")); err == nil {
		jobs = n
	}
	from, bullmq := queueQ()
	for name, to := range map[string]Endpoint{"bullmq": bullmq, "asynq": {Layout: Asynq, Prefix: "asynq", Queue: from.Queue}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				client := srv.Client(b)
				empty(b, client)
				fillWith(b.Context(), b, client, from, jobs, plainJob)
				m, err := New(client, Options{From: from, To: to, ActiveTimeout: -1})
				if err != nil {
					b.Fatal(err)
				}
				runtime.GC()
				most := watchHeap()
				begun := time.Now()
				before, err := m.Snapshot(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				if r, err := m.Move(b.Context()); err != nil || r.Moved[Waiting] != int64(jobs) {
					b.Fatalf("moved %v, %v, want %d", r.Moved, err, jobs)
				}
				compared, err := m.Compare(b.Context(), before)
				if err != nil || len(compared.Differences) > 0 {
					b.Fatalf("compared: %v, %v, want no difference", compared.Differences, err)
				}
				b.ReportMetric(float64(jobs)/time.Since(begun).Seconds(), "jobs/s")
				b.ReportMetric(float64(most())/(1<<20), "heap-MiB")
			}
		})
	}
}

// watchHeap returns what tells how much of the heap was in use at most since.
func watchHeap() func() uint64 {
	stop, most := make(chan struct{}), make(chan uint64)
	go func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		highest := uint64(0)
		for {
			var mem runtime.MemStats
			runtime.ReadMemStats(&mem)
			highest = max(highest, mem.HeapInuse)
			select {
			case <-stop:
				most <- highest
				return
			case <-ticker.C:
			}
		}
	}()
	return func() uint64 {
		close(stop)
		return <-most
	}
}
