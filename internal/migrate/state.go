package migrate

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/redisopt/redisopt/internal/migrate/journal"
)

// A Stage is where a migration stands.
type Stage string

// The stages. Forward, Backward and Finishing are open: they have something to go on with.
const (
	NotStarted Stage = "not-started" // nothing was ever asked for
	Forward    Stage = "forward"     // steps are being applied
	Complete   Stage = "complete"    // every step is in place
	Backward   Stage = "backward"    // steps are being rolled back
	RolledBack Stage = "rolled-back" // everything was undone
	Finishing  Stage = "finishing"   // what the way back needs is being given up
	Finished   Stage = "finished"    // every step is in place for good; only a new migration leads back
)

// Open is true while there is something to go on with.
func (s Stage) Open() bool { return s == Forward || s == Backward || s == Finishing }

// Undoable is true while there is a way back: something was begun, and it was neither undone nor completed.
func (s Stage) Undoable() bool { return s == Forward || s == Complete || s == Backward }

// A Stop is why a run ended early.
type Stop string

// The reasons to stop.
const (
	StopPaused Stop = "paused" // somebody asked: an intent, a signal, the end of a window
	StopFailed Stop = "failed" // something went wrong
)

// A Mark is how far one step is.
type Mark string

// The marks, in the order in which a step receives them.
const (
	Pending  Mark = "pending"  // not begun in this run
	Applying Mark = "applying" // the intent is recorded; the world may have changed
	Applied  Mark = "applied"  // verified
	Undoing  Mark = "undoing"  // the way back is recorded; the world may have changed back
	Undone   Mark = "undone"   // rolled back
)

// A StepState is what the journal knows of one step.
type StepState struct {
	Name string `json:"name"`
	Mark Mark   `json:"mark"`

	// Touched is true when an intent was recorded since the last complete way back, so that rolling
	// back must undo the step, whatever its mark.
	Touched bool `json:"touched"`

	// Checkpoint is the detail of the step's last checkpoint in this run, nil when there is none.
	Checkpoint json.RawMessage `json:"checkpoint,omitempty"`
}

// A State is what a journal says about a migration.
type State struct {
	Stage Stage `json:"stage"`

	// Plan is the hash of what the last run was asked to do, empty when nothing was.
	Plan string `json:"plan"`

	// Options is what the last run was asked with, from which its steps can be made again.
	Options json.RawMessage `json:"options,omitempty"`

	// Steps are those of the last run, in the order in which they are applied.
	Steps []StepState `json:"steps"`

	// Reason is why the migration was rolled back or why it stopped last, empty when it did neither.
	Reason string `json:"reason,omitempty"`

	// Stop says why the run ended early; empty when it did not, or ended without a chance to say so.
	Stop Stop `json:"stop,omitempty"`

	// Windows are the times, as ParseWindow reads them, in which the last run may go forward; none: always. They are
	// no part of the plan.
	Windows []string `json:"windows,omitempty"`

	// Signed are the statements of people about what no instrument measures, oldest first.
	Signed []Signature `json:"signed,omitempty"`

	// Since is when the last run began, forwards or backwards; Last is the time of the last entry.
	Since time.Time `json:"since"`
	Last  time.Time `json:"last"`
}

// Current is the step that is under way, nil when none is.
func (s *State) Current() *StepState {
	for i := range s.Steps {
		if m := s.Steps[i].Mark; m == Applying || m == Undoing {
			return &s.Steps[i]
		}
	}
	return nil
}

// step returns the named step, nil when the plan has none of that name.
func (s *State) step(name string) *StepState {
	for i := range s.Steps {
		if s.Steps[i].Name == name {
			return &s.Steps[i]
		}
	}
	return nil
}

// beginning is the detail of a Begin entry.
type beginning struct {
	Plan    string          `json:"plan"`
	Steps   []string        `json:"steps"`
	Options json.RawMessage `json:"options,omitempty"`
	Windows []string        `json:"windows,omitempty"` // not in the hash
}

// windowed is the detail of a Window entry.
type windowed struct {
	Windows []string `json:"windows"`
}

// reason is the detail of a Stopped and of a Back entry.
type reason struct {
	Reason string `json:"reason,omitempty"`
	Stop   Stop   `json:"stop,omitempty"`
}

// A Signature is what somebody vouches for, because no instrument measures it.
type Signature struct {
	KPI  string    `json:"kpi"`
	By   string    `json:"by"`
	Note string    `json:"note,omitempty"`
	At   time.Time `json:"at"`
}

// Vouched tells whether somebody has vouched, since the last run began, for the criterion of phase that is about
// kpi.
func (s *State) Vouched(phase, kpi string) bool {
	for _, sig := range s.Signed {
		if sig.At.Before(s.Since) {
			continue
		}
		for _, c := range Criteria(phase) {
			if c.Name == sig.KPI && c.Gate != nil && (c.Gate.KPI == kpi || perTime(c.Gate.KPI) && perTime(kpi)) {
				return true
			}
		}
	}
	return false
}

// perTime is whether a KPI is the commands of some time, which are one thing whatever time they are told for.
func perTime(kpi string) bool { return kpi == KPICommandsPerDay || kpi == KPICommandsPerMonth }

// ReadState tells from a journal's entries where the migration stands. It is pure. An entry that cannot
// follow the ones before it is an error.
func ReadState(entries []journal.Entry) (State, error) {
	s := State{Stage: NotStarted, Steps: []StepState{}}
	for _, e := range entries {
		if err := s.follow(e); err != nil {
			return State{}, fmt.Errorf("journal entry %d (%s %s): %w", e.Seq, e.Kind, e.Step, err)
		}
		s.Last = e.Time
	}
	return s, nil
}

// follow applies one entry.
func (s *State) follow(e journal.Entry) error {
	switch e.Kind {
	case journal.Begin:
		return s.begin(e)
	case journal.Back:
		if s.Stage != Forward && s.Stage != Complete {
			return fmt.Errorf("cannot follow stage %s", s.Stage)
		}
		s.Stage, s.Since, s.Reason, s.Stop = Backward, e.Time, reasonOf(e).Reason, ""
		return nil
	case journal.Stopped:
		r := reasonOf(e)
		s.Reason, s.Stop = r.Reason, r.Stop
		return nil
	case journal.Complete:
		return s.to(Forward, Complete)
	case journal.RolledBack:
		s.untouch()
		return s.to(Backward, RolledBack)
	case journal.Finish:
		return s.to(Complete, Finishing)
	case journal.Finished:
		s.untouch()
		return s.to(Finishing, Finished)
	case journal.Window:
		var w windowed
		if err := json.Unmarshal(e.Detail, &w); err != nil {
			return err
		}
		s.Windows = w.Windows
		return nil
	case journal.Sign:
		var sig Signature
		if err := json.Unmarshal(e.Detail, &sig); err != nil {
			return err
		}
		s.Signed = append(s.Signed, sig)
		return nil
	case journal.Intent, journal.Done, journal.Checkpoint, journal.Undo, journal.Undone:
		return s.mark(e)
	default:
		return fmt.Errorf("unknown kind")
	}
}

// untouch notes that nothing is left to undo.
func (s *State) untouch() {
	for i := range s.Steps {
		s.Steps[i].Touched = false
	}
}

func (s *State) begin(e journal.Entry) error {
	if s.Stage.Open() {
		return fmt.Errorf("cannot follow stage %s", s.Stage)
	}
	var b beginning
	if err := json.Unmarshal(e.Detail, &b); err != nil {
		return err
	}
	touched := map[string]bool{}
	for _, st := range s.Steps {
		touched[st.Name] = st.Touched
	}
	s.Stage, s.Plan, s.Options, s.Since, s.Reason, s.Stop = Forward, b.Plan, b.Options, e.Time, "", ""
	s.Windows = b.Windows
	s.Steps = make([]StepState, len(b.Steps))
	for i, name := range b.Steps {
		s.Steps[i] = StepState{Name: name, Mark: Pending, Touched: touched[name]}
	}
	return nil
}

// to moves on to stage next, which can only follow stage from.
func (s *State) to(from, next Stage) error {
	if s.Stage != from {
		return fmt.Errorf("cannot follow stage %s", s.Stage)
	}
	s.Stage, s.Reason, s.Stop = next, "", ""
	return nil
}

// mark records what an entry says about one step.
func (s *State) mark(e journal.Entry) error {
	if e.Kind != journal.Checkpoint {
		s.Stop = "" // it goes on
	}
	st := s.step(e.Step)
	if st == nil {
		return fmt.Errorf("the plan has no such step")
	}
	stage := Forward
	switch e.Kind { //nolint:exhaustive // follow has chosen the kinds that are about a step
	case journal.Intent:
		st.Mark, st.Touched = Applying, true
	case journal.Done:
		st.Mark = Applied
	case journal.Checkpoint:
		st.Checkpoint = e.Detail
		stage = s.Stage // both ways have checkpoints
	case journal.Undo:
		st.Mark, stage, st.Checkpoint = Undoing, Backward, nil
	case journal.Undone:
		st.Mark, stage = Undone, Backward
	}
	if s.Stage != stage {
		return fmt.Errorf("cannot follow stage %s", s.Stage)
	}
	return nil
}

// reasonOf reads the detail of a Stopped or Back entry; one without a reason is all right.
func reasonOf(e journal.Entry) reason {
	var r reason
	if len(e.Detail) == 0 || json.Unmarshal(e.Detail, &r) != nil {
		return reason{}
	}
	return r
}
