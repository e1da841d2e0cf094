package sidecar

import (
	"context"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// looks is how often what a machine that is busy for a moment spoils is measured anew. What is slow by itself is so
// every time.
const looks = 5

// TestAnOutage takes the Redis away and brings it back. REDISOPT_OUTAGE=5m makes it last longer.
func TestAnOutage(t *testing.T) {
	server := redistest.Start(t)
	long := time.Second
	if text := os.Getenv("REDISOPT_OUTAGE"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		long = d
	}
	before := runtime.NumGoroutine()
	r := run(t, configured(t, map[string]string{"REDIS_URL": server.URL()}, ""), Options{})
	// One connection each, so that only the sidecar's own goroutines can grow.
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	timed := func(method, path, body string) (int, time.Duration) {
		t.Helper()
		req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, "http://"+r.API+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		begin := time.Now()
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(begin)
		_ = resp.Body.Close()
		return resp.StatusCode, took
	}
	read := func() (int, time.Duration) { return timed(http.MethodGet, "/v1/cache/keys/user:1", "") }
	write := func() (int, time.Duration) { return timed(http.MethodPut, "/v1/cache/keys/user:1", `"v"`) }
	check := func() (int, time.Duration) {
		return timed(http.MethodPost, "/v1/limit/check", `{"rule":"api","subject":{"user":"u"}}`)
	}
	for range 3 {
		if code, _ := write(); code >= 300 {
			t.Fatalf("before the outage: %d", code)
		}
		if code, _ := check(); code != 200 {
			t.Fatalf("before the outage: %d", code)
		}
	}

	server.Kill(t)
	var reads, checks, idle []time.Duration
	goroutines, heap := 0, uint64(0)
	at := func(all []time.Duration) time.Duration { return all[len(all)*95/100] }
	mostRead := func() time.Duration { return 150*time.Millisecond + 2*at(idle) }
	mostCheck := func() time.Duration { return 50*time.Millisecond + 2*at(idle) }
	for look := 1; ; look++ {
		reads, checks, idle = nil, nil, nil
		end := time.Now().Add(long)
		for i := 0; i < 100 || time.Now().Before(end); i++ {
			code, took := read()
			reads = append(reads, took)
			if code >= 500 {
				t.Errorf("cache read: %d", code)
			}
			// Each caller by another name, so that no memory of the limiter answers.
			_, took = timed(http.MethodPost, "/v1/limit/check", `{"rule":"api","subject":{"user":"u`+strings.Repeat("x", i%50)+`"}}`)
			checks = append(checks, took)
			_, took = timed(http.MethodGet, "/healthz", "") // asks nobody: what a request waits for on this machine
			idle = append(idle, took)
			if look == 1 && i == 20 {
				goroutines, heap = runtime.NumGoroutine(), heapInUse()
			}
		}
		slices.Sort(reads)
		slices.Sort(checks)
		slices.Sort(idle)
		if look == looks || at(reads) < mostRead() && at(checks) < mostCheck() {
			break
		}
		t.Logf("look %d: reads %s, checks %s, idle %s: the machine may have been busy for a moment", look, at(reads), at(checks), at(idle))
	}
	if got := at(reads); got >= mostRead() {
		t.Errorf("p95 of cache reads = %s, want below %s on this machine, 150ms on one that is not busy", got, mostRead())
	}
	if got := at(checks); got >= mostCheck() {
		t.Errorf("p95 of checks = %s, want below %s on this machine, 50ms on one that is not busy", got, mostCheck())
	}
	if now := runtime.NumGoroutine(); now > goroutines+20 {
		t.Errorf("%d goroutines, %d at the beginning of the outage", now, goroutines)
	}
	if now := heapInUse(); now > heap+32<<20 {
		t.Errorf("%d MiB of heap, %d MiB at the beginning of the outage", now>>20, heap>>20)
	}

	var took time.Duration
	for look := 1; ; look++ {
		server.Restart(t)
		back := time.Now()
		observer := server.Client(t)
		eventually(t, "a write succeeds again", func() bool {
			code, _ := write()
			return code < 300 && observer.Exists(t.Context(), "cache:user:1").Val() == 1
		})
		if took = time.Since(back); took <= 2*time.Second || look == looks {
			break
		}
		t.Logf("look %d: recovered after %s: the machine may have been busy for a moment", look, took)
		server.Kill(t)
		for range 10 { // until it is left alone, as before
			read()
			write()
		}
	}
	if took > 2*time.Second {
		t.Errorf("recovered after %s, want within 2s", took)
	}
	client.CloseIdleConnections()
	if err := r.stop(); err != nil {
		t.Errorf("Run = %v", err)
	}
	eventually(t, "nothing is left behind", func() bool { return runtime.NumGoroutine() <= before+1 }) // the log of the Redis
	t.Logf("%d rounds in %s: cache reads p95 %s, worst %s; checks p95 %s, worst %s; a request that asks nobody p95 %s; recovered after %s",
		len(reads), long, at(reads), reads[len(reads)-1], at(checks), checks[len(checks)-1], at(idle), took)
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}
