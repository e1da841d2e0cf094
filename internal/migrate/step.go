package migrate

import (
	"context"
	"errors"
)

// ErrNotApplied is what a Step's Verify returns when the step is certainly not in place.
var ErrNotApplied = errors.New("step is not applied")

// A Step is one reversible change. It is idempotent in both directions and can tell whether it is
// in place, which is what lets the engine resume after a crash at any instant.
type Step interface {
	// Name is the step's key in the journal. It never changes once released.
	Name() string

	// Apply brings the step into place. It may run twice, also after a crash half-way through.
	Apply(ctx context.Context) error

	// Verify returns nil when the step is in place, ErrNotApplied when it certainly is not, and any
	// other error when that cannot be told. It writes nothing.
	Verify(ctx context.Context) error

	// Rollback undoes the step. It succeeds if there is nothing to undo, and may run twice.
	Rollback(ctx context.Context) error
}
