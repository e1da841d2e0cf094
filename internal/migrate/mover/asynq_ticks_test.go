package mover_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/runtime/queue"
	"github.com/redisopt/redisopt/internal/runtime/queue/cron"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// timetable reads a schedule as redisopt's own queues do.
func timetable(expression, zone string, every time.Duration) (mover.Timetable, error) {
	t, err := cron.Schedule{Name: "any", Queue: "any", Cron: expression, Zone: zone, Every: every}.Timetable()
	if err != nil {
		return nil, err
	}
	return t.Next, nil
}

// startCron fires redisopt's schedules into e until the returned function is called.
func startCron(t *testing.T, client *redis.Client, e *engine) (stop func()) {
	t.Helper()
	c, err := cron.New(cron.Options{Client: client, Failed: func(err error) { t.Logf("cron: %v", err) }, Enqueue: func(ctx context.Context, tick cron.Tick) error {
		var job struct {
			Name    string          `json:"name"`
			Payload json.RawMessage `json:"payload"`
		}
		if err := json.Unmarshal(tick.Schedule.Job, &job); err != nil {
			return errors.Join(cron.ErrRefused, err)
		}
		_, err := e.Enqueue(ctx, queue.EnqueueRequest{
			Queue: tick.Schedule.Queue, Name: job.Name, Payload: job.Payload, ID: tick.ID, Once: true, Schedule: tick.Schedule.Name, Retain: tick.Retain,
		})
		if _, taken := errors.AsType[*queue.DuplicateError](err); taken {
			return errors.Join(cron.ErrDuplicate, err)
		}
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("cron: %v", err)
		}
	}
}

// moveAll moves until nothing is skipped: a run may be going on at the source, for as long as that takes.
func moveAll(ctx context.Context, t *testing.T, client *redis.Client, opts mover.Options) {
	t.Helper()
	m, err := mover.New(client, opts)
	if err != nil {
		t.Fatal(err)
	}
	var skipped []mover.Problem
	for {
		r, err := m.Move(ctx)
		if err != nil {
			t.Fatalf("move to %s: %v, having skipped %v", opts.To, err, skipped)
		}
		if skipped = r.Skipped; len(skipped) == 0 {
			return
		}
	}
}

// TestARepeatableFiresOncePerTickAcrossTheSwitchToAsynqAndBack moves a repeatable of every second from a
// running Bull to redisopt's own schedules, and back, while both sides run.
func TestARepeatableFiresOncePerTickAcrossTheSwitchToAsynqAndBack(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	_, port, _ := strings.Cut(server.Addr, ":")
	bull := mover.Endpoint{Layout: mover.Bull, Major: 4, Prefix: "bull", Queue: "mail"}
	producer := startPeer(t, peerOptions{EveryMs: 60_000, JobOpts: map[string]any{"repeat": map[string]any{"every": 1000}}},
		"producer", "bull", port, "bull", "mail", "0")
	worker := startPeer(t, peerOptions{}, "worker", "bull", port, "bull", "mail")
	producer.Tell("go")
	worker.Await("two ticks", func() bool { return len(worker.done) >= 2 })
	producer.Tell("stop") // it would add it again at Bull a minute after the first time
	target := startEngine(t, server.URL())

	ctx, cancel := context.WithTimeout(t.Context(), liveTimeout)
	defer cancel()
	opts := mover.Options{From: bull, To: asynqMail(), ActiveTimeout: -1, Timetable: timetable}
	moveAll(ctx, t, client, opts)
	stopCron := startCron(t, client, target)
	target.await(t, "three ticks", func() bool { return len(target.started) >= 3 })
	stopCron()
	target.mu.Lock()
	atAsynq := ticks(t, target.runs)
	target.mu.Unlock()

	before := len(worker.starts())
	opts.From, opts.To, opts.Reverse = opts.To, opts.From, true
	moveAll(ctx, t, client, opts)
	worker.Await("two more ticks", func() bool { return len(worker.done) >= before+2 })
	worker.Quit()
	if n := client.ZCard(t.Context(), bull.Key("repeat")).Val(); n != 1 {
		t.Errorf("Bull has %d repeatables, want 1", n)
	}
	atBull := map[string]int{}
	for _, id := range client.ZRange(t.Context(), bull.Key("completed"), 0, -1).Val() {
		// The run that came along and ran at asynq is back under its old name.
		if strings.HasPrefix(id, "repeat:") && client.HGet(t.Context(), bull.Key(id), "returnvalue").Val() != `"asynq"` {
			atBull[strings.TrimSuffix(id, "000")]++
		}
	}
	all := slices.Concat(atAsynq, ticks(t, atBull))
	slices.Sort(all)
	if again := len(all) - len(slices.Compact(slices.Clone(all))); again > 0 {
		t.Errorf("%d ticks ran twice: %v", again, all)
	}
	missed := all[len(all)-1] - all[0] + 1 - int64(len(all))
	t.Logf("%d ticks at asynq, %d at Bull, %d missed in between, of which Bull's own delays are some", len(atAsynq), len(atBull), missed)
}

// ticks are the seconds at the end of ids, each as often as it ran.
func ticks(t *testing.T, runs map[string]int) []int64 {
	t.Helper()
	var all []int64
	for id, n := range runs {
		second, err := strconv.ParseInt(id[strings.LastIndexByte(id, ':')+1:], 10, 64)
		if err != nil {
			t.Fatal(fmt.Errorf("job %q is no tick: %w", id, err))
		}
		for range n {
			all = append(all, second)
		}
	}
	return all
}
