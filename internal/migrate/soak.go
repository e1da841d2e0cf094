package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// SoakOptions say how long a soak waits and for what.
type SoakOptions struct {
	// Name is the step's key in the journal: "phase1.soak", "phase1.hold-5". Required.
	Name string

	// For is how long everything must have been well. Default 24 hours; negative: the gates are asked
	// once they have evidence, without waiting longer.
	For time.Duration

	// Gates are what must hold. None: the soak only waits.
	Gates []Gate

	// Every is how often the gates are asked. Default 1 minute.
	Every time.Duration

	// Failures is how many times in a row a gate must fail before the soak fails. Default 3.
	Failures int

	// CoolDown is how long after the beginning failures do not count yet. Default 0.
	CoolDown time.Duration

	// Env gives the journal and the watch.
	Env Env
}

func (o SoakOptions) withDefaults() SoakOptions {
	switch {
	case o.For == 0:
		o.For = 24 * time.Hour
	case o.For < 0:
		o.For = 0
	}
	if o.Every == 0 {
		o.Every = time.Minute
	}
	if o.Failures == 0 {
		o.Failures = 3
	}
	return o
}

// Validate reports all that is wrong with o.
func (o SoakOptions) Validate() error {
	o = o.withDefaults()
	var errs []error
	if o.Name == "" {
		errs = append(errs, errors.New("soak name: got none"))
	}
	if o.Every < time.Millisecond {
		errs = append(errs, fmt.Errorf("soak interval: got %s, want at least 1ms", o.Every))
	}
	if o.Failures < 1 {
		errs = append(errs, fmt.Errorf("failures in a row: got %d, want at least 1", o.Failures))
	}
	if o.CoolDown < 0 {
		errs = append(errs, fmt.Errorf("cool-down: got %s, want 0 or more", o.CoolDown))
	}
	return errors.Join(errs...)
}

// A Soak is the step that waits until a phase has been well for long enough: its gates pass on the
// evidence of the whole time. It survives restarts, because when it began is a checkpoint in the
// journal, and the evidence is in the history that the Watch keeps: time during which nobody watched
// counts as not covered, so the soak takes that much longer. A failed gate ends it with a *GateError,
// and one that is inconclusive keeps it waiting.
type Soak struct{ opts SoakOptions }

// NewSoak returns a soak. It touches nothing yet.
func NewSoak(opts SoakOptions) (*Soak, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	return &Soak{opts: opts.withDefaults()}, nil
}

// A SoakNote is what a soak keeps in the journal: the detail of its checkpoints.
type SoakNote struct {
	// Since is when the soak began, and Until the earliest it can be over.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`

	// Passed is when the gates passed on the whole time; nil while they have not.
	Passed *time.Time `json:"passed,omitempty"`

	// Failures is how many times in a row a gate has failed.
	Failures int `json:"failures"`

	// Gates is the last look.
	Gates []GateResult `json:"gates"`
}

// A BaselineNote is how it was before a phase changed anything: the detail of a checkpoint.
type BaselineNote struct {
	At       time.Time           `json:"at"`
	Evidence map[string]Evidence `json:"evidence"` // by KPI
}

// Name is the step's key in the journal.
func (s *Soak) Name() string { return s.opts.Name }

// Apply waits. Price: that of the Watch at every look, and a checkpoint where a verdict changes.
func (s *Soak) Apply(ctx context.Context) error {
	var note SoakNote
	if !s.opts.Env.Recall(s.opts.Name, &note) || note.Since.IsZero() {
		note = SoakNote{Gates: []GateResult{}}
		note.Since = time.Now().UTC()
		note.Until = note.Since.Add(s.opts.For)
		if err := s.opts.Env.Note(ctx, s.opts.Name, note); err != nil {
			return err
		}
	}
	note.Failures = 0 // what failed before an interruption has to fail again
	tick := time.NewTicker(s.opts.Every)
	defer tick.Stop()
	for {
		done, err := s.look(ctx, &note, time.Now().UTC())
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// look asks the gates once, and tells whether the soak is over.
func (s *Soak) look(ctx context.Context, note *SoakNote, now time.Time) (bool, error) {
	from := note.Since
	if whole := now.Add(-s.opts.For); s.opts.For > 0 && whole.After(from) {
		from = whole // the last stretch of the full length, so that a gap moves out of sight
	}
	results := JudgeAll(ctx, s.opts.Env.Watch, s.opts.Gates, from, now)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	changed := len(results) != len(note.Gates)
	var failed []GateResult
	ready := !now.Before(note.Until)
	for i, r := range results {
		changed = changed || r.Verdict != note.Gates[i].Verdict
		switch {
		case r.Remark:
		case r.Verdict == GateFail:
			failed = append(failed, r)
		case r.Verdict == GateInconclusive && s.opts.Env.Vouched != nil && s.opts.Env.Vouched(r.Gate.KPI):
			results[i].Why += "; somebody has vouched for it"
		case r.Verdict == GateInconclusive && !r.Gate.Optional:
			ready = false
		}
	}
	note.Gates = results
	s.opts.Env.Tell(Progress{
		Step: s.opts.Name, Part: "soak", Done: int64(now.Sub(note.Since).Seconds()),
		Total: int64(s.opts.For.Seconds()), Unit: "seconds",
	})
	switch {
	case len(failed) == 0:
		note.Failures = 0
	case now.Sub(note.Since) >= s.opts.CoolDown:
		note.Failures++
		changed = true
	}
	if note.Failures >= s.opts.Failures {
		if err := s.opts.Env.Note(ctx, s.opts.Name, note); err != nil {
			return false, err
		}
		return false, &GateError{Step: s.opts.Name, Results: failed}
	}
	if ready && len(failed) == 0 {
		note.Passed = &now
		return true, s.opts.Env.Note(ctx, s.opts.Name, note)
	}
	if changed {
		return false, s.opts.Env.Note(ctx, s.opts.Name, note)
	}
	return false, nil
}

// Verify is content when the journal says that the gates passed.
func (s *Soak) Verify(context.Context) error {
	var note SoakNote
	if s.opts.Env.Recall(s.opts.Name, &note) && note.Passed != nil {
		return nil
	}
	return ErrNotApplied
}

// Rollback has nothing to undo.
func (s *Soak) Rollback(context.Context) error { return nil }
