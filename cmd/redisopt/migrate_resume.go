package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

func (a *app) migrateResumeCommand() *cobra.Command {
	var (
		which queueFlags
		tune  tuning
	)
	cmd := &cobra.Command{
		Use:   "resume",
		Short: "Go on with a migration that was interrupted, in the direction it had",
		Example: `  redisopt migrate resume --queue mail
  redisopt migrate resume --queue mail --max-rate 500 --yes`,
		Args: cobra.NoArgs,
		RunE: a.action(func(ctx context.Context, _ []string) error { return a.migrateResume(ctx, which, tune) }),
	}
	which.register(cmd)
	tune.register(cmd)
	_ = cmd.MarkFlagRequired("queue") // the flag exists
	return cmd
}

func (a *app) migrateResume(ctx context.Context, which queueFlags, tune tuning) error {
	return a.withMigration(ctx, writing(), which.target(), func(up *upstream.Upstream, s migrate.Standing, dir string) error {
		if !s.State.Stage.Open() {
			if s.State.Stage == migrate.NotStarted {
				return withHint(verdictf(exitBlocked, "%s was never begun", s.Target),
					"redisopt migrate phase3 "+queueArgs(s.Target)+" --engine bullmq --dry-run")
			}
			a.note("nothing is open: the migration is %s", s.State.Stage)
			return a.print(statusDocument([]migrate.Standing{s}))
		}
		opts, done := a.runOptions(dir, tune)
		plan, err := step.PlanResume(ctx, up.Client(), s, opts)
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
		if err := a.confirm(ctx, doc, "Go on?"); err != nil {
			return err
		}
		report, err := step.Resume(ctx, up.Client(), s, opts)
		done()
		if err != nil {
			return err
		}
		return a.print(resultDocument(s.Target, plan.Direction, report, up.Spent()))
	})
}
