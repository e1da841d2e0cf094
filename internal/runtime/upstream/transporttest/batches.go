package transporttest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

func testPipelines(t *testing.T, w way) {
	ctx := t.Context()
	for _, n := range []int{1, 50, 20_000} {
		key := func(i int) string { return w.key(fmt.Sprint(n, " ", i%7)) }
		cmds, err := w.c.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := range n {
				if i%2 == 0 {
					p.Set(ctx, key(i/2), i, 0)
				} else {
					p.Get(ctx, key(i/2))
				}
			}
			return nil
		})
		if err != nil {
			t.Errorf("a pipeline of %d: %v", n, err)
			continue
		}
		for i := 1; i < n; i += 2 {
			if got := cmds[i].(*redis.StringCmd).Val(); got != fmt.Sprint(i-1) {
				t.Errorf("a pipeline of %d: reply %d = %q: the order is lost", n, i, got)
				break
			}
		}
	}
}

func testPipelineErrors(t *testing.T, w way) {
	ctx, k := t.Context(), w.key("s")
	cmds, err := w.c.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, k, "x", 0)
		p.HGet(ctx, k, "f")
		p.Get(ctx, w.key("missing"))
		p.Do(ctx, "get")
		p.Append(ctx, k, "y")
		return nil
	})
	if err == nil || !strings.HasPrefix(err.Error(), "WRONGTYPE") {
		t.Errorf("Pipelined = %v, want the first error", err)
	}
	if got := cmds[4].(*redis.IntCmd); got.Err() != nil || got.Val() != 2 {
		t.Errorf("the command after the errors = %d, %v, want 2", got.Val(), got.Err())
	}
	if !errors.Is(cmds[2].Err(), redis.Nil) || cmds[3].Err() == nil || cmds[0].Err() != nil {
		t.Errorf("the errors are %v, %v, %v: not with their commands", cmds[0].Err(), cmds[2].Err(), cmds[3].Err())
	}
}

func testTransactions(t *testing.T, w way) {
	ctx, k := t.Context(), w.key("n")
	var get *redis.StringCmd
	cmds, err := w.c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, k, 5, 0)
		p.Incr(ctx, k)
		get = p.Get(ctx, k)
		p.Get(ctx, w.key("missing"))
		p.ZAdd(ctx, w.key("z"), redis.Z{Score: 1.25, Member: "é"})
		p.ZRangeWithScores(ctx, w.key("z"), 0, -1)
		p.HSet(ctx, w.key("h"), "a", "OK")
		p.HGetAll(ctx, w.key("h"))
		return nil
	})
	if !errors.Is(err, redis.Nil) {
		t.Errorf("TxPipelined = %v, want redis.Nil of the missing key", err)
	}
	if get.Val() != "6" || cmds[5].(*redis.ZSliceCmd).Val()[0].Score != 1.25 || cmds[7].(*redis.MapStringStringCmd).Val()["a"] != "OK" {
		t.Errorf("replies = %v", cmds)
	}
	done := make(chan error)
	for range 20 {
		go func() {
			_, err := w.c.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Incr(ctx, w.key("a"))
				p.Incr(ctx, w.key("b"))
				return nil
			})
			done <- err
		}()
	}
	for range 20 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	got, err := w.c.MGet(ctx, w.key("a"), w.key("b")).Result()
	if err != nil || fmt.Sprint(got) != "[20 20]" {
		t.Errorf("after 20 transactions at once = %v, %v, want 20 and 20", got, err)
	}
}

func testFailedTransactions(t *testing.T, w way) {
	ctx, k := t.Context(), w.key("n")
	if err := w.c.Set(ctx, k, 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	cmds, err := w.c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Incr(ctx, k)
		p.HGet(ctx, k, "f")
		p.Incr(ctx, k)
		return nil
	})
	if err == nil || !strings.HasPrefix(err.Error(), "WRONGTYPE") || cmds[2].(*redis.IntCmd).Val() != 3 {
		t.Errorf("a command that fails = %v, %v: want its error, and the others run", err, cmds)
	}
	if _, err = w.c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Incr(ctx, k)
		p.Do(ctx, "get")
		return nil
	}); err == nil {
		t.Error("a transaction with a command that is no command: got no error")
	}
	got, err := w.c.Get(ctx, k).Result()
	equal(t, "what a discarded transaction left alone", got, err, "3")
}

func testScripts(t *testing.T, w way) {
	ctx := t.Context()
	script := redis.NewScript(`-- ` + w.at + `
redis.call("set", KEYS[1], ARGV[1])
return {KEYS[1], ARGV[2], redis.call("incr", KEYS[1])}`)
	for i := range 3 { // the first finds no script
		got, err := script.Run(ctx, w.c, []string{w.key("k")}, 41+i, "é").Result()
		if want := fmt.Sprint([]any{w.key("k"), "é", int64(42 + i)}); err != nil || fmt.Sprint(got) != want {
			t.Errorf("run %d = %v, %v, want %s", i, got, err, want)
		}
	}
	err := w.c.Eval(ctx, `return redis.error_reply("MYERR of the script")`, nil).Err()
	if err == nil || !strings.HasPrefix(err.Error(), "MYERR of the script") {
		t.Errorf("a script's own error = %v", err)
	}
	ok, err := w.c.Eval(ctx, `return redis.status_reply("FINE")`, nil).Result()
	equal(t, "a script's status", ok, err, any("FINE"))
}
