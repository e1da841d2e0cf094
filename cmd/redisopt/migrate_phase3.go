package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// An engine is the value of --engine.
type engine string

// String returns the name of e.
func (e *engine) String() string { return string(*e) }

// Type is what help shows as the flag's value.
func (e *engine) Type() string { return "name" }

// Set parses name.
func (e *engine) Set(name string) error {
	switch name {
	case string(mover.BullMQ), string(mover.Asynq), string(mover.Bull):
		*e = engine(name)
		return nil
	}
	return errors.New("want bullmq, asynq or bull")
}

// An order is the value of --order.
type order mover.Order

// String returns the name of o.
func (o *order) String() string { return string(*o) }

// Type is what help shows as the flag's value.
func (o *order) Type() string { return "order" }

// Set parses name.
func (o *order) Set(name string) error {
	if mover.Order(name) != mover.Keep && mover.Order(name) != mover.ByPriority {
		return fmt.Errorf("want %s or %s", mover.Keep, mover.ByPriority)
	}
	*o = order(name)
	return nil
}

// tuning is how a move runs, which may differ each time it is resumed.
type tuning struct {
	maxRate        int
	workersStopped bool
	activeTimeout  time.Duration
}

func (t *tuning) register(cmd *cobra.Command) {
	cmd.Flags().IntVar(&t.maxRate, "max-rate", 0, "move at most `n` jobs a second; more than producers add, or it never ends (0: as fast as the server answers)")
	cmd.Flags().BoolVar(&t.workersStopped, "workers-stopped", false,
		"you know that no worker of the source runs, where CLIENT LIST cannot show it")
	cmd.Flags().DurationVar(&t.activeTimeout, "active-timeout", 30*time.Second,
		"wait this long for a running worker to finish its active jobs (negative: do not wait)")
}

// phase3Flags are the flags of migrate phase3.
type phase3Flags struct {
	queueFlags
	tuning
	hostFlags
	soakFlags
	plan       string
	engine     engine
	toPrefix   string
	inPlace    bool
	order      order
	major      int
	schedulers []string
	compare    bool
	allJobs    bool
	first      []string // queues that come first, without --queue
}

// request is what the flags ask for.
func (f *phase3Flags) request() (step.Request, error) {
	ids, err := step.ParseSchedulerIDs(f.schedulers)
	if err != nil {
		return step.Request{}, err
	}
	soak, err := f.soaking()
	return step.Request{
		Soak: soak, Queue: f.queue, Prefix: f.prefix, Engine: mover.Layout(f.engine), ToPrefix: f.toPrefix, InPlace: f.inPlace,
		Order: mover.Order(f.order), Major: f.major, Schedulers: ids,
	}, err
}

// configured is request once the configuration and the server have said what no flag does. A single queue soaks only
// where somebody asks for it.
func (f *phase3Flags) configured(
	ctx context.Context, up *upstream.Upstream, conf *config.Config, given func(flag string) bool,
) (step.Request, error) {
	if f.queue == "" || conf.Origin("migrate.phase3.soak").Kind != config.FromDefault {
		fallback(given("soak"), &f.soak, conf.Migrate.Phase3.Soak)
	}
	if f.soak == 0 {
		return f.request()
	}
	asked := f.gates.Connections
	fallback(given("max-connections"), &asked, conf.Migrate.Gates.MaxConnections)
	f.configure(conf, given, step.Phase3Name, serverLimit(ctx, up, conf, asked))
	request, err := f.request()
	if err != nil {
		return request, &usageError{err}
	}
	return request, nil
}

// validate reports what is wrong with the flags, whatever is in Redis.
func (f *phase3Flags) validate(r step.Request) error {
	if f.queue != "" {
		if len(f.first) > 0 {
			return errors.New("--queue-order: want it without --queue")
		}
		return r.Validate()
	}
	if len(r.Schedulers.Named) > 0 {
		return errors.New("--scheduler-id KEY=ID: want --queue with it")
	}
	r.Queue = "each" // stands for the names that are not known yet
	return r.Validate()
}

func (a *app) migratePhase3Command() *cobra.Command {
	f := phase3Flags{order: order(mover.Keep), soakFlags: newSoakFlags()}
	cmd := &cobra.Command{
		Use:   "phase3",
		Short: "Move queues to another engine while they run",
		Long: `phase3 moves every job of a queue of Bull to the layout of BullMQ, or of Bull or BullMQ to
redisopt's own queues, which are asynq's: waiting, delayed, active, completed and failed ones, what
repeats, and the paused state. Producers and workers may keep running. What the target cannot express is
listed before anything moves, and the way back is redisopt rollback phase3; once a migration was completed it
is a new one in the opposite direction, with --engine bull and --prefix for where the queue is now.

Without --queue it moves all queues under the prefix, one after the other and safest first, each with a
journal, a state and gates of its own. A queue that cannot be moved is refused with its reason and the
others are moved. Interrupted or stopped by one queue, the same command goes on where it was.`,
		Example: `  redisopt migrate phase3 --queue mail --engine bullmq --dry-run
  redisopt migrate phase3 --queue mail --engine asynq --yes
  redisopt migrate phase3 --engine bullmq --queue-order mail,sms --yes`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = a.action(func(ctx context.Context, _ []string) error {
		return a.migratePhase3(ctx, f)
	})
	f.queueFlags.register(cmd)
	f.tuning.register(cmd)
	f.hostFlags.register(cmd)
	f.soakFlags.register(cmd, "default: none with --queue, 168h for all queues, as the design has it", "15000")
	cmd.Flags().StringVar(&f.plan, "plan", "", "run exactly what this plan `file` says of the queue")
	cmd.Flags().Var(&f.engine, "engine", "the engine that will run the queue: bullmq, asynq, or bull to go back after a migration was completed (no default)")
	cmd.Flags().StringVar(&f.toPrefix, "to-prefix", "", "the key prefix after the migration (default bullmq, or bull; asynq's is always asynq)")
	cmd.Flags().BoolVar(&f.inPlace, "in-place", false, "keep the prefix; only while nobody is attached")
	cmd.Flags().Var(&f.order, "order", "keep Bull's order of priorities (keep), or use BullMQ's (zset)")
	cmd.Flags().IntVar(&f.major, "bullmq-major", 0, "the BullMQ that will run the queue, 5 or 6 (0: find out)")
	cmd.Flags().StringArrayVar(&f.schedulers, "scheduler-id", nil,
		"call repeatables by their job's name (name), or one of them as you say (`KEY=ID`, repeatable)")
	cmd.Flags().BoolVar(&f.compare, "compare", false,
		"read every job before and after, and compare digests, the order, and 200 jobs field by field; doubles the price")
	cmd.Flags().StringSliceVar(&f.first, "queue-order", nil,
		"without --queue, begin with these `queues` in this order (default: queues.list, then the design's order, then by name)")
	cmd.Flags().BoolVar(&f.allJobs, "all-jobs", false, "let the plan read every job, for a command each, instead of 1,000 of each state")
	cmd.MarkFlagsOneRequired("engine", "plan")
	return cmd
}

func (a *app) migratePhase3(ctx context.Context, f phase3Flags) error {
	request, err := f.request()
	if err == nil {
		err = f.validate(request)
	}
	if err != nil {
		return &usageError{err}
	}
	if f.plan != "" && a.given("soak") {
		return usagef("--soak: the plan file says how long queues soak: leave --soak out, or give it to redisopt migrate plan")
	}
	hosting, err := f.options()
	if err != nil {
		return err
	}
	if f.queue == "" {
		return a.migratePhase3All(ctx, f, hosting)
	}
	return a.withMigrationOf(ctx, writing(), request.Target(), func(up *upstream.Upstream, conf *config.Config, s migrate.Standing, dir string) error {
		request, err := f.configured(ctx, up, conf, a.given)
		if err != nil {
			return err
		}
		route, err := f.route(ctx, up, request, s)
		if err != nil {
			return err
		}
		opts, done := a.runOptions(up, dir, f.tuning, hosting)
		opts.Compare, opts.AllJobs = f.compare, f.allJobs
		opts.Facts = phase3Facts(ctx, up, s.Target.Prefix, []string{f.queue}, conf, nil)[f.queue]
		plan, err := step.PlanStart(ctx, up.Client(), s, route, opts)
		if err != nil {
			return err
		}
		found, err := a.preflight(ctx, up, conf, s, true, plan.Commands.TopLevel+plan.Commands.InScript, f.commandsLeft)
		if err != nil {
			return err
		}
		doc := planDocument(plan)
		refused := firstOf(plan.Refused(), a.unfit(s.Target, found))
		if a.flags.dryRun {
			return errors.Join(a.print(doc), refused)
		}
		if refused != nil {
			return refused
		}
		if err := a.confirm(ctx, doc, "Move the queue?"); err != nil {
			return err
		}
		report, err := step.Start(ctx, up.Client(), route, opts)
		done()
		if err != nil {
			return err
		}
		return a.print(resultDocument(s.Target, plan.Direction, report, up.Spent()))
	})
}

// route is where the queue goes: as the plan file says, or as the flags ask for.
func (f *phase3Flags) route(ctx context.Context, up *upstream.Upstream, request step.Request, s migrate.Standing) (step.Route, error) {
	if f.plan == "" {
		return request.Find(ctx, up.Client(), s.State)
	}
	file, err := readPlan(f.plan)
	if err != nil {
		return step.Route{}, err
	}
	planned, err := file.Of(s.Target)
	if err != nil {
		return step.Route{}, err
	}
	route, err := step.ReadRoute(planned.Options)
	if err != nil {
		return route, err
	}
	if f.engine != "" && route.To.Layout != mover.Layout(f.engine) {
		return route, usagef("--engine: got %s, and the plan %s takes %s to %s: leave --engine out, or make another plan",
			f.engine, f.plan, s.Target, route.To.Layout)
	}
	phase, err := step.NewQueuePhase(up.Client(), step.Phase3Options{Route: route, WorkersStopped: f.workersStopped, AllJobs: f.allJobs}, migrate.Env{})
	if err != nil {
		return route, err
	}
	now, err := phase.Plan(ctx)
	if err != nil {
		return route, err
	}
	return route, planned.Check(phase, now)
}
