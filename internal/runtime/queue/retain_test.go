package queue_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

func TestTracesThatMustStayOutliveTheBoundOnTheNumberOfCompletedJobs(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		q := works("q", done)
		q.Completed.Count = 2
		r := run(t, url, []queue.Queue{q}, nil)
		tick := queue.EnqueueRequest{Queue: "q", ID: "+tick", Once: true, Retain: time.Hour}
		r.add(t, tick)
		r.state(t, "q", tick.ID, queue.Completed)
		for i := range 20 {
			id := fmt.Sprint(i)
			r.add(t, queue.EnqueueRequest{Queue: "q", ID: id})
			eventually(t, func() error {
				if kinds := r.log.kinds(id); len(kinds) == 0 {
					return fmt.Errorf("job %s has not ended", id)
				}
				return nil
			})
		}
		eventually(t, func() error {
			if d, err := r.Depth(t.Context(), "q"); err != nil || d.Completed > 3 {
				return fmt.Errorf("%d completed, %w", d.Completed, err)
			}
			return nil
		})
		_, err := r.Enqueue(t.Context(), tick)
		if _, ok := errors.AsType[*queue.DuplicateError](err); !ok {
			t.Errorf("the same tick again: %v, want a *DuplicateError", err)
		}
	})
}
