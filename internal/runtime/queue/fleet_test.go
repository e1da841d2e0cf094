package queue_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

// Three replicas share jobs that fail, are put off and succeed; one of them comes late and one leaves early.
// Every job ends once, with as many attempts as it needs.
func TestReplicasShareJobsWithoutLosingOrDoublingOne(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		const jobs = 300
		var mu sync.Mutex
		attempts := map[string][]int{}
		q := works("q", func(_ context.Context, j queue.Job) ([]byte, error) {
			mu.Lock()
			attempts[j.ID] = append(attempts[j.ID], j.Attempt)
			runs := len(attempts[j.ID])
			mu.Unlock()
			switch {
			case j.Payload[0]%10 == 1 && runs == 1:
				return nil, errSimulated
			case j.Payload[0]%10 == 2 && runs == 1:
				return nil, &queue.RetryAfterError{After: time.Millisecond}
			case j.Payload[0]%10 == 3:
				return nil, &queue.DeadError{Reason: "no"}
			}
			return nil, nil
		})
		q.Concurrency, q.Backoff.Delay, q.Completed.Count = 4, time.Millisecond, jobs
		a := run(t, url, []queue.Queue{q}, nil)
		b := run(t, url, []queue.Queue{q}, nil)
		var adding sync.WaitGroup
		for _, r := range []*replica{a, b} {
			adding.Go(func() {
				for i := range jobs / 2 {
					if _, err := r.Enqueue(context.Background(), queue.EnqueueRequest{Queue: "q", Payload: []byte{byte(i)}}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		c := run(t, url, []queue.Queue{q}, nil)
		adding.Wait()
		if err := b.stop(); err != nil {
			t.Error(err)
		}
		eventually(t, func() error {
			d, err := c.Depth(t.Context(), "q")
			if err == nil && d.Completed+d.Archived != jobs {
				err = fmt.Errorf("depth is %+v, want %d ended", d, jobs)
			}
			return err
		})
		mu.Lock()
		defer mu.Unlock()
		if len(attempts) != jobs {
			t.Errorf("%d different jobs ran, want %d", len(attempts), jobs)
		}
		for id, ran := range attempts {
			if len(ran) > 2 || len(ran) == 2 && ran[0] == 1 && ran[1] > 2 {
				t.Errorf("job %s ran as attempts %v", id, ran)
			}
		}
	})
}

// A message that cannot be read, and a dead letter that has lost its own, do not stop the others.
func TestWhatIsDamagedDoesNotStopTheRest(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		var ran atomic.Int64
		r := open(t, url, []queue.Queue{works("q", func(context.Context, queue.Job) ([]byte, error) {
			ran.Add(1)
			return nil, nil
		})}, nil)
		c := plain(t, url)
		first := r.add(t, queue.EnqueueRequest{Queue: "q"})
		for _, err := range []error{
			c.HSet(t.Context(), "asynq:{q}:t:bad", "msg", "\xff\xff", "state", "pending").Err(),
			c.LPush(t.Context(), "asynq:{q}:pending", "bad").Err(),
			c.ZAdd(t.Context(), "asynq:{q}:archived", redis.Z{Score: 1, Member: "lost"}).Err(),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		last := r.add(t, queue.EnqueueRequest{Queue: "q"})
		r.start()
		r.state(t, "q", first.ID, queue.Completed)
		r.state(t, "q", last.ID, queue.Completed)
		if n, err := r.RetryDead(t.Context(), "q", queue.Filter{}, false); err != nil || n != 1 {
			t.Errorf("RetryDead = %d, %v, want 1", n, err)
		}
		if jobs, total, err := r.List(t.Context(), "q", queue.Archived, queue.Page{}); err != nil || total != 0 || len(jobs) != 0 {
			t.Errorf("List = %v of %d, %v, want none", jobs, total, err)
		}
		if st := r.Stats()[0]; st.Running != 0 || ran.Load() != 2 {
			t.Errorf("%d ran and %d run, want 2 and none", ran.Load(), st.Running)
		}
		_, err := r.Find(t.Context(), "q", "lost")
		if _, missing := errors.AsType[*queue.NotFoundError](err); !missing {
			t.Errorf("Find = %v, want nothing", err)
		}
	})
}
