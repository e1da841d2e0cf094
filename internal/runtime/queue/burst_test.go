package queue_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/queue"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// The first jobs of a day and of a process are apart: scripts, names and counters are made once.
func TestWhatABurstOverTwoReplicasCosts(t *testing.T) {
	for name, change := range map[string]func(*queue.Options){"the server pushes changes": nil, "replicas publish": publishes} {
		for kept, most := range map[bool]float64{false: 18, true: 19} {
			t.Run(fmt.Sprintf("%s, kept: %t", name, kept), func(t *testing.T) { burst(t, change, kept, most) })
		}
	}
}

func burst(t *testing.T, change func(*queue.Options), kept bool, most float64) {
	s := redistest.Start(t)
	look := s.Client(t)
	var ran sync.Map
	var all []*replica
	for range 2 {
		var queues []queue.Queue
		for i := range benchQueues {
			q := works(fmt.Sprint("q", i), func(_ context.Context, j queue.Job) ([]byte, error) {
				if _, twice := ran.LoadOrStore(j.ID, true); twice {
					t.Errorf("job %s ran twice", j.ID)
				}
				return nil, nil
			})
			q.Concurrency, q.Completed.Age = benchConcurrency, -1
			if kept {
				q.Completed = queue.Keep{Age: time.Hour, Count: 100_000}
			}
			queues = append(queues, q)
		}
		all = append(all, run(t, s.URL(), queues, func(o *queue.Options) {
			o.Concurrency, o.Observe = benchConcurrency, nil
			if change != nil {
				change(o)
			}
		}))
	}
	eventually(t, func() error {
		if all[0].GovernorStats().Peers != 1 || all[1].GovernorStats().Peers != 1 {
			return errors.New("they do not know of each other")
		}
		return nil
	})
	added := int64(0)
	finish := func(n int) {
		added += int64(n)
		eventually(t, func() error {
			done := int64(0)
			for _, r := range all {
				for _, st := range r.Stats() {
					done += st.Done
				}
			}
			if done != added {
				return fmt.Errorf("%d of %d jobs are done", done, added)
			}
			return nil
		})
	}
	add := func(n int) {
		if _, err := enqueueMany(&oursContends{all[0]}, n, benchConcurrency); err != nil {
			t.Fatal(err)
		}
		finish(n)
	}
	for _, r := range all {
		for i := range benchQueues {
			r.add(t, queue.EnqueueRequest{Queue: fmt.Sprint("q", i)})
		}
		finish(benchQueues)
	}
	add(10 * benchQueues)
	if err := look.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	before := []int64{all[0].GovernorStats().Empty, all[1].GovernorStats().Empty}
	const jobs = 10_000
	add(jobs)
	per := float64(billed(t, look)) / jobs
	t.Logf("%.3f commands a job, empty dequeues %d and %d; %+v %+v", per, all[0].GovernorStats().Empty-before[0], all[1].GovernorStats().Empty-before[1], all[0].GovernorStats(), all[1].GovernorStats())
	if per > most {
		t.Errorf("%.3f commands a job, want at most %.0f", per, most)
	}
}
