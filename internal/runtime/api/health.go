package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// A Health says that the process answers.
type Health struct {
	Status   string `json:"status" enum:"ok" doc:"Always ok: a process that is not answers nothing"`
	Embedded bool   `json:"embedded" doc:"Values live in this process alone and are gone with it"`
	Version  string `json:"version"`
}

// A Readiness says whether the server can do its work.
type Readiness struct {
	Ready     bool            `json:"ready" doc:"The server is not stopping, and every upstream that is not optional took its last write"`
	Stopping  bool            `json:"stopping" doc:"The server has been told to stop"`
	Embedded  bool            `json:"embedded" doc:"Values live in this process alone and are gone with it"`
	Version   string          `json:"version"`
	Upstreams []UpstreamState `json:"upstreams" nullable:"false"`
}

// An UpstreamState is the result of the last write test of one upstream.
type UpstreamState struct {
	Name             string  `json:"name"`
	Transport        string  `json:"transport" doc:"tcp, rest or embedded"`
	Embedded         bool    `json:"embedded"`
	Optional         bool    `json:"optional" doc:"The server is ready without it too"`
	Ready            bool    `json:"ready" doc:"The last write succeeded"`
	TestedSecondsAgo float64 `json:"tested_seconds_ago" doc:"A write that succeeded counts for 300 s, one that failed for 5 to 60 s"`
	Class            string  `json:"class,omitempty" doc:"What kind of failure it is: quota, auth, refused, timeout"`
	Cause            string  `json:"cause,omitempty" doc:"The failure in words"`
	Error            string  `json:"error,omitempty" doc:"The failure with its address, for callers with a token"`
}

type healthOutput struct{ Body Health }

type readyOutput struct {
	Status int
	Body   Readiness
}

type rawOutput struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

type streamOutput struct{ Body func(huma.Context) }

func (a *API) healthRoutes(h huma.API) {
	huma.Register(h, a.operation("healthz", http.MethodGet, "/healthz", "health", "Whether the process answers", "",
		"Asks no upstream and costs no command."), a.healthz)

	op := a.operation("readyz", http.MethodGet, "/readyz", "health", "Whether the upstreams take writes", "",
		"Tests a write on every upstream, since a PING stays green after a plan's quota is used up. Results are kept, "+
			"so that asking often costs at most 8,640 commands a month for each upstream and replica, and 43,200 while it fails.")
	op.Responses["503"] = jsonResponse("Not ready, with the cause", schemaOf[Readiness](h))
	huma.Register(h, op, a.readyz)

	metrics := a.operation("metrics", http.MethodGet, "/metrics", "health", "Metrics for Prometheus", ScopeMetrics, "Costs no command.")
	metrics.Responses["200"] = &huma.Response{
		Description: "Metrics in the Prometheus text format",
		Content:     map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}
	huma.Register(h, metrics, a.metrics)

	document := a.operation("openapi", http.MethodGet, "/openapi.json", "health", "This document", "", "OpenAPI 3.1. Costs no command.")
	document.Responses["200"] = jsonResponse("The OpenAPI document", &huma.Schema{Type: huma.TypeObject})
	huma.Register(h, document, func(context.Context, *struct{}) (*rawOutput, error) {
		return &rawOutput{ContentType: "application/json", Body: a.document}, nil
	})
}

func (a *API) healthz(context.Context, *struct{}) (*healthOutput, error) {
	return &healthOutput{Health{Status: "ok", Embedded: a.opts.Embedded, Version: a.opts.Version}}, nil
}

type readyInput struct {
	Authorization string `header:"Authorization" hidden:"true"`
}

// readyz answers anybody, since what probes cannot send tokens, but shows errors, which name hosts, only
// to those who may ask for something else too.
func (a *API) readyz(ctx context.Context, in *readyInput) (*readyOutput, error) {
	trusted := !a.guarded()
	if in.Authorization != "" {
		c, _ := a.authenticate(&http.Request{Header: http.Header{"Authorization": {in.Authorization}}})
		trusted = c != nil
	}
	out := &readyOutput{Status: http.StatusOK, Body: Readiness{
		Stopping: a.stopping.Load(), Embedded: a.opts.Embedded, Version: a.opts.Version, Upstreams: []UpstreamState{},
	}}
	out.Body.Ready = !out.Body.Stopping
	for _, t := range a.ready.check(ctx) {
		s := UpstreamState{
			Name: t.probe.Name, Transport: t.probe.Transport, Embedded: t.probe.Embedded, Optional: t.probe.Optional,
			Ready: t.err == nil, TestedSecondsAgo: time.Since(t.at).Round(time.Millisecond).Seconds(),
		}
		if t.err != nil {
			class := upstream.Classify(t.err)
			s.Class, s.Cause = string(class), cause(class)
			if trusted {
				s.Error = clean(t.err.Error())
			}
			out.Body.Ready = out.Body.Ready && t.probe.Optional
		}
		out.Body.Upstreams = append(out.Body.Upstreams, s)
	}
	if !out.Body.Ready {
		out.Status = http.StatusServiceUnavailable
	}
	return out, nil
}

func (a *API) metrics(context.Context, *struct{}) (*streamOutput, error) {
	return &streamOutput{func(ctx huma.Context) {
		r, w := humago.Unwrap(ctx)
		a.exposition().ServeHTTP(w, r)
	}}, nil
}
