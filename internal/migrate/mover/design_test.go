package mover_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// TestBullMQQueueFactory holds the queue cases of the design's test strategy that a mover can meet:
// jobs that an application added with Bull behave as promised under BullMQ after the move.
func TestBullMQQueueFactory(t *testing.T) {
	cases := []struct {
		name    string
		options peerOptions // of the producer
		fail    int         // how often each job throws before it succeeds
		jobs    int
		want    []int // job numbers in the order of their starts
	}{
		{name: "should add and process jobs", jobs: 1, want: []int{1}},
		{
			name:    "should handle job failures with retry",
			options: peerOptions{JobOpts: map[string]any{"attempts": 3, "backoff": map[string]any{"type": "exponential", "delay": 100}}},
			fail:    2, jobs: 1, want: []int{1, 1, 1},
		},
		{
			name:    "a job whose attempts are spent is not run again",
			options: peerOptions{JobOpts: map[string]any{"attempts": 2, "backoff": map[string]any{"type": "fixed", "delay": 10}}},
			fail:    5, jobs: 1, want: []int{1, 1},
		},
		{name: "should handle 1000 jobs without errors", jobs: 1000, want: upTo(1000)},
	}
	for _, major := range []int{5, 6} {
		for _, c := range cases {
			t.Run(fmt.Sprintf("%s, bullmq %d", c.name, major), func(t *testing.T) {
				t.Parallel()
				server := redistest.Start(t)
				client := server.Client(t)
				_, port, _ := strings.Cut(server.Addr, ":")
				to := mover.Endpoint{Layout: mover.BullMQ, Major: major, Prefix: "bullmq", Queue: "test-queue"}

				producer := startPeer(t, c.options, "producer", "bull", port, "bull", to.Queue, fmt.Sprint(c.jobs))
				producer.Quit()
				m, err := mover.New(client, mover.Options{
					From: mover.Endpoint{Layout: mover.Bull, Major: 4, Prefix: "bull", Queue: to.Queue}, To: to,
				})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := m.Move(t.Context()); err != nil {
					t.Fatal(err)
				}
				worker := startPeer(t, peerOptions{Fail: c.fail}, "worker", fmt.Sprintf("bullmq%d", major), port, to.Prefix, to.Queue)
				worker.Await("the job's last start", func() bool { return len(worker.started) >= len(c.want) })
				final := to.Key("completed")
				if c.fail >= len(c.want) {
					final = to.Key("failed")
				}
				eventually(t, "job in "+final, func() bool { return client.ZCard(t.Context(), final).Val() == int64(c.jobs) })
				worker.Quit()
				if got := worker.starts(); !slices.Equal(got, c.want) {
					t.Errorf("starts = %v, want %v", got, c.want)
				}
			})
		}
	}
}

// upTo is 1, 2, 3 … n.
func upTo(n int) []int {
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = i + 1
	}
	return numbers
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline, tick := time.After(20*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no %s within 20s", what)
		}
	}
}
