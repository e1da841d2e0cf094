package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

func (a *app) migrateResumeCommand() *cobra.Command {
	var (
		tune tuning
		host hostFlags
		cmd  *cobra.Command
	)
	cmd = a.verb(&cobra.Command{
		Use:   "resume [phase]",
		Short: "Go on with a migration that was paused or interrupted, in the direction it had",
		Long: `resume goes on with what was interrupted. While somebody hosts the migration, it ends a pause and,
with --max-rate, changes the rate at once; otherwise it hosts the migration itself.`,
		Example: `  redisopt migrate resume --queue mail
  redisopt migrate resume --queue mail --max-rate 500 --yes`,
	}, func(ctx context.Context, which whichMigration) error {
		return a.migrateResume(ctx, which.target(), tune, host, cmd.Flags().Changed("max-rate"))
	})
	tune.register(cmd)
	host.register(cmd)
	return cmd
}

func (a *app) migrateResume(ctx context.Context, t migrate.Target, tune tuning, flags hostFlags, rated bool) error {
	hosting, err := flags.options()
	if err != nil {
		return err
	}
	return a.withMigration(ctx, asking(), t, func(up *upstream.Upstream, s migrate.Standing, dir string) error {
		if s.Holder != nil {
			if len(flags.windows) > 0 {
				return withHint(s.Held(), "a host takes its windows when it begins: stop it with Ctrl-C, then run the same command again")
			}
			return a.resumeHosted(ctx, up, s, tune, rated)
		}
		if !s.State.Stage.Open() {
			if s.State.Stage == migrate.NotStarted {
				return withHint(verdictf(exitBlocked, "%s was never begun", s.Target), beginCommand(s.Target))
			}
			a.note("nothing is open: the migration is %s", s.Condition())
			return a.print(statusDocument([]migrate.Standing{s}))
		}
		if s.State.Stage == migrate.Finishing {
			return withHint(&migrate.StageError{Verb: "resume", Stage: s.State.Stage}, "redisopt migrate complete"+targetArgs(t))
		}
		if isPaused(s) && !a.flags.dryRun {
			if err := migrate.Withdraw(ctx, up.Client(), t, migrate.IntentPause); err != nil {
				return err
			}
		}
		if err := afterEmergency(s); err != nil && s.State.Stage != migrate.Backward {
			return err
		}
		if t.Phase != step.Phase3Name {
			return a.resumePhase(ctx, up, s, dir, float64(tune.maxRate), hosting)
		}
		opts, done := a.runOptions(up, dir, tune, hosting)
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

// isPaused is true while somebody's wish to pause s is in force.
func isPaused(s migrate.Standing) bool {
	return slices.ContainsFunc(s.Intents, func(i migrate.Intent) bool { return i.Verb == migrate.IntentPause })
}

// beginCommand is what begins a migration of t.
func beginCommand(t migrate.Target) string {
	if t.Phase == step.Phase3Name {
		return "redisopt migrate phase3 " + queueArgs(t) + " --engine bullmq --dry-run"
	}
	return fmt.Sprintf("redisopt migrate %s --dry-run", t.Phase)
}

// resumeHosted ends a pause, and changes the rate, of a migration that somebody hosts.
func (a *app) resumeHosted(ctx context.Context, up *upstream.Upstream, s migrate.Standing, tune tuning, rated bool) error {
	paused := isPaused(s)
	if !paused && !rated {
		return s.Held()
	}
	rate := migrate.Intent{Verb: migrate.IntentRate, Rate: float64(tune.maxRate)}
	if a.flags.dryRun {
		return a.print(intentDocument(s, rate, false))
	}
	if paused {
		if err := migrate.Withdraw(ctx, up.Client(), s.Target, migrate.IntentPause); err != nil {
			return err
		}
		a.note("the pause of %s is over", s.Target)
	}
	if rated {
		return a.ask(ctx, up, s, rate, pauseHolds)
	}
	return a.print(statusDocument([]migrate.Standing{s}))
}

// resumePhase goes on with a phase other than 3, in the direction it had.
func (a *app) resumePhase(
	ctx context.Context, up *upstream.Upstream, s migrate.Standing, dir string, rate float64, opts migrate.HostOptions,
) error {
	phase, err := a.openPhase(up, s.Target, s.State.Options, migrate.Env{})
	if err != nil {
		return err
	}
	outline, err := outlineOf(ctx, phase, s.State.Stage)
	if err != nil {
		return err
	}
	doc := outlineDocument([]migrate.Outline{outline}, "")
	if a.flags.dryRun {
		return a.print(doc)
	}
	if err := a.confirm(ctx, doc, "Go on?"); err != nil {
		return err
	}
	return a.hostPhase(ctx, up, s.Target, dir, rate, opts, s.State.Options)
}

// outlineOf is what phase would do in the direction of stage.
func outlineOf(ctx context.Context, phase migrate.Phase, stage migrate.Stage) (migrate.Outline, error) {
	if back, ok := phase.(migrate.Reverser); ok && stage == migrate.Backward {
		o, err := back.PlanBack(ctx)
		return o.Normal(), err
	}
	o, err := phase.Plan(ctx)
	return o.Normal(), err
}
