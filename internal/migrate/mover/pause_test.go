package mover

import (
	"context"
	"strings"
	"testing"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestAQueueThatWasResumedAtTheTargetIsNotPausedAfterTheWayBack(t *testing.T) {
	for _, major := range []int{5, 6} {
		ctx := t.Context()
		client := redistest.Start(t).Client(t)
		from, to := queueQ()
		to.Major = major
		client.Set(ctx, from.Key("meta-paused"), "1", 0)
		client.HSet(ctx, from.Key("meta"), "paused", "1")
		put(ctx, client, from, []placed{{id: "1", container: "paused"}})
		mustMove(ctx, t, client, Options{From: from, To: to, ActiveTimeout: -1})
		if !client.HExists(ctx, to.Key("meta"), "paused").Val() {
			t.Error("the pause was not carried over")
		}
		client.HDel(ctx, to.Key("meta"), "paused")
		client.Rename(ctx, to.Key("paused"), to.Key("wait"))
		back := Options{From: to, To: from, Reverse: true, Ledger: "redisopt:ledger:" + from.Prefix + ":" + from.Queue, ActiveTimeout: -1}
		mustMove(ctx, t, client, back)
		if n := client.Exists(ctx, from.Key("meta-paused"), from.Key("paused")).Val(); n > 0 || client.HExists(ctx, from.Key("meta"), "paused").Val() {
			t.Errorf("Bull is still paused")
		}
		if got := strings.Join(client.LRange(ctx, from.Key("wait"), 0, -1).Val(), " "); got != "1" {
			t.Errorf("wait is %q", got)
		}
		// Whoever pauses Bull now means it.
		client.Set(ctx, from.Key("meta-paused"), "1", 0)
		client.Rename(ctx, from.Key("wait"), from.Key("paused"))
		mustMove(ctx, t, client, back)
		if client.Exists(ctx, from.Key("meta-paused")).Val() == 0 {
			t.Error("a pause of the operator's was ended")
		}
	}
}

func TestAQueueThatWasNeverMovedStaysPausedOnTheWayBack(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	from, to := queueQ()
	client.Set(ctx, from.Key("meta-paused"), "1", 0)
	put(ctx, client, from, []placed{{id: "1", container: "paused"}})
	mustMove(ctx, t, client, Options{From: to, To: from, Reverse: true, Ledger: "led", ActiveTimeout: -1})
	if client.Exists(ctx, from.Key("meta-paused"), from.Key("paused")).Val() != 2 {
		t.Error("Bull was resumed")
	}
}

func TestAPauseOfTheSourceWhileItIsMovedIsCarriedOverBeforeTheNextJob(t *testing.T) {
	for at := 3; at < 16; at++ {
		ctx := t.Context()
		s := redistest.Start(t)
		client, outside := s.Client(t), s.Client(t)
		from, to := queueQ()
		put(ctx, client, from, []placed{
			{id: "1", container: "wait"}, {id: "2", container: "wait"}, {id: "3", container: "wait"}, {id: "4", container: "wait"},
		})
		n, moved := 0, int64(-1)
		client.AddHook(&betweenHook{run: func(context.Context) {
			if n++; n != at {
				return
			}
			moved = outside.LLen(ctx, to.Key("wait")).Val()
			if outside.Exists(ctx, from.Key("wait")).Val() == 1 {
				outside.Rename(ctx, from.Key("wait"), from.Key("paused"))
			}
			outside.Set(ctx, from.Key("meta-paused"), 1, 0)
			outside.HSet(ctx, from.Key("meta"), "paused", 1)
		}})
		mustMove(ctx, t, client, Options{From: from, To: to, ChunkSize: 1, ActiveTimeout: -1})
		if moved < 0 || moved == 4 {
			continue
		}
		if !client.HExists(ctx, to.Key("meta"), "paused").Val() {
			t.Errorf("paused before script %d with %d moved: BullMQ is not paused", at, moved)
		}
		if got := client.LLen(ctx, to.Key("wait")).Val() + client.LLen(ctx, to.Key("paused")).Val(); got != 4 {
			t.Errorf("paused before script %d with %d moved: %d of 4 at the target", at, moved, got)
		}
	}
}

func TestInPlaceBothListsBecomeTheOneThatTheNextPauseOrResumeSpares(t *testing.T) {
	for _, c := range []struct {
		name         string
		pausedFlag   bool
		wait, paused []string // as pushed left, oldest first
		list, want   string
	}{
		{"a paused queue has one list, older jobs right", true, []string{"3", "4"}, []string{"1", "2"}, "paused", "4 3 2 1"},
		{"a longer paused list gets the shorter one", true, []string{"3", "4"}, []string{"0", "1", "2"}, "paused", "4 3 2 1 0"},
		{"an old paused list of a queue that is not paused", false, []string{"3", "4"}, []string{"1"}, "wait", "4 3 1"},
		{"nothing but an old paused list", false, nil, []string{"1"}, "wait", "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := t.Context()
			client := redistest.Start(t).Client(t)
			bull, mq := Endpoint{Bull, 4, "bull", "q"}, Endpoint{BullMQ, 6, "bull", "q"}
			var jobs []placed
			for _, id := range c.wait {
				jobs = append(jobs, placed{id: id, container: "wait"})
			}
			for _, id := range c.paused {
				jobs = append(jobs, placed{id: id, container: "paused"})
			}
			put(ctx, client, mq, jobs)
			client.HSet(ctx, mq.Key("meta"), "version", "bullmq:6.7.0")
			if c.pausedFlag {
				client.HSet(ctx, mq.Key("meta"), "paused", "1")
			}
			mustMove(ctx, t, client, Options{From: mq, To: bull, Reverse: true, Ledger: "led", ActiveTimeout: -1})
			if got := strings.Join(client.LRange(ctx, bull.Key(c.list), 0, -1).Val(), " "); got != c.want {
				t.Errorf("%s is %q, want %q", c.list, got, c.want)
			}
			if n := client.Exists(ctx, bull.Key("wait"), bull.Key("paused")).Val(); n != 1 {
				t.Errorf("there are %d lists", n)
			}
		})
	}
}
