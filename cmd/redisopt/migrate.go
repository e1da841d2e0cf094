package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// queueFlags say which migration a command is about, and where its journal is.
type queueFlags struct {
	queue  string
	prefix string
}

func (q *queueFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&q.queue, "queue", "", "the queue's `name`")
	cmd.Flags().StringVar(&q.prefix, "prefix", "bull", "the queue's key prefix before the migration")
	cmd.Flags().String(stateDirFlag, "", "keep the journal in this `directory` (default: the user's state directory)")
}

// target is the migration of phase 3 that the flags name.
func (q *queueFlags) target() migrate.Target {
	return migrate.Target{Phase: step.Phase3Name, Prefix: q.prefix, Queue: q.queue}
}

// queueArgs are what has to be typed to name the same queue again.
func queueArgs(t migrate.Target) string {
	args := "--queue " + t.Queue
	if t.Prefix != "bull" {
		args += " --prefix '" + t.Prefix + "'"
	}
	return args
}

// queueFlagArgs are queueArgs after a space, nothing for a phase of the whole database.
func queueFlagArgs(t migrate.Target) string {
	if t.Whole() {
		return ""
	}
	return " " + queueArgs(t)
}

// targetArgs are what has to be typed after a verb to name the same migration again, with a space before
// it. Phase 3 needs no name: its queue says enough.
func targetArgs(t migrate.Target) string {
	if t.Whole() {
		return " " + t.Phase
	}
	if t.Phase != step.Phase3Name {
		return " " + t.Phase + " " + queueArgs(t)
	}
	return " " + queueArgs(t)
}

// migrateCommand is the group of migrations, and by itself --force-unlock.
func (a *app) migrateCommand() *cobra.Command {
	cmd := a.group("migrate", "Move queues off an engine, step by step and reversibly",
		`  redisopt migrate phase3 --queue mail --engine bullmq --dry-run
  redisopt migrate status`,
		a.migratePlanCommand(), a.migratePhase1Command(), a.migratePhase2Command(), a.migratePhase3Command(), a.migratePhase4Command(),
		a.migrateRestoreCommand(), a.migrateCopyCommand(), a.migrateRunCommand(),
		a.migrateStatusCommand(), a.migratePauseCommand(), a.migrateResumeCommand(), a.migrateVerifyCommand(),
		a.migrateCompleteCommand(), a.migrateAbortCommand(), a.migrateReportCommand(), a.migrateHistoryCommand())
	var (
		which whichMigration
		phase string
		force bool
	)
	which.register(cmd)
	cmd.Flags().BoolVar(&force, "force-unlock", false, "take the lease away from an operator who is gone")
	cmd.Flags().StringVar(&phase, "phase", "", "with --force-unlock: the lease of this `phase`, where several are held")
	cmd.MarkFlagsMutuallyExclusive("queue", "phase")
	help := cmd.RunE
	unlock := a.action(func(ctx context.Context, _ []string) error {
		if phase != "" {
			if err := which.set([]string{phase}); err != nil {
				return fmt.Errorf("--phase: %w", err)
			}
		}
		return a.forceUnlock(ctx, which)
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if force && len(args) == 0 {
			return unlock(cmd, args)
		}
		return help(cmd, args)
	}
	return cmd
}

// reading and writing are what migrations want of a Redis.
func reading() redisUse { return redisUse{component: meter.Migrate} }

func writing() redisUse { return redisUse{component: meter.Migrate, writes: true} }

// withMigration opens the Redis and looks where the named migration stands, which writes nothing. Its
// errors carry what to type next about that migration.
func (a *app) withMigration(
	ctx context.Context, use redisUse, t migrate.Target,
	f func(up *upstream.Upstream, s migrate.Standing, dir string) error,
) error {
	return a.withMigrationOf(ctx, use, t, func(up *upstream.Upstream, _ *config.Config, s migrate.Standing, dir string) error {
		return f(up, s, dir)
	})
}

// withMigrationOf is withMigration for those who need the configuration too.
func (a *app) withMigrationOf(
	ctx context.Context, use redisUse, t migrate.Target,
	f func(up *upstream.Upstream, conf *config.Config, s migrate.Standing, dir string) error,
) error {
	if t.Queue == "" && !t.Whole() {
		return usagef("--queue: got none, want the name of a queue")
	}
	return a.withRedis(ctx, use, func(up *upstream.Upstream, conf *config.Config) error {
		dir, err := a.migrationDir(conf)
		if err != nil {
			return err
		}
		s, err := migrate.Look(ctx, up.Client(), migrate.SessionOptions{Target: t, StateDir: dir})
		if err != nil {
			return a.migrationHint(err, t)
		}
		if err := remember(&s, dir, up); err != nil {
			return err
		}
		if s.Emergency != nil {
			a.note("warning: %s", s.Emergency)
		}
		if use.writes && !use.intents && !a.flags.dryRun {
			if err := s.Held(); err != nil { // before a plan costs a command for each job
				return a.migrationHint(err, t)
			}
		}
		return a.migrationHint(f(up, conf, s, dir), t)
	})
}

// migrationDir is where journals are kept: where the operator says, else in the directory that the
// user's system has for state. It does not depend on the working directory, from which a migration
// could not be resumed elsewhere.
func (a *app) migrationDir(conf *config.Config) (string, error) {
	if conf.Origin("serve.state_dir").Kind != config.FromDefault {
		return conf.Serve.StateDir, nil
	}
	if dir := a.getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "redisopt"), nil
	}
	if home := a.getenv("HOME"); runtime.GOOS != "windows" && runtime.GOOS != "darwin" && filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "redisopt"), nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", usagef("no directory for the journal is known, choose one with --state-dir: %w", err)
	}
	return filepath.Join(dir, "redisopt"), nil
}

// runOptions are the options of a run of phase 3 that shows its progress. The caller calls done when it
// has ended.
func (a *app) runOptions(up *upstream.Upstream, dir string, t tuning, hosting migrate.HostOptions) (opts step.RunOptions, done func()) {
	p := a.progress("jobs")
	var state mover.State
	hosting = a.withMetricsToken(hosting)
	hosting.Subscribe = func(ctx context.Context, channel string) (migrate.Rings, error) { return ringsOf(ctx, up, channel) }
	hosting.Track, hosting.OnPulse = tracking(up), a.tellPulses()
	opts = step.RunOptions{
		StateDir: dir, MaxRate: t.maxRate, WorkersStopped: t.workersStopped, ActiveTimeout: t.activeTimeout,
		Hosting: hosting,
		OnEvent: func(e migrate.Event) {
			switch e.Kind {
			case migrate.StepStarted, migrate.UndoStarted, migrate.StepSkipped:
				a.detail("step %d of %d: %s %s", e.Index+1, e.Of, e.Step, e.Kind)
			case migrate.StepDone, migrate.UndoDone, migrate.StepFailed:
				p.finish()
				state = ""
				a.detail("step %d of %d: %s %s after %s", e.Index+1, e.Of, e.Step, e.Kind, shortDuration(e.Took))
			}
		},
		OnProgress: func(now mover.Progress) {
			if now.State != state {
				state = now.State
				p.begin("move "+string(state), now.Total)
			}
			p.update(now.Moved, now.Total)
		},
	}
	return opts, p.finish
}

// forceUnlock takes a lease away. Without --queue and --phase it takes the only one that is held.
func (a *app) forceUnlock(ctx context.Context, which whichMigration) error {
	return a.withRedis(ctx, writing(), func(up *upstream.Upstream, _ *config.Config) error {
		held, err := heldLeases(ctx, up, which)
		if err != nil {
			return err
		}
		switch {
		case len(held) == 0:
			return a.print(unlockDocument(nil, false))
		case len(held) > 1:
			return usagef("%d leases are held, choose one: %s", len(held), leaseNames(held))
		}
		one := &held[0]
		if a.flags.dryRun {
			return a.print(unlockDocument(one, false))
		}
		if err := a.confirm(ctx, unlockDocument(one, false), "Take the lease away?"); err != nil {
			return err
		}
		holder, err := migrate.ForceUnlock(ctx, up.Client(), one.target.LeaseKey(), one.holder)
		if err != nil {
			return err
		}
		if holder == nil { // given back while we asked
			return a.print(unlockDocument(nil, false))
		}
		one.holder = *holder
		if err := migrate.Dismiss(ctx, up.Client(), one.target); err != nil { // or it would learn it with its next renewal
			return err
		}
		return a.print(unlockDocument(one, true))
	})
}
