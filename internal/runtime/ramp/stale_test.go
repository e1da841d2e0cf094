package ramp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// A fault has a share of what a client sends fail: before it is done, or when it is done and the answer is lost.
type fault struct{ percent *atomic.Int64 }

func (fault) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f fault) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return f.strike([]redis.Cmder{cmd}, func() error { return next(ctx, cmd) })
	}
}

func (f fault) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return f.strike(cmds, func() error { return next(ctx, cmds) })
	}
}

func (f fault) strike(cmds []redis.Cmder, run func() error) error {
	n := f.percent.Load()
	if rand.Int64N(100) >= n {
		return run()
	}
	if rand.IntN(2) == 0 {
		_ = run()
	}
	for _, cmd := range cmds {
		cmd.SetErr(errGone)
	}
	return errGone
}

// A record is what became of the writes of one key, by a clock that only counts.
type record struct {
	mu     sync.Mutex
	writes []event
}

type event struct {
	value        string // empty: deleted
	begin, ended int64  // ended is 0 while it goes on
	answered     bool
}

// older is a write that was answered before a read began and that began after the one which the read found had
// ended; nil when there is none.
func (r *record) older(found string, began int64) *event {
	r.mu.Lock()
	defer r.mu.Unlock()
	ended := int64(0)
	for _, w := range r.writes {
		if w.value == found {
			ended = w.ended
		}
	}
	for i, w := range r.writes {
		if ended > 0 && w.answered && w.begin > ended && w.ended < began {
			return &r.writes[i]
		}
	}
	return nil
}

// TestNoReadIsOlderThanAWriteThatWasAnsweredBeforeIt has writers and readers of the same keys at work while both
// sides fail now and then, the ramp goes up and down, is rolled back whole, and is complete in the end.
func TestNoReadIsOlderThanAWriteThatWasAnsweredBeforeIt(t *testing.T) {
	t.Parallel()
	old, next := client(t, redistest.Start(t).Addr), client(t, redistest.Start(t).Addr)
	sides := []*redis.Client{client(t, old.Options().Addr), client(t, next.Options().Addr)}
	var percents [2]atomic.Int64
	b := newReplica(t, sides[0], sides[1], func(o *ClientOptions) { o.MirrorWait, o.Timeout = time.Millisecond, patience })
	for i, side := range sides {
		side.AddHook(fault{&percents[i]})
	}
	put := func(percent, mirror float64) {
		b.override(t, map[string]float64{Cache: percent, Mirror(Cache): mirror, Shadow(Cache): 20})
	}
	put(0, 100)
	const keys, each = 6, 250
	var clock, value, hits, writing atomic.Int64
	records := make([]record, keys)
	var group sync.WaitGroup
	last := time.Now().Add(patience)
	for range 4 {
		writing.Add(1)
		group.Go(func() {
			defer writing.Add(-1)
			for range each {
				n := rand.IntN(keys)
				b.write(t, fmt.Sprint("k", n), &records[n], &clock, fmt.Sprint(value.Add(1)))
			}
		})
		group.Go(func() {
			// Readers may be much quicker than writers: they go on with them, and until they have found something.
			for i := 0; i < 2*each || (writing.Load() > 0 || hits.Load() < each) && time.Now().Before(last); i++ {
				n := rand.IntN(keys)
				hits.Add(b.check(t, fmt.Sprint("k", n), &records[n], &clock))
			}
		})
	}
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	for step := 0; ; step++ {
		select {
		case <-done:
			for i := range percents {
				percents[i].Store(0)
			}
			put(100, 100)
			put(100, 0) // complete, wherever the writes are
			b.level(t)
			for n := range records {
				b.check(t, fmt.Sprint("k", n), &records[n], &clock)
			}
			if hits.Load() < each {
				t.Errorf("%d reads found something, want most", hits.Load())
			}
			return
		case <-time.After(5 * time.Millisecond):
		}
		for i := range percents {
			percents[i].Store([]int64{0, 0, 10, 50, 100}[rand.IntN(5)])
		}
		if step%10 == 9 { // rolled back, and begun anew some time later with nothing on the new side
			put(0, 100)
			put(0, 0)
			until(t, "nothing is on its way to the new side", func() bool {
				b.toNew.mu.Lock()
				defer b.toNew.mu.Unlock()
				return len(b.toNew.flying) == 0
			})
			if err := next.FlushDB(t.Context()).Err(); err != nil {
				t.Error(err)
			}
			put(0, 100)
			continue
		}
		put([]float64{0, 30, 50, 70, 100}[rand.IntN(5)], 100)
	}
}

// level waits until both sides have taken everything.
func (b *bed) level(t *testing.T) {
	t.Helper()
	until(t, "both sides have taken everything", func() bool {
		toOld, toNew := b.Backlogs()
		return toOld.Writes == 0 && toNew.Writes == 0
	})
}

// write does one write of key and notes it.
func (b *bed) write(t *testing.T, key string, r *record, clock *atomic.Int64, value string) {
	t.Helper()
	e := event{value: value, begin: clock.Add(1)}
	kind := rand.IntN(8)
	if kind == 0 {
		e.value = ""
	}
	r.mu.Lock()
	at := len(r.writes)
	r.writes = append(r.writes, e)
	r.mu.Unlock()
	var err error
	switch kind {
	case 0:
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		err = b.Redis().Unlink(ctx, key).Err()
		cancel()
	case 1:
		err = b.Redis().MSet(t.Context(), key, value).Err()
	case 2:
		err = b.Redis().Eval(t.Context(), "return redis.call('SET', KEYS[1], ARGV[1])", []string{key}, value).Err()
	case 3:
		_, err = b.Redis().Pipelined(t.Context(), func(p redis.Pipeliner) error {
			p.Set(t.Context(), key, value, time.Minute)
			p.SetEx(t.Context(), key, value, time.Minute)
			return nil
		})
	default:
		err = b.Redis().Set(t.Context(), key, value, 0).Err()
	}
	r.mu.Lock()
	r.writes[at].ended, r.writes[at].answered = clock.Add(1), err == nil
	r.mu.Unlock()
}

// check reads key, and is how many values it found.
func (b *bed) check(t *testing.T, key string, r *record, clock *atomic.Int64) int64 {
	t.Helper()
	began := clock.Add(1)
	found, err := b.Redis().Get(t.Context(), key).Result()
	switch {
	case errors.Is(err, redis.Nil) || errors.Is(err, errGone):
		return 0
	case err != nil:
		t.Errorf("Get %s = %v", key, err)
		return 0
	}
	if w := r.older(found, began); w != nil {
		t.Errorf("at %d %s = %s, which is older than %+v", began, key, found, *w)
	}
	return 1
}
