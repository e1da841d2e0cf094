package transporttest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// slow runs for 150ms on the server, whose clock it asks.
const slow = `local from = redis.call("time")
local now = from
repeat now = redis.call("time") until (now[1]-from[1])*1000000 + (now[2]-from[2]) > 150000
return "done"`

func testDeadlines(t *testing.T, w way) {
	begin := time.Now()
	err := w.c.Eval(within(t, 30*time.Millisecond), slow, nil).Err()
	if took := time.Since(begin); err == nil || upstream.Classify(err) != upstream.Timedout || took > 10*time.Second {
		t.Errorf("a command that takes longer than the deadline = %v of class %q after %s, want %q in time", err, upstream.Classify(err), took, upstream.Timedout)
	}
	if err := w.c.Get(within(t, time.Nanosecond), w.key("k")).Err(); err == nil || errors.Is(err, redis.Nil) {
		t.Errorf("a deadline that has passed = %v, want an error", err)
	}
	got, err := w.c.Set(within(t, time.Minute), w.key("k"), "v", 0).Result()
	equal(t, "Set after a deadline", got, err, "OK")
}

func testCancel(t *testing.T, w way) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := w.c.Set(ctx, w.key("k"), "v", 0).Err()
	if !errors.Is(err, context.Canceled) || upstream.Classify(err) != upstream.Canceled {
		t.Errorf("Set = %v of class %q, want context.Canceled", err, upstream.Classify(err))
	}
	if _, err := w.c.Get(t.Context(), w.key("k")).Result(); !errors.Is(err, redis.Nil) {
		t.Errorf("Get = %v, want redis.Nil: nothing was sent", err)
	}
}

func testConcurrency(t *testing.T, w way) {
	ctx := within(t, time.Minute)
	var wg sync.WaitGroup
	for g := range 100 {
		wg.Go(func() {
			c := w.u.As([]meter.Component{meter.Cache, meter.RateLimit, meter.SMS}[g%3])
			key, value := w.key(fmt.Sprint(g)), strings.Repeat(fmt.Sprint(g, " "), 20)
			for i := range 5 {
				if err := c.Set(ctx, key, value+fmt.Sprint(i), 0).Err(); err != nil {
					t.Errorf("Set: %v", err)
					return
				}
				if got, err := c.Get(ctx, key).Result(); err != nil || got != value+fmt.Sprint(i) {
					t.Errorf("Get = %q, %v, want %q: replies went astray", got, err, value)
					return
				}
			}
			if err := c.Incr(ctx, w.key("sum")).Err(); err != nil {
				t.Errorf("Incr: %v", err)
			}
		})
	}
	wg.Wait()
	got, err := w.c.Get(ctx, w.key("sum")).Result()
	equal(t, "the sum of all", got, err, "100")
}

func testBlocking(t *testing.T, w way) {
	ctx, k := within(t, time.Minute), w.key("q")
	if !w.caps.Blocking {
		begin := time.Now()
		refused(t, w.c.BLPop(ctx, 10*time.Second, k).Err(), "BLPOP")
		refused(t, w.c.BZPopMin(ctx, 10*time.Second, k).Err(), "BZPOPMIN")
		refused(t, w.c.XRead(ctx, &redis.XReadArgs{Streams: []string{k, "$"}, Block: 10 * time.Second}).Err(), "XREAD")
		if took := time.Since(begin); took > 9*time.Second {
			t.Errorf("refusing took %s, want it at once", took)
		}
		got, err := w.c.Set(ctx, k, "v", 0).Result()
		equal(t, "Set after refusals", got, err, "OK")
		return
	}
	popped := make(chan []string)
	go func() {
		got, err := w.c.BLPop(ctx, 30*time.Second, k).Result()
		if err != nil {
			t.Errorf("BLPop: %v", err)
		}
		popped <- got
	}()
	if err := w.c.RPush(ctx, k, "v").Err(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{k, "v"}, <-popped); diff != "" {
		t.Errorf("BLPop (-want +got):\n%s", diff)
	}
}

func testWatch(t *testing.T, w way) {
	ctx, k := within(t, time.Minute), w.key("n")
	if err := w.c.Set(ctx, k, 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	add := func(between func()) error {
		return w.c.Watch(ctx, func(tx *redis.Tx) error {
			n, err := tx.Get(ctx, k).Int()
			if err != nil {
				return err
			}
			between()
			_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, k, n+1, 0); return nil })
			return err
		}, k)
	}
	if !w.caps.Watch {
		refused(t, add(func() {}), "WATCH")
		return
	}
	if err := add(func() {}); err != nil {
		t.Errorf("a transaction over a watched key = %v", err)
	}
	if err := add(func() { w.c.Set(ctx, k, 50, 0) }); !errors.Is(err, redis.TxFailedErr) {
		t.Errorf("a transaction over a watched key that changed = %v, want redis.TxFailedErr", err)
	}
	got, err := w.c.Get(ctx, k).Result()
	equal(t, "the key", got, err, "50")
}

func testBell(t *testing.T, w way) {
	ctx := within(t, time.Minute)
	named, err := w.u.Bell().Subscribe(ctx, w.key("one"), w.key("two, with a comma"))
	if err != nil {
		t.Fatal(err)
	}
	matched, err := w.u.Bell().PSubscribe(ctx, w.key("o*"))
	if err != nil {
		t.Fatal(err)
	}
	say := func(channel, payload string) {
		t.Helper()
		if err := w.c.Publish(ctx, channel, payload).Err(); err != nil {
			t.Fatal(err)
		}
	}
	hear := func(s *upstream.Subscription, want upstream.Message) {
		t.Helper()
		select {
		case got, ok := <-s.C():
			if diff := cmp.Diff(want, got); !ok || diff != "" {
				t.Errorf("message, %t (-want +got):\n%s", ok, diff)
			}
		case <-ctx.Done():
			t.Fatal("no message in time")
		}
	}
	say(w.key("one"), `{"a":"b,c"}`)
	hear(named, upstream.Message{Channel: w.key("one"), Payload: []byte(`{"a":"b,c"}`)})
	hear(matched, upstream.Message{Pattern: w.key("o*"), Channel: w.key("one"), Payload: []byte(`{"a":"b,c"}`)})
	say(w.key("two, with a comma"), "é,")
	hear(named, upstream.Message{Channel: w.key("two, with a comma"), Payload: []byte("é,")})
	if err := errors.Join(named.Close(), matched.Close()); err != nil {
		t.Error(err)
	}
}

// setsUp is whether a command belongs to a connection or a subscription, of which a gateway has its own,
// or to whoever looks at the counts.
func setsUp(command string) bool {
	switch command {
	case "hello", "auth", "select", "ping", "info", "client|setname", "config|resetstat",
		"subscribe", "psubscribe", "unsubscribe", "punsubscribe":
		return true
	}
	return false
}

func testCounts(t *testing.T, w way) {
	if w.caps.Server == nil {
		t.Log("no server that counts was given")
		return
	}
	ctx, k := within(t, time.Minute), w.key("k")
	if err := w.caps.Server.ConfigResetStat(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	before, spent := counts(w.u.Meter()), w.u.Spent()
	c := w.u.As(meter.Queue)
	for range 3 {
		c.Set(ctx, k, "x", 0)
		c.Get(ctx, k)
		c.Incr(ctx, k)                        // an error
		c.Get(ctx, w.key("missing"))          // nothing
		c.Eval(ctx, "return 1", []string{k})  // a script
		c.ScriptExists(ctx, "0")              // a subcommand
		_ = c.BLPop(ctx, time.Millisecond, k) // refused, or an error
	}
	if _, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range 1500 {
			p.HSet(ctx, w.key("h"), i, i)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if _, off := w.caps.Without["transactions"]; !off {
		if _, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Del(ctx, k)
			p.Incr(ctx, k)
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	var diff string
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		server, err := serverCounts(ctx, w.caps.Server)
		if err != nil {
			t.Fatalf("%v; last difference:\n%s", err, diff)
		}
		ours := counts(w.u.Meter())
		total := int64(0)
		for command, n := range before {
			if ours[command] -= n; ours[command] == 0 {
				delete(ours, command)
			}
		}
		for command := range ours {
			if total += ours[command]; setsUp(command) {
				delete(ours, command)
			}
		}
		if diff = cmp.Diff(server, ours); diff == "" {
			if got := w.u.Spent().Commands - spent.Commands; got != total {
				t.Errorf("Spent counts %d commands, and the meter %d", got, total)
			}
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("counted (-server +ours):\n%s", diff)
		}
	}
}

// counts are the commands sent so far by name.
func counts(m *meter.Meter) map[string]int64 {
	n := map[string]int64{}
	for _, r := range m.Snapshot().Rows {
		n[r.Command] += r.Sent
	}
	return n
}

func serverCounts(ctx context.Context, c redis.UniversalClient) (map[string]int64, error) {
	info, err := c.Info(ctx, "commandstats").Result()
	if err != nil {
		return nil, err
	}
	all := map[string]int64{}
	for name, value := range upstream.ParseInfo(info) {
		var calls, rejected int64
		for field := range strings.SplitSeq(value, ",") {
			if _, err := fmt.Sscanf(field, "calls=%d", &calls); err == nil {
				continue
			}
			_, _ = fmt.Sscanf(field, "rejected_calls=%d", &rejected)
		}
		name = strings.TrimPrefix(name, "cmdstat_")
		if n := calls + rejected; n > 0 && !setsUp(name) {
			all[name] = n
		}
	}
	return all, nil
}
