package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// hostFlags say how a migration is hosted, which may differ each time it is gone on with.
type hostFlags struct {
	holdBefore   string
	approval     string
	complete     bool
	windows      []string
	autoRollback bool

	maxLatency     time.Duration
	maxConnections int64
	commandsLeft   int64
	reserve        int64
}

func (f *hostFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.complete, "complete", false, "complete as soon as every step is in place, which gives up the way back")
	flags.StringVar(&f.holdBefore, "hold-before", "", "with the `step` complete: stay and wait for redisopt migrate complete")
	flags.StringVar(&f.approval, "approval", "", "with --hold-before complete, the appearance of this `file` is an approval too")
	flags.StringArrayVar(&f.windows, "window", nil, "go forward only in this `time`, such as 'Mon-Fri 02:00-05:00 Europe/Vienna' (repeatable), which later hosts of the migration keep to; none: at any time (default: what was said before)")
	flags.BoolVar(&f.autoRollback, "auto-rollback", false, "roll back when a gate fails, and exit 9")
	flags.DurationVar(&f.maxLatency, "max-latency", 0, "wait while the Redis takes longer than this to answer (0: never)")
	flags.Int64Var(&f.maxConnections, "max-connections-open", 0, "wait while more than `n` connections are open (0: never)")
	flags.Int64Var(&f.commandsLeft, "commands-left", 0, "the provider's plan still allows `n` commands this month, which later hosts remember; wait before they are spent (0: what was said before)")
	flags.Int64Var(&f.reserve, "reserve", 0, "of --commands-left, keep `n` for others")
}

// options are the host's options that the flags give.
func (f *hostFlags) options() (migrate.HostOptions, error) {
	o := migrate.HostOptions{
		Complete: f.complete, Approval: f.approval, AutoRollback: f.autoRollback,
		Throttle: migrate.Throttle{
			MaxLatency: f.maxLatency, MaxConnections: f.maxConnections, CommandsLeft: f.commandsLeft, Reserve: f.reserve,
		},
	}
	var errs []error
	switch f.holdBefore {
	case "":
		if f.approval != "" {
			errs = append(errs, errors.New("--approval: want --hold-before complete with it"))
		}
	case "complete":
		o.Hold, o.Stay = true, true
	default:
		errs = append(errs, fmt.Errorf("--hold-before: got %q, want complete", f.holdBefore))
	}
	windows := f.windows
	if len(windows) == 1 && windows[0] == "none" {
		windows, o.AnyTime = nil, true
	}
	for _, text := range windows {
		w, err := migrate.ParseWindow(text)
		if err != nil {
			errs = append(errs, err)
		}
		o.Windows = append(o.Windows, w)
	}
	if err := o.Throttle.Validate(); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return o, &usageError{err}
	}
	return o, nil
}

// hosting completes o with what a host needs of this program: the bell, and who is told.
func (a *app) hosting(up *upstream.Upstream, o migrate.HostOptions) (migrate.HostOptions, func()) {
	p := a.progress("items")
	part := ""
	o = a.withMetricsToken(o)
	o.Client, o.Counted = up.Client(), a.providerCount()
	o.Own = func() int64 {
		spent := up.Spent()
		return spent.Commands + spent.InScript
	}
	o.Subscribe = func(ctx context.Context, channel string) (migrate.Rings, error) { return ringsOf(ctx, up, channel) }
	o.Track = tracking(up)
	o.OnEvent = func(e migrate.Event) {
		switch e.Kind {
		case migrate.StepStarted, migrate.UndoStarted:
			p.begin(fmt.Sprintf("step %d of %d, %s", e.Index+1, e.Of, e.Step), 0)
		case migrate.StepSkipped:
			a.detail("step %d of %d: %s %s", e.Index+1, e.Of, e.Step, e.Kind)
		case migrate.StepDone, migrate.UndoDone, migrate.StepFailed:
			p.finish()
			part = ""
			a.detail("step %d of %d: %s %s after %s", e.Index+1, e.Of, e.Step, e.Kind, shortDuration(e.Took))
		}
	}
	o.OnProgress = func(now migrate.Progress) {
		if now.Part != part {
			part, p.unit = now.Part, now.Unit
			p.begin(now.Step+", "+now.Part, now.Total)
		}
		p.update(now.Done, now.Total)
	}
	o.OnPulse = a.tellPulses()
	return o, p.finish
}

// tellPulses tells when the host begins to wait and why, and when it goes on.
func (a *app) tellPulses() func(migrate.Pulse) {
	why := ""
	return func(p migrate.Pulse) {
		if p.Why == why {
			return
		}
		if why = p.Why; why == "" {
			a.note("it goes on")
			return
		}
		a.note("%s: %s", p.Condition, why)
	}
}

// ringsOf follows one channel on the bell.
func ringsOf(ctx context.Context, up *upstream.Upstream, channel string) (migrate.Rings, error) {
	sub, err := up.Bell().Subscribe(ctx, channel)
	if err != nil {
		return migrate.Rings{}, err
	}
	return ringing(sub), nil
}

// tracking follows every change of keys that begin with one of the prefixes.
func tracking(up *upstream.Upstream) func(ctx context.Context, prefixes ...string) (migrate.Rings, error) {
	return func(ctx context.Context, prefixes ...string) (migrate.Rings, error) {
		sub, err := up.Bell().Track(ctx, prefixes...)
		if err != nil {
			return migrate.Rings{}, err
		}
		return ringing(sub), nil
	}
}

// ringing rings for every message of sub and after every gap.
func ringing(sub *upstream.Subscription) migrate.Rings {
	rings, stop, ended := make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		messages := sub.C()
		for {
			select {
			case <-stop:
				return
			case _, open := <-messages:
				if !open {
					messages = nil // the sweep finds what nobody rings for
					continue
				}
			case <-sub.Gaps():
			}
			select {
			case rings <- struct{}{}:
			default:
			}
		}
	}()
	return migrate.Rings{C: rings, Close: func() {
		close(stop)
		<-ended
		_ = sub.Close()
	}}
}

// A phaseRun is a phase that an operator wants, before it is known what it would do.
type phaseRun struct {
	target migrate.Target
	host   hostFlags
	rate   float64 // items a second; 0: no limit
	plan   string  // the file of --plan; empty: none

	// confirm, when not nil, asks for more than yes before phase begins.
	confirm func(ctx context.Context, phase migrate.Phase) error

	// make makes the phase as the flags ask for. s is where the migration stands: what was begun goes
	// on as it was begun.
	make func(ctx context.Context, up *upstream.Upstream, conf *config.Config, s migrate.State) (migrate.Phase, error)
}

// runPhase plans a phase, asks, and hosts it to the end of its steps. It is the whole of migrate phase1,
// phase2 and phase4.
func (a *app) runPhase(ctx context.Context, r phaseRun) error {
	opts, err := r.host.options()
	if err != nil {
		return err
	}
	return a.withMigrationOf(ctx, writing(), r.target, func(up *upstream.Upstream, conf *config.Config, s migrate.Standing, dir string) error {
		phase, outline, err := a.proposal(ctx, up, conf, s, r)
		if err != nil {
			return err
		}
		price, inScript := outline.Commands()
		unfit, err := a.preflight(ctx, up, conf, s, r.target.Phase != step.Phase1Name, price+inScript, r.host.commandsLeft)
		if err != nil {
			return err
		}
		outline.Problems = append(outline.Problems, unfit...)
		refused := firstOf(s.Held(), afterEmergency(s), changedPlan(s, phase), outline.Refused())
		doc := outlineDocument([]migrate.Outline{outline}, "")
		if a.flags.dryRun {
			return errors.Join(a.print(doc), refused)
		}
		if refused != nil {
			return refused
		}
		if err := a.confirm(ctx, doc, "Begin?"); err != nil {
			return err
		}
		if r.confirm != nil {
			if err := r.confirm(ctx, phase); err != nil {
				return err
			}
		}
		opts.Begin = true
		return a.hostPhase(ctx, up, s.Target, dir, r.rate, opts, phase.Options())
	})
}

// proposal makes the phase that r asks for, or exactly that of its plan file, and what it would do.
func (a *app) proposal(
	ctx context.Context, up *upstream.Upstream, conf *config.Config, s migrate.Standing, r phaseRun,
) (migrate.Phase, migrate.Outline, error) {
	if r.plan == "" {
		phase, err := r.make(ctx, up, conf, s.State)
		if err != nil {
			return nil, migrate.Outline{}, err
		}
		outline, err := phase.Plan(ctx)
		return phase, outline.Normal(), err
	}
	file, err := readPlan(r.plan)
	if err != nil {
		return nil, migrate.Outline{}, err
	}
	planned, err := file.Of(s.Target)
	if err != nil {
		return nil, migrate.Outline{}, err
	}
	phase, err := a.openPhase(up, s.Target, planned.Options, migrate.Env{})
	if err != nil {
		return nil, migrate.Outline{}, err
	}
	outline, err := phase.Plan(ctx)
	if err != nil {
		return nil, outline, err
	}
	return phase, outline.Normal(), planned.Check(phase, outline)
}

// readPlan reads a plan file.
func readPlan(path string) (migrate.PlanFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return migrate.PlanFile{}, &usageError{err}
	}
	defer func() { _ = f.Close() }() // only read from
	file, err := migrate.ReadPlanFile(f)
	if err != nil {
		return file, withHint(fmt.Errorf("%s: %w", path, err), "make a new plan: redisopt migrate plan --out "+path)
	}
	return file, nil
}

// changedPlan tells that the migration was begun with another plan than phase is.
func changedPlan(s migrate.Standing, phase migrate.Phase) error {
	if s.State.Stage != migrate.Forward && s.State.Stage != migrate.Complete {
		return nil
	}
	asked, err := migrate.PlanOf(phase)
	if err != nil {
		return err
	}
	if asked != s.State.Plan {
		return &migrate.PlanError{Begun: s.State.Plan, Asked: asked}
	}
	return nil
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// hostPhase hosts the phase that options make and prints what became of it. options is what a journal
// keeps, as a value or as JSON.
func (a *app) hostPhase(
	ctx context.Context, up *upstream.Upstream, t migrate.Target, dir string, rate float64, opts migrate.HostOptions, options any,
) error {
	raw, err := json.Marshal(options)
	if err != nil {
		return err
	}
	opts, done := a.hosting(up, opts)
	opts.Session = migrate.SessionOptions{Target: t, StateDir: dir}
	opts.Rate = rate
	opts.Open = func(_ context.Context, _ migrate.State, env migrate.Env) (migrate.Phase, error) {
		return a.openPhase(up, t, raw, env)
	}
	hosted, err := migrate.Host(ctx, opts)
	done()
	if err != nil {
		return err
	}
	return a.print(hostedDocument(t, hosted, up.Spent()))
}

// phaseNames are the phases in their order.
func phaseNames() []string { return []string{"phase1", "phase2", "phase3", "phase4"} }

// whichMigration is a migration as the verbs name it: a phase as argument, phase 3 by its queue alone.
type whichMigration struct {
	queueFlags
	phase string
}

// set reads the arguments of a verb: none, or one phase.
func (w *whichMigration) set(args []string) error {
	if len(args) == 1 {
		w.phase = args[0]
	}
	switch {
	case w.phase == "" && w.queue != "":
		w.phase = step.Phase3Name
	case w.phase == "":
		return nil
	}
	if slices.Contains(phaseNames(), w.phase) {
		return nil
	}
	return usagef("phase: got %q, want %s", w.phase, strings.Join(phaseNames(), ", "))
}

// named is true when the operator named one migration.
func (w *whichMigration) named() bool {
	return w.phase != "" && (w.queue != "" || w.phase != step.Phase3Name)
}

// target is the migration that was named.
func (w *whichMigration) target() migrate.Target {
	if w.phase != step.Phase3Name {
		return migrate.Target{Phase: w.phase}
	}
	return migrate.Target{Phase: w.phase, Prefix: w.prefix, Queue: w.queue}
}
