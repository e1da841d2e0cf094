package migrate_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/migrate"
)

const always = "daily 00:00-24:00"

// closedNow is a window that does not open within the next two days, nor was open in the last two.
func closedNow() string { return time.Now().UTC().AddDate(0, 0, 3).Weekday().String() + " 02:00-02:01" }

func window(t *testing.T, text string) []migrate.Window {
	t.Helper()
	w, err := migrate.ParseWindow(text)
	if err != nil {
		t.Fatal(err)
	}
	return []migrate.Window{w}
}

// shut hosts until the host says that its window is closed, and ends it.
func (s *stage) shut() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := migrate.Host(ctx, s.opts)
		ended <- err
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		look := s.look()
		if p := look.Pulse; look.Holder != nil && p != nil && strings.Contains(p.Why, "maintenance window is closed") {
			break
		}
		select {
		case err := <-ended:
			s.t.Fatalf("the host ended with %v, want it to wait for its window", err)
		case <-s.slow.began:
			s.t.Fatal("a step was begun outside the window")
		case <-tick.C:
		}
	}
	cancel()
	if err := <-ended; err == nil {
		s.t.Error("it ended well although it was interrupted")
	}
}

func (s *stage) look() migrate.Standing {
	s.t.Helper()
	look, err := migrate.Look(s.t.Context(), s.client, s.opts.Session)
	if err != nil {
		s.t.Fatal(err)
	}
	return look
}

// keeps fails unless the journal keeps windows, and the plan that was begun.
func (s *stage) keeps(plan string, windows ...string) {
	s.t.Helper()
	now := s.look().State
	if diff := cmp.Diff(windows, slices.Clone(now.Windows)); diff != "" && len(windows)+len(now.Windows) > 0 {
		s.t.Errorf("the journal keeps other windows (-want +got):\n%s", diff)
	}
	if plan != now.Plan {
		s.t.Errorf("the plan is %.12s, want %.12s: windows are no part of it", now.Plan, plan)
	}
}

func TestALaterHostKeepsToTheWindowsOfAnEarlierOne(t *testing.T) {
	s := newStage(t)
	s.opts.Windows = window(t, always)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := migrate.Host(ctx, s.opts)
		ended <- err
	}()
	<-s.slow.began
	stop()
	if err := <-ended; err == nil {
		t.Fatal("it ended well in the middle of a step")
	}
	plan := s.look().State.Plan
	s.keeps(plan, always)

	s.opts.Begin, s.opts.Windows = false, nil // in the window that is kept
	ctx, stop = context.WithCancel(t.Context())
	go func() {
		_, err := migrate.Host(ctx, s.opts)
		ended <- err
	}()
	<-s.slow.began
	stop()
	if err := <-ended; err == nil {
		t.Error("it ended well in the middle of a step")
	}
	s.keeps(plan, always)

	closed := closedNow()
	s.opts.Windows = window(t, closed) // another one counts from now on
	s.shut()
	s.keeps(plan, closed)
	entries := len(s.look().Entries)
	s.shut() // the same one is kept once
	if got := len(s.look().Entries); got != entries {
		t.Errorf("the same window was written again: %d entries, want %d", got, entries)
	}
	s.opts.Windows = nil
	s.shut()
	s.opts.Begin = true // also for one that would begin
	s.shut()
	s.keeps(plan, closed)

	s.opts.AnyTime = true
	close(s.slow.end)
	if hosted, err := s.host()(); err != nil || hosted.State.Stage != migrate.Complete {
		t.Fatalf("at any time: %v, %v, want it complete", hosted.State.Stage, err)
	}
	s.keeps(plan)
}

func TestTheWayBackNeedsNoWindowAndTheNextRunBeginsWithoutOne(t *testing.T) {
	s := newStage(t)
	close(s.slow.end)
	s.opts.Windows = window(t, always)
	if _, err := s.host()(); err != nil {
		t.Fatal(err)
	}
	<-s.slow.began
	plan := s.look().State.Plan
	closed := closedNow()
	s.opts.Windows = window(t, closed) // a second pass waits
	s.shut()
	s.keeps(plan, closed)
	s.opts.Windows, s.opts.Begin, s.opts.Back = nil, false, true
	if hosted, err := s.host()(); err != nil || hosted.State.Stage != migrate.RolledBack {
		t.Fatalf("back: %v, %v, want it rolled back", hosted.State.Stage, err)
	}
	s.opts.Begin, s.opts.Back = true, false
	if hosted, err := s.host()(); err != nil || hosted.State.Stage != migrate.Complete {
		t.Fatalf("there again: %v, %v, want it complete", hosted.State.Stage, err)
	}
	s.keeps(plan)
}

func TestAWindowThatCannotBeReadStopsTheNextHost(t *testing.T) {
	s := newStage(t)
	close(s.slow.end)
	if _, err := s.host()(); err != nil {
		t.Fatal(err)
	}
	session, err := migrate.OpenSession(t.Context(), s.client, s.opts.Session)
	if err != nil {
		t.Fatal(err)
	}
	err = session.Run(t.Context(), func(ctx context.Context) error {
		return migrate.NewEngine(session.Journal).Keep(ctx, []string{"at dusk"})
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.host()(); err == nil || !strings.Contains(err.Error(), `journal: window: got days "at"`) {
		t.Errorf("it ended with %v, want the window named", err)
	}
	s.opts.AnyTime = true
	if _, err := s.host()(); err != nil {
		t.Errorf("at any time: %v", err)
	}
	s.opts.Windows = window(t, always)
	if _, err := s.host()(); err == nil {
		t.Error("windows and any time at once were accepted")
	}
}
