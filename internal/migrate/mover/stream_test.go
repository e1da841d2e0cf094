package mover

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// TestTwoScriptsUnderWayAskThePaceForEveryJobAndStopWhenItSaysSo: what was asked for may go, and nothing else.
func TestTwoScriptsUnderWayAskThePaceForEveryJobAndStopWhenItSaysSo(t *testing.T) {
	client := redistest.Start(t).Client(t)
	ctx := t.Context()
	from, _ := queueQ()
	const n, limit = 2000, 700
	fill(ctx, t, client, from, n)
	errEnough := errors.New("enough")
	var mu sync.Mutex
	asked, limited := 0, true
	opts := toAsynq(from)
	opts.ChunkSize = 20
	opts.Pace = func(_ context.Context, jobs int) error {
		mu.Lock()
		defer mu.Unlock()
		if limited && asked+jobs > limit {
			return errEnough
		}
		asked += jobs
		return nil
	}
	told := int64(0)
	opts.OnProgress = func(p Progress) { told = p.Moved }
	m, err := New(client, opts)
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.Move(ctx)
	moved := client.LLen(ctx, opts.To.Key("pending")).Val()
	if !errors.Is(err, errEnough) || r.Moved[Waiting] != moved || told != moved || moved > int64(asked) || moved < limit-40 {
		t.Fatalf("moved %d as the result says, %d as was told and %d at asynq, asked for %d, %v", r.Moved[Waiting], told, moved, asked, err)
	}
	if left := client.LLen(ctx, from.Key("wait")).Val(); left+moved != n {
		t.Errorf("%d jobs at the source and %d at asynq, want %d in all", left, moved, n)
	}
	limited = false
	if r, err = m.Move(ctx); err != nil || r.Moved[Waiting] != n-moved {
		t.Errorf("the rest: %v, %v", r.Moved, err)
	}
	if asked < n || asked > n+10*20 {
		t.Errorf("asked for %d jobs to move %d", asked, n)
	}
}

// TestAMoveToAsynqIsNoFasterThanTheRateOfItsHost: a slow machine makes it slower, never faster.
func TestAMoveToAsynqIsNoFasterThanTheRateOfItsHost(t *testing.T) {
	client := redistest.Start(t).Client(t)
	ctx := t.Context()
	from, _ := queueQ()
	const n, rate = 3000, 3000
	fill(ctx, t, client, from, n)
	var pace migrate.Pace
	pace.SetRate(rate)
	opts := toAsynq(from)
	opts.ChunkSize, opts.Pace = defaultChunk, pace.Wait
	start := time.Now()
	mustMove(ctx, t, client, opts)
	if perSecond := n / time.Since(start).Seconds(); perSecond > 1.05*rate {
		t.Errorf("%.0f jobs a second, want at most %d and 5%%", perSecond, rate)
	}
}
