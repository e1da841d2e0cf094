package sidecar

import (
	"context"
	"errors"
	"fmt"

	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// TCPOptions is what the configuration says about the upstream over TCP, and whether there is one. The
// caller adds who spends and what may be spent.
func TCPOptions(conf *config.Config) (upstream.Options, bool) {
	tcp, ok := conf.TCP()
	if !ok {
		return upstream.Options{}, false
	}
	o := commonOptions(conf)
	o.MaxConnections = conf.MainConnections()
	o.URL = tcp.URL.Reveal()
	o.Cluster = tcp.Cluster
	o.Sentinel = upstream.Sentinel{
		Addrs:    tcp.SentinelAddrs,
		Master:   tcp.SentinelMaster,
		Username: tcp.SentinelUsername,
		Password: tcp.SentinelPassword.Reveal(),
	}
	o.Username, o.Password = tcp.Username, tcp.Password.Reveal()
	o.TLS.Enabled = tcp.TLS
	return o, true
}

// RESTOptions is the same for the upstream over REST.
func RESTOptions(conf *config.Config) (upstream.Options, bool) {
	rest, ok := conf.REST()
	if !ok {
		return upstream.Options{}, false
	}
	o := commonOptions(conf)
	o.REST = upstream.REST{URL: rest.URL.Reveal(), Token: rest.Token.Reveal()}
	return o, true
}

func commonOptions(conf *config.Config) upstream.Options {
	u := conf.Upstream
	return upstream.Options{
		MaxConnections: u.MaxConnections,
		Timeout:        u.Timeout,
		DialTimeout:    u.DialTimeout,
		TLS: upstream.TLS{
			CAFile:     u.TLSFiles.CA,
			CertFile:   u.TLSFiles.Cert,
			KeyFile:    u.TLSFiles.Key,
			ServerName: u.TLSFiles.ServerName,
		},
	}
}

// RampOptions is what the configuration says about the new side of a ramp, and whether there is one.
func RampOptions(conf *config.Config) (upstream.Options, bool) {
	r := conf.Ramp
	o := commonOptions(conf)
	switch {
	case r.RESTURL != "":
		o.REST = upstream.REST{URL: r.RESTURL.Reveal(), Token: r.RESTToken.Reveal()}
	case r.URL != "":
		// One connection carries all commands; nothing is subscribed to on the new side.
		o.URL, o.MaxConnections = r.URL.Reveal(), 1
	default:
		return upstream.Options{}, false
	}
	return o, true
}

// Names of upstreams in answers, metrics and logs.
const (
	nameREST     = "rest"
	nameTCP      = "tcp"
	nameEmbedded = "embedded"
	nameRamp     = "ramp"
)

// An opened is one upstream of the sidecar.
type opened struct {
	*upstream.Upstream

	name      string
	transport string // "tcp", "rest", "embedded"
	cluster   bool
}

// upstreams are all of them. Engines is what cache and limiters use: REST when it is configured, because
// it holds no connection. Main is for everything else: TCP when it is configured.
type upstreams struct {
	engines *opened
	main    *opened
	next    *opened          // the new side of a ramp, nil without one
	store   *embedded.Server // nil unless embedded
}

// every is all of them, with the new side of a ramp.
func (u *upstreams) every() []*opened {
	if u.next == nil {
		return u.all()
	}
	return append(u.all(), u.next)
}

// all are the different ones, without the new side of a ramp: what is ready or not does not hang on that.
func (u *upstreams) all() []*opened {
	switch {
	case u.main == nil:
		return nil
	case u.engines == u.main:
		return []*opened{u.main}
	}
	return []*opened{u.engines, u.main}
}

// openUpstreams makes the ways to the upstreams, the new side of a ramp among them. It connects to none of
// them, so that a sidecar starts while they are down.
func openUpstreams(ctx context.Context, conf *config.Config, m *meter.Meter, so Options) (*upstreams, error) {
	u, err := openOld(ctx, conf, m, so)
	if err != nil {
		return nil, err
	}
	if o, ok := RampOptions(conf); ok {
		if u.next, err = open(ctx, nameRamp, o, m, so.MaxCommands); err != nil {
			return nil, errors.Join(err, u.close())
		}
	}
	return u, nil
}

func openOld(ctx context.Context, conf *config.Config, m *meter.Meter, so Options) (*upstreams, error) {
	u := &upstreams{}
	if so.Embedded {
		store, err := embedded.Start(ctx, embedded.Options{DataDir: so.DataDir})
		if err != nil && so.DataDir != "" && ctx.Err() == nil {
			return nil, &config.Problem{Key: "--data", Message: err.Error()}
		}
		if err != nil {
			return nil, err
		}
		o := commonOptions(conf)
		o.MaxConnections = conf.MainConnections()
		o.URL, o.TLS = store.URL(), upstream.TLS{}
		up, err := open(ctx, nameEmbedded, o, m, so.MaxCommands)
		if err != nil {
			return nil, errors.Join(err, store.Close())
		}
		up.transport = nameEmbedded
		return &upstreams{engines: up, main: up, store: store}, nil
	}
	if o, ok := RESTOptions(conf); ok {
		up, err := open(ctx, nameREST, o, m, so.MaxCommands)
		if err != nil {
			return nil, err
		}
		u.engines, u.main = up, up
	}
	if o, ok := TCPOptions(conf); ok {
		up, err := open(ctx, nameTCP, o, m, so.MaxCommands)
		if err != nil {
			return nil, errors.Join(err, u.close())
		}
		u.main = up
		if u.engines == nil {
			u.engines = up
		}
	}
	if u.main == nil {
		return nil, conf.Require(config.Need{Upstream: true})
	}
	return u, nil
}

func open(ctx context.Context, name string, o upstream.Options, m *meter.Meter, most int64) (*opened, error) {
	cluster := len(o.Cluster) > 0
	o.Shared = !cluster && o.REST.URL == ""
	o.Lazy = true
	o.Meter = m
	o.MaxCommands = most
	o.Component = meter.Control
	up, err := upstream.Open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("upstream %s: %w", name, err)
	}
	return &opened{Upstream: up, name: name, transport: up.Transport(), cluster: cluster}, nil
}

func (u *upstreams) close() error {
	var errs []error
	seen := map[*opened]bool{nil: true}
	for _, up := range []*opened{u.engines, u.main, u.next} {
		if !seen[up] {
			seen[up] = true
			errs = append(errs, up.Close())
		}
	}
	if u.store != nil {
		errs = append(errs, u.store.Close())
	}
	return errors.Join(errs...)
}
