package mover_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/livetest"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// peerOptions is what a live peer reads from PEER_OPTS.
type peerOptions struct {
	JobOpts map[string]any `json:"jobOpts,omitempty"`
	WorkMs  int            `json:"workMs,omitempty"`
	EveryMs int            `json:"everyMs,omitempty"`
	Fail    int            `json:"fail,omitempty"`
	LockMs  int            `json:"lockMs,omitempty"`
}

// A peer is one process running a real library: a producer or a worker of testdata/peers/move-peer.js.
type peer struct {
	*livetest.Peer
	started []int // job numbers in the order they were started
	done    []int
	added   int
}

// startPeer runs a peer and waits until it is ready.
func startPeer(t *testing.T, opts peerOptions, args ...string) *peer {
	t.Helper()
	p := &peer{}
	p.Peer = livetest.Start(t, p.hear, opts, "move-peer.js", args...)
	return p
}

func (p *peer) hear(line string) {
	word, rest, _ := strings.Cut(line, " ")
	n, _ := strconv.Atoi(rest)
	switch word {
	case "start":
		p.started = append(p.started, n)
	case "done":
		p.done = append(p.done, n)
	case "added":
		p.added = n
	}
}

func (p *peer) starts() (numbers []int) {
	p.Look(func() { numbers = slices.Clone(p.started) })
	return numbers
}

// TestLiveMoveLosesAndDoublesNothing moves a queue of 10,000 jobs while a real producer adds to it and
// real workers run on both sides.
func TestLiveMoveLosesAndDoublesNothing(t *testing.T) {
	preload := 10_000
	if mover.RaceEnabled {
		preload = 2_000 // the interleavings are the same, and there are as many of them a second
	}
	for _, major := range []int{5, 6} {
		t.Run(fmt.Sprintf("bull to bullmq %d", major), func(t *testing.T) {
			t.Parallel()
			live := liveMove{major: major, preload: preload, late: 500, rate: 4_000}
			ran := live.run(t)
			if !slices.IsSorted(ran) {
				t.Errorf("start order on the target differs from the source's: first at %s", firstDisorder(ran))
			}
		})
		t.Run(fmt.Sprintf("bullmq %d back to bull", major), func(t *testing.T) {
			t.Parallel()
			live := liveMove{major: major, reverse: true, preload: 2_000, late: 100, rate: 2_000}
			ran := live.run(t)
			if !slices.IsSorted(ran) {
				t.Errorf("start order on the target differs from the source's: first at %s", firstDisorder(ran))
			}
		})
	}
}

// A liveMove is one move under load.
type liveMove struct {
	major   int  // of BullMQ
	reverse bool // from BullMQ to Bull
	preload int  // jobs added before
	late    int  // jobs to be added while the move runs, at least
	rate    int  // most jobs moved a second, so that there is time to add some; more than are added
}

// Bounds of a live move.
const (
	liveTimeout = 3 * time.Minute // for all moves together
	liveLock    = 5 * time.Second // what a worker's lock lasts, and so how long it outlives the worker
)

// run moves, fails the test if a job was lost or run twice, and returns what ran at the target, but
// for jobs that a worker of the source took and left.
func (l liveMove) run(t *testing.T) []int {
	server := redistest.Start(t)
	client := server.Client(t)
	_, port, _ := strings.Cut(server.Addr, ":")
	const queue = "mail"
	mq := fmt.Sprintf("bullmq%d", l.major)
	from := mover.Endpoint{Layout: mover.Bull, Major: 4, Prefix: "bull", Queue: queue}
	to := mover.Endpoint{Layout: mover.BullMQ, Major: l.major, Prefix: "bullmq", Queue: queue}
	fromLib, toLib := "bull", mq
	if l.reverse {
		from, to, fromLib, toLib = to, from, toLib, fromLib
	}

	ctx, cancel := context.WithTimeout(t.Context(), liveTimeout)
	defer cancel()
	// One job a millisecond at most: Move ends when it has caught up with the producers.
	producer := startPeer(t, peerOptions{EveryMs: 1}, "producer", fromLib, port, from.Prefix, queue, strconv.Itoa(l.preload))
	target := startPeer(t, peerOptions{}, "worker", toLib, port, to.Prefix, queue)
	source := startPeer(t, peerOptions{WorkMs: 1, LockMs: int(liveLock.Milliseconds())}, "worker", fromLib, port, from.Prefix, queue)
	source.Await("its first job", func() bool { return len(source.started) > 0 })

	m, err := mover.New(client, mover.Options{From: from, To: to, Reverse: l.reverse, MaxRate: l.rate, ActiveTimeout: -1})
	if err != nil {
		t.Fatal(err)
	}
	producer.Tell("go")
	begun := counter(t, client, from.Key("id"))
	for moves := 1; ; moves++ {
		if _, err := m.Move(ctx); err != nil {
			t.Fatalf("move %d: %v", moves, err)
		}
		if added := counter(t, client, from.Key("id")) - begun; added >= l.late {
			t.Logf("%d jobs added while %d move(s) ran", added, moves)
			break
		}
	}
	// A worker of Bull that closes can leave a job active that it never starts: without a lock, if the
	// server had just given it to the blocking pop that closing cuts off; with one, if finishing a job
	// had fetched the next. Only the worker's end tells such a job from one that runs.
	source.Quit()
	producer.Tell("stop")
	producer.Await("its last job", func() bool { return producer.added > 0 })
	left := leftActive(t, client, from)
	t.Logf("the worker that quit left active, with the milliseconds of its lock: %v", left)

	// The last move has the operator's word that no worker is left, and waits for locks to run out.
	m, err = mover.New(client, mover.Options{
		From: from, To: to, Reverse: l.reverse, WorkersStopped: true, ActiveTimeout: 4 * liveLock,
	})
	if err != nil {
		t.Fatal(err)
	}
	last, err := m.Move(ctx)
	if err != nil {
		t.Fatalf("last move: %v", err)
	}
	if len(last.Held) > 0 || len(last.Skipped) > 0 {
		t.Errorf("last move: held %v, skipped %v, want none", last.Held, last.Skipped)
	}

	taken := source.starts()
	want := producer.added - len(taken)
	target.Await(fmt.Sprintf("%d jobs", want), func() bool { return len(target.done) >= want })
	target.Quit()
	ran := target.starts()
	seen := make(map[int]int, producer.added)
	for _, n := range slices.Concat(taken, ran) {
		seen[n]++
	}
	lost, doubled := 0, 0
	for n := 1; n <= producer.added; n++ {
		switch seen[n] {
		case 0:
			lost++
		case 1:
		default:
			doubled++
		}
	}
	if lost > 0 || doubled > 0 {
		t.Errorf("of %d jobs %d lost, %d doubled, want none", producer.added, lost, doubled)
	}
	t.Logf("%d jobs: %d ran at the source, %d at the target", producer.added, len(taken), len(ran))

	check, err := m.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(check.Mismatches) > 0 {
		t.Errorf("Verify: mismatches %v, want none", check.Mismatches)
	}
	// What the worker left behind had been taken before the rest was moved, and comes when its lock is gone.
	return slices.DeleteFunc(ran, func(n int) bool { _, ok := left[strconv.Itoa(n)]; return ok })
}

// leftActive lists what is still active and in how many milliseconds its lock runs out; -2 is no lock. Ids are job numbers.
func leftActive(t *testing.T, client *redis.Client, e mover.Endpoint) map[string]int64 {
	t.Helper()
	ids, err := client.LRange(t.Context(), e.Key("active"), 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]int64{}
	for _, id := range ids {
		ms, err := client.Do(t.Context(), "PTTL", e.Key(id+":lock")).Int64()
		if err != nil {
			t.Fatal(err)
		}
		left[id] = ms
	}
	return left
}

func firstDisorder(numbers []int) string {
	for i := 1; i < len(numbers); i++ {
		if numbers[i] < numbers[i-1] {
			return fmt.Sprintf("position %d: %v", i, numbers[max(0, i-3):min(len(numbers), i+3)])
		}
	}
	return "nowhere"
}

func counter(t *testing.T, client interface {
	Do(ctx context.Context, args ...any) *redis.Cmd
}, key string,
) int {
	t.Helper()
	n, err := client.Do(t.Context(), "GET", key).Int()
	if err != nil {
		t.Fatal(err)
	}
	return n
}
