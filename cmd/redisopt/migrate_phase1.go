package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/internal/inspect/connections"
	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/replica"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/sidecar"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// phase1Flags are the flags of migrate phase1.
type phase1Flags struct {
	hostFlags
	plan     string
	routes   []string
	ramp     string
	shadow   float64
	step     time.Duration
	soak     time.Duration
	prefixes []string
	prove    int64
	writer   string
	clearNew bool
	gates    step.Phase1Gates
}

// newPhase1Flags are the flags as they are when none is given.
func newPhase1Flags() phase1Flags {
	return phase1Flags{
		ramp: "1,5,25,50,100", shadow: 10, step: 10 * time.Minute, soak: 24 * time.Hour, prove: 200, writer: string(step.SameBytes),
		gates: step.Phase1Gates{P95: 10, HitRate: 80, MinSamples: 100},
	}
}

func (a *app) migratePhase1Command() *cobra.Command {
	f := newPhase1Flags()
	cmd := &cobra.Command{
		Use:   "phase1",
		Short: "Take cache and limits to another Redis, or to HTTP, share by share",
		Long: `phase1 takes the cache and the rate limits from the Redis under upstream to the one under ramp: keys are
written on both, reads are compared, and then 1, 5, 25, 50 and 100% of the keys move, by their hash. After
every share, and over a soak of a day, gates judge what every replica of redisopt serve counted. Keys of an
application that holds its own client move the same way, under a route of their own (deploy/node/ramp.mjs).
The way back takes a moment at any time before redisopt migrate complete phase1.`,
		Example: `  redisopt migrate phase1 --dry-run
  redisopt migrate phase1 --ramp 5,50,100 --step 1h --soak 24h --auto-rollback --yes`,
		Args: cobra.NoArgs,
		RunE: a.action(func(ctx context.Context, _ []string) error { return a.migratePhase1(ctx, f) }),
	}
	flags := cmd.Flags()
	flags.String(stateDirFlag, "", "keep the journal in this `directory` (default: the user's state directory)")
	flags.StringVar(&f.plan, "plan", "", "run exactly what this plan `file` says")
	flags.StringArrayVar(&f.routes, "route", nil, "move this `route`: cache, limit, or an application's own (repeatable; default: cache and limit)")
	flags.StringVar(&f.ramp, "ramp", f.ramp, "the `shares` of keys that move, one after the other, in percent")
	flags.Float64Var(&f.shadow, "shadow", f.shadow, "compare this share of the reads of the old side, in `percent`")
	flags.DurationVar(&f.step, "step", f.step, "hold the shadow and each share so long (negative: only until the gates pass)")
	flags.DurationVar(&f.soak, "soak", f.soak, "hold the last share so long (negative: only until the gates pass)")
	flags.StringArrayVar(&f.prefixes, "key-prefix", nil, "the keys of a route begin with this `text` (repeatable; default: those of redisopt serve)")
	flags.Int64Var(&f.prove, "prove-commands", f.prove, "look at real values with at most `n` commands (0: do not look)")
	flags.StringVar(&f.writer, "writer", f.writer, "how the application writes on the new side: same (the same bytes) or upstash (as @upstash/redis does by itself)")
	flags.BoolVar(&f.clearNew, "clear-new", false, "remove what the new side has under the key prefixes already")
	flags.Float64Var(&f.gates.Errors, "max-errors", 0, "gate: at most `n` calls of the new side without an answer")
	flags.Float64Var(&f.gates.Differences, "max-differences", 0, "gate: at most `n` compared reads that differ")
	flags.Float64Var(&f.gates.P95, "max-p95-increase", f.gates.P95, "gate: the p95 of what callers wait is at most so many `percent` longer (negative: not judged)")
	flags.Float64Var(&f.gates.HitRate, "min-hit-rate", f.gates.HitRate, "gate: at least so many `percent` of the reads find something (negative: not judged)")
	registerRedisGates(flags, &f.gates.CommandsPerDay, &f.gates.Connections, "70000")
	flags.Int64Var(&f.gates.MinSamples, "min-samples", f.gates.MinSamples, "gates need `n` observations, and wait for them")
	f.register(cmd)
	return cmd
}

func (a *app) migratePhase1(ctx context.Context, f phase1Flags) error {
	if _, err := step.ParsePercentages(f.ramp); err != nil {
		return &usageError{fmt.Errorf("--ramp: %w", err)}
	}
	return a.runPhase(ctx, phaseRun{
		target: migrate.Target{Phase: step.Phase1Name}, host: f.hostFlags, plan: f.plan,
		make: func(ctx context.Context, up *upstream.Upstream, conf *config.Config, s migrate.State) (migrate.Phase, error) {
			return a.phase1(ctx, f, up, conf, s)
		},
	})
}

// phase1 makes phase 1 as the flags, the configuration and the Redis have it.
func (a *app) phase1(ctx context.Context, f phase1Flags, up *upstream.Upstream, conf *config.Config, s migrate.State) (migrate.Phase, error) {
	shares, err := step.ParsePercentages(f.ramp)
	if err != nil {
		return nil, &usageError{fmt.Errorf("--ramp: %w", err)}
	}
	facts, err := phase1Facts(ctx, up)
	if err != nil {
		return nil, err
	}
	f.configure(conf, a.given, facts.Limit)
	plan := step.Phase1Plan{
		Routes: f.routes, Percentages: shares, ShadowPercent: f.shadow, StepMS: waitMS(f.step), SoakMS: waitMS(f.soak),
		SameDatabase: conf.Ramp.SameDatabase, Old: up.Addr(), New: conf.Ramp.Addr(), Replicas: replicasOf(conf), ControlKey: conf.Serve.ControlKey,
		KeyPrefixes: f.prefixes, Prove: f.prove, Writer: step.Writer(f.writer), ClearNew: f.clearNew, Gates: f.gates,
	}
	if len(plan.KeyPrefixes) == 0 {
		plan.KeyPrefixes = sidecar.RampPrefixes(conf)
	}
	var begun step.Phase1Plan
	if s.Stage.Open() && json.Unmarshal(s.Options, &begun) == nil {
		plan.Replicas = begun.Replicas // those that are asked may change while it is open
	}
	p, err := step.NewPhase1(up.Client(), plan, migrate.Env{})
	if err != nil {
		return nil, &usageError{err}
	}
	if err := a.equip(p, conf); err != nil {
		return nil, err
	}
	p.Facts = facts
	return p, nil
}

// waitMS is a wait as a plan has it: 0 is a moment, and not the default.
func waitMS(d time.Duration) int64 {
	if d == 0 {
		return -1
	}
	return max(-1, d.Milliseconds())
}

// replicasOf are the addresses of the APIs: those that are configured, else that of this machine's own.
func replicasOf(conf *config.Config) []string {
	if len(conf.Serve.Replicas) > 0 {
		return conf.Serve.Replicas
	}
	scheme := "http://"
	if conf.Serve.TLSCert != "" {
		scheme = "https://"
	}
	return []string{scheme + conf.Serve.Listen}
}

// openPhase makes a phase from what a journal keeps, with what it needs of the configuration.
func (a *app) openPhase(up *upstream.Upstream, t migrate.Target, options json.RawMessage, env migrate.Env) (migrate.Phase, error) {
	phase, err := step.Open(up.Client(), t, options, env)
	if err != nil {
		return nil, err
	}
	if p, ok := phase.(*step.Phase1); ok {
		conf, err := config.Load(a.sources(config.Need{}))
		if err != nil {
			return nil, &usageError{err}
		}
		return p, a.equip(p, conf)
	}
	return phase, nil
}

// equip gives phase 1 what is not in its plan: credentials, and the replicas that there are now.
func (a *app) equip(p *step.Phase1, conf *config.Config) error {
	var err error
	if p.Fleet, err = fleetOf(conf); err != nil {
		return err
	}
	if len(conf.Serve.Replicas) == 0 {
		p.Fleet.URLs = p.Kept().Replicas
	}
	opts, ok := sidecar.RampOptions(conf)
	if !ok {
		return nil
	}
	if a.newSide == nil {
		opts.Component, opts.Meter = meter.Migrate, meter.New()
		opts.ReadOnly, opts.Lazy, opts.MaxConnections = a.flags.dryRun, true, 2
		up, err := upstream.Open(context.Background(), opts) //nolint:contextcheck // lazy: it connects to nothing
		if err != nil {
			return fmt.Errorf("new side: %w", err)
		}
		a.newSide = up
	}
	p.New = a.newSide.Client()
	return nil
}

// fleetOf is the replicas of the configuration, and whose certificates are trusted.
func fleetOf(conf *config.Config) (replica.Fleet, error) {
	fleet := replica.Fleet{URLs: replicasOf(conf), Token: conf.Serve.Token.Reveal()}
	file := conf.Serve.ReplicasCA
	if file == "" {
		file = conf.Serve.TLSCert
	}
	if file == "" || !slices.ContainsFunc(fleet.URLs, func(at string) bool { return strings.HasPrefix(at, "https://") }) {
		return fleet, nil
	}
	pem, err := os.ReadFile(file)
	if err == nil {
		fleet.Client, err = replica.Trusting(pem)
	}
	if err != nil && conf.Serve.ReplicasCA == "" {
		return fleet, nil // that of tls_cert is only one more to be trusted, and may be on another machine
	}
	if err != nil {
		return fleet, &usageError{fmt.Errorf("serve.replicas_ca: %s: %w", file, err)}
	}
	return fleet, nil
}

// leaveNewSide closes the second upstream and tells what was spent there.
func (a *app) leaveNewSide() {
	if a.newSide == nil {
		return
	}
	_ = a.newSide.Close() // every command has its reply
	c := a.newSide.Spent()
	a.newSide = nil
	a.note("cost on the new side: %s, %s", plural(c.Commands, "command"), plural(c.Writes, "write"))
}

// phase1Facts are what the audit of connections knows, and INFO.
func phase1Facts(ctx context.Context, up *upstream.Upstream) (*step.Phase1Facts, error) {
	r, err := connections.Audit(ctx, up.Client(), connections.Options{})
	if err != nil {
		return nil, fmt.Errorf("who is connected: %w", err)
	}
	facts := &step.Phase1Facts{Limit: int64(r.Limit.Connections)}
	users, order := map[string]int64{}, []string{}
	for _, c := range r.Connections {
		if c.Own {
			continue
		}
		facts.Connections++
		switch c.Role { //nolint:exhaustive // the others stay as they are
		case connections.RoleCache:
			facts.Cache++
		case connections.RoleLimiter:
			facts.Limiter++
		case connections.RoleSMS:
			facts.SMS++
		case connections.RolePool:
			facts.Pool++
			if users[c.Process] == 0 {
				order = append(order, c.Process)
			}
			users[c.Process]++
		}
	}
	for _, process := range order {
		facts.PoolUsers = append(facts.PoolUsers, process+": "+plural(users[process], "connection"))
	}
	facts.CommandsPerDay = commandsPerDay(ctx, up)
	if facts.CommandsPerDay == nil {
		facts.Missing = append(facts.Missing, "commands a day: INFO has no total and no uptime here; redisopt audit commands measures them")
	}
	return facts, nil
}

// commandsPerDay is the mean of all days since the server started, nil where INFO does not say.
func commandsPerDay(ctx context.Context, up *upstream.Upstream) *float64 {
	text, err := up.Client().Info(ctx).Result()
	if err != nil {
		return nil
	}
	numbers := map[string]float64{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "total_commands_processed" || name == "uptime_in_seconds" {
			if n, err := strconv.ParseFloat(value, 64); err == nil {
				numbers[name] = n
			}
		}
	}
	if numbers["uptime_in_seconds"] < 60 {
		return nil // too little to speak of a day
	}
	perDay := numbers["total_commands_processed"] / numbers["uptime_in_seconds"] * 86400
	return &perDay
}

// proposePhase1 proposes to move cache and limits, where a second upstream is configured.
func (a *app) proposePhase1(_ context.Context, p planning) ([]phaseRun, error) {
	f := newPhase1Flags()
	return []phaseRun{{
		target: migrate.Target{Phase: step.Phase1Name},
		make: func(ctx context.Context, up *upstream.Upstream, conf *config.Config, s migrate.State) (migrate.Phase, error) {
			if !conf.Ramp.Set() {
				return nil, &nothingToDoError{
					why: "no second upstream is configured, and phase1 moves keys to one", fix: "give it ramp: in redisopt.yaml", needed: true,
				}
			}
			p.soaks(&f.soak)
			return a.phase1(ctx, f, up, conf, s)
		},
	}}, nil
}
