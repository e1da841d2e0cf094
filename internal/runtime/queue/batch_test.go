package queue_test

import (
	"context"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

func TestABatchThatWasTriedTakesNoFurtherItem(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		q := works("notify", func(context.Context, queue.Job) ([]byte, error) { return nil, errSimulated })
		q.Batch, q.Backoff = queue.Batch{Wait: time.Second, Size: 3}, queue.Backoff{Delay: 3 * time.Second}
		r := run(t, url, []queue.Queue{q}, nil)
		item := func() queue.Enqueued {
			return r.add(t, queue.EnqueueRequest{Queue: "notify", Batch: "ann", Payload: []byte("1"), Attempts: 2})
		}
		first := item()
		// It fails, and its second attempt waits behind a pause.
		r.state(t, "notify", first.ID, queue.Retry)
		if err := r.Pause(t.Context(), "notify", queue.PauseOptions{}); err != nil {
			t.Fatal(err)
		}
		r.state(t, "notify", first.ID, queue.Pending)
		// What an application was sent under this id must be the same in every attempt.
		if next := item(); next.ID == first.ID {
			t.Errorf("got %+v, want a new batch: the first was tried", next)
		}
	})
}
