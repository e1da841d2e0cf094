package migrate

import (
	"errors"
	"fmt"
	"time"
)

// ErrNothingToRollBack means that nothing was changed, or that everything was undone already.
var ErrNothingToRollBack = errors.New("there is nothing to roll back")

// ErrLeaseLost means that the lease expired or was taken over while it was needed. The work was
// cancelled, and whoever holds the lease now decides how to go on.
var ErrLeaseLost = errors.New("the lease was lost")

// A PlanError reports that a migration which was begun with one plan was asked to go on with another.
type PlanError struct {
	Begun string // hash of the plan in the journal
	Asked string // hash of the plan that was asked for
}

func (e *PlanError) Error() string {
	return fmt.Sprintf("the plan has changed: it was begun as %.12s and is now %.12s", e.Begun, e.Asked)
}

// A StageError reports a verb that does not fit where the migration stands.
type StageError struct {
	Verb  string // "start"
	Stage Stage
}

func (e *StageError) Error() string {
	return fmt.Sprintf("cannot %s: the migration is %s", e.Verb, e.Stage)
}

// A FinishedError reports a way back that was asked for after the migration was completed.
type FinishedError struct {
	Since time.Time // when its last run began
}

func (e *FinishedError) Error() string {
	return fmt.Sprintf("the migration that began at %s was completed, which gave up its way back", e.Since.UTC().Format(time.RFC3339))
}

// A StepError reports the step at which a run stopped.
type StepError struct {
	Step string
	Verb string // "apply", "verify" or "roll back"
	Err  error
}

func (e *StepError) Error() string { return fmt.Sprintf("%s step %s: %v", e.Verb, e.Step, e.Err) }

func (e *StepError) Unwrap() error { return e.Err }

// A HeldError reports that somebody else holds the lease.
type HeldError struct {
	Key     string    // the lease's Redis key
	Owner   string    // user@host pid
	Expires time.Time // by the local clock
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("lease %s is held by %s until %s", e.Key, e.Owner, e.Expires.UTC().Format(time.RFC3339))
}
