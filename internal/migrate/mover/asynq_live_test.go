package mover_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/migrate/livetest"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/queue"
	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// An engine is redisopt's own queues in this process, with one queue, and what it has run.
type engine struct {
	*queue.Engine

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every job
	started []int
	at      map[string]time.Time // by job id: when it was started last
	runs    map[string]int
	jobs    map[string]queue.Job
	stop    func()
}

// startEngine runs the jobs of queue mail one at a time.
func startEngine(t *testing.T, url string) *engine {
	t.Helper()
	up, err := upstream.Open(context.Background(), upstream.Options{URL: url, Shared: true, Component: meter.Queue, Timeout: livetest.Patience})
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{changed: make(chan struct{}), at: map[string]time.Time{}, runs: map[string]int{}, jobs: map[string]queue.Job{}}
	e.Engine, err = queue.New(queue.Options{
		Client: up.View(meter.Queue), Jobs: up.View(meter.Queue),
		Queues: []queue.Queue{{
			Name: "mail", Mode: queue.Exec, Runner: queue.RunnerFunc(e.run), Concurrency: 1, CatchUp: queue.All,
			Backlog: queue.Backlog{Limit: -1},
		}},
		Governor: governor.Options{
			Scope: "test",
			Subscribe: func(ctx context.Context, channels ...string) (governor.Feed, error) {
				return feedOf(up.Bell().Subscribe(ctx, channels...))
			},
			Track: func(ctx context.Context, prefixes ...string) (governor.Feed, error) {
				return feedOf(up.Bell().Track(ctx, prefixes...))
			},
		},
		Notice: func(err error) { t.Logf("engine: %v", err) }, ShutdownTimeout: livetest.Patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	e.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("engine: %v", err)
		}
	})
	t.Cleanup(func() {
		e.stop()
		_ = up.Close()
	})
	return e
}

func feedOf(sub *upstream.Subscription, err error) (governor.Feed, error) {
	if err != nil {
		return governor.Feed{}, err
	}
	messages, over := make(chan governor.Message), make(chan struct{})
	var pump sync.WaitGroup
	pump.Go(func() {
		defer close(messages)
		for m := range sub.C() {
			select {
			case messages <- governor.Message{Channel: m.Channel, Payload: m.Payload, Keys: m.Keys}:
			case <-over:
				return
			}
		}
	})
	return governor.Feed{Messages: messages, Gaps: sub.Gaps(), Close: func() {
		close(over)
		_ = sub.Close()
		pump.Wait()
	}}, nil
}

func (e *engine) run(_ context.Context, job queue.Job) ([]byte, error) {
	now := time.Now()
	var data struct {
		N int `json:"n"`
	}
	err := json.Unmarshal(job.Payload, &data)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.started = append(e.started, data.N)
	e.at[job.ID], e.jobs[job.ID] = now, job
	e.runs[job.ID]++
	close(e.changed)
	e.changed = make(chan struct{})
	return []byte(`"asynq"`), err
}

// await waits until holds, which is called with e.mu held after every job.
func (e *engine) await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for {
		e.mu.Lock()
		ok, changed := holds(), e.changed
		e.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-time.After(livetest.Patience):
			t.Fatalf("engine: no %s, and no job at all for %s", what, livetest.Patience)
		}
	}
}

func (e *engine) starts() []int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.started)
}

func asynqMail() mover.Endpoint {
	return mover.Endpoint{Layout: mover.Asynq, Prefix: "asynq", Queue: "mail"}
}

// tellLostOrDoubled compares what ran with 1 to n.
func tellLostOrDoubled(t *testing.T, n int, ran ...[]int) {
	t.Helper()
	seen := make(map[int]int, n)
	for _, k := range slices.Concat(ran...) {
		seen[k]++
	}
	lost, doubled := 0, 0
	for k := 1; k <= n; k++ {
		switch seen[k] {
		case 0:
			lost++
		case 1:
		default:
			doubled++
		}
	}
	if lost > 0 || doubled > 0 {
		t.Errorf("of %d jobs %d lost, %d doubled, want none", n, lost, doubled)
	}
}

// TestALiveMoveToAsynqLosesAndDoublesNothing moves a queue while a real Bull producer adds to it, a real
// Bull worker takes from it, and redisopt's own queues run what arrives.
func TestALiveMoveToAsynqLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	preload := 5_000
	if mover.RaceEnabled {
		preload = 1_000
	}
	server := redistest.Start(t)
	client := server.Client(t)
	_, port, _ := strings.Cut(server.Addr, ":")
	from := mover.Endpoint{Layout: mover.Bull, Major: 4, Prefix: "bull", Queue: "mail"}
	ctx, cancel := context.WithTimeout(t.Context(), liveTimeout)
	defer cancel()
	producer := startPeer(t, peerOptions{EveryMs: 5}, "producer", "bull", port, "bull", "mail", fmt.Sprint(preload))
	source := startPeer(t, peerOptions{WorkMs: 1, LockMs: int(liveLock.Milliseconds())}, "worker", "bull", port, "bull", "mail")
	target := startEngine(t, server.URL())
	source.Await("its first job", func() bool { return len(source.started) > 0 })

	opts := mover.Options{From: from, To: asynqMail(), MaxRate: 4_000, ActiveTimeout: -1}
	m, err := mover.New(client, opts)
	if err != nil {
		t.Fatal(err)
	}
	producer.Tell("go")
	begun := counter(t, client, from.Key("id"))
	for added := 0; added < 200; added = counter(t, client, from.Key("id")) - begun {
		if _, err := m.Move(ctx); err != nil {
			t.Fatal(err)
		}
	}
	source.Quit()
	producer.Tell("stop")
	producer.Await("its last job", func() bool { return producer.added > 0 })
	left := leftActive(t, client, from)
	opts.WorkersStopped, opts.ActiveTimeout = true, 4*liveLock
	if m, err = mover.New(client, opts); err != nil {
		t.Fatal(err)
	}
	last, err := m.Move(ctx)
	if err != nil || len(last.Held) > 0 || len(last.Skipped) > 0 {
		t.Fatalf("last move: held %v, skipped %v, %v, want none", last.Held, last.Skipped, err)
	}
	taken := source.starts()
	want := producer.added - len(taken)
	target.await(t, fmt.Sprintf("%d jobs", want), func() bool { return len(target.started) >= want })
	ran := target.starts()
	tellLostOrDoubled(t, producer.added, taken, ran)
	ran = slices.DeleteFunc(ran, func(n int) bool { _, ok := left[fmt.Sprint(n)]; return ok })
	if !slices.IsSorted(ran) {
		t.Errorf("start order at asynq differs from the source's: first at %s", firstDisorder(ran))
	}
	t.Logf("%d jobs: %d ran at Bull, %d at asynq", producer.added, len(taken), len(ran))
	if check, err := m.Verify(ctx); err != nil || len(check.Mismatches) > 0 {
		t.Errorf("Verify: %v, %v, want no mismatch", check.Mismatches, err)
	}
}

// TestALiveMoveBackFromAsynqLosesAndDoublesNothing brings a queue back to Bull while redisopt's own queues run
// its jobs and get new ones, and a real Bull worker runs what arrives.
func TestALiveMoveBackFromAsynqLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	_, port, _ := strings.Cut(server.Addr, ":")
	bull := mover.Endpoint{Layout: mover.Bull, Major: 4, Prefix: "bull", Queue: "mail"}
	ctx, cancel := context.WithTimeout(t.Context(), liveTimeout)
	defer cancel()
	producer := startPeer(t, peerOptions{}, "producer", "bull", port, "bull", "mail", "1000")
	producer.Quit()
	opts := mover.Options{From: bull, To: asynqMail(), ActiveTimeout: -1, WorkersStopped: true}
	there, err := mover.New(client, opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := there.Move(ctx); err != nil {
		t.Fatal(err)
	}
	source := startEngine(t, server.URL())
	source.await(t, "its first job", func() bool { return len(source.started) > 0 })
	target := startPeer(t, peerOptions{}, "worker", "bull", port, "bull", "mail")

	added := 1000
	var adding sync.WaitGroup
	adding.Go(func() {
		for range 300 {
			added++
			if _, err := source.Enqueue(ctx, queue.EnqueueRequest{Queue: "mail", Payload: fmt.Appendf(nil, `{"n":%d}`, added)}); err != nil {
				t.Errorf("add job %d: %v", added, err)
			}
		}
	})
	defer adding.Wait()
	opts.From, opts.To, opts.Reverse, opts.MaxRate, opts.WorkersStopped = opts.To, opts.From, true, 2000, false
	back, err := mover.New(client, opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := back.Move(ctx); err != nil {
		t.Fatal(err)
	}
	adding.Wait()
	source.stop() // it gives back what it has not begun
	if _, err := back.Move(ctx); err != nil {
		t.Fatal(err)
	}
	taken := source.starts()
	want := added - len(taken)
	target.Await(fmt.Sprintf("%d jobs", want), func() bool { return len(target.done) >= want })
	target.Quit()
	tellLostOrDoubled(t, added, taken, target.starts())
	t.Logf("%d jobs: %d ran at asynq, %d at Bull", added, len(taken), len(target.starts()))
	if check, err := back.Verify(ctx); err != nil || len(check.Mismatches) > 0 {
		t.Errorf("Verify: %v, %v, want no mismatch", check.Mismatches, err)
	}
}

// TestADelayedJobRunsAtAsynqInTheSecondAfterItIsDue has redisopt's own queues run what Bull put off.
func TestADelayedJobRunsAtAsynqInTheSecondAfterItIsDue(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	_, port, _ := strings.Cut(server.Addr, ":")
	bull := mover.Endpoint{Layout: mover.Bull, Major: 4, Prefix: "bull", Queue: "mail"}
	producer := startPeer(t, peerOptions{JobOpts: map[string]any{"delay": 3500}}, "producer", "bull", port, "bull", "mail", "20")
	producer.Quit()
	due := map[string]time.Time{}
	for _, z := range client.ZRangeWithScores(t.Context(), bull.Key("delayed"), 0, -1).Val() {
		due["mail:"+fmt.Sprint(z.Member)] = time.UnixMilli(int64(z.Score) / 4096)
	}
	target := startEngine(t, server.URL())
	m, err := mover.New(client, mover.Options{From: bull, To: asynqMail(), ActiveTimeout: -1, WorkersStopped: true})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := m.Move(t.Context()); err != nil || r.Moved[mover.Delayed] != 20 {
		t.Fatalf("moved %v, %v, want 20 delayed", r.Moved, err)
	}
	moved := time.Now() // on a slow machine they are due by then
	target.await(t, "20 jobs", func() bool { return len(target.started) == 20 })
	target.mu.Lock()
	defer target.mu.Unlock()
	worst := time.Duration(0)
	for id, at := range target.at {
		second := due[id].Truncate(time.Second)
		if second.Before(due[id]) {
			second = second.Add(time.Second)
		}
		worst = max(worst, at.Sub(second))
		if at.Before(second) {
			t.Errorf("job %s ran %s before the second it was put off to", id, second.Sub(at))
		}
		if moved.After(second) {
			second = moved
		}
		// The machine may be busy; a sweep that finds what nobody told of comes after minutes.
		if late := at.Sub(second); late > 30*time.Second {
			t.Errorf("job %s ran %s after the second it was put off to, want some milliseconds", id, late)
		}
	}
	t.Logf("at most %s after their second", worst)
}
