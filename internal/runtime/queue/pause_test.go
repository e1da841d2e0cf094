package queue_test

import (
	"context"
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

func TestAPausedQueueTakesJobsAndRunsThemAfterwards(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		q := works("q", done)
		q.Backlog.Limit = 2
		q.CatchUp = queue.All
		r := run(t, url, []queue.Queue{q}, nil)
		if err := r.Pause(t.Context(), "q", queue.PauseOptions{}); err != nil {
			t.Fatal(err)
		}
		if info, err := inspector(t, url).GetQueueInfo("q"); err == nil && !info.Paused {
			t.Errorf("asynq's inspector says that it is not paused")
		}
		first := r.add(t, queue.EnqueueRequest{Queue: "q"})
		r.add(t, queue.EnqueueRequest{Queue: "q"})
		_, err := r.Enqueue(t.Context(), queue.EnqueueRequest{Queue: "q"})
		if b, ok := errors.AsType[*queue.BacklogError](err); !ok || b.Limit != 2 || b.Shed {
			t.Errorf("Enqueue = %v, want a *BacklogError at 2", err)
		}
		d, err := r.Depth(t.Context(), "q")
		if err != nil || !d.Paused || d.Pending != 2 {
			t.Errorf("Depth = %+v, %v, want 2 pending and paused", d, err)
		}
		if err := r.Resume(t.Context(), "q", ""); err != nil {
			t.Fatal(err)
		}
		r.state(t, "q", first.ID, queue.Completed)
	})
}

func TestAPauseWithATimeEndsByItself(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		r := run(t, url, []queue.Queue{works("q", done)}, nil)
		begin := time.Now()
		if err := r.Pause(t.Context(), "q", queue.PauseOptions{For: time.Second}); err != nil {
			t.Fatal(err)
		}
		id := r.add(t, queue.EnqueueRequest{Queue: "q"}).ID
		if f, err := r.Find(t.Context(), "q", id); err != nil || f.State != queue.Pending && time.Since(begin) < time.Second {
			t.Errorf("Find = %+v, %v, want it pending for a second", f, err)
		}
		r.state(t, "q", id, queue.Completed)
	})
}

func TestWhatTheControlDocumentPausesCostsNoCommand(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		var mu sync.Mutex
		paused, changed := true, make(chan struct{})
		q := works("q", done)
		q.Backlog = queue.Backlog{Limit: 1, Shed: true}
		q.CatchUp = queue.All
		r := run(t, url, []queue.Queue{q}, func(o *queue.Options) {
			o.Paused = func(string) bool {
				mu.Lock()
				defer mu.Unlock()
				return paused
			}
			o.Changed = func() <-chan struct{} {
				mu.Lock()
				defer mu.Unlock()
				return changed
			}
		})
		id := r.add(t, queue.EnqueueRequest{Queue: "q"}).ID
		_, err := r.Enqueue(t.Context(), queue.EnqueueRequest{Queue: "q"})
		if b, ok := errors.AsType[*queue.BacklogError](err); !ok || !b.Shed {
			t.Errorf("Enqueue = %v, want a *BacklogError that says shed", err)
		}
		if st := r.Stats()[0]; !st.Paused || st.Done != 0 {
			t.Errorf("Stats = %+v, want it paused", st)
		}
		mu.Lock()
		paused = false
		close(changed)
		changed = make(chan struct{})
		mu.Unlock()
		r.state(t, "q", id, queue.Completed)
	})
}

func TestWhatCriticalQueuesNeedIsNotPausedForLong(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		r := open(t, url, []queue.Queue{
			{Name: "calendar-sync", Critical: true, DependsOn: []string{"webhook-renewal"}},
			{Name: "webhook-renewal", DependsOn: []string{"token-refresh"}, MaxPause: time.Hour},
			{Name: "token-refresh"},
			{Name: "batch-notifications"},
		}, nil)
		for _, c := range []struct {
			name string
			o    queue.PauseOptions
			want string
		}{
			{"calendar-sync", queue.PauseOptions{}, "queue calendar-sync is not paused, because of the critical queue calendar-sync"},
			{"webhook-renewal", queue.PauseOptions{For: 2 * time.Hour}, "queue webhook-renewal may be paused for at most 1h0m0s, because calendar-sync depends on it"},
			{"webhook-renewal", queue.PauseOptions{}, ""},
			{"token-refresh", queue.PauseOptions{}, "queue token-refresh is not paused, because of the critical queue calendar-sync"},
			{"token-refresh", queue.PauseOptions{Force: true}, ""},
			{"batch-notifications", queue.PauseOptions{}, ""},
			{"nowhere", queue.PauseOptions{}, "no queue is named"},
		} {
			err := r.Pause(t.Context(), c.name, c.o)
			if c.want == "" && err != nil || c.want != "" && !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("Pause(%s, %+v) = %v, want %q", c.name, c.o, err, c.want)
			}
		}
		ttl, err := plain(t, url).TTL(t.Context(), "asynq:{webhook-renewal}:paused").Result()
		if err != nil || ttl <= 0 || ttl > time.Hour {
			t.Errorf("the pause lasts %s, %v, want at most the hour it may", ttl, err)
		}
	})
}

func TestAStagedResumeBeginsSlowly(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		var ran atomic.Int64
		q := works("q", func(context.Context, queue.Job) ([]byte, error) {
			ran.Add(1)
			return nil, nil
		})
		q.Concurrency = 10
		r := run(t, url, []queue.Queue{q}, nil)
		if err := r.Pause(t.Context(), "q", queue.PauseOptions{}); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			r.add(t, queue.EnqueueRequest{Queue: "q"})
		}
		begin := time.Now()
		if err := r.Resume(t.Context(), "q", queue.Staged); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error {
			if n := ran.Load(); n < 3 {
				return fmt.Errorf("%d ran, want 3", n)
			}
			return nil
		})
		if took := time.Since(begin); took < 1900*time.Millisecond {
			t.Errorf("3 jobs began within %s, want one a second", took)
		}
	})
}

func TestOfEachScheduleOnlyTheNewestJobStays(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		var mu sync.Mutex
		var ran []string
		r := run(t, url, []queue.Queue{works("q", func(_ context.Context, j queue.Job) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			ran = append(ran, j.ID)
			return nil, nil
		})}, nil)
		if err := r.Pause(t.Context(), "q", queue.PauseOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"a1", "x", "b1", "a2", "b2", "y", "a3"} {
			schedule := ""
			if id[0] < 'x' {
				schedule = id[:1]
			}
			r.add(t, queue.EnqueueRequest{Queue: "q", ID: id, Schedule: schedule})
		}
		if err := r.Resume(t.Context(), "q", queue.Newest); err != nil {
			t.Fatal(err)
		}
		r.state(t, "q", "a3", queue.Completed)
		mu.Lock()
		defer mu.Unlock()
		if want := []string{"x", "b2", "y", "a3"}; !slices.Equal(ran, want) {
			t.Errorf("ran %v, want %v", ran, want)
		}
	})
}

func TestAQueueThatDrainsTakesNoJobsAndReturnsWhenItIsEmpty(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		leave := make(chan struct{})
		r := run(t, url, []queue.Queue{works("q", func(context.Context, queue.Job) ([]byte, error) {
			<-leave
			return nil, nil
		})}, nil)
		id := r.add(t, queue.EnqueueRequest{Queue: "q"}).ID
		drained := make(chan error, 1)
		go func() { drained <- r.Drain(t.Context(), "q") }()
		eventually(t, func() error {
			if !r.Stats()[0].Draining {
				return errors.New("not draining")
			}
			return nil
		})
		_, err := r.Enqueue(t.Context(), queue.EnqueueRequest{Queue: "q"})
		if _, ok := errors.AsType[*queue.DrainingError](err); !ok {
			t.Errorf("Enqueue = %v, want a *DrainingError", err)
		}
		select {
		case err := <-drained:
			t.Errorf("Drain returned %v while a job runs", err)
		default:
		}
		close(leave)
		if err := <-drained; err != nil {
			t.Error(err)
		}
		r.state(t, "q", id, queue.Completed)
		if err := r.Resume(t.Context(), "q", ""); err != nil {
			t.Fatal(err)
		}
		r.add(t, queue.EnqueueRequest{Queue: "q"})
	})
}
