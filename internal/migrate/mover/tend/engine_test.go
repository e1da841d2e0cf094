package tend_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/queue"
	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// follow is the bell of an upstream as the governor takes it.
func follow(up *upstream.Upstream) func(context.Context, ...string) (governor.Feed, error) {
	return func(ctx context.Context, channels ...string) (governor.Feed, error) {
		sub, err := up.Bell().Subscribe(ctx, channels...)
		if err != nil {
			return governor.Feed{}, err
		}
		messages, over := make(chan governor.Message), make(chan struct{})
		var pump sync.WaitGroup
		pump.Go(func() {
			defer close(messages)
			for m := range sub.C() {
				select {
				case messages <- governor.Message{Channel: m.Channel, Payload: m.Payload}:
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
}

func TestRedisoptsOwnQueuesRunWhatIsAddedRetriedAndResumedWithoutWaitingForASweep(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	up, err := upstream.Open(t.Context(), upstream.Options{URL: server.URL(), Shared: true, Component: meter.Queue, Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = up.Close() })
	ran := newTally()
	engine, err := queue.New(queue.Options{
		Client: up.View(meter.Queue), Jobs: up.View(meter.Queue),
		// A sweep would come long after the test has given up.
		Governor: governor.Options{Scope: "test", Subscribe: follow(up), Sweep: time.Hour},
		Queues: []queue.Queue{{Name: "mail", Mode: queue.Push, Concurrency: 4, Runner: queue.RunnerFunc(func(_ context.Context, j queue.Job) ([]byte, error) {
			ran.mu.Lock()
			again := ran.ran[j.ID] > 0
			ran.mu.Unlock()
			ran.count(j.ID)
			if j.Name == "fragile" && !again {
				return nil, &queue.DeadError{Reason: "no such user"}
			}
			return nil, nil
		})}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the engine ended with %v", err)
		}
	})
	times := func(id string, n int) {
		t.Helper()
		ran.await(t, fmt.Sprintf("job %s runs %d times", id, n), func() bool { return ran.ran[id] == n })
	}
	q := tend.At(client, mover.Endpoint{Layout: tend.Asynq, Queue: "mail"})
	first := enqueue(t, q, tend.NewJob{Name: "send", Data: []byte(`{"to":"ann"}`)})
	times(first.ID, 1)
	urgent := enqueue(t, q, tend.NewJob{Name: "send", Band: "high", Delay: time.Second})
	times(urgent.ID, 1)

	dead := enqueue(t, q, tend.NewJob{Name: "fragile", ID: "dead"})
	times(dead.ID, 1)
	limit := time.After(patience)
	for {
		d, err := q.Dead(t.Context(), tend.DeadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Jobs) == 1 && d.Jobs[0].ID == "dead" && d.Reasons[0].Reason == "no such user" {
			break
		}
		select {
		case <-limit:
			t.Fatalf("the dead letters are %+v", d)
		default:
		}
	}
	if _, out := act(t, q, tend.Retry, tend.Criteria{States: []mover.State{mover.Failed}, Filter: filter(t, "name=fragile")}); out.Done != 1 {
		t.Fatalf("retry: %+v", out)
	}
	times("dead", 2)

	// While it is paused nothing runs; what was added then runs when it is resumed.
	if _, err := q.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	held := enqueue(t, q, tend.NewJob{Name: "send"})
	if _, err := engine.Enqueue(t.Context(), queue.EnqueueRequest{Queue: "mail", Unique: "ann"}); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Enqueue(t.Context(), tend.NewJob{Name: "send", Unique: "ann"}); err == nil {
		t.Error("a unique value that the engine holds was not refused")
	}
	ran.mu.Lock()
	if ran.ran[held.ID] != 0 {
		t.Error("a paused queue ran a job")
	}
	ran.mu.Unlock()
	if _, err := q.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	times(held.ID, 1)
}
