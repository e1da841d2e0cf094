package scenario_test

import (
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/bench/scenario"
	"github.com/redisopt/redisopt/internal/runtime/gateway"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// overREST is a Redis over HTTP alone, with TLS: our gateway in front of a server. The handler may answer in the
// gateway's place.
func overREST(t *testing.T, handler func(http.Handler) http.Handler) scenario.Target {
	t.Helper()
	behind := open(t, redistest.Start(t).URL())
	shared, err := behind.Upstream.Mux()
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New(gateway.Options{Mux: shared, Tokens: []gateway.Token{{Secret: "secret"}}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(handler(g))
	t.Cleanup(server.Close)
	roots := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	parts := &scenario.Parts{}
	up, err := upstream.Open(t.Context(), upstream.Options{
		REST: upstream.REST{URL: server.URL, Token: "secret"}, TLS: upstream.TLS{CAFile: roots}, Timed: parts.Record, Lazy: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = up.Close() })
	return scenario.Target{Upstream: up, Parts: parts}
}

func untouched(h http.Handler) http.Handler { return h }

func TestOverRESTCommandsAndThePartsOfTheTimeAreTold(t *testing.T) {
	const takes = 8 * time.Millisecond
	slow := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(takes):
			case <-r.Context().Done():
			}
			h.ServeHTTP(w, r)
		})
	}
	p := scenario.Plan{
		Target: overREST(t, slow), Scenarios: chosen(t, "cache-set", "limit-cold", "plain-rest", "legacy-limit"), Options: scenario.Options{Keys: 20}, Run: brief(100),
	}
	measured, err := scenario.Measure(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []float64{1, 4, 1, 4} {
		m := measured[i]
		if got := m.CommandsPerOperation(); got < want || got > want+0.2 { // a script may have to be sent first
			t.Errorf("%s costs %.2f commands over REST, want %g", m.Name, got, want)
		}
		requests := int64(1)
		if m.Name == "legacy-limit" {
			requests = 4
		}
		if got := m.Result.Server.Count(); got < requests*m.Result.Done {
			t.Errorf("%s: %d times of the server, want %d for each of %d operations", m.Name, got, requests, m.Result.Done)
		}
		if got := m.Result.Server.Mean(); got < takes {
			t.Errorf("%s: the server took %s, want the %s that it waits", m.Name, got, takes)
		}
		if got, all := m.Result.Server.Mean(), m.Result.Service.Mean(); got > all {
			t.Errorf("%s: the server took %s of %s", m.Name, got, all)
		}
	}
	first := measured[0].Result
	if n := first.Connect.Count(); n == 0 || n != first.TLS.Count() {
		t.Errorf("%d connections, %d handshakes; want as many, and at least one", n, first.TLS.Count())
	}
}

func TestWhatIsRefusedForComingTooOftenIsNoError(t *testing.T) {
	var n atomic.Int64
	throttling := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1)%2 == 0 {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusTooManyRequests)
				_, _ = fmt.Fprint(w, `{"error":"ERR too many requests"}`)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
	p := scenario.Plan{Target: overREST(t, throttling), Scenarios: chosen(t, "cache-set"), Options: scenario.Options{Keys: 5}, Run: brief(100), StopAtQuota: true}
	// One after the other: of many that come together, several in a row may be refused, and the cache asks no more then.
	p.Run.InFlight, p.Run.Pace.Duration = 1, time.Second
	measured, _ := scenario.Measure(t.Context(), p) // cleaning up may be refused too
	if len(measured) != 1 {
		t.Fatal("nothing was measured")
	}
	if r := measured[0].Result; r.Limited == 0 || r.Failed() > 0 || r.Stopped != "" {
		t.Errorf("limited %d, errors %v, stopped %q; want some limited, no errors, and the whole run", r.Limited, r.Errors, r.Stopped)
	}
}

func TestAPlanWhoseCommandsAreUsedUpEndsTheRun(t *testing.T) {
	var n atomic.Int64
	usedUp := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) > 20 {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusBadRequest)
				_, _ = fmt.Fprint(w, `{"error":"ERR max requests limit exceeded. Limit: 500000, Usage: 500001."}`)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
	for _, stop := range []bool{true, false} {
		n.Store(0)
		p := scenario.Plan{Target: overREST(t, usedUp), Scenarios: chosen(t, "cache-set", "cache-miss"), Options: scenario.Options{Keys: 5}, Run: brief(100), StopAtQuota: stop}
		if stop { // the run ends when the commands are used up: its duration is only how long that may take
			p.Run.InFlight, p.Run.Pace.Duration = 1, time.Minute
		}
		measured, err := scenario.Measure(t.Context(), p)
		if len(measured) == 0 || measured[0].Result.Done == 0 {
			t.Fatalf("stopping %v: %d scenarios, %v; want what was measured before", stop, len(measured), err)
		}
		r := measured[0].Result
		if stopped := r.Stopped != "" && r.Started < r.Planned; stopped != stop || upstream.Classify(err) != upstream.Quota && stop {
			t.Errorf("stopping %v: %d of %d started, stopped %q, errors %v, %v", stop, r.Started, r.Planned, r.Stopped, r.Errors, err)
		}
	}
}

func TestARunEndsWhenOthersUseUpTheBudget(t *testing.T) {
	target := open(t, redistest.Start(t).URL())
	var allowed atomic.Int64
	allowed.Store(1 << 40)
	p := scenario.Plan{
		Target: target, Scenarios: chosen(t, "cache-set", "cache-miss"), Options: scenario.Options{Keys: 5}, Run: brief(200), Allowed: allowed.Load,
	}
	var asked atomic.Int64
	p.Run.Stop = func() error {
		if asked.Add(1) == 40 {
			allowed.Store(30) // less than was spent already
		}
		return nil
	}
	measured, err := scenario.Measure(t.Context(), p)
	if !errors.Is(err, scenario.ErrNear) || len(measured) != 1 || measured[0].Result.Done == 0 || !strings.Contains(err.Error(), "operations: the budget is nearly used up") {
		t.Fatalf("Measure = %d scenarios, %v; want the first one in part, and ErrNear", len(measured), err)
	}
	nothingLeft(t, target)
}

func TestInTurnsEachSideHasItsCommandsItsTimesAndItsChecks(t *testing.T) {
	a, b := open(t, redistest.Start(t).URL()), overREST(t, untouched)
	a.Parts = &scenario.Parts{}
	run := bench.AlternateOptions{Pairs: 2, Run: brief(100)}
	x, err := scenario.Alternate(t.Context(), chosen(t, "legacy-limit")[0], a, b, scenario.Options{Keys: 20}, run)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range x.Sides {
		if got := m.CommandsPerOperation(); got < 4 || got > 4.1 || m.Broken != "" {
			t.Errorf("side %d: %.2f commands, broken %q; want 4 and none", i, got, m.Broken)
		}
		if got := m.Result.Server.Count(); got < 4*m.Result.Done {
			t.Errorf("side %d: %d times of the server for %d operations of four commands", i, got, m.Result.Done)
		}
	}
	if x.B.TLS.Count() == 0 || x.A.TLS.Count() != 0 {
		t.Errorf("%d handshakes of A and %d of B, want none and some", x.A.TLS.Count(), x.B.TLS.Count())
	}
	nothingLeft(t, a)
}
