package migrate_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// A line is several migrations of one Redis and what they did, in order.
type line struct {
	mu   sync.Mutex
	did  []string
	runs []migrate.HostOptions
}

func (l *line) note(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.did = append(l.did, what)
}

// waiter is a step that waits until it may end.
type waiter struct {
	name string
	wait func(ctx context.Context) error
	done bool
}

func (w *waiter) Name() string { return w.name }

func (w *waiter) Apply(ctx context.Context) error {
	err := w.wait(ctx)
	w.done = err == nil
	return err
}

func (w *waiter) Verify(context.Context) error {
	if w.done {
		return nil
	}
	return migrate.ErrNotApplied
}

func (w *waiter) Rollback(context.Context) error { return nil }

// newLine makes a migration of each queue: one step that move is called for, and with soak one that it is
// called for.
func newLine(t *testing.T, queues []string, move, soak func(ctx context.Context, queue string) error) *line {
	t.Helper()
	l := &line{}
	client, dir := redistest.Start(t).Client(t), t.TempDir()
	for _, q := range queues {
		session := sessionIn(dir)
		session.Target.Queue = q
		l.runs = append(l.runs, migrate.HostOptions{
			Client: client, Session: session, Begin: true,
			Open: func(context.Context, migrate.State, migrate.Env) (migrate.Phase, error) {
				steps := []migrate.Step{&waiter{name: "phase3.move", wait: func(ctx context.Context) error { return move(ctx, q) }}}
				if soak != nil {
					steps = append(steps, &waiter{name: "phase3.soak", wait: func(ctx context.Context) error { return soak(ctx, q) }})
				}
				return &phase{steps: steps}, nil
			},
		})
	}
	return l
}

// hosted hosts the line and fails when it goes on and on.
func (l *line) hosted(t *testing.T) []migrate.Sequenced {
	t.Helper()
	ended := make(chan []migrate.Sequenced, 1)
	go func() { ended <- migrate.HostInOrder(t.Context(), l.runs) }()
	select {
	case all := <-ended:
		return all
	case <-time.After(30 * time.Second):
		t.Fatal("the hosts go on and on")
		return nil
	}
}

func TestQueuesAreMovedOneAfterTheOtherWhileThoseBeforeSoak(t *testing.T) {
	queues := []string{"a", "b", "c"}
	var l *line
	moved := make(chan struct{})
	l = newLine(t, queues, func(_ context.Context, q string) error {
		l.note("move " + q)
		if q == "c" {
			close(moved)
		}
		return nil
	}, func(ctx context.Context, _ string) error {
		select { // no soak ends before the last queue was moved
		case <-moved:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	for i, d := range l.hosted(t) {
		if d.Err != nil || !d.Begun || d.State.Stage != migrate.Complete {
			t.Errorf("queue %d: begun %v, %s, %v, want it complete", i, d.Begun, d.State.Stage, d.Err)
		}
	}
	if diff := cmp.Diff([]string{"move a", "move b", "move c"}, l.did); diff != "" {
		t.Errorf("done (-want +got):\n%s", diff)
	}
}

func TestAQueueThatFailsKeepsTheOthersFromBeginningAndLeavesThoseThatSoak(t *testing.T) {
	crash := errors.New("the new workers crash")
	soaks := make(chan struct{})
	var l *line
	l = newLine(t, []string{"a", "b", "c"}, func(_ context.Context, q string) error {
		l.note("move " + q)
		if q == "b" {
			<-soaks
			return crash
		}
		return nil
	}, func(ctx context.Context, _ string) error {
		close(soaks)
		<-ctx.Done()
		return context.Cause(ctx)
	})
	all := l.hosted(t)
	if a := all[0]; a.Err != nil || a.State.Stage != migrate.Forward || a.State.Stop != migrate.StopPaused {
		t.Errorf("the one that soaked: %s, stopped as %q, %v, want it left where it is", a.State.Stage, a.State.Stop, a.Err)
	}
	if !errors.Is(all[1].Err, crash) {
		t.Errorf("the one that failed: %v, want %v", all[1].Err, crash)
	}
	if c := all[2]; c.Begun || c.State.Stage != migrate.NotStarted {
		t.Errorf("the one after it: begun %v, %s, want neither", c.Begun, c.State.Stage)
	}
	if slices.Contains(l.did, "move c") {
		t.Error("the one after it was moved")
	}
}

func TestAQueueIsLeftInPlaceWhenALaterOneFails(t *testing.T) {
	crash := errors.New("the new workers crash")
	l := newLine(t, []string{"a", "b"}, func(_ context.Context, q string) error {
		if q == "b" {
			return crash
		}
		return nil
	}, nil)
	all := l.hosted(t)
	if all[0].Err != nil || all[0].State.Stage != migrate.Complete || !errors.Is(all[1].Err, crash) {
		t.Errorf("got %s, %v and %v, want the first complete and the second failed", all[0].State.Stage, all[0].Err, all[1].Err)
	}
}
