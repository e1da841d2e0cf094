package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// A flaky upstream fails as long as err is set, and counts what it is asked.
type flaky struct {
	asked    atomic.Int64
	failures atomic.Int64
	mu       sync.Mutex
	err      error
}

func (f *flaky) write(context.Context) error {
	f.asked.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *flaky) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func TestLivenessAsksNobody(t *testing.T) {
	t.Parallel()
	up := &flaky{}
	a := newAPI(t, Options{Tokens: tokens(), Embedded: true, Version: "1.2.3", Probes: []Probe{{Name: "cache", Write: up.write}}})
	h := decode[Health](t, ask(t, a, call{path: "/healthz"}), http.StatusOK)
	if want := (Health{Status: "ok", Embedded: true, Version: "1.2.3"}); h != want {
		t.Errorf("healthz = %+v, want %+v", h, want)
	}
	if n := up.asked.Load(); n != 0 {
		t.Errorf("the upstream was asked %d times", n)
	}
	if r := ask(t, a, call{method: http.MethodHead, path: "/healthz"}); r.StatusCode != http.StatusOK {
		t.Errorf("HEAD /healthz = %d, want 200", r.StatusCode)
	}
}

func TestReadinessSeesThatWritesFailWhileAPingIsGreen(t *testing.T) {
	t.Parallel()
	server, err := embedded.Start(t.Context(), embedded.Options{Plan: embedded.Plan{MonthlyCommands: 3}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	client := newClient(server.Addr())
	defer func() { _ = client.Close() }()
	for range 5 {
		_ = client.Get(t.Context(), "k").Err() // the quota of this plan is 3
	}
	a := newAPI(t, Options{ProbeTimeout: patience, Probes: []Probe{{Name: "cache", Transport: "tcp", Write: WriteTest(client, "redisopt:ready")}}})
	r := ask(t, a, call{path: "/readyz"})
	got := decode[Readiness](t, r, http.StatusServiceUnavailable)
	if got.Ready || len(got.Upstreams) != 1 || got.Upstreams[0].Class != string(upstream.Quota) || got.Upstreams[0].Cause != "the plan's command quota is used up" {
		t.Errorf("readyz = %s, want not ready because of the quota", r.body)
	}
}

func TestProbesCostABoundedNumberOfCommands(t *testing.T) {
	t.Parallel()
	const month = 30 * 24 * time.Hour
	for name, tt := range map[string]struct {
		err  error
		most int64
	}{
		"while all is well":       {nil, 8640},
		"while nothing is":        {errors.New("down"), 43200 + 10},
		"while errors trickle in": {nil, 43200 + 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				up := &flaky{err: tt.err}
				p := Probe{Name: "cache", Write: up.write}
				if strings.Contains(name, "trickle") {
					p.Failures = func() int64 { return up.failures.Add(1) }
				}
				ready := newReadiness([]Probe{p}, time.Second)
				const part = 60 // a sixtieth of a month, for the time it takes
				for begun := time.Now(); time.Since(begun) < month/part; time.Sleep(5 * time.Second) {
					ready.check(t.Context())
				}
				if n := up.asked.Load() * part; n > tt.most+part*10 {
					t.Errorf("asked every 5 s, a month of probes costs %d commands, want at most %d", n, tt.most)
				}
			})
		})
	}
}

func TestReadinessNoticesOutagesAndRecovery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := &flaky{}
		a := newAPI(t, Options{Probes: []Probe{{Name: "cache", Write: up.write, Failures: up.failures.Load}}})
		status := func() int { return ask(t, a, call{path: "/readyz"}).StatusCode }
		if got := status(); got != 200 {
			t.Fatalf("at the start = %d, want 200", got)
		}
		up.set(errors.New("down"))
		time.Sleep(2 * time.Minute)
		if got := status(); got != 200 {
			t.Errorf("2 minutes into an outage without traffic = %d, want the last result", got)
		}
		up.failures.Add(1) // traffic fails
		if got := status(); got != 503 {
			t.Errorf("once traffic failed = %d, want 503", got)
		}
		up.set(nil)
		if got := status(); got != 503 {
			t.Errorf("at once after the recovery = %d, want the last result", got)
		}
		time.Sleep(firstRetry)
		if got := status(); got != 200 {
			t.Errorf("5 s after the recovery = %d, want 200", got)
		}
	})
}

func TestManyProbesAtOnceAreOneTest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		ready := newReadiness([]Probe{{Name: "slow", Write: func(ctx context.Context) error {
			asked.Add(1)
			<-ctx.Done()
			return ctx.Err()
		}}}, time.Second)
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if got := ready.check(t.Context()); got[0].err == nil {
					t.Error("a test that timed out counts as good")
				}
			})
		}
		all.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("100 probes at once made %d tests, want 1", n)
		}
	})
}

func TestAProbeThatGoesAwayDoesNotSpoilTheTest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		ready := newReadiness([]Probe{{Name: "slow", Write: func(ctx context.Context) error {
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}}, time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		go ready.check(ctx)
		synctest.Wait()
		cancel()
		close(release)
		synctest.Wait()
		if got := ready.check(t.Context()); got[0].err != nil {
			t.Errorf("after the first probe went away: %v, want the write to have counted", got[0].err)
		}
	})
}

func TestAnOptionalUpstreamIsShownAndDoesNotDecide(t *testing.T) {
	t.Parallel()
	down := &flaky{err: errors.New("dial tcp 10.1.2.3:6379: connect: connection refused")}
	a := newAPI(t, Options{Tokens: tokens(), Probes: []Probe{
		{Name: "cache", Transport: "rest", Optional: true, Write: down.write},
		{Name: "queue", Transport: "tcp", Write: (&flaky{}).write},
	}})
	r := ask(t, a, call{path: "/readyz"})
	got := decode[Readiness](t, r, http.StatusOK)
	if !got.Ready || got.Upstreams[0].Ready || !got.Upstreams[1].Ready {
		t.Errorf("readyz = %s, want ready with one upstream down", r.body)
	}
	if strings.Contains(r.body, "10.1.2.3") || got.Upstreams[0].Cause == "" {
		t.Errorf("readyz for anybody = %s, want the cause and no address", r.body)
	}
	if r := ask(t, a, call{path: "/readyz", header: bearer(secret(ScopeMetrics))}); !strings.Contains(r.body, "10.1.2.3") {
		t.Errorf("readyz with a token = %s, want the error", r.body)
	}
	if r := ask(t, a, call{path: "/readyz", header: bearer("guessed")}); r.StatusCode != 200 || strings.Contains(r.body, "10.1.2.3") {
		t.Errorf("readyz with a wrong token = %d %s, want what anybody sees", r.StatusCode, r.body)
	}
}

func TestEveryClassHasACause(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range []upstream.Class{
		upstream.TLSMismatch, upstream.TLSUntrusted, upstream.Refused, upstream.Reset, upstream.Auth, upstream.Permission, upstream.Quota,
		upstream.RequestSize, upstream.Capacity, upstream.ConnectionLimit, upstream.Timedout, upstream.DNS, upstream.NotRedis, upstream.Unavailable,
		upstream.Loading, upstream.Spend, upstream.ReadOnly, upstream.BadOptions, upstream.Server, upstream.Unknown,
	} {
		text := cause(c)
		if text == "" || seen[text] {
			t.Errorf("cause(%s) = %q, want words of its own", c, text)
		}
		seen[text] = true
	}
}
