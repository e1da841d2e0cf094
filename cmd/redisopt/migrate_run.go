package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

func (a *app) migrateRunCommand() *cobra.Command {
	var (
		which whichMigration
		host  hostFlags
		rate  int
	)
	cmd := &cobra.Command{
		Use:   "run [phase]",
		Short: "Host what is open: long soaks, gates, what was interrupted",
		Long: `run goes on with every migration that is open, or with the one that is named, each in its own
direction, and stays until it is completed or rolled back. Meanwhile it follows what the other verbs ask
for: pause, resume, complete, abort, rollback, a new rate. The first Ctrl-C pauses at a safe point, the
second stops at once; either way nothing is lost. deploy/redisopt-migrate.service runs it under systemd.`,
		Example: `  redisopt migrate run --yes --auto-rollback
  redisopt migrate run phase1 --hold-before complete --window 'Mon-Fri 02:00-05:00 Europe/Vienna' --yes`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.action(func(ctx context.Context, args []string) error {
			if err := which.set(args); err != nil {
				return err
			}
			return a.migrateRun(ctx, which, host, rate)
		}),
	}
	which.register(cmd)
	host.register(cmd)
	cmd.Flags().IntVar(&rate, "max-rate", 0, "at most `n` items a second in each migration (0: no limit)")
	return cmd
}

func (a *app) migrateRun(ctx context.Context, which whichMigration, flags hostFlags, rate int) error {
	opts, err := flags.options()
	if err != nil {
		return err
	}
	if rate < 0 {
		return usagef("--max-rate: got %d, want 0 or more", rate)
	}
	opts.Stay = true
	return a.withRedis(ctx, writing(), func(up *upstream.Upstream, conf *config.Config) error {
		dir, err := a.migrationDir(conf)
		if err != nil {
			return err
		}
		open, left, err := a.openMigrations(ctx, up, which, dir)
		if err != nil {
			return err
		}
		doc := statusDocument(slices.Concat(open, left))
		if len(open) == 0 {
			a.note("nothing is open that can be hosted")
			return errors.Join(a.print(doc), unread(left))
		}
		rest, _ := a.hosting(up, opts)
		commands, inScript := rest.Resting(24 * time.Hour)
		a.detail("while nothing moves, hosting costs about %d commands a day and migration, and %d inside scripts", commands, inScript)
		if a.flags.dryRun {
			return errors.Join(a.print(doc), unread(left))
		}
		if err := a.confirm(ctx, doc, "Go on with all of it?"); err != nil {
			return err
		}
		err = a.hostAll(ctx, up, open, dir, float64(rate), opts)
		if err != nil && ctx.Err() != nil {
			err = withHint(err, hostAgain(which))
		}
		return errors.Join(err, a.print(statusDocument(slices.Concat(open, left))), unread(left))
	})
}

// openMigrations are those that have something to go on with, or that wait to be completed, and that
// nobody hosts; or the one that was named. Of several, left are those whose journal cannot be read.
func (a *app) openMigrations(
	ctx context.Context, up *upstream.Upstream, which whichMigration, dir string,
) (open, left []migrate.Standing, err error) {
	all, err := a.standings(ctx, up, which, dir)
	if err != nil {
		return nil, nil, err
	}
	a.noteUnread(all)
	for _, s := range all {
		t := s.Target
		switch {
		case s.Err != nil:
			left = append(left, s)
		case !s.State.Stage.Open() && s.State.Stage != migrate.Complete:
		case s.Emergency != nil && s.State.Stage != migrate.Backward && which.named():
			return nil, nil, afterEmergency(s)
		case s.Emergency != nil && s.State.Stage != migrate.Backward:
			a.note("%s is not hosted: %s; redisopt rollback %s", t, s.Emergency, t.Phase)
		case s.Holder != nil && which.named():
			return nil, nil, a.migrationHint(s.Held(), t)
		case s.Holder != nil:
			a.note("%s is hosted by %s", t, s.Holder.Owner)
		default:
			open = append(open, s)
		}
	}
	return open, left, nil
}

// hostAgain says what to do when hosting was interrupted: a host comes back as a host, while migrate resume
// would end with the steps of one migration.
func hostAgain(which whichMigration) string {
	args := ""
	switch {
	case which.named():
		args = targetArgs(which.target())
	case which.phase != "":
		args = " " + which.phase
	}
	return "nothing is lost, but until it is hosted again no gate is watched and nothing is rolled back or moved by itself; " +
		"with the same flags: redisopt migrate run" + args
}

// hostAll hosts every migration of open at once, each until it is completed or rolled back, and leaves in
// open where each stands at the end.
func (a *app) hostAll(
	ctx context.Context, up *upstream.Upstream, open []migrate.Standing, dir string, rate float64, opts migrate.HostOptions,
) error {
	var (
		mu   sync.Mutex // of errs, and of what tells the user
		errs []error
		all  sync.WaitGroup
	)
	for i, s := range open {
		o, _ := a.hosting(up, opts)
		o.Session = migrate.SessionOptions{Target: s.Target, StateDir: dir}
		o.Rate = rate
		o.Open = func(_ context.Context, state migrate.State, env migrate.Env) (migrate.Phase, error) {
			return a.openPhase(up, s.Target, state.Options, env)
		}
		o.OnProgress = nil // several lines of progress would overwrite one another
		tell := a.tellPulses()
		o.OnEvent = func(e migrate.Event) {
			mu.Lock()
			defer mu.Unlock()
			a.note("%s: step %d of %d, %s: %s", s.Target, e.Index+1, e.Of, e.Step, e.Kind)
		}
		o.OnPulse = func(p migrate.Pulse) {
			mu.Lock()
			defer mu.Unlock()
			tell(p)
		}
		all.Go(func() {
			hosted, err := migrate.Host(ctx, o)
			mu.Lock()
			defer mu.Unlock()
			open[i].State = hosted.State
			if err != nil {
				if ctx.Err() == nil {
					err = a.migrationHint(err, s.Target)
				}
				errs = append(errs, err)
			}
		})
	}
	all.Wait()
	for i := range open {
		open[i].Holder, open[i].Pulse, open[i].Intents = nil, nil, []migrate.Intent{}
	}
	return errors.Join(errs...)
}
