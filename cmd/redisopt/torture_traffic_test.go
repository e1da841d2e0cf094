package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A traffic is a producer and a worker of Bull on one queue, which do to it what the library does, while it
// is being moved. They have connections of their own, which nothing happens to.
type traffic struct {
	client *redis.Client
	base   string
	stop   chan struct{}
	wait   sync.WaitGroup

	mu    sync.Mutex
	added []madeJob
	ran   map[string]int // how often the worker began each job
	errs  []error
}

// What Bull's own scripts do. A job is added under the application's id, unless there is one of that id.
var (
	addLikeBull = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('INCR', KEYS[4])
redis.call('HSET', KEYS[1], 'name', '__default__', 'data', ARGV[2], 'opts', ARGV[3], 'timestamp', ARGV[4], 'delay', 0, 'priority', 0)
if redis.call('EXISTS', KEYS[5]) == 1 then
  redis.call('LPUSH', KEYS[3], ARGV[1])
else
  redis.call('LPUSH', KEYS[2], ARGV[1])
end
return 1
`)
	takeLikeBull = redis.NewScript(`
if redis.call('EXISTS', KEYS[3]) == 1 then return false end
local id = redis.call('RPOPLPUSH', KEYS[1], KEYS[2])
if not id then return false end
redis.call('SET', ARGV[1] .. id .. ':lock', 'worker', 'PX', 30000)
redis.call('ZREM', KEYS[4], id)
redis.call('HSET', ARGV[1] .. id, 'processedOn', ARGV[2])
return id
`)
	endLikeBull = redis.NewScript(`
if redis.call('GET', KEYS[2]) ~= 'worker' then return -2 end
redis.call('DEL', KEYS[2])
if redis.call('LREM', KEYS[1], 0, ARGV[1]) == 0 then return -3 end
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
redis.call('HSET', KEYS[4], 'returnvalue', '"ran"', 'finishedOn', ARGV[2])
return 0
`)
)

// newTraffic has nothing happen yet.
func newTraffic(t *testing.T, addr, queue string) *traffic {
	t.Helper()
	tr := &traffic{base: "bull:" + queue + ":", stop: make(chan struct{}), ran: map[string]int{}}
	tr.client = redis.NewClient(&redis.Options{
		Addr: addr, Protocol: 2, DisableIdentity: true, PoolSize: 2,
		MaxRetries: -1, ReadTimeout: patience, // a script that is sent again would take another job
		// Bull's workers call their connections so, by which it is seen that one is there.
		ClientName: "bull:" + base64.StdEncoding.EncodeToString([]byte(queue)),
	})
	t.Cleanup(func() { tr.end() })
	return tr
}

// begin has a job added and one begun every few milliseconds, until end.
func (tr *traffic) begin(ctx context.Context) {
	every := func(d time.Duration, f func(n int) error) {
		tr.wait.Go(func() {
			tick := time.NewTicker(d)
			defer tick.Stop()
			for n := 1; ; n++ {
				select {
				case <-tr.stop:
					return
				case <-tick.C:
				}
				if err := f(n); err != nil {
					tr.mu.Lock()
					tr.errs = append(tr.errs, err)
					tr.mu.Unlock()
					return
				}
			}
		})
	}
	ctx = context.WithoutCancel(ctx)
	every(5*time.Millisecond, func(n int) error { return tr.add(ctx, n) })
	every(7*time.Millisecond, func(int) error { return tr.work(ctx) })
}

func (tr *traffic) add(ctx context.Context, n int) error {
	j := madeJob{id: fmt.Sprintf("live-%d", n), name: "__default__", state: isWaiting, attempts: 3, data: fmt.Sprintf(`{"live":%d}`, n)}
	added, err := addLikeBull.Run(ctx, tr.client,
		[]string{tr.base + j.id, tr.base + "wait", tr.base + "paused", tr.base + "id", tr.base + "meta-paused"},
		j.id, j.data, `{"attempts":3,"delay":0}`, time.Now().UnixMilli()).Int()
	if err != nil || added != 1 {
		return fmt.Errorf("add %s: %d, %w", j.id, added, err)
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.added = append(tr.added, j)
	return nil
}

// work runs the job that is next, if there is one.
func (tr *traffic) work(ctx context.Context) error {
	id, err := takeLikeBull.Run(ctx, tr.client,
		[]string{tr.base + "wait", tr.base + "active", tr.base + "meta-paused", tr.base + "priority"}, tr.base, time.Now().UnixMilli()).Text()
	if err == redis.Nil { //nolint:errorlint // never wrapped by the client
		return nil
	}
	if err != nil {
		return fmt.Errorf("take a job: %w", err)
	}
	tr.mu.Lock()
	tr.ran[id]++
	tr.mu.Unlock()
	ended, err := endLikeBull.Run(ctx, tr.client,
		[]string{tr.base + "active", tr.base + id + ":lock", tr.base + "completed", tr.base + id}, id, time.Now().UnixMilli()).Int()
	if err != nil || ended != 0 {
		return fmt.Errorf("job %s cannot be ended by its worker: %d, %w", id, ended, err)
	}
	return nil
}

// end stops both, and closes their connections, so that nobody is attached any more.
func (tr *traffic) end() {
	select {
	case <-tr.stop:
		return
	default:
	}
	close(tr.stop)
	tr.wait.Wait()
	_ = tr.client.Close()
}

// account adds to jobs what was added, and says of those that ran what they are now.
func (tr *traffic) account(jobs []madeJob, r *reckoning) []madeJob {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, err := range tr.errs {
		r.add("the application met an error: %v", err)
	}
	all := slices.Concat(jobs, tr.added)
	for i := range all {
		j := &all[i]
		switch tr.ran[j.id] {
		case 0:
		case 1:
			j.state, j.result = isCompleted, `"ran"`
		default:
			r.doubled++
			r.add("job %s ran %d times", j.id, tr.ran[j.id])
		}
	}
	return all
}
