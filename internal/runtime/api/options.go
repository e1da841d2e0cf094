package api

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/redisopt/redisopt/internal/runtime/budget"
	"github.com/redisopt/redisopt/internal/runtime/cache"
	"github.com/redisopt/redisopt/internal/runtime/control"
	"github.com/redisopt/redisopt/internal/runtime/limit"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/queue"
	"github.com/redisopt/redisopt/internal/runtime/queue/cron"
	"github.com/redisopt/redisopt/internal/runtime/queue/shed"
	"github.com/redisopt/redisopt/internal/runtime/upstream/fleet"
)

// Defaults of Options.
const (
	DefaultMaxBodyBytes         = 1 << 20
	DefaultMaxBodyBytesInFlight = 64 << 20
	DefaultMaxInFlight          = 1024
	DefaultMaxWaiting           = 4096
	DefaultTimeout              = 5 * time.Second
	DefaultBodyTimeout          = 10 * time.Second
	DefaultShutdownTimeout      = 10 * time.Second
	DefaultProbeTimeout         = 2 * time.Second
)

// Options say what the API answers for. The zero value answers health, metrics and the OpenAPI document.
type Options struct {
	// Cache is behind /v1/cache; nil answers 404 and says that it is not enabled.
	Cache *cache.Cache

	// Limit is behind /v1/limit; nil answers 404 and says that it is not enabled.
	Limit *limit.Limiter

	// TrustedProxies are the networks whose X-Forwarded-For lines are believed, where a caller of
	// /v1/limit hands them on. None: no line is.
	TrustedProxies []netip.Prefix

	// Queue is behind /v1/queues; nil answers 404 and says that it is not enabled.
	Queue *queue.Engine

	// Schedules is behind /v1/schedules; nil answers 404 and says that it is not enabled.
	Schedules *cron.Cron

	// Fleet is behind /v1/fleet; nil answers 404 and says that it is not enabled.
	Fleet *fleet.Fleet

	// Plan is what is given up for the budget's sake, for /v1/budget and /metrics, and Idle what is sent while
	// there is nothing to do. They may be nil, Plan may return nil, and neither must send a command.
	Plan func() *shed.Plan
	Idle func() []IdleCommand

	// Control is behind /v1/control; nil answers 404 and says that it is not enabled.
	Control *control.Control

	// Ramp is behind /v1/ramp, beside Control; nil answers 404 and says that it is not enabled.
	Ramp *RampView

	// Meter is what /metrics shows of commands; nil shows none.
	Meter *meter.Meter

	// Budgets are shown in /metrics beside what was spent.
	Budgets budget.Budgets

	// Month is what the fleet spent in the current month, in commands; nil leaves it out. It is asked
	// once for each reading of /metrics and must not send a command.
	Month func() (commands int64, ok bool)

	// Connections are the connections held now, for /metrics; nil leaves them out. It must not send
	// a command.
	Connections func() []Connections

	// Collectors are added to /metrics, from the gateway for example.
	Collectors []prometheus.Collector

	// Probes are the upstreams that readiness tests. None: always ready.
	Probes []Probe

	// ProbeTimeout is how long one write test may take. Default 2s.
	ProbeTimeout time.Duration

	// Tokens are who may ask. With none, anybody may who reaches the listener, which then must be a
	// loopback one.
	Tokens []Token

	// OpenMetrics lets /metrics be read without a token.
	OpenMetrics bool

	// Embedded is true when values live in this process alone and are gone with it: every page and
	// metric says so.
	Embedded bool

	// Version is this program's, for the OpenAPI document and metrics. Default "dev".
	Version string

	// InstanceID, when not empty, is sent with every answer in the header Redisopt-Instance.
	InstanceID string

	// MaxBodyBytes is the largest body of a request, in bytes. Default 1 MiB.
	MaxBodyBytes int64

	// MaxBodyBytesInFlight is how many bytes of bodies are held at once by all requests together; what
	// would exceed it is answered 503. Default 64 MiB; at least MaxBodyBytes is allowed.
	MaxBodyBytesInFlight int64

	// MaxInFlight is how many requests are answered at once; more are answered 503. Default 1024.
	MaxInFlight int

	// MaxWaiting is how many requests may wait for jobs at once, besides MaxInFlight; more are answered
	// 503. Default 4096.
	MaxWaiting int

	// Timeout is how long an operation may take, the time it is asked to wait apart. Default 5s.
	Timeout time.Duration

	// BodyTimeout is how long a client may take to send a request's body. Default 10s.
	BodyTimeout time.Duration

	// ShutdownTimeout is how long Serve waits for requests under way when it is told to stop. Default
	// 10s.
	ShutdownTimeout time.Duration

	// Log is told of faults of this program alone. Default: nothing is logged.
	Log *slog.Logger
}

// Connections are those that one upstream holds.
type Connections struct {
	Upstream  string // its name in the configuration
	Transport string // "tcp" or "rest"
	For       string // what they carry: "commands", "pub/sub"
	Open      int
	Max       int // the cap they share; 0 when there is none
}

func (o Options) withDefaults() Options {
	set(&o.ProbeTimeout, DefaultProbeTimeout)
	set(&o.Version, "dev")
	set(&o.MaxBodyBytes, DefaultMaxBodyBytes)
	set(&o.MaxBodyBytesInFlight, DefaultMaxBodyBytesInFlight)
	set(&o.MaxInFlight, DefaultMaxInFlight)
	set(&o.MaxWaiting, DefaultMaxWaiting)
	set(&o.Timeout, DefaultTimeout)
	set(&o.BodyTimeout, DefaultBodyTimeout)
	set(&o.ShutdownTimeout, DefaultShutdownTimeout)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (o Options) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for name, d := range map[string]time.Duration{
		"probe timeout": o.ProbeTimeout, "timeout": o.Timeout, "body timeout": o.BodyTimeout, "shutdown timeout": o.ShutdownTimeout,
	} {
		if d < time.Millisecond {
			bad("%s: got %s, want at least 1ms", name, d)
		}
	}
	if o.MaxBodyBytes < 1 || o.MaxBodyBytesInFlight < 1 {
		bad("max body bytes: got %d, and %d in flight; want at least 1", o.MaxBodyBytes, o.MaxBodyBytesInFlight)
	}
	if o.MaxInFlight < 1 {
		bad("max in flight: got %d, want at least 1", o.MaxInFlight)
	}
	if o.MaxWaiting < 1 {
		bad("max waiting: got %d, want at least 1", o.MaxWaiting)
	}
	if err := validateTokens(o.Tokens); err != nil {
		errs = append(errs, err)
	}
	probes := map[string]bool{}
	for _, p := range o.Probes {
		if p.Name == "" || p.Write == nil {
			bad("probe %q: it needs a name and a write test", p.Name)
		}
		if probes[p.Name] {
			bad("probe %q: there are two of this name", p.Name)
		}
		probes[p.Name] = true
	}
	return errors.Join(errs...)
}
