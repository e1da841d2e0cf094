package mover

import (
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// A betweenHook runs something before every script of the mover, which may have two under way.
type betweenHook struct {
	mu  sync.Mutex
	run func(context.Context)
}

func (h *betweenHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (h *betweenHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *betweenHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if strings.HasPrefix(cmd.Name(), "eval") {
			h.mu.Lock()
			h.run(ctx)
			h.mu.Unlock()
		}
		return next(ctx, cmd)
	}
}

// A place is one container that an id is in, and what the job is called there.
type place struct {
	part      Endpoint
	container string
	id        string
}

// whereabouts notes in which containers of an endpoint each id is, by what Bull calls it.
func whereabouts(ctx context.Context, tb testing.TB, client redis.UniversalClient, e Endpoint, into map[string][]place) {
	tb.Helper()
	for _, part := range e.parts() {
		for _, l := range containersOf(e.Layout) {
			var ids []string
			var err error
			if l.isList() {
				ids, err = client.LRange(ctx, part.Key(l.from), 0, -1).Result()
			} else {
				ids, err = client.ZRange(ctx, part.Key(l.from), 0, -1).Result()
			}
			if err != nil {
				tb.Fatal(err)
			}
			for _, id := range ids {
				name := id
				if e.Layout == Asynq {
					name = strings.TrimPrefix(id, e.Queue+":")
				}
				into[name] = append(into[name], place{part, l.from, id})
			}
		}
	}
}

func checkNothingLostOrDoubled(ctx context.Context, tb testing.TB, client redis.UniversalClient, from, to Endpoint, all []string) {
	tb.Helper()
	where := map[string][]place{}
	whereabouts(ctx, tb, client, from, where)
	whereabouts(ctx, tb, client, to, where)
	for _, id := range all {
		at := where[id]
		if len(at) != 1 {
			tb.Errorf("job %s is in %v, want exactly one container", id, at)
			continue
		}
		here, there := at[0].part, to
		if here.Layout == to.Layout {
			there = from
		}
		mine, err := client.HGetAll(ctx, here.jobKey(at[0].id)).Result()
		if err != nil || len(mine) == 0 {
			tb.Errorf("job %s is in %v without a hash there, %v", id, at[0], err)
		}
		others := []string{}
		for _, part := range there.parts() {
			others = append(others, part.jobKey(id), part.jobKey(there.Queue+":"+id))
		}
		if n, err := client.Exists(ctx, others...).Result(); err != nil || n != 0 {
			tb.Errorf("job %s is in %v and has a second hash at the other side, %v", id, at[0], err)
		}
		if _, ok := mine["attemptsMade"]; ok && here.Layout == BullMQ {
			tb.Errorf("job %s kept attemptsMade at the target: it would be tried forever", id)
		}
		if _, ok := mine["atm"]; ok && here.Layout == Bull {
			tb.Errorf("job %s kept atm at the source", id)
		}
		if _, ok := mine["data"]; ok == (here.Layout == Asynq) {
			tb.Errorf("job %s: data beside the message: %v, want it only where there is no message", id, ok)
		}
	}
}

func TestNoJobIsLostDoubledOrReorderedWhateverHappensBetweenTwoScripts(t *testing.T) {
	thinner := uint64(1)
	if RaceEnabled {
		thinner = 4
	}
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		for seed := range 12 / thinner {
			interleave(t, miniredis.RunT(t).Addr(), seed)
		}
	})
	t.Run("redis-server", func(t *testing.T) {
		t.Parallel()
		addr := redistest.Start(t).Addr
		for seed := range 20 / thinner {
			interleave(t, addr, 1000+seed)
		}
	})
}

func interleave(t *testing.T, addr string, seed uint64) {
	t.Helper()
	ctx := t.Context()
	// A command that is sent again because its answer was late would add a job twice.
	once := redis.Options{Addr: addr, ReadTimeout: time.Minute, MaxRetries: -1}
	outside := redis.NewClient(&once)
	defer func() { _ = outside.Close() }()
	client := redis.NewClient(&once)
	defer func() { _ = client.Close() }()
	outside.FlushAll(ctx)
	rng := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // reproducible on purpose
	from, to := Endpoint{Bull, 4, "bull", "q"}, Endpoint{BullMQ, 5 + rng.IntN(2), "mq", "q"}
	bull := &fakeBull{tb: t, client: outside, e: from, rng: rng, plain: map[string]bool{}}
	for range 40 + rng.IntN(100) {
		bull.step(ctx)
	}
	if seed%3 == 0 {
		to = Endpoint{Layout: Asynq, Prefix: "asynq", Queue: "q"}
	}
	opts := Options{From: from, To: to, ChunkSize: 1 + rng.IntN(12), ActiveTimeout: -1, WorkersStopped: rng.IntN(2) == 0}
	if rng.IntN(3) == 0 && to.Layout == BullMQ {
		opts.Order = ByPriority
	}
	steps := 400
	client.AddHook(&betweenHook{run: func(ctx context.Context) {
		for range rng.IntN(4) {
			if steps--; steps > 0 {
				bull.step(ctx)
			}
		}
	}})
	m, err := New(client, opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Move(ctx); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	checkNothingLostOrDoubled(ctx, t, outside, from, to, bull.all)
	for len(bull.active) > 0 {
		bull.finish(ctx)
	}
	steps = 0
	if _, err := m.Move(ctx); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	checkNothingLostOrDoubled(ctx, t, outside, from, to, bull.all)
	if left, err := counts(ctx, outside, from); err != nil || len(left) > 0 {
		t.Errorf("seed %d: left at the source %v, %v", seed, left, err)
	}
	checkOrder(ctx, t, outside, to, bull)
	if v, err := m.Verify(ctx); err != nil || len(v.Mismatches) > 0 {
		t.Errorf("seed %d: verify says %v, %v", seed, v.Mismatches, err)
	}
	if t.Failed() {
		t.Fatalf("seed %d failed", seed)
	}
	comeBack(ctx, t, m.opts, client, outside, bull, seed)
}

// checkOrder: what was added at the back and never started runs in the order in which it was added.
func checkOrder(ctx context.Context, t *testing.T, client *redis.Client, e Endpoint, bull *fakeBull) {
	t.Helper()
	container := "wait"
	if e.Layout == Asynq {
		container = "pending"
	}
	list, err := client.LRange(ctx, e.Key(container), 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(list)
	last := 0
	for _, id := range list {
		id = strings.TrimPrefix(id, e.Queue+":")
		if !bull.plain[id] {
			continue
		}
		n, err := strconv.Atoi(strings.TrimPrefix(id, "custom:"))
		if err != nil {
			t.Fatal(err)
		}
		if n < last {
			t.Errorf("job %d runs after job %d, but was added before it", n, last)
		}
		last = n
	}
}

// comeBack brings everything back and looks at what the jobs are now.
func comeBack(ctx context.Context, t *testing.T, opts Options, client, outside *redis.Client, bull *fakeBull, seed uint64) {
	t.Helper()
	opts.From, opts.To, opts.Reverse = opts.To, opts.From, true
	m, err := New(client, opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Move(ctx); err != nil {
		t.Fatalf("seed %d, back: %v", seed, err)
	}
	if left, err := counts(ctx, outside, opts.From); err != nil || len(left) > 0 {
		t.Errorf("seed %d, back: left at the target %v, %v", seed, left, err)
	}
	checkNothingLostOrDoubled(ctx, t, outside, opts.From, opts.To, bull.all)
	checkOrder(ctx, t, outside, opts.To, bull)
	if n, err := outside.HLen(ctx, m.ledgerKey("undo")).Result(); err != nil || n != 0 {
		t.Errorf("seed %d: the ledger still holds %d undo lines, %v", seed, n, err)
	}
	prioritized, err := outside.ZCard(ctx, opts.To.Key("priority")).Result()
	if err != nil {
		t.Fatal(err)
	}
	waiting, err := outside.LRange(ctx, opts.To.Key("wait"), 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range waiting {
		if p, err := outside.HGet(ctx, opts.To.Key(id), "priority").Int(); err == nil && p > 0 {
			prioritized--
		}
	}
	if prioritized != 0 {
		t.Errorf("seed %d: Bull's priority index is off by %d", seed, prioritized)
	}
	if t.Failed() {
		t.Fatalf("seed %d failed on the way back", seed)
	}
}
