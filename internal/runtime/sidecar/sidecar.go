package sidecar

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/api"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/control"
	"github.com/redisopt/redisopt/internal/runtime/queue"
	"github.com/redisopt/redisopt/internal/runtime/queue/cron"
	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
)

// Options say how one process runs a sidecar. The zero value works.
type Options struct {
	// Version is this program's. Default "dev".
	Version string

	// Embedded serves from a volatile store in this process instead of an upstream. Everything that
	// answers says so.
	Embedded bool

	// DataDir makes Embedded keep what it holds: it is an existing directory in which a redis-server from
	// PATH is started, with an append-only file that is synced every second. Default: everything is gone
	// with this process. Without Embedded it means nothing.
	DataDir string

	// Log is told what happens, as NewLogger makes one. Default: nothing is logged.
	Log *slog.Logger

	// Level is the level of Log, set anew when the configuration changes it. Default: one that nobody
	// looks at.
	Level *slog.LevelVar

	// Load reads the configuration again. Nil: it is never read again.
	Load func() (*config.Config, error)

	// File is the configuration file, which is watched. Empty: none is.
	File string

	// Reload asks for the configuration to be read again, as SIGHUP does. May be nil.
	Reload <-chan struct{}

	// MaxCommands is the most commands to send to each upstream; what would exceed it is refused before
	// it is sent. 0 means no limit.
	MaxCommands int64

	// Started is called once, when both addresses answer. May be nil.
	Started func(Started)

	govern func(*governor.Options) // changes how idle queues are followed; tests shorten what takes minutes
}

// Started is what a sidecar that answers can be reached by.
type Started struct {
	API       string     // host:port
	Gateway   string     // host:port; empty where the gateway is off
	TLS       bool       // both speak TLS
	Guarded   bool       // tokens are asked for
	Instance  string     // in the header Redisopt-Instance of every answer
	Replica   string     // the name in the fleet
	Embedded  bool       // from a store of this process
	DataDir   string     // where that store is kept; empty: everything is gone with this process
	Upstreams []Upstream // in the order of their use
	Queues    []string   // that are served
	Idle      []api.IdleCommand
}

// An Upstream is one of those that a sidecar uses.
type Upstream struct {
	Name           string   // "rest", "tcp", "embedded"
	Transport      string   // the same
	Addr           string   // without credentials
	For            []string // what uses it
	MaxConnections int      // that may be open at any time; 0 over REST
}

// A Cost is what a sidecar spent on its upstreams.
type Cost struct {
	Commands, Writes, InScript, Unanswered int64
}

// A Sidecar is one that can run.
type Sidecar struct {
	conf     *config.Config
	opts     Options
	log      *slog.Logger
	instance string
	replica  string

	queues    []queue.Queue // without who runs their jobs
	schedules []cron.Schedule
}

// New prepares a sidecar of conf, which Load has found valid. It opens nothing.
func New(conf *config.Config, o Options) (*Sidecar, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Level == nil {
		o.Level = &slog.LevelVar{}
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	replica, err := replicaName(conf.Serve.Replica)
	if err != nil {
		return nil, &config.Problem{Key: "serve.replica", Message: err.Error()}
	}
	if !o.Embedded {
		if err := conf.Require(config.Need{Upstream: true}); err != nil {
			return nil, err
		}
	} else if o.DataDir == "" {
		conf = withOwnHashKey(conf, config.Secret(rand.Text()))
	}
	if len(conf.Queues.Served()) > 0 && !o.Embedded {
		if err := conf.Require(config.Need{Queues: true}); err != nil {
			return nil, err
		}
	}
	queues, queueErr := Queues(conf)
	schedules, scheduleErr := Schedules(conf)
	if err := errors.Join(queueErr, scheduleErr); err != nil {
		return nil, err
	}
	return &Sidecar{
		conf: conf, opts: o, log: o.Log, instance: rand.Text(), replica: replica, queues: queues, schedules: schedules,
	}, nil
}

// Plan is what Run would begin with, as far as the configuration says. It opens nothing.
func (s *Sidecar) Plan() Started {
	conf := s.conf
	out := Started{
		API: conf.Serve.Listen, Gateway: conf.Serve.GatewayListen, TLS: conf.Serve.TLSCert != "",
		Guarded: !unguarded(conf.Serve), Replica: s.replica, Embedded: s.opts.Embedded, DataDir: s.opts.DataDir,
	}
	most := conf.MainConnections()
	engines, main := []string{"cache", "limit"}, []string{"gateway", "control", "history"}
	tcp, hasTCP := conf.TCP()
	rest, hasREST := conf.REST()
	if len(tcp.Cluster) > 0 {
		out.Gateway, main = "", main[1:]
	}
	if len(s.queues) > 0 {
		main = append([]string{"queues"}, main...)
	}
	out.Queues, out.Idle = s.names(), Idle(conf, true, s.opts.Embedded)
	all := append(slices.Clone(engines), main...)
	switch {
	case s.opts.Embedded:
		addr := "in this process"
		if s.opts.DataDir != "" {
			addr = "redis-server"
		}
		out.Upstreams = []Upstream{{Name: nameEmbedded, Transport: nameEmbedded, Addr: addr, For: all, MaxConnections: most}}
	case hasREST && hasTCP:
		out.Upstreams = []Upstream{
			{Name: nameREST, Transport: nameREST, Addr: rest.URL.String(), For: engines},
			{Name: nameTCP, Transport: nameTCP, Addr: strings.Join(tcp.Hosts(), ","), For: main, MaxConnections: most},
		}
	case hasREST:
		out.Upstreams = []Upstream{{Name: nameREST, Transport: nameREST, Addr: rest.URL.String(), For: all}}
	case hasTCP:
		out.Upstreams = []Upstream{{Name: nameTCP, Transport: nameTCP, Addr: strings.Join(tcp.Hosts(), ","), For: all, MaxConnections: most}}
	}
	if o, ok := RampOptions(conf); ok {
		u := Upstream{Name: nameRamp, Transport: nameREST, Addr: conf.Ramp.Addr(), For: []string{"ramp"}}
		if o.REST.URL == "" {
			u.Transport, u.MaxConnections = nameTCP, 1
		}
		out.Upstreams = append(out.Upstreams, u)
	}
	return out
}

// names are those of the queues that are served, as configured.
func (s *Sidecar) names() []string {
	all := make([]string, 0, len(s.queues))
	for _, q := range s.queues {
		all = append(all, q.Name)
	}
	return all
}

// withOwnHashKey is conf with a key to hash subjects by where it has none: on a volatile store nothing
// needs to be found again after a restart.
func withOwnHashKey(conf *config.Config, key config.Secret) *config.Config {
	if conf.Limits.HashKey != "" {
		return conf
	}
	own := *conf
	own.Limits.HashKey = key
	return &own
}

// Run serves until ctx ends, and then stops in the order of dependence: the listeners, with requests
// under way having serve.shutdown_timeout; the engines; the books; the connections. It returns nil when
// all of that went well. It starts while the upstreams are down: caches and limiters then do what they
// are configured to do without one, and readiness says so.
//
// What it returns earlier is why it cannot go on: a *LoopError, a *ListenError, a
// *control.SchemaError, history.ErrLocked, or a listener that failed. Nothing is left behind.
func (s *Sidecar) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w, err := s.assemble(ctx)
	if err != nil {
		return err
	}
	err = s.serve(ctx, cancel, w)
	w.leave(ctx)
	cost := w.spent()
	err = errors.Join(err, w.close())
	s.log.Info(eventStopped, "commands", cost.Commands, "writes", cost.Writes, "in_script", cost.InScript, "unanswered", cost.Unanswered)
	return err
}

// serve runs what w holds until ctx ends or something fails.
func (s *Sidecar) serve(ctx context.Context, cancel context.CancelCauseFunc, w *world) error {
	apiWaits := w.apiDoor.wait(s.instance)
	gatewayWaits := func() error { return nil }
	if w.gatewayDoor != nil {
		gatewayWaits = w.gatewayDoor.wait(s.instance)
	}
	err := guard(ctx, w.upstreams, s.instance)
	if err == nil {
		err = w.join(ctx) // meanwhile both doors answer that it starts
	}
	if err := errors.Join(err, apiWaits(), gatewayWaits()); err != nil {
		return err
	}

	fatal := func(err error) { cancel(err) }
	keeping := newGroup(ctx, fatal)
	keeping.start("history", w.books.sample)
	keeping.start("spend", w.books.account)
	keeping.start("month", w.books.follow)

	engines := newGroup(ctx, fatal)
	engines.start("control", w.control.Run)
	engines.start("control events", s.controlEvents(w))
	engines.start("router", w.router.Run)
	if w.ramp != nil {
		engines.start("ramp", w.ramp.Run)
	}
	engines.start("cache", w.cache.Run)
	engines.start("limit", w.limit.Run)
	engines.start("budget", w.budget.run)
	if w.fleet != nil {
		keeping.start("fleet", w.keepPlace)
	}
	workers := newGroup(ctx, fatal)
	if w.jobs != nil {
		workers.start("queues", w.jobs.engine.Run)
		engines.start("schedules", w.cron.Run)
		engines.start("configured schedules", w.declareSchedules)
	}
	engines.start("configuration", func(ctx context.Context) error { return s.reload(ctx, w) })

	doors := newGroup(ctx, fatal)
	doors.start("api", func(ctx context.Context) error { return w.api.Serve(ctx, w.apiDoor) })
	if w.gatewayDoor != nil {
		doors.start("gateway", func(ctx context.Context) error { return w.gateway.Serve(ctx, w.gatewayDoor) })
	}
	w.serving = true

	started := w.started()
	s.log.Info(eventStarted, "api", started.API, "gateway", started.Gateway, "tls", started.TLS, "guarded", started.Guarded,
		"instance", started.Instance, "replica", started.Replica, "embedded", started.Embedded, "version", s.opts.Version)
	if s.opts.Started != nil {
		s.opts.Started(started)
	}

	select {
	case <-ctx.Done():
	case err := <-w.refused:
		cancel(err)
	}
	begin := time.Now()
	reason := "asked to"
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		reason = cause.Error()
	}
	s.log.Info(eventStopping, "reason", reason, "timeout_ms", milliseconds(s.conf.Serve.ShutdownTimeout))
	// Applications say at the API what became of the jobs they have, so it answers until the workers have ended.
	w.api.Retire()
	err = errors.Join(workers.stop(), doors.stop(), engines.stop(), keeping.stop())
	if cause, ok := errors.AsType[*control.SchemaError](context.Cause(ctx)); ok {
		err = errors.Join(err, cause)
	}
	s.log.Debug("drained", "duration_ms", milliseconds(time.Since(begin)))
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// controlEvents logs every change of the control document.
func (s *Sidecar) controlEvents(w *world) func(context.Context) error {
	return func(ctx context.Context) error {
		for {
			changed := w.control.Changed()
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
			}
			state := w.control.State()
			d := state.Document
			s.log.Info(eventControlChanged, "epoch", d.Epoch, "source", string(state.Source), "ramps", d.Ramps,
				"paused", d.Paused, "kill", d.Kill, "by", d.By, "reason", d.Reason)
		}
	}
}
