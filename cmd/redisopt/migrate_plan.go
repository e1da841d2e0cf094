package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/internal/inspect/source"
	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// migratePlanFlags are the flags of migrate plan.
type migratePlanFlags struct {
	queueFlags
	engine   engine
	major    int
	out      string
	code     string
	detailed bool
	allJobs  bool

	// soak is how long the phases soak that do; nil: as long as their own commands do without a flag.
	soak *time.Duration
}

// A planning is what the makers of phases are given.
type planning struct {
	up   *upstream.Upstream
	conf *config.Config
	dir  string // of journals
	code *source.Report
	migratePlanFlags

	alone bool // one phase was asked for, by its name
}

// A planner proposes the runs of one phase with the choices that its own command would make without
// flags. None at all is no error: there may be nothing to do.
type planner struct {
	phase   string
	propose func(ctx context.Context, p planning) ([]phaseRun, error)
}

// planners are all phases that can be planned, in their order.
func (a *app) planners() []planner {
	return []planner{
		{step.Phase1Name, a.proposePhase1},
		{step.Phase2Name, a.proposePhase2},
		{step.Phase3Name, a.proposePhase3},
		{step.Phase4Name, a.proposePhase4},
	}
}

func (a *app) migratePlanCommand() *cobra.Command {
	var (
		f    migratePlanFlags
		soak time.Duration
	)
	cmd := &cobra.Command{
		Use:   "plan [phase1|phase2|phase3|phase4|all]",
		Short: "What phases would do, cost and lose, as a file that can be approved and run",
		Long: `plan works out what the phases would do to this Redis as it is now: their steps and order, the
price in commands, what would be lost, which goals they can reach and which they cannot, and what the
application's people must change. It sends no command that writes. The file that --out writes carries a
hash over its content; redisopt migrate phaseN --plan FILE runs exactly that and refuses an edited one.`,
		Example: `  redisopt migrate plan all --out plan.json --code .
  redisopt migrate plan phase2 --detailed-exitcode -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.action(func(ctx context.Context, args []string) error {
			phase := "all"
			if len(args) == 1 {
				phase = args[0]
			}
			if a.given("soak") {
				f.soak = &soak
			}
			return a.migratePlan(ctx, phase, f)
		}),
	}
	f.register(cmd)
	cmd.Flags().Var(&f.engine, "engine", "the engine that phase 3 moves queues to: bullmq, asynq or bull")
	cmd.Flags().IntVar(&f.major, "bullmq-major", 0, "the BullMQ that will run the queues, 5 or 6 (0: find out)")
	cmd.Flags().StringVar(&f.out, "out", "", "write the plan to this `file`")
	cmd.Flags().StringVar(&f.code, "code", "", "name the lines of the application in this `directory` that must change")
	cmd.Flags().DurationVar(&soak, "soak", 0,
		"phases 1 to 3 soak for so long (default: as long as each of their commands; 0: phases 2 and 3 do not; negative: only until the gates pass)")
	cmd.Flags().BoolVar(&f.allJobs, "all-jobs", false, "in phase 3 read every job, for a command each, instead of 1,000 of each state")
	cmd.Flags().BoolVar(&f.detailed, "detailed-exitcode", false, "exit 10 when the plan has changes, 0 when there is nothing to do")
	return cmd
}

func (a *app) migratePlan(ctx context.Context, phase string, f migratePlanFlags) error {
	chosen := a.planners()
	if phase != "all" {
		chosen = slices.DeleteFunc(chosen, func(p planner) bool { return p.phase != phase })
	}
	if len(chosen) == 0 {
		return usagef("phase: got %q, want one of the phases that help lists, or all", phase)
	}
	if f.engine == "" && phase == step.Phase3Name {
		return usagef("--engine: got none, want the engine that runs the queues after phase 3")
	}
	return a.withRedis(ctx, reading(), func(up *upstream.Upstream, conf *config.Config) error {
		dir, err := a.migrationDir(conf)
		if err != nil {
			return err
		}
		p := planning{up: up, conf: conf, dir: dir, migratePlanFlags: f, alone: phase != "all"}
		if f.code != "" {
			if p.code, err = scanCode(ctx, f.code); err != nil {
				return err
			}
		}
		var all planned
		for _, one := range chosen {
			if one.phase == step.Phase3Name && f.engine == "" {
				all.skip(migrate.Target{Phase: one.phase}, "no engine was named for its queues", "name the engine that will run them with --engine")
				continue
			}
			now, err := a.planOne(ctx, p, one)
			if err != nil {
				return fmt.Errorf("%s: %w", one.phase, err)
			}
			all.add(now)
		}
		for _, s := range all.skipped {
			a.note("%s: %s", s.Target, s.says())
		}
		return a.finishPlan(ctx, up, f, all)
	})
}

// planned is what became of the phases that were to be planned.
type planned struct {
	phases  []migrate.PlannedPhase
	refused []refusedPhase // they cannot be planned as things are
	skipped []refusedPhase // they have nothing to do as things are
}

func (p *planned) add(q planned) {
	p.phases, p.refused, p.skipped = append(p.phases, q.phases...), append(p.refused, q.refused...), append(p.skipped, q.skipped...)
}

func (p *planned) skip(t migrate.Target, why, fix string) {
	p.skipped = append(p.skipped, refusedPhase{Target: t, Why: why, Fix: fix})
}

// planOne plans what one planner proposes, and skips what is in place already. Of several queues one that cannot
// be planned is refused by itself.
func (a *app) planOne(ctx context.Context, p planning, one planner) (planned, error) {
	var out planned
	runs, err := one.propose(ctx, p)
	if err != nil {
		return out, err
	}
	for _, r := range runs {
		s, err := migrate.Look(ctx, p.up.Client(), migrate.SessionOptions{Target: r.target, StateDir: p.dir})
		if err != nil {
			return out, a.migrationHint(err, r.target)
		}
		back, err := backAgain(ctx, p.up, s, p.dir)
		if err != nil {
			return out, err
		}
		if s.State.Stage == migrate.Complete || s.State.Stage == migrate.Finished && !back {
			out.skip(r.target, fmt.Sprintf("%s already", s.Condition()), "")
			continue
		}
		phase, err := r.make(ctx, p.up, p.conf, s.State)
		if none, ok := errors.AsType[*nothingToDoError](err); ok {
			if none.needed && p.alone {
				return out, &usageError{withHint(none, none.fix)}
			}
			out.skip(r.target, none.why, none.fix)
			continue
		}
		if p.queue == "" && !r.target.Whole() && refusable(err) {
			out.refused = append(out.refused, refusalOf(r.target, a.migrationHint(err, r.target)))
			continue
		}
		if err != nil {
			return out, a.migrationHint(err, r.target)
		}
		outline, err := phase.Plan(ctx)
		if err != nil {
			return out, err
		}
		price, inScript := outline.Commands()
		unfit, err := a.preflight(ctx, p.up, p.conf, s, r.target.Phase != step.Phase1Name, price+inScript, 0)
		if err != nil {
			return out, err
		}
		outline.Problems = append(outline.Problems, unfit...)
		outline.Code = append(outline.Code, codeChanges(p.code, r.target)...)
		entry, err := migrate.PlanPhase(phase, outline)
		if err != nil {
			return out, err
		}
		out.phases = append(out.phases, entry)
	}
	return out, nil
}

// finishPlan writes the file, prints the plan, and says by the exit code whether there is anything to do.
func (a *app) finishPlan(ctx context.Context, up *upstream.Upstream, f migratePlanFlags, all planned) error {
	outlines := make([]migrate.Outline, len(all.phases))
	for i, p := range all.phases {
		outlines[i] = p.Outline
	}
	hash := ""
	if f.out != "" {
		database, err := migrate.DatabaseID(ctx, up.Client())
		if err != nil {
			return err
		}
		file, err := migrate.NewPlanFile(database, a.now(), all.phases...)
		if err != nil {
			return err
		}
		if err := writePlan(f.out, file); err != nil {
			return err
		}
		hash = file.Hash
	}
	if err := a.print(planOutlineDocument(outlines, hash, all)); err != nil {
		return err
	}
	if n := int64(len(all.phases)); f.detailed && n > 0 {
		return verdictf(exitChanges, "the plan has changes: %s", plural(n, "migration"))
	}
	return nil
}

// writePlan writes a plan file whole or not at all.
func writePlan(path string, file migrate.PlanFile) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".plan-*")
	if err != nil {
		return &usageError{err}
	}
	err = errors.Join(file.Write(temporary), temporary.Chmod(0o644), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		_ = os.Remove(temporary.Name()) // it is of no use
		return fmt.Errorf("write plan: %w", err)
	}
	return nil
}

// scanCode reads the application's code.
func scanCode(ctx context.Context, root string) (*source.Report, error) {
	r, err := source.Scan(ctx, root, source.Options{})
	if isPathError(err) {
		return nil, &usageError{err}
	}
	return r, err
}

// codeChanges are the places in the code that the migration of t is about: where its queue is made, or
// for a phase of the whole database every place that makes something of its kind.
func codeChanges(r *source.Report, t migrate.Target) []migrate.CodeChange {
	if r == nil {
		return nil
	}
	var out []migrate.CodeChange
	for _, p := range r.Processes {
		for _, s := range p.Sites {
			change := codeChange(s, t)
			if change == "" {
				continue
			}
			c := migrate.CodeChange{File: s.File, Line: s.Line, Change: change}
			if !slices.Contains(out, c) {
				out = append(out, c)
			}
		}
	}
	return out
}

// codeChange is what has to change at one place for t, empty when nothing has.
func codeChange(s source.Site, t migrate.Target) string {
	queue := s.Library == source.Bull
	switch {
	case t.Phase == step.Phase3Name && queue && slices.Contains(s.Queues, t.Queue):
		return fmt.Sprintf("this makes the Bull queue %q: make it with the new engine", t.Queue)
	case t.Phase == "phase1" && !queue && len(s.Queues) == 0:
		return fmt.Sprintf("this opens a connection of its own with %s: use the sidecar's URL", s.Library)
	case t.Phase == "phase4" && queue:
		return "this still makes a Bull queue: remove it"
	}
	return ""
}

// proposePhase3 proposes to move every queue under the prefix that the engine does not run yet, or the named
// one, in the order in which migrate phase3 moves them. They soak as long and by the same gates as they do there.
func (a *app) proposePhase3(ctx context.Context, p planning) ([]phaseRun, error) {
	names := []string{p.queue}
	if p.queue == "" {
		var err error
		if names, err = movable(ctx, p.up, p.prefix, mover.Layout(p.engine), p.major); err != nil {
			return nil, err
		}
	}
	names, err := step.OrderQueues(names, queuePlaces(p.conf), nil)
	if err != nil {
		return nil, err
	}
	f := phase3Flags{queueFlags: p.queueFlags, soakFlags: newSoakFlags(), engine: p.engine, major: p.major}
	p.soaks(&f.soak)
	request, err := f.configured(ctx, p.up, p.conf, a.given)
	if err != nil {
		return nil, err
	}
	facts := phase3Facts(ctx, p.up, p.prefix, names, p.conf, p.code)
	out := make([]phaseRun, len(names))
	for i, name := range names {
		one := request
		one.Queue = name
		out[i] = phaseRun{
			target: one.Target(),
			make: func(ctx context.Context, up *upstream.Upstream, _ *config.Config, s migrate.State) (migrate.Phase, error) {
				route, err := one.Find(ctx, up.Client(), s)
				if err != nil {
					return nil, err
				}
				phase, err := step.NewQueuePhase(up.Client(), step.Phase3Options{Route: route, AllJobs: p.allJobs}, migrate.Env{})
				phase.Facts = facts[name]
				return phase, err
			},
		}
	}
	return out, nil
}

// soaks gives a phase the soak that was asked for, where one was.
func (f *migratePlanFlags) soaks(soak *time.Duration) {
	if f.soak != nil {
		*soak = *f.soak
	}
}
