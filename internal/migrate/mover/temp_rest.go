package mover

import (
	"context"
	"errors"
)

var errUnfinished = errors.New("not built yet")

func (m *Mover) Plan(ctx context.Context) (Plan, error) { return Plan{}, errUnfinished }
func (m *Mover) Verify(ctx context.Context) (Verification, error) {
	return Verification{}, errUnfinished
}
func (m *Mover) Forget(ctx context.Context) error { return errUnfinished }
