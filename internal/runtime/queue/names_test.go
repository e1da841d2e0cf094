package queue_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

// asynq tells the jobs that it runs apart by their ids alone: of two with the same, one would lose its lease after
// half a minute and be run again beside itself.
func TestJobsOfTwoQueuesWithTheSameIDDoNotRunInOneProcessAtTheSameTime(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		entered, leave := make(chan struct{}), make(chan struct{})
		slow := works("slow", func(context.Context, queue.Job) ([]byte, error) {
			close(entered)
			<-leave
			return nil, nil
		})
		r := run(t, url, []queue.Queue{slow, works("quick", done)}, nil)
		r.add(t, queue.EnqueueRequest{Queue: "slow", ID: "order-42"})
		<-entered
		r.add(t, queue.EnqueueRequest{Queue: "quick", ID: "order-42"})
		other := r.add(t, queue.EnqueueRequest{Queue: "quick"})
		r.state(t, "quick", other.ID, queue.Completed)
		if f := r.state(t, "quick", "order-42", queue.Retry); f.Attempt != 0 {
			t.Errorf("%d attempts count, want none", f.Attempt)
		}
		close(leave)
		r.state(t, "slow", "order-42", queue.Completed)
		r.state(t, "quick", "order-42", queue.Completed)
	})
}

func TestCancellingAJobLeavesThoseOfOtherQueuesWithItsID(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		leave := make(chan struct{})
		runs := func(ctx context.Context, _ queue.Job) ([]byte, error) {
			select {
			case <-leave:
				return nil, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		a := run(t, url, []queue.Queue{works("a", runs), waits("b")}, nil)
		b := run(t, url, []queue.Queue{waits("a"), works("b", runs)}, nil)
		for _, name := range []string{"a", "b"} {
			a.add(t, queue.EnqueueRequest{Queue: name, ID: "order-42"})
			a.state(t, name, "order-42", queue.Active)
		}
		eventually(t, func() error {
			err := a.Cancel(t.Context(), "b", "order-42") // a replica that has just started may not hear the first word
			if f, _ := b.Find(t.Context(), "b", "order-42"); f.State != queue.Archived {
				return fmt.Errorf("job is %s, want archived; %w", f.State, err)
			}
			return nil
		})
		close(leave)
		a.state(t, "a", "order-42", queue.Completed)
	})
}
