package main

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/history"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// given tells whether the operator gave a flag of this run.
func (a *app) given(name string) bool { return a.cmd != nil && a.cmd.Flags().Changed(name) }

// fallback gives a flag the configured value where it was not given.
func fallback[T any](given bool, flag *T, configured T) {
	if !given {
		*flag = configured
	}
}

// configure gives the flags of phase 1 that were not given what the configuration says, and the gates on the whole
// Redis their limits. serverLimit is how many connections the server allows; 0: it does not say.
func (f *phase1Flags) configure(conf *config.Config, given func(flag string) bool, serverLimit int64) {
	m := conf.Migrate
	fallback(given("step"), &f.step, m.Phase1.Step)
	fallback(given("soak"), &f.soak, m.Phase1.Soak)
	fallback(given("max-errors"), &f.gates.Errors, m.Gates.MaxErrors)
	fallback(given("max-differences"), &f.gates.Differences, m.Gates.MaxDifferences)
	fallback(given("max-p95-increase"), &f.gates.P95, m.Gates.MaxP95Increase)
	fallback(given("min-hit-rate"), &f.gates.HitRate, m.Gates.MinHitRate)
	fallback(given("min-samples"), &f.gates.MinSamples, int64(m.Gates.MinSamples))
	fallback(given("max-commands-per-day"), &f.gates.CommandsPerDay, m.Gates.MaxCommandsPerDay)
	fallback(given("max-connections"), &f.gates.Connections, m.Gates.MaxConnections)
	g := &f.gates
	g.CommandsPerDay, g.CommandsDefault = limitOr(g.CommandsPerDay, commandsLimit(conf, step.Phase1Name))
	g.Connections, g.ConnectionsDefault = limitOr(g.Connections, connectionsLimit(conf, serverLimit))
}

// configure gives the flags of a soak that were not given what the configuration says, and the gates on the whole
// Redis of a phase their limits. What is said of soak itself is for the phase.
func (f *soakFlags) configure(conf *config.Config, given func(flag string) bool, phase string, serverLimit int64) {
	m := conf.Migrate
	fallback(given("cool-down"), &f.coolDown, m.CoolDown)
	fallback(given("gate-failures"), &f.failures, m.GateFailures)
	fallback(given("max-errors"), &f.gates.Errors, m.Gates.MaxErrors)
	fallback(given("max-p95-increase"), &f.gates.P95, m.Gates.MaxP95Increase)
	fallback(given("min-job-success"), &f.gates.JobSuccess, m.Gates.MinJobSuccess)
	fallback(given("min-jobs"), &f.gates.MinJobs, int64(m.Gates.MinJobs))
	fallback(given("max-backlog-growth"), &f.gates.BacklogGrowth, m.Gates.MaxBacklogGrowth)
	fallback(given("max-commands-per-day"), &f.gates.CommandsPerDay, m.Gates.MaxCommandsPerDay)
	fallback(given("max-connections"), &f.gates.Connections, m.Gates.MaxConnections)
	fallback(given("metrics"), &f.page, string(m.MetricsURL))
	if !given("metric") {
		f.series = nil
		for _, name := range slices.Sorted(maps.Keys(m.Metrics)) {
			f.series = append(f.series, name+"="+m.Metrics[name])
		}
	}
	g := &f.gates
	g.CommandsPerDay, g.CommandsDefault = limitOr(g.CommandsPerDay, commandsLimit(conf, phase))
	g.Connections, g.ConnectionsDefault = limitOr(g.Connections, connectionsLimit(conf, serverLimit))
}

// limitOr is the limit that was asked for, or usual where nobody asked; 0: none. The second result is whether it is
// usual.
func limitOr(asked, usual float64) (float64, bool) {
	switch {
	case asked < 0:
		return 0, false
	case asked > 0:
		return asked, false
	}
	return usual, usual > 0
}

// commandsLimit is how many commands a day the budget allows, or without one the design after a phase.
func commandsLimit(conf *config.Config, phase string) float64 {
	if b := conf.Budgets.Commands; b.PerMonth > 0 {
		const days = 30
		return float64(int64(float64(b.PerMonth) * b.FailAt / days))
	}
	return step.DesignedCommandsPerDay(phase)
}

// connectionsLimit is how many connections the provider's plan allows, as the configuration or the server says; 0: that
// is not known.
func connectionsLimit(conf *config.Config, serverLimit int64) float64 {
	return float64(cmp.Or(int64(conf.Budgets.Connections.PlanLimit), serverLimit))
}

// serverLimit is how many connections the server allows, where a default gate of a soak needs to know; 0: it does not
// say, or nobody needs it. Price: 1 command (INFO), or none.
func serverLimit(ctx context.Context, up *upstream.Upstream, conf *config.Config, asked float64) int64 {
	if asked != 0 || conf.Budgets.Connections.PlanLimit > 0 {
		return 0
	}
	text, err := up.Client().Info(ctx, "clients").Result()
	if err != nil {
		return 0
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "maxclients:"); ok {
			n, _ := strconv.ParseInt(value, 10, 64) // 0 where it is no number
			return max(0, n)
		}
	}
	return 0
}

// providerCount is what Upstash has counted for the database in this month, for a Redis whose INFO does not tell it;
// nil where no credentials of its API are configured. Price: no command.
func (a *app) providerCount() func(ctx context.Context) (history.Counters, error) {
	conf, err := config.Load(a.sources(config.Need{}))
	if err != nil || conf.Upstash.Email == "" || conf.Upstash.APIKey == "" {
		return nil // whoever opened the upstream has told what is wrong with the configuration
	}
	return func(ctx context.Context) (history.Counters, error) {
		c := history.Counters{
			Uptime: -1, Writes: history.Unknown, Errors: history.Unknown, Connections: history.Unknown, MemoryBytes: history.Unknown,
		}
		usage, err := a.upstashUsage(ctx, conf, "")
		switch {
		case err != nil:
			return c, err
		case usage.MonthToDate == nil:
			return c, errors.New("upstash does not tell the requests of this month")
		}
		c.RunID, c.Commands = "upstash "+usage.At.UTC().Format("2006-01"), int64(*usage.MonthToDate)
		return c, nil
	}
}
