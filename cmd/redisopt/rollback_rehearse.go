package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/rehearsal"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// rehearseFlags are those of a rehearsal, on every command of rollback.
type rehearseFlags struct {
	on     bool
	engine engine
	major  int
	plan   string
	bounds rehearsal.Bounds
}

func (f *rehearseFlags) register(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.BoolVar(&f.on, "rehearse", false, "go there and back on an embedded Redis with a copy of real keys; changes nothing")
	flags.Var(&f.engine, "engine", "with --rehearse: the engine that phase 3 moves queues to: bullmq, asynq or bull")
	flags.IntVar(&f.major, "bullmq-major", 0, "with --rehearse: the BullMQ that will run the queues, 5 or 6 (0: find out)")
	flags.StringVar(&f.plan, "plan", "", "with --rehearse: go the way of this plan `file`")
	flags.IntVar(&f.bounds.Jobs, "sample-jobs", 0, "with --rehearse: copy at most `n` jobs of each state of a queue (0: 100)")
	flags.IntVar(&f.bounds.Keys, "sample-keys", 0, "with --rehearse: copy at most `n` keys outside of queues (0: 500; negative: none)")
	flags.Float64Var(&f.bounds.Rate, "read-rate", 0, "with --rehearse: read at most `n` keys a second (0: 500; negative: no limit)")
}

// only refuses flags of a rehearsal without --rehearse.
func (f *rehearseFlags) only(cmd *cobra.Command) error {
	for _, name := range []string{"engine", "bullmq-major", "plan", "sample-jobs", "sample-keys", "read-rate"} {
		if cmd.Flags().Changed(name) {
			return usagef("--%s: only with --rehearse", name)
		}
	}
	return nil
}

// rehearsable lets --rehearse take the place of what a command of rollback does otherwise.
func (a *app) rehearsable(cmd *cobra.Command, f *rehearseFlags, which func(args []string) rehearsed) *cobra.Command {
	ordinary := cmd.RunE
	rehearse := a.action(func(ctx context.Context, args []string) error { return a.rehearse(ctx, f, which(args)) })
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !f.on {
			if err := f.only(cmd); err != nil {
				return err
			}
			return ordinary(cmd, args)
		}
		return rehearse(cmd, args)
	}
	return cmd
}

// A rehearsed is which migrations are rehearsed: all that can be planned, those of a phase, one queue's, or
// the last one.
type rehearsed struct {
	phase string
	last  bool
	queueFlags
}

// rehearse copies keys and walks the migrations on the copy.
func (a *app) rehearse(ctx context.Context, f *rehearseFlags, which rehearsed) error {
	if err := f.bounds.Validate(); err != nil {
		return &usageError{err}
	}
	if f.plan != "" && which.last {
		return usagef("--plan: the last migration has a plan already")
	}
	var legs []rehearsal.Leg
	var sample *rehearsal.Sample
	var price rehearsal.Price
	var cost upstream.Cost
	err := a.withRedis(ctx, reading(), func(up *upstream.Upstream, conf *config.Config) error {
		dir, err := a.migrationDir(conf)
		if err != nil {
			return err
		}
		if legs, err = a.legs(ctx, planning{up: up, conf: conf, dir: dir, migratePlanFlags: migratePlanFlags{
			queueFlags: which.queueFlags, engine: f.engine, major: f.major,
		}}, f.plan, which); err != nil {
			return err
		}
		scope, err := rehearsal.ScopeOf(legs)
		if err != nil {
			return err
		}
		if price, err = rehearsal.Estimate(ctx, up.Client(), scope, f.bounds); err != nil {
			return err
		}
		if len(legs) > 0 && !a.flags.dryRun {
			p := a.progress("keys")
			p.begin("copy what the migrations are about", price.Keys)
			sample, err = rehearsal.Read(ctx, up.Client(), scope, f.bounds, func(keys int64) { p.update(keys, 0) })
			p.finish()
		}
		cost = up.Spent()
		return err
	})
	if err != nil {
		return err
	}
	if sample == nil {
		return a.print(rehearsalDocument(rehearsalData{DryRun: a.flags.dryRun, Price: price, Cost: cost, Planned: plannedWalks(legs)}))
	}
	return a.walkLegs(ctx, sample, legs, price, cost)
}

// walkLegs walks on a stage of its own, with the real Redis closed already.
func (a *app) walkLegs(ctx context.Context, sample *rehearsal.Sample, legs []rehearsal.Leg, price rehearsal.Price, cost upstream.Cost) error {
	stage, err := rehearsal.OpenStage(ctx)
	if err != nil {
		return err
	}
	p := a.progress("migrations")
	result, err := rehearsal.Rehearse(ctx, stage, sample, legs, rehearsal.Options{
		Progress: func(t migrate.Target, way string) { p.begin(t.String()+", "+way, 0) },
	})
	p.finish()
	if err = errors.Join(err, stage.Close()); err != nil {
		return err
	}
	if err := a.print(rehearsalDocument(rehearsalData{
		Price: price, Cost: cost, Planned: plannedWalks(legs), Sample: result.Sample, Walks: result.Walks, Passed: result.Passed(),
	})); err != nil {
		return err
	}
	return rehearsalVerdict(result)
}

// rehearsalVerdict is the exit code: 7 for what may not begin or does not work, 4 for what differs.
func rehearsalVerdict(r *rehearsal.Result) error {
	code, names := exitOK, []string{}
	for i := range r.Walks {
		switch r.Walks[i].Verdict {
		case rehearsal.Passed:
			continue
		case rehearsal.Refused, rehearsal.Stuck:
			code = exitBlocked
		case rehearsal.Differs:
			if code == exitOK {
				code = exitMismatch
			}
		}
		names = append(names, r.Walks[i].Target.String())
	}
	if code == exitOK {
		return nil
	}
	return withHint(verdictf(code, "%s of %d did not come back as it went: %s", plural(int64(len(names)), "migration"), len(r.Walks), strings.Join(names, ", ")),
		"nothing was changed on the real Redis; solve what is listed, then rehearse again")
}

// legs are the migrations to walk: of a plan file, or as they stand, or as they would be planned.
func (a *app) legs(ctx context.Context, p planning, file string, which rehearsed) ([]rehearsal.Leg, error) {
	switch {
	case which.last:
		return a.lastLeg(ctx, p)
	case file != "":
		return a.fileLegs(file, which)
	}
	chosen := slices.DeleteFunc(a.planners(), func(one planner) bool { return which.phase != "" && one.phase != which.phase })
	var out []rehearsal.Leg
	for _, one := range chosen {
		if one.phase == step.Phase3Name && p.engine == "" {
			begun, err := a.begunLegs(ctx, p, which)
			if err != nil {
				return nil, err
			}
			if len(begun) == 0 && which.phase != "" {
				return nil, usagef("--engine: got none, want the engine that runs the queues after phase 3")
			}
			if len(begun) == 0 {
				a.note("phase 3 is not rehearsed: name the engine with --engine")
			}
			out = append(out, begun...)
			continue
		}
		some, err := a.plannedLegs(ctx, p, one)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one.phase, err)
		}
		out = append(out, some...)
	}
	return out, nil
}

// lastLeg is the migration that was worked on last and can still be undone.
func (a *app) lastLeg(ctx context.Context, p planning) ([]rehearsal.Leg, error) {
	all, err := a.standings(ctx, p.up, whichMigration{}, p.dir)
	if err = errors.Join(err, unread(all)); err != nil {
		return nil, err
	}
	last := lastUndoable(all)
	if last == nil {
		a.note("nothing can be rolled back")
		return nil, nil
	}
	return []rehearsal.Leg{legOf(*last)}, nil
}

// legOf is the way back of a migration that is open or in place.
func legOf(s migrate.Standing) rehearsal.Leg {
	return rehearsal.Leg{Target: s.Target, Options: s.State.Options, Begun: s.Entries}
}

// fileLegs are the migrations of a plan file.
func (a *app) fileLegs(path string, which rehearsed) ([]rehearsal.Leg, error) {
	file, err := readPlan(path)
	if err != nil {
		return nil, err
	}
	var out []rehearsal.Leg
	for _, planned := range file.Phases {
		if which.phase != "" && planned.Target.Phase != which.phase || which.queue != "" && planned.Target.Queue != which.queue {
			continue
		}
		out = append(out, rehearsal.Leg{Target: planned.Target, Options: planned.Options})
	}
	if len(out) == 0 {
		return nil, usagef("--plan: %s plans nothing of what was asked for", path)
	}
	return out, nil
}

// begunLegs are the queues that phase 3 has moved, or is moving.
func (a *app) begunLegs(ctx context.Context, p planning, which rehearsed) ([]rehearsal.Leg, error) {
	all, err := a.standings(ctx, p.up, whichMigration{phase: step.Phase3Name, queueFlags: which.queueFlags}, p.dir)
	if err = errors.Join(err, unread(all)); err != nil {
		return nil, err
	}
	var out []rehearsal.Leg
	for _, s := range all {
		if s.State.Stage.Undoable() {
			out = append(out, legOf(s))
		}
	}
	return out, nil
}

// plannedLegs are those of one phase: the way back of what was begun, and both ways of what would be planned.
func (a *app) plannedLegs(ctx context.Context, p planning, one planner) ([]rehearsal.Leg, error) {
	runs, err := one.propose(ctx, p)
	if err != nil {
		return nil, err
	}
	var out []rehearsal.Leg
	for _, r := range runs {
		s, err := migrate.Look(ctx, p.up.Client(), migrate.SessionOptions{Target: r.target, StateDir: p.dir})
		if err != nil {
			return nil, a.migrationHint(err, r.target)
		}
		if s.State.Stage.Undoable() {
			out = append(out, legOf(s))
			continue
		}
		if s.State.Stage == migrate.Finished || s.State.Stage == migrate.Finishing {
			a.note("%s: %s, so there is no way back to rehearse", r.target, s.Condition())
			continue
		}
		phase, err := r.make(ctx, p.up, p.conf, s.State)
		if none, ok := errors.AsType[*nothingToDoError](err); ok {
			a.note("%s: %s", r.target, none.why)
			continue
		}
		if err != nil {
			return nil, a.migrationHint(err, r.target)
		}
		options, err := json.Marshal(phase.Options())
		if err != nil {
			return nil, err
		}
		out = append(out, rehearsal.Leg{Target: r.target, Options: options})
	}
	return out, nil
}
