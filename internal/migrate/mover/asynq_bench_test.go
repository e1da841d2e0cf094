package mover

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// BenchmarkMoveToAsynq moves waiting jobs of Bull to asynq, 100,000 or as BENCH_JOBS says, beside asynq's own
// client, which adds 10,000 like them one by one on the same server. It takes turns, since machines have moods,
// and says the middle of the turns' ratios.
func BenchmarkMoveToAsynq(b *testing.B) {
	srv := redistest.Start(b)
	jobs := 100000
	if n, err := strconv.Atoi(os.Getenv("BENCH_JOBS")); err == nil {
		jobs = n
	}
	for name, job := range map[string]func(int) (string, string){"plain": plainJob, "edited": editedJob} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				turns := 5
				if jobs > 200000 {
					turns = 1
				}
				var rates, ratios, scripts, cpu []float64
				heap := uint64(0)
				for range turns {
					one := enqueueOneByOne(b, srv, 10000)
					all := measureToAsynq(b, srv, jobs, 0, job)
					rates, ratios = append(rates, all.perSecond), append(ratios, all.perSecond/one)
					scripts, cpu = append(scripts, all.scriptUS), append(cpu, all.cpuUS)
					heap = max(heap, all.heapBytes)
				}
				const rate = 5000
				limited := measureToAsynq(b, srv, 2*rate, rate, job)
				b.ReportMetric(middle(rates), "jobs/s")
				b.ReportMetric(middle(ratios), "x-enqueue")
				b.ReportMetric(middle(scripts), "script-us")
				b.ReportMetric(middle(cpu), "cpu-us/job")
				b.ReportMetric(float64(heap)/(1<<20), "heap-MiB")
				b.ReportMetric(100*limited.perSecond/rate, "%-of-max-rate")
			}
		})
	}
}

func middle(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// enqueueOneByOne is how many jobs asynq's own client adds in a second.
func enqueueOneByOne(b *testing.B, srv *redistest.Server, n int) float64 {
	b.Helper()
	srv.Client(b).FlushAllAsync(b.Context())
	client := asynq.NewClient(asynq.RedisClientOpt{Addr: srv.Addr})
	defer func() { _ = client.Close() }()
	start := time.Now()
	for i := range n {
		if _, err := client.EnqueueContext(b.Context(), asynq.NewTask("__default__", []byte(`{"n":1,"user":"someone@example.com"}`)),
			asynq.Queue("q"), asynq.MaxRetry(2), asynq.TaskID(strconv.Itoa(i))); err != nil {
			b.Fatal(err)
		}
	}
	return float64(n) / time.Since(start).Seconds()
}

func measureToAsynq(b *testing.B, srv *redistest.Server, n, maxRate int, job func(int) (string, string)) measured {
	b.Helper()
	ctx := b.Context()
	client := srv.Client(b)
	client.FlushAllAsync(ctx) // a million keys take longer than a client waits
	from, _ := queueQ()
	fillWith(ctx, b, client, from, n, job)
	runtime.GC()
	var m measured
	every, seen := int64(max(n/20, 1)), int64(0)
	opts := Options{From: from, To: Endpoint{Layout: Asynq, Prefix: "asynq", Queue: from.Queue}, ActiveTimeout: -1, MaxRate: maxRate}
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
	client.ConfigResetStat(ctx)
	cpu, start := serverCPU(b, client), time.Now()
	result, err := mv.Move(ctx)
	took := time.Since(start)
	m.cpuUS = (serverCPU(b, client) - cpu) * 1e6 / float64(n)
	if err != nil || result.Moved[Waiting] != int64(n) {
		b.Fatalf("moved %v, %v", result.Moved, err)
	}
	m.perSecond, m.scriptUS = float64(n)/took.Seconds(), scriptTime(b, client)
	return m
}
