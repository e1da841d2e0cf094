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
	var rehearse rehearseFlags
	of := func(phase string) func([]string) rehearsed {
		return func([]string) rehearsed { return rehearsed{phase: phase} }
	}
	var queue queueFlags
	cmd := a.group("rollback", "Undo a migration, wherever it stopped, or rehearse that",
		`  redisopt rollback phase3 --queue mail --dry-run
  redisopt rollback phase3 --queue mail --reason 'new workers crash'
  redisopt rollback --rehearse --engine bullmq`,
		a.rehearsable(a.rollbackLastCommand(), &rehearse, func([]string) rehearsed { return rehearsed{last: true} }),
		a.rehearsable(a.rollbackPhase1Command(), &rehearse, of(step.Phase1Name)),
		a.rehearsable(a.rollbackPhase3Command(&queue), &rehearse, func([]string) rehearsed { return rehearsed{phase: step.Phase3Name, queueFlags: queue} }),
		a.rehearsable(a.rollbackPhaseCommand(step.Phase2Name), &rehearse, of(step.Phase2Name)),
		a.rehearsable(a.rollbackPhaseCommand(step.Phase4Name), &rehearse, of(step.Phase4Name)))
	rehearse.register(cmd)
	return a.rehearsable(cmd, &rehearse, func([]string) rehearsed { return rehearsed{queueFlags: queueFlags{prefix: "bull"}} })
}

func (a *app) rollbackPhase3Command(which *queueFlags) *cobra.Command {
	var (
		tune   tuning
		reason string
		all    bool
	)
	cmd := &cobra.Command{
		Use:   "phase3",
		Short: "Move a queue back to Bull, what was added meanwhile included",
		Example: `  redisopt rollback phase3 --queue mail --dry-run
  redisopt rollback phase3 --queue mail --reason 'new workers crash' --yes
  redisopt rollback phase3 --all-queues --yes`,
		Args: cobra.NoArgs,
		RunE: a.action(func(ctx context.Context, _ []string) error {
			if all {
				return a.rollbackAllQueues(ctx, *which, tune, reason)
			}
			return a.rollbackPhase3(ctx, *which, tune, reason)
		}),
	}
	which.register(cmd)
	tune.register(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the journal")
	cmd.Flags().BoolVar(&all, "all-queues", false, "move every queue under the prefix back, the one that was begun last first")
	cmd.MarkFlagsMutuallyExclusive("queue", "all-queues")
	return cmd
}

func (a *app) rollbackPhase3(ctx context.Context, which queueFlags, tune tuning, reason string) error {
	return a.withMigration(ctx, asking(), which.target(), func(up *upstream.Upstream, s migrate.Standing, dir string) error {
		if s.Holder != nil && !a.flags.dryRun {
			return a.rollbackHosted(ctx, up, s, reason)
		}
		if s.State.Stage == migrate.Finishing || s.State.Stage == migrate.Finished {
			return &migrate.FinishedError{Since: s.State.Since}
		}
		opts, done := a.runOptions(up, dir, tune, migrate.HostOptions{})
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
		report, err := step.Rollback(ctx, up.Client(), s, whyBack(s, reason), opts)
		done()
		if err != nil {
			return err
		}
		return a.print(resultDocument(s.Target, plan.Direction, report, up.Spent()))
	})
}

// rollbackHosted asks whoever hosts a migration to roll it back.
func (a *app) rollbackHosted(ctx context.Context, up *upstream.Upstream, s migrate.Standing, reason string) error {
	i := migrate.Intent{Verb: migrate.IntentRollback, Reason: reason}
	if err := a.confirm(ctx, intentDocument(s, i, false), "Ask for the rollback?"); err != nil {
		return err
	}
	return a.ask(ctx, up, s, i, askedHolds)
}

// rollbackPhaseCommand makes the command that rolls back a phase of the whole database.
func (a *app) rollbackPhaseCommand(phase string) *cobra.Command {
	var reason string
	t := migrate.Target{Phase: phase}
	cmd := &cobra.Command{
		Use:   phase,
		Short: "Undo " + phase + ", last step first",
		Example: "  redisopt rollback " + phase + " --dry-run\n" +
			"  redisopt rollback " + phase + " --reason 'the users wait' --yes",
		Args: cobra.NoArgs,
		RunE: a.action(func(ctx context.Context, _ []string) error { return a.rollbackPhase(ctx, t, reason) }),
	}
	cmd.Flags().String(stateDirFlag, "", "the journal is in this `directory` (default: the user's state directory)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the journal")
	return cmd
}

func (a *app) rollbackPhase(ctx context.Context, t migrate.Target, reason string) error {
	return a.withMigration(ctx, asking(), t, func(up *upstream.Upstream, s migrate.Standing, dir string) error {
		switch stage := s.State.Stage; {
		case stage == migrate.Finishing || stage == migrate.Finished:
			return &migrate.FinishedError{Since: s.State.Since}
		case !stage.Undoable():
			a.note("nothing to roll back: the migration is %s", stage)
			return errors.Join(a.print(statusDocument([]migrate.Standing{s})), a.reconcile(s, dir, up))
		}
		if s.Holder != nil && !a.flags.dryRun {
			return a.rollbackHosted(ctx, up, s, reason)
		}
		phase, err := a.openPhase(up, t, s.State.Options, migrate.Env{})
		if err != nil {
			return err
		}
		outline, err := outlineOf(ctx, phase, migrate.Backward)
		if err != nil {
			return err
		}
		doc := outlineDocument([]migrate.Outline{outline}, "")
		if a.flags.dryRun {
			return errors.Join(a.print(doc), outline.Refused())
		}
		if err := outline.Refused(); err != nil {
			return err
		}
		if err := a.confirm(ctx, doc, "Roll it back?"); err != nil {
			return err
		}
		if err := a.hostPhase(ctx, up, t, dir, 0, migrate.HostOptions{Back: true, Cause: whyBack(s, reason)}, s.State.Options); err != nil {
			return err
		}
		return a.reconcile(s, dir, up)
	})
}
