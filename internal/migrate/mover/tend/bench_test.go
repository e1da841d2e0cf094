package tend_test

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// many puts n jobs of about a kilobyte into a queue: into failed, and their ids into wait besides when asked.
func many(b *testing.B, client *redis.Client, e mover.Endpoint, n int, wait bool) {
	b.Helper()
	script := `for i = ARGV[1], ARGV[2] do
redis.call('HSET', KEYS[1] .. i, 'name', 'send', 'data', '{"n":' .. i .. ',"text":"' .. ARGV[3] .. '"}', 'opts', '{}', 'timestamp', '1795000000000', 'failedReason', 'boom')
if ARGV[4] == '1' then redis.call('LPUSH', KEYS[1] .. 'wait', i) else redis.call('ZADD', KEYS[1] .. 'failed', i, i) end
end return 1`
	for from := 1; from <= n; from += 1000 {
		if err := client.Eval(b.Context(), script, []string{e.Key("")}, from, min(from+999, n), strings.Repeat("x", 900), wait).Err(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTend works on a queue of 100,000 jobs and reports jobs a second, the longest script and the memory it held.
func BenchmarkTend(b *testing.B) {
	const jobs = 100000
	e := bullMQMail(6)
	server := redistest.Start(b)
	client := server.Client(b)
	q := tend.At(client, e)
	run := func(name string, wait bool, work func(b *testing.B) int64) {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				client.FlushAll(b.Context())
				many(b, client, e, jobs, wait)
				client.ConfigSet(b.Context(), "slowlog-log-slower-than", "1000")
				client.Do(b.Context(), "SLOWLOG", "RESET")
				b.StartTimer()
				began := time.Now()
				done := work(b)
				b.ReportMetric(float64(done)/time.Since(began).Seconds(), "jobs/s")
				longest := time.Duration(0)
				for _, entry := range client.SlowLogGet(b.Context(), 128).Val() {
					if len(entry.Args) > 0 && strings.HasPrefix(strings.ToLower(entry.Args[0]), "eval") {
						longest = max(longest, entry.Duration)
					}
				}
				b.ReportMetric(float64(longest.Microseconds())/1000, "ms-longest-script")
			}
		})
	}
	change := func(b *testing.B, action tend.Action, k tend.Criteria) int64 {
		k.MaxJobs = jobs
		s, err := q.Select(b.Context(), k)
		if err != nil {
			b.Fatal(err)
		}
		out, err := q.Act(b.Context(), action, s, tend.ActOptions{})
		if err != nil {
			b.Fatal(err)
		}
		return out.Done
	}
	must := func(text string) tend.Filter {
		f, err := tend.ParseFilter(text)
		if err != nil {
			b.Fatal(err)
		}
		return f
	}
	run("retry all", false, func(b *testing.B) int64 {
		return change(b, tend.Retry, tend.Criteria{States: []mover.State{mover.Failed}})
	})
	run("retry by a filter", false, func(b *testing.B) int64 {
		return change(b, tend.Retry, tend.Criteria{States: []mover.State{mover.Failed}, Filter: must("reason~boom,data.n>0")})
	})
	run("delete all that waits", true, func(b *testing.B) int64 {
		return change(b, tend.Delete, tend.Criteria{States: q.Waits()})
	})
	run("delete one in a hundred that waits", true, func(b *testing.B) int64 {
		return change(b, tend.Delete, tend.Criteria{States: q.Waits(), Filter: must(`data.n~00$`)})
	})
	run("export", false, func(b *testing.B) int64 {
		var peak, now runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&now)
		before, n := now.HeapAlloc, 0
		done, err := q.Export(b.Context(), tend.ExportOptions{}, func(*tend.Job) error {
			if n++; n%5000 == 0 {
				runtime.GC()
				runtime.ReadMemStats(&now)
				peak.HeapAlloc = max(peak.HeapAlloc, now.HeapAlloc)
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(int64(peak.HeapAlloc)-int64(before))/(1<<20), "MiB-held")
		return done.Jobs
	})
}
