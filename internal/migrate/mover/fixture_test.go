package mover

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// capturedQueues are the queues in the capture and in the dumps of both BullMQ versions.
func capturedQueues() [][2]string {
	return [][2]string{{"bull", "suggestion-generation"}, {"bull", "calendar-sync"}, {"{bull}", "token-refresh"}}
}

// hashID names every scheduler after its occurrence, as the expected files do.
func hashID(r Repeat) string { return r.Hash }

func loadDump(tb testing.TB, name string) []capture.Key {
	tb.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	keys, err := capture.Parse(raw)
	if err != nil {
		tb.Fatal(err)
	}
	return keys
}

func capturedBull(tb testing.TB) []capture.Key {
	tb.Helper()
	keys, err := capture.Bull()
	if err != nil {
		tb.Fatal(err)
	}
	return keys
}

// withoutLocks drops the locks that the recorded worker left, as if they had expired.
func withoutLocks(keys []capture.Key) []capture.Key {
	return slices.DeleteFunc(slices.Clone(keys), func(k capture.Key) bool { return strings.HasSuffix(k.Name, ":lock") })
}

// restore writes keys; what would expire within half a minute of a test that takes longer stays for an hour.
func restore(ctx context.Context, tb testing.TB, client redis.UniversalClient, keys []capture.Key) {
	tb.Helper()
	keys = slices.Clone(keys)
	for i := range keys {
		if keys[i].TTL > 0 {
			keys[i].TTL = time.Hour
		}
	}
	if err := capture.Restore(ctx, client, keys); err != nil {
		tb.Fatal(err)
	}
}

// dump reads everything but the ledgers.
func dump(ctx context.Context, tb testing.TB, client redis.UniversalClient, match string) []capture.Key {
	tb.Helper()
	keys, err := capture.Dump(ctx, client, match)
	if err != nil {
		tb.Fatal(err)
	}
	return slices.DeleteFunc(keys, func(k capture.Key) bool { return strings.HasPrefix(k.Name, "redisopt:") })
}

func mustMove(ctx context.Context, tb testing.TB, client redis.UniversalClient, opts Options) Result {
	tb.Helper()
	m, err := New(client, opts)
	if err != nil {
		tb.Fatal(err)
	}
	result, err := m.Move(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	return result
}

func report(tb testing.TB, diffs []capture.Difference) {
	tb.Helper()
	for _, d := range diffs {
		tb.Errorf("differs: %s", d)
	}
}

func TestInPlaceConversionEqualsTheProvenOutput(t *testing.T) {
	client := redistest.Start(t).Client(t)
	for _, major := range []int{5, 6} {
		for _, order := range []Order{Keep, ByPriority} {
			t.Run(fmt.Sprintf("bull to bullmq %d, %s", major, order), func(t *testing.T) {
				ctx := t.Context()
				client.FlushAll(ctx)
				restore(ctx, t, client, withoutLocks(capturedBull(t)))
				for _, q := range capturedQueues() {
					mustMove(ctx, t, client, Options{
						From: Endpoint{Bull, 4, q[0], q[1]}, To: Endpoint{BullMQ, major, q[0], q[1]},
						Order: order, SchedulerID: hashID, ActiveTimeout: -1,
					})
				}
				report(t, capture.Compare(loadDump(t, fmt.Sprintf("expected-bull-to-bullmq%d-%s.json", major, order)), dump(ctx, t, client, "*")))
			})
		}
		t.Run(fmt.Sprintf("bullmq %d to bull", major), func(t *testing.T) {
			ctx := t.Context()
			client.FlushAll(ctx)
			name := map[int]string{5: "bullmq-5.81.5.json", 6: "bullmq-6.7.0.json"}[major]
			restore(ctx, t, client, withoutLocks(loadDump(t, name)))
			for _, q := range append(capturedQueues(), [2]string{"bull", "webhook-renewal"}) {
				mustMove(ctx, t, client, Options{
					From: Endpoint{BullMQ, major, q[0], q[1]}, To: Endpoint{Bull, 4, q[0], q[1]},
					LeaveFlows: true, ActiveTimeout: -1,
				})
			}
			report(t, capture.Compare(loadDump(t, fmt.Sprintf("expected-bullmq%d-to-bull.json", major)), dump(ctx, t, client, "*")))
		})
	}
}
