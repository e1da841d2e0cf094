package mover

import (
	"context"
	"testing"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestTheIDCounterCoversAJobThatChangedWhenItWasFirstClaimed(t *testing.T) {
	ctx := t.Context()
	s := redistest.Start(t)
	client, outside := s.Client(t), s.Client(t)
	from, to := queueQ()
	put(ctx, client, from, []placed{{id: "9000000", container: "wait"}})
	for at := range 12 { // one of them is between the look at the job and its claim
		n := 0
		client.AddHook(&betweenHook{run: func(context.Context) {
			if n++; n == at {
				outside.HSet(ctx, from.Key("9000000"), "priority", "1")
			}
		}})
		mustMove(ctx, t, client, Options{From: from, To: to, ActiveTimeout: -1})
		if got, _ := client.Get(ctx, to.Key("id")).Int64(); client.Exists(ctx, to.Key("9000000")).Val() != 1 || got < 9000000 {
			t.Errorf("changed before script %d: the counter at the target is %d", at, got)
		}
		client.FlushAll(ctx)
		put(ctx, client, from, []placed{{id: "9000000", container: "wait"}})
	}
}
