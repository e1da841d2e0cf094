package step

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
)

const (
	// caughtUp is how few jobs a pass may move for the source to count as drained. Producers that still
	// write to it keep adding a few while each pass runs.
	caughtUp = 50

	// maxPasses bounds the passes of one Apply. Each moves what was added during the one before, so a
	// queue that is not drained by then is filled faster than it can be moved.
	maxPasses = 1000

	// maxReturns bounds how often the way back looks again for what was added while it compared.
	maxReturns = 5

	// checkpointEvery is how often a long move notes in the journal how far it is.
	checkpointEvery = 30 * time.Second
)

// A way moves a queue in one direction; *mover.Mover is one.
type way interface {
	Plan(ctx context.Context) (mover.Plan, error)
	Move(ctx context.Context) (mover.Result, error)
	Note(ctx context.Context) error
	Verify(ctx context.Context) (mover.Verification, error)
	Forget(ctx context.Context) error
}

// A comparer can compare a queue before and after; *mover.Mover is one.
type comparer interface {
	Snapshot(ctx context.Context) (mover.Snapshot, error)
	Compare(ctx context.Context, before mover.Snapshot) (mover.Comparison, error)
}

// A leaver can leave nothing behind of what the way back needs; *mover.Mover is one.
type leaver interface {
	Leftovers(ctx context.Context) (int64, error)
	Clean(ctx context.Context) (int64, error)
}

// A Move is the step that takes every job of a queue to the target. It may run while producers and
// workers of the source are alive: what a worker is running stays until it is done, and jobs that are
// added while the last pass runs are left for another.
type Move struct {
	route      Route
	out, back  way
	checkpoint func(ctx context.Context, detail any) error // nil: none

	compare  bool
	before   *mover.Snapshot      // of the source, before this process moved a job
	progress func(mover.Progress) // of the pass that runs; set by pass
	drained  bool                 // by an Apply of this process
	outcome  Outcome
}

// An Outcome is what a Move or its way back did in this process, and how source and target compare.
type Outcome struct {
	// Moved counts the jobs that this process moved; what earlier ones moved is in Check.Moved.
	Moved map[mover.State]int64 `json:"moved"`

	// Skipped are jobs that cannot be moved, and why.
	Skipped []mover.Problem `json:"skipped"`

	Losses  int64 `json:"losses"`
	Scripts int64 `json:"scripts"`

	// Check is the last comparison.
	Check mover.Verification `json:"check"`

	// Compared is the queue before the move beside the queue after it; nil unless that was asked for.
	Compared *mover.Comparison `json:"compared,omitempty"`
}

// Name is the step's key in the journal.
func (m *Move) Name() string { return "phase3.move" }

// Apply moves all there is. It returns a *HeldJobsError when a live worker keeps some, after it has
// moved everything else.
func (m *Move) Apply(ctx context.Context) error {
	m.drained = false
	m.outcome = Outcome{Moved: map[mover.State]int64{}, Skipped: []mover.Problem{}}
	for _, w := range []way{m.out, m.back} {
		if err := w.Note(ctx); err != nil {
			return fenced(err)
		}
	}
	if c, ok := m.out.(comparer); ok && m.compare {
		before, err := c.Snapshot(ctx)
		if err != nil {
			return err
		}
		m.before = &before
	}
	if err := m.drain(ctx, m.out, m.route.From); err != nil {
		return err
	}
	m.drained = true
	return nil
}

// Verify compares source and target. Jobs that are left are no mismatch: after an Apply of this process
// they were added since, or were reported as skipped. A move that a crash kept from carrying over what
// belongs to the queue as a whole is not in place, although no job is left.
func (m *Move) Verify(ctx context.Context) error {
	check, err := m.verify(ctx, m.out, m.route.To)
	if err != nil {
		return err
	}
	if !m.drained && (total(check.Remaining) > 0 || !check.Finished) {
		return migrate.ErrNotApplied
	}
	return m.beside(ctx)
}

// beside compares the queue with what it was, if that is known. Digests that differ are no error, since jobs
// are added and run meanwhile; a job that is not what it was is.
func (m *Move) beside(ctx context.Context) error {
	c, ok := m.out.(comparer)
	if !ok || m.before == nil {
		return nil
	}
	compared, err := c.Compare(ctx, *m.before)
	if err != nil {
		return err
	}
	m.before = nil // once: from now on the target's workers run
	m.outcome.Compared = &compared
	if len(compared.Differences) > 0 {
		return &MismatchError{Queue: m.route.To, Mismatches: compared.Differences}
	}
	return nil
}

// Rollback moves everything back, what was added to the target meanwhile included, and compares. It
// returns a *HeldJobsError when a live worker of the target keeps some, and a *BlockedError while
// anything else is left there: without the ledger nobody could bring that back.
func (m *Move) Rollback(ctx context.Context) error {
	m.outcome = Outcome{Moved: map[mover.State]int64{}, Skipped: []mover.Problem{}}
	for n := 1; ; n++ {
		before := total(m.outcome.Moved)
		if err := m.drain(ctx, m.back, m.route.To); err != nil {
			return err
		}
		check, err := m.verify(ctx, m.back, m.route.From)
		if err != nil {
			return err
		}
		left := m.left(check)
		if left == nil {
			return nil
		}
		if n == maxReturns || total(m.outcome.Moved) == before {
			return left
		}
	}
}

// left says what keeps the way back from being complete, nil when nothing does.
func (m *Move) left(check mover.Verification) error {
	var problems []mover.Problem
	jobs := total(check.Remaining) - check.Hollow
	if jobs > 0 || check.Schedulers > 0 {
		problems = append(problems, mover.Problem{Rule: "left-behind", Blocking: true, Message: fmt.Sprintf(
			"%d jobs and %d schedulers are still there, so the way back is not complete; "+
				"stop its producers, solve what is listed here, then run the rollback again", jobs, check.Schedulers)})
	}
	for _, p := range m.outcome.Skipped {
		if p.Rule == "missing-hash" || p.Rule == "marker-like-id" {
			continue // an id, and no job
		}
		if len(problems) > 0 || m.route.InPlace() { // in place what was skipped counts as remaining nowhere else
			p.Blocking = true
			problems = append(problems, p)
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return &BlockedError{Queue: m.route.To, Problems: problems}
}

// drain runs passes until one finds next to nothing.
func (m *Move) drain(ctx context.Context, w way, from mover.Endpoint) error {
	for n := range maxPasses {
		r, err := m.pass(ctx, w)
		for state, jobs := range r.Moved {
			m.outcome.Moved[state] += jobs
		}
		m.outcome.Losses += r.Losses
		m.outcome.Scripts += r.Scripts
		if err != nil {
			return err
		}
		m.outcome.Skipped = append([]mover.Problem{}, r.Skipped...) // each pass meets them all again
		busy := total(r.Moved) > caughtUp
		switch {
		case len(r.Held) > 0 && (n > 0 || !busy): // a second pass would wait for the workers once more
			return &HeldJobsError{Queue: from, IDs: r.Held}
		case !busy:
			return nil
		}
	}
	return fmt.Errorf("%s is filled faster than it can be moved: %d passes did not empty it", from, maxPasses)
}

// pass is one Move of w, with its checkpoints. A checkpoint that fails stops the move at the next chunk.
func (m *Move) pass(ctx context.Context, w way) (mover.Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	last := time.Now()
	m.progress = func(p mover.Progress) {
		if m.checkpoint == nil || time.Since(last) < checkpointEvery {
			return
		}
		last = time.Now()
		if err := m.checkpoint(ctx, p); err != nil {
			cancel(&checkpointError{err})
		}
	}
	r, err := w.Move(ctx)
	m.progress = nil
	var failed *checkpointError
	if cause := context.Cause(ctx); errors.As(cause, &failed) {
		return r, failed.err
	}
	return r, fenced(err)
}

// fenced says of what a script refused that the lease was lost.
func fenced(err error) error {
	if errors.Is(err, mover.ErrFenced) {
		return fmt.Errorf("%w: %w", migrate.ErrLeaseLost, err)
	}
	return err
}

// checkpointError is the cause of a context that a failed checkpoint cancelled.
type checkpointError struct{ err error }

func (e *checkpointError) Error() string { return "checkpoint: " + e.err.Error() }

// onProgress is what w's mover calls after each chunk.
func (m *Move) onProgress(tell func(mover.Progress)) func(mover.Progress) {
	return func(p mover.Progress) {
		if m.progress != nil {
			m.progress(p)
		}
		if tell != nil {
			tell(p)
		}
	}
}

func (m *Move) verify(ctx context.Context, w way, at mover.Endpoint) (mover.Verification, error) {
	check, err := w.Verify(ctx)
	if err != nil {
		return check, err
	}
	m.outcome.Check = check
	if len(check.Mismatches) > 0 {
		return check, &MismatchError{Queue: at, Mismatches: check.Mismatches}
	}
	return check, nil
}

// Outcome is what was done since the engine was started.
func (m *Move) Outcome() Outcome {
	out := m.outcome
	out.Moved = maps.Clone(out.Moved)
	return out
}

func total(counts map[mover.State]int64) int64 {
	var sum int64
	for _, n := range counts {
		sum += n
	}
	return sum
}
