// Package api is the HTTP API of the sidecar: /v1/cache, /v1/limit, /v1/queues and /v1/control, health and readiness,
// metrics, and the OpenAPI document that describes all of it and is generated from the same code.
//
// Every request passes, in this order: a request id, a bound on how many are answered at once, the
// operation's scope, the token's own rate, the bound on its body, and a check that the body is what it
// says it is. Every error is a Problem that says what happened, on what, and what to do.
package api

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
)

// An API answers the requests. It is safe for concurrent use, starts nothing by itself and sends no
// command until it is asked something.
type API struct {
	opts      Options
	callers   atomic.Pointer[[]*caller] // by token; set anew as a whole
	anonymous *caller                   // used when no tokens are configured
	mux       *http.ServeMux
	handler   http.Handler // what of a request is checked before it is routed
	document  []byte       // the OpenAPI document
	registry  *prometheus.Registry
	traffic   *traffic
	ready     *readiness
	slots     chan struct{}       // one for each request being answered
	waiting   chan struct{}       // one for each that may wait, for a job for example
	bodies    *semaphore.Weighted // bytes of bodies held
	stopping  atomic.Bool
	stop      context.Context // ends when Serve is told to stop
	stopNow   context.CancelFunc
}

// New prepares an API. It sends no command and opens no listener.
func New(o Options) (*API, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	a := &API{
		opts:      o,
		anonymous: &caller{name: "anonymous", scopes: Scopes()},
		mux:       http.NewServeMux(),
		registry:  prometheus.NewRegistry(),
		slots:     make(chan struct{}, o.MaxInFlight),
		waiting:   make(chan struct{}, o.MaxWaiting),
		bodies:    semaphore.NewWeighted(max(o.MaxBodyBytesInFlight, o.MaxBodyBytes)),
	}
	a.stop, a.stopNow = context.WithCancel(context.Background())
	a.callers.Store(newCallers(o.Tokens, nil))
	a.ready = newReadiness(o.Probes, o.ProbeTimeout)
	if err := a.observe(); err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	if err := a.routes(); err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	a.handler = a.guard()
	return a, nil
}

// routes registers every operation and writes the document that describes them.
func (a *API) routes() error {
	config := huma.DefaultConfig("redisopt", a.opts.Version)
	// The pages that huma would add load scripts from elsewhere, and its schema links change bodies.
	config.OpenAPIPath, config.DocsPath, config.SchemasPath, config.CreateHooks = "", "", "", nil
	config.Formats = map[string]huma.Format{"application/json": jsonFormat(), "json": jsonFormat()}
	config.Transformers = []huma.Transformer{asProblem}
	config.RejectUnknownQueryParameters = true
	config.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	describe(config.OpenAPI)
	h := humago.New(a.mux, config)
	h.UseMiddleware(a.admit)

	a.cacheRoutes(h)
	a.limitRoutes(h)
	a.queueRoutes(h)
	a.scheduleRoutes(h)
	a.controlRoutes(h)
	a.rampRoutes(h)
	a.budgetRoutes(h)
	a.fleetRoutes(h)
	a.healthRoutes(h)
	return a.finishDocument(h.OpenAPI())
}

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info := &requestInfo{id: requestID(r.Header.Get("X-Request-Id")), start: time.Now()}
	rec := &recorder{ResponseWriter: w}
	head := rec.Header()
	head.Set("X-Request-Id", info.id)
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Cache-Control", "no-store")
	if a.opts.InstanceID != "" {
		head.Set("Redisopt-Instance", a.opts.InstanceID)
	}
	if a.opts.Embedded {
		head.Set("Redisopt-Embedded", "true")
	}
	r = r.WithContext(context.WithValue(r.Context(), requestKey{}, info))
	defer func() {
		if fault := recover(); fault != nil {
			a.opts.Log.Error("request_panicked", "request_id", info.id, "route", info.route, "fault", fmt.Sprint(fault))
			if rec.status == 0 {
				internal().write(rec, r)
			}
		}
		a.traffic.ended(r.Method, info.route, rec.status, time.Since(info.start))
	}()

	slots := a.slots
	if mayWait(r) {
		slots = a.waiting
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	default:
		overloaded("the server answers as many requests as it may at once").write(rec, r)
		return
	}
	a.handler.ServeHTTP(rec, r)
}

// mayWait is whether a request is of those that wait: they must not keep others from being answered.
func mayWait(r *http.Request) bool {
	return wantsEvents(r) || r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/v1/queues/") &&
		(strings.HasSuffix(r.URL.Path, "/lease") || strings.HasSuffix(r.URL.Path, "/drain"))
}

func overloaded(detail string) *problemError {
	return newProblem(http.StatusServiceUnavailable, "overloaded", "Overloaded", detail, "try again in a second, with fewer requests at once").
		with("Retry-After", "1")
}

// guard is what every request passes before it is routed. Where no tokens are configured, anybody who
// reaches the listener is let in, so what a browser on this machine was made to send by another site is
// kept out: requests to a name that is not this machine's (DNS rebinding), and changes from another
// origin.
func (a *API) guard() http.Handler {
	if a.guarded() {
		return http.HandlerFunc(a.route)
	}
	origin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := origin.Check(r); err != nil {
			newProblem(http.StatusForbidden, "cross_origin", "Not allowed", "a page of another origin sent this request and no tokens are configured",
				"configure a token, and send it").write(w, r)
			return
		}
		if !isLocal(r.Host) {
			newProblem(http.StatusMisdirectedRequest, "not_local", "Not for this server", "without tokens only requests to localhost are answered, and the Host header names another machine",
				"use http://127.0.0.1, or configure a token").write(w, r)
			return
		}
		a.route(w, r)
	})
}

// route hands the request to its operation, and answers those that have none.
func (a *API) route(w http.ResponseWriter, r *http.Request) {
	escaped := r.URL.EscapedPath()
	if clean := path.Clean(escaped); clean != escaped {
		newProblem(http.StatusNotFound, "not_found", "Not found", "the path is not in its shortest form",
			"write "+clip(clean)+", and / in a key as %2F").write(w, r)
		return
	}
	handler, pattern := a.mux.Handler(r)
	if pattern != "" {
		_, infoOf(r.Context()).route, _ = strings.Cut(pattern, " ")
		a.mux.ServeHTTP(w, r)
		return
	}
	// The mux answers 405 with the methods there are, or 404; only its headers are used.
	probe := &discard{header: http.Header{}}
	handler.ServeHTTP(probe, r)
	if probe.status == http.StatusMethodNotAllowed {
		allow := probe.header.Get("Allow")
		newProblem(http.StatusMethodNotAllowed, "method_not_allowed", "Method not allowed", clip(r.Method)+" is not possible here", "use "+allow).
			with("Allow", allow).write(w, r)
		return
	}
	newProblem(http.StatusNotFound, "not_found", "Not found", "there is nothing at "+clip(r.URL.Path),
		"GET /openapi.json lists what there is").write(w, r)
}

// clip makes what a client sent fit for an error.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return '?'
		}
		return r
	}, s)
	if len(s) > 100 {
		s = strings.ToValidUTF8(s[:100], "") + "…"
	}
	return s
}
