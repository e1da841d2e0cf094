package mover

import (
	"strings"
	"testing"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestWhatAnUpdateOfAnAbsentJobLeftIsNamedAndNotTakenForAJob(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	from, to := queueQ()
	put(ctx, client, from, []placed{{id: "1", container: "wait"}, {id: "2", container: "wait"}, {id: "3", container: "wait"}})
	for _, way := range []Options{
		{From: from, To: to, Ledger: "led", ActiveTimeout: -1},
		{From: to, To: from, Ledger: "led", ActiveTimeout: -1, Reverse: true},
	} {
		key := way.To.Key("2")
		client.HSet(ctx, key, "progress", "5")
		r := mustMove(ctx, t, client, way)
		if len(r.Skipped) != 1 || r.Skipped[0].Rule != "phantom" || r.Skipped[0].JobID != "2" || !strings.Contains(r.Skipped[0].Message, key) {
			t.Errorf("%s: skipped %v", way.To, r.Skipped)
		}
		if client.HGet(ctx, key, "progress").Val() != "5" {
			t.Errorf("%s was deleted", key)
		}
		client.Del(ctx, key)
		if r := mustMove(ctx, t, client, way); len(r.Skipped) > 0 {
			t.Errorf("%s: skipped %v after the key was deleted", way.To, r.Skipped)
		}
		if n := client.LLen(ctx, way.To.Key("wait")).Val(); n != 3 {
			t.Errorf("%s: %d of 3 jobs", way.To, n)
		}
	}
}

func TestAPhantomUnderAJobThatIsMovedUnseenIsNamedToo(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	from, to := queueQ()
	client.Set(ctx, from.Key("id"), 400, 0)
	fill(ctx, t, client, from, 300)
	ids := client.LRange(ctx, from.Key("wait"), 0, 0).Val() // the last to move
	client.HSet(ctx, to.Key(ids[0]), "progress", "5")
	r := mustMove(ctx, t, client, Options{From: from, To: to, ChunkSize: 10, ActiveTimeout: -1})
	if len(r.Skipped) != 1 || r.Skipped[0].Rule != "phantom" || r.Skipped[0].JobID != ids[0] {
		t.Errorf("skipped %v", r.Skipped)
	}
}
