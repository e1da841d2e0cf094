package queue_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

func TestAJobThatWaitedForItsTimeIsPutOffLikeAnyOther(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		var calls atomic.Int64
		q := works("q", func(context.Context, queue.Job) ([]byte, error) {
			if calls.Add(1) == 1 {
				return nil, &queue.RetryAfterError{After: time.Millisecond, Reason: "busy"}
			}
			return nil, nil
		})
		q.Timeout, q.Failed.Age = time.Second, 4*time.Second // together the longest that a job is put off
		r := run(t, url, []queue.Queue{q}, nil)
		id := r.add(t, queue.EnqueueRequest{Queue: "q", Delay: 6 * time.Second}).ID
		r.state(t, "q", id, queue.Completed)
	})
}
