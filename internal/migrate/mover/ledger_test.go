package mover

import (
	"errors"
	"strings"
	"testing"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestAnOperatorWhoLostTheLeaseForgetsNoLedger(t *testing.T) {
	client := redistest.Start(t).Client(t)
	from, to := queueQ()
	client.Set(t.Context(), "lease", "other", 0)
	client.HSet(t.Context(), "led:undo", "1", "line")
	m, err := New(client, Options{From: to, To: from, Reverse: true, Ledger: "led", Fence: Fence{Key: "lease", Token: "mine"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Forget(t.Context()); !errors.Is(err, ErrFenced) {
		t.Errorf("Forget = %v, want ErrFenced", err)
	}
	if client.Exists(t.Context(), "led:undo").Val() == 0 {
		t.Error("the ledger of the other operator is gone")
	}
	client.Set(t.Context(), "lease", "mine", 0)
	if err := m.Forget(t.Context()); err != nil || client.Exists(t.Context(), "led:undo").Val() != 0 {
		t.Errorf("Forget with the lease = %v, want the ledger gone", err)
	}
}

func TestJobsAddedDuringTheWayBackGoBehindThoseThatWereThere(t *testing.T) {
	client := redistest.Start(t).Client(t)
	from, to := queueQ()
	m, err := New(client, Options{From: to, To: from, Reverse: true, Ledger: "led", ActiveTimeout: -1})
	if err != nil {
		t.Fatal(err)
	}
	for _, batch := range [][]string{{"1", "2"}, {"3"}} {
		for _, id := range batch {
			client.HSet(t.Context(), to.Key(id), plainHash(id)...)
			client.LPush(t.Context(), to.Key("wait"), id)
		}
		if _, err := m.Move(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(client.LRange(t.Context(), from.Key("wait"), 0, -1).Val(), " "); got != "3 2 1" {
		t.Errorf("Bull waits with %q, the right end runs next, want 3 2 1", got)
	}
}
