package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

func TestHowAnAttemptEndsDecidesWhatFollows(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		var postponed, passing atomic.Int64
		q := works("q", func(ctx context.Context, j queue.Job) ([]byte, error) {
			switch j.Name {
			case "dead":
				return nil, fmt.Errorf("wrapped: %w", &queue.DeadError{Reason: "no such user"})
			case "always":
				return nil, errSimulated
			case "panics":
				panic("at the disco")
			case "hangs":
				<-ctx.Done()
				return nil, ctx.Err()
			case "final":
				return nil, fmt.Errorf("invalid_grant: token revoked")
			case "binary":
				return nil, fmt.Errorf("bytes \xff\xfe%s", strings.Repeat("x", 5000))
			case "later":
				if postponed.Add(1) < 3 {
					return nil, &queue.RetryAfterError{After: 100 * time.Millisecond, Reason: "too many requests"}
				}
				if j.Attempt != 1 {
					return nil, &queue.DeadError{Reason: fmt.Sprintf("attempt %d after being put off", j.Attempt)}
				}
			case "first":
				if passing.Add(1) == 1 {
					return nil, errSimulated
				}
			}
			return nil, nil
		})
		q.Final = []string{"invalid_grant"}
		q.Concurrency = 20
		r := run(t, url, []queue.Queue{q}, nil)
		past := time.Now().Add(-time.Minute)
		for _, c := range []struct {
			req    queue.EnqueueRequest
			state  queue.State
			reason string
			events []queue.EventKind
		}{
			{queue.EnqueueRequest{Name: "dead"}, queue.Archived, "wrapped: no such user", []queue.EventKind{queue.Dead}},
			{queue.EnqueueRequest{Name: "always", Attempts: 2}, queue.Archived, "simulated failure", []queue.EventKind{queue.Failed, queue.Dead}},
			{queue.EnqueueRequest{Name: "panics", Attempts: 1}, queue.Archived, "panic: at the disco", []queue.EventKind{queue.Dead}},
			{queue.EnqueueRequest{Name: "hangs", Attempts: 1, Timeout: 50 * time.Millisecond}, queue.Archived, "timed out after", []queue.EventKind{queue.Dead}},
			{queue.EnqueueRequest{Name: "final"}, queue.Archived, "invalid_grant: token revoked", []queue.EventKind{queue.Dead}},
			{queue.EnqueueRequest{Name: "binary", Attempts: 1}, queue.Archived, "bytes \uFFFD", []queue.EventKind{queue.Dead}},
			{queue.EnqueueRequest{Name: "expired", Deadline: past}, queue.Archived, "has passed", []queue.EventKind{queue.Dead}},
			{queue.EnqueueRequest{Name: "later", Attempts: 1}, queue.Completed, "", []queue.EventKind{queue.Rescheduled, queue.Rescheduled, queue.Done}},
			{queue.EnqueueRequest{Name: "first", Attempts: 2}, queue.Completed, "", []queue.EventKind{queue.Failed, queue.Done}},
		} {
			t.Run(c.req.Name, func(t *testing.T) {
				c.req.Queue, c.req.ID = "q", c.req.Name
				c.req.Backoff = &queue.Backoff{Kind: queue.Fixed, Delay: time.Millisecond}
				r.add(t, c.req)
				f := r.state(t, "q", c.req.ID, c.state)
				if !strings.Contains(f.Reason, c.reason) || len(f.Reason) > 3000 {
					t.Errorf("reason is %q, want %q in it", f.Reason, c.reason)
				}
				eventually(t, func() error {
					if got := r.log.kinds(c.req.ID); !slices.Equal(got, c.events) {
						return fmt.Errorf("events are %v, want %v", got, c.events)
					}
					return nil
				})
				if last := r.log.last(c.req.ID); last.Name != c.req.Name || last.Queue != "q" || c.state == queue.Archived && !strings.Contains(last.Reason, c.reason) {
					t.Errorf("last event is %+v", last)
				}
			})
		}
		if st := r.Stats()[0]; st.Running != 0 {
			t.Errorf("%d jobs run, want none", st.Running)
		}
	})
}

func TestARunningJobIsCancelledFromAnotherReplica(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		entered := make(chan struct{})
		a := run(t, url, []queue.Queue{works("q", func(ctx context.Context, _ queue.Job) ([]byte, error) {
			close(entered)
			<-ctx.Done()
			return nil, ctx.Err()
		})}, nil)
		b := open(t, url, []queue.Queue{waits("q")}, nil)
		id := a.add(t, queue.EnqueueRequest{Queue: "q"}).ID
		<-entered
		// A replica that has just started may not hear the first word.
		eventually(t, func() error {
			err := b.Cancel(t.Context(), "q", id)
			if ended, ok := errors.AsType[*queue.StateError](err); err != nil && (!ok || ended.State != queue.Archived) {
				t.Fatal(err)
			}
			tick := time.NewTimer(500 * time.Millisecond)
			defer tick.Stop()
			<-tick.C
			f, err := a.Find(t.Context(), "q", id)
			if err == nil && f.State != queue.Archived {
				err = fmt.Errorf("job is %s, want archived", f.State)
			}
			return err
		})
		if f := a.state(t, "q", id, queue.Archived); f.Reason != "cancelled" {
			t.Errorf("reason is %q, want cancelled", f.Reason)
		}
		if err := b.Cancel(t.Context(), "q", id); fmt.Sprint(err) != fmt.Sprintf("queue q: job %s is archived", id) {
			t.Errorf("Cancel of a dead letter = %v", err)
		}
		if err := b.Cancel(t.Context(), "q", "none"); fmt.Sprint(err) != "queue q has no job none" {
			t.Errorf("Cancel of nothing = %v", err)
		}
	})
}

func TestProgressIsKeptWithTheJobAtMostOnceASecond(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		told, leave := make(chan struct{}), make(chan struct{})
		r := run(t, url, []queue.Queue{works("q", func(_ context.Context, j queue.Job) ([]byte, error) {
			for i := range 500 {
				if err := j.Progress(fmt.Appendf(nil, `{"done":%d}`, i)); err != nil {
					return nil, err
				}
			}
			if err := j.Progress(json.RawMessage("{")); err == nil {
				return nil, &queue.DeadError{Reason: "took what is no JSON"}
			}
			close(told)
			<-leave
			return nil, nil
		})}, nil)
		id := r.add(t, queue.EnqueueRequest{Queue: "q"}).ID
		<-told
		eventually(t, func() error {
			f, err := r.Find(t.Context(), "q", id)
			if err == nil && string(f.Progress) != `{"done":499}` {
				err = fmt.Errorf("progress is %s, want the last that was told", f.Progress)
			}
			return err
		})
		close(leave)
		r.state(t, "q", id, queue.Completed)
	})
}

func TestNoMoreThanItsConcurrencyRunsAndNoMoreThanItsRateBegins(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		var running, most atomic.Int64
		three := make(chan struct{})
		full := sync.OnceFunc(func() { close(three) })
		slow := works("slow", func(context.Context, queue.Job) ([]byte, error) {
			n := running.Add(1)
			defer running.Add(-1)
			for {
				was := most.Load()
				if n <= was || most.CompareAndSwap(was, n) {
					break
				}
			}
			if n == 3 {
				full()
			}
			select {
			case <-three: // from then on each takes a moment
			case <-time.After(30 * time.Second):
			}
			timer := time.NewTimer(5 * time.Millisecond)
			defer timer.Stop()
			<-timer.C
			return nil, nil
		})
		slow.Concurrency = 3
		rated := works("rated", done)
		rated.Rate = queue.Rate{Jobs: 20, Per: time.Second, Burst: 2}
		r := open(t, url, []queue.Queue{slow, rated}, func(o *queue.Options) { o.Concurrency = 16 })
		for range 40 {
			r.add(t, queue.EnqueueRequest{Queue: "slow"})
		}
		for range 12 {
			r.add(t, queue.EnqueueRequest{Queue: "rated"})
		}
		r.start()
		eventually(t, func() error {
			if slow, rated := r.Stats()[0].Done, len(r.log.begun("rated")); slow != 40 || rated != 12 {
				return fmt.Errorf("%d and %d done, want 40 and 12", slow, rated)
			}
			return nil
		})
		if n := most.Load(); n != 3 {
			t.Errorf("%d ran at the same time, want 3", n)
		}
		// Two at once, then ten more at 20 a second, by when they were taken: the job itself may begin later.
		begun := r.log.begun("rated")
		if took := begun[11].Sub(begun[0]); took < 490*time.Millisecond {
			t.Errorf("12 jobs began within %s, want at least 500ms", took)
		}
	})
}

func TestOfCompletedJobsNoMoreStayThanAsked(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		q := works("q", done)
		q.Completed.Count = 20
		none := works("none", func(context.Context, queue.Job) ([]byte, error) { return []byte("gone"), nil })
		none.Completed.Age = -1
		r := run(t, url, []queue.Queue{q, none}, nil)
		for range 100 {
			r.add(t, queue.EnqueueRequest{Queue: "q"})
		}
		id := r.add(t, queue.EnqueueRequest{Queue: "none"}).ID
		eventually(t, func() error {
			d, err := r.Depth(t.Context(), "q")
			if err == nil && (r.Stats()[0].Done != 100 || d.Completed > 22) {
				err = fmt.Errorf("%d done, %d of them kept, want 100 and at most 22", r.Stats()[0].Done, d.Completed)
			}
			return err
		})
		eventually(t, func() error {
			if r.Stats()[1].Done != 1 {
				return fmt.Errorf("not done")
			}
			return nil
		})
		if _, err := r.Find(t.Context(), "none", id); fmt.Sprint(err) != "queue none has no job "+id {
			t.Errorf("Find = %v, want that nothing stays", err)
		}
	})
}
