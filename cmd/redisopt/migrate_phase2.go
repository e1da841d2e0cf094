package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/internal/inspect/connections"
	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/control"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// phase2Flags are the flags of migrate phase2.
type phase2Flags struct {
	hostFlags
	plan    string
	only    []string
	bounded bool
	catchUp string
	hold    time.Duration
	stage   time.Duration
	limit   int64
	soakFlags
}

// phase2Soak is how long the design watches the critical queues after the others were paused.
const phase2Soak = 48 * time.Hour

func (a *app) migratePhase2Command() *cobra.Command {
	f := phase2Flags{soakFlags: newSoakFlags()}
	f.soak = phase2Soak
	cmd := &cobra.Command{
		Use:   "phase2",
		Short: "Pause the queues that are not critical",
		Long: `phase2 pauses the queues that the configuration calls neither critical nor needed by a critical
one, in each library's own way, so that producers keep adding and nothing is lost. The way back resumes
them in the opposite order, slowly, within the connections there are. Paused Bull workers keep their
connections: what closes them is a restart of the processes that the plan names.`,
		Example: `  redisopt migrate phase2 --dry-run
  redisopt migrate phase2 --queue webhook-renewal --bounded --yes`,
		Args: cobra.NoArgs,
		RunE: a.action(func(ctx context.Context, _ []string) error { return a.migratePhase2(ctx, f) }),
	}
	cmd.Flags().String(stateDirFlag, "", "keep the journal in this `directory` (default: the user's state directory)")
	cmd.Flags().StringVar(&f.plan, "plan", "", "run exactly what this plan `file` says")
	cmd.Flags().StringArrayVar(&f.only, "queue", nil, "pause only this `queue` (repeatable; default: all that may be)")
	cmd.Flags().BoolVar(&f.bounded, "bounded", false, "also pause queues that critical ones depend on, for as long as those do not suffer")
	cmd.Flags().StringVar(&f.catchUp, "catch-up", "", "what becomes of the backlog on the way back: staged, all, newest or none (default: as configured)")
	cmd.Flags().DurationVar(&f.hold, "hold", 0, "stay and look after the paused queues for so long (0: as long as pauses are bounded)")
	cmd.Flags().DurationVar(&f.stage, "stage", 5*time.Minute, "a staged resume of one queue takes at most so long")
	cmd.Flags().Int64Var(&f.limit, "connection-limit", 0, "the plan allows `n` connections (0: budgets.connections.plan_limit, else what the server says)")
	f.hostFlags.register(cmd)
	f.soakFlags.register(cmd, "0: not at all", "50000")
	return cmd
}

func (a *app) migratePhase2(ctx context.Context, f phase2Flags) error {
	if f.catchUp != "" {
		if _, err := step.ParseCatchUp(f.catchUp); err != nil {
			return &usageError{err}
		}
	}
	if f.hold < 0 || f.stage < time.Millisecond || f.limit < 0 {
		return usagef("--hold, --stage and --connection-limit: want 0 or more, and a stage of at least 1ms")
	}
	return a.runPhase(ctx, phaseRun{
		target: migrate.Target{Phase: step.Phase2Name}, host: f.hostFlags, plan: f.plan,
		make: func(ctx context.Context, up *upstream.Upstream, conf *config.Config, _ migrate.State) (migrate.Phase, error) {
			return f.phase(ctx, up, conf, a.given)
		},
	})
}

// phase makes phase 2 as the flags, the configuration and the Redis have it.
func (f phase2Flags) phase(ctx context.Context, up *upstream.Upstream, conf *config.Config, given func(flag string) bool) (migrate.Phase, error) {
	f.limit = cmp.Or(f.limit, int64(conf.Budgets.Connections.PlanLimit))
	candidates, err := pauseCandidates(ctx, up, conf)
	if err != nil {
		return nil, err
	}
	queues, left := step.ChoosePaused(candidates, step.PauseChoice{
		Only: f.only, Bounded: f.bounded, CatchUp: step.CatchUp(f.catchUp),
	})
	if len(queues) == 0 {
		err := verdictf(exitBlocked, "no queue may be paused: %s", problemsText(left))
		return nil, withHint(err, "queues.list in redisopt.yaml says how critical each queue is, and what depends on it")
	}
	facts, err := pauseFacts(ctx, up, queues)
	if err != nil {
		return nil, err
	}
	fallback(given("soak"), &f.soak, conf.Migrate.Phase2.Soak)
	f.configure(conf, given, step.Phase2Name, facts.Limit)
	critical := criticalQueues(candidates)
	if len(critical) == 0 && f.page == "" { // nobody is there whose jobs could be judged
		f.gates.JobSuccess, f.gates.BacklogGrowth = -1, -1
	}
	soak, err := f.soaking(critical...)
	if err != nil {
		return nil, &usageError{err}
	}
	plan := step.Phase2Plan{
		Queues: queues, HoldMS: f.hold.Milliseconds(), StageMS: f.stage.Milliseconds(), ConnectionLimit: f.limit, Soak: soak,
	}
	if key := conf.Serve.ControlKey; key != control.DefaultKey {
		plan.ControlKey = key
	}
	p, err := step.NewPhase2(up.Client(), plan, migrate.Env{})
	if err != nil {
		return nil, &usageError{err}
	}
	p.Left, p.Facts = left, facts
	return p, nil
}

// criticalQueues are those whose jobs are looked at while others are paused.
func criticalQueues(all []step.Candidate) []mover.Endpoint {
	var out []mover.Endpoint
	for _, c := range all {
		if c.Critical && c.Queue != nil {
			out = append(out, *c.Queue)
		}
	}
	return out
}

func problemsText(problems []migrate.Problem) string {
	if len(problems) == 0 {
		return "there is none"
	}
	text := problems[0].Message
	if more := len(problems) - 1; more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}
	return text
}

// pauseCandidates are the queues in Redis and in the configuration, and how critical each is.
func pauseCandidates(ctx context.Context, up *upstream.Upstream, conf *config.Config) ([]step.Candidate, error) {
	found, err := mover.DetectQueues(ctx, up.Client(), mover.ListOptions{})
	if err != nil {
		return nil, err
	}
	known := map[string]config.Queue{}
	for _, q := range conf.Queues.List {
		known[q.Name] = q
	}
	candidate := func(name string) step.Candidate {
		q, listed := known[name]
		pause := conf.Queues.PauseOf(name)
		return step.Candidate{
			Name: name, Listed: listed, Ours: q.Mode != "", Critical: q.Criticality == config.Critical,
			Guards: pause.Guards, Safe: pause.Safe, MaxPause: pause.Most, Order: q.MigrationOrder,
			CatchUp: step.CatchUp(conf.Queues.Defaults.CatchUp), BacklogLimit: int64(conf.Queues.Defaults.BacklogLimit),
		}
	}
	var out []step.Candidate
	seen := map[string]bool{}
	for _, e := range found {
		c := candidate(e.Queue)
		c.Queue, c.Ours = &e, false
		seen[e.Queue] = true
		out = append(out, c)
	}
	for _, q := range conf.Queues.List {
		if c := candidate(q.Name); c.Ours && !seen[q.Name] {
			out = append(out, c)
		}
	}
	return out, nil
}

// pauseFacts are what the audit of connections knows about the queues.
func pauseFacts(ctx context.Context, up *upstream.Upstream, queues []step.PausedQueue) (*step.Phase2Facts, error) {
	r, err := connections.Audit(ctx, up.Client(), connections.Options{})
	if err != nil {
		return nil, fmt.Errorf("who is connected: %w", err)
	}
	facts := &step.Phase2Facts{Limit: int64(r.Limit.Connections), Queues: map[string]step.QueueFacts{}}
	for _, c := range r.Connections {
		if !c.Own {
			facts.Connections++
		}
	}
	for _, q := range queues {
		var one step.QueueFacts
		seen := map[string]bool{}
		for _, c := range r.Connections {
			if c.Queue != q.Queue.Queue || c.Prefix != q.Queue.Prefix {
				continue
			}
			one.Connections++
			if c.Role == connections.RoleWorker {
				one.Workers++
			}
			if !seen[c.Process] {
				seen[c.Process] = true
				one.Processes = append(one.Processes, c.Process)
			}
		}
		facts.Queues[q.Label()] = one
	}
	return facts, nil
}

// proposePhase2 proposes to pause what may be paused; nothing when that is nothing.
func (a *app) proposePhase2(_ context.Context, p planning) ([]phaseRun, error) {
	f := phase2Flags{stage: 5 * time.Minute, soakFlags: newSoakFlags()}
	p.soaks(&f.soak)
	if p.queue != "" {
		f.only = []string{p.queue}
	}
	return []phaseRun{{
		target: migrate.Target{Phase: step.Phase2Name},
		make: func(ctx context.Context, up *upstream.Upstream, conf *config.Config, _ migrate.State) (migrate.Phase, error) {
			phase, err := f.phase(ctx, up, conf, a.given)
			if none, ok := errors.AsType[*verdictError](err); ok {
				return nil, &nothingToDoError{why: none.message}
			}
			return phase, err
		},
	}}, nil
}

// nothingToDoError is why a phase has nothing to do here, which is no mistake where several are planned.
type nothingToDoError struct {
	why string
	fix string // what to do about it; may be empty

	// needed is true when the phase cannot be planned at all without fix: asked for alone that is a mistake.
	needed bool
}

func (e *nothingToDoError) Error() string { return e.why }
