package portable_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/portable"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// zoo fills a Redis with a key of every kind that can go wrong.
func zoo(t *testing.T, client *redis.Client) []string {
	t.Helper()
	ctx := t.Context()
	binary := "\x00\xff\r\n\xfe*1\r\n"
	p := client.Pipeline()
	p.Set(ctx, "string", "value", 0)
	p.Set(ctx, "string:empty", "", 0)
	p.Set(ctx, "string:binary", binary, time.Hour)
	p.Set(ctx, "string:piece", strings.Repeat("x", 1<<20), 0)
	p.Set(ctx, "string:long", strings.Repeat("xyz", 1<<20)+"end", 0)
	p.Set(ctx, binary, "a name that is no text", 0)
	p.RPush(ctx, "list", "b", "a", "b", "")
	p.SAdd(ctx, "set", "b", "a", binary)
	p.HSet(ctx, "hash", "f", "1", "", binary, binary, "")
	p.ZAdd(ctx, "zset", redis.Z{Score: math.Inf(1), Member: "inf"}, redis.Z{Score: -0.1, Member: "b"}, redis.Z{Score: 1795380456459 * 4096, Member: "due"},
		redis.Z{Score: 0.1 + 0.2, Member: binary}, redis.Z{Score: 9007199254740993, Member: "large"})
	p.XAdd(ctx, &redis.XAddArgs{Stream: "stream", ID: "5-1", Values: []string{"event", "added"}})
	p.XGroupCreate(ctx, "stream", "g", "0")
	p.PExpire(ctx, "list", 30*time.Minute)
	p.PFAdd(ctx, "hyperloglog", "a", "b")
	for i := range 3000 {
		v := fmt.Sprintf("%04d", i)
		p.RPush(ctx, "list:{tag}:large", v)
		p.SAdd(ctx, "set:large", v)
		p.HSet(ctx, "hash:large", v, i)
		p.ZAdd(ctx, "zset:large", redis.Z{Score: float64(i) / 7, Member: v})
	}
	p.PExpire(ctx, "zset:large", time.Hour)
	if _, err := p.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	return names(t, client)
}

func names(t *testing.T, client *redis.Client) []string {
	t.Helper()
	all, err := client.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func digest(t *testing.T, client *redis.Client) *portable.Digest {
	t.Helper()
	d := &portable.Digest{}
	if gone, err := portable.NewReader(client).Read(t.Context(), names(t, client), d); err != nil || len(gone) > 0 {
		t.Fatalf("Read = %v, %v", gone, err)
	}
	return d
}

// differences compares two databases, key by key.
func differences(a, b *portable.Digest) []string {
	out := []string{}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(append(a.Names(), b.Names()...)))) {
		if what, same := portable.Same(a.Keys[name], b.Keys[name]); !same {
			out = append(out, fmt.Sprintf("%q: %s", name, what))
		}
	}
	return out
}

func TestEveryTypeArrivesInAnotherRedisAsItWas(t *testing.T) {
	from, to := redistest.Start(t).Client(t), redistest.Start(t).Client(t)
	all := zoo(t, from)
	seals, err := portable.Seals(t.Context(), from, all)
	if err != nil {
		t.Fatal(err)
	}
	w := portable.NewWriter(t.Context(), to)
	if gone, err := portable.NewReader(from).Read(t.Context(), append(all, "missing"), w); err != nil || !slices.Equal(gone, []string{"missing"}) {
		t.Fatalf("Read = %v, %v, want only the missing key to be gone", gone, err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if diff := differences(digest(t, from), digest(t, to)); len(diff) > 0 {
		t.Errorf("the copy differs: %v", diff)
	}
	there, err := portable.Seals(t.Context(), to, all)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(seals, there); diff != "" {
		t.Errorf("seals differ (-want +got):\n%s", diff)
	}
	if got, want := to.Get(t.Context(), "string:long").Val(), from.Get(t.Context(), "string:long").Val(); got != want {
		t.Errorf("the long string has %d bytes, want %d", len(got), len(want))
	}
	if got := to.XInfoGroups(t.Context(), "stream").Val(); len(got) != 1 || got[0].Name != "g" {
		t.Errorf("the stream's groups are %v, want g", got)
	}
	if left := to.Keys(t.Context(), "redisopt:*").Val(); len(left) > 0 {
		t.Errorf("names of large keys under way are left: %v", left)
	}
}

func TestAKeyThatIsThereStaysUnlessItMayBeReplaced(t *testing.T) {
	from, to := redistest.Start(t).Client(t), redistest.Start(t).Client(t)
	all := zoo(t, from)
	for _, name := range all {
		to.Set(t.Context(), name, "other", 0)
	}
	var told []error
	w := portable.NewWriter(t.Context(), to)
	w.Written = func(_ portable.Key, err error) { told = append(told, err) }
	if _, err := portable.NewReader(from).Read(t.Context(), all, w); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, err := range told {
		if !errors.Is(err, portable.ErrExists) {
			t.Errorf("told %v, want ErrExists", err)
		}
	}
	if len(told) != len(all) || to.Get(t.Context(), "hash:large").Val() != "other" {
		t.Errorf("%d of %d keys told, and one is now %q", len(told), len(all), to.Get(t.Context(), "hash:large").Val())
	}
	if got := names(t, to); !slices.Equal(got, all) {
		t.Errorf("there are now %v, want what there was", got)
	}
	w = portable.NewWriter(t.Context(), to)
	w.Existing = portable.Replace
	if _, err := portable.NewReader(from).Read(t.Context(), all, w); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if diff := differences(digest(t, from), digest(t, to)); len(diff) > 0 {
		t.Errorf("replaced, the copy differs: %v", diff)
	}
}

// dies ends the context before its n-th command.
type dies struct {
	at, seen int
	cancel   context.CancelFunc
}

func (d *dies) DialHook(next redis.DialHook) redis.DialHook { return next }

func (d *dies) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (d *dies) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if d.seen++; d.seen > d.at {
			d.cancel()
			return context.Canceled
		}
		return next(ctx, cmd)
	}
}

func TestAKeyIsThereWholeOrNotAtAllWheneverTheWriterDies(t *testing.T) {
	from, server := redistest.Start(t).Client(t), redistest.Start(t)
	zoo(t, from)
	large := []string{"hash:large", "list:{tag}:large", "set:large", "string:long", "zset:large"}
	want := digest(t, from)
	whole := 0
	for at := 0; ; at++ {
		look := server.Client(t)
		look.FlushDB(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		to := redis.NewClient(&redis.Options{Addr: server.Addr, MaxRetries: -1})
		d := &dies{at: at, cancel: cancel}
		to.AddHook(d)
		_, err := portable.NewReader(from).Read(t.Context(), large, portable.NewWriter(ctx, to))
		_ = to.Close()
		cancel()
		if err == nil {
			break
		}
		there := digest(t, look)
		for name, got := range there.Keys {
			if strings.HasPrefix(name, "redisopt:restoring:") {
				continue
			}
			whole++
			if what, same := portable.Same(want.Keys[name], got); !same {
				t.Fatalf("died before command %d: %s is there with other %s", at+1, name, what)
			}
		}
		if at%7 == 0 { // it goes on where it was
			if _, err := portable.NewReader(from).Read(t.Context(), large, portable.NewWriter(t.Context(), look)); err != nil {
				t.Fatal(err)
			}
			for _, name := range large {
				if what, same := portable.Same(want.Keys[name], digest(t, look).Keys[name]); !same {
					t.Fatalf("died before command %d and gone on: %s has other %s", at+1, name, what)
				}
			}
		}
	}
	if whole == 0 {
		t.Error("no key was ever there when the writer died, so nothing was tested")
	}
}

func TestOnlyWhatIsStillAsItWasSealedIsUnlinked(t *testing.T) {
	client := redistest.Start(t).Client(t)
	all := zoo(t, client)
	seals, err := portable.Seals(t.Context(), client, all)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	changes := map[string]func(){
		"string":        func() { client.Append(ctx, "string", "x") },
		"string:binary": func() { client.Persist(ctx, "string:binary") },
		"list":          func() { client.LSet(ctx, "list", 1, "z") },
		"set":           func() { client.SRem(ctx, "set", "a"); client.SAdd(ctx, "set", "c") },
		"hash":          func() { client.HSet(ctx, "hash", "f", "2") },
		"zset":          func() { client.ZIncrBy(ctx, "zset", 1, "b") },
		"stream": func() {
			client.XAdd(ctx, &redis.XAddArgs{Stream: "stream", Values: []string{"event", "done"}})
		},
		"list:{tag}:large": func() { client.LPush(ctx, "list:{tag}:large", "new") },
		"hash:large":       func() { client.HSet(ctx, "hash:large", "new", 1) },
	}
	for _, change := range changes {
		change()
	}
	client.Del(ctx, "set:large")
	answers, err := portable.Unlink(ctx, client, all, seals)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range all {
		want := ""
		switch {
		case changes[name] != nil:
			want = portable.Changed
		case name == "set:large":
			want = portable.Gone
		}
		if answers[i] != want {
			t.Errorf("Unlink(%q) = %q, want %q", name, answers[i], want)
		}
		if there := client.Exists(ctx, name).Val() == 1; there != (want == portable.Changed) {
			t.Errorf("%q is there = %v after answer %q", name, there, answers[i])
		}
	}
}

func TestValuesThatDoNotFitTheirTypeAreRefused(t *testing.T) {
	client := redistest.Start(t).Client(t)
	for name, tt := range map[string]struct {
		k      portable.Key
		values []string
	}{
		"half a field":        {portable.Key{Name: "k", Type: portable.Hash}, []string{"f"}},
		"a score of letters":  {portable.Key{Name: "k", Type: portable.ZSet}, []string{"m", "many"}},
		"no element":          {portable.Key{Name: "k", Type: portable.List}, nil},
		"two dumps":           {portable.Key{Name: "k", Type: "stream"}, []string{"a", "b"}},
		"a dump that is none": {portable.Key{Name: "k", Type: "stream"}, []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := portable.NewWriter(t.Context(), client)
			err := w.Begin(tt.k)
			if err == nil && tt.values != nil {
				err = w.Values(tt.values)
			}
			if err == nil {
				err = w.End()
			}
			if err == nil {
				err = w.Flush()
			}
			if err == nil || client.Exists(t.Context(), "k").Val() != 0 {
				t.Errorf("written without an error: %v", err)
			}
		})
	}
}
