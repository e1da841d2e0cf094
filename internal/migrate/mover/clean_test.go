package mover

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// TestCleanLeavesJobsAsIfTheyHadBeenAddedAtAsynq: only what asynq and redisopt's own queues know stays.
func TestCleanLeavesJobsAsIfTheyHadBeenAddedAtAsynq(t *testing.T) {
	client := redistest.Start(t).Client(t)
	ctx := t.Context()
	restore(ctx, t, client, withoutLocks(capturedBull(t)))
	from := Endpoint{Bull, 4, "bull", "suggestion-generation"}
	fillWith(ctx, t, client, from, 300, editedJob)
	mustMove(ctx, t, client, toAsynq(from))
	born := asynqQueue(from.Queue).jobKey("born")
	client.HSet(ctx, born, "msg", "m", "name", "its own")

	opts := fromAsynq(from)
	opts.Fence = Fence{Key: "lease", Token: "mine"}
	m, err := New(client, opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Clean(ctx); !errors.Is(err, ErrFenced) {
		t.Fatalf("without the lease: %v, want ErrFenced", err)
	}
	before := dump(ctx, t, client, "asynq:*")
	client.Set(ctx, "lease", "mine", 0)
	jobs, err := m.Leftovers(ctx)
	if err != nil || jobs < 50 {
		t.Fatalf("leftovers: %d, %v", jobs, err)
	}
	client.ConfigResetStat(ctx)
	n, err := m.Clean(ctx)
	if err != nil || n != jobs {
		t.Errorf("cleaned %d jobs of %d, %v", n, jobs, err)
	}
	total := int64(0)
	for _, n := range calls(t, client) {
		total += n
	}
	if limit := 2*jobs + 3*(jobs/100+18) + jobs/100 + 40; total > limit {
		t.Errorf("cost %d commands for %d jobs, want at most %d", total, jobs, limit)
	}
	known := map[string]bool{"msg": true, "state": true, "pending_since": true, "result": true, "unique_key": true, "progress": true}
	after := dump(ctx, t, client, "asynq:*")
	for _, k := range after {
		if hash, ok := k.Value.(map[string]string); ok && strings.Contains(k.Name, ":t:") && k.Name != born {
			for field := range hash {
				if !known[field] {
					t.Errorf("%s still has the field %s", k.Name, field)
				}
			}
		}
	}
	if diff := cmp.Diff(strip(before, known), strip(after, known)); diff != "" {
		t.Errorf("cleaning changed more than what was left over (-before +after):\n%s", diff)
	}
	if client.HGet(ctx, born, "name").Val() != "its own" {
		t.Error("a job that was added at asynq lost a field")
	}
	if n, err := m.Clean(ctx); n != 0 || err != nil {
		t.Errorf("a second time: %d, %v, want none", n, err)
	}
}

// strip takes out of the hashes of jobs all fields but those that are known, and out of all keys how long they live.
func strip(keys []capture.Key, known map[string]bool) []capture.Key {
	for i, k := range keys {
		keys[i].TTL = 0
		if hash, ok := k.Value.(map[string]string); ok && strings.Contains(k.Name, ":t:") {
			for field := range hash {
				if !known[field] {
					delete(hash, field)
				}
			}
		}
	}
	return keys
}
