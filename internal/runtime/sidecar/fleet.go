package sidecar

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream/fleet"
)

// How long a place in the fleet is kept, and how often it is renewed: 720 commands in a 30-day month.
const (
	fleetRenew = time.Hour
	fleetLease = 130 * time.Minute
)

// fleetCap is how many connections all replicas together may hold; 0 means that they only register.
func fleetCap(conf *config.Config) int {
	if n := conf.Upstream.FleetConnections; n > 0 {
		return n
	}
	// The old and the new processes of a deploy run side by side for a while.
	return conf.Budgets.Connections.Allowed(true)
}

// openFleet makes this replica's membership, where there is a Redis over TCP that it shares with others.
func (w *world) openFleet(context.Context) (err error) {
	s := w.sidecar
	if w.main.transport != nameTCP {
		return nil
	}
	host, err := os.Hostname()
	if err != nil {
		host = "" // it is for people
	}
	up := w.main
	w.fleet, err = fleet.New(fleet.Options{
		Client: up.As(meter.Control), Replica: s.replica, Instance: s.instance, Host: host[:min(len(host), 200)], Version: s.opts.Version,
		Connections: w.conf.Upstream.MaxConnections, Cap: fleetCap(w.conf), Lease: fleetLease, Renew: fleetRenew,
		InScript: func(command string, n int64) { up.AddInScript(meter.Control, command, n) },
		Event:    fleetEvents(s.log),
	})
	return err
}

// join waits for a place before anything else connects. What it returns ends the start; a Redis that does not
// answer is no reason to, and nor is there anything to wait for without a limit.
func (w *world) join(ctx context.Context) error {
	if w.fleet == nil || fleetCap(w.conf) == 0 {
		return nil
	}
	err := w.fleet.Join(ctx)
	switch {
	case err == nil || ctx.Err() != nil:
		return nil //nolint:nilerr // who is told to stop is not told why it did not start
	case isA[*fleet.FullError](err), isA[*fleet.ImpossibleError](err), isA[*fleet.SchemaError](err), isA[*fleet.DamagedError](err):
		return err
	}
	w.sidecar.log.Warn(eventFleet+string(fleet.Failed), "cause", err.Error())
	return nil
}

// leave gives the place free, when nothing else uses the connections any more.
func (w *world) leave(ctx context.Context) {
	if w.fleet == nil || !w.fleet.State().Registered {
		return
	}
	if err := w.fleet.Leave(context.WithoutCancel(ctx)); err != nil {
		w.sidecar.log.Warn(eventFleet+string(fleet.Failed), "cause", err.Error())
	}
}

// fleetEvents logs what happens to the place.
func fleetEvents(log *slog.Logger) func(fleet.Event) {
	return func(e fleet.Event) {
		level := slog.LevelWarn
		if e.Kind == fleet.Joined || e.Kind == fleet.Within {
			level = slog.LevelInfo
		}
		var held []string
		for _, m := range e.Listing.Holders {
			held = append(held, m.Replica)
		}
		attrs := []slog.Attr{slog.Int("held", e.Listing.Connections()), slog.Any("holders", held), slog.Int("waiting", len(e.Listing.Waiting))}
		if e.Kind == fleet.Duplicate {
			attrs = append(attrs, slog.String("replica", e.Other.Replica), slog.String("host", e.Other.Host))
		}
		if e.Err != nil {
			attrs = []slog.Attr{slog.String("cause", e.Err.Error())}
		}
		log.LogAttrs(context.Background(), level, eventFleet+string(e.Kind), attrs...)
	}
}

// keepPlace renews the place until ctx ends. A newer program's fleet ends the process, as at the start.
func (w *world) keepPlace(ctx context.Context) error {
	err := w.fleet.Run(ctx)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
