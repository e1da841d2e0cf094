package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/internal/inspect/keys"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

const (
	// connectCommands is what may go into connecting, of what --max-commands allows.
	connectCommands = 6

	// dumpBudget is what a dump is looked at with: those commands cost nothing but a second of this machine.
	dumpBudget = 100_000
)

// keysFlags are the flags of audit keys.
type keysFlags struct {
	gateFlags
	prefix, match string
	sample        int
	requestLimit  int64
	idle          bool
	rdb           string
}

func (a *app) auditKeysCommand() *cobra.Command {
	var f keysFlags
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Sampled keys: size, missing expiry, prefixes, what a full read would cost, how values are read",
		Long: `Reads names with SCAN and looks at some of the keys in detail, within ` + fmt.Sprint(keys.DefaultBudget) + ` commands or what --max-commands
says. Shares come with their 95% interval; no value is ever shown. With --rdb nothing is sent to any Redis of
yours: the dump is loaded into a redis-server of its own on this machine, which is gone afterwards.`,
		Example: `  redisopt audit keys --max-commands 2000
  redisopt audit keys --rdb dump.rdb -o json`,
		Args: cobra.NoArgs,
		PreRunE: func(*cobra.Command, []string) error {
			if limit := a.flags.maxCommands; f.rdb == "" && limit > 0 && limit < connectCommands+20 {
				return fmt.Errorf("--max-commands: got %d, and an audit of keys needs at least %d", limit, connectCommands+20)
			}
			_, err := keys.Plan(f.options(a.keysBudget(f)))
			return err
		},
		RunE: a.action(func(ctx context.Context, _ []string) error {
			if f.rdb != "" {
				return a.auditDump(ctx, f)
			}
			return a.auditKeys(ctx, f)
		}),
	}
	set := cmd.Flags()
	f.register(set)
	set.StringVar(&f.prefix, "prefix", "", "only the key of this `name` and those that go on with a colon")
	set.StringVar(&f.match, "match", "", "only names that fit this `pattern` of SCAN")
	set.IntVar(&f.sample, "sample", 0, "look at `n` keys in detail at most (0: as many as the budget allows)")
	set.Int64Var(&f.requestLimit, "request-limit", keys.RequestLimitBytes, "the largest reply that the provider sends, in `bytes`")
	set.BoolVar(&f.idle, "idle", false, "also ask how long keys were not touched: one command more for each")
	set.StringVar(&f.rdb, "rdb", "", "look at this `file` instead of a Redis")
	return cmd
}

// keysBudget is how many commands the audit may send, without those that connect.
func (a *app) keysBudget(f keysFlags) int {
	switch limit := int(min(a.flags.maxCommands, 1_000_000)); {
	case f.rdb != "" && limit == 0:
		return dumpBudget
	case f.rdb != "":
		return limit
	case limit == 0:
		return keys.DefaultBudget
	default:
		return limit - connectCommands
	}
}

func (f keysFlags) options(budget int) keys.Options {
	return keys.Options{
		Budget: budget, Sample: f.sample, Prefix: f.prefix, Match: f.match,
		RequestLimit: f.requestLimit, Idle: f.idle,
	}
}

// keysData is the answer of audit keys.
type keysData struct {
	*keys.Report

	// Dump says what was looked at instead of a Redis.
	Dump *dumpData `json:"dump,omitempty"`
}

// dumpData is about the file of --rdb.
type dumpData struct {
	File     string `json:"file"`
	Loaded   int64  `json:"keys_loaded"`
	Expired  int64  `json:"keys_expired"`
	Database int    `json:"database"`
}

func (a *app) auditKeys(ctx context.Context, f keysFlags) error {
	use := redisUse{component: meter.Audit, need: config.Need{Upstream: true}}
	return a.withRedis(ctx, use, func(up *upstream.Upstream, _ *config.Config) error {
		opts := f.options(a.keysBudget(f))
		estimate, err := keys.Plan(opts)
		if err != nil {
			return err
		}
		a.note("estimate: at most %s and 0 writes: %s for names, some %d keys in detail",
			plural(int64(estimate.Commands), "command"), plural(int64(estimate.Scans), "SCAN"), estimate.Keys)
		return a.reportKeys(ctx, up.Client(), opts, f, nil)
	})
}

// auditDump looks at a dump. The commands it sends are to its own server and cost nobody anything.
func (a *app) auditDump(ctx context.Context, f keysFlags) error {
	bar := a.progress("keys")
	bar.begin("load "+f.rdb+" into a server of its own", 0)
	dump, err := keys.Load(ctx, f.rdb)
	bar.finish()
	if _, unreadable := errors.AsType[*keys.DumpError](err); unreadable {
		return withHint(err, "redis-cli --rdb FILE fetches a dump of a running Redis; redis-check-rdb FILE says more about one")
	}
	if err != nil {
		return err
	}
	defer func() {
		_ = dump.Close() // the server is dead; at worst an empty directory is left
		a.note("cost: 0 commands on any Redis of yours; the server of the dump is stopped")
	}()
	data := dumpData{File: f.rdb, Loaded: dump.Keys, Expired: dump.Expired, Database: dump.Database}
	return a.reportKeys(ctx, dump.Client(), f.options(a.keysBudget(f)), f, &data)
}

func (a *app) reportKeys(ctx context.Context, rdb redis.UniversalClient, opts keys.Options, f keysFlags, dump *dumpData) error {
	bar := a.progress("keys")
	bar.begin("look at keys", 0)
	opts.Progress = func(done, total int) {
		if done == 1 {
			bar.begin("look at keys", int64(total))
		}
		bar.update(int64(done), int64(total))
	}
	r, err := keys.Audit(ctx, rdb, opts)
	bar.finish()
	if err != nil {
		return err
	}
	if err := a.print(keysDocument(keysData{Report: r, Dump: dump})); err != nil {
		return err
	}
	return f.verdict(r.Findings, r.Missing)
}
