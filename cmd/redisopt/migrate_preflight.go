package main

import (
	"context"
	"net"
	"net/url"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/preflight"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// preflight looks whether the Redis is fit for a phase that costs so many commands. left is how many the
// provider's plan still allows; 0: not known.
func (a *app) preflight(
	ctx context.Context, up *upstream.Upstream, conf *config.Config, s migrate.Standing, queues bool, commands, left int64,
) ([]migrate.Problem, error) {
	o := preflight.Options{Standing: s, Queues: queues, Commands: commands, Left: left}
	if tcp, ok := conf.TCP(); ok {
		o.TLS, o.Local = wireOf(tcp)
	}
	return preflight.Check(ctx, up.Client(), o)
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
