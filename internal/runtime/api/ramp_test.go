package api

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/control"
	"github.com/redisopt/redisopt/internal/runtime/ramp"
)

// ramped is an API whose control document is set by the test, and which has no upstream.
func ramped(t *testing.T) (*API, *control.Control, *ramp.Ledger) {
	t.Helper()
	c, l := openControl(t, unreachable(t), ""), ramp.NewLedger()
	return newAPI(t, Options{Control: c, Ramp: &RampView{Ledger: l}, Tokens: tokens()}), c, l
}

func TestTheRampIsReadConditionallyAndWithoutTheUpstream(t *testing.T) {
	t.Parallel()
	a, c, _ := ramped(t)
	if err := c.Override(control.Document{Ramps: map[string]float64{"cache": 5, "cache.mirror": 100, "app": 25, "app.shadow": 10}, Kill: []string{"app"}}); err != nil {
		t.Fatal(err)
	}
	read := bearer(secret(ScopeControlRead))
	r := ask(t, a, call{path: "/v1/ramp", header: read})
	got := decode[RampState](t, r, http.StatusOK)
	want := []RampRoute{{Name: "app", Shadow: 10, Killed: true}, {Name: "cache", Percent: 5, Mirror: 100}, {Name: "limit"}}
	if len(got.Routes) != 3 || got.Routes[0] != want[0] || got.Routes[1] != want[1] || got.Routes[2] != want[2] {
		t.Errorf("routes = %+v, want %+v", got.Routes, want)
	}
	tag := r.Header.Get("ETag")
	again := ask(t, a, call{path: "/v1/ramp", header: map[string]string{"Authorization": read["Authorization"], "If-None-Match": tag}})
	if tag == "" || again.StatusCode != http.StatusNotModified || again.body != "" {
		t.Errorf("with the ETag %s: %d %q, want 304 without a body", tag, again.StatusCode, again.body)
	}
	if err := c.Override(control.Document{Ramps: map[string]float64{"cache": 25}}); err != nil {
		t.Fatal(err)
	}
	if r := ask(t, a, call{path: "/v1/ramp", header: map[string]string{"Authorization": read["Authorization"], "If-None-Match": tag}}); r.StatusCode != http.StatusOK {
		t.Errorf("after a change: %d, want the new state", r.StatusCode)
	}
}

// stream opens the stream of changes and returns a way to its next state.
func stream(ctx context.Context, t *testing.T, addr string) (next func() RampState, code int) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/v1/ramp", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Authorization", "Bearer "+secret(ScopeControlRead))
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	lines := bufio.NewScanner(answer.Body)
	return func() RampState {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var s RampState
				if err := json.Unmarshal([]byte(data), &s); err != nil {
					t.Fatal(err)
				}
				return s
			}
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return RampState{}
	}, answer.StatusCode
}

func TestTheStreamHasEveryChangeAndEndsWithTheServer(t *testing.T) {
	t.Parallel()
	a, c, _ := ramped(t)
	addr, stop := start(t, a)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	next, code := stream(ctx, t, addr)
	if code != http.StatusOK {
		t.Fatalf("status %d", code)
	}
	if s := next(); len(s.Routes) != 2 || s.Routes[0].Percent != 0 {
		t.Errorf("first = %+v, want the state as it is", s)
	}
	for _, percent := range []float64{1, 100, 0} {
		if err := c.Override(control.Document{Ramps: map[string]float64{"cache": percent}}); err != nil {
			t.Fatal(err)
		}
		for s := next(); s.Routes[0].Percent != percent; s = next() {
			t.Logf("still %v", s.Routes[0].Percent)
		}
	}
	if err := stop(); err != nil { // it does not wait for those who listen
		t.Errorf("stop with a stream open: %v", err)
	}
}

func TestAReportOfAnApplicationIsEvidence(t *testing.T) {
	t.Parallel()
	a, c, l := ramped(t)
	if err := c.Override(control.Document{Ramps: map[string]float64{"app": 5}}); err != nil {
		t.Fatal(err)
	}
	write := bearer(secret(ScopeCacheWrite))
	post := func(body string) answer {
		return ask(t, a, call{method: http.MethodPost, path: "/v1/ramp/report", body: body, header: write})
	}
	r := post(`{"route":"app","compared":{"match":40,"differs":2,"type":1},"old":{"calls":90,"hits":80,"misses":10,"took_ms":[1,1,2]},` +
		`"new":{"calls":5,"errors":1,"hits":4,"fell_back":1,"took_ms":[20]},"answers_ms":[1,2,20],"examples":[{"class":"type","key":"user:…#1a2b3c4d"}]}`)
	if r.StatusCode != http.StatusOK {
		t.Fatalf("report = %d: %s", r.StatusCode, r.body)
	}
	got := decode[RampStats](t, ask(t, a, call{path: "/v1/ramp/stats", header: bearer(secret(ScopeControlRead))}), http.StatusOK)
	if len(got.Routes) != 1 || len(got.Examples) != 1 {
		t.Fatalf("stats = %+v, want the route and the example", got)
	}
	app := got.Routes[0]
	if app.Old.Calls != 90 || app.Old.Hits != 80 || app.New.Errors != 1 || app.New.FellBack != 1 || app.Differences != 3 || app.Answers != 3 ||
		app.New.Samples != 1 || app.New.P95 < 19 || app.New.P95 > 21 {
		t.Errorf("stats of the route = %+v", app)
	}
	for what, body := range map[string]string{
		"a route that nobody ramps":    `{"route":"other","compared":{"match":1}}`,
		"a class that there is not":    `{"route":"app","compared":{"fine":1}}`,
		"a negative count":             `{"route":"app","compared":{"match":-1}}`,
		"a key that can be read":       `{"route":"app","examples":[{"class":"type","key":"user:42:mail"}]}`,
		"a field that there is not":    `{"route":"app","mismatch":1}`,
		"more calls than can be meant": `{"route":"app","old":{"calls":9000000000}}`,
	} {
		if r := post(body); r.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("%s = %d, want 422: %s", what, r.StatusCode, r.body)
		}
	}
	if n := l.Totals()["app"].Compared[ramp.Match]; n != 40 {
		t.Errorf("%d matches after what was refused, want 40", n)
	}
	if r := ask(t, a, call{path: "/v1/ramp/stats?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", header: bearer(secret(ScopeControlRead))}); r.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("from after to = %d, want 422", r.StatusCode)
	}
}
