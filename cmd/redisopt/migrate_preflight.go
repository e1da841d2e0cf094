package main

import (
	"context"
	"net"
	"net/url"

	"github.com/redisopt/redisopt/internal/inspect/upstash"
	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/preflight"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// freeCommands are what Upstash's free plan allows in a month, as of 2026-06.
const freeCommands = 500_000

// preflight looks whether the Redis is fit for a phase that costs so many commands, those inside scripts
// included. left is how many the operator says that the provider's plan still allows; 0: nothing was said.
func (a *app) preflight(
	ctx context.Context, up *upstream.Upstream, conf *config.Config, s migrate.Standing, queues bool, commands, left int64,
) ([]migrate.Problem, error) {
	o := preflight.Options{Standing: s, Queues: queues, Commands: commands}
	if tcp, ok := conf.TCP(); ok {
		o.TLS, o.Local = wireOf(tcp)
	}
	if o.Quota = a.commandsLeft(ctx, conf); left > 0 {
		o.Quota = &preflight.Quota{Left: left, Source: "--commands-left"}
	}
	return preflight.Check(ctx, up.Client(), o)
}

// commandsLeft is what Upstash counts of this month beside what budgets.commands.per_month allows, or beside
// what its free plan does. It is nil where nobody is to be asked, or nothing bounds it, and asks once in a run.
func (a *app) commandsLeft(ctx context.Context, conf *config.Config) *preflight.Quota {
	if a.quotaAsked {
		return a.quota
	}
	a.quotaAsked = true
	usage, err := a.upstashUsage(ctx, conf, "")
	if err != nil {
		a.note("what is left of the plan's commands is not known: %v", err)
	}
	if err != nil || usage == nil || usage.MonthToDate == nil {
		return nil
	}
	allowed, source := conf.Budgets.Commands.PerMonth, "budgets.commands.per_month, and Upstash's count of the month"
	if allowed == 0 && usage.Type == upstash.Free {
		allowed, source = freeCommands, "the free plan, and Upstash's count of the month"
	}
	if allowed > 0 {
		a.quota = &preflight.Quota{Left: allowed - int64(*usage.MonthToDate), Plan: allowed, Source: source}
	}
	return a.quota
}

// wireOf tells whether the way to a Redis is encrypted, and whether it stays on this host.
func wireOf(tcp config.TCP) (tls, local bool) {
	u, err := url.Parse(tcp.URL.Reveal())
	if err == nil && u.Scheme == "rediss" || tcp.TLS {
		tls = true
	}
	if err == nil && u.Scheme == "unix" {
		return tls, true
	}
	local = len(tcp.Hosts()) > 0
	for _, addr := range tcp.Hosts() {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			host = addr
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			local = false
		}
	}
	return tls, local
}

// unfit is a *migrate.RefusedError when problems keep t from beginning. It tells the others.
func (a *app) unfit(t migrate.Target, problems []migrate.Problem) error {
	for _, p := range problems {
		if !p.Blocking {
			a.note("preflight: %s", p.Message)
		}
	}
	return migrate.Outline{Target: t, Problems: problems}.Refused()
}
