package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/redisopt/redisopt/internal/runtime/control"
	"github.com/redisopt/redisopt/internal/runtime/history"
	"github.com/redisopt/redisopt/internal/runtime/queue"
	"github.com/redisopt/redisopt/internal/runtime/sidecar"
	"github.com/redisopt/redisopt/internal/runtime/upstream/fleet"
)

// A served is one redisopt serve in a process of its own.
type served struct {
	serveData
	cmd  *exec.Cmd
	logs *bytes.Buffer
	wait chan error
}

// startServe runs the real program and waits for its document.
func startServe(t *testing.T, env []string, args ...string) *served {
	t.Helper()
	path, err := exec.LookPath("redisopt")
	if err != nil {
		t.Fatal(err)
	}
	s := &served{logs: &bytes.Buffer{}, wait: make(chan error, 1)}
	args = append([]string{"serve", "--listen", "127.0.0.1:0", "--gateway-listen", "127.0.0.1:0", "--state-dir", t.TempDir(), "-o", "json"}, args...)
	s.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), path, args...)
	s.cmd.Env = append([]string{"PATH=" + filepath.Dir(path)}, env...)
	s.cmd.Dir = t.TempDir()
	s.cmd.Stderr = s.logs
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Kind string
		Data serveData
	}
	decoder := json.NewDecoder(out)
	err = decoder.Decode(&doc)
	go func() {
		_, _ = io.Copy(io.Discard, out)
		s.wait <- s.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		s.wait <- <-s.wait
	})
	if err != nil || doc.Kind != "serve/v1" {
		_ = s.cmd.Process.Kill()
		ended := <-s.wait
		s.wait <- ended
		t.Fatalf("the document is of kind %q (%v); %v; stderr:\n%s", doc.Kind, err, ended, s.logs)
	}
	s.serveData = doc.Data
	return s
}

// terminate sends SIGTERM and returns the exit code.
func (s *served) terminate(t *testing.T) int {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-time.After(30 * time.Second):
		t.Fatal("it did not end within 30 s of SIGTERM")
	case err := <-s.wait:
		s.wait <- err
	}
	return s.cmd.ProcessState.ExitCode()
}

func request(t *testing.T, method, url, token, body string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

func TestServeAnswersUntilItIsTerminatedAndThenExitsWithZero(t *testing.T) {
	t.Parallel()
	s := startServe(t, []string{"REDISOPT_TOKEN=sesame-sesame-sesame"}, "--embedded")
	if !s.Embedded || !s.Guarded || s.Instance == "" || len(s.Upstreams) != 1 {
		t.Errorf("document = %+v", s.serveData)
	}
	const token = "sesame-sesame-sesame"
	if code, header, body := request(t, http.MethodPost, s.Gateway, token, `["SET","k","v"]`); code != 200 || body != `{"result":"OK"}` || header.Get("Redisopt-Instance") != s.Instance {
		t.Errorf("gateway: %d %s %v", code, body, header)
	}
	if code, _, body := request(t, http.MethodGet, s.Gateway+"/get/k", token, ""); code != 200 || body != `{"result":"v"}` {
		t.Errorf("gateway: %d %s", code, body)
	}
	if code, _, body := request(t, http.MethodGet, s.Gateway+"/get/k", "", ""); code != 401 {
		t.Errorf("gateway without a token: %d %s", code, body)
	}
	if code, _, body := request(t, http.MethodPost, s.API+"/v1/limit/check", token, `{"rule":"api","subject":{"user":"u"}}`); code != 200 || !strings.Contains(body, `"allowed":true`) {
		t.Errorf("limit: %d %s", code, body)
	}
	if code, _, body := request(t, http.MethodGet, s.API+"/readyz", "", ""); code != 200 || !strings.Contains(body, `"embedded":true`) {
		t.Errorf("ready: %d %s", code, body)
	}
	if code := s.terminate(t); code != 0 {
		t.Errorf("exit code = %d, want 0; stderr:\n%s", code, s.logs)
	}
	for line := range strings.Lines(s.logs.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil || fields["timestamp"] == nil || fields["event"] == nil || fields["service"] != "redisopt" {
			t.Errorf("a line of the log is %q", line)
		}
	}
	if logs := s.logs.String(); strings.Contains(logs, token) || !strings.Contains(logs, `"event":"stopped"`) {
		t.Errorf("log:\n%s", logs)
	}
}

func TestWhatIsServedFromADirectoryIsThereAgainAfterARestart(t *testing.T) {
	t.Parallel()
	env := []string{"PATH=" + os.Getenv("PATH")}
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("needs redis-server on PATH")
	}
	dir := t.TempDir()
	first := startServe(t, env, "--embedded", "--data", dir)
	if code, _, body := request(t, http.MethodPost, first.Gateway, "", `["SET","k","v"]`); code != 200 {
		t.Fatalf("set: %d %s", code, body)
	}
	if code := first.terminate(t); code != 0 {
		t.Fatalf("exit code = %d, want 0; stderr:\n%s", code, first.logs)
	}
	second := startServe(t, env, "--embedded", "--data", dir)
	if code, _, body := request(t, http.MethodGet, second.Gateway+"/get/k", "", ""); code != 200 || body != `{"result":"v"}` {
		t.Errorf("after a restart: %d %s, want v", code, body)
	}
	if code := second.terminate(t); code != 0 {
		t.Errorf("exit code = %d, want 0; stderr:\n%s", code, second.logs)
	}
}

func TestADirectoryThatCannotBeServedFromIsRefused(t *testing.T) {
	for _, tc := range []struct{ name, path, dir, want string }{
		{"no redis-server", t.TempDir(), t.TempDir(), "needs redis-server on PATH: install Redis"},
		{"no directory", os.Getenv("PATH"), "nowhere", "data directory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("PATH", tc.path)
			t.Chdir(t.TempDir())
			var printed recorder
			args := []string{"serve", "--embedded", "--data", tc.dir, "--state-dir", "state", "--listen", "127.0.0.1:0", "--gateway-listen", "127.0.0.1:0"}
			if code := run(t.Context(), args, printed.streams()); code != exitUsage {
				t.Errorf("exit code %d, want %d", code, exitUsage)
			}
			if text := printed.err.String(); !strings.Contains(text, "error: --data: ") || !strings.Contains(text, tc.want) {
				t.Errorf("stderr is\n%s\nwant %q in it", text, tc.want)
			}
		})
	}
}

func TestWhatEndsServeHasACodeAndAHint(t *testing.T) {
	for name, x := range map[string]struct {
		err  error
		code int
		hint string
	}{
		"an upstream that is itself":           {fmt.Errorf("serve: %w", &sidecar.LoopError{Addr: "127.0.0.1:8079"}), exitUsage, "unset UPSTASH_REDIS_REST_URL"},
		"an address that is taken":             {&sidecar.ListenError{Key: "serve.listen", Addr: "127.0.0.1:1", Err: syscall.EADDRINUSE}, exitBlocked, "--listen"},
		"a directory that is taken":            {fmt.Errorf("serve.state_dir: %w", history.ErrLocked), exitBlocked, "--state-dir"},
		"a fleet of a newer schema":            {&fleet.SchemaError{Key: "k", Got: 2, Known: 1}, exitBlocked, "run that version"},
		"a fleet that is full":                 {&fleet.FullError{Asked: 3, Cap: 3}, exitTryLater, "allow the fleet more"},
		"more than the fleet may hold":         {&fleet.ImpossibleError{Asked: 3, Cap: 2}, exitUsage, "fewer connections"},
		"queues whose Redis is silent":         {fmt.Errorf("queues: %w", &queue.UnreachableError{Err: context.DeadlineExceeded}), exitUnreachable, "starts it again"},
		"a control document of a newer schema": {&control.SchemaError{Where: "key k", Got: 2, Known: 1}, exitBlocked, "run that version"},
	} {
		t.Run(name, func(t *testing.T) {
			code := exitCode(x.err, false)
			if hint := hintFor(x.err, code); code != x.code || !strings.Contains(hint, x.hint) {
				t.Errorf("code %d with hint %q, want %d with %q", code, hint, x.code, x.hint)
			}
		})
	}
}

// The files in deploy are tried as far as that goes without what they are for.

func deployed(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheImageIsBuiltAsTheMakefileBuilds(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join("..", "..", "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	build := ""
	for line := range strings.Lines(string(makefile)) {
		if strings.Contains(line, "go build") && strings.Contains(line, "bin/redisopt") {
			build = strings.TrimSpace(line)
		}
	}
	image := deployed(t, "Dockerfile")
	if build == "" || !strings.Contains(image, "RUN "+build+"\n") {
		t.Errorf("the image does not run %q", build)
	}
	goVersion := ""
	mod, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mod)) {
		if rest, ok := strings.CutPrefix(line, "go "); ok {
			goVersion = strings.TrimSpace(rest)
		}
	}
	if major, _, _ := strings.Cut(strings.TrimPrefix(goVersion, "1."), "."); !strings.Contains(image, "FROM golang:1."+major+" AS build") {
		t.Errorf("the image is not built with Go 1.%s of go.mod", major)
	}
}

// knownFlags checks the arguments of redisopt in a deployment.
func knownFlags(t *testing.T, args []string) {
	t.Helper()
	serve := (&app{}).serveCommand()
	root := (&app{}).rootCommand()
	root.AddCommand(serve)
	if len(args) == 0 || args[0] != "serve" {
		t.Fatalf("arguments %q do not begin with serve", args)
	}
	if err := serve.ParseFlags(args[1:]); err != nil {
		t.Errorf("arguments %q: %v", args, err)
	}
}

func TestTheComposeFileStartsServe(t *testing.T) {
	var file struct {
		Services map[string]struct {
			Command     any
			Build       struct{ Dockerfile string }
			Environment map[string]string
		}
	}
	if err := yaml.Unmarshal([]byte(deployed(t, "compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	service, ok := file.Services["redisopt"]
	if !ok || service.Build.Dockerfile != "deploy/Dockerfile" || !strings.HasPrefix(service.Environment["REDIS_URL"], "redis://") {
		t.Errorf("services = %+v", file.Services)
	}
	var args []string
	words, _ := service.Command.([]any)
	for _, w := range words {
		args = append(args, w.(string))
	}
	knownFlags(t, args)
}

func TestTheManifestProbesWhatServeAnswers(t *testing.T) {
	t.Parallel()
	type probe struct {
		HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
	}
	type container struct {
		Args           []string
		RestartPolicy  string `yaml:"restartPolicy"`
		StartupProbe   probe  `yaml:"startupProbe"`
		LivenessProbe  probe  `yaml:"livenessProbe"`
		ReadinessProbe probe  `yaml:"readinessProbe"`
	}
	var sidecar container
	file := ""
	decoder := yaml.NewDecoder(strings.NewReader(deployed(t, "kubernetes/sidecar.yaml")))
	for {
		var doc struct {
			Kind string
			Data map[string]string
			Spec struct {
				Template struct {
					Spec struct {
						InitContainers []container `yaml:"initContainers"`
					}
				}
			}
		}
		if err := decoder.Decode(&doc); err != nil {
			break
		}
		switch doc.Kind {
		case "Deployment":
			sidecar = doc.Spec.Template.Spec.InitContainers[0]
		case "ConfigMap":
			file = doc.Data["redisopt.yaml"]
		}
	}
	knownFlags(t, sidecar.Args)
	if sidecar.RestartPolicy != "Always" {
		t.Errorf("restartPolicy = %q, want Always", sidecar.RestartPolicy)
	}
	// Its configuration, on free ports and in a directory of the test.
	path := filepath.Join(t.TempDir(), "redisopt.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startServe(t, []string{"REDISOPT_TOKEN=sesame-sesame-sesame"}, "--embedded", "--config", path)
	paths := []string{sidecar.StartupProbe.HTTPGet.Path, sidecar.LivenessProbe.HTTPGet.Path, sidecar.ReadinessProbe.HTTPGet.Path}
	if slices.Contains(paths, "") {
		t.Fatalf("probes = %q", paths)
	}
	for _, p := range paths {
		if code, _, body := request(t, http.MethodGet, s.API+p, "", ""); code != 200 {
			t.Errorf("%s: %d %s", p, code, body)
		}
	}
	if code := s.terminate(t); code != 0 {
		t.Errorf("exit code = %d, want 0", code)
	}
}

func TestTheUnitIsOneThatSystemdUnderstands(t *testing.T) {
	unit := deployed(t, "redisopt.service")
	for line := range strings.Lines(unit) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecStart=/usr/local/bin/redisopt "); ok {
			knownFlags(t, strings.Fields(strings.ReplaceAll(rest, "%S", "/var/lib")))
		}
	}
	verify, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("needs systemd-analyze")
	}
	// The program need not be installed for the unit to be right.
	program, err := exec.LookPath("true")
	if err != nil {
		t.Skip("needs true")
	}
	path := filepath.Join(t.TempDir(), "redisopt.service")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(unit, "/usr/local/bin/redisopt", program)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), verify, "verify", "--man=no", path).CombinedOutput()
	if strings.Contains(string(out), "Failed to ") && !strings.Contains(string(out), "redisopt.service:") {
		t.Skipf("needs a systemd that works here: %s", out)
	}
	if err != nil || strings.Contains(string(out), "redisopt.service:") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}
