package mover

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// A Mover moves one queue from one layout, prefix or name to another. It is for one goroutine.
type Mover struct {
	client redis.UniversalClient
	opts   Options
}

// New returns a Mover that talks through client. It touches nothing yet.
//
//	m, err := mover.New(client, mover.Options{From: …, To: …})
//	plan, err := m.Plan(ctx)       // counts, losses, problems; read-only
//	result, err := m.Move(ctx)     // may run again after a crash at any instant
//	report, err := m.Verify(ctx)   // read-only
//
// The way back is New with From and To exchanged and Reverse set, over the same Ledger.
func New(client redis.UniversalClient, opts Options) (*Mover, error) {
	return &Mover{client: client, opts: opts}, nil
}

var errUnfinished = errors.New("not built yet")

// Plan says what Move would do. It writes nothing.
func (m *Mover) Plan(ctx context.Context) (Plan, error) { return Plan{}, errUnfinished }

// Move moves all that can be moved. It may run again after a crash at any instant.
func (m *Mover) Move(ctx context.Context) (Result, error) { return Result{}, errUnfinished }

// Verify compares source, target and ledger. It writes nothing.
func (m *Mover) Verify(ctx context.Context) (Verification, error) {
	return Verification{}, errUnfinished
}

// Forget deletes the ledger; only after a phase is complete or a way back is verified.
func (m *Mover) Forget(ctx context.Context) error { return errUnfinished }
