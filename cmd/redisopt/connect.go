package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/sidecar"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// redisUse says what a command wants of a Redis. The zero value reads, over TCP. One that needs only an
// upstream gets the one over REST where that is configured.
type redisUse struct {
	// component is who spends. Default meter.Control.
	component meter.Component

	// writes allows commands that change something. --dry-run takes that away again.
	writes bool

	// intents allows to work beside somebody who holds the lease, by asking for what is wanted.
	intents bool

	// need is what the configuration must be enough for. Default: a Redis over TCP.
	need config.Need
}

// withRedis opens the configured Redis, calls f, closes the connections and tells on stderr what the
// command spent, also when it fails. It is the only way of this program to a user's Redis, so that
// no command can forget --dry-run, --max-commands or the cost line.
func (a *app) withRedis(ctx context.Context, use redisUse, f func(up *upstream.Upstream, conf *config.Config) error) error {
	if use.need == (config.Need{}) {
		use.need.Connections = true
	}
	conf, err := a.load(use.need)
	if err != nil {
		return err
	}
	opts, err := a.upstreamOptions(conf, use)
	if err != nil {
		return err
	}
	up, err := upstream.Open(ctx, opts)
	if err != nil {
		if spent := opts.Meter.Snapshot().Totals().Sent; spent > 0 {
			a.cost(upstream.Cost{Commands: spent})
		}
		return err
	}
	defer func() {
		_ = up.Close() // every command has its reply; there is nothing left to lose
		a.cost(up.Spent())
		a.leaveNewSide()
	}()
	return f(up, conf)
}

// load reads the configuration and requires that it is enough for need. Warnings about it go to
// stderr.
func (a *app) load(need config.Need) (*config.Config, error) {
	conf, err := config.Load(a.sources(need))
	if err != nil {
		return nil, &usageError{err}
	}
	for _, w := range conf.Warnings() {
		a.note("warning: %s", w)
	}
	return conf, nil
}

// sources are where this run's configuration comes from.
func (a *app) sources(need config.Need) config.Sources {
	env := a.env
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	return config.Sources{File: a.flags.config, Env: env, Flags: a.configFlags(), Need: need}
}

// configFlags are the flags of this run that the configuration knows, as far as they were given.
func (a *app) configFlags() map[string]string {
	given := map[string]string{}
	if a.cmd == nil {
		return given
	}
	a.cmd.Flags().Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "redis-url", "timeout", stateDirFlag, listenFlag, gatewayListenFlag:
			given[f.Name] = f.Value.String()
		}
	})
	return given
}

// upstreamOptions turns configuration and flags into the options of a connection. What needs no TCP
// goes over REST where that is configured.
func (a *app) upstreamOptions(conf *config.Config, use redisUse) (upstream.Options, error) {
	opts, ok := sidecar.TCPOptions(conf)
	if !use.need.Connections && !use.need.Queues {
		if rest, configured := sidecar.RESTOptions(conf); configured {
			opts, ok = rest, true
		}
	}
	if !ok {
		return upstream.Options{}, usagef("no Redis over TCP is configured")
	}
	opts.Component = use.component
	opts.Meter = meter.New()
	opts.MaxCommands = a.flags.maxCommands
	opts.ReadOnly = !use.writes || a.flags.dryRun
	if a.configFlags()["timeout"] != "" {
		opts.DialTimeout = min(opts.DialTimeout, opts.Timeout) // --timeout says how long to wait, for a connection too
	}
	return opts, nil
}

// cost ends every command that touches a Redis: what it spent there.
func (a *app) cost(c upstream.Cost) {
	parts := []string{plural(c.Commands, "command"), plural(c.Writes, "write")}
	if c.InScript > 0 {
		parts = append(parts, fmt.Sprintf("%d more inside scripts", c.InScript))
	}
	if c.Unanswered > 0 {
		parts = append(parts, fmt.Sprintf("%d unanswered", c.Unanswered))
	}
	a.note("cost: %s", strings.Join(parts, ", "))
}

// plural is n and what it counts: "1 command", "2 commands".
func plural(n int64, singular string) string {
	if n == 1 {
		return "1 " + singular
	}
	return fmt.Sprintf("%d %ss", n, singular)
}

// stateDirFlag names the flag of commands that keep something on disk. Its value, or the configured one,
// is in Serve.StateDir of the configuration that load returns.
const stateDirFlag = "state-dir"
