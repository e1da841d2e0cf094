package queue_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

func TestABatchThatWasTriedTakesNoFurtherItem(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		// It fails, and its second attempt waits behind a pause.
		var r *replica
		q := works("notify", func(ctx context.Context, _ queue.Job) ([]byte, error) {
			if err := r.Pause(ctx, "notify", queue.PauseOptions{}); err != nil {
				t.Error(err)
			}
			return nil, errSimulated
		})
		q.Batch, q.Backoff = queue.Batch{Wait: time.Second, Size: 3}, queue.Backoff{Delay: time.Millisecond}
		r = run(t, url, []queue.Queue{q}, nil)
		item := func() queue.Enqueued {
			return r.add(t, queue.EnqueueRequest{Queue: "notify", Batch: "ann", Payload: []byte("1"), Attempts: 2})
		}
		first := item()
		eventually(t, func() error {
			f, err := r.Find(t.Context(), "notify", first.ID)
			if err == nil && (f.Attempt != 1 || f.State != queue.Pending) {
				err = fmt.Errorf("job is %s after %d attempts, want it pending after one", f.State, f.Attempt)
			}
			return err
		})
		// What an application was sent under this id must be the same in every attempt.
		if next := item(); next.ID == first.ID {
			t.Errorf("got %+v, want a new batch: the first was tried", next)
		}
	})
}
