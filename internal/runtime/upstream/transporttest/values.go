package transporttest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

func testStrings(t *testing.T, w way) {
	ctx, k := t.Context(), w.key("s")
	if _, err := w.c.Get(ctx, k).Result(); !errors.Is(err, redis.Nil) {
		t.Errorf("Get of a missing key = %v, want redis.Nil", err)
	}
	for _, v := range []string{"", "0", "false", "null", "OK", "{\"a\":[1,\"x\"]}", " a b ", "line\r\nbreak", "\"quoted\\", "\x00\x01\x1f\x7f"} {
		got, err := w.c.Set(ctx, k, v, 0).Result()
		equal(t, "Set", got, err, "OK")
		got, err = w.c.Get(ctx, k).Result()
		equal(t, "Get", got, err, v)
	}
	n, err := w.c.Incr(ctx, w.key("n")).Result()
	equal(t, "Incr", n, err, 1)
	n, err = w.c.IncrBy(ctx, w.key("n"), -9007199254740995).Result()
	equal(t, "IncrBy over what a JSON number holds in other languages", n, err, -9007199254740994)
	f, err := w.c.IncrByFloat(ctx, w.key("f"), 1.5).Result()
	equal(t, "IncrByFloat", f, err, 1.5)
	ok, err := w.c.SetNX(ctx, k, "x", 0).Result()
	equal(t, "SetNX of a key that exists", ok, err, false)
	if _, err := w.c.Do(ctx, "set", k, "x", "nx").Result(); !errors.Is(err, redis.Nil) {
		t.Errorf("SET NX of a key that exists = %v, want redis.Nil", err)
	}
	kind, err := w.c.Type(ctx, w.key("missing")).Result()
	equal(t, "Type", kind, err, "none")
	all, err := w.c.MGet(ctx, w.key("n"), w.key("missing"), w.key("f")).Result()
	if diff := cmp.Diff([]any{"-9007199254740994", nil, "1.5"}, all); err != nil || diff != "" {
		t.Errorf("MGet: %v (-want +got):\n%s", err, diff)
	}
	pong, err := w.c.Ping(ctx).Result()
	equal(t, "Ping", pong, err, "PONG")
}

func testHashes(t *testing.T, w way) {
	ctx, k := t.Context(), w.key("h")
	n, err := w.c.HSet(ctx, k, "a", 1, "b", "", "c d", "é").Result()
	equal(t, "HSet", n, err, 3)
	all, err := w.c.HGetAll(ctx, k).Result()
	if diff := cmp.Diff(map[string]string{"a": "1", "b": "", "c d": "é"}, all); err != nil || diff != "" {
		t.Errorf("HGetAll: %v (-want +got):\n%s", err, diff)
	}
	some, err := w.c.HMGet(ctx, k, "a", "x", "b").Result()
	if diff := cmp.Diff([]any{"1", nil, ""}, some); err != nil || diff != "" {
		t.Errorf("HMGet: %v (-want +got):\n%s", err, diff)
	}
	n, err = w.c.HIncrBy(ctx, k, "a", 41).Result()
	equal(t, "HIncrBy", n, err, 42)
	if _, err := w.c.HGet(ctx, k, "x").Result(); !errors.Is(err, redis.Nil) {
		t.Errorf("HGet of a missing field = %v, want redis.Nil", err)
	}
	none, err := w.c.HGetAll(ctx, w.key("missing")).Result()
	if err != nil || len(none) != 0 {
		t.Errorf("HGetAll of a missing key = %v, %v, want none", none, err)
	}
}

func testLists(t *testing.T, w way) {
	ctx, k := t.Context(), w.key("l")
	n, err := w.c.RPush(ctx, k, "a", "", "c").Result()
	equal(t, "RPush", n, err, 3)
	all, err := w.c.LRange(ctx, k, 0, -1).Result()
	if diff := cmp.Diff([]string{"a", "", "c"}, all); err != nil || diff != "" {
		t.Errorf("LRange: %v (-want +got):\n%s", err, diff)
	}
	v, err := w.c.LPop(ctx, k).Result()
	equal(t, "LPop", v, err, "a")
	none, err := w.c.LRange(ctx, w.key("missing"), 0, -1).Result()
	if err != nil || len(none) != 0 {
		t.Errorf("LRange of a missing key = %v, %v, want none", none, err)
	}
}

func testSets(t *testing.T, w way) {
	ctx, k := t.Context(), w.key("set")
	n, err := w.c.SAdd(ctx, k, "a", "b", "a").Result()
	equal(t, "SAdd", n, err, 2)
	members, err := w.c.SMembers(ctx, k).Result()
	slices.Sort(members)
	if diff := cmp.Diff([]string{"a", "b"}, members); err != nil || diff != "" {
		t.Errorf("SMembers: %v (-want +got):\n%s", err, diff)
	}
	are, err := w.c.SMIsMember(ctx, k, "a", "x").Result()
	if diff := cmp.Diff([]bool{true, false}, are); err != nil || diff != "" {
		t.Errorf("SMIsMember: %v (-want +got):\n%s", err, diff)
	}
}

func testSortedSets(t *testing.T, w way) {
	ctx, k := t.Context(), w.key("z")
	n, err := w.c.ZAdd(ctx, k, redis.Z{Score: 1.5, Member: "b"}, redis.Z{Score: -2, Member: "a"}, redis.Z{Score: 1763863427123, Member: "t"}).Result()
	equal(t, "ZAdd", n, err, 3)
	all, err := w.c.ZRangeWithScores(ctx, k, 0, -1).Result()
	want := []redis.Z{{Score: -2, Member: "a"}, {Score: 1.5, Member: "b"}, {Score: 1763863427123, Member: "t"}}
	if diff := cmp.Diff(want, all); err != nil || diff != "" {
		t.Errorf("ZRangeWithScores: %v (-want +got):\n%s", err, diff)
	}
	score, err := w.c.ZScore(ctx, k, "b").Result()
	equal(t, "ZScore", score, err, 1.5)
	n, err = w.c.ZCount(ctx, k, "(-2", "+inf").Result()
	equal(t, "ZCount", n, err, 2)
	if _, err := w.c.ZScore(ctx, k, "x").Result(); !errors.Is(err, redis.Nil) {
		t.Errorf("ZScore of a missing member = %v, want redis.Nil", err)
	}
}

func testStreams(t *testing.T, w way) {
	ctx, k := t.Context(), w.key("x")
	id, err := w.c.XAdd(ctx, &redis.XAddArgs{Stream: k, ID: "5-1", Values: []any{"a", 1, "b", "é"}}).Result()
	equal(t, "XAdd", id, err, "5-1")
	all, err := w.c.XRange(ctx, k, "-", "+").Result()
	want := []redis.XMessage{{ID: "5-1", Values: map[string]any{"a": "1", "b": "é"}}}
	if diff := cmp.Diff(want, all); err != nil || diff != "" {
		t.Errorf("XRange: %v (-want +got):\n%s", err, diff)
	}
	read, err := w.c.XRead(ctx, &redis.XReadArgs{Streams: []string{k, "0"}, Block: -1}).Result()
	if err != nil || len(read) != 1 || len(read[0].Messages) != 1 {
		t.Errorf("XRead without BLOCK = %v, %v, want the message", read, err)
	}
	if _, err := w.c.XRead(ctx, &redis.XReadArgs{Streams: []string{k, "9"}, Block: -1}).Result(); !errors.Is(err, redis.Nil) {
		t.Errorf("XRead of nothing = %v, want redis.Nil", err)
	}
}

func testNested(t *testing.T, w way) {
	got, err := w.c.Eval(t.Context(), `return {1, {"a", {2, false, "OK", ""}}, "b"}`, []string{w.key("k")}).Result()
	want := []any{int64(1), []any{"a", []any{int64(2), nil, "OK", ""}}, "b"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("a nested reply: %v (-want +got):\n%s", err, diff)
	}
}

func testUnicode(t *testing.T, w way) {
	ctx := t.Context()
	for i, v := range []string{"naïve café", "日本語", "שלום", "👩‍🔬🏳️‍🌈", "\u2028\u2029", "\ufeffBOM", "\ufffd", strings.Repeat("ß", 5000)} {
		k := w.key("ключ " + strconv.Itoa(i) + " /?#%&,")
		got, err := w.c.Set(ctx, k, v, 0).Result()
		equal(t, "Set", got, err, "OK")
		got, err = w.c.Get(ctx, k).Result()
		equal(t, "Get", got, err, v)
	}
}

func testBinary(t *testing.T, w way) {
	ctx, k := t.Context(), w.key("b")
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	err := w.c.Set(ctx, k, every, 0).Err()
	if !w.caps.Binary {
		refused(t, err, "SET")
		if err != nil && !strings.Contains(err.Error(), "UTF-8") {
			t.Errorf("Set of binary = %v, want UTF-8 named as the reason", err)
		}
		if _, err := w.c.Get(ctx, k).Result(); !errors.Is(err, redis.Nil) {
			t.Errorf("after a refusal Get = %v, want redis.Nil", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := w.c.Get(ctx, k).Result()
	equal(t, "Get", got, err, string(every))
}

func testBig(t *testing.T, w way) {
	ctx := t.Context()
	big := strings.Repeat("0123456789abcdef", 1<<17) // 2 MiB
	got, err := w.c.Set(ctx, w.key("big"), big, 0).Result()
	equal(t, "Set", got, err, "OK")
	got, err = w.c.Get(ctx, w.key("big")).Result()
	equal(t, "Get", got, err, big)
	values := make([]any, 20_000)
	for i := range values {
		values[i] = i
	}
	n, err := w.c.RPush(ctx, w.key("list"), values...).Result()
	equal(t, "RPush", n, err, 20_000)
	all, err := w.c.LRange(ctx, w.key("list"), 0, -1).Result()
	if err != nil || len(all) != 20_000 || all[19_999] != "19999" {
		t.Errorf("LRange = %d elements, %v, want 20000", len(all), err)
	}
}

func testErrors(t *testing.T, w way) {
	ctx, k := t.Context(), w.key("s")
	if err := w.c.Set(ctx, k, "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		err   error
		begin string
		class upstream.Class
	}{
		{w.c.HGet(ctx, k, "f").Err(), "WRONGTYPE", upstream.Server},
		{w.c.Incr(ctx, k).Err(), "ERR value is not an integer", upstream.Server},
		{w.c.Do(ctx, "get").Err(), "ERR wrong number of arguments", upstream.Server},
		{w.c.EvalSha(ctx, strings.Repeat("0", 40), nil).Err(), "NOSCRIPT", upstream.Server},
	} {
		server, ok := errors.AsType[redis.Error](tt.err)
		if !ok || !strings.HasPrefix(server.Error(), tt.begin) || upstream.Classify(tt.err) != tt.class {
			t.Errorf("got %v (%T) of class %q, want an error of the server that begins with %q", tt.err, tt.err, upstream.Classify(tt.err), tt.begin)
		}
	}
	got, err := w.c.Get(ctx, k).Result()
	equal(t, "Get after errors", got, err, "x")
}

func testExpiry(t *testing.T, w way) {
	ctx, k := t.Context(), w.key("e")
	got, err := w.c.Set(ctx, k, "x", time.Minute).Result()
	equal(t, "Set", got, err, "OK")
	ttl, err := w.c.PTTL(ctx, k).Result()
	if err != nil || ttl <= 0 || ttl > time.Minute {
		t.Errorf("PTTL = %s, %v, want up to a minute", ttl, err)
	}
	ttl, err = w.c.TTL(ctx, w.key("missing")).Result()
	equal(t, "TTL of a missing key", ttl, err, -2)
	ok, err := w.c.PExpire(ctx, k, time.Hour).Result()
	equal(t, "PExpire", ok, err, true)
}

func testScan(t *testing.T, w way) {
	ctx := t.Context()
	if _, err := w.c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range 500 {
			p.Set(ctx, w.key(fmt.Sprint("k", i)), i, 0)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	it := w.c.Scan(ctx, 0, w.key("k*"), 100).Iterator()
	for it.Next(ctx) {
		seen[it.Val()] = true
	}
	if err := it.Err(); err != nil || len(seen) != 500 {
		t.Errorf("SCAN found %d keys, %v, want 500", len(seen), err)
	}
}
