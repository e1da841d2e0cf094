package step

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
)

// belt is a source and a target that only count. Moving a pass takes at most perPass jobs; before each
// pass producers add what is left in arrivals.
type belt struct {
	here, there *int64
	perPass     int64
	arrivals    []int64
	held        []string
	mismatches  []mover.Problem
	skipped     []mover.Problem
	stuck       int64 // of what is here, what cannot be moved
	schedulers  int64
	err         error
	onMove      func(ctx context.Context)
	passes      int
	forgotten   bool
	finished    bool // by the last Move
}

func (b *belt) Plan(context.Context) (mover.Plan, error) { return mover.Plan{}, nil }

func (b *belt) Move(ctx context.Context) (mover.Result, error) {
	b.passes++
	if len(b.arrivals) > 0 {
		*b.here += b.arrivals[0]
		b.arrivals = b.arrivals[1:]
	}
	n := min(*b.here-b.stuck, b.perPass)
	*b.here, *b.there = *b.here-n, *b.there+n
	if b.onMove != nil {
		b.onMove(ctx)
	}
	err := b.err
	if err == nil {
		err = ctx.Err()
	}
	b.finished = err == nil
	return mover.Result{Moved: map[mover.State]int64{mover.Waiting: n}, Held: b.held, Skipped: b.skipped, Scripts: 1}, err
}

func (b *belt) Note(context.Context) error { return nil }

func (b *belt) Verify(context.Context) (mover.Verification, error) {
	return mover.Verification{
		Remaining: map[mover.State]int64{mover.Waiting: *b.here}, Target: map[mover.State]int64{mover.Waiting: *b.there},
		Mismatches: b.mismatches, Schedulers: b.schedulers, Finished: b.finished,
	}, nil
}

func (b *belt) Forget(context.Context) error { b.forgotten = true; return nil }

// belts makes the two ways over one queue of jobs.
func belts(jobs int64) (m *Move, out, back *belt) {
	var there int64
	here := jobs
	out = &belt{here: &here, there: &there, perPass: 1000}
	back = &belt{here: &there, there: &here, perPass: 1000}
	route := Route{
		From: mover.Endpoint{Layout: mover.Bull, Major: 4, Prefix: "bull", Queue: "mail"},
		To:   mover.Endpoint{Layout: mover.BullMQ, Major: 6, Prefix: "bullmq", Queue: "mail"},
	}
	return &Move{route: route, out: out, back: back}, out, back
}

func TestMoveIsIdempotentBothWays(t *testing.T) {
	m, out, _ := belts(10)
	if err := m.Verify(t.Context()); !errors.Is(err, migrate.ErrNotApplied) {
		t.Errorf("Verify before = %v, want ErrNotApplied", err)
	}
	for _, verb := range []struct {
		name string
		f    func(context.Context) error
		here int64
	}{
		{"apply", m.Apply, 0},
		{"apply again", m.Apply, 0},
		{"verify", m.Verify, 0},
		{"roll back", m.Rollback, 10},
		{"roll back again", m.Rollback, 10},
		{"apply after rolling back", m.Apply, 0},
		{"verify again", m.Verify, 0},
	} {
		if err := verb.f(t.Context()); err != nil {
			t.Fatalf("%s: %v", verb.name, err)
		}
		if *out.here != verb.here || *out.there != 10-verb.here {
			t.Errorf("%s: %d here and %d there, want %d and %d", verb.name, *out.here, *out.there, verb.here, 10-verb.here)
		}
	}
}

// After the last job comes what belongs to the queue as a whole, and a crash can come between.
func TestAMoveThatMovedEveryJobAndDidNotFinishIsNotInPlace(t *testing.T) {
	m, out, _ := belts(10)
	crash := errors.New("crash after the last job")
	out.err = crash
	if err := m.Apply(t.Context()); !errors.Is(err, crash) {
		t.Fatalf("Apply = %v, want the crash", err)
	}
	fresh := &Move{route: m.route, out: out, back: m.back}
	if err := fresh.Verify(t.Context()); !errors.Is(err, migrate.ErrNotApplied) {
		t.Errorf("Verify with no job left = %v, want ErrNotApplied", err)
	}
	out.err = nil
	if err := fresh.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := (&Move{route: m.route, out: out, back: m.back}).Verify(t.Context()); err != nil {
		t.Errorf("Verify in a third process = %v, want nil", err)
	}
}

func TestMovePassesUntilItHasCaughtUpWithProducers(t *testing.T) {
	m, out, _ := belts(10_000)
	out.arrivals = []int64{0, 900, 900, 900, 300, 100, 3, 2}
	if err := m.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	*out.here += 2 // added between the last pass and the comparison
	if err := m.Verify(t.Context()); err != nil {
		t.Errorf("Verify with stragglers after Apply = %v, want nil: a second pass takes them", err)
	}
	got := m.Outcome()
	if got.Moved[mover.Waiting] != *out.there || got.Check.Remaining[mover.Waiting] != 2 {
		t.Errorf("Outcome() = %+v, want %d moved and 2 remaining", got, *out.there)
	}
	fresh := &Move{route: m.route, out: out, back: m.back}
	if err := fresh.Verify(t.Context()); !errors.Is(err, migrate.ErrNotApplied) {
		t.Errorf("Verify in a new process = %v, want ErrNotApplied: it cannot know that it had caught up", err)
	}
}

func TestMoveGivesUpOnAQueueThatIsFilledFaster(t *testing.T) {
	m, out, _ := belts(100)
	out.perPass = 100
	out.onMove = func(context.Context) { *out.here += 100 }
	if err := m.Apply(t.Context()); err == nil || out.passes != maxPasses {
		t.Errorf("Apply = %v after %d passes, want an error after %d", err, out.passes, maxPasses)
	}
}

func TestMoveTellsWhichJobsAWorkerKeeps(t *testing.T) {
	for name, jobs := range map[string]int64{"a quiet queue": 1, "a busy queue": 5000} {
		t.Run(name, func(t *testing.T) {
			m, out, back := belts(jobs)
			out.held = []string{"7", "8"}
			var held *HeldJobsError
			if err := m.Apply(t.Context()); !errors.As(err, &held) || !cmp.Equal(held.IDs, out.held) || held.Queue != m.route.From {
				t.Errorf("Apply = %v, want a HeldJobsError about 7 and 8 at the source", err)
			}
			if out.passes > 2 {
				t.Errorf("%d passes, want at most 2: each waits for the workers", out.passes)
			}
			back.held = []string{"9"}
			if err := m.Rollback(t.Context()); !errors.As(err, &held) || held.Queue != m.route.To {
				t.Errorf("Rollback = %v, want a HeldJobsError about the target", err)
			}
		})
	}
}

func TestMoveIsNotInPlaceWhileSourceAndTargetDisagree(t *testing.T) {
	m, out, back := belts(3)
	out.mismatches = []mover.Problem{{JobID: "1", Rule: "twice", Message: "job 1 is in bull:mail:wait and in bullmq:mail:wait"}}
	back.mismatches = out.mismatches
	var mismatch *MismatchError
	if err := m.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(t.Context()); !errors.As(err, &mismatch) || errors.Is(err, migrate.ErrNotApplied) {
		t.Errorf("Verify = %v, want a MismatchError that is not ErrNotApplied", err)
	}
	if err := m.Rollback(t.Context()); !errors.As(err, &mismatch) {
		t.Errorf("Rollback = %v, want a MismatchError", err)
	}
}

func TestMoveNotesHowFarItIsAndStopsWhenItCannot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, out, _ := belts(10)
		noted := 0
		full := errors.New("no space left on device")
		m.checkpoint = func(context.Context, any) error {
			if noted++; noted == 3 {
				return full
			}
			return nil
		}
		tell := m.onProgress(nil)
		out.onMove = func(ctx context.Context) {
			for range 1000 { // chunks of a second each
				time.Sleep(time.Second)
				tell(mover.Progress{})
				if ctx.Err() != nil {
					return
				}
			}
		}
		began := time.Now()
		if err := m.Apply(t.Context()); !errors.Is(err, full) {
			t.Errorf("Apply = %v, want what the checkpoint said", err)
		}
		if got := time.Since(began); got != 3*checkpointEvery {
			t.Errorf("stopped after %s with %d checkpoints, want after three of %s", got, noted, checkpointEvery)
		}
	})
}

func TestLedgerIsForgottenOnlyOnTheWayBack(t *testing.T) {
	_, _, back := belts(0)
	l := &Ledger{back: back}
	for _, f := range []func(context.Context) error{l.Apply, l.Verify, l.Apply} {
		if err := f(t.Context()); err != nil || back.forgotten {
			t.Errorf("forward: %v, forgotten %v, want neither", err, back.forgotten)
		}
	}
	if err := l.Rollback(t.Context()); err != nil || !back.forgotten {
		t.Errorf("Rollback = %v, forgotten %v, want it gone", err, back.forgotten)
	}
}

func TestTheWayBackIsNotCompleteWhileAnythingIsLeftAtTheTarget(t *testing.T) {
	for name, spoil := range map[string]func(back *belt){
		"a job that collides":  func(b *belt) { b.stuck = 1 },
		"a scheduler":          func(b *belt) { b.schedulers = 1 },
		"producers that go on": func(b *belt) { b.onMove = func(context.Context) { *b.here++ } },
	} {
		t.Run(name, func(t *testing.T) {
			m, _, back := belts(10)
			if err := m.Apply(t.Context()); err != nil {
				t.Fatal(err)
			}
			spoil(back)
			back.skipped = []mover.Problem{{JobID: "1", Rule: "collision", Message: "bull:mail:1 exists already"}}
			var blocked *BlockedError
			err := m.Rollback(t.Context())
			if !errors.As(err, &blocked) || blocked.Queue != m.route.To || len(blocked.Problems) != 2 {
				t.Fatalf("Rollback = %v, want a BlockedError that names the queue and what was skipped", err)
			}
			if back.passes > maxReturns {
				t.Errorf("%d passes, want at most %d", back.passes, maxReturns)
			}
			back.stuck, back.schedulers, back.onMove, back.skipped = 0, 0, nil, nil
			if err := m.Rollback(t.Context()); err != nil || *back.here != 0 {
				t.Errorf("Rollback once that is solved = %v with %d left, want nil and none", err, *back.here)
			}
		})
	}
}

func TestTheWayBackTakesWhatWasAddedWhileItCompared(t *testing.T) {
	m, _, back := belts(10)
	if err := m.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := int64(3)
	back.onMove = func(context.Context) { *back.here, late = *back.here+late, 0 }
	if err := m.Rollback(t.Context()); err != nil || *back.here != 0 {
		t.Errorf("Rollback = %v with %d left, want nil and none", err, *back.here)
	}
	if got := m.Outcome().Moved[mover.Waiting]; got != 13 {
		t.Errorf("moved %d, want all 13", got)
	}
}
