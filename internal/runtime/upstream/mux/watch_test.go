package mux_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// busy keeps the server from answering for ARGV[1] microseconds, and answers ARGV[2].
const busy = `
local function now() local t = redis.call('TIME') return t[1] * 1000000 + t[2] end
local start = now()
while now() - start < tonumber(ARGV[1]) do end
return ARGV[2]`

func TestACallThatTimedOutIsUsedAgain(t *testing.T) {
	m := open(t, redistest.Start(t), mux.Options{Timeout: patience}) // however slow the server, the connection stays
	var answered, late, left atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			c := m.NewCall(meter.Gateway)
			defer c.Release()
			for n := range 60 {
				c.Reset(meter.Gateway)
				want := fmt.Sprintf("%d-%d", i, n)
				if err := add(c, "EVAL", busy, "0", fmt.Sprint(rand.IntN(10)/9*10_000), want); err != nil {
					t.Error(err)
					return
				}
				ctx, cancel := context.Background(), func() {}
				switch n % 4 { // a timeout, the end of a context, both; what is left is answered on any machine
				case 0:
					c.SetTimeout(time.Duration(1+rand.IntN(20)) * time.Millisecond)
				case 1:
					ctx, cancel = context.WithTimeout(ctx, time.Duration(1+rand.IntN(20))*time.Millisecond)
				case 2:
					c.SetTimeout(time.Duration(1+rand.IntN(20)) * time.Millisecond)
					ctx, cancel = context.WithCancel(ctx)
					time.AfterFunc(time.Duration(1+rand.IntN(20))*time.Millisecond, cancel)
				}
				err := m.Do(ctx, c)
				cancel()
				switch {
				case err == nil:
					answered.Add(1)
					if got := string(c.Reply()); got != fmt.Sprintf("$%d\r\n%s\r\n", len(want), want) {
						t.Errorf("got %q, want %s", got, want)
						return
					}
				case errors.Is(err, context.DeadlineExceeded):
					late.Add(1)
				case errors.Is(err, context.Canceled):
					left.Add(1)
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if answered.Load() == 0 || late.Load() == 0 || left.Load() == 0 {
		t.Errorf("%d answered, %d late, %d left, want some of each", answered.Load(), late.Load(), left.Load())
	}
}
