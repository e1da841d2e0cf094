package scenario

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/queue"
	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
	"github.com/redisopt/redisopt/internal/runtime/sidecar"
)

// queueAdd adds jobs that nobody runs.
func queueAdd(_ context.Context, t Target, o Options) (*Prepared, error) {
	own, value := prefix(), payload(o)
	engine, err := newEngine(t, queue.Queue{Name: own}, nil)
	if err != nil {
		return nil, err
	}
	var n atomic.Int64
	return &Prepared{
		Operation: func(ctx context.Context, _ *bench.Span) error {
			_, err := engine.Enqueue(ctx, queue.EnqueueRequest{Queue: own, Payload: value, ID: jobID(n.Add(1))})
			return err
		},
		Check: func(ctx context.Context) (string, error) {
			depth, err := engine.Depth(ctx, own)
			if err != nil {
				return "", err
			}
			// What ended with an error, or too late, may or may not have been added.
			if got := depth.Pending; int64(got) > n.Load() {
				return fmt.Sprintf("%d jobs wait, after %d were added", got, n.Load()), nil
			}
			return "", nil
		},
		Close: func(ctx context.Context) error { return forget(ctx, t, own, n.Load()) },
	}, nil
}

// newEngine is an engine with one queue, on the connections that serve would use.
func newEngine(t Target, q queue.Queue, observe func(queue.Event)) (*queue.Engine, error) {
	up := t.Upstream
	return queue.New(queue.Options{
		Client: up.View(meter.Bench), Jobs: up.View(meter.Bench), Cluster: t.Cluster, Queues: []queue.Queue{q}, Observe: observe,
		InScript: func(command string, n int64) { up.AddInScript(meter.Bench, command, n) },
		Governor: governor.Options{Subscribe: func(ctx context.Context, channels ...string) (governor.Feed, error) {
			return sidecar.FeedOf(up.Bell().Subscribe(ctx, channels...))
		}},
	})
}

// queueRoundTrip adds a job, waits until a worker has run it, and until Redis has confirmed that it is done.
func queueRoundTrip(ctx context.Context, t Target, o Options) (*Prepared, error) {
	own, value := prefix(), payload(o)
	trips := &trips{waiting: map[string]chan struct{}{}, runs: map[string]int{}}
	q := queue.Queue{Name: own, Mode: queue.Push, Concurrency: 10, Runner: queue.RunnerFunc(trips.run)}
	engine, err := newEngine(t, q, trips.done)
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(running) }()
	var n atomic.Int64
	trip := func(ctx context.Context) error {
		id := jobID(n.Add(1))
		arrived := trips.expect(id)
		if _, err := engine.Enqueue(ctx, queue.EnqueueRequest{Queue: own, Payload: value, ID: id}); err != nil {
			trips.giveUp(id)
			return err
		}
		select {
		case <-arrived:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("the job was added and is not done: %w", context.Cause(ctx))
		}
	}
	closing := func(ctx context.Context) error {
		stop()
		return errors.Join(<-ended, forget(ctx, t, own, n.Load()))
	}
	first, cancel := context.WithTimeout(ctx, 10*time.Second+o.Timeout)
	defer cancel()
	if err := trip(first); err != nil { // the workers are there when one has come through
		return nil, errors.Join(err, closing(context.WithoutCancel(ctx)))
	}
	return &Prepared{
		Operation: func(ctx context.Context, _ *bench.Span) error { return trip(ctx) },
		Check:     trips.check,
		Close:     closing,
	}, nil
}

// trips are the jobs under way, and how often each was run.
type trips struct {
	mu      sync.Mutex
	waiting map[string]chan struct{} // nil once it has arrived or was given up
	runs    map[string]int
}

func (t *trips) expect(id string) <-chan struct{} {
	arrived := make(chan struct{})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting[id] = arrived
	return arrived
}

// giveUp forgets a job that may not have been added.
func (t *trips) giveUp(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.waiting, id)
}

// run is the worker: it does nothing but count.
func (t *trips) run(_ context.Context, job queue.Job) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.runs[job.ID]++
	return nil, nil
}

// done is told when Redis has confirmed that a job is done.
func (t *trips) done(e queue.Event) {
	if e.Kind != queue.Done {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if arrived := t.waiting[e.ID]; arrived != nil {
		close(arrived)
		delete(t.waiting, e.ID)
	}
}

// patience is how long jobs that were added may take to be done after the last operation.
const patience = 15 * time.Second

// check waits for what is still under way, and says what was lost or run twice.
func (t *trips) check(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		t.mu.Lock()
		var next chan struct{}
		for _, arrived := range t.waiting {
			next = arrived
			break
		}
		left, doubled := len(t.waiting), 0
		for _, n := range t.runs {
			if n > 1 {
				doubled++
			}
		}
		t.mu.Unlock()
		if next != nil {
			select {
			case <-next:
				continue
			case <-ctx.Done():
			}
		}
		switch {
		case left > 0 && doubled > 0:
			return fmt.Sprintf("%d jobs were added and not done %s after the last, %d were run more than once", left, patience, doubled), nil
		case left > 0:
			return fmt.Sprintf("%d jobs were added and not done %s after the last", left, patience), nil
		case doubled > 0:
			return fmt.Sprintf("%d jobs were run more than once", doubled), nil
		}
		return "", nil
	}
}

func jobID(n int64) string { return "job-" + strconv.FormatInt(n, 10) }

// forget deletes what n jobs of a queue have left, in all its bands: asynq's keys of each, and its name in
// the list of queues.
func forget(ctx context.Context, t Target, own string, n int64) error {
	client := t.Upstream.As(meter.Bench)
	var keys []string
	for _, band := range queue.Bands(own) {
		at := "asynq:{" + band + "}:"
		for _, part := range []string{"pending", "active", "lease", "scheduled", "retry", "archived", "completed", "paused", "processed", "failed"} {
			keys = append(keys, at+part)
		}
		day := time.Now().UTC()
		for _, date := range []time.Time{day, day.AddDate(0, 0, -1)} {
			keys = append(keys, at+"processed:"+date.Format(time.DateOnly), at+"failed:"+date.Format(time.DateOnly))
		}
	}
	for i := range n {
		keys = append(keys, "asynq:{"+own+"}:t:"+jobID(i+1))
	}
	bands := make([]any, 0, 3)
	for _, band := range queue.Bands(own) {
		bands = append(bands, band)
	}
	return errors.Join(unlink(ctx, client, t.Cluster, keys), client.SRem(ctx, "asynq:queues", bands...).Err())
}
