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
	if diff := cmp.Diff(texts(seals), texts(there)); diff != "" {
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

// texts are what is compared of seals.
func texts(seals []portable.Seal) []string {
	out := make([]string, len(seals))
	for i, s := range seals {
		out[i] = s.Text
	}
	return out
}

// wholly are the seals of keys, of large ones those that cover all of them.
func wholly(t *testing.T, client *redis.Client, names []string) []string {
	t.Helper()
	seals, err := portable.Seals(t.Context(), client, names)
	if err != nil {
		t.Fatal(err)
	}
	out := texts(seals)
	for i, seal := range out {
		if !portable.Whole(seal) {
			s, err := portable.Summarize(t.Context(), client, names[i])
			if err != nil {
				t.Fatal(err)
			}
			out[i] = s.Seal()
		}
	}
	return out
}

func TestOnlyWhatIsStillAsItWasSealedIsUnlinked(t *testing.T) {
	client := redistest.Start(t).Client(t)
	all := zoo(t, client)
	all = append(all, "zset:middle", "set:middle", "list:middle", "string:middle", "stream:pending")
	ctx := t.Context()
	for i := range 3000 {
		client.ZAdd(ctx, "zset:middle", redis.Z{Score: float64(i), Member: fmt.Sprint(i)})
		client.SAdd(ctx, "set:middle", fmt.Sprint(i))
		client.RPush(ctx, "list:middle", fmt.Sprint(i))
	}
	client.Set(ctx, "string:middle", strings.Repeat("x", 1<<20), 0)
	client.XAdd(ctx, &redis.XAddArgs{Stream: "stream:pending", ID: "5-1", Values: []string{"event", "added"}})
	client.XGroupCreate(ctx, "stream:pending", "g", "0")
	client.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "g", Consumer: "c", Streams: []string{"stream:pending", ">"}})
	seals := wholly(t, client, all)
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
		"hash:large":       func() { client.HSet(ctx, "hash:large", "1500", "other") },
		"zset:middle":      func() { client.ZAdd(ctx, "zset:middle", redis.Z{Score: 1500.5, Member: "1500"}) },
		"set:middle":       func() { client.SRem(ctx, "set:middle", "1500"); client.SAdd(ctx, "set:middle", "x") },
		"list:middle":      func() { client.LSet(ctx, "list:middle", 1500, "x") },
		"string:middle":    func() { client.SetRange(ctx, "string:middle", 1<<19, "y") },
		"stream:pending":   func() { client.XAck(ctx, "stream:pending", "g", "5-1") },
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

func TestALargeKeyThatChangesWhileItIsComparedIsNotDeleted(t *testing.T) {
	server := redistest.Start(t)
	client, other := server.Client(t), server.Client(t)
	zoo(t, client)
	seal := wholly(t, client, []string{"hash:large"})
	changed := false
	client.AddHook(after{func(cmd redis.Cmder) {
		if cmd.Name() == "hscan" && !changed { // some of it was compared already
			changed = true
			other.HIncrBy(t.Context(), "hash:large", "0001", 1)
			other.HIncrBy(t.Context(), "hash:large", "0001", -1) // as it was, but written
		}
	}})
	answers, err := portable.Unlink(t.Context(), client, []string{"hash:large"}, seal)
	if err != nil || answers[0] != portable.Changed || other.HLen(t.Context(), "hash:large").Val() != 3000 {
		t.Errorf("Unlink = %q, %v, want it to be changed and there", answers, err)
	}
	if _, err := portable.Unlink(t.Context(), client, []string{"hash:large"}, []string{"0123+"}); err == nil {
		t.Error("Unlink with a seal of both ends = nil, want an error")
	}
}

// after calls f after each command.
type after struct{ f func(redis.Cmder) }

func (after) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a after) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		a.f(cmd)
		return err
	}
}

func (a after) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			a.f(cmd)
		}
		return err
	}
}

func TestTwoWritersOfOneLargeKeyDoNotMixIt(t *testing.T) {
	client := redistest.Start(t).Client(t)
	k := portable.Key{Name: "list", Type: portable.List}
	a, b := portable.NewWriter(t.Context(), client), portable.NewWriter(t.Context(), client)
	a.Existing, b.Existing = portable.Replace, portable.Replace
	for _, w := range []*portable.Writer{a, b} {
		if err := w.Begin(k); err != nil {
			t.Fatal(err)
		}
	}
	var want []string
	for i := range 30 {
		var values []string
		for n := range 100 {
			values = append(values, fmt.Sprint(100*i+n))
		}
		want = append(want, values...)
		for _, w := range []*portable.Writer{a, b} {
			if err := w.Values(values); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, w := range []*portable.Writer{a, b} {
		if err := w.End(); err != nil {
			t.Fatal(err)
		}
		if got := client.LRange(t.Context(), "list", 0, -1).Val(); !slices.Equal(got, want) {
			t.Fatalf("the list has %d values, want %d in order", len(got), len(want))
		}
		if left := client.TTL(t.Context(), "list").Val(); left != -1 {
			t.Errorf("the list has %s to live, want it to stay", left)
		}
	}
	// What was taken away under way is noticed, rather than given its name.
	if err := a.Begin(k); err != nil {
		t.Fatal(err)
	}
	if err := a.Values(want); err != nil {
		t.Fatal(err)
	}
	under := client.Keys(t.Context(), "redisopt:restoring:*").Val()
	if len(under) != 1 || client.TTL(t.Context(), under[0]).Val() <= 0 {
		t.Fatalf("under way are %v, want one that ends by itself", under)
	}
	client.LPop(t.Context(), under[0])
	if err := a.End(); err == nil {
		t.Error("End of a list that lost a value = nil, want an error")
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

// fields makes a Redis 7.0 answer as one of 7.4 does where fields of hashes expire: it keeps when by itself.
type fields struct {
	at   map[string]map[string]int64 // by key and field
	asks int
}

func (*fields) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *fields) answer(cmd redis.Cmder) bool {
	args := cmd.Args()
	switch cmd.Name() {
	case "hpexpiretime":
		f.asks++
		var out []int64
		for _, field := range args[4:] {
			at, ok := f.at[fmt.Sprint(args[1])][fmt.Sprint(field)]
			if !ok {
				at = -1
			}
			out = append(out, at)
		}
		cmd.(*redis.IntSliceCmd).SetVal(out)
	case "hpexpireat":
		key := fmt.Sprint(args[1])
		if f.at[key] == nil {
			f.at[key] = map[string]int64{}
		}
		for _, field := range args[5:] {
			f.at[key][fmt.Sprint(field)] = args[2].(int64)
		}
	case "evalsha": // the name that a key was built under goes
		for from, at := range f.at {
			if strings.HasPrefix(from, "redisopt:restoring:") && fmt.Sprint(args[3]) == from {
				f.at[fmt.Sprint(args[4])] = at
				delete(f.at, from)
			}
		}
		return false
	default:
		return false
	}
	return true
}

func (f *fields) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if f.answer(cmd) {
			return nil
		}
		return next(ctx, cmd)
	}
}

func (f *fields) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		rest := slices.DeleteFunc(slices.Clone(cmds), f.answer)
		if len(rest) == 0 {
			return nil
		}
		return next(ctx, rest)
	}
}

func TestAHashWhoseFieldsExpireIsLeftOutWhereTheServerDoesNotKnowThat(t *testing.T) {
	from, to := redistest.Start(t).Client(t), redistest.Start(t).Client(t) // 7.0, or as one of 7.4 with the hook
	zoo(t, from)
	from.AddHook(&fields{at: map[string]map[string]int64{"hash": {"f": 4102444800123}, "hash:large": {"0007": 4102444800123}}})
	var refused []string
	w := portable.NewWriter(t.Context(), to)
	w.Refused = func(k portable.Key, _ error) bool { refused = append(refused, k.Name); return true }
	if _, err := portable.NewReader(from).Read(t.Context(), []string{"hash", "string", "hash:large"}, w); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := to.Keys(t.Context(), "*").Val(); !slices.Equal(got, []string{"string"}) || !slices.Equal(refused, []string{"hash", "hash:large"}) {
		t.Errorf("written %q, left out %q, want the string alone", got, refused)
	}
}

func TestFieldsOfAHashExpireAtTheOtherSideTooWhereServersKnowIt(t *testing.T) {
	from, to := redistest.Start(t).Client(t), redistest.Start(t).Client(t)
	zoo(t, from)
	was := &fields{at: map[string]map[string]int64{"hash": {"f": 4102444800123}, "hash:large": {"0007": 4102444800123, "2999": 4102444800456}}}
	is := &fields{at: map[string]map[string]int64{}}
	from.AddHook(was)
	to.AddHook(is)
	w := portable.NewWriter(t.Context(), to)
	if _, err := portable.NewReader(from).Read(t.Context(), []string{"hash", "string", "hash:large"}, w); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(was.at, is.at); diff != "" {
		t.Errorf("when fields expire (-want +got):\n%s", diff)
	}
	want, got := from.HGetAll(t.Context(), "hash").Val(), to.HGetAll(t.Context(), "hash").Val()
	if diff := cmp.Diff(want, got); diff != "" || to.HLen(t.Context(), "hash:large").Val() != 3000 {
		t.Errorf("hash (-want +got):\n%s", diff)
	}
	// Who does not want to know does not ask, and a server that does not know is asked once.
	asked := was.asks
	digest(t, from)
	if was.asks != asked {
		t.Errorf("a digest asked %d times when fields expire, want never", was.asks-asked)
	}
	plain := redistest.Start(t).Client(t)
	zoo(t, plain)
	n := 0
	plain.AddHook(after{func(cmd redis.Cmder) {
		if cmd.Name() == "hpexpiretime" {
			n++
		}
	}})
	r := portable.NewReader(plain)
	for range 3 {
		if _, err := r.Read(t.Context(), []string{"hash:large"}, portable.NewWriter(t.Context(), to)); err != nil {
			t.Fatal(err)
		}
	}
	if n != 1 {
		t.Errorf("a server of version 7.0 was asked %d times, want once", n)
	}
}
