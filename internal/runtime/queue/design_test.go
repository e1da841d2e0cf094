package queue_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/runtime/queue"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// The queue tests of the design document, section 7.1: they wait for what must happen instead of sleeping.

func TestManyQueuesShareOneConnectionAndTheBell(t *testing.T) {
	t.Parallel()
	for _, n := range []int{11, 100} {
		t.Run(fmt.Sprint(n, " queues"), func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			var queues []queue.Queue
			for i := range n {
				queues = append(queues, works(fmt.Sprint("q", i), done))
			}
			r := run(t, s.URL(), queues, nil)
			for _, q := range queues {
				r.add(t, queue.EnqueueRequest{Queue: q.Name})
			}
			eventually(t, func() error {
				for _, st := range r.Stats() {
					if st.Done != 1 {
						return fmt.Errorf("%d jobs of %s are done, want one", st.Done, st.Queue)
					}
				}
				return nil
			})
			list, err := s.Client(t).ClientList(t.Context()).Result()
			if err != nil {
				t.Fatal(err)
			}
			// One is the one that asks. The limit is 3, and the goal is 2.
			held := strings.Count(list, "\n") - 1
			if held > 2 {
				t.Errorf("%d queues at work have %d connections, want 2:\n%s", n, held, list)
			}
			for _, p := range r.Periodic() {
				t.Logf("%-25s every %-9s %d commands: %s", p.Name, p.Interval, p.Price, p.Why)
			}
			t.Logf("%d queues: %d connections, idle %.0f billed commands a month", n, held, r.MonthlyCost())
			if got := r.MonthlyCost(); got > 10_000 {
				t.Errorf("%d idle queues cost %.0f commands a month, want at most 10,000", n, got)
			}
		})
	}
}

func TestAJobIsAddedAndProcessed(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		var mu sync.Mutex
		var processed []string
		r := run(t, url, []queue.Queue{works("test-queue", func(_ context.Context, j queue.Job) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			processed = append(processed, string(j.Payload))
			return []byte(`{"processed":true}`), nil
		})}, nil)
		id := r.add(t, queue.EnqueueRequest{Queue: "test-queue", Name: "test-job", Payload: []byte(`{"data":"value"}`)}).ID
		f := r.state(t, "test-queue", id, queue.Completed)
		if want := `{"processed":true}`; string(f.Result) != want {
			t.Errorf("result is %q, want %q", f.Result, want)
		}
		mu.Lock()
		defer mu.Unlock()
		if diff := cmp.Diff([]string{`{"data":"value"}`}, processed); diff != "" {
			t.Errorf("processed (-want +got):\n%s", diff)
		}
	})
}

func TestAJobThatFailsTwiceIsDoneAtTheThirdAttempt(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		var attempts atomic.Int64
		r := run(t, url, []queue.Queue{works("test-queue", func(_ context.Context, j queue.Job) ([]byte, error) {
			if n := attempts.Add(1); int(n) != j.Attempt || j.Attempts != 3 {
				return nil, &queue.DeadError{Reason: fmt.Sprintf("run %d is attempt %d of %d", n, j.Attempt, j.Attempts)}
			}
			if j.Attempt < 3 {
				return nil, errSimulated
			}
			return []byte(`{"success":true}`), nil
		})}, nil)
		id := r.add(t, queue.EnqueueRequest{
			Queue: "test-queue", Name: "test-job", Attempts: 3,
			Backoff: &queue.Backoff{Kind: queue.Exponential, Delay: 100 * time.Millisecond},
		}).ID
		r.state(t, "test-queue", id, queue.Completed)
		if n := attempts.Load(); n != 3 {
			t.Errorf("%d attempts, want 3", n)
		}
		want := []queue.EventKind{queue.Failed, queue.Failed, queue.Done}
		eventually(t, func() error {
			if got := r.log.kinds(id); !slices.Equal(got, want) {
				return fmt.Errorf("events are %v, want %v", got, want)
			}
			return nil
		})
	})
}

// Section 7.4: 1,000 jobs of 10 ms, 10 at a time.
func TestAThousandJobsAreAllRunOnceWithoutErrors(t *testing.T) {
	s := redistest.Start(t)
	var mu sync.Mutex
	runs := map[string]int{}
	q := works("test-queue", func(ctx context.Context, j queue.Job) ([]byte, error) {
		timer := time.NewTimer(10 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		mu.Lock()
		defer mu.Unlock()
		runs[j.ID]++
		return nil, ctx.Err()
	})
	q.Concurrency = 10
	r := run(t, s.URL(), []queue.Queue{q}, nil)
	begin := time.Now()
	var adding sync.WaitGroup
	for worker := range 10 {
		adding.Go(func() {
			for i := range 100 {
				_, err := r.Enqueue(t.Context(), queue.EnqueueRequest{Queue: "test-queue", Name: "test-job", Payload: fmt.Appendf(nil, `{"id":%d}`, worker*100+i)})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	adding.Wait()
	eventually(t, func() error {
		if st := r.Stats()[0]; st.Done != 1000 {
			return fmt.Errorf("%d of 1000 jobs are done, %d failed, %d dead", st.Done, st.Failed, st.Dead)
		}
		return nil
	})
	t.Logf("1000 jobs of 10 ms, 10 at a time: %s", time.Since(begin).Round(time.Millisecond))
	mu.Lock()
	defer mu.Unlock()
	if len(runs) != 1000 {
		t.Errorf("%d different jobs ran, want 1000", len(runs))
	}
	for id, n := range runs {
		if n != 1 {
			t.Errorf("job %s ran %d times", id, n)
		}
	}
	if st := r.Stats()[0]; st.Failed+st.Dead > 0 {
		t.Errorf("%d failed attempts and %d dead letters, want none", st.Failed, st.Dead)
	}
}
