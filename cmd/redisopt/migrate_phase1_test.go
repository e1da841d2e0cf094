package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate/replica"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// A move1 is two Redises, two replicas of serve between them, and traffic.
type move1 struct {
	t        *testing.T
	old, new *redistest.Server
	replicas [2]*served
	env      []string
	dir      string

	stop    chan struct{}
	traffic sync.WaitGroup
	wrong   atomic.Int64 // reads of something else than what was written
	refused atomic.Int64 // answers other than 200 and 404
}

func newMove1(t *testing.T) *move1 {
	t.Helper()
	m := &move1{t: t, old: redistest.Start(t), new: redistest.Start(t), dir: t.TempDir(), stop: make(chan struct{})}
	file := filepath.Join(m.dir, "redisopt.yaml")
	if err := os.WriteFile(file, []byte("cache:\n  l1_bytes: 0\n  deadline: 5s\nlimits:\n  deadline: 5s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.env = []string{"REDIS_URL=" + m.old.URL(), "REDISOPT_RAMP_URL=" + m.new.URL(), "REDISOPT_TOKEN=secret"}
	var urls []string
	for i := range m.replicas {
		m.replicas[i] = startServe(t, append(m.env, fmt.Sprint("REDISOPT_REPLICA=r", i)), "--config", file)
		urls = append(urls, m.replicas[i].API)
	}
	m.env = append(m.env, "REDISOPT_REPLICAS="+strings.Join(urls, ","), "XDG_STATE_HOME="+m.dir)
	t.Cleanup(m.end)
	return m
}

// use has each replica write, read and limit until the end.
func (m *move1) use() {
	for i, r := range m.replicas {
		m.traffic.Go(func() {
			may := map[string][]string{} // by key: what was stored last, and what was tried since
			for n := 0; ; n++ {
				select {
				case <-m.stop:
					return
				default:
				}
				key, value := fmt.Sprintf("user:%d-%d", i, n%50), fmt.Sprintf(`"%d"`, n)
				may[key] = append(may[key], value)
				if stored(m.answer(http.MethodPut, r.API+"/v1/cache/keys/"+key, value)) {
					may[key] = []string{value}
				}
				if got := m.ask(http.MethodGet, r.API+"/v1/cache/keys/"+key, ""); got != "" && !slices.Contains(may[key], got) {
					m.wrong.Add(1)
				}
				m.ask(http.MethodPost, r.API+"/v1/limit/check", fmt.Sprintf(`{"rule":"api","subject":{"user":"u%d"}}`, n%5))
			}
		})
	}
}

// ask is the body of an answer of 200, empty for any other.
func (m *move1) ask(method, url, body string) string {
	status, text := m.answer(method, url, body)
	if status != http.StatusOK {
		return ""
	}
	return text
}

// answer is the answer to one request; its status is 0 when there was none.
func (m *move1) answer(method, url, body string) (status int, text string) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(m.t.Context()), method, url, strings.NewReader(body))
	if err != nil {
		m.t.Error(err)
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
	if answer.StatusCode >= 400 && answer.StatusCode != http.StatusNotFound {
		m.refused.Add(1)
	}
	var all bytes.Buffer
	_, _ = all.ReadFrom(answer.Body)
	return answer.StatusCode, strings.TrimSpace(all.String())
}

func (m *move1) end() {
	select {
	case <-m.stop:
	default:
		close(m.stop)
	}
	m.traffic.Wait()
}

// run is the program, as an operator runs it.
func (m *move1) run(args ...string) (out, errs string, code int) {
	m.t.Helper()
	path, err := exec.LookPath("redisopt")
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Dir = append([]string{"PATH=" + filepath.Dir(path)}, m.env...), m.dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run() // its exit code says how it ended
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// percent is what a replica has of a route on the new side.
func (m *move1) percent(replica int, route string) float64 {
	var s struct {
		Routes []struct {
			Name    string
			Percent float64
		}
	}
	if err := json.Unmarshal([]byte(m.ask(http.MethodGet, m.replicas[replica].API+"/v1/ramp", "")), &s); err != nil {
		m.t.Fatal(err)
	}
	for _, r := range s.Routes {
		if r.Name == route {
			return r.Percent
		}
	}
	return 0
}

func (m *move1) wantEverywhere(percent float64, when string) {
	m.t.Helper()
	for i := range m.replicas {
		if c, l := m.percent(i, "cache"), m.percent(i, "limit"); c != percent || l != percent {
			m.t.Errorf("%s: replica %d has %v%% of the cache and %v%% of the limits on the new side, want %v%%", when, i, c, l, percent)
		}
	}
}

// TestPhase1OfTwoReplicasUnderTraffic goes there and back, there again until a gate fails, and back without
// any Redis, with the program and two replicas as they are deployed.
func TestPhase1OfTwoReplicasUnderTraffic(t *testing.T) {
	t.Parallel()
	m := newMove1(t)
	m.use()
	forward := []string{
		"migrate", "phase1", "--ramp", "5,50,100", "--step", "1s", "--soak", "1s", "--shadow", "50", "--min-samples", "5",
		"--min-hit-rate", "1", "--max-p95-increase", "-1", "--yes", "-o", "json",
		// On a machine that stands still for a second a few calls have no answer in time, and a write takes longer to
		// the other side than a comparison waits. What is read is looked at here, by those who wrote it.
		"--max-errors", "50", "--max-differences", "1000",
	}
	out, errs, code := m.run(append(forward, "--dry-run")...)
	if code != 0 || !strings.Contains(out, `"phase1.ramp-50"`) || !strings.Contains(errs, ", 0 writes") {
		t.Fatalf("the plan: exit %d\n%s%s", code, out, errs)
	}
	if out, errs, code = m.run(forward...); code != 0 || !strings.Contains(out, `"complete"`) {
		t.Fatalf("phase 1: exit %d\n%s%s", code, out, errs)
	}
	m.wantEverywhere(100, "after phase 1")

	began := time.Now()
	if out, errs, code = m.run("rollback", "phase1", "--reason", "test", "--yes", "-o", "json"); code != 0 {
		t.Fatalf("rollback: exit %d\n%s%s", code, out, errs)
	}
	took := time.Since(began)
	m.wantEverywhere(0, "after the rollback")
	if took > 10*time.Second {
		t.Errorf("the rollback took %s, want under 10 s on the whole fleet", took)
	}
	t.Logf("rollback of two replicas under traffic, the program's start included: %s", took.Round(time.Millisecond))

	// What a former attempt left on the new side is found, and removed only when that is said.
	if out, errs, code = m.run(forward...); code != 7 || !strings.Contains(errs, "--clear-new") {
		t.Fatalf("a second time: exit %d, want 7 and what to do\n%s%s", code, out, errs)
	}
	// A new side that dies under the soak: the gate fails, and everything goes back by itself.
	died := make(chan struct{})
	go func() {
		defer close(died)
		deadline := time.Now().Add(time.Minute)
		for m.percent(0, "cache") < 50 && time.Now().Before(deadline) {
			<-time.After(20 * time.Millisecond)
		}
		m.new.Kill(t)
	}()
	out, errs, code = m.run(append(forward, "--clear-new", "--auto-rollback", "--ramp", "50,100", "--step", "8s")...)
	if <-died; code != 9 || !strings.Contains(errs, "new_side_errors") {
		t.Fatalf("with a new side that dies: exit %d, want 9\n%s%s", code, out, errs)
	}
	m.wantEverywhere(0, "after the gate failed")
	m.end()
	if n := m.wrong.Load(); n > 0 {
		t.Errorf("%d reads had something else than what was written", n)
	}
	t.Logf("%d answers were refused while the new side was down", m.refused.Load())
}

func TestAnEmergencyTakesAllKeysBackWithoutARedis(t *testing.T) {
	t.Parallel()
	m := newMove1(t)
	for i := range m.replicas {
		m.ask(http.MethodPost, m.replicas[i].API+"/v1/control", `{"ramps":{"cache":100,"limit":100,"cache.mirror":100},"reason":"test"}`)
	}
	m.wantEverywhere(100, "before")
	m.old.Kill(t)
	m.new.Kill(t)
	if out, errs, code := m.run("rollback", "phase1", "--yes"); code != 5 {
		t.Errorf("the ordinary way back without a Redis: exit %d, want 5\n%s%s", code, out, errs)
	}
	out, errs, code := m.run("rollback", "phase1", "--emergency", "--dry-run", "-o", "json")
	if code != 0 || !strings.Contains(out, `"dry_run": true`) {
		t.Errorf("the plan: exit %d\n%s%s", code, out, errs)
	}
	m.wantEverywhere(100, "after the plan")
	if _, errs, code = m.run("rollback", "phase1", "--emergency"); code != 2 || !strings.Contains(errs, "--yes") {
		t.Errorf("without a terminal: exit %d\n%s", code, errs)
	}
	began := time.Now()
	if out, errs, code = m.run("rollback", "phase1", "--emergency", "--reason", "both are down", "--yes", "-o", "json"); code != 0 {
		t.Fatalf("the emergency: exit %d\n%s%s", code, out, errs)
	}
	t.Logf("emergency of two replicas, the program's start included: %s", time.Since(began).Round(time.Millisecond))
	m.wantEverywhere(0, "after the emergency")
	_ = m.replicas[1].cmd.Process.Kill()
	if err := <-m.replicas[1].wait; err == nil {
		t.Error("a replica that was killed ended well")
	}
	m.replicas[1].wait <- nil
	if out, errs, code = m.run("rollback", "phase1", "--emergency", "--yes", "-o", "json"); code != 5 || !strings.Contains(out, `"done": false`) || !strings.Contains(errs, "1 replica of 2") {
		t.Errorf("with one replica gone: exit %d, want 5 and the replica named\n%s%s", code, out, errs)
	}
}

func TestTheDocumentOfAnEmergency(t *testing.T) {
	t.Parallel()
	doc := emergencyDocument("the Redis is down", false, []replica.Answer[replica.Ramp]{
		{URL: "http://10.0.0.7:8080", Said: replica.Ramp{Epoch: 7, Routes: []replica.Route{{Name: "cache"}, {Name: "limit"}}}},
		{URL: "http://10.0.0.8:8080", Err: errors.New("replica 10.0.0.8:8080: connection refused")},
	}, 42*time.Millisecond)
	for _, format := range report.Formats() {
		wantGolden(t, "rollback.emergency", format, doc)
	}
}
