package api

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/redisopt/redisopt/internal/runtime/ramp"
)

// A RampView is what the API knows of the ramp besides the control document. Ledger is required.
type RampView struct {
	// Ledger is where both sides, and the applications that decide for themselves, are counted.
	Ledger *ramp.Ledger

	// Configured is whether this replica has a second upstream, and SameDatabase whether both sides are
	// ways to one database.
	Configured, SameDatabase bool

	// Staying are the rules whose subjects stay on the old side; may be nil.
	Staying func() []RampStaying

	// Former are the rules that read a former limiter's sets on the old side; may be nil.
	Former func() []RampStaying

	// Backlogs are what still has to be brought to each side; may be nil.
	Backlogs func() (old, next ramp.Backlog)
}

// A RampStaying is a rule of which something stays on the old side.
type RampStaying struct {
	Rule string `json:"rule"`
	Why  string `json:"why"`
}

// rampHash names how a key's place is found: 64-bit FNV-1a over the route, 0xff, the key, 0xff, mixed by
// MurmurHash3's finaliser, modulo 10,000.
const rampHash = "fnv1a64-fmix64/10000"

// A RampState is which share of each route's keys is on the new side.
type RampState struct {
	Epoch        int64         `json:"epoch" doc:"Counts the changes; 0 when there never was one"`
	Hash         string        `json:"hash" doc:"How a key's place is found; a client that does not know it stays on the old side"`
	Configured   bool          `json:"configured" doc:"This server has a second upstream, between which it divides its own cache and limits"`
	SameDatabase bool          `json:"same_database" doc:"Both of this server's sides are ways to one database"`
	Routes       []RampRoute   `json:"routes" nullable:"false"`
	Staying      []RampStaying `json:"staying" nullable:"false" doc:"Rules of limits whose subjects stay on the old side"`
	Former       []RampStaying `json:"former" nullable:"false" doc:"Rules of limits that go on reading a former limiter's sets on the old side, and what ends with that"`
}

// A RampRoute is one route.
type RampRoute struct {
	Name    string  `json:"name" doc:"cache and limit are this server's own; others are for applications"`
	Percent float64 `json:"percent" doc:"Keys on the new side, 0 while a kill switch of the route's name is thrown"`
	Mirror  float64 `json:"mirror_percent" doc:"Keys written on both sides"`
	Shadow  float64 `json:"shadow_percent" doc:"Reads of the old side that are compared, and of limit the checks that ask it"`
	Killed  bool    `json:"killed"`
}

type rampInput struct {
	IfNoneMatch string `header:"If-None-Match"`
	Accept      string `header:"Accept" doc:"text/event-stream has every change sent as it happens, as an event named ramp"`
}

func (a *API) rampRoutes(h huma.API) {
	get := a.operation("ramp-get", http.MethodGet, "/v1/ramp", "control", "Which share of keys is on the new side", ScopeControlRead,
		"For applications that divide their keys themselves. Answered from memory: costs no command. The ETag changes with the answer; "+
			"If-None-Match answers 304. With Accept: text/event-stream the connection stays open: the state is sent at once and after every change, and a comment every 15 s.")
	get.Responses["304"] = &huma.Response{Description: "As the If-None-Match header says"}
	get.Responses["200"] = &huma.Response{
		Description: "The state, or with Accept: text/event-stream every one from now on",
		Headers:     map[string]*huma.Param{"ETag": {Schema: &huma.Schema{Type: huma.TypeString}}},
		Content: map[string]*huma.MediaType{
			"application/json":  {Schema: schemaOf[RampState](h)},
			"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}},
		},
	}
	huma.Register(h, withErrors(get, http.StatusNotFound), a.rampGet)
	a.rampStatsRoutes(h)
}

// wantsEvents is whether a request is for the stream of changes.
func wantsEvents(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.Path == "/v1/ramp" && acceptsEvents(r.Header.Get("Accept"))
}

func acceptsEvents(accept string) bool { return strings.Contains(accept, "text/event-stream") }

// rampState is what is in force here.
func (a *API) rampState() RampState {
	d := a.opts.Control.Current()
	v := a.opts.Ramp
	out := RampState{
		Epoch: d.Epoch, Hash: rampHash, Configured: v.Configured, SameDatabase: v.SameDatabase,
		Routes: []RampRoute{}, Staying: []RampStaying{}, Former: []RampStaying{},
	}
	if v.Staying != nil {
		out.Staying = append(out.Staying, v.Staying()...)
	}
	if v.Former != nil {
		out.Former = append(out.Former, v.Former()...)
	}
	names := map[string]bool{ramp.Cache: true, ramp.Limit: true}
	for name := range d.Ramps {
		for _, suffix := range []string{ramp.Mirror(""), ramp.Shadow("")} {
			name = strings.TrimSuffix(name, suffix)
		}
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		r := RampRoute{Name: name, Percent: d.Ramps[name], Mirror: d.Ramps[ramp.Mirror(name)], Shadow: d.Ramps[ramp.Shadow(name)], Killed: d.Killed(name)}
		if r.Killed {
			r.Percent = 0
		}
		out.Routes = append(out.Routes, r)
	}
	return out
}

// rampText is the state as it is sent, with its tag.
func (a *API) rampText() (text []byte, tag string) {
	text, err := json.Marshal(a.rampState())
	if err != nil {
		text = []byte("{}") // numbers and strings always have a JSON form
	}
	return text, etag(text)
}

func (a *API) rampGet(_ context.Context, in *rampInput) (*huma.StreamResponse, error) {
	if a.opts.Control == nil || a.opts.Ramp == nil {
		return nil, notEnabled("the ramp")
	}
	if acceptsEvents(in.Accept) {
		return &huma.StreamResponse{Body: a.rampEvents}, nil
	}
	text, tag := a.rampText()
	if matches(in.IfNoneMatch, tag) {
		return nil, notModified(http.Header{"Etag": {tag}, "Cache-Control": {revalidate}})
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", "application/json")
		ctx.SetHeader("ETag", tag)
		ctx.SetHeader("Cache-Control", revalidate)
		ctx.SetStatus(http.StatusOK)
		_, _ = ctx.BodyWriter().Write(append(text, '\n'))
	}}, nil
}

// The stream of changes: how often it says that it is still there, and how long one message may take to
// be taken by the client.
const (
	rampBeat  = 15 * time.Second
	rampWrite = 10 * time.Second
)

// rampEvents sends the state now and after every change, until the client leaves or the server stops.
func (a *API) rampEvents(ctx huma.Context) {
	r, w := humago.Unwrap(ctx)
	connection := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("X-Accel-Buffering", "no")
	send := func(text string) bool {
		_ = connection.SetWriteDeadline(time.Now().Add(rampWrite)) // instead of that of a whole request
		_, err := w.Write([]byte(text))
		return err == nil && connection.Flush() == nil
	}
	beat := time.NewTicker(rampBeat)
	defer beat.Stop()
	last := ""
	for {
		changed := a.opts.Control.Changed()
		if text, tag := a.rampText(); tag != last {
			last = tag
			if !send(fmt.Sprintf("id: %s\nevent: ramp\ndata: %s\n\n", strings.Trim(tag, `"`), text)) {
				return
			}
		}
		select {
		case <-r.Context().Done():
			return
		case <-a.stop.Done():
			return
		case <-changed:
		case <-beat.C:
			if !send(": still here\n\n") {
				return
			}
		}
	}
}
