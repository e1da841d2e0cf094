package mover

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// oddJobs adds to n plain jobs and n with ids of their own all that looks almost like them.
func oddJobs(ctx context.Context, t *testing.T, client redis.UniversalClient, e Endpoint, n int) {
	t.Helper()
	const since = 1795380456459
	add := func(id string, change func(hash map[string]string)) {
		opts := fmt.Sprintf(`{"attempts":3,"delay":0,"timestamp":%d}`, since)
		if _, counted := digits(id); !counted {
			opts = fmt.Sprintf(`{"jobId":%q,"timeout":5000,"attempts":3,"delay":0,"timestamp":%d}`, id, since)
		}
		hash := map[string]string{
			"name": "__default__", "data": `{"n":1}`, "opts": opts, "timestamp": fmt.Sprint(since), "delay": "0", "priority": "0",
		}
		if change != nil {
			change(hash)
		}
		words := []any{}
		for name, value := range hash {
			words = append(words, name, value)
		}
		client.HSet(ctx, e.Key(id), words...)
		client.LPush(ctx, e.Key("wait"), id)
	}
	set := func(name, value string) func(map[string]string) {
		return func(hash map[string]string) { hash[name] = value }
	}
	several := func(from, to int) {
		for i := from; i <= to; i++ {
			add(fmt.Sprint(i), nil)
			add(fmt.Sprintf("user:%d", i), set("data", strings.Repeat("x", i*7)))
		}
	}
	several(1, n)
	add("unknown-field", set("progress", "0"))
	add("unknown-text", set("stacktrace", "[]"))
	add("other-name", set("name", "named\n"))
	add("other-priority", set("priority", "00"))
	add("no-data", func(hash map[string]string) { delete(hash, "data") })
	add("empty-data", set("data", ""))
	add("bytes", set("data", "\xff\x1e\x1d\x00\n"))
	add("no-delay", func(hash map[string]string) { delete(hash, "delay") })
	add("swapped", func(hash map[string]string) { hash["dealy"] = hash["delay"]; delete(hash, "delay") })
	add("other-time", set("timestamp", "1795380456460"))
	add("short-time", func(hash map[string]string) {
		hash["timestamp"], hash["opts"] = "179538045", `{"jobId":"short-time","timeout":5000,"attempts":3,"delay":0,"timestamp":179538045}`
	})
	add("id-behind", set("opts", fmt.Sprintf(`{"attempts":3,"timestamp":%d,"jobId":"id-behind"}`, since)))
	add("id-of-another", set("opts", fmt.Sprintf(`{"jobId":"user:1","timeout":5000,"attempts":3,"delay":0,"timestamp":%d}`, since)))
	add("a b\"\n", nil)
	add("ümlaut", nil)
	add("cron:x:1795380456", nil)
	add("007", nil)
	add("123456789012345678", nil)
	add(fmt.Sprintf("at:%d", since), nil)
	several(n+1, 2*n)
}

// TestJobsThatMoveByTheirShapeComeBackAsTheyWere: whatever looks almost like a job that moves unseen is either
// seen, or comes back as it was all the same.
func TestJobsThatMoveByTheirShapeComeBackAsTheyWere(t *testing.T) {
	for name, client := range map[string]*redis.Client{
		"redis-server": redistest.Start(t).Client(t),
		"miniredis":    redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()}),
	} {
		from, bullMQ := queueQ()
		for _, to := range []Endpoint{asynqQueue(from.Queue), bullMQ} {
			t.Run(name+" to "+string(to.Layout), func(t *testing.T) {
				for chunk := range 12 {
					if thereAndBack(t, client, from, to, 1+5*chunk); t.Failed() {
						return
					}
				}
			})
		}
	}
}

func thereAndBack(t *testing.T, client *redis.Client, from, to Endpoint, chunk int) {
	t.Helper()
	ctx := t.Context()
	client.FlushAll(ctx)
	oddJobs(ctx, t, client, from, 40)
	client.Set(ctx, from.Key("id"), 1000, 0)
	before := everything(t, client)
	waiting := client.LLen(ctx, from.Key("wait")).Val()
	opts := Options{From: from, To: to, ChunkSize: chunk, ActiveTimeout: -1, WorkersStopped: true, Timetable: hourly}
	there := mustMove(ctx, t, client, opts)
	if there.Moved[Waiting] != waiting || len(there.Skipped) > 0 {
		t.Fatalf("chunks of %d: moved %v of %d, skipped %v", chunk, there.Moved, waiting, there.Skipped)
	}
	if want := client.HGet(ctx, "redisopt:ledger:bull:q:counts", "losses").Val(); want != "" && want != fmt.Sprint(there.Losses) {
		t.Errorf("chunks of %d: the ledger counts %s losses, the result %d", chunk, want, there.Losses)
	}
	for id := range 2 {
		if opts := client.HGet(ctx, to.Key(fmt.Sprintf("user:%d", id+1)), "opts").Val(); strings.Contains(opts, "timeout") {
			t.Errorf("chunks of %d: BullMQ was given %s", chunk, opts)
		}
	}
	opts.From, opts.To, opts.Reverse = to, from, true
	if back := mustMove(ctx, t, client, opts); len(back.Skipped) > 0 {
		t.Errorf("skipped on the way back: %v", back.Skipped)
	}
	for _, d := range capture.Compare(before, everything(t, client)) {
		if strings.HasPrefix(d.Key, "bull:") {
			t.Errorf("chunks of %d: %s", chunk, d)
		}
	}
	if left := client.Keys(ctx, to.jobKey("*[0-9]*")).Val(); len(left) > 0 {
		t.Errorf("chunks of %d: left at the target: %v", chunk, left)
	}
}

// TestTwoJobsThatWouldHaveOneNameDoNotReplaceEachOther: a counter's 17 is called q:17 at asynq, as an id may be.
func TestTwoJobsThatWouldHaveOneNameDoNotReplaceEachOther(t *testing.T) {
	client := redistest.Start(t).Client(t)
	ctx := t.Context()
	from, _ := queueQ()
	fillWith(ctx, t, client, from, 400, func(i int) (id, opts string) {
		if id, opts = plainJob((i + 1) / 2); i%2 == 0 {
			id = from.Queue + ":" + id
		}
		return id, opts
	})
	opts := toAsynq(from)
	opts.ChunkSize = defaultChunk
	r := mustMove(ctx, t, client, opts)
	if r.Moved[Waiting] != 200 || len(r.Skipped) != 200 {
		t.Fatalf("moved %v, skipped %d, want 200 each", r.Moved, len(r.Skipped))
	}
	for _, p := range r.Skipped {
		if p.Rule != "collision" {
			t.Fatalf("skipped for %q", p.Rule)
		}
	}
	if left, jobs := client.LLen(ctx, from.Key("wait")).Val(), int64(len(client.Keys(ctx, "asynq:{q}:t:*").Val())); left != 200 || jobs != 200 {
		t.Errorf("%d jobs at the source and %d at asynq, want 200 each", left, jobs)
	}
}
