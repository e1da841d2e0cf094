package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/redisopt/redisopt/internal/runtime/upstream/fleet"
)

// A FleetState is who holds connections to the upstream, and who waits for some.
type FleetState struct {
	At         time.Time     `json:"at" doc:"By the server's clock"`
	Cap        int           `json:"connections_max" doc:"What all together may hold; 0 when there is no limit"`
	Held       int           `json:"connections_held"`
	Registered bool          `json:"registered" doc:"Whether this replica has its place"`
	Holders    []FleetMember `json:"holders" nullable:"false"`
	Waiting    []FleetMember `json:"waiting" nullable:"false" doc:"In line, the first first"`
	Duplicates []string      `json:"duplicates" nullable:"false" doc:"Names that more than one replica has"`
}

// A FleetMember is one replica.
type FleetMember struct {
	Replica     string     `json:"replica"`
	Instance    string     `json:"instance"`
	Host        string     `json:"host"`
	Version     string     `json:"version"`
	Connections int        `json:"connections"`
	Over        bool       `json:"over" doc:"It holds connections beyond the limit"`
	Started     time.Time  `json:"started"`
	Expires     time.Time  `json:"expires" doc:"When its place comes free unless it is renewed"`
	Since       *time.Time `json:"since,omitempty" doc:"Since when it waits"`
}

type fleetOutput struct{ Body FleetState }

func (a *API) fleetRoutes(h huma.API) {
	huma.Register(h, withErrors(a.operation("fleet", http.MethodGet, "/v1/fleet", "control", "Who holds connections to the upstream", ScopeControlRead,
		"Costs 2 billed commands."), http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable), a.fleet)
}

func (a *API) fleet(ctx context.Context, _ *struct{}) (*fleetOutput, error) {
	if a.opts.Fleet == nil {
		return nil, notEnabled("the fleet")
	}
	l, err := a.opts.Fleet.List(ctx)
	if err != nil {
		if _, newer := errors.AsType[*fleet.SchemaError](err); newer {
			return nil, newProblem(http.StatusConflict, "newer_schema", "Newer schema", clean(err.Error()), "upgrade this replica")
		}
		if _, damaged := errors.AsType[*fleet.DamagedError](err); damaged {
			return nil, newProblem(http.StatusConflict, "damaged_fleet", "Damaged", clean(err.Error()), "remove what is no lease; replicas register again")
		}
		return nil, upstreamProblem(err)
	}
	own := a.opts.Fleet.State()
	return &fleetOutput{FleetState{
		At: l.At.UTC(), Cap: own.Cap, Held: l.Connections(), Registered: own.Registered,
		Holders: fleetMembers(l.Holders), Waiting: fleetMembers(l.Waiting), Duplicates: orEmpty(l.Duplicates()),
	}}, nil
}

func fleetMembers(list []fleet.Member) []FleetMember {
	out := make([]FleetMember, 0, len(list))
	for _, m := range list {
		out = append(out, FleetMember{
			Replica: m.Replica, Instance: m.Instance, Host: m.Host, Version: m.Version, Connections: m.Connections, Over: m.Over,
			Started: m.Started.UTC(), Expires: m.Expires.UTC(), Since: timeOrNone(m.Since),
		})
	}
	return out
}

// fleet shows what this replica knows of its place: reading metrics sends no command.
func (e emitter) fleet(s fleet.State) {
	e.gauge("redisopt_fleet_registered", "1 while this replica has a place in the fleet.", boolean(s.Registered))
	e.gauge("redisopt_fleet_over", "1 while it holds connections beyond the fleet's limit.", boolean(s.Over))
	e.gauge("redisopt_fleet_connections", "Connections that this replica may open.", float64(s.Connections))
	e.gauge("redisopt_fleet_connections_max", "Connections that all replicas may open; 0 without a limit.", float64(s.Cap))
}
