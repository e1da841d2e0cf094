package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/queue"
	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// patience is how long a test waits for what must happen, on a machine that has other things to do.
const patience = 30 * time.Second

// A replica is an engine that runs on an upstream of its own.
type replica struct {
	*queue.Engine
	up   *upstream.Upstream
	stop func() error // ends Run and returns what it did
	log  *eventLog
}

// An eventLog keeps what was observed.
type eventLog struct {
	mu      sync.Mutex
	all     []queue.Event
	notices []error
}

func (l *eventLog) add(v queue.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, v)
}

func (l *eventLog) kinds(id string) []queue.EventKind {
	l.mu.Lock()
	defer l.mu.Unlock()
	var kinds []queue.EventKind
	for _, v := range l.all {
		if v.ID == id {
			kinds = append(kinds, v.Kind)
		}
	}
	return kinds
}

// begun is when the attempts of a queue that have ended were taken from Redis, in order.
func (l *eventLog) begun(queue string) []time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	var at []time.Time
	for _, v := range l.all {
		if v.Queue == queue {
			at = append(at, v.At.Add(-v.Took))
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	return at
}

func (l *eventLog) last(id string) queue.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v := range slices.Backward(l.all) {
		if v.ID == id {
			return v
		}
	}
	return queue.Event{}
}

func (l *eventLog) notice(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notices = append(l.notices, err)
}

func (l *eventLog) noticed() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]error(nil), l.notices...)
}

// open makes an engine on url that does not run. change may be nil.
func open(t testing.TB, url string, queues []queue.Queue, change func(*queue.Options)) *replica {
	t.Helper()
	up, err := upstream.Open(context.Background(), upstream.Options{URL: url, Shared: true, Component: meter.Queue, Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	log := &eventLog{}
	o := queue.Options{
		Client: up.View(meter.Queue), Jobs: up.View(meter.Queue), Queues: queues,
		Governor: governor.Options{Scope: "test", Subscribe: subscribe(up), Track: track(up)},
		Observe:  log.add, Notice: log.notice, ShutdownTimeout: 5 * time.Second, CommandTimeout: patience,
	}
	if change != nil {
		change(&o)
	}
	e, err := queue.New(o)
	if err != nil {
		t.Fatal(err)
	}
	r := &replica{Engine: e, up: up, log: log, stop: func() error { return nil }}
	t.Cleanup(func() {
		_ = r.stop()
		_ = up.Close()
	})
	return r
}

// run makes an engine on url and runs it until the test ends.
func run(t testing.TB, url string, queues []queue.Queue, change func(*queue.Options)) *replica {
	t.Helper()
	r := open(t, url, queues, change)
	r.start()
	return r
}

func (r *replica) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
}

// subscribe is the bell of an upstream as the governor takes it.
func subscribe(up *upstream.Upstream) func(context.Context, ...string) (governor.Feed, error) {
	return func(ctx context.Context, channels ...string) (governor.Feed, error) {
		return feed(up.Bell().Subscribe(ctx, channels...))
	}
}

// track follows keys where the server can say what changes, which the embedded Redis cannot.
func track(up *upstream.Upstream) func(context.Context, ...string) (governor.Feed, error) {
	return func(ctx context.Context, prefixes ...string) (governor.Feed, error) {
		return feed(up.Bell().Track(ctx, prefixes...))
	}
}

// publishes has replicas tell each other instead.
func publishes(o *queue.Options) { o.Governor.Track = nil }

func feed(sub *upstream.Subscription, err error) (governor.Feed, error) {
	if err != nil {
		return governor.Feed{}, err
	}
	messages := make(chan governor.Message)
	over := make(chan struct{})
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

// each runs f on a redis-server and on the embedded Redis.
func each(t *testing.T, f func(t *testing.T, url string)) {
	t.Helper()
	t.Parallel()
	t.Run("redis-server", func(t *testing.T) {
		t.Parallel()
		f(t, redistest.Start(t).URL())
	})
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		s, err := embedded.Start(t.Context(), embedded.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		f(t, s.URL())
	})
}

// plain is a client of what url says, without anything of ours.
func plain(t testing.TB, url string) redis.UniversalClient {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func inspector(t testing.TB, url string) *asynq.Inspector {
	t.Helper()
	return asynq.NewInspectorFromRedisClient(plain(t, url))
}

// eventually waits until f returns nil.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	end := time.Now().Add(2 * patience) // hundreds of jobs, one by one, took 28 s at load 15
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
		<-tick.C
	}
}

// state waits until a job is in a state.
func (r *replica) state(t testing.TB, name, id string, want queue.State) queue.Found {
	t.Helper()
	var f queue.Found
	eventually(t, func() error {
		var err error
		f, err = r.Find(t.Context(), name, id)
		if err == nil && f.State != want {
			err = fmt.Errorf("job %s is %s (%s), want %s", id, f.State, f.Reason, want)
		}
		return err
	})
	return f
}

// add enqueues and must succeed.
func (r *replica) add(t testing.TB, req queue.EnqueueRequest) queue.Enqueued {
	t.Helper()
	got, err := r.Enqueue(t.Context(), req)
	if err != nil {
		t.Fatalf("Enqueue(%+v): %v", req, err)
	}
	return got
}

// works is a queue of mode exec whose jobs f runs.
func works(name string, f queue.RunnerFunc) queue.Queue {
	return queue.Queue{Name: name, Mode: queue.Exec, Runner: f}
}

func done(context.Context, queue.Job) ([]byte, error) { return nil, nil }

var errSimulated = errors.New("simulated failure")
