package queue_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

func TestDeadLettersAreListedTriedAgainAndRemovedByFilter(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		var passes atomic.Bool
		q := works("q", func(_ context.Context, j queue.Job) ([]byte, error) {
			if !passes.Load() {
				return nil, &queue.DeadError{Reason: "smtp: " + string(j.Payload)}
			}
			return nil, nil
		})
		r := run(t, url, []queue.Queue{q}, nil)
		const n = 250
		var reqs []queue.EnqueueRequest
		for i := range n {
			req := queue.EnqueueRequest{Queue: "q", Name: "mail", Payload: []byte("refused"), ID: fmt.Sprint(i)}
			if i%10 == 0 {
				req.Name, req.Payload, req.Priority, req.Schedule = "report", []byte("timeout"), queue.High, "daily"
			}
			reqs = append(reqs, req)
		}
		r.EnqueueMany(t.Context(), reqs)
		eventually(t, func() error {
			if st := r.Stats()[0]; st.Dead != n {
				return fmt.Errorf("%d dead, want %d", st.Dead, n)
			}
			return nil
		})
		passes.Store(true)
		jobs, total, err := r.List(t.Context(), "q", queue.Archived, queue.Page{Offset: 20, Limit: 30})
		if err != nil || total != n || len(jobs) != 30 {
			t.Fatalf("List = %d of %d, %v, want 30 of %d", len(jobs), total, err, n)
		}
		if jobs[0].Priority != queue.High || jobs[29].Priority != queue.Normal || jobs[29].Reason != "smtp: refused" || jobs[29].Name != "mail" {
			t.Errorf("List goes from %+v to %+v, want band by band, each with its reason", jobs[0], jobs[29])
		}
		count := func(f queue.Filter, want int) {
			t.Helper()
			for _, do := range []func(context.Context, string, queue.Filter, bool) (int, error){r.RetryDead, r.DeleteDead} {
				if got, err := do(t.Context(), "q", f, true); err != nil || got != want {
					t.Errorf("dry run of %+v = %d, %v, want %d", f, got, err, want)
				}
			}
		}
		count(queue.Filter{}, n)
		count(queue.Filter{Name: "report"}, n/10)
		count(queue.Filter{Reason: "refused"}, n-n/10)
		count(queue.Filter{Reason: "refused", Name: "report"}, 0)
		count(queue.Filter{Schedule: "daily"}, n/10)
		count(queue.Filter{IDs: []string{"1", "2", "10", "none"}}, 3)
		count(queue.Filter{IDs: []string{"1", "2", "10"}, Name: "mail"}, 2)
		count(queue.Filter{Before: time.Now().Add(-time.Hour)}, 0)
		count(queue.Filter{After: time.Now().Add(-time.Hour)}, n)

		if got, err := r.DeleteDead(t.Context(), "q", queue.Filter{Name: "report"}, false); err != nil || got != n/10 {
			t.Errorf("DeleteDead = %d, %v, want %d", got, err, n/10)
		}
		if got, err := r.RetryDead(t.Context(), "q", queue.Filter{Reason: "refused"}, false); err != nil || got != n-n/10 {
			t.Errorf("RetryDead = %d, %v, want %d", got, err, n-n/10)
		}
		eventually(t, func() error {
			d, err := r.Depth(t.Context(), "q")
			if err == nil && (d.Archived != 0 || d.Completed != n-n/10) {
				err = fmt.Errorf("depth is %+v, want %d completed and none archived", d, n-n/10)
			}
			return err
		})
	})
}

func TestMoreDeadLettersStayThanAsynqWouldKeep(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		q := works("q", func(context.Context, queue.Job) ([]byte, error) { return nil, &queue.DeadError{Reason: "no"} })
		r := run(t, url, []queue.Queue{q}, nil)
		c := plain(t, url)
		// As if 10,000 jobs had failed before.
		pipe := c.Pipeline()
		for i := range 10_000 {
			id := fmt.Sprint("old-", i)
			pipe.HSet(t.Context(), "asynq:{q}:t:"+id, "msg", "", "state", "archived")
			pipe.ZAdd(t.Context(), "asynq:{q}:archived", redis.Z{Score: float64(time.Now().AddDate(0, 0, -4).Unix()), Member: id})
			if i%250 == 249 { // a pipeline has as long for its answer as one command
				if _, err := pipe.Exec(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		id := r.add(t, queue.EnqueueRequest{Queue: "q"}).ID
		r.state(t, "q", id, queue.Archived)
		if n := c.ZCard(t.Context(), "asynq:{q}:archived").Val(); n != 10_001 {
			t.Errorf("%d dead letters, want all 10,001", n)
		}
	})
}

func TestADeadLetterThatIsTriedAgainTakesItsUniqueKeyBack(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		var runs atomic.Int64
		leave := make(chan struct{})
		defer close(leave)
		r := run(t, url, []queue.Queue{works("q", func(_ context.Context, j queue.Job) ([]byte, error) {
			if j.ID != "first" {
				return nil, nil
			}
			if runs.Add(1) == 1 {
				return nil, &queue.DeadError{Reason: "once"}
			}
			<-leave
			return nil, nil
		})}, nil)
		r.add(t, queue.EnqueueRequest{Queue: "q", ID: "first", Unique: "k"})
		r.state(t, "q", "first", queue.Archived)
		// Another has the key meanwhile, and gives it up.
		r.add(t, queue.EnqueueRequest{Queue: "q", ID: "second", Unique: "k"})
		r.state(t, "q", "second", queue.Completed)
		if n, err := r.RetryDead(t.Context(), "q", queue.Filter{IDs: []string{"first"}}, false); n != 1 || err != nil {
			t.Fatalf("RetryDead = %d, %v, want 1", n, err)
		}
		r.state(t, "q", "first", queue.Active)
		_, err := r.Enqueue(t.Context(), queue.EnqueueRequest{Queue: "q", ID: "third", Unique: "k"})
		if dup, ok := errors.AsType[*queue.DuplicateError](err); !ok || dup.ID != "first" {
			t.Errorf("a third job with the key: %v, want that first has it", err)
		}
	})
}
