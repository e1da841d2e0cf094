package mover

import (
	"fmt"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// target is where a captured queue is moved to: the same hash tag, another prefix.
func target(prefix string) string {
	if prefix == "bull" {
		return "mq"
	}
	return "{bull}:mq"
}

func TestRoundTripOnAnotherPrefixEqualsTheCapture(t *testing.T) {
	t.Run("redis-server", func(t *testing.T) { roundTrips(t, redistest.Start(t).Client(t)) })
	t.Run("miniredis", func(t *testing.T) {
		client := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
		defer func() { _ = client.Close() }()
		roundTrips(t, client)
	})
}

func roundTrips(t *testing.T, client *redis.Client) {
	t.Helper()
	for _, major := range []int{5, 6} {
		for _, order := range []Order{Keep, ByPriority} {
			t.Run(fmt.Sprintf("bullmq %d, %s", major, order), func(t *testing.T) {
				ctx := t.Context()
				client.FlushAll(ctx)
				before := withoutLocks(capturedBull(t))
				restore(ctx, t, client, before)
				for _, q := range capturedQueues() {
					from := Endpoint{Bull, 4, q[0], q[1]}
					to := Endpoint{BullMQ, major, target(q[0]), q[1]}
					there := mustMove(ctx, t, client, Options{From: from, To: to, Order: order, ActiveTimeout: -1, WorkersStopped: true})
					if len(there.Skipped) > 0 || len(there.Held) > 0 {
						t.Errorf("%s: skipped %v, held %v", q[1], there.Skipped, there.Held)
					}
					left, err := counts(ctx, client, from)
					if err != nil || len(left) > 0 {
						t.Errorf("%s: left at the source %v, %v", q[1], left, err)
					}
				}
				for _, q := range capturedQueues() {
					to := Endpoint{Bull, 4, q[0], q[1]}
					from := Endpoint{BullMQ, major, target(q[0]), q[1]}
					back := mustMove(ctx, t, client, Options{From: from, To: to, Order: order, Reverse: true, ActiveTimeout: -1, WorkersStopped: true})
					if len(back.Skipped) > 0 || len(back.Held) > 0 {
						t.Errorf("%s: skipped %v, held %v", q[1], back.Skipped, back.Held)
					}
					left, err := counts(ctx, client, from)
					if err != nil || len(left) > 0 {
						t.Errorf("%s: left at the target %v, %v", q[1], left, err)
					}
				}
				after := append(dump(ctx, t, client, "bull:*"), dump(ctx, t, client, "{bull}:token*")...)
				for _, d := range capture.Compare(before, after) {
					if !allowedAfterRoundTrip(d) {
						t.Errorf("differs: %s", d)
					}
				}
			})
		}
	}
}

// allowedAfterRoundTrip are the differences that a way there and back makes: the counter covers every
// id, and the job whose worker died while it was active waits for its next try.
func allowedAfterRoundTrip(d capture.Difference) bool {
	switch d.Key {
	case "bull:suggestion-generation:id":
		return d.Was == `"32"` && d.Is == `"777"`
	case "bull:suggestion-generation:active":
		return d.Was == "[12]" && d.Is == ""
	case "bull:suggestion-generation:wait":
		return strings.Replace(d.Is, " 12", "", 1) == d.Was
	}
	return false
}
