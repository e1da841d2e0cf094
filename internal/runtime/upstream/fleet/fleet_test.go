package fleet

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func join(t *testing.T, f *Fleet) {
	t.Helper()
	if err := f.Join(t.Context()); err != nil {
		t.Fatalf("Join = %v", err)
	}
}

func TestAReplicaThatDoesNotFitWaitsAndIsToldForWhom(t *testing.T) {
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		a, _ := w.replica(t, "a", "1", 3, 5)
		join(t, a)
		b, events := w.replica(t, "b", "1", 3, 5)
		begun := time.Now()
		err := b.Join(t.Context())
		full, ok := errors.AsType[*FullError](err)
		if !ok || full.Asked != 3 || len(full.Listing.Holders) != 1 || full.Listing.Holders[0].Replica != "a" {
			t.Fatalf("Join = %v, want a FullError that names a", err)
		}
		for _, part := range []string{"3 connections more would exceed the fleet's 5", "a 3 (1.0.0 on host-a, until "} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("error %q does not say %q", err, part)
			}
		}
		if took := time.Since(begun); took != DefaultWait {
			t.Errorf("it waited %s, want %s", took, DefaultWait)
		}
		if w.scripts > 14 {
			t.Errorf("waiting took %d scripts, want at most 13 after the first replica's", w.scripts)
		}
		if got := events.kinds(); !slices.Equal(got, []Kind{Waiting}) {
			t.Errorf("events %v, want waiting once", got)
		}
		if l := w.listing(t); len(l.Waiting) != 0 || len(l.Holders) != 1 {
			t.Errorf("afterwards the hash holds %+v, want a alone", l)
		}
	})
}

func TestMoreThanTheWholeFleetMayHoldIsRefusedAtOnce(t *testing.T) {
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		f, _ := w.replica(t, "a", "1", 6, 5)
		if _, ok := errors.AsType[*ImpossibleError](f.Join(t.Context())); !ok || w.scripts > 0 {
			t.Errorf("want an ImpossibleError and no command, got %d scripts", w.scripts)
		}
	})
}

func TestARollingDeployPassesPlacesOnInTheOrderOfTheLine(t *testing.T) {
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		var old []*Fleet
		for _, name := range []string{"a", "b", "c"} {
			f, _ := w.replica(t, name, "old", 3, 9)
			join(t, f)
			old = append(old, f)
		}
		var all sync.WaitGroup
		var mu sync.Mutex
		var order []string
		var worst time.Duration
		var freed time.Time
		for _, name := range []string{"d", "e", "f"} {
			f, _ := w.replica(t, name, "new", 3, 9, func(o *Options) { o.Wait = 10 * time.Minute })
			all.Go(func() {
				if err := f.Join(context.Background()); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, name)
				worst = max(worst, time.Since(freed))
			})
			time.Sleep(2 * time.Second)
		}
		// One that needs little does not overtake those who came before.
		small, _ := w.replica(t, "small", "new", 1, 9, func(o *Options) { o.Wait = -1 })
		for _, f := range old {
			time.Sleep(time.Minute)
			mu.Lock()
			freed = time.Now()
			mu.Unlock()
			if err := f.Leave(t.Context()); err != nil {
				t.Error(err)
			}
			if _, ok := errors.AsType[*FullError](small.Join(t.Context())); !ok {
				t.Error("a newcomer got in before those in line")
			}
		}
		all.Wait()
		if !slices.Equal(order, []string{"d", "e", "f"}) {
			t.Errorf("places went to %v, want d, e, f", order)
		}
		if worst > lastPause {
			t.Errorf("a free place was taken after %s, want at most %s", worst, lastPause)
		}
		t.Logf("a free place was taken after at most %s", worst)
	})
}

func TestACrashedReplicasPlaceComesFree(t *testing.T) {
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		crashed, _ := w.replica(t, "a", "1", 5, 5)
		join(t, crashed)
		other, _ := w.replica(t, "b", "1", 5, 5, func(o *Options) { o.Wait = 2 * time.Hour })
		begun := time.Now()
		join(t, other)
		if took := time.Since(begun); took < DefaultLease || took > DefaultLease+lastPause {
			t.Errorf("another waited %s, want the lease of %s and at most %s", took, DefaultLease, lastPause)
		}
		again, events := w.replica(t, "b", "2", 5, 5, func(o *Options) { o.Wait = -1 })
		join(t, again) // at once, because it takes over its own place
		if l := w.listing(t); len(l.Holders) != 1 || l.Holders[0].Instance != "2" || len(events.kinds()) != 1 {
			t.Errorf("holders %+v, events %v", l.Holders, events.kinds())
		}
		elsewhere, _ := w.replica(t, "b", "3", 5, 5, func(o *Options) { o.Wait, o.Host = -1, "elsewhere" })
		if _, ok := errors.AsType[*FullError](elsewhere.Join(t.Context())); !ok {
			t.Error("one of its name on another host: want a FullError")
		}
	})
}

func TestTwoLiveProcessesOfOneNameAreNoticed(t *testing.T) {
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		first, events := w.replica(t, "a", "1", 3, 10)
		join(t, first)
		second, _ := w.replica(t, "a", "2", 3, 10)
		join(t, second) // takes the place over: it cannot know that the first one lives
		if err := first.renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := events.kinds(); !slices.Equal(got, []Kind{Joined, Lost, Duplicate}) {
			t.Errorf("the first one was told %v, want that it lost its place to another of its name", got)
		}
		if l := w.listing(t); l.Connections() != 6 || !slices.Equal(l.Duplicates(), []string{"a"}) {
			t.Errorf("both are counted: %+v", l)
		}
		third, told := w.replica(t, "a", "3", 3, 10, func(o *Options) { o.Host = "elsewhere" })
		join(t, third)
		if !slices.Contains(told.kinds(), Duplicate) {
			t.Errorf("one on another host was told %v, want duplicate at once", told.kinds())
		}
	})
}

func TestAPausedProcessFindsItsPlaceGoneAndSaysThatItIsOver(t *testing.T) {
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		a, events := w.replica(t, "a", "1", 3, 4)
		join(t, a)
		time.Sleep(DefaultLease)
		b, _ := w.replica(t, "b", "1", 3, 4)
		join(t, b)
		if err := a.renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := events.kinds(); !slices.Equal(got, []Kind{Joined, Lost, Over}) || !a.State().Over {
			t.Errorf("events %v, over %t", got, a.State().Over)
		}
		c, _ := w.replica(t, "c", "1", 1, 4, func(o *Options) { o.Wait = -1 })
		if _, ok := errors.AsType[*FullError](c.Join(t.Context())); !ok {
			t.Error("somebody got in while the fleet is above its cap")
		}
		if err := a.Resize(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if got := events.kinds(); a.State().Over || got[len(got)-1] != Within {
			t.Errorf("after giving two up: over %t, events %v", a.State().Over, got)
		}
	})
}

func TestAMonthOfRenewalsCostsWhatItSays(t *testing.T) {
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		f, events := w.replica(t, "a", "1", 3, 3)
		join(t, f)
		ctx, cancel := context.WithTimeout(t.Context(), 30*24*time.Hour)
		defer cancel()
		if err := f.Run(ctx); err != nil {
			t.Fatal(err)
		}
		want := 0.0
		for _, p := range f.Periodic() {
			want += (p.Commands + p.InScript) * float64(30*24*time.Hour) / float64(p.Every)
		}
		billed := w.plain + w.scripts + w.inside
		t.Logf("30 days: %d plain, %d scripts, %d in scripts: %d billed, said %.0f", w.plain, w.scripts, w.inside, billed, want)
		if float64(billed) > want+4 || w.plain+w.scripts > 1441 {
			t.Errorf("%d billed, want %.0f and the joining; %d top-level", billed, want, w.plain+w.scripts)
		}
		if got := events.kinds(); !slices.Equal(got, []Kind{Joined}) {
			t.Errorf("events %v, want none but joined", got)
		}
	})
}

func TestAnOutageKeepsWhatIsHeldAndIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		f, events := w.replica(t, "a", "1", 3, 3)
		set := func(down bool) { w.outside(func() { w.down = down }) }
		set(true)
		if err := f.Join(t.Context()); err == nil {
			t.Fatal("Join without Redis succeeded")
		}
		var all sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		all.Go(func() {
			if err := f.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(time.Hour)
		set(false)
		time.Sleep(lastRetry + time.Second)
		if !f.State().Registered {
			t.Error("not registered although Redis is back")
		}
		set(true)
		time.Sleep(45 * time.Minute)
		set(false)
		time.Sleep(lastRetry + time.Second)
		if s := f.State(); !s.Registered || s.Err != nil || s.Expires.Before(time.Now().Add(time.Hour)) {
			t.Errorf("after an outage: %+v", s)
		}
		cancel()
		all.Wait()
		if slices.Contains(events.kinds(), Lost) {
			t.Errorf("events %v", events.kinds())
		}
	})
}

func TestClockJumpsOfTheServerEndNoPlaceForGood(t *testing.T) {
	for name, jump := range map[string]time.Duration{"an hour ahead": time.Hour, "a week ahead": 7 * 24 * time.Hour, "a year back": -365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			synctest.Test(t, func(t *testing.T) {
				a, _ := w.replica(t, "a", "1", 3, 6)
				crashed, _ := w.replica(t, "crashed", "1", 3, 6)
				join(t, a)
				join(t, crashed)
				ctx, cancel := context.WithCancel(t.Context())
				var all sync.WaitGroup
				all.Go(func() { _ = a.Run(ctx) })
				time.Sleep(time.Hour)
				w.skew.Store(int64(jump))
				look, _ := w.replica(t, "look", "1", 3, 6, func(o *Options) { o.Wait = -1 })
				for range 50 { // two days
					_ = look.Join(t.Context())
					time.Sleep(time.Hour)
				}
				cancel()
				all.Wait()
				l := w.listing(t)
				if !slices.ContainsFunc(l.Holders, func(m Member) bool { return m.Replica == "a" }) {
					t.Error("the live replica is not registered any more")
				}
				if slices.ContainsFunc(l.Holders, func(m Member) bool { return m.Replica == "crashed" }) {
					t.Error("the crashed replica still holds its place")
				}
				if l.Connections() > 6 {
					t.Errorf("%d connections are held, want at most 6", l.Connections())
				}
			})
		})
	}
}

func TestTwoVersionsRunTogetherAndANewerSchemaIsRefused(t *testing.T) {
	w := newWorld(t)
	newer := func(o *Options) { o.knows = 2 }
	synctest.Test(t, func(t *testing.T) {
		old, _ := w.replica(t, "old", "1", 2, 10)
		join(t, old)
		next, _ := w.replica(t, "next", "1", 2, 10, newer)
		join(t, next)
		if got := w.fields()["schema"]; got != "1" {
			t.Errorf("schema %q while an old replica lives, want 1", got)
		}
		for _, f := range []*Fleet{old, next} {
			if err := f.renew(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if err := old.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := next.Resize(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		if got := w.fields()["schema"]; got != "2" {
			t.Errorf("schema %q once the old replica has left, want 2", got)
		}
		before := w.fields()
		late, _ := w.replica(t, "late", "1", 2, 10)
		err := late.Join(t.Context())
		if e, ok := errors.AsType[*SchemaError](err); !ok || e.Got != 2 || e.Known != 1 {
			t.Errorf("Join = %v, want a SchemaError", err)
		}
		if err := late.Run(t.Context()); err == nil {
			t.Error("Run goes on in spite of a newer schema")
		}
		if after := w.fields(); len(after) != len(before) {
			t.Errorf("a refused replica changed the hash: %v", after)
		}
		if err := next.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		join(t, late) // nobody is left who needs the newer one
	})
}

func TestWhatIsNoLeaseIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		for _, field := range []string{"schema", "member:x/1"} {
			w.outside(func() {
				w.real.Del(context.Background(), DefaultKey)
				w.real.HSet(context.Background(), DefaultKey, field, "hello", "until:x/1", "99999999999999")
			})
			f, _ := w.replica(t, "a", "1", 1, 10)
			if _, ok := errors.AsType[*DamagedError](f.Join(t.Context())); !ok {
				t.Errorf("%s: want a DamagedError", field)
			}
			if got := w.fields(); len(got) != 2 {
				t.Errorf("%s: the hash became %v", field, got)
			}
		}
	})
}

func TestALostHashIsBuiltAnew(t *testing.T) {
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		a, events := w.replica(t, "a", "1", 3, 6)
		b, _ := w.replica(t, "b", "1", 3, 6)
		join(t, a)
		join(t, b)
		w.outside(func() { w.real.FlushAll(context.Background()) })
		time.Sleep(DefaultRenew)
		for _, f := range []*Fleet{a, b} {
			if err := f.renew(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if l := w.listing(t); l.Connections() != 6 || a.State().Over || b.State().Over {
			t.Errorf("registered: %+v", l)
		}
		if !slices.Contains(events.kinds(), Lost) {
			t.Errorf("events %v, want lost", events.kinds())
		}
	})
}
