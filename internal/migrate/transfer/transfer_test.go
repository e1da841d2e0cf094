package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/transfer"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// fill makes keys of every type, some of which expire.
func fill(t *testing.T, client *redis.Client, n int) {
	t.Helper()
	ctx := t.Context()
	p := client.Pipeline()
	for i := range n {
		p.Set(ctx, fmt.Sprintf("string:%d", i), i, 0)
		p.HSet(ctx, fmt.Sprintf("bull:mail:%d", i), "name", "x", "data", strings.Repeat("y", 50), "n", i)
	}
	p.Set(ctx, "expires", "x", time.Hour)
	p.RPush(ctx, "bull:mail:wait", 1, 2, 3)
	p.ZAdd(ctx, "bull:mail:delayed", redis.Z{Score: 1795380456459 * 4096, Member: "7"})
	p.SAdd(ctx, "set", "\x00\xff", "a")
	p.XAdd(ctx, &redis.XAddArgs{Stream: "events", Values: []string{"event", "added"}})
	p.Set(ctx, "redisopt:lease:bull:mail", "1 secret ann@alpha", time.Hour)
	for i := range 2500 {
		p.HSet(ctx, "large", fmt.Sprint(i), i)
	}
	if _, err := p.Exec(ctx); err != nil {
		t.Fatal(err)
	}
}

func options(t *testing.T, from, to redis.UniversalClient) transfer.Options {
	t.Helper()
	return transfer.Options{Source: from, Target: to, From: "a:6379/0", To: "b:6379/0", File: filepath.Join(t.TempDir(), "copy.json")}
}

// wantSame compares two servers by their own digests.
func wantSame(t *testing.T, from, to *redis.Client) {
	t.Helper()
	names, err := from.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	there, err := to.DBSize(t.Context()).Result()
	if err != nil || there != int64(len(names)-1) { // the lease stays
		t.Errorf("the target has %d keys, %v, want %d", there, err, len(names)-1)
	}
	for _, name := range names {
		if strings.HasPrefix(name, "redisopt:lease:") {
			continue
		}
		a, err := from.Do(t.Context(), "debug", "digest-value", name).StringSlice()
		b, err2 := to.Do(t.Context(), "debug", "digest-value", name).StringSlice()
		if err != nil || err2 != nil || a[0] != b[0] {
			t.Errorf("%q is %v, %v at the target, want %v, %v", name, b, err2, a, err)
		}
		if d := from.PExpireTime(t.Context(), name).Val() - to.PExpireTime(t.Context(), name).Val(); d.Abs() > 5*time.Second {
			t.Errorf("%q has %s less to live", name, d)
		}
	}
}

func debuggable(t *testing.T) *redis.Client {
	t.Helper()
	return redistest.Start(t, "--enable-debug-command", "local").Client(t)
}

func TestEveryKeyIsCopiedComparedAndCounted(t *testing.T) {
	from, to := debuggable(t), debuggable(t)
	fill(t, from, 300)
	o := options(t, from, to)
	result, err := transfer.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, from, to)
	if result.Compared != 606 || result.Sampled < 1 || len(result.Passes) != 2 || result.Passes[0].Copied != 606 || result.Passes[1].Differ != 0 || result.ByType != 0 {
		t.Errorf("result = %+v, want 606 keys copied and compared in two passes", result)
	}
	// Whoever was not told how it ended, because the program was killed then, hears it now. Copying once more
	// needs to be told what becomes of the target's keys.
	var refused *migrate.RefusedError
	if _, err := transfer.Run(t.Context(), o); !errors.As(err, &refused) || refused.Problems[0].Rule != "copied-before" ||
		!strings.Contains(refused.Problems[0].Message, "606 keys were the same on both sides, 0 differed") {
		t.Errorf("Run again = %v, want it refused because it was done", err)
	}
	o.Existing = transfer.Replace
	again, err := transfer.Run(t.Context(), o)
	if err != nil || again.Digest != result.Digest || len(again.Digest) != 64 {
		t.Errorf("Run again = %v with digest %s, want %s", err, again.Digest, result.Digest)
	}
}

func TestACopyStoppedBeforeAnyCommandIsGoneOnWith(t *testing.T) {
	source, target := redistest.Start(t, "--enable-debug-command", "local"), redistest.Start(t, "--enable-debug-command", "local")
	from, to := source.Client(t), target.Client(t)
	fill(t, from, 520) // two pages of SCAN
	for at := 1; ; at += 53 {
		to.FlushDB(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		a, b := source.Client(t), target.Client(t)
		var n atomic.Int64
		hook := stopper{func() {
			if n.Add(1) == int64(at) {
				cancel()
			}
		}}
		a.AddHook(hook)
		b.AddHook(hook)
		o := options(t, a, b)
		_, err := transfer.Run(ctx, o)
		cancel()
		if err == nil {
			if at == 1 {
				t.Fatal("it was never stopped")
			}
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped at %d: %v", at, err)
		}
		o.Source, o.Target = from, to
		result, err := transfer.Run(t.Context(), o)
		if err != nil {
			t.Fatalf("stopped at %d, gone on with: %v", at, err)
		}
		if at%106 == 1 {
			wantSame(t, from, to)
		}
		if result.Compared != 1046 {
			t.Errorf("stopped at %d: %d keys compared in the end, want 1046", at, result.Compared)
		}
	}
}

// stopper calls f before each command and each pipeline.
type stopper struct{ f func() }

func (stopper) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s stopper) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		s.f()
		if err := ctx.Err(); err != nil {
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

func (s stopper) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		s.f()
		if err := ctx.Err(); err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
			return err
		}
		return next(ctx, cmds)
	}
}

func TestWhatIsWrittenMeanwhileIsCopiedByALaterPass(t *testing.T) {
	source := redistest.Start(t, "--enable-debug-command", "local")
	from, to := source.Client(t), debuggable(t)
	fill(t, from, 300)
	writer := source.Client(t)
	o := options(t, from, to)
	size, err := from.DBSize(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	wrote := false
	o.OnProgress = func(now migrate.Progress) {
		if wrote || now.Part == "copy" && now.Done < size-1 { // the lease is none of them
			return
		}
		wrote = true // all are copied: now change, add and delete
		ctx := t.Context()
		writer.HSet(ctx, "bull:mail:7", "data", "other")
		writer.HSet(ctx, "large", "7", "other") // of a large key, whose seal does not tell
		writer.Set(ctx, "new", "x", 0)
		writer.Del(ctx, "string:7", "bull:mail:8")
		writer.Persist(ctx, "expires")
	}
	result, err := transfer.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if !wrote {
		t.Fatal("nothing was written between the passes")
	}
	wantSame(t, from, to)
	if second := result.Passes[1]; second.Differ != 4 || second.Deleted != 2 {
		t.Errorf("the second pass found %+v, want 4 that differ and 2 to delete", second)
	}
}

func TestAWriterWhoNeverStopsIsListedOrHeldBack(t *testing.T) {
	for name, pause := range map[string]time.Duration{"listed": 0, "held back": 2 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			source := redistest.Start(t, "--enable-debug-command", "local")
			from, to := source.Client(t), debuggable(t)
			fill(t, from, 100)
			writer := source.Client(t)
			o := options(t, from, to)
			o.Passes, o.PauseWrites = 2, pause
			n := 0
			o.OnProgress = func(now migrate.Progress) {
				if pause > 0 && (strings.Contains(now.Part, "pass 3") || strings.Contains(now.Part, "pass 4")) { // the server would keep it waiting until the end of the pause
					return
				}
				n++
				writer.Set(t.Context(), "string:1", n, 0)
				writer.Set(t.Context(), fmt.Sprintf("new:%d", n), n, 0)
			}
			result, err := transfer.Run(t.Context(), o)
			var differ *transfer.DifferError
			if pause == 0 {
				if !errors.As(err, &differ) || result.DifferencesTotal == 0 || len(result.Differences) == 0 {
					t.Errorf("Run = %v, %+v, want the differences", err, result)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantSame(t, from, to)
			if err := writer.Set(t.Context(), "after", "x", 0).Err(); err != nil {
				t.Errorf("writes are still held back: %v", err)
			}
		})
	}
}

func TestATargetThatDoesNotTakeADumpIsWrittenByType(t *testing.T) {
	from, to := debuggable(t), debuggable(t)
	fill(t, from, 100)
	if err := to.Do(t.Context(), "acl", "setuser", "default", "-restore").Err(); err != nil {
		t.Fatal(err)
	}
	o := options(t, from, to)
	result, err := transfer.Run(t.Context(), o)
	var differ *transfer.DifferError
	if !errors.As(err, &differ) || differ.Count != 1 || differ.Keys[0] != (transfer.Difference{Key: "events", What: "missing"}) {
		t.Fatalf("Run = %v, want it to say that the stream, which is a DUMP anyhow, is missing", err)
	}
	from.Del(t.Context(), "events")
	wantSame(t, from, to)
	if result.ByType != 205 || !strings.Contains(result.Why, "NOPERM") {
		t.Errorf("%d keys by type because of %q, want all 205 because of NOPERM", result.ByType, result.Why)
	}
}

func TestWhatTheTargetHasIsKeptOrReplaced(t *testing.T) {
	for existing, want := range map[transfer.Existing]string{transfer.Keep: "mine", transfer.Replace: "1"} {
		t.Run(string(existing), func(t *testing.T) {
			from, to := debuggable(t), debuggable(t)
			fill(t, from, 100)
			to.Set(t.Context(), "string:1", "mine", 0)
			to.Set(t.Context(), "other", "mine", 0)
			o := options(t, from, to)
			o.Existing = existing
			result, err := transfer.Run(t.Context(), o)
			var differ *transfer.DifferError
			if existing == transfer.Keep {
				if !errors.As(err, &differ) || differ.Count != 1 || differ.Keys[0] != (transfer.Difference{Key: "string:1", What: "values"}) {
					t.Errorf("Run = %v, want string:1 to differ", err)
				}
			} else if err != nil {
				t.Error(err)
			}
			if got := to.Get(t.Context(), "string:1").Val(); got != want {
				t.Errorf("string:1 = %q, want %q", got, want)
			}
			if to.Get(t.Context(), "other").Val() != "mine" || result.TargetKeys != 207 {
				t.Errorf("the target has %d keys, want 207 with the other one", result.TargetKeys)
			}
		})
	}
}

func TestWhatCannotEndWellIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	server, small := redistest.Start(t), redistest.Start(t, "--maxmemory", "2mb", "--maxmemory-policy", "allkeys-lru")
	from := server.Client(t)
	fill(t, from, 100)
	if err := from.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	rules := func(to redis.UniversalClient) map[string]bool {
		t.Helper()
		p, err := transfer.Check(t.Context(), options(t, from, to))
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]bool{}
		for _, q := range p.Problems {
			out[q.Rule] = q.Blocking
		}
		return out
	}
	if got := rules(server.Client(t)); !got["same-database"] || !got["target-not-empty"] {
		t.Errorf("the same database: %v", got)
	}
	if got := rules(small.Client(t)); !got["eviction"] {
		t.Errorf("a target that evicts: %v", got)
	}
	if n := small.Client(t).DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("checking wrote %d keys", n)
	}
	o := options(t, from, small.Client(t))
	if err := os.WriteFile(o.File, []byte(`{"schema":1,"from":"x","to":"y"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	var state *transfer.StateError
	if _, err := transfer.Run(t.Context(), o); !errors.As(err, &state) {
		t.Errorf("the file of another copy: %v, want a StateError", err)
	}
	if err := os.WriteFile(o.File, []byte(`{"schema":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := transfer.Run(t.Context(), o); !errors.As(err, &state) {
		t.Errorf("a damaged file: %v, want a StateError", err)
	}
	if _, err := transfer.Run(t.Context(), transfer.Options{Existing: "merge", Passes: -1}); err == nil {
		t.Error("no options at all: Run = nil, want an error")
	}
}
