package mover

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// BenchmarkMoveToAsynq moves waiting jobs of Bull to asynq, 100,000 or as BENCH_JOBS says, beside asynq's own
// client, which adds 10,000 like them one by one on the same server, and beside a bystander who asks something
// every millisecond, while nothing happens and while the jobs move. It takes turns, since machines have moods,
// and says the middle of the turns' ratios. The mover is paced as the host of a migration paces it.
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
				var rates, ratios, scripts, cpu, idle, beside []float64
				heap := uint64(0)
				for range turns {
					one := enqueueOneByOne(b, srv, 10000)
					all := measureToAsynq(b, srv, jobs, 0, job, false)
					rates, ratios = append(rates, all.perSecond), append(ratios, all.perSecond/one)
					scripts, cpu = append(scripts, all.scriptUS), append(cpu, all.cpuUS)
					heap = max(heap, all.heapBytes)
					stop := ping(b, srv)
					sleepFor(b, time.Second)
					idle = append(idle, float64(stop().Microseconds()))
					watched := measureToAsynq(b, srv, jobs, 0, job, true)
					beside = append(beside, float64(watched.bystanderP99.Microseconds()))
				}
				const rate = 5000
				limited := measureToAsynq(b, srv, 2*rate, rate, job, false)
				b.ReportMetric(middle(rates), "jobs/s")
				b.ReportMetric(middle(ratios), "x-enqueue")
				b.ReportMetric(slices.Min(ratios), "least-x-enqueue")
				b.ReportMetric(middle(scripts), "script-us")
				b.ReportMetric(middle(idle), "idle-p99-us")
				b.ReportMetric(middle(beside), "moving-p99-us")
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
	empty(b, srv.Client(b))
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

// empty deletes everything and waits until the server has given back the memory: a million keys take longer
// than a client waits, and what is freed meanwhile slows everything else.
func empty(b *testing.B, client *redis.Client) {
	b.Helper()
	client.FlushAllAsync(b.Context())
	for {
		text, err := client.Info(b.Context(), "memory").Result()
		if err != nil {
			b.Fatal(err)
		}
		if strings.Contains(text, "lazyfree_pending_objects:0\r\n") {
			return
		}
		sleepFor(b, 10*time.Millisecond)
	}
}

func measureToAsynq(b *testing.B, srv *redistest.Server, n, rate int, job func(int) (string, string), bystander bool) measured {
	b.Helper()
	ctx := b.Context()
	client := srv.Client(b)
	empty(b, client)
	from, _ := queueQ()
	fillWith(ctx, b, client, from, n, job)
	runtime.GC()
	var m measured
	every, seen := int64(max(n/20, 1)), int64(0)
	opts := Options{From: from, To: Endpoint{Layout: Asynq, Prefix: "asynq", Queue: from.Queue}, ActiveTimeout: -1}
	var pace migrate.Pace
	pace.SetRate(float64(rate))
	opts.Pace = pace.Wait
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
	m.cpuUS = (serverCPU(b, client) - cpu) * 1e6 / float64(n)
	if err != nil || result.Moved[Waiting] != int64(n) {
		b.Fatalf("moved %v, %v", result.Moved, err)
	}
	m.perSecond, m.scriptUS = float64(n)/took.Seconds(), scriptTime(b, client)
	return m
}
