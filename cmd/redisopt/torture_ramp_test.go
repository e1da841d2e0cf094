package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// rampRoute takes cache and limits of a replica in use to another server, share by share, or with reverse
// back again.
func rampRoute(reverse bool) func(*trial) scene {
	return func(tr *trial) scene {
		t := tr.t
		tr.other = redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
		tr.otherWire = newWire(t, tr.other.Addr)
		file := filepath.Join(tr.dir, "redisopt.yaml")
		if err := os.WriteFile(file, []byte("cache:\n  l1_bytes: 0\n  deadline: 5s\nlimits:\n  deadline: 5s\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		// The replica has ways of its own to both servers: the network that is cut is that of the migration.
		s := startServe(t, []string{
			"REDIS_URL=" + tr.server.URL(), "REDISOPT_RAMP_URL=" + tr.other.URL(), "REDISOPT_TOKEN=secret", hurried,
		}, "--config", file)
		tr.env = []string{"REDISOPT_RAMP_URL=" + tr.otherWire.url(), "REDISOPT_TOKEN=secret", "REDISOPT_REPLICAS=" + s.API}
		r := &readers{api: s.API, stop: make(chan struct{})}
		t.Cleanup(r.end)
		r.begin(t.Context())
		flags := []string{"--config", file, "--yes", "-o", "json"}
		sc := scene{
			command: slices.Concat([]string{"migrate", "phase1"}, flags, []string{
				"--ramp", "50,100", "--step", "1s", "--soak", "1s", "--shadow", "50", "--min-samples", "5", "--clear-new",
				"--min-hit-rate", "1", "--max-p95-increase", "-1",
				// On a busy machine a write can take longer to the other side than the gate has patience, and a few
				// calls have no answer in time. What is read is looked at here, by those who wrote it.
				"--max-differences", "1000", "--max-errors", "50",
			}),
			resume:  slices.Concat([]string{"migrate", "resume", "phase1"}, flags),
			back:    slices.Concat([]string{"rollback", "phase1"}, flags),
			journal: "redisopt:journal:{redisopt:phase1}",
		}
		look := func(percent float64) func() reckoning {
			return func() reckoning {
				out := r.account()
				for _, route := range []string{"cache", "limit"} {
					if got := r.percent(t, route); got != percent {
						out.add("%v%% of the %s are on the new side, want %v%%", got, route, percent)
					}
				}
				return out
			}
		}
		sc.there, sc.home = look(100), look(0)
		if reverse {
			sc.prepare, sc.command, sc.back = [][]string{sc.command}, sc.back, nil
			sc.there = sc.home
		}
		return sc
	}
}

// readers write keys of the cache and read them again, and take units of a limit, all the time.
type readers struct {
	api  string
	stop chan struct{}
	wait sync.WaitGroup

	mu    sync.Mutex
	wrong []string
	reads int
}

// begin has four of them write and read keys of their own until end.
func (r *readers) begin(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	for i := range 4 {
		r.wait.Go(func() {
			may := map[string][]string{} // by key: what was written last and acknowledged, and what was tried since
			for n := 0; ; n++ {
				select {
				case <-r.stop:
					return
				case <-time.After(time.Millisecond):
				}
				key, value := fmt.Sprintf("user:%d-%d", i, n%10), fmt.Sprintf(`"%d"`, n)
				may[key] = append(may[key], value)
				if stored(r.ask(ctx, http.MethodPut, "/v1/cache/keys/"+key, value)) {
					may[key] = []string{value}
				}
				status, got := r.ask(ctx, http.MethodGet, "/v1/cache/keys/"+key, "")
				r.mu.Lock()
				r.reads++
				if status == http.StatusOK && !slices.Contains(may[key], got) {
					r.wrong = append(r.wrong, fmt.Sprintf("%s is %s, want one of %v", key, got, may[key]))
				}
				r.mu.Unlock()
				r.ask(ctx, http.MethodPost, "/v1/limit/check", fmt.Sprintf(`{"rule":"api","subject":{"user":"u%d"}}`, n%5))
			}
		})
	}
}

// stored is whether the answer to a PUT says that the upstream has the value. While that is down a PUT is
// answered with 200 too, since a cache that cannot keep a value is no failure of who asks; its body says it.
func stored(status int, body string) bool {
	var w struct{ Stored bool }
	return status == http.StatusOK && json.Unmarshal([]byte(body), &w) == nil && w.Stored
}

// ask sends one request; its status is 0 when there was no answer.
func (r *readers) ask(ctx context.Context, method, path, body string) (status int, text string) {
	req, err := http.NewRequestWithContext(ctx, method, r.api+path, strings.NewReader(body))
	if err != nil {
		return 0, ""
	}
	req.Header.Set("Authorization", "Bearer secret")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = answer.Body.Close() }()
	var all bytes.Buffer
	_, _ = all.ReadFrom(answer.Body)
	return answer.StatusCode, strings.TrimSpace(all.String())
}

// percent is what the replica has of a route on the new side.
func (r *readers) percent(t *testing.T, route string) float64 {
	t.Helper()
	var s struct {
		Routes []struct {
			Name    string
			Percent float64
		}
	}
	_, text := r.ask(t.Context(), http.MethodGet, "/v1/ramp", "")
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	for _, one := range s.Routes {
		if one.Name == route {
			return one.Percent
		}
	}
	return 0
}

// account is what was wrong so far.
func (r *readers) account() reckoning {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := reckoning{wrong: slices.Clone(r.wrong)}
	if r.reads == 0 {
		out.add("nothing was read")
	}
	return out
}

func (r *readers) end() {
	select {
	case <-r.stop:
	default:
		close(r.stop)
	}
	r.wait.Wait()
}
