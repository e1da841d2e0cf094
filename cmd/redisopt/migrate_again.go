package main

import (
	"context"
	"errors"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// backAgain is true for a queue whose migration was completed and that is where it came from all the same: it has
// jobs there, as producers that were never changed add them, or a later migration led it back. That Bull's counter
// is left there says nothing. Price: that of mover.Show for a queue of which that was completed, and that of
// migrate.Look where it has no jobs; else nothing.
func backAgain(ctx context.Context, up *upstream.Upstream, s migrate.Standing, dir string) (bool, error) {
	if s.State.Stage != migrate.Finished || s.Target.Phase != step.Phase3Name {
		return false, nil
	}
	begun, err := step.ReadRoute(s.State.Options)
	if err != nil {
		return false, err
	}
	now, err := mover.Show(ctx, up.Client(), mover.Endpoint{Prefix: s.Target.Prefix, Queue: s.Target.Queue})
	switch {
	case errors.Is(err, mover.ErrNoQueue):
		return false, nil
	case err != nil || now.Endpoint.Layout != begun.From.Layout:
		return false, err
	case sum(now.Counts) > 0 || len(now.Repeated) > 0:
		return true, nil
	}
	return ledBack(ctx, up, s, begun, dir)
}

// ledBack is true when a migration in the opposite direction to begun, which is that of s, is in place and began later.
func ledBack(ctx context.Context, up *upstream.Upstream, s migrate.Standing, begun step.Route, dir string) (bool, error) {
	there := migrate.Target{Phase: step.Phase3Name, Prefix: begun.To.Prefix, Queue: begun.To.Queue}
	if there == s.Target {
		return false, nil // in place: one journal for both directions
	}
	o, err := migrate.Look(ctx, up.Client(), migrate.SessionOptions{Target: there, StateDir: dir})
	if err != nil || o.State.Stage != migrate.Complete && o.State.Stage != migrate.Finished {
		return false, err
	}
	route, err := step.ReadRoute(o.State.Options)
	return err == nil && route.To.Prefix == s.Target.Prefix && route.To.Queue == s.Target.Queue && o.State.Since.After(s.State.Since), err
}
