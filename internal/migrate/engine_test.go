package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/journal"
)

var errCrash = errors.New("injected crash")

// memLog is a journal in memory that dies at the n-th write of its life: before it became durable, or,
// with lost set, just after, so that only the acknowledgement is missing.
type memLog struct {
	entries []journal.Entry
	failAt  int
	lost    bool
	writes  int
	dead    bool
}

func (l *memLog) Append(_ context.Context, rec journal.Record) error {
	at := l.writes
	l.writes++
	if l.dead || (at == l.failAt && !l.lost) {
		l.dead = true
		return errCrash
	}
	l.entries = append(l.entries, entry(int64(len(l.entries))+1, rec))
	if at == l.failAt {
		l.dead = true
		return errCrash
	}
	return nil
}

func (l *memLog) Entries() []journal.Entry { return l.entries }

// reopen is what a new process finds.
func (l *memLog) reopen() *memLog { return &memLog{entries: l.entries, failAt: -1} }

func entry(seq int64, rec journal.Record) journal.Entry {
	e := journal.Entry{Schema: 1, Seq: seq, Time: time.Unix(seq, 0).UTC(), Kind: rec.Kind, Step: rec.Step}
	if rec.Detail != nil {
		e.Detail = mustJSON(rec.Detail)
	}
	return e
}

func (l *memLog) kinds() []string {
	out := []string{}
	for _, e := range l.entries {
		out = append(out, string(e.Kind)+" "+e.Step)
	}
	return out
}

// mark is a step that counts in world how often it is in place: 1 is right, 2 is applied twice.
type mark struct {
	name  string
	world map[string]int

	applyErr, verifyErr, undoErr error
	onApply                      func(context.Context)
}

func (m *mark) Name() string { return m.name }

func (m *mark) Apply(ctx context.Context) error {
	if m.onApply != nil {
		m.onApply(ctx)
	}
	if m.applyErr != nil {
		return m.applyErr
	}
	m.world[m.name]++
	return nil
}

func (m *mark) Verify(context.Context) error {
	if m.verifyErr != nil {
		return m.verifyErr
	}
	if m.world[m.name] == 0 {
		return migrate.ErrNotApplied
	}
	return nil
}

func (m *mark) Rollback(context.Context) error {
	if m.undoErr != nil {
		return m.undoErr
	}
	delete(m.world, m.name)
	return nil
}

func marks(world map[string]int) []migrate.Step {
	return []migrate.Step{&mark{name: "a", world: world}, &mark{name: "b", world: world}, &mark{name: "c", world: world}}
}

var (
	inPlace = map[string]int{"a": 1, "b": 1, "c": 1}
	nothing = map[string]int{}
)

// crashes calls f for every write of a run that makes writes of them, and both ways to die at it.
func crashes(t *testing.T, writes int, f func(t *testing.T, log *memLog)) {
	t.Helper()
	for at := range writes {
		for _, lost := range []bool{false, true} {
			name := fmt.Sprintf("before write %d", at)
			if lost {
				name = fmt.Sprintf("after write %d", at)
			}
			t.Run(name, func(t *testing.T) { f(t, &memLog{failAt: at, lost: lost}) })
		}
	}
}

const forwardWrites = 1 + 2*3 + 1 // begin, intent and done of three steps, complete

func TestACrashAtAnyWriteForwardIsResumedForward(t *testing.T) {
	crashes(t, forwardWrites, func(t *testing.T, log *memLog) {
		world := map[string]int{}
		if err := migrate.NewEngine(log, marks(world)...).Resume(t.Context()); !errors.Is(err, errCrash) {
			t.Fatalf("first run: got %v, want the injected crash", err)
		}
		log = log.reopen()
		e := migrate.NewEngine(log, marks(world)...)
		if err := e.Resume(t.Context()); err != nil {
			t.Fatalf("resume: %v", err)
		}
		if diff := cmp.Diff(inPlace, world); diff != "" {
			t.Errorf("world (-want +got):\n%s", diff)
		}
		if s, err := e.State(); err != nil || s.Stage != migrate.Complete {
			t.Errorf("State() = %s, %v, want complete", s.Stage, err)
		}
	})
}

func TestACrashAtAnyWriteForwardIsRolledBack(t *testing.T) {
	crashes(t, forwardWrites, func(t *testing.T, log *memLog) {
		world := map[string]int{}
		if err := migrate.NewEngine(log, marks(world)...).Start(t.Context()); !errors.Is(err, errCrash) {
			t.Fatalf("first run: got %v, want the injected crash", err)
		}
		log = log.reopen()
		err := migrate.NewEngine(log, marks(world)...).Rollback(t.Context(), nil)
		begun := len(log.entries) > 0
		if begun && err != nil || !begun && !errors.Is(err, migrate.ErrNothingToRollBack) {
			t.Fatalf("roll back with %d entries: %v", len(log.entries), err)
		}
		if diff := cmp.Diff(nothing, world); diff != "" {
			t.Errorf("world (-want +got):\n%s", diff)
		}
	})
}

func TestACrashAtAnyWriteBackwardIsResumedBackward(t *testing.T) {
	const backwardWrites = 1 + 2*3 + 1
	crashes(t, backwardWrites, func(t *testing.T, crash *memLog) {
		world := map[string]int{}
		whole := &memLog{failAt: -1}
		if err := migrate.NewEngine(whole, marks(world)...).Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		crash.entries = whole.entries
		if err := migrate.NewEngine(crash, marks(world)...).Rollback(t.Context(), nil); !errors.Is(err, errCrash) {
			t.Fatalf("roll back: got %v, want the injected crash", err)
		}
		log := crash.reopen()
		e := migrate.NewEngine(log, marks(world)...)
		before, err := e.State()
		if err != nil {
			t.Fatal(err)
		}
		if before.Stage == migrate.Backward {
			if err := e.Start(t.Context()); !isStage(err) {
				t.Errorf("Start while a way back is open = %v, want a StageError", err)
			}
		}
		want := nothing
		if err := e.Resume(t.Context()); err != nil {
			t.Fatalf("resume: %v", err)
		}
		if before.Stage == migrate.Complete {
			want = inPlace // the way back was not recorded, so nothing was asked for
		}
		if diff := cmp.Diff(want, world); diff != "" {
			t.Errorf("world (-want +got):\n%s", diff)
		}
	})
}

func isStage(err error) bool {
	var e *migrate.StageError
	return errors.As(err, &e)
}

func TestEveryChangeIsAnnouncedBeforeItIsMade(t *testing.T) {
	log := &memLog{failAt: -1}
	world := map[string]int{}
	steps := marks(world)
	steps[1].(*mark).onApply = func(context.Context) {
		last := log.entries[len(log.entries)-1]
		if last.Kind != journal.Intent || last.Step != "b" {
			t.Errorf("while b is applied the journal ends in %s %s, want its intent", last.Kind, last.Step)
		}
	}
	e := migrate.NewEngine(log, steps...)
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := e.Rollback(t.Context(), errors.New("changed my mind")); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"begin ", "intent a", "done a", "intent b", "done b", "intent c", "done c", "complete ",
		"back ", "undo c", "undone c", "undo b", "undone b", "undo a", "undone a", "rolled-back ",
	}
	if diff := cmp.Diff(want, log.kinds()); diff != "" {
		t.Errorf("journal (-want +got):\n%s", diff)
	}
}

func TestARunMayBeRepeatedRolledBackAndRepeatedAgain(t *testing.T) {
	log := &memLog{failAt: -1}
	world := map[string]int{}
	e := migrate.NewEngine(log, marks(world)...)
	if err := e.Rollback(t.Context(), nil); !errors.Is(err, migrate.ErrNothingToRollBack) {
		t.Errorf("Rollback of nothing = %v, want ErrNothingToRollBack", err)
	}
	for round := range 3 {
		if err := e.Start(t.Context()); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if diff := cmp.Diff(inPlace, world); diff != "" {
			t.Fatalf("round %d: world (-want +got):\n%s", round, diff)
		}
		if err := e.Rollback(t.Context(), nil); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := e.Rollback(t.Context(), nil); !errors.Is(err, migrate.ErrNothingToRollBack) {
			t.Errorf("round %d: second Rollback = %v, want ErrNothingToRollBack", round, err)
		}
		if diff := cmp.Diff(nothing, world); diff != "" {
			t.Fatalf("round %d: world (-want +got):\n%s", round, diff)
		}
	}
}

func TestASecondPassThatStopsEarlyIsStillWhollyUndone(t *testing.T) {
	log := &memLog{failAt: -1}
	world := map[string]int{}
	if err := migrate.NewEngine(log, marks(world)...).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	log.failAt = log.writes + 1 // the intent of its first step
	if err := migrate.NewEngine(log, marks(world)...).Start(t.Context()); !errors.Is(err, errCrash) {
		t.Fatalf("second pass: %v, want the injected crash", err)
	}
	if err := migrate.NewEngine(log.reopen(), marks(world)...).Rollback(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(nothing, world); diff != "" {
		t.Errorf("world (-want +got):\n%s", diff)
	}
}

func TestAChangedPlanRefusesToGoOn(t *testing.T) {
	world := map[string]int{}
	for name, change := range map[string]func(*migrate.Engine, *memLog) *migrate.Engine{
		"another option": func(e *migrate.Engine, _ *memLog) *migrate.Engine { e.Options = "zset"; return e },
		"one step less": func(e *migrate.Engine, l *memLog) *migrate.Engine {
			n := migrate.NewEngine(l, marks(world)[:2]...)
			n.Options = e.Options
			return n
		},
	} {
		t.Run(name, func(t *testing.T) {
			log := &memLog{failAt: 3}
			e := migrate.NewEngine(log, marks(world)...)
			e.Options = "keep"
			if err := e.Start(t.Context()); !errors.Is(err, errCrash) {
				t.Fatal(err)
			}
			log = log.reopen()
			was := maps.Clone(world)
			e = migrate.NewEngine(log, marks(world)...)
			e.Options = "keep"
			changed := change(e, log)
			for verb, f := range map[string]func(context.Context) error{
				"start": changed.Start, "resume": changed.Resume,
				"roll back": func(ctx context.Context) error { return changed.Rollback(ctx, nil) },
			} {
				var plan *migrate.PlanError
				if err := f(t.Context()); !errors.As(err, &plan) {
					t.Errorf("%s = %v, want a PlanError", verb, err)
				}
			}
			if diff := cmp.Diff(was, world); diff != "" {
				t.Errorf("the world was changed:\n%s", diff)
			}
		})
	}
}

func TestDoneIsWrittenOnlyAfterTheStepHasVerifiedItself(t *testing.T) {
	for name, verify := range map[string]error{
		"it says it is not applied": migrate.ErrNotApplied,
		"it cannot tell":            errors.New("timeout"),
	} {
		t.Run(name, func(t *testing.T) {
			log := &memLog{failAt: -1}
			steps := marks(map[string]int{})
			steps[1].(*mark).verifyErr = verify
			err := migrate.NewEngine(log, steps...).Start(t.Context())
			var at *migrate.StepError
			if !errors.As(err, &at) || at.Step != "b" || at.Verb != "verify" || !errors.Is(err, verify) {
				t.Errorf("Start = %v, want a StepError about verifying b", err)
			}
			want := []string{"begin ", "intent a", "done a", "intent b", "stopped b"}
			if diff := cmp.Diff(want, log.kinds()); diff != "" {
				t.Errorf("journal (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnUncertainStepIsNotAppliedAgain(t *testing.T) {
	log := &memLog{failAt: 2} // after the intent and the change, before done
	world := map[string]int{}
	if err := migrate.NewEngine(log, marks(world)...).Start(t.Context()); !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	steps := marks(world)
	unknown := errors.New("jobs differ")
	steps[0].(*mark).verifyErr = unknown
	if err := migrate.NewEngine(log.reopen(), steps...).Resume(t.Context()); !errors.Is(err, unknown) {
		t.Errorf("Resume = %v, want what Verify said", err)
	}
	if got := world["a"]; got != 1 {
		t.Errorf("a was applied %d times, want 1", got)
	}
}

func TestAFailedWayBackTellsBothErrors(t *testing.T) {
	log := &memLog{failAt: -1}
	world := map[string]int{}
	steps := marks(world)
	if err := migrate.NewEngine(log, steps...).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	cause, undo := errors.New("the new queue is slow"), errors.New("no reply")
	steps[1].(*mark).undoErr = undo
	e := migrate.NewEngine(log, steps...)
	if err := e.Rollback(t.Context(), cause); !errors.Is(err, cause) || !errors.Is(err, undo) {
		t.Errorf("Rollback = %v, want both the cause and what failed", err)
	}
	s, err := e.State()
	if err != nil || s.Stage != migrate.Backward || s.Current() == nil || s.Current().Name != "b" {
		t.Errorf("State() = %+v, %v, want it to be undoing b", s, err)
	}
	steps[1].(*mark).undoErr = nil
	if err := e.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(nothing, world); diff != "" {
		t.Errorf("world (-want +got):\n%s", diff)
	}
}

func TestAnInterruptedRunSaysSoAndIsResumed(t *testing.T) {
	log := &memLog{failAt: -1}
	world := map[string]int{}
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupt := errors.New("interrupted by the operator")
	steps := marks(world)
	steps[1].(*mark).onApply = func(context.Context) { cancel(interrupt) }
	steps[1].(*mark).applyErr = context.Canceled
	if err := migrate.NewEngine(log, steps...).Start(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Start = %v, want it to be cancelled", err)
	}
	e := migrate.NewEngine(log, marks(world)...)
	if s, err := e.State(); err != nil || s.Reason != interrupt.Error() || !s.Stage.Open() {
		t.Errorf("State() = %+v, %v, want it open with the cause as its reason", s, err)
	}
	if err := e.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(inPlace, world); diff != "" {
		t.Errorf("world (-want +got):\n%s", diff)
	}
}

func TestNothingIsWrittenAfterTheLeaseWasLost(t *testing.T) {
	log := &memLog{failAt: -1}
	ctx, cancel := context.WithCancelCause(t.Context())
	steps := marks(map[string]int{})
	steps[0].(*mark).onApply = func(context.Context) { cancel(migrate.ErrLeaseLost) }
	steps[0].(*mark).applyErr = context.Canceled
	if err := migrate.NewEngine(log, steps...).Start(ctx); err == nil {
		t.Fatal("Start = nil")
	}
	if diff := cmp.Diff([]string{"begin ", "intent a"}, log.kinds()); diff != "" {
		t.Errorf("journal (-want +got):\n%s", diff)
	}
}

func TestEventsTellTheWholeStory(t *testing.T) {
	var got []string
	log := &memLog{failAt: 3} // the intent of b
	world := map[string]int{}
	run := func(log migrate.Log) error {
		e := migrate.NewEngine(log, marks(world)...)
		e.OnEvent = func(ev migrate.Event) {
			got = append(got, fmt.Sprintf("%s %s %d/%d", ev.Kind, ev.Step, ev.Index+1, ev.Of))
		}
		return e.Resume(t.Context())
	}
	if err := run(log); !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	if err := run(log.reopen()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"step-started a 1/3", "step-done a 1/3", "step-started b 2/3", "step-failed b 2/3",
		"step-skipped a 1/3", "step-started b 2/3", "step-done b 2/3", "step-started c 3/3", "step-done c 3/3",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestTwoStepsOfOneNameAreRefused(t *testing.T) {
	world := map[string]int{}
	log := &memLog{failAt: -1}
	e := migrate.NewEngine(log, &mark{name: "a", world: world}, &mark{name: "a", world: world})
	if err := e.Start(t.Context()); err == nil || len(log.entries) != 0 {
		t.Errorf("Start = %v with %d entries, want an error and none", err, len(log.entries))
	}
}
