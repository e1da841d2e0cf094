package scenario

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/redisopt/redisopt/internal/bench"
)

// A Found is what Knee found out about one scenario.
type Found struct {
	Steps []bench.Step

	// RatePerSecond is the highest rate at which everything held; 0 when none was.
	RatePerSecond float64
}

// Knee looks for the highest rate at which within holds for s, from p's rate upwards.
func Knee(ctx context.Context, p Plan, s Scenario, within []bench.Assertion) (found *Found, err error) {
	prepared, err := s.Prepare(ctx, p.Target, p.Options)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.tidy(ctx, prepared)) }()
	var last failure
	run := p.Bounded(s)
	if p.StopAtQuota {
		run.Stop = last.stopAtQuota(run.Stop)
	}
	var near atomic.Bool
	run.Stop = noted(run.Stop, &near)
	found = &Found{}
	found.Steps, found.RatePerSecond, err = bench.Knee(ctx, bench.KneeOptions{Run: run, Within: within}, last.remember(prepared.Operation))
	if used := last.usedUp(); err == nil && used != nil && p.StopAtQuota {
		err = used
	}
	if err == nil && near.Load() {
		err = fmt.Errorf("%s: after %d rates: %w", s.Name, len(found.Steps), ErrNear)
	}
	return found, err
}
