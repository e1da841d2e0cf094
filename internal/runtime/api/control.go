package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/redisopt/redisopt/internal/runtime/control"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// A ControlState is the control document in force on this replica.
type ControlState struct {
	Epoch   int64              `json:"epoch" doc:"Counts the changes; 0 when there never was one"`
	Ramps   map[string]float64 `json:"ramps" nullable:"false" doc:"Percentage of keys that takes each new route"`
	Paused  []string           `json:"paused" nullable:"false" doc:"Queues that are paused"`
	Kill    []string           `json:"kill" nullable:"false" doc:"Kill switches that are thrown: routes and features"`
	By      string             `json:"by" doc:"Who made the change"`
	Reason  string             `json:"reason"`
	Updated time.Time          `json:"updated"`

	Source    string     `json:"source" enum:"none,upstream,disk,override" doc:"Where it came from; override is set on this replica alone"`
	Confirmed *time.Time `json:"confirmed,omitempty" doc:"When the upstream was last read; absent when it never was"`
	Stale     string     `json:"stale,omitempty" doc:"Why it may not be the newest: the class of the failure"`
}

// A ControlOverride is what to change on this replica alone.
type ControlOverride struct {
	Ramps  *map[string]float64 `json:"ramps,omitempty" doc:"Replaces all ramps; absent: as they are"`
	Paused *[]string           `json:"paused,omitempty" maxItems:"1000" doc:"Replaces all paused queues; absent: as they are"`
	Kill   *[]string           `json:"kill,omitempty" maxItems:"1000" doc:"Replaces all kill switches; absent: as they are"`
	Reason string              `json:"reason" minLength:"1" maxLength:"1000" doc:"For people"`
}

type controlInput struct {
	IfNoneMatch string `header:"If-None-Match"`
}

type controlOutput struct {
	CacheControl string `header:"Cache-Control" hidden:"true"`
	ETag         string `header:"ETag"`
	Body         ControlState
}

type overrideInput struct {
	IfMatch string `header:"If-Match" doc:"The ETag of the state that the change was made for"`
	Body    ControlOverride
}

func (a *API) controlRoutes(h huma.API) {
	get := a.operation("control-get", http.MethodGet, "/v1/control", "control", "The control document in force", ScopeControlRead,
		"Answered from memory: costs no command. The ETag changes with the document; If-None-Match answers 304.")
	get.Responses["304"] = &huma.Response{Description: "As the If-None-Match header says"}
	huma.Register(h, get, a.controlGet)

	post := a.operation("control-override", http.MethodPost, "/v1/control", "control", "Override the document on this replica", ScopeAdmin,
		"For emergencies: takes effect at once on this replica alone, also while the upstream is down, survives a restart, and "+
			"holds until the upstream has a higher epoch. Costs no command. If-Match makes it fail with 412 when the state has changed.")
	huma.Register(h, withErrors(takesJSON(post), http.StatusPreconditionFailed), a.controlOverride)

	end := a.operation("control-override-end", http.MethodDelete, "/v1/control", "control", "End this replica's override", ScopeAdmin,
		"Puts the upstream's document in force again; does nothing where there is no override. Costs no command.")
	huma.Register(h, end, a.controlOverrideEnd)
}

func (a *API) controlState() *controlOutput {
	s := a.opts.Control.State()
	d := s.Document
	out := &controlOutput{CacheControl: revalidate, Body: ControlState{
		Epoch: d.Epoch, Ramps: orEmptyMap(d.Ramps), Paused: orEmpty(d.Paused), Kill: orEmpty(d.Kill),
		By: d.By, Reason: d.Reason, Updated: d.Updated.UTC(), Source: string(s.Source),
	}}
	if !s.Confirmed.IsZero() {
		at := s.Confirmed.UTC()
		out.Body.Confirmed = &at
	}
	if s.Err != nil {
		out.Body.Stale = string(upstream.Classify(s.Err))
	}
	// Two documents of one epoch may differ: an override has the epoch it overrides.
	out.ETag = etag(fmt.Appendf(nil, "%s %d %v %q %q %d", s.Source, d.Epoch, d.Ramps, d.Paused, d.Kill, d.Updated.UnixNano()))
	return out
}

func (a *API) controlGet(_ context.Context, in *controlInput) (*controlOutput, error) {
	if a.opts.Control == nil {
		return nil, notEnabled("control")
	}
	out := a.controlState()
	if matches(in.IfNoneMatch, out.ETag) {
		return nil, notModified(http.Header{"Etag": {out.ETag}, "Cache-Control": {revalidate}})
	}
	return out, nil
}

func (a *API) controlOverride(ctx context.Context, in *overrideInput) (*controlOutput, error) {
	if a.opts.Control == nil {
		return nil, notEnabled("control")
	}
	if before := a.controlState(); in.IfMatch != "" && !matches(in.IfMatch, before.ETag) {
		return nil, newProblem(http.StatusPreconditionFailed, "control_changed", "Changed meanwhile",
			"the control document is not the one that If-Match names", "read it again, and decide anew").with("ETag", before.ETag)
	}
	d := a.opts.Control.Current()
	if in.Body.Ramps != nil {
		d.Ramps = *in.Body.Ramps
	}
	if in.Body.Paused != nil {
		d.Paused = *in.Body.Paused
	}
	if in.Body.Kill != nil {
		d.Kill = *in.Body.Kill
	}
	d.Reason, d.By, d.Updated = in.Body.Reason, "token "+infoOf(ctx).caller.name, time.Now()
	if err := d.Validate(); err != nil {
		refused := newProblem(http.StatusUnprocessableEntity, "invalid_request", "Invalid request", "the override cannot be in force", "compare with /openapi.json")
		for problem := range strings.Lines(err.Error()) {
			refused = refused.at("body", strings.TrimSuffix(problem, "\n"))
		}
		return nil, refused
	}
	if err := a.opts.Control.Override(d); err != nil {
		if _, newer := errors.AsType[*control.SchemaError](err); newer {
			return nil, newProblem(http.StatusConflict, "newer_schema", "Newer schema", clean(err.Error()), "upgrade this replica")
		}
		a.opts.Log.Error("control_override_not_kept", "error", err)
		return nil, newProblem(http.StatusInternalServerError, "override_not_kept", "Override not kept",
			"the override may be in force but was not written to the state directory, so a restart ends it",
			"look at GET /v1/control, and at the server's log for the cause")
	}
	return a.controlState(), nil
}

func (a *API) controlOverrideEnd(context.Context, *struct{}) (*controlOutput, error) {
	if a.opts.Control == nil {
		return nil, notEnabled("control")
	}
	if _, err := a.opts.Control.EndOverride(); err != nil {
		a.opts.Log.Error("control_override_not_ended", "error", err)
		return nil, internal()
	}
	return a.controlState(), nil
}

func notEnabled(feature string) *problemError {
	return newProblem(http.StatusNotFound, "not_enabled", "Not enabled", feature+" is not enabled on this server", "enable it in the configuration")
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func orEmptyMap[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}
