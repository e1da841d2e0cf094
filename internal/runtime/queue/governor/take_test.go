package governor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestWhatIsWrongInOneQueueLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	client := s.Client(t)
	ran := int64(0)
	g, err := New(Options{Client: client, Jobs: s.Client(t), Queues: []string{"fine", "paused", "broken", "hollow"}, InScript: func(_ string, n int64) { ran += n }})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for _, id := range []string{"1", "2", "3"} {
		client.HSet(ctx, "asynq:{fine}:t:"+id, "msg", "fine-"+id, "state", "pending", "pending_since", "1")
		client.LPush(ctx, "asynq:{fine}:pending", id)
	}
	client.HSet(ctx, "asynq:{paused}:t:1", "msg", "paused-1", "state", "pending")
	client.LPush(ctx, "asynq:{paused}:pending", "1")
	client.Set(ctx, "asynq:{paused}:paused", "1", 0)
	client.Set(ctx, "asynq:{broken}:pending", "no list", 0)
	client.LPush(ctx, "asynq:{hollow}:pending", "gone")

	var picked []*queue
	for _, name := range []string{"fine", "broken", "paused", "fine", "hollow", "fine", "fine"} {
		picked = append(picked, g.queues[name])
	}
	ends := time.Now().Add(time.Minute).Unix()
	var got []string
	for _, a := range g.takeTogether(ctx, ends, picked) {
		switch {
		case errors.Is(a.err, redis.Nil):
			got = append(got, "none")
		case a.err != nil && refusedByServer(a.err) && strings.HasPrefix(a.err.Error(), "WRONGTYPE"):
			got = append(got, "wrong type")
		case a.err != nil:
			got = append(got, a.err.Error())
		default:
			got = append(got, a.text)
		}
	}
	if diff := cmp.Diff([]string{"fine-1", "wrong type", "none", "fine-2", "", "fine-3", "none"}, got); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"msg": "fine-1", "state": "active"}, client.HGetAll(ctx, "asynq:{fine}:t:1").Val()); diff != "" {
		t.Errorf("job (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"3", "2", "1"}, client.LRange(ctx, "asynq:{fine}:active", 0, -1).Val()); diff != "" {
		t.Errorf("active (-want +got):\n%s", diff)
	}
	for name, want := range map[string]int64{"fine": 3, "paused": 0, "broken": 0, "hollow": 1} {
		if n := client.ZCount(ctx, "asynq:{"+name+"}:lease", "("+"0", "+inf").Val(); n != want {
			t.Errorf("%s: %d leases, want %d", name, n, want)
		}
	}
	if n := client.LLen(ctx, "asynq:{paused}:pending").Val(); n != 1 {
		t.Errorf("%d jobs wait in the paused queue, want the one", n)
	}
	// One look at all and four at each; three jobs and the end, one that fails, and the hollow one.
	if want := int64(1 + 4 + 3*5 + 1 + 1 + 5); ran != want {
		t.Errorf("%d commands said, want %d", ran, want)
	}
}

// Who shuts down ends what puts jobs back otherwise, and they would wait for the end of their leases.
func TestPutBackWaitsForWhatIsBeingPutBack(t *testing.T) {
	g, q := idle(t)
	synctest.Test(t, func(t *testing.T) {
		g.putting = make(chan struct{}, 1) // of the bubble
		goOn := make(chan struct{})
		g.opts.Return = func(context.Context, string, []byte) error {
			<-goOn
			return nil
		}
		g.back = []returned{{fetched{q: q, message: append([]byte{taskIDField<<3 | bytesField, 1}, "1"...)}, time.Now()}}
		go g.putBackSoon(t.Context())
		synctest.Wait()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			g.PutBack(t.Context())
		}()
		synctest.Wait()
		select {
		case <-ended:
			t.Error("PutBack has returned, and a job is under way")
		default:
		}
		close(goOn)
		<-ended
		if n := g.Stats().PutBack; n != 1 {
			t.Errorf("%d jobs put back, want one", n)
		}
	})
}
