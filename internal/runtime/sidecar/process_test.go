package sidecar

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// processEnv makes the test binary a sidecar of its own, with the file that it names, and leaseEnv has the leases of
// its jobs end so soon.
const (
	processEnv = "SIDECAR_TEST_PROCESS"
	leaseEnv   = "SIDECAR_TEST_LEASE"
)

func TestMain(m *testing.M) {
	if file := os.Getenv(processEnv); file != "" {
		os.Exit(process(file, os.Stdout, os.Stderr)) //nolint:forbidigo // the sidecar's own process
	}
	os.Exit(m.Run()) //nolint:forbidigo // a main function
}

// process serves until SIGTERM, and looks every second for jobs whose worker is gone.
func process(file string, out, logs io.Writer) int {
	fail := func(err error) int {
		_, _ = io.WriteString(logs, err.Error()+"\n")
		return 1
	}
	conf, err := config.Load(config.Sources{
		Env: os.LookupEnv, ReadFile: os.ReadFile, File: file,
		Flags: map[string]string{"listen": "127.0.0.1:0", "gateway-listen": "127.0.0.1:0", "state-dir": filepath.Dir(file)},
	})
	if err != nil {
		return fail(err)
	}
	lease := governor.DefaultLease
	if text := os.Getenv(leaseEnv); text != "" {
		if lease, err = time.ParseDuration(text); err != nil {
			return fail(err)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s, err := New(conf, Options{
		Log:     NewLogger(logs, "process", LevelOf(conf.Serve.LogLevel)),
		Started: func(s Started) { _ = json.NewEncoder(out).Encode(s) },
		govern: func(o *governor.Options) {
			o.Lease, o.Grace, o.Sweep, o.Follow, o.Announce = lease, time.Second, time.Second, time.Second, 500*time.Millisecond
		},
	})
	if err != nil {
		return fail(err)
	}
	if err := s.Run(ctx); err != nil {
		return fail(err)
	}
	return 0
}

// A spawned sidecar runs in a process of its own.
type spawned struct {
	Started
	cmd  *exec.Cmd
	logs *bytes.Buffer
}

func spawn(t *testing.T, server *redistest.Server, file string, env ...string) *spawned {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "redisopt.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &spawned{logs: &bytes.Buffer{}}
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), self)
	p.cmd.Env = append(append(os.Environ(), processEnv+"="+path, "REDIS_URL="+server.URL()), env...)
	p.cmd.Stderr = p.logs
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Logf("log of %d:\n%s", p.cmd.Process.Pid, p.logs)
		}
	})
	if err := json.NewDecoder(out).Decode(&p.Started); err != nil {
		_ = p.cmd.Process.Kill()
		t.Fatalf("it did not start: %v\n%s", err, p.logs)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return p
}

// An application takes jobs over HTTP and counts how often each began and ended.
type application struct {
	*httptest.Server

	mu      sync.Mutex
	began   map[string]int
	ended   map[string]int
	running int
	hold    chan struct{} // closed: jobs end after a moment
}

func newApplication(t *testing.T) *application {
	a := &application{began: map[string]int{}, ended: map[string]int{}, hold: make(chan struct{})}
	a.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // so that a client that is gone is noticed
		id := r.Header.Get("Redisopt-Job-Id")
		a.count(func() { a.began[id]++; a.running++ })
		defer a.count(func() { a.running-- })
		select {
		case <-a.hold:
		case <-r.Context().Done():
			return
		}
		moment := time.NewTimer(10 * time.Millisecond)
		defer moment.Stop()
		<-moment.C
		a.count(func() { a.ended[id]++ })
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *application) count(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

func (a *application) file(more string) string {
	return fmt.Sprintf("version: 1\nqueues:\n  push: {secret: %s}\n  list:\n    - {name: mail, mode: push, endpoint: '%s', concurrency: 5}\n%s", pushSecret, a.URL, more)
}

// add enqueues n jobs.
func add(t *testing.T, api string, from, n int) {
	t.Helper()
	jobs := make([]string, n)
	for i := range n {
		jobs[i] = fmt.Sprintf(`{"id":"job-%d"}`, from+i)
	}
	if out := post[struct{ Added int }](t, "http://"+api+"/v1/queues/mail/jobs/bulk", `{"jobs":[`+strings.Join(jobs, ",")+`]}`, 200); out.Added != n {
		t.Fatalf("added %d, want %d", out.Added, n)
	}
}

func TestJobsOfAKilledProcessAreTriedAgainAndNoneIsLost(t *testing.T) {
	t.Parallel()
	server, app := redistest.Start(t), newApplication(t)
	// Long enough to be extended before they end, with what asynq does every five seconds.
	first := spawn(t, server, app.file("serve: {replica: first}\n"), leaseEnv+"=12s")
	add(t, first.API, 0, 20)
	eventually(t, "five jobs run", func() (ok bool) {
		app.count(func() { ok = app.running == 5 })
		return ok
	})
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.cmd.Wait()
	killed := time.Now()
	look := server.Client(t)
	eventually(t, "the leases have ended", func() bool {
		last := look.ZRevRangeWithScores(t.Context(), "asynq:{mail}:lease", 0, 0).Val()
		return len(last) == 1 && float64(time.Now().Unix()) > last[0].Score+1
	})
	close(app.hold)
	second := spawn(t, server, app.file("serve: {replica: second}\n"))
	eventually(t, "all jobs have ended", func() (ok bool) {
		app.count(func() { ok = len(app.ended) == 20 })
		return ok
	})
	t.Logf("all of 20 jobs ended %s after kill -9, with leases of 12 s", time.Since(killed).Round(time.Millisecond))
	app.mu.Lock()
	defer app.mu.Unlock()
	again := 0
	for id, n := range app.began {
		if n == 2 {
			again++
		}
		if n > 2 || app.ended[id] != 1 {
			t.Errorf("%s began %d times and ended %d times, want at most 2, and 1", id, n, app.ended[id])
		}
	}
	if again != 5 {
		t.Errorf("%d jobs ran again, want the 5 of the killed process", again)
	}
	if err := second.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := second.cmd.Wait(); err != nil {
		t.Errorf("the second one ended with %v, want exit code 0", err)
	}
}

func TestASidecarThatIsTerminatedUnderLoadLosesNoJobAndRunsNoneTwice(t *testing.T) {
	const jobs = 400
	server, app := redistest.Start(t), newApplication(t)
	close(app.hold)
	first := spawn(t, server, app.file("serve: {replica: first}\n"))
	second := spawn(t, server, app.file("serve: {replica: second}\n"))
	for i := range jobs / 100 {
		add(t, first.API, 100*i, 100)
	}
	ended := func() (n int) {
		app.count(func() { n = len(app.ended) })
		return n
	}
	eventually(t, "some jobs have ended", func() bool { return ended() > 20 })
	if err := first.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := first.cmd.Wait(); err != nil {
		t.Errorf("it ended with %v, want exit code 0", err)
	}
	t.Logf("terminated with %d of %d jobs done", ended(), jobs)
	eventually(t, "all jobs have ended", func() bool { return ended() == jobs })
	app.mu.Lock()
	defer app.mu.Unlock()
	for id, n := range app.began {
		if n != 1 {
			t.Errorf("%s ran %d times", id, n)
		}
	}
	if err := second.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := second.cmd.Wait(); err != nil {
		t.Errorf("the second one ended with %v, want exit code 0", err)
	}
}

// The examples of deploy/workers run against a whole sidecar.
func TestExampleWorkersRunTheJobsOfASidecar(t *testing.T) {
	t.Parallel()
	for _, language := range []struct{ name, program, dir, ext string }{{"Node", "node", "node", ".mjs"}, {"Python", "python3", "python", ".py"}} {
		t.Run(language.name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(language.program); err != nil {
				t.Skipf("needs %s on PATH", language.program)
			}
			example := func(name string) string {
				path, err := filepath.Abs(filepath.Join("..", "..", "..", "deploy", "workers", language.dir, name+language.ext))
				if err != nil {
					t.Fatal(err)
				}
				return path
			}
			receiver := begin(t, language.program, []string{example("receiver")}, "PORT=0", "REDISOPT_PUSH_SECRETS="+pushSecret)
			port, err := strconv.Atoi(strings.TrimPrefix(receiver(), "listening on "))
			if err != nil {
				t.Fatal(err)
			}
			file := fmt.Sprintf("version: 1\nqueues:\n  push: {secret: %s}\n  list:\n    - {name: pushed, mode: push, endpoint: 'http://127.0.0.1:%d/jobs'}\n    - {name: fetched, mode: lease}\n", pushSecret, port)
			r := run(t, configured(t, map[string]string{"REDISOPT_TOKEN": "worker-token-worker-token"}, file), Options{Embedded: true})
			begin(t, language.program, []string{example("worker"), "fetched"}, "REDISOPT_URL=http://"+r.API, "REDISOPT_TOKEN=worker-token-worker-token")
			token := []string{"Authorization", "Bearer worker-token-worker-token", "Content-Type", "application/json"}
			for _, name := range []string{"pushed", "fetched"} {
				at := "http://" + r.API + "/v1/queues/" + name + "/jobs"
				if code, body := ask(t, http.MethodPost, at, `{"id":"good","name":"echo","payload":{"userId":42}}`, token...); code != 201 {
					t.Fatalf("add: %d %s", code, body)
				}
				if code, body := ask(t, http.MethodPost, at, `{"id":"bad","name":"nothing","payload":1}`, token...); code != 201 {
					t.Fatalf("add: %d %s", code, body)
				}
				for id, want := range map[string]string{"good": `"state":"completed"`, "bad": `"state":"archived"`} {
					eventually(t, name+" "+id, func() bool {
						_, body := ask(t, http.MethodGet, at+"/"+id, "", token...)
						return strings.Contains(body, want) && (id == "bad" || strings.Contains(body, `"result":{"userId":42}`))
					})
				}
			}
		})
	}
}

// begin runs a program until the test ends, and returns what reads its first line.
func begin(t *testing.T, program string, args []string, env ...string) (first func() string) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, args...)
	cmd.Env = append(os.Environ(), env...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := errors.Join(cmd.Process.Kill(), cmd.Wait())
		if t.Failed() {
			t.Logf("%s: %v\n%s", args[0], err, &errs)
		}
	})
	return func() string {
		var line []byte
		for b := make([]byte, 1); ; {
			if _, err := out.Read(b); err != nil || b[0] == '\n' {
				return strings.TrimSpace(string(line))
			}
			line = append(line, b[0])
		}
	}
}
