package governor_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// A counter is a handler that counts how often each job ran.
type counter struct {
	mu   sync.Mutex
	runs map[string]int
	ran  chan string
	took time.Duration
}

func newCounter() *counter { return &counter{runs: map[string]int{}, ran: make(chan string, 100_000)} }

func (c *counter) handle(_ context.Context, task *asynq.Task) error {
	if c.took > 0 {
		timer := time.NewTimer(c.took)
		defer timer.Stop()
		<-timer.C
	}
	c.mu.Lock()
	c.runs[task.Type()]++
	c.mu.Unlock()
	c.ran <- task.Type()
	return nil
}

func (c *counter) each(t *testing.T, n int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.runs) != n {
		t.Errorf("%d different jobs ran, want %d", len(c.runs), n)
	}
	for job, times := range c.runs {
		if times != 1 {
			t.Errorf("job %s ran %d times", job, times)
		}
	}
}

func enqueue(t testing.TB, client *asynq.Client, queue string, name any, opts ...asynq.Option) {
	t.Helper()
	if _, err := client.Enqueue(asynq.NewTask(fmt.Sprint(name), nil), append(opts, asynq.Queue(queue))...); err != nil {
		t.Fatal(err)
	}
}

// over waits until no job is left.
func over(t testing.TB, look *redis.Client, queues []string) {
	t.Helper()
	var keys []string
	for _, q := range queues {
		keys = append(keys, "asynq:{"+q+"}:pending", "asynq:{"+q+"}:active", "asynq:{"+q+"}:lease")
	}
	within(t, 60*time.Second, "all jobs are done", func() bool {
		lookCost.Add(1)
		return look.Exists(context.Background(), keys...).Val() == 0
	})
}

// lookCost is what the tests themselves have spent in the Redis since reset.
var lookCost atomic.Int64

func spent(t testing.TB, look *redis.Client) int64 { return sum(billed(t, look)) - lookCost.Load() }

func modes() map[string]bool {
	return map[string]bool{"replicas talk": false, "the server pushes": true}
}

func TestWhatAJobCosts(t *testing.T) {
	for mode, track := range modes() {
		t.Run(mode, func(t *testing.T) {
			s := redistest.Start(t)
			look, queues := s.Client(t), names(11)
			c := newCounter()
			p := plan{queues: queues, concurrency: 10, handler: c.handle, track: track}
			one := join(t, s.URL(), p)
			if got := one.gov.Stats().Tracking; got != track {
				t.Fatalf("tracking: %t, want %t", got, track)
			}
			measure := func(what string, n int, most float64, do func()) {
				t.Helper()
				before := one.gov.Stats()
				reset(t, look)
				lookCost.Store(0)
				do()
				over(t, look, queues)
				got := float64(spent(t, look)) / float64(n)
				after := one.gov.Stats()
				t.Logf("%-45s %6.3f commands a job (%d empty dequeues, %d published)", what, got, after.Empty-before.Empty, after.Published-before.Published)
				if got > most {
					t.Errorf("%s: %.3f commands a job, want at most %.2f: %v", what, got, most, billed(t, look))
				}
			}
			job := 0
			alone := func(client *asynq.Client, n int, opts ...asynq.Option) func() {
				return func() {
					for range n {
						job++
						enqueue(t, client, "q03", job, opts...)
						<-c.ran
						within(t, 10*time.Second, "the job is done", func() bool {
							lookCost.Add(1)
							return look.Exists(t.Context(), "asynq:{q03}:active").Val() == 0
						})
					}
				}
			}
			burst := func(client *asynq.Client, n int, opts ...asynq.Option) func() {
				return func() {
					for i := range n {
						job++
						enqueue(t, client, queues[i%len(queues)], job, opts...)
					}
					for range n {
						<-c.ran
					}
				}
			}
			// The first job of a queue costs an SADD and an EXPIREAT more.
			measure("the first jobs", 11, 21, burst(one.client, 11))
			measure("alone, same process", 50, 18.5, alone(one.client, 50))
			measure("burst, same process", 2000, 18.5, burst(one.client, 2000))
			measure("burst with retention", 2000, 19.5, burst(one.client, 2000, asynq.Retention(time.Hour)))
			enqueuer := join(t, s.URL(), plan{queues: queues, track: track, options: func(o *governor.Options) { o.ClientOnly = true }})
			burst(enqueuer.client, 11)()
			over(t, look, queues)
			measure("alone, other process", 50, 22, alone(enqueuer.client, 50))
			measure("burst, other process", 2000, 18.9, burst(enqueuer.client, 2000))

			two := join(t, s.URL(), p)
			within(t, 10*time.Second, "they know of each other", func() bool { return one.gov.Stats().Peers == 1 || track })
			burst(two.client, 11)()
			measure("alone, same process, two replicas", 50, 24, alone(one.client, 50))
			measure("burst, two replicas", 10_000, 18.5, burst(one.client, 10_000))
			c.each(t, job)
		})
	}
}

func TestConnectionsDoNotGrowWithQueues(t *testing.T) {
	for mode, track := range modes() {
		for _, n := range []int{11, 100, 300} {
			t.Run(fmt.Sprintf("%s, %d queues of asynq", mode, n), func(t *testing.T) {
				s := redistest.Start(t)
				look := s.Client(t)
				before := clients(t, look)
				c := newCounter()
				r := join(t, s.URL(), plan{queues: names(n), concurrency: 10, handler: c.handle, track: track})
				other := join(t, s.URL(), plan{queues: names(n), track: track})
				for i := range 2 * n {
					enqueue(t, other.client, names(n)[i%n], i)
				}
				for range 2 * n {
					<-c.ran
				}
				c.each(t, 2*n)
				got := clients(t, look) - before
				t.Logf("%d connections of two replicas, one with a server", got)
				if got > 4 {
					t.Errorf("%d connections for two replicas, want 2 each", got)
				}
				if held := r.up.Connections(); len(held) > 2 {
					t.Errorf("%v", held)
				}
			})
		}
	}
}

func clients(t testing.TB, look *redis.Client) int {
	t.Helper()
	list, err := look.ClientList(context.Background()).Result()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range list {
		if c == '\n' {
			n++
		}
	}
	return n
}

func quantile(all []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func TestHowSoonAJobIsPickedUp(t *testing.T) {
	for mode, track := range modes() {
		t.Run(mode, func(t *testing.T) {
			s := redistest.Start(t)
			queues := names(11)
			started := make(chan time.Time, 1)
			worker := join(t, s.URL(), plan{queues: queues, concurrency: 10, track: track, handler: func(context.Context, *asynq.Task) error {
				started <- time.Now()
				return nil
			}})
			other := join(t, s.URL(), plan{queues: queues, track: track, options: func(o *governor.Options) { o.ClientOnly = true }})
			plain := asynq.NewClient(asynq.RedisClientOpt{Addr: s.Addr})
			defer func() { _ = plain.Close() }()
			cases := map[string]*asynq.Client{"same process": worker.client, "other process": other.client}
			if track {
				cases["a client that knows nothing of the governor"] = plain
			}
			bounds := map[string]time.Duration{"same process": 10 * time.Millisecond, "other process": 25 * time.Millisecond, "a client that knows nothing of the governor": time.Second}
			for _, who := range slices.Sorted(maps.Keys(cases)) {
				// The promise is made for a machine that is not busy; ten times as much is a fault, which every hundred shows.
				within(t, time.Minute, fmt.Sprintf("%s: p95 below %v", who, 10*bounds[who]), func() bool {
					var all []time.Duration
					for i := range 100 {
						begin := time.Now()
						enqueue(t, cases[who], queues[i%len(queues)], i)
						all = append(all, (<-started).Sub(begin))
					}
					t.Logf("%-45s p50 %v p95 %v max %v", who, quantile(all, .5), quantile(all, .95), quantile(all, 1))
					return quantile(all, .95) <= 10*bounds[who]
				})
			}
		})
	}
}
