package governor

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
)

// A counting hook answers every PUBLISH with how many follow.
type counting func() int64

func (counting) DialHook(next redis.DialHook) redis.DialHook { return next }
func (counting) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (c counting) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		cmd.(*redis.IntCmd).SetVal(c())
		return nil
	}
}

// Messages and replies come on two connections: who came right after the count may be heard of before it.
func TestAHelloThatOvertakesACountOfFollowersIsNotForgotten(t *testing.T) {
	g, _ := idle(t)
	comes := true
	g.opts.Client.AddHook(counting(func() int64 {
		if comes {
			g.hear([]byte(bellVersion + " other\n" + helloLine + " " + hearsMessages + "\n"))
		}
		return 1 // this one
	}))
	for _, want := range []int64{1, 0} {
		if err := g.publish(t.Context(), helloLine+"\n"); err != nil {
			t.Fatal(err)
		}
		if got := g.Stats().Peers; got != want {
			t.Errorf("%d other replicas, want %d", got, want)
		}
		comes = false
	}
}
