package main

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// rollbackAllQueues moves every queue of phase 3 under the prefix back, the one that was begun last first. It
// stops at the first that cannot be moved back, and run again it goes on there. A queue that somebody hosts is
// asked for, and one that was completed is told and left. So is one whose journal cannot be read, which is the
// error in the end.
func (a *app) rollbackAllQueues(ctx context.Context, which queueFlags, tune tuning, reason string) error {
	return a.withRedis(ctx, asking(), func(up *upstream.Upstream, conf *config.Config) error {
		dir, err := a.migrationDir(conf)
		if err != nil {
			return err
		}
		all, err := a.standings(ctx, up, whichMigration{phase: step.Phase3Name}, dir)
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(s migrate.Standing) bool { return s.Target.Prefix != which.prefix })
		a.noteUnread(all)
		left := unread(all)
		back := a.backInOrder(all)
		if len(back) == 0 {
			a.note("nothing can be rolled back")
			return errors.Join(a.print(statusDocument(all)), left)
		}
		outlines := []migrate.Outline{}
		for _, s := range back {
			o, err := a.queueBack(ctx, up, s, tune)
			if err != nil {
				return a.migrationHint(err, s.Target)
			}
			outlines = append(outlines, o)
		}
		doc := outlineDocument(outlines, "")
		if a.flags.dryRun {
			return errors.Join(a.print(doc), left)
		}
		if err := a.confirm(ctx, doc, "Move "+plural(int64(len(back)), "queue")+" back?"); err != nil {
			return err
		}
		for i, s := range back {
			if err := a.rollbackQueue(ctx, up, s, tune, dir, reason); err != nil {
				return a.migrationHint(err, s.Target)
			}
			if s.Holder == nil {
				a.note("queue %d of %d, %s: rolled back", i+1, len(back), s.Target.Queue)
			}
		}
		if all, err = a.standings(ctx, up, whichMigration{phase: step.Phase3Name}, dir); err != nil {
			return err
		}
		return errors.Join(a.print(statusDocument(all)), left)
	})
}

// backInOrder are those that can be rolled back, last begun first; it tells of those that gave that up.
func (a *app) backInOrder(all []migrate.Standing) []migrate.Standing {
	var out []migrate.Standing
	for _, s := range all {
		switch stage := s.State.Stage; {
		case stage.Undoable():
			out = append(out, s)
		case stage == migrate.Finishing || stage == migrate.Finished:
			a.note("%s stays: it gave up its way back", s.Target)
		}
	}
	slices.SortStableFunc(out, func(a, b migrate.Standing) int {
		return cmp.Compare(b.State.Since.UnixNano(), a.State.Since.UnixNano())
	})
	return out
}

// queueBack is what moving one queue back would do.
func (a *app) queueBack(ctx context.Context, up *upstream.Upstream, s migrate.Standing, tune tuning) (migrate.Outline, error) {
	route, err := step.ReadRoute(s.State.Options)
	if err != nil {
		return migrate.Outline{}, err
	}
	phase, err := step.NewQueuePhase(up.Client(), step.Phase3Options{Route: route, WorkersStopped: tune.workersStopped}, migrate.Env{})
	if err != nil {
		return migrate.Outline{}, err
	}
	outline, err := phase.PlanBack(ctx)
	if err != nil {
		return outline, err
	}
	return outline.Normal(), outline.Refused()
}

// rollbackQueue moves one queue back, or asks whoever hosts it to.
func (a *app) rollbackQueue(ctx context.Context, up *upstream.Upstream, s migrate.Standing, tune tuning, dir, reason string) error {
	if s.Holder != nil {
		if _, err := migrate.Ask(ctx, up.Client(), s.Target, migrate.Intent{Verb: migrate.IntentRollback, Reason: reason}, askedHolds); err != nil {
			return err
		}
		a.note("%s: %s was asked to roll it back", s.Target, s.Holder.Owner)
		return nil
	}
	opts, done := a.runOptions(up, dir, tune, migrate.HostOptions{})
	_, err := step.Rollback(ctx, up.Client(), s, whyBack(s, reason), opts)
	done()
	return err
}
