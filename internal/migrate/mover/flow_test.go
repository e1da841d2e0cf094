package mover

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestAChildThatSomebodyWaitsForDoesNotBecomeAPlainJob(t *testing.T) {
	for name, leave := range map[string]bool{"by default": false, "unless flows are left": true} {
		t.Run(name, func(t *testing.T) {
			client := redistest.Start(t).Client(t)
			from, to := queueQ()
			child := append(plainHash("1"), "parentKey", "mq:parents:9", "parent", `{"id":"9","queueKey":"mq:parents"}`)
			client.HSet(t.Context(), to.Key("1"), child...)
			client.LPush(t.Context(), to.Key("wait"), "1")
			m, err := New(client, Options{From: to, To: from, Reverse: true, Ledger: "led", ActiveTimeout: -1, LeaveFlows: leave})
			if err != nil {
				t.Fatal(err)
			}
			result, err := m.Move(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			moved := client.Exists(t.Context(), from.Key("1")).Val() == 1
			held := len(result.Skipped) == 1 && result.Skipped[0].Rule == "flow"
			if moved != leave || held == leave {
				t.Errorf("moved %v, skipped %v, want it moved only when flows are left", moved, result.Skipped)
			}
		})
	}
}

func TestOnlyKeysOfTheQueueAreDeletedFromTheRateLimitersIndex(t *testing.T) {
	client := redistest.Start(t).Client(t)
	bull := Endpoint{Bull, 4, "bull", "q"}
	client.HSet(t.Context(), bull.Key("1"), plainHash("1")...)
	client.LPush(t.Context(), bull.Key("wait"), "1")
	client.HSet(t.Context(), bull.Key("limiter:index"), "1", bull.Key("limiter:a:limited"), "2", "session:42")
	client.ZAdd(t.Context(), bull.Key("limiter:a:limited"), redis.Z{Score: 1, Member: "1"})
	client.Set(t.Context(), "session:42", "somebody else's", 0)
	m, err := New(client, Options{From: bull, To: Endpoint{BullMQ, 6, "bull", "q"}, Ledger: "led", ActiveTimeout: -1, WorkersStopped: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Move(t.Context()); err != nil {
		t.Fatal(err)
	}
	if client.Exists(t.Context(), bull.Key("limiter:a:limited")).Val() != 0 || client.Exists(t.Context(), "session:42").Val() != 1 {
		t.Error("want the set of the limited jobs gone, and the key of somebody else kept")
	}
}
