package sidecar

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/redisopt/redisopt/internal/runtime/api"
	"github.com/redisopt/redisopt/internal/runtime/cache"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/control"
	"github.com/redisopt/redisopt/internal/runtime/gateway"
	"github.com/redisopt/redisopt/internal/runtime/history"
	"github.com/redisopt/redisopt/internal/runtime/limit"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/queue/cron"
	"github.com/redisopt/redisopt/internal/runtime/ramp"
	"github.com/redisopt/redisopt/internal/runtime/upstream/fleet"
)

// A world is everything that one Run holds. Its parts are made in the order of dependence and closed
// the other way round.
type world struct {
	sidecar *Sidecar
	conf    *config.Config // the one in force; once it runs, only reload looks at it
	meter   *meter.Meter

	*upstreams

	ring    *history.Ring
	books   *books
	control *control.Control
	router  *ramp.Router
	ledger  *ramp.Ledger
	ramp    *ramp.Client // nil without a second upstream
	cache   *cache.Cache
	limit   *limit.Limiter
	jobs    *jobs                // nil where no queues are served
	cron    *cron.Cron           // nil with jobs
	declare chan []cron.Schedule // of capacity 1: schedules of a configuration that was read again
	fleet   *fleet.Fleet         // nil where no Redis is shared
	budget  *thrift
	gateway *gateway.Gateway // nil where there is no shared connection
	api     *api.API

	certificate *certificate // nil without TLS
	apiDoor     *door
	gatewayDoor *door // nil with gateway
	serving     bool  // the listeners belong to those who serve on them

	refused chan error // why the control document ends the start
}

// assemble makes everything and starts nothing. When it fails nothing is left.
func (s *Sidecar) assemble(ctx context.Context) (w *world, err error) {
	w = &world{sidecar: s, conf: s.conf, meter: meter.New(), upstreams: &upstreams{}, refused: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
			w = nil
		}
	}()
	for _, step := range []func(context.Context) error{
		w.openState, w.openUpstreams, w.openControl, w.openBooks, w.openFleet, w.openEngines, w.openJobs, w.openSchedules, w.openBudget,
		w.openGateway, w.openAPI, w.openDoors,
	} {
		if err := step(ctx); err != nil {
			return w, err
		}
	}
	return w, nil
}

// openState takes the state directory first: two sidecars in one directory must not get further.
func (w *world) openState(context.Context) error {
	ring, err := history.Open(w.conf.Serve.StateDir)
	if err != nil {
		return fmt.Errorf("serve.state_dir: %w", err)
	}
	w.ring = ring
	return nil
}

func (w *world) openUpstreams(ctx context.Context) error {
	ups, err := openUpstreams(ctx, w.conf, w.meter, w.sidecar.opts)
	if err != nil {
		return err
	}
	w.upstreams = ups
	return nil
}

func (w *world) openControl(context.Context) (err error) {
	log := w.sidecar.log
	w.control, err = control.Open(control.Options{
		Client: w.main.As(meter.Control),
		Subscribe: func(ctx context.Context, channel string) (control.Feed, error) {
			messages, gaps, done, err := payloads(ctx, w.main.Bell(), channel)
			return control.Feed{Rings: messages, Gaps: gaps, Close: done}, err
		},
		StateDir: w.conf.Serve.StateDir,
		Key:      w.conf.Serve.ControlKey,
		Sweep:    w.conf.Serve.ControlSweep,
		InScript: func(command string, n int64) { w.main.AddInScript(meter.Control, command, n) },
		Failed: func(err error) {
			log.Warn(eventControlFailed, "upstream", w.main.name, "cause", err.Error())
			// A newer document at the start is not ours to serve by; later, the one in force stays.
			if _, newer := errors.AsType[*control.SchemaError](err); newer && w.control.State().Confirmed.IsZero() {
				select {
				case w.refused <- err:
				default:
				}
			}
		},
	})
	if err != nil {
		return err
	}
	w.router, w.ledger = ramp.NewRouter(w.control), ramp.NewLedger()
	if err := w.control.State().Err; err != nil {
		log.Warn(eventControlFailed, "cause", err.Error())
	}
	return nil
}

func (w *world) openBooks(context.Context) error {
	spend, err := history.NewSpend(history.SpendOptions{Client: w.main.As(meter.Control), Replica: w.sidecar.replica})
	if err != nil {
		return err
	}
	w.books = &books{
		up: w.main, ring: w.ring, spend: spend, every: w.conf.Serve.SampleEvery, meter: w.meter,
		embedded: w.sidecar.opts.Embedded, log: w.sidecar.log,
		looped: func() error { return w.looped(w.sidecar.instance) },
	}
	return nil
}

func (w *world) openEngines(context.Context) (err error) {
	up := w.engines
	c := CacheOptions(w.conf)
	c.Client = up.As(meter.Cache)
	c.BinarySafe = up.BinarySafe()
	c.Cluster = up.cluster
	if w.next != nil {
		if w.ramp, err = w.openRamp(); err != nil {
			return err
		}
		c.Client, c.BinarySafe = w.ramp.Redis(), up.BinarySafe() && w.next.BinarySafe()
	}
	c.InScript = func(key, command string, n int64) { w.holds(key).AddInScript(meter.Cache, command, n) }
	if w.conf.Cache.Bell {
		c.Subscribe = func(ctx context.Context, channel string) (cache.Feed, error) {
			messages, gaps, done, err := payloads(ctx, up.Bell(), channel)
			return cache.Feed{Messages: messages, Gaps: gaps, Close: done}, err
		}
	}
	if w.cache, err = cache.New(c); err != nil {
		return err
	}
	l := LimitOptions(w.conf)
	l.Client, l.Cluster = up.As(meter.RateLimit), up.cluster
	l.Other = w.otherSide()
	l.InScript = func(command string, n int64) { up.AddInScript(meter.RateLimit, command, n) }
	l.Event = limitEvents(w.sidecar.log)
	w.limit, err = limit.New(l)
	return err
}

// openGateway makes the gateway, except on a Cluster, which has no connection that can be shared.
func (w *world) openGateway(context.Context) error {
	if w.main.cluster {
		w.sidecar.log.Warn(eventWarning, "cause", "the gateway is off: a cluster has no connection that could be shared")
		return nil
	}
	shared, err := w.main.Mux()
	if err != nil {
		return err
	}
	o := GatewayOptions(w.conf)
	o.Mux, o.Bell, o.InstanceID = shared, w.main.Bell(), w.sidecar.instance
	w.gateway, err = gateway.New(o)
	return err
}

func (w *world) openAPI(context.Context) (err error) {
	s := w.sidecar
	o := APIOptions(w.conf)
	o.Cache, o.Limit, o.Control, o.Meter = w.cache, w.limit, w.control, w.meter
	o.Ramp = w.rampView()
	o.Month = w.books.monthSoFar
	o.Connections = w.connections
	o.Fleet, o.Plan, o.Idle = w.fleet, w.budget.current, w.idle
	if w.jobs != nil {
		o.Queue, o.Schedules = w.jobs.engine, w.cron
	}
	if w.gateway != nil {
		o.Collectors = []prometheus.Collector{&collector{w.gateway}}
	}
	o.Probes = w.probes()
	o.Embedded, o.Version, o.InstanceID, o.Log = s.opts.Embedded, s.opts.Version, s.instance, s.log
	w.api, err = api.New(o)
	return err
}

func (w *world) openDoors(ctx context.Context) (err error) {
	serve := w.conf.Serve
	if serve.TLSCert != "" {
		w.certificate = &certificate{}
		if err := w.certificate.load(serve); err != nil {
			return err
		}
	}
	open := func(key, addr string) (*door, error) {
		d, err := listen(ctx, key, addr)
		if err == nil && w.certificate != nil {
			d.Listener = w.certificate.wrap(d.Listener)
		}
		return d, err
	}
	if w.apiDoor, err = open("serve.listen", serve.Listen); err != nil {
		return err
	}
	if w.gateway != nil {
		w.gatewayDoor, err = open("serve.gateway_listen", serve.GatewayListen)
	}
	return err
}

// probes are the write tests of readiness, one for each upstream.
func (w *world) probes() []api.Probe {
	var all []api.Probe
	for _, up := range w.all() {
		all = append(all, api.Probe{
			Name: up.name, Transport: up.transport, Embedded: up.transport == nameEmbedded,
			Write:    api.WriteTest(up.As(meter.Control), "redisopt:ready:"+w.sidecar.replica),
			Failures: func() int64 { return failed(w.meter.Snapshot().Totals()) },
		})
	}
	return all
}

// connections are those that are open now, by what they are for.
func (w *world) connections() []api.Connections {
	var all []api.Connections
	for _, up := range w.every() {
		limit := w.sidecar.conf.MainConnections() // what it was opened with
		if up == w.next {
			limit = 1
		}
		if up.Transport() == nameREST {
			limit = 0
		}
		counts := map[string]int{}
		var order []string
		for _, h := range up.Connections() {
			if counts[h.For] == 0 {
				order = append(order, h.For)
			}
			counts[h.For]++
		}
		if len(order) == 0 {
			all = append(all, api.Connections{Upstream: up.name, Transport: up.transport, For: "commands", Max: limit})
		}
		for _, use := range order {
			all = append(all, api.Connections{Upstream: up.name, Transport: up.transport, For: use, Open: counts[use], Max: limit})
		}
	}
	return all
}

// started is what is known once both doors answer.
func (w *world) started() Started {
	s := w.sidecar
	out := Started{
		API: w.apiDoor.Addr().String(), TLS: w.certificate != nil, Guarded: !unguarded(s.conf.Serve),
		Instance: s.instance, Replica: s.replica, Embedded: s.opts.Embedded, Queues: s.names(),
	}
	// It may not sweep for all, but what it costs when it must is what there is to plan with.
	out.Idle = Idle(s.conf, true, s.opts.Embedded)
	main := []string{"control", "history"}
	if w.gatewayDoor != nil {
		out.Gateway = w.gatewayDoor.Addr().String()
		main = append([]string{"gateway"}, main...)
	}
	for _, up := range w.every() {
		u := Upstream{Name: up.name, Transport: up.transport, Addr: up.Addr()}
		if up.Transport() != nameREST {
			u.MaxConnections = s.conf.MainConnections()
		}
		if up == w.next {
			u.For, u.MaxConnections = []string{"ramp"}, min(1, u.MaxConnections)
		}
		if up == w.engines {
			u.For = append(u.For, "cache", "limit")
		}
		if up == w.main {
			if w.jobs != nil {
				u.For = append(u.For, "queues")
			}
			u.For = append(u.For, main...)
		}
		out.Upstreams = append(out.Upstreams, u)
	}
	return out
}

// apply puts in force what can be changed while it runs. When it fails nothing has changed. Whether
// tokens are asked for at all is decided at the start.
func (w *world) apply(next *config.Config) error {
	schedules, err := Schedules(next)
	if _, wrong := Queues(next); errors.Join(err, wrong) != nil {
		return errors.Join(err, wrong)
	}
	if err := w.limit.SetRules(LimitRules(next)); err != nil {
		return err
	}
	if unguarded(w.conf.Serve) == unguarded(next.Serve) {
		if err := w.admit(next); err != nil {
			return errors.Join(err, w.limit.SetRules(LimitRules(w.conf)), w.admit(w.conf))
		}
	}
	w.redeclare(schedules)
	w.conf = next
	return nil
}

// admit lets those in at both doors whom conf names.
func (w *world) admit(conf *config.Config) error {
	if err := w.api.SetTokens(apiTokens(conf)); err != nil {
		return err
	}
	if w.gateway == nil {
		return nil
	}
	tokens, _ := gatewayTokens(conf)
	return w.gateway.Reload(tokens, conf.Serve.Gateway.Allow)
}

// reloadCertificate reads the files again, whether or not they have other names.
func (w *world) reloadCertificate(next *config.Config) error {
	if w.certificate == nil || next.Serve.TLSCert == "" {
		return nil
	}
	return w.certificate.load(next.Serve)
}

// spent is what all upstreams were sent.
func (w *world) spent() Cost {
	var sum Cost
	for _, up := range w.every() {
		c := up.Spent()
		sum.Commands += c.Commands
		sum.Writes += c.Writes
		sum.InScript += c.InScript
		sum.Unanswered += c.Unanswered
	}
	return sum
}

// close releases what is held, the last made first.
func (w *world) close() error {
	var errs []error
	for _, d := range []*door{w.gatewayDoor, w.apiDoor} {
		if d != nil && !w.serving {
			errs = append(errs, d.Close())
		}
	}
	if w.jobs != nil {
		w.jobs.sender.Close()
	}
	if w.cache != nil {
		errs = append(errs, w.cache.Close())
	}
	if w.ramp != nil {
		errs = append(errs, w.ramp.Close())
	}
	errs = append(errs, w.upstreams.close())
	if w.ring != nil {
		errs = append(errs, w.ring.Close())
	}
	return errors.Join(errs...)
}

// A collector shows the gateway in /metrics. It sends nothing.
type collector struct{ gateway *gateway.Gateway }

func (c *collector) descriptions() (requests, streams, panics *prometheus.Desc) {
	return prometheus.NewDesc("redisopt_gateway_requests_total", "Requests answered by the gateway, by HTTP status.", []string{"status"}, nil),
		prometheus.NewDesc("redisopt_gateway_streams", "Streams open at the gateway now.", nil, nil),
		prometheus.NewDesc("redisopt_gateway_panics_total", "Requests that met a defect of the gateway.", nil, nil)
}

// Describe says which metrics there are.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	requests, streams, panics := c.descriptions()
	out <- requests
	out <- streams
	out <- panics
}

// Collect says what they are now.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	requests, streams, panics := c.descriptions()
	stats := c.gateway.Stats()
	for status, n := range stats.Requests {
		out <- prometheus.MustNewConstMetric(requests, prometheus.CounterValue, float64(n), strconv.Itoa(status))
	}
	out <- prometheus.MustNewConstMetric(streams, prometheus.GaugeValue, float64(stats.Streams))
	out <- prometheus.MustNewConstMetric(panics, prometheus.CounterValue, float64(stats.Panics))
}
