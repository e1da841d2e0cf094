package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/transfer"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// afterCopying calls f once, when every key was copied and none compared.
func afterCopying(f func()) func(migrate.Progress) {
	done := false
	return func(now migrate.Progress) {
		if !done && now.Part == "copy" && now.Done >= now.Total {
			done = true
			f()
		}
	}
}

func TestATimeToLiveThatIsChangedMeanwhileIsCopiedOfEveryKey(t *testing.T) {
	source := redistest.Start(t)
	from, to := source.Client(t), redistest.Start(t).Client(t)
	ctx := t.Context()
	for i := range 200 {
		from.Set(ctx, fmt.Sprintf("session:%d", i), i, time.Hour)
	}
	o := options(t, from, to)
	o.Sample = -1 // none is compared value by value
	other := source.Client(t)
	o.OnProgress = afterCopying(func() { other.Expire(ctx, "session:199", 2*time.Hour) })
	result, err := transfer.Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Passes) != 3 || result.Passes[1].Differ != 1 {
		t.Errorf("passes = %+v, want one that finds the key", result.Passes)
	}
	for i := range 200 {
		name := fmt.Sprintf("session:%d", i)
		if d := from.PExpireTime(ctx, name).Val() - to.PExpireTime(ctx, name).Val(); d.Abs() > 2*time.Second {
			t.Errorf("%s has %s less to live", name, d)
		}
	}
}

func TestWhatBecameOfAStreamsGroupsMeanwhileIsCopied(t *testing.T) {
	source := redistest.Start(t)
	from, to := source.Client(t), redistest.Start(t).Client(t)
	ctx := t.Context()
	for i := range 5 {
		from.XAdd(ctx, &redis.XAddArgs{Stream: "orders", ID: fmt.Sprintf("%d-1", i+1), Values: []string{"n", fmt.Sprint(i)}})
	}
	from.XGroupCreate(ctx, "orders", "g", "0")
	from.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "g", Consumer: "c", Count: 3, Streams: []string{"orders", ">"}})
	o := options(t, from, to)
	other := source.Client(t)
	o.OnProgress = afterCopying(func() {
		// As many wait as before, and the last one that was delivered is the same.
		other.XAck(ctx, "orders", "g", "1-1")
		other.XClaim(ctx, &redis.XClaimArgs{Stream: "orders", Group: "g", Consumer: "d", Messages: []string{"2-1"}})
	})
	if _, err := transfer.Run(ctx, o); err != nil {
		t.Fatal(err)
	}
	got, err := to.XPendingExt(ctx, &redis.XPendingExtArgs{Stream: "orders", Group: "g", Start: "-", End: "+", Count: 10}).Result()
	if err != nil || len(got) != 2 || got[0].ID != "2-1" || got[0].Consumer != "d" || got[1].ID != "3-1" {
		t.Errorf("what waits at the target is %+v, %v; want 2-1 of d and 3-1 of c", got, err)
	}
}

func TestASourceThatLostItsKeysTakesNoneFromTheTarget(t *testing.T) {
	source := redistest.Start(t)
	from, to := source.Client(t), redistest.Start(t).Client(t)
	ctx := t.Context()
	for i := range 300 {
		from.Set(ctx, fmt.Sprint("k:", i), i, 0)
	}
	o := options(t, from, to)
	other := source.Client(t)
	o.OnProgress = afterCopying(func() { other.FlushAll(ctx) })
	var state *transfer.StateError
	if _, err := transfer.Run(ctx, o); !errors.As(err, &state) || !strings.Contains(state.Why, "had 300") {
		t.Errorf("Run = %v, want a StateError that says how many keys there were", err)
	}
	if n := to.DBSize(ctx).Val(); n != 300 {
		t.Errorf("the target has %d keys, want all 300", n)
	}
}

func TestAPassThatWasInterruptedProvesNothing(t *testing.T) {
	source := redistest.Start(t)
	from, to := source.Client(t), redistest.Start(t).Client(t)
	ctx := t.Context()
	for i := range 2500 { // three pages of SCAN
		from.Set(ctx, fmt.Sprint("k:", i), i, 0)
	}
	o := options(t, from, to)
	first, cancel := context.WithCancel(ctx)
	o.OnProgress = func(now migrate.Progress) {
		if now.Part != "copy" && now.Done >= 1500 {
			cancel()
		}
	}
	if _, err := transfer.Run(first, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("Run = %v, want it stopped in its second pass", err)
	}
	// A key that was compared already changes before the copy goes on.
	names, _, err := from.Scan(ctx, 0, "*", 100).Result()
	if err != nil {
		t.Fatal(err)
	}
	seen := names[0]
	from.Set(ctx, seen, "changed", 0)
	o.OnProgress = nil
	result, err := transfer.Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if got := to.Get(ctx, seen).Val(); got != "changed" || len(result.Passes) < 3 || result.Interrupted {
		t.Errorf("%s = %q after %+v, want the pass to be done once more", seen, got, result.Passes)
	}
}

func TestWritesThatWereNotHeldBackLongEnoughAreNoProof(t *testing.T) {
	from, to := redistest.Start(t).Client(t), redistest.Start(t).Client(t)
	ctx := t.Context()
	for i := range 200 {
		from.Set(ctx, fmt.Sprint("k:", i), i, 0)
	}
	o := options(t, from, to)
	o.Passes, o.PauseWrites, o.Pace = 1, time.Millisecond, &migrate.Pace{}
	o.Pace.SetRate(2000)
	n := 0
	o.OnProgress = func(now migrate.Progress) { // so that the first comparison finds something
		if n++; now.Part == "compare, pass 1" && now.Done == 50 {
			to.Del(ctx, "k:1", "k:2", "k:3")
		}
	}
	_, err := transfer.Run(ctx, o)
	var ranOut *transfer.PauseError
	if !errors.As(err, &ranOut) || ranOut.Took <= ranOut.For {
		t.Errorf("Run = %v, want a PauseError", err)
	}
}

func TestWritesAreHeldBackForAPassAlsoWhenTheOneBeforeFoundNothing(t *testing.T) {
	source := redistest.Start(t)
	from, to := source.Client(t), redistest.Start(t).Client(t)
	ctx := t.Context()
	for i := range 200 {
		from.Set(ctx, fmt.Sprint("k:", i), i, 0)
	}
	o := options(t, from, to)
	o.PauseWrites = 2 * time.Minute
	other := source.Client(t)
	o.OnProgress = func(now migrate.Progress) {
		if now.Part == "compare, pass 1" && now.Done == 200 { // all were found the same
			other.Set(ctx, "k:1", "late", 0)
		}
	}
	result, err := transfer.Run(ctx, o)
	if err != nil || to.Get(ctx, "k:1").Val() != "late" || result.Passes[1].Differ != 0 || len(result.Passes) != 4 {
		t.Errorf("Run = %+v, %v, want what was written last to be there", result.Passes, err)
	}
}

// far is a server whose values take their time to arrive: longer than two expiries may differ.
type far struct{ clock redis.UniversalClient }

func (far) DialHook(next redis.DialHook) redis.DialHook { return next }

func (far) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (f far) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return c.Name() == "dump" }) {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for began := f.clock.Time(ctx).Val(); f.clock.Time(ctx).Val().Sub(began) < 1500*time.Millisecond && ctx.Err() == nil; {
				<-tick.C
			}
		}
		return err
	}
}

func TestAKeyWhoseValueTakesLongToArriveLivesNoLonger(t *testing.T) {
	source := redistest.Start(t)
	from, to := source.Client(t), redistest.Start(t).Client(t)
	ctx := t.Context()
	from.Set(ctx, "session", "x", time.Hour)
	from.AddHook(far{source.Client(t)})
	result, err := transfer.Run(ctx, options(t, from, to))
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Passes) != 2 || result.Passes[1].Differ != 0 {
		t.Errorf("passes = %+v, want one that copies and one that finds nothing", result.Passes)
	}
	if d := from.PExpireTime(ctx, "session").Val() - to.PExpireTime(ctx, "session").Val(); d.Abs() > time.Second {
		t.Errorf("it has %s less to live", d)
	}
}

// clustered is a client that goes to the nodes of a Cluster, as those of upstream do.
type clustered struct{ redis.UniversalClient }

func (clustered) ForEachMaster(context.Context, func(context.Context, *redis.Client) error) error {
	return nil
}

func TestAClusterIsRefusedHoweverItsClientIsMade(t *testing.T) {
	from, to := redistest.Start(t).Client(t), redistest.Start(t).Client(t)
	for name, o := range map[string]transfer.Options{
		"source": options(t, clustered{from}, to), "target": options(t, from, clustered{to}),
	} {
		p, err := transfer.Check(t.Context(), o)
		if err != nil || len(p.Problems) == 0 || p.Problems[0].Rule != "cluster" || !p.Problems[0].Blocking {
			t.Errorf("%s: problems = %+v, %v, want the cluster", name, p.Problems, err)
		}
	}
}
