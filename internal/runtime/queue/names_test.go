package queue_test

import (
	"context"
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
