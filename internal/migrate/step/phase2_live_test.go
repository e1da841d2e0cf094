package step_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/livetest"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// soon is how long a test waits for what must happen, on however busy a machine.
const soon = 60 * time.Second

// pausable is one process of testdata/peers/phase2-peer.js: a worker and a producer of one queue.
type pausable struct {
	*livetest.Peer
	added   int
	started []int
	done    map[int]int
}

func startPausable(t *testing.T, args ...string) *pausable {
	t.Helper()
	p := &pausable{done: map[int]int{}}
	p.Peer = livetest.Start(t, p.hear, nil, "phase2-peer.js", args...)
	return p
}

func (p *pausable) hear(line string) {
	word, rest, _ := strings.Cut(line, " ")
	n, _ := strconv.Atoi(rest)
	switch word {
	case "added":
		p.added = n
	case "start":
		p.started = append(p.started, n)
	case "done":
		p.done[n]++
	}
}

// add adds jobs up to number n and waits until they are there.
func (p *pausable) add(n int) {
	p.Tell(fmt.Sprintf("add %d", n))
	p.Await(fmt.Sprintf("%d jobs added", n), func() bool { return p.added == n })
}

// numbered are the jobs that were started, in order, without the runs of the schedule.
func (p *pausable) numbered() (jobs []int) {
	p.Look(func() { jobs = slices.DeleteFunc(slices.Clone(p.started), func(n int) bool { return n == 0 }) })
	return jobs
}

func TestRealWorkersTakeNothingFromAPausedQueueAndAfterwardsEverythingOnceInOrder(t *testing.T) {
	const before, all = 20, 60
	for _, lib := range []string{"bull", "bullmq5", "bullmq6"} {
		t.Run(lib, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			client := server.Client(t)
			port := server.Addr[strings.LastIndexByte(server.Addr, ':')+1:]
			args := []string{lib, port, "bull", "suggestion-generation"}
			if lib == "bull" {
				args = append(args, "200") // a schedule, five runs a second
			}
			peer := startPausable(t, args...)
			peer.add(before)
			peer.Await("the first jobs are done", func() bool { return peer.done[before] == 1 })

			e, ok, err := mover.Detect(t.Context(), client, "bull", "suggestion-generation")
			if err != nil || !ok {
				t.Fatalf("Detect = %v, %v", ok, err)
			}
			plan := step.Phase2Plan{Queues: []step.PausedQueue{{Queue: e}}, StageMS: 2000}
			engine := engineFor(t, client, migrate.Target{Phase: step.Phase2Name}, plan, &diary{dieAt: -1})
			if err := engine.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := client.HGet(t.Context(), "redisopt:phase2:bull:suggestion-generation", "workers").Val(); got != "1" {
				t.Errorf("the note has %s workers, want 1", got)
			}
			peer.add(all)
			waiting := int64(all - before)
			if lib == "bull" {
				waiting++ // the run of the schedule that is due, and no other
				missedRuns(t, client, e, 5*200*time.Millisecond)
			}
			list := "paused"
			if lib == "bullmq6" {
				list = "wait"
			}
			if got := client.LLen(t.Context(), e.Key(list)).Val(); got != waiting {
				t.Errorf("%d jobs wait while the queue is paused, want %d", got, waiting)
			}
			if got := peer.numbered(); len(got) != before {
				t.Errorf("%d jobs were started, %d of them while the queue was paused", len(got), len(got)-before)
			}

			if err := engine.Rollback(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			peer.Await("all jobs are done", func() bool { return peer.done[all] >= 1 })
			if got := peer.numbered(); !slices.IsSorted(got) || len(got) != all {
				t.Errorf("%d jobs were started, in the order %v, want each of %d once and in order", len(got), got, all)
			}
			if lib == "bull" {
				runs := peer.runs()
				peer.Await("the schedule goes on", func() bool { return peer.done[0] > runs+1 })
			}
		})
	}
}

// runs is how many runs of the schedule are done.
func (p *pausable) runs() (n int) {
	p.Look(func() { n = p.done[0] })
	return n
}

// missedRuns waits until the schedule's run is overdue by so much.
func missedRuns(t *testing.T, client *redis.Client, e mover.Endpoint, by time.Duration) {
	t.Helper()
	limit := time.After(soon)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		next := client.ZRangeWithScores(t.Context(), e.Key("repeat"), 0, 0).Val()
		now := client.Time(t.Context()).Val()
		inDelayed := client.ZCard(t.Context(), e.Key("delayed")).Val()
		if len(next) == 1 && inDelayed == 0 && now.Sub(time.UnixMilli(int64(next[0].Score))) > by {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("the schedule's run is not overdue by %s", by)
		}
	}
}
