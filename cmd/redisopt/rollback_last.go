package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

func (a *app) rollbackLastCommand() *cobra.Command {
	var (
		tune   tuning
		reason string
	)
	cmd := &cobra.Command{
		Use:   "last",
		Short: "Undo the migration that was worked on last and can still be undone",
		Example: `  redisopt rollback last --dry-run
  redisopt rollback last --reason 'the users wait' --yes`,
		Args: cobra.NoArgs,
		RunE: a.action(func(ctx context.Context, _ []string) error { return a.rollbackLast(ctx, tune, reason) }),
	}
	cmd.Flags().String(stateDirFlag, "", "the journal is in this `directory` (default: the user's state directory)")
	tune.register(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the journal")
	return cmd
}

func (a *app) rollbackLast(ctx context.Context, tune tuning, reason string) error {
	var (
		last *migrate.Standing
		left error // of journals that cannot be read
	)
	err := a.withRedis(ctx, reading(), func(up *upstream.Upstream, conf *config.Config) error {
		dir, err := a.migrationDir(conf)
		if err != nil {
			return err
		}
		all, err := a.standings(ctx, up, whichMigration{}, dir)
		if err != nil {
			return err
		}
		a.noteUnread(all)
		left = unread(all)
		if last = lastUndoable(all); last == nil {
			a.note("nothing can be rolled back")
			return errors.Join(a.print(statusDocument(all)), left)
		}
		a.note("the last one is %s, %s since %s", last.Target, last.Condition(), last.State.Since.UTC().Format(time.RFC3339))
		return nil
	})
	if err != nil || last == nil {
		return err
	}
	if last.Target.Phase == step.Phase3Name {
		return errors.Join(a.rollbackPhase3(ctx, queueFlags{queue: last.Target.Queue, prefix: last.Target.Prefix}, tune, reason), left)
	}
	return errors.Join(a.rollbackPhase(ctx, last.Target, reason), left)
}

// lastUndoable is the migration whose journal was written last among those that can be rolled back, nil
// when none can. One whose journal cannot be read is none of them.
func lastUndoable(all []migrate.Standing) *migrate.Standing {
	var last *migrate.Standing
	for i := range all {
		if all[i].State.Stage.Undoable() && (last == nil || all[i].State.Last.After(last.State.Last)) {
			last = &all[i]
		}
	}
	return last
}
