package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

func (a *app) rollbackCommand() *cobra.Command {
	return a.group("rollback", "Undo a migration, wherever it stopped",
		`  redisopt rollback phase3 --queue mail --dry-run
  redisopt rollback phase3 --queue mail --reason 'new workers crash'`,
		a.rollbackPhase3Command())
}

func (a *app) rollbackPhase3Command() *cobra.Command {
	var (
		which  queueFlags
		tune   tuning
		reason string
	)
	cmd := &cobra.Command{
		Use:   "phase3",
		Short: "Move a queue back to Bull, what was added meanwhile included",
		Example: `  redisopt rollback phase3 --queue mail --dry-run
  redisopt rollback phase3 --queue mail --reason 'new workers crash' --yes`,
		Args: cobra.NoArgs,
		RunE: a.action(func(ctx context.Context, _ []string) error { return a.rollbackPhase3(ctx, which, tune, reason) }),
	}
	which.register(cmd)
	tune.register(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the journal")
	_ = cmd.MarkFlagRequired("queue") // the flag exists
	return cmd
}

func (a *app) rollbackPhase3(ctx context.Context, which queueFlags, tune tuning, reason string) error {
	var cause error
	if reason != "" {
		cause = errors.New(reason)
	}
	return a.withMigration(ctx, writing(), which.target(), func(up *upstream.Upstream, s migrate.Standing, dir string) error {
		opts, done := a.runOptions(dir, tune)
		plan, err := step.PlanBack(ctx, up.Client(), s, opts)
		if errors.Is(err, migrate.ErrNothingToRollBack) {
			a.note("nothing to roll back: the migration is %s", s.State.Stage)
			return a.print(statusDocument([]migrate.Standing{s}))
		}
		if err != nil {
			return err
		}
		doc := planDocument(plan)
		if a.flags.dryRun {
			return errors.Join(a.print(doc), plan.Refused())
		}
		if err := plan.Refused(); err != nil {
			return err
		}
		if err := a.confirm(ctx, doc, "Move the queue back?"); err != nil {
			return err
		}
		report, err := step.Rollback(ctx, up.Client(), s, cause, opts)
		done()
		if err != nil {
			return err
		}
		return a.print(resultDocument(s.Target, plan.Direction, report, up.Spent()))
	})
}
