package control

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// replica opens a Control on s; dir may be empty.
func replica(t *testing.T, s *store, dir string) *Control {
	t.Helper()
	c, err := Open(Options{Client: s.client(), Subscribe: s.subscribe, StateDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// follow runs c until the test ends.
func follow(t *testing.T, c *Control) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	return func() { cancel(); running.Wait() }
}

func ramp(route string, percent float64) func(*Document) error {
	return func(d *Document) error {
		d.Ramps[route] = percent
		return nil
	}
}

func update(t *testing.T, c *Control, f func(*Document) error) {
	t.Helper()
	if err := c.Update(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func TestTwoReplicasHearOfAChangeOverTheBell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		a, b := replica(t, s, ""), replica(t, s, "")
		defer follow(t, a)()
		defer follow(t, b)()
		synctest.Wait()

		heard := b.Changed()
		update(t, a, ramp("phase1", 25))
		synctest.Wait()
		select {
		case <-heard:
		default:
			t.Error("the other replica was not told")
		}
		if got := b.Current(); got.Epoch != 1 || got.Ramps["phase1"] != 25 {
			t.Errorf("the other replica has %+v, want epoch 1 with 25%%", got)
		}
		// Both read once at their start; the change is one script, and one reading of the other. The bell can ring
		// here before the script's answer is understood, which takes one reading more.
		if reads, scripts := s.cost(); reads < 3 || reads > 4 || scripts != 1 {
			t.Errorf("cost %d readings and %d scripts, want 3 or 4 and 1", reads, scripts)
		}
	})
}

func TestAQuietDayCostsTheSweepAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		c := replica(t, s, "")
		defer follow(t, c)()
		time.Sleep(24*time.Hour + time.Second)
		synctest.Wait()
		if reads, _ := s.cost(); reads != 1+4 {
			t.Errorf("%d readings a day, want 5: one at the start and one every 6 hours", reads)
		}
	})
}

func TestAGapAndTheSweepFindWhatTheBellMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		a, b := replica(t, s, ""), replica(t, s, "")
		defer follow(t, b)()
		synctest.Wait()
		s.drop()
		update(t, a, ramp("phase1", 5))
		time.Sleep(3 * time.Second) // the bell is asked for again after at most 1.5 s
		synctest.Wait()
		if got := b.Current().Epoch; got != 1 {
			t.Errorf("after the feed ended: epoch %d, want 1", got)
		}

		s.put(strings.ReplaceAll(s.get(), `"epoch":1`, `"epoch":2`)) // nobody rings
		s.setDown(true)
		s.setDown(false)
		synctest.Wait()
		if got := b.Current().Epoch; got != 2 {
			t.Errorf("after a gap: epoch %d, want 2", got)
		}

		s.put(strings.ReplaceAll(s.get(), `"epoch":2`, `"epoch":3`))
		time.Sleep(DefaultSweep)
		synctest.Wait()
		if got := b.Current().Epoch; got != 3 {
			t.Errorf("after the sweep: epoch %d, want 3", got)
		}
	})
}

func TestWorkGoesOnFromDiskWhileTheUpstreamIsDown(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		first := replica(t, s, dir)
		update(t, first, func(d *Document) error {
			d.Paused, d.Kill, d.By, d.Reason = []string{"mail"}, []string{"phase1"}, "ops", "incident"
			return nil
		})

		s.setDown(true)
		var failures []error
		again, err := Open(Options{Client: s.client(), Subscribe: s.subscribe, StateDir: dir, Failed: func(err error) { failures = append(failures, err) }})
		if err != nil {
			t.Fatal(err)
		}
		defer follow(t, again)()
		time.Sleep(time.Hour)
		synctest.Wait()
		state := again.State()
		if state.Source != FromDisk || !state.Document.PausedQueue("mail") || !state.Document.Killed("phase1") || state.Document.Reason != "incident" {
			t.Errorf("without an upstream: %+v", state)
		}
		if !errors.Is(state.Err, errDown) || !state.Confirmed.IsZero() {
			t.Errorf("State does not say that it was not confirmed: %+v", state)
		}
		if n := len(failures); n < 60 || n > 180 {
			t.Errorf("%d attempts in an hour of outage, want about one a minute", n)
		}

		s.setDown(false)
		update(t, first, ramp("phase1", 1))
		time.Sleep(2 * lastPause)
		synctest.Wait()
		if state := again.State(); state.Source != FromUpstream || state.Document.Epoch != 2 || state.Err != nil {
			t.Errorf("after the outage: %+v", state)
		}
	})
}

func TestABellThatCannotBeHadIsNotAskedForEveryMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		asked := 0
		c, err := Open(Options{Client: s.client(), Subscribe: func(context.Context, string) (Feed, error) {
			asked++
			return Feed{}, errors.New("no SSE here")
		}})
		if err != nil {
			t.Fatal(err)
		}
		stop := follow(t, c)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		stop()
		if asked > 130 {
			t.Errorf("asked %d times a day, want about once in 15 minutes", asked)
		}
		if reads, _ := s.cost(); reads > 98 {
			t.Errorf("%d readings a day, want the sweep's 97", reads)
		}
	})
}

func TestAnOverrideHoldsUntilAHigherEpoch(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		c, other := replica(t, s, dir), replica(t, s, "")
		update(t, c, ramp("phase1", 50))
		s.setDown(true)
		if err := c.Override(Document{Kill: []string{"phase1"}, By: "ops"}); err != nil {
			t.Fatal(err)
		}
		if got := c.State(); got.Source != FromOverride || Route(got.Document, "phase1", "x") {
			t.Errorf("after the override: %+v", got)
		}
		if got := other.Current(); got.Killed("phase1") {
			t.Error("the override reached another replica")
		}

		// It survives a restart, and the upstream's return with the epoch that was known.
		c = replica(t, s, dir)
		defer follow(t, c)()
		s.setDown(false)
		time.Sleep(2 * lastPause)
		synctest.Wait()
		if got := c.State(); got.Source != FromOverride || got.Confirmed.IsZero() {
			t.Errorf("after a restart: %+v, want the override", got)
		}

		update(t, other, ramp("phase1", 0))
		synctest.Wait()
		if got := c.State(); got.Source != FromUpstream || got.Document.Epoch != 2 || len(got.Document.Kill) > 0 {
			t.Errorf("after a higher epoch: %+v", got)
		}
		if k, err := c.disk.load(); err != nil || k.Override != nil {
			t.Errorf("the override is still on disk: %+v, %v", k, err)
		}
	})
}

func TestAnOverrideCanBeTakenBack(t *testing.T) {
	s := newStore()
	c := replica(t, s, t.TempDir())
	update(t, c, ramp("r", 10))
	if ended, err := c.EndOverride(); ended || err != nil {
		t.Errorf("EndOverride without one = %t, %v", ended, err)
	}
	if err := c.Override(Document{}); err != nil {
		t.Fatal(err)
	}
	if ended, err := c.EndOverride(); !ended || err != nil || c.Current().Ramps["r"] != 10 {
		t.Errorf("EndOverride = %t, %v; in force: %+v", ended, err, c.Current())
	}
}

func TestAChangeThatLostTheRaceIsMadeAgainOnTopOfTheOthers(t *testing.T) {
	s := newStore()
	a, b := replica(t, s, ""), replica(t, s, "")
	update(t, a, ramp("one", 1))
	if err := b.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	update(t, a, ramp("two", 2))
	calls := 0
	update(t, b, func(d *Document) error {
		calls++
		d.Ramps["three"] = 3
		return nil
	})
	want := map[string]float64{"one": 1, "two": 2, "three": 3}
	if got := b.Current(); got.Epoch != 3 || !cmp.Equal(got.Ramps, want) || calls != 2 {
		t.Errorf("after %d calls: %+v, want epoch 3 with all three after 2 calls", calls, got)
	}
}

func TestAChangeThatAlwaysLosesEnds(t *testing.T) {
	s := newStore()
	a := replica(t, s, "")
	update(t, a, ramp("r", 1))
	epoch := int64(1)
	s.swapped = func(text string) string {
		d, err := parse([]byte(text), "store")
		if err != nil {
			t.Fatal(err)
		}
		epoch++
		d.Epoch = epoch
		out, err := d.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if err := a.Update(t.Context(), ramp("r", 2)); !errors.Is(err, ErrContended) {
		t.Errorf("Update = %v, want ErrContended", err)
	}
}

func TestAnUpdateThatIsRefusedChangesNothing(t *testing.T) {
	s := newStore()
	c := replica(t, s, "")
	update(t, c, ramp("r", 10))
	before := s.get()
	for name, x := range map[string]struct {
		f    func(*Document) error
		want string
	}{
		"more than all keys":       {ramp("r", 101), "percentage from 0 to 100"},
		"a negative share":         {ramp("r", -1), "percentage from 0 to 100"},
		"a route without a name":   {ramp("", 1), "want 1 to 200"},
		"a name with a line break": {func(d *Document) error { d.Paused = []string{"a\nb"}; return nil }, "printable"},
		"a reason without an end":  {func(d *Document) error { d.Reason = strings.Repeat("x", 1001); return nil }, "at most 1000 bytes"},
		"the caller's own no":      {func(*Document) error { return errors.New("no such queue") }, "no such queue"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.Update(t.Context(), x.f); err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("Update = %v, want %q in it", err, x.want)
			}
		})
	}
	if s.get() != before || c.Current().Epoch != 1 {
		t.Error("a refused change left something behind")
	}
	if err := c.Override(Document{Ramps: map[string]float64{"r": 200}}); err == nil || c.State().Source == FromOverride {
		t.Errorf("a wrong override is taken: %v", err)
	}
}

func TestWhatTheUpstreamLostStaysInForceAndComesBackAbove(t *testing.T) {
	s := newStore()
	c := replica(t, s, "")
	update(t, c, ramp("r", 10))
	update(t, c, func(d *Document) error { d.Kill = []string{"r"}; return nil })
	backup := strings.Replace(s.get(), `"epoch":2`, `"epoch":1`, 1)

	s.put("")
	if err := c.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.State(); !got.Document.Killed("r") || got.Err == nil || !strings.Contains(got.Err.Error(), "is gone from the upstream") {
		t.Errorf("after the key was lost: %+v", got)
	}
	update(t, c, ramp("r", 5))
	if got := c.Current(); got.Epoch != 3 || !got.Killed("r") {
		t.Errorf("after a change on top: %+v, want epoch 3 with the switch still thrown", got)
	}

	s.put(backup)
	if err := c.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.State(); got.Document.Epoch != 3 || got.Err == nil || !strings.Contains(got.Err.Error(), "epoch 1, but 3 was seen") {
		t.Errorf("after a backup was restored: %+v", got)
	}
	update(t, c, ramp("r", 6))
	if got := c.State(); got.Document.Epoch != 4 || got.Err != nil {
		t.Errorf("after a change on top of the backup: %+v", got)
	}
}

func TestVersionsNAndNMinusOneRunTogether(t *testing.T) {
	s := newStore()
	// A newer program of the same schema has a field that this one does not know.
	s.put(`{"schema":1,"epoch":7,"ramps":{"r":5},"paused":[],"kill":[],"by":"","reason":"","updated":"2026-11-01T00:00:00Z","shadow":{"r":true}}`)
	c := replica(t, s, t.TempDir())
	update(t, c, ramp("r", 25))
	if got := s.get(); !strings.Contains(got, `"shadow":{"r":true}`) || !strings.Contains(got, `"epoch":8`) || !strings.Contains(got, `"r":25`) {
		t.Errorf("stored %s, want epoch 8, 25%% and the field that is not ours", got)
	}
	again := replica(t, s, c.opts.StateDir)
	if text, _ := again.Current().MarshalJSON(); !strings.Contains(string(text), `"shadow":{"r":true}`) {
		t.Errorf("from disk: %s, want the field that is not ours", text)
	}
	// An older program wrote fewer fields.
	s.put(`{"schema":1,"epoch":9}`)
	if err := c.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := Document{Schema: 1, Epoch: 9, Ramps: map[string]float64{}, Paused: []string{}, Kill: []string{}}
	if diff := cmp.Diff(want, c.Current(), cmpopts.IgnoreUnexported(Document{})); diff != "" {
		t.Errorf("of an older program (-want +got):\n%s", diff)
	}
}

func TestADocumentThatCannotBeReadIsRefusedAndNothingChanges(t *testing.T) {
	for name, x := range map[string]struct {
		text  string
		newer bool
	}{
		"a newer schema":               {`{"schema":2,"epoch":9,"ramps":[1]}`, true},
		"no JSON":                      {"hello", false},
		"cut off":                      {`{"schema":1,"epoch":9,"ra`, false},
		"no schema":                    {`{"epoch":9}`, false},
		"no epoch":                     {`{"schema":1}`, false},
		"a share of more than all":     {`{"schema":1,"epoch":9,"ramps":{"r":1e9}}`, false},
		"ramps of another kind":        {`{"schema":1,"epoch":9,"ramps":[]}`, false},
		"a list":                       {`[]`, false},
		"null":                         {`null`, false},
		"longer than any can be":       {`{"schema":1,"epoch":9,"reason":"` + strings.Repeat("x", maxBytes) + `"}`, false},
		"a name that is not printable": {`{"schema":1,"epoch":9,"kill":["\u0000"]}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore()
			c := replica(t, s, "")
			update(t, c, ramp("r", 10))
			s.put(x.text)
			err := c.Read(t.Context())
			_, newer := errors.AsType[*SchemaError](err)
			_, damaged := errors.AsType[*DamagedError](err)
			if newer != x.newer || damaged == x.newer {
				t.Errorf("Read = %v", err)
			}
			if got := c.State(); got.Document.Epoch != 1 || got.Document.Ramps["r"] != 10 || got.Err == nil {
				t.Errorf("in force: %+v, want epoch 1, and the reason in Err", got)
			}
			if err := c.Update(t.Context(), ramp("r", 20)); err == nil || s.get() != x.text {
				t.Errorf("Update = %v; it must not overwrite what it cannot read", err)
			}
		})
	}
}

func TestADocumentThatCannotBeReadCostsTheSweepAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		s.put(`{"schema":2}`)
		c := replica(t, s, "")
		stop := follow(t, c)
		time.Sleep(24*time.Hour + time.Second)
		synctest.Wait()
		stop()
		if reads, _ := s.cost(); reads != 5 {
			t.Errorf("%d readings a day, want 5", reads)
		}
	})
}

func TestEveryProblemOfTheOptionsIsReported(t *testing.T) {
	_, err := Open(Options{Sweep: time.Second, Timeout: -1, Key: strings.Repeat("k", 600)})
	for _, want := range []string{"client: missing", "sweep: got 1s", "timeout: got -1ns", "key: 600 bytes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open = %v, want %q in it", err, want)
		}
	}
}

func TestADirectoryThatCannotBeWrittenKeepsNothingFromWorking(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newStore()
	c := replica(t, s, filepath.Join(file, "below"))
	err := c.Update(t.Context(), ramp("r", 10))
	if err == nil || c.Current().Ramps["r"] != 10 {
		t.Errorf("Update = %v with %+v, want the change in force and an error of the disk", err, c.Current())
	}
	if err := c.Override(Document{Kill: []string{"r"}}); err == nil || !strings.Contains(err.Error(), "not kept") || !c.Current().Killed("r") {
		t.Errorf("Override = %v with %+v, want it in force and an error of the disk", err, c.Current())
	}
	if c.State().Err == nil {
		t.Error("State hides the failure of the disk")
	}
}

func TestListsAreSortedAndWithoutRepetition(t *testing.T) {
	s := newStore()
	c := replica(t, s, "")
	update(t, c, func(d *Document) error {
		d.Paused = []string{"b", "a", "b"}
		return nil
	})
	if got := c.Current().Paused; !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("paused = %v", got)
	}
	// What Current returns is the caller's own.
	c.Current().Paused[0] = "z"
	if got := c.Current().Paused[0]; got != "a" {
		t.Errorf("a caller changed the document in force: %s", got)
	}
}
