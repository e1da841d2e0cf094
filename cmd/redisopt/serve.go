package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/runtime/api"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/control"
	"github.com/redisopt/redisopt/internal/runtime/history"
	"github.com/redisopt/redisopt/internal/runtime/queue"
	"github.com/redisopt/redisopt/internal/runtime/sidecar"
	"github.com/redisopt/redisopt/internal/runtime/upstream/fleet"
)

// The flags of serve that the configuration knows.
const (
	listenFlag        = "listen"
	gatewayListenFlag = "gateway-listen"
	dataFlag          = "data" // which the configuration does not know
)

func (a *app) serveCommand() *cobra.Command {
	var opts sidecar.Options
	defaults := config.Default().Serve
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the sidecar: cache, limiters, job queues and the Upstash-compatible gateway",
		Long: `serve answers two addresses: the API with cache, limits, queues, control, health
and metrics, and the gateway, which applications that use @upstash/redis reach by
UPSTASH_REDIS_REST_URL. It holds at most 3 connections to the Redis, and none for
cache and limits where UPSTASH_REDIS_REST_URL and _TOKEN name it over HTTP.

Queues are those of queues.list in the configuration that have a mode: their jobs
are sent to the application over HTTP (push), fetched by it (lease), or run as
commands (exec). --dry-run -o json lists what serve sends with nothing to do.

It starts while the Redis is down, reads its configuration again on SIGHUP and
when the file changes, and on SIGTERM ends what is under way and exits 0. Logs are
JSON lines on stderr; the one document on stdout says where it answers.`,
		Example: `  redisopt serve --embedded
  REDIS_URL=rediss://HOST:6379 REDISOPT_TOKEN_FILE=/run/secrets/token redisopt serve --state-dir /var/lib/redisopt`,
		Args: cobra.NoArgs,
		RunE: a.action(func(ctx context.Context, _ []string) error { return a.serve(ctx, opts) }),
	}
	set := cmd.Flags()
	set.String(listenFlag, defaults.Listen, "answer the API on this `address`, host:port")
	set.String(gatewayListenFlag, defaults.GatewayListen, "answer the gateway on this `address`, host:port")
	set.String(stateDirFlag, defaults.StateDir, "keep history and control in this `directory`")
	set.BoolVar(&opts.Embedded, "embedded", false, "serve from a volatile store in this process, for trying out")
	set.StringVar(&opts.DataDir, dataFlag, "", "with --embedded, keep everything in this existing `directory`, by a redis-server from PATH")
	return cmd
}

func (a *app) serve(ctx context.Context, opts sidecar.Options) error {
	embedded := opts.Embedded
	if opts.DataDir != "" && !embedded {
		return usagef("--%s keeps what --embedded serves; add --embedded, or leave it out to serve from the configured Redis", dataFlag)
	}
	// What is kept outlives a key that is made up for one run, so subjects are hashed by a configured one.
	need := config.Need{Serve: true, Upstream: !embedded, Limits: !embedded || opts.DataDir != ""}
	conf, err := config.Load(a.sources(need))
	if err != nil {
		err = &usageError{err}
		if !embedded && conf.Require(config.Need{Upstream: true}) != nil {
			return withHint(err, "name the Redis in the environment, or try it out without one: redisopt serve --embedded")
		}
		return err
	}
	level := &slog.LevelVar{}
	level.Set(sidecar.LevelOf(conf.Serve.LogLevel))
	log := sidecar.NewLogger(a.err, conf.Serve.LogService, level)
	for _, w := range conf.Warnings() {
		log.Warn("config_warning", "cause", w.Error())
	}
	hangups, stop := hangups()
	defer stop()
	opts.Version, opts.Log, opts.Level = programVersion(), log, level
	opts.Load = func() (*config.Config, error) { return config.Load(a.sources(need)) }
	opts.File, opts.Reload, opts.MaxCommands = a.configFile(), hangups, a.flags.maxCommands
	var printErr error
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	opts.Started = func(started sidecar.Started) {
		if printErr = a.print(serveDocument(started, conf)); printErr != nil {
			cancel(printErr) // nobody would learn where it answers
		}
	}
	s, err := sidecar.New(conf, opts)
	if err != nil {
		return err
	}
	if a.flags.dryRun {
		return a.print(serveDocument(s.Plan(), conf))
	}
	return errors.Join(s.Run(ctx), printErr)
}

// serveData is the contract of serve/v1.
type serveData struct {
	API       string          `json:"api"`     // URL
	Gateway   string          `json:"gateway"` // URL; empty where it is off
	Guarded   bool            `json:"guarded"` // tokens are asked for
	Embedded  bool            `json:"embedded"`
	Instance  string          `json:"instance"` // in the header Redisopt-Instance of every answer; empty under --dry-run
	Replica   string          `json:"replica"`
	StateDir  string          `json:"state_dir"`
	Version   string          `json:"version"`
	Upstreams []serveUpstream `json:"upstreams"`
	Queues    []string        `json:"queues"` // that it serves
	Idle      serveIdle       `json:"idle"`
}

// serveIdle is what it sends although there is nothing to do, where it looks after the queues for all replicas.
type serveIdle struct {
	CommandsPerMonth float64           `json:"commands_per_month"` // of 30 days, billed
	Commands         []api.IdleCommand `json:"commands"`
}

type serveUpstream struct {
	Name           string   `json:"name"`
	Transport      string   `json:"transport"`
	Addr           string   `json:"addr"` // without credentials
	For            []string `json:"for"`
	MaxConnections int      `json:"max_connections"` // 0 over REST
}

func serveDocument(s sidecar.Started, conf *config.Config) report.Document {
	scheme := "http://"
	if s.TLS {
		scheme = "https://"
	}
	data := serveData{
		API: scheme + s.API, Guarded: s.Guarded, Embedded: s.Embedded, Instance: s.Instance, Replica: s.Replica,
		StateDir: conf.Serve.StateDir, Version: programVersion(), Upstreams: []serveUpstream{},
		Queues: append([]string{}, s.Queues...),
		Idle:   serveIdle{math.Round(api.IdlePerMonth(s.Idle)), append([]api.IdleCommand{}, s.Idle...)},
	}
	gateway := "off: a cluster has no connection that could be shared"
	if s.Gateway != "" {
		data.Gateway = scheme + s.Gateway
		gateway = data.Gateway
	}
	fields := []report.Field{{Name: "api", Value: data.API}, {Name: "gateway", Value: gateway}}
	guarded := "by tokens"
	if !s.Guarded {
		guarded = "by being reached from this machine alone; no token is set"
	}
	fields = append(fields, report.Field{Name: "guarded", Value: guarded})
	for _, u := range s.Upstreams {
		data.Upstreams = append(data.Upstreams, serveUpstream(u))
		holds := "0 connections"
		if u.MaxConnections > 0 {
			holds = fmt.Sprintf("at most %s", plural(int64(u.MaxConnections), "connection"))
		}
		fields = append(fields, report.Field{Name: "redis", Value: fmt.Sprintf("%s %s, %s, for %s", u.Name, u.Addr, holds, strings.Join(u.For, ", "))})
	}
	if len(s.Queues) > 0 {
		fields = append(fields, report.Field{Name: "queues", Value: strings.Join(s.Queues, ", ")})
	}
	fields = append(fields, report.Field{Name: "idle", Value: fmt.Sprintf("%.0f commands in 30 days with nothing to do", data.Idle.CommandsPerMonth)})
	fields = append(fields, report.Field{Name: "state", Value: data.StateDir}, report.Field{Name: "replica", Value: s.Replica})
	doc := report.Document{Kind: "serve/v1", Data: data, Title: "redisopt serve", Sections: []report.Section{{Fields: fields}}}
	switch {
	case s.Embedded && s.DataDir != "":
		doc.Notes = append(doc.Notes, fmt.Sprintf(
			"embedded=true: a redis-server that ends with this process keeps everything in %s; a crash of the machine loses up to the last second.", s.DataDir))
	case s.Embedded:
		doc.Notes = append(doc.Notes, "embedded=true: everything is in this process's memory and gone when it ends.")
	}
	if data.Gateway != "" {
		token := "the value of REDISOPT_TOKEN"
		if !s.Guarded {
			token = "anything"
		}
		doc.Notes = append(doc.Notes, fmt.Sprintf("Applications: UPSTASH_REDIS_REST_URL=%s UPSTASH_REDIS_REST_TOKEN=%s", data.Gateway, token))
	}
	return doc
}

// serveHint says what to type next after an error of serve.
func serveHint(err error) string {
	switch {
	case errors.Is(err, history.ErrLocked):
		return "another redisopt serve uses this directory; give each its own with --state-dir"
	case isA[*sidecar.ListenError](err):
		return "choose other addresses with --listen and --gateway-listen, or find who listens there: ss -ltnp"
	case isA[*sidecar.LoopError](err):
		return "unset UPSTASH_REDIS_REST_URL for redisopt serve, or set it to the https:// address of the provider"
	case isA[*control.SchemaError](err):
		return "a newer redisopt changed the control document; run that version here too"
	case isA[*fleet.SchemaError](err):
		return "a newer redisopt keeps the fleet's places; run that version here too"
	case isA[*fleet.FullError](err):
		return "end one of those that hold connections, allow the fleet more, or wait until a place comes free"
	case isA[*queue.UnreachableError](err):
		return "whoever supervises redisopt serve starts it again; redisopt audit connections looks at the Redis meanwhile"
	case isA[*fleet.ImpossibleError](err):
		return "give this process fewer connections, or the fleet more"
	}
	return ""
}

func isA[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}
