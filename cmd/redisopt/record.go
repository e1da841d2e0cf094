package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect/plan"
	"github.com/redisopt/redisopt/internal/inspect/record"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// mostRecorded is how many connections the recorder carries to a real Redis.
const mostRecorded = 10_000

// recordFlags are the flags of record.
type recordFlags struct {
	out      string
	listen   string
	gateway  string
	noGate   bool
	upstream bool
	env      []string
	linger   time.Duration
	top      int
	provider string
}

func (a *app) recordCommand() *cobra.Command {
	var f recordFlags
	cmd := &cobra.Command{
		Use:   "record [flags] -- COMMAND [ARGUMENT]...",
		Short: "Run any command with a counting Redis in front: commands per source and per test",
		Long: `Starts a Redis that counts, runs the command with REDIS_URL, REDIS_HOST, REDIS_PORT,
UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN set to it, and says what each source, each test and each
script spent. The Redis is an embedded, empty one unless --upstream or --redis-url says to record in front of
a real one.

The command's exit code is kept. Standard output is the document, so what the command prints there goes to
standard error; with --out it stays where it belongs.`,
		Example: `  redisopt record --out record.json -- npm test
  REDIS_URL=redis://localhost redisopt record --upstream -- node worker.js`,
		Args: cobra.MinimumNArgs(1),
		RunE: a.action(func(ctx context.Context, args []string) error { return a.record(ctx, f, args) }),
	}
	set := cmd.Flags()
	set.SetInterspersed(false)
	set.StringVar(&f.out, "out", "", "write the document as JSON to this `file`, and leave standard output to the command")
	set.StringVar(&f.listen, "listen", "127.0.0.1:0", "listen on this loopback `address` (default: a free port)")
	set.StringVar(&f.gateway, "gateway-listen", "127.0.0.1:0", "answer the Upstash REST protocol on this loopback `address`")
	set.BoolVar(&f.noGate, "no-gateway", false, "leave the variables of the Upstash REST protocol alone")
	set.BoolVar(&f.upstream, "upstream", false, "record in front of the configured Redis, not of an embedded one")
	set.StringArrayVar(&f.env, "env", nil, "also set the variable `name` to the recorder's redis:// URL")
	set.DurationVar(&f.linger, "linger", 2*time.Second, "when the command has ended, wait this long for connections that it left")
	set.IntVar(&f.top, "top", 50, "list this many commands, prefixes, scripts and clients; the rest is summed up")
	set.StringVar(&f.provider, "provider", "upstash", "bill like this provider of the catalogue of plans")
	return cmd
}

func (f *recordFlags) validate() error {
	var errs []error
	for _, name := range f.env {
		if name == "" || strings.ContainsAny(name, "=\x00 ") {
			errs = append(errs, fmt.Errorf("--env: got %q, want the name of a variable", name))
		}
	}
	if f.linger < 0 {
		errs = append(errs, fmt.Errorf("--linger: got %s, want 0s or more", f.linger))
	}
	if f.top < 1 {
		errs = append(errs, fmt.Errorf("--top: got %d, want 1 or more", f.top))
	}
	return errors.Join(errs...)
}

// record runs args behind a recorder.
func (a *app) record(ctx context.Context, f recordFlags, args []string) error {
	if err := f.validate(); err != nil {
		return &usageError{err}
	}
	provider, err := recordProvider(f.provider)
	if err != nil {
		return &usageError{err}
	}
	opts := record.Options{Listen: f.listen, Provider: provider, MaxCommands: a.flags.maxCommands, Top: f.top}
	if a.flags.dryRun {
		return a.print(recordPlanDocument(f, args))
	}
	if f.upstream || a.configFlags()["redis-url"] != "" {
		return a.recordUpstream(ctx, f, opts, args)
	}
	server, err := embedded.Start(ctx, embedded.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }()
	opts.InScript = server.InScript
	opts.Dial = func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", server.Addr())
	}
	return a.recordIn(ctx, f, opts, record.Redis{Engine: "embedded"}, func(*record.Recorder) {}, args)
}

// recordUpstream is record in front of the configured Redis.
func (a *app) recordUpstream(ctx context.Context, f recordFlags, opts record.Options, args []string) error {
	conf, err := a.load(config.Need{Connections: true})
	if err != nil {
		return err
	}
	use := redisUse{component: meter.Audit, need: config.Need{Connections: true}}
	o, err := a.upstreamOptions(conf, use)
	if err != nil {
		return err
	}
	if len(o.Cluster) > 0 {
		return usagef("a Cluster cannot be recorded: its nodes send clients to each other, past the recorder")
	}
	o.MaxConnections, o.MaxCommands = mostRecorded, 0
	up, err := upstream.Open(ctx, o)
	if err != nil {
		return err
	}
	defer func() {
		_ = up.Close() // the clients are gone; there is nothing left to lose
		a.cost(up.Spent())
	}()
	opts.Dial = up.Raw
	before, unknown := up.Client().Info(ctx, "commandstats").Result()
	served := func(rec *record.Recorder) {
		after, err := up.Client().Info(context.WithoutCancel(ctx), "commandstats").Result()
		if unknown == nil && err == nil && before != "" && after != "" {
			rec.Served(record.ParseCommandStats(before), record.ParseCommandStats(after))
		}
	}
	return a.recordIn(ctx, f, opts, record.Redis{Engine: "upstream", Addr: up.Addr()}, served, args)
}

// recordIn starts the recorder, runs the command and prints what was recorded. ended is called once nothing
// more is sent.
func (a *app) recordIn(
	ctx context.Context, f recordFlags, opts record.Options, redis record.Redis, ended func(*record.Recorder), args []string,
) error {
	rec, err := record.Start(ctx, opts)
	if err != nil {
		return listenHint(err)
	}
	defer rec.Close()
	exit, err := a.runRecorded(ctx, f, rec, args)
	if err != nil {
		return err
	}
	waitUntilLeft(ctx, rec, f.linger)
	ended(rec)
	r := rec.Report()
	rec.Close()
	r.Command, r.Exit = masked(args), exit
	redis.Listen, redis.InScript = r.Redis.Listen, r.Redis.InScript
	r.Redis = redis
	if err := a.writeRecord(f, r); err != nil {
		return err
	}
	if rec.Exceeded() {
		return verdictf(exitViolated, "the command wanted more than the %d commands of --max-commands", opts.MaxCommands)
	}
	if exit.Code != 0 {
		return &commandError{args[0], exit}
	}
	return nil
}

// writeRecord prints the document where it was asked for, and tells on stderr what must not be missed.
func (a *app) writeRecord(f recordFlags, r *record.Report) error {
	for _, finding := range r.Findings {
		a.note("%s: %s; %s", finding.Severity, finding.Message, finding.Remedy)
	}
	doc := recordDocument(r)
	if f.out == "" {
		return a.print(doc)
	}
	file, err := os.OpenFile(f.out, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644) //nolint:gosec // for the CI job's other steps to read
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	err = report.Write(file, report.FormatJSON, doc, a.writeOptions())
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	a.note("recorded %s, %d billed, in %s", plural(r.Total.Sent, "command"), r.Total.Billed, f.out)
	return nil
}

// masked is args without the passwords of URLs.
func masked(args []string) []string {
	out := slices.Clone(args)
	for i, arg := range out {
		if u, err := url.Parse(arg); err == nil && u.User != nil {
			out[i] = u.Redacted()
		}
	}
	return out
}

// waitUntilLeft waits for connections that the command left behind.
func waitUntilLeft(ctx context.Context, rec *record.Recorder, limit time.Duration) {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for rec.Open() > 0 {
		select {
		case <-deadline.C:
			return
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// recordProvider is a provider of the catalogue of plans, as the recorder counts by it.
func recordProvider(name string) (record.Provider, error) {
	c, err := plan.Embedded()
	if err != nil {
		return record.Provider{}, err
	}
	var names []string
	for _, p := range c.Providers {
		if p.Name == name {
			return record.Provider{Name: name, BillsInScript: p.BillsInScript, Free: p.FreeCommands, AsOf: c.AsOf}, nil
		}
		names = append(names, p.Name)
	}
	return record.Provider{}, fmt.Errorf("--provider: got %q, want one of %s", name, strings.Join(names, ", "))
}

func listenHint(err error) error {
	if isA[*record.ListenError](err) {
		return withHint(err, "leave --listen and --gateway-listen away for free ports, or find who listens there: ss -ltnp")
	}
	return err
}

// A commandError is the exit code of a recorded command, which becomes ours.
type commandError struct {
	name string
	exit record.Exit
}

func (e *commandError) Error() string {
	if e.exit.Signal != "" {
		return fmt.Sprintf("%s was ended by a signal: %s", e.name, e.exit.Signal)
	}
	return fmt.Sprintf("%s ended with exit code %d", e.name, e.exit.Code)
}

func (e *commandError) hint() string {
	return "that is the command's own exit code; the recording is whole"
}
