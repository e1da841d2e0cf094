package step

import "context"

// A Ledger is the step that owns what the mover notes while it moves: which jobs went, and what the way
// back needs. The mover's own scripts make it when the first chunk moves, so there is nothing to apply.
// It comes before Move, so that on the way back it is forgotten last, after Move has been undone and
// compared, and its being forgotten is an entry of its own in the journal.
type Ledger struct{ back way }

// Name is the step's key in the journal.
func (l *Ledger) Name() string { return "phase3.ledger" }

// Apply has nothing to do.
func (l *Ledger) Apply(context.Context) error { return nil }

// Verify is always content.
func (l *Ledger) Verify(context.Context) error { return nil }

// Rollback deletes the ledger.
func (l *Ledger) Rollback(ctx context.Context) error { return fenced(l.back.Forget(ctx)) }
