package migrate

import "time"

// An EventKind says what happened.
type EventKind string

// The events of a run. Each step has one that starts it and one that ends it, or is skipped.
const (
	StepStarted EventKind = "step-started"
	StepSkipped EventKind = "step-skipped" // it was in place already
	StepDone    EventKind = "step-done"    // verified, and recorded
	UndoStarted EventKind = "undo-started"
	UndoDone    EventKind = "undo-done"
	StepFailed  EventKind = "step-failed"
)

// An Event is one thing that happened while an engine ran.
type Event struct {
	Kind  EventKind
	Step  string
	Index int           // of the step, from 0 in the order of application
	Of    int           // number of steps
	Took  time.Duration // since the step's start; 0 for a start or a skip
	Err   error         // only with StepFailed
}
