package migrate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redisopt/redisopt/internal/migrate/journal"
)

// noteTimeout bounds the entry that says why a run stopped, which is written after its context ended.
const noteTimeout = 10 * time.Second

// A Log is the journal as the engine uses it. Append returns nil only when the entry is durable.
type Log interface {
	Append(ctx context.Context, rec journal.Record) error
	Entries() []journal.Entry
}

// An Engine brings a list of steps into place, or takes them back, through a journal. An entry that
// says what is about to happen is durable before it happens, and one that says it happened is written
// only when the step has verified itself; so a crash at any instant can be resumed, either way.
//
// The exported fields are set before the first verb is called. An Engine is for one goroutine, except
// Checkpoint, which a running step calls.
type Engine struct {
	// Options is what the steps were made from. It is kept in the journal, in plain text, and together
	// with the steps' names it is the plan: a migration that was begun with other options refuses to go
	// on. Nil when there are none.
	Options any

	// Windows are kept in the journal with a run that begins, for the hosts that come later; see HostOptions. They
	// are no part of the plan.
	Windows []string

	// Lasting says that steps which are in place find no new work: after a complete run whose steps are all still
	// in place Start does nothing.
	Lasting bool

	// OnEvent, when not nil, is called for each thing that happens, from the goroutine of the verb.
	OnEvent func(Event)

	log   Log
	steps []Step
}

// NewEngine returns an engine that has not done anything yet. Steps are applied in the order given and
// rolled back in the opposite one; their names must differ.
func NewEngine(log Log, steps ...Step) *Engine {
	return &Engine{log: log, steps: steps}
}

// State tells where the migration stands. It only reads what the journal holds in memory.
func (e *Engine) State() (State, error) { return ReadState(e.log.Entries()) }

// Start brings every step into place. It begins a new run when nothing is open, also after a complete
// one, whose steps may have found new work, and after a finished one; it goes on with an open one of the same plan. It returns a
// *PlanError when the plan differs from what is in place or under way, and a *StageError while a way
// back is open or the migration is being finished.
func (e *Engine) Start(ctx context.Context) error {
	s, err := e.State()
	if err != nil {
		return err
	}
	plan, err := e.plan()
	if err != nil {
		return err
	}
	switch s.Stage {
	case Backward, Finishing:
		return &StageError{Verb: "start", Stage: s.Stage}
	case Forward, Complete:
		if s.Plan != plan.Plan {
			return &PlanError{Begun: s.Plan, Asked: plan.Plan}
		}
		if s.Stage == Complete && e.Lasting {
			if placed, err := e.placed(ctx); placed || err != nil {
				return err
			}
		}
	case NotStarted, RolledBack, Finished:
	}
	if s.Stage != Forward {
		plan.Windows = e.Windows
		if err := e.log.Append(ctx, journal.Record{Kind: journal.Begin, Detail: plan}); err != nil {
			return err
		}
	}
	return e.forward(ctx)
}

// placed is whether every step is in place. Price: that of every Verify.
func (e *Engine) placed(ctx context.Context) (bool, error) {
	for _, step := range e.steps {
		switch err := step.Verify(ctx); {
		case errors.Is(err, ErrNotApplied):
			return false, nil
		case err != nil:
			return false, &StepError{Step: step.Name(), Verb: "verify", Err: err}
		}
	}
	return true, nil
}

// Resume goes on with what was interrupted, in the direction it had. It begins when nothing was ever
// begun, and does nothing when nothing is open.
func (e *Engine) Resume(ctx context.Context) error {
	s, err := e.State()
	if err != nil {
		return err
	}
	switch s.Stage {
	case NotStarted, Forward:
		return e.Start(ctx)
	case Backward:
		return e.Rollback(ctx, nil)
	case Complete, RolledBack, Finished:
		return nil
	case Finishing:
	}
	return &StageError{Verb: "resume", Stage: s.Stage}
}

// Rollback undoes every step that was begun, last first, and goes on with a way back that was
// interrupted. cause is why, recorded in the journal; it may be nil. When the way back fails, the error
// joins cause and what went wrong; when it succeeds, Rollback returns nil. With nothing to undo it
// returns ErrNothingToRollBack.
func (e *Engine) Rollback(ctx context.Context, cause error) error {
	err := e.rollback(ctx, cause)
	if err != nil && cause != nil && !errors.Is(err, ErrNothingToRollBack) {
		return errors.Join(cause, err)
	}
	return err
}

func (e *Engine) rollback(ctx context.Context, cause error) error {
	s, err := e.State()
	if err != nil {
		return err
	}
	switch s.Stage {
	case NotStarted, RolledBack:
		return ErrNothingToRollBack
	case Finishing, Finished:
		return &FinishedError{Since: s.Since}
	case Forward, Complete, Backward:
	}
	plan, err := e.plan()
	if err != nil {
		return err
	}
	if s.Plan != plan.Plan {
		return &PlanError{Begun: s.Plan, Asked: plan.Plan}
	}
	if s.Stage != Backward {
		rec := journal.Record{Kind: journal.Back}
		if cause != nil {
			rec.Detail = reason{Reason: cause.Error()}
		}
		if err := e.log.Append(ctx, rec); err != nil {
			return err
		}
	}
	return e.backward(ctx)
}

// Finish gives up what the way back needs, by calling give with the decision in the journal. It returns
// a *StageError unless every step is in place, and does nothing when it was done before. From the moment
// that it begins, the migration cannot be rolled back, also when give fails; call it again then.
func (e *Engine) Finish(ctx context.Context, give func(context.Context) error) error {
	s, err := e.State()
	if err != nil {
		return err
	}
	switch s.Stage {
	case Finished:
		return nil
	case Complete:
		if err := e.log.Append(ctx, journal.Record{Kind: journal.Finish}); err != nil {
			return err
		}
	case Finishing:
	case NotStarted, Forward, Backward, RolledBack:
		return &StageError{Verb: "complete", Stage: s.Stage}
	}
	if give != nil {
		if err := give(ctx); err != nil {
			return fmt.Errorf("complete: %w", err)
		}
	}
	return e.log.Append(ctx, journal.Record{Kind: journal.Finished})
}

// Sign records that somebody vouches for something that no instrument measures.
func (e *Engine) Sign(ctx context.Context, s Signature) error {
	return e.log.Append(ctx, journal.Record{Kind: journal.Sign, Detail: s})
}

// Keep records that the run under way goes forward only in windows from now on; none: always.
func (e *Engine) Keep(ctx context.Context, windows []string) error {
	return e.log.Append(ctx, journal.Record{Kind: journal.Window, Detail: windowed{windows}})
}

// Checkpoint records how far the named step is. It is durable when it returns nil; a step whose
// checkpoint fails should stop. It may be called from a running step's own goroutine.
func (e *Engine) Checkpoint(ctx context.Context, step string, detail any) error {
	return e.log.Append(ctx, journal.Record{Kind: journal.Checkpoint, Step: step, Detail: detail})
}

// Plan is the hash of what this engine would do, as a State names it. It needs no log.
func (e *Engine) Plan() (string, error) {
	b, err := e.plan()
	return b.Plan, err
}

// plan is what this engine would do, with its hash.
func (e *Engine) plan() (beginning, error) {
	b := beginning{Steps: make([]string, len(e.steps))}
	for i, s := range e.steps {
		if slices.Contains(b.Steps[:i], s.Name()) {
			return b, fmt.Errorf("two steps are named %q", s.Name())
		}
		b.Steps[i] = s.Name()
	}
	if e.Options != nil {
		options, err := json.Marshal(e.Options)
		if err != nil {
			return b, fmt.Errorf("options of the plan: %w", err)
		}
		b.Options = options
	}
	content, err := json.Marshal(b)
	if err != nil {
		return b, fmt.Errorf("plan: %w", err)
	}
	sum := sha256.Sum256(content)
	b.Plan = hex.EncodeToString(sum[:])
	return b, nil
}

// forward applies what is not in place yet.
func (e *Engine) forward(ctx context.Context) error {
	s, err := e.State()
	if err != nil {
		return err
	}
	for i, step := range e.steps {
		st := *s.step(step.Name())
		if st.Mark == Applied {
			e.emit(Event{Kind: StepSkipped, Step: step.Name(), Index: i})
			continue
		}
		began := time.Now()
		e.emit(Event{Kind: StepStarted, Step: step.Name(), Index: i})
		if err := e.apply(ctx, step, st); err != nil {
			e.emit(Event{Kind: StepFailed, Step: step.Name(), Index: i, Took: time.Since(began), Err: err})
			return e.stopped(ctx, step, err)
		}
		e.emit(Event{Kind: StepDone, Step: step.Name(), Index: i, Took: time.Since(began)})
	}
	return e.log.Append(ctx, journal.Record{Kind: journal.Complete})
}

// apply brings one step into place. One that was touched before it asks first: after a crash the step
// may be in place with only its last entry missing, and in a second pass it may have nothing to do.
func (e *Engine) apply(ctx context.Context, step Step, st StepState) error {
	if st.Mark != Applying {
		if err := e.log.Append(ctx, journal.Record{Kind: journal.Intent, Step: step.Name()}); err != nil {
			return err
		}
	}
	inPlace := false
	if st.Touched {
		switch err := step.Verify(ctx); {
		case err == nil:
			inPlace = true
		case !errors.Is(err, ErrNotApplied):
			return &StepError{Step: step.Name(), Verb: "verify", Err: err}
		}
	}
	if !inPlace {
		if err := step.Apply(ctx); err != nil {
			return &StepError{Step: step.Name(), Verb: "apply", Err: err}
		}
		if err := step.Verify(ctx); err != nil {
			return &StepError{Step: step.Name(), Verb: "verify", Err: err}
		}
	}
	return e.log.Append(ctx, journal.Record{Kind: journal.Done, Step: step.Name()})
}

// backward undoes what was begun.
func (e *Engine) backward(ctx context.Context) error {
	s, err := e.State()
	if err != nil {
		return err
	}
	for i, step := range slices.Backward(e.steps) {
		st := s.step(step.Name())
		if !st.Touched || st.Mark == Undone {
			continue
		}
		began := time.Now()
		e.emit(Event{Kind: UndoStarted, Step: step.Name(), Index: i})
		if err := e.undo(ctx, step, st.Mark == Undoing); err != nil {
			e.emit(Event{Kind: StepFailed, Step: step.Name(), Index: i, Took: time.Since(began), Err: err})
			return e.stopped(ctx, step, err)
		}
		e.emit(Event{Kind: UndoDone, Step: step.Name(), Index: i, Took: time.Since(began)})
	}
	return e.log.Append(ctx, journal.Record{Kind: journal.RolledBack})
}

func (e *Engine) undo(ctx context.Context, step Step, begun bool) error {
	if !begun {
		if err := e.log.Append(ctx, journal.Record{Kind: journal.Undo, Step: step.Name()}); err != nil {
			return err
		}
	}
	if err := step.Rollback(ctx); err != nil {
		return &StepError{Step: step.Name(), Verb: "roll back", Err: err}
	}
	return e.log.Append(ctx, journal.Record{Kind: journal.Undone, Step: step.Name()})
}

// stopped notes why a run ended early and returns err. The note is for people, so when the lease is
// lost or the journal broken it is left out, and when it cannot be written that is added to err.
func (e *Engine) stopped(ctx context.Context, step Step, err error) error {
	if errors.Is(err, journal.ErrFenced) || errors.Is(err, ErrLeaseLost) || errors.Is(context.Cause(ctx), ErrLeaseLost) {
		return err
	}
	if _, ok := errors.AsType[*StepError](err); !ok {
		return err // the journal itself failed
	}
	note, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
	defer cancel()
	text, stop := err.Error(), StopFailed
	if cause := context.Cause(ctx); cause != nil {
		text, stop = cause.Error(), StopPaused
	}
	const longest = 4 << 10
	rec := journal.Record{Kind: journal.Stopped, Step: step.Name(), Detail: reason{text[:min(len(text), longest)], stop}}
	if noteErr := e.log.Append(note, rec); noteErr != nil && !errors.Is(noteErr, journal.ErrBroken) {
		return errors.Join(err, noteErr)
	}
	return err
}

func (e *Engine) emit(event Event) {
	if e.OnEvent != nil {
		event.Of = len(e.steps)
		e.OnEvent(event)
	}
}
