package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/queue"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// billed is how many commands the server has counted, those in scripts included, except those that set up
// connections, those that no provider bills, and those of the one who asks.
func billed(t testing.TB, c *redis.Client) int {
	t.Helper()
	info, err := c.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for line := range strings.Lines(info) {
		rest, ok := strings.CutPrefix(line, "cmdstat_")
		if !ok {
			continue
		}
		name, numbers, _ := strings.Cut(rest, ":")
		if slices.Contains([]string{"info", "hello", "ping", "client|setinfo", "client|setname", "client|tracking", "config|resetstat", "subscribe", "psubscribe", "select", "client|list", "flushall"}, name) {
			continue
		}
		var calls int
		if _, err := fmt.Sscanf(numbers, "calls=%d", &calls); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		sum += calls
	}
	return sum
}

// What things cost, as the server counts it. The first of a kind is apart: scripts have to be told once.
func TestWhatOperationsCost(t *testing.T) {
	for name, change := range map[string]func(*queue.Options){"the server pushes changes": nil, "replicas publish": publishes} {
		t.Run(name, func(t *testing.T) { costs(t, change) })
	}
}

func costs(t *testing.T, change func(*queue.Options)) {
	s := redistest.Start(t)
	c := s.Client(t)
	none := works("none", done)
	none.Completed.Age = -1
	none.Concurrency = 10
	kept := works("kept", done)
	kept.Concurrency = 10
	kept.Completed.Count = 100_000
	result := works("result", func(context.Context, queue.Job) ([]byte, error) { return []byte("42"), nil })
	result.Concurrency = 10
	flaky := works("flaky", func(_ context.Context, j queue.Job) ([]byte, error) {
		if j.Attempt == 1 {
			return nil, errSimulated
		}
		return nil, nil
	})
	flaky.Concurrency = 10
	flaky.Completed.Age = -1
	r := run(t, s.URL(), []queue.Queue{none, kept, waits("idle"), result, flaky}, change)
	settle := func(name string, want int64) {
		t.Helper()
		eventually(t, func() error {
			for _, st := range r.Stats() {
				if st.Queue == name && st.Done == want {
					return nil
				}
			}
			return fmt.Errorf("stats are %+v, want %d done in %s", r.Stats(), want, name)
		})
	}
	many := func(name string, n int) {
		t.Helper()
		reqs := make([]queue.EnqueueRequest, n)
		for i := range reqs {
			reqs[i] = queue.EnqueueRequest{Queue: name}
		}
		if _, errs := r.EnqueueMany(t.Context(), reqs); errors.Join(errs...) != nil {
			t.Fatal(errors.Join(errs...))
		}
	}
	// Everything once, so that scripts and names are known.
	r.add(t, queue.EnqueueRequest{Queue: "none"})
	r.add(t, queue.EnqueueRequest{Queue: "kept"})
	r.add(t, queue.EnqueueRequest{Queue: "idle"})
	settle("none", 1)
	settle("kept", 1)
	r.add(t, queue.EnqueueRequest{Queue: "result"})
	r.add(t, queue.EnqueueRequest{Queue: "flaky"})
	r.add(t, queue.EnqueueRequest{Queue: "idle", Batch: "k", Payload: []byte("1")})
	settle("result", 1)
	settle("flaky", 1)
	seen, err := r.Find(t.Context(), "result", "none")
	if err == nil {
		t.Fatalf("found %+v", seen)
	}
	for _, look := range []func(context.Context) error{r.depth, r.listed} {
		if err := look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	const n = 400
	const late = 0.05 // a job: commands of the step before that come after the reset
	for _, step := range []struct {
		name string
		do   func()
		jobs int
		most float64
	}{
		{"enqueue one by one", func() {
			for range n {
				r.add(t, queue.EnqueueRequest{Queue: "idle"})
			}
		}, n, 4},
		{"enqueue in bulk", func() { many("idle", n) }, n, 4},
		{"unique", func() {
			for i := range n {
				r.add(t, queue.EnqueueRequest{Queue: "idle", Unique: fmt.Sprint(i)})
			}
		}, n, 5},
		{"delayed", func() {
			for range n {
				r.add(t, queue.EnqueueRequest{Queue: "idle", Delay: time.Hour})
			}
		}, n, 4},
		{"burst of jobs, nothing kept", func() { many("none", n); settle("none", n+1) }, n, 18},
		{"burst of jobs, kept", func() { many("kept", n); settle("kept", n+1) }, n, 19},
		{"alone, nothing kept", func() {
			for i := range 50 {
				r.add(t, queue.EnqueueRequest{Queue: "none"})
				settle("none", int64(n+2+i))
			}
		}, 50, 22},
		{"alone, kept", func() {
			for i := range 50 {
				r.add(t, queue.EnqueueRequest{Queue: "kept"})
				settle("kept", int64(n+2+i))
			}
		}, 50, 23},
		{"burst of jobs with results", func() { many("result", n); settle("result", n+1) }, n, 22},
		{"burst of jobs that fail once", func() { many("flaky", n); settle("flaky", n+1) }, n, 42},
		{"items of batches", func() {
			for range n {
				r.add(t, queue.EnqueueRequest{Queue: "idle", Batch: "k", Payload: []byte("1")})
			}
		}, n, 7},
		{"depth", func() { _ = r.depth(t.Context()) }, 1, 28},
		{"list of 20", func() { _ = r.listed(t.Context()) }, 1, 25},
		{"pause and resume", func() {
			if err := errors.Join(r.Pause(t.Context(), "idle", queue.PauseOptions{}), r.Resume(t.Context(), "idle", queue.All)); err != nil {
				t.Error(err)
			}
		}, 1, 6},
	} {
		tries := 1
		if step.jobs == 1 {
			tries = 5 // what comes late would be the whole price: it can only be more
		}
		per := 0.0
		for range tries {
			if err := c.ConfigResetStat(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			step.do()
			per = float64(billed(t, c)) / float64(step.jobs)
			t.Logf("%-28s %5.2f billed commands for each job", step.name, per)
			if per <= step.most+late {
				break
			}
		}
		if per > step.most+late {
			t.Errorf("%s costs %.2f commands for each job, want at most %.0f", step.name, per, step.most)
		}
	}
}

func (r *replica) depth(ctx context.Context) error {
	_, err := r.Depth(ctx, "idle")
	return err
}

func (r *replica) listed(ctx context.Context) error {
	_, _, err := r.List(ctx, "idle", queue.Pending, queue.Page{})
	return err
}
