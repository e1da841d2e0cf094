package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/valyala/fasthttp"

	"github.com/redisopt/redisopt/internal/runtime/gateway"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// What is measured beside each other.
const (
	peerGateway = "redisopt gateway"
	peerWebdis  = "webdis, 2 connections"
	peerBare    = "fasthttp, no Redis"
	peerPool    = "net/http, pool of 3"
)

// A benchServer is one server in a process of its own.
type benchServer struct {
	name, url, procs string
	pid              int
}

// A benchRequest is what wrk sends over and over.
type benchRequest struct{ method, path, body string }

func (s *benchServer) get() benchRequest {
	if s.name == peerWebdis {
		return benchRequest{"GET", "/GET/k", ""}
	}
	return benchRequest{"GET", "/get/k", ""}
}

func (s *benchServer) post() benchRequest {
	if s.name == peerWebdis {
		return benchRequest{"POST", "/", "GET/k"}
	}
	return benchRequest{"POST", "/", `["GET","k"]`}
}

func (s *benchServer) pipeline() benchRequest { return benchRequest{"POST", "/pipeline", fifty()} }

// check asks once in each way, so that nothing is measured that does not answer.
func (s *benchServer) check(b *testing.B) {
	b.Helper()
	for _, r := range []benchRequest{s.get(), s.post()} {
		if a := ask(b, r.method, s.url+r.path, r.body); a.status != 200 || !strings.Contains(a.body, benchValue) {
			b.Fatalf("%s answers %s %s with %d %s", s.name, r.method, r.path, a.status, a.body)
		}
	}
}

func needsProgram(b *testing.B, name string) string {
	b.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		b.Skipf("needs %s on PATH", name)
	}
	return path
}

// Environment of a child.
const (
	envPeer  = "REDISOPT_BENCH_PEER"
	envRedis = "REDISOPT_BENCH_REDIS"
)

// startBenchChild runs this test binary again as one of the servers.
func startBenchChild(b *testing.B, name, redisAddr string) *benchServer {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), self, "-test.run=^TestRunAsPeer$")
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "REDIS_") }),
		envPeer+"="+name, envRedis+"="+redisAddr)
	if procs := os.Getenv("REDISOPT_BENCH_GOMAXPROCS"); procs != "" && name == peerGateway {
		cmd.Env = append(cmd.Env, "GOMAXPROCS="+procs)
	}
	cmd.Stderr = benchErrors{b}
	cmd.WaitDelay = time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if at, ok := strings.CutPrefix(lines.Text(), "listening "); ok {
			addr, procs, _ := strings.Cut(at, " ")
			go func() { _, _ = io.Copy(io.Discard, stdout) }()
			return &benchServer{name: name, url: "http://" + addr, procs: procs, pid: cmd.Process.Pid}
		}
	}
	b.Fatalf("%s ended before it listened", name)
	return nil
}

// benchErrors puts what a server complains about into the log.
type benchErrors struct{ b *testing.B }

func (w benchErrors) Write(text []byte) (int, error) {
	w.b.Logf("server: %s", text)
	return len(text), nil
}

// TestRunAsPeer is not a test but one of the servers, in a process that startBenchChild started. It ends
// with its standard input.
func TestRunAsPeer(t *testing.T) {
	name := os.Getenv(envPeer)
	if name == "" {
		return
	}
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	_, _ = fmt.Printf("listening %s %d\n", ln.Addr(), runtime.GOMAXPROCS(0)) //nolint:forbidigo // the parent reads it
	switch name {
	case peerGateway:
		err = runGateway(ctx, ln, os.Getenv(envRedis))
	case peerBare:
		runBare(ctx, ln)
	case peerPool:
		err = runPool(ctx, ln, os.Getenv(envRedis))
	default:
		err = fmt.Errorf("no peer is called %q", name)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// runGateway is ours as it runs in production: tokens, policy, limits and metering.
func runGateway(ctx context.Context, ln net.Listener, addr string) error {
	up, err := upstream.Open(ctx, upstream.Options{URL: "redis://" + addr, Shared: true})
	if err != nil {
		return err
	}
	defer func() { _ = up.Close() }()
	m, err := up.Mux()
	if err != nil {
		return err
	}
	g, err := gateway.New(gateway.Options{Mux: m, Bell: up.Bell(), Tokens: []gateway.Token{
		{Name: "app", Secret: secret}, {Name: "reader", Secret: "reader", ReadOnly: true},
	}})
	if err != nil {
		return err
	}
	return g.Serve(ctx, ln)
}

// runBare answers what the gateway would, without looking at the request.
func runBare(ctx context.Context, ln net.Listener) {
	body := []byte(`{"result":"` + benchValue + `"}`)
	srv := &fasthttp.Server{NoDefaultServerHeader: true, Handler: func(c *fasthttp.RequestCtx) {
		c.SetContentType("application/json")
		c.SetBody(body)
	}}
	go func() { <-ctx.Done(); _ = ln.Close() }()
	_ = srv.Serve(ln)
}

// runPool is what one writes in an afternoon: net/http, encoding/json, and a go-redis client with as many
// connections as ours may have.
func runPool(ctx context.Context, ln net.Listener, addr string) error {
	client := redis.NewClient(&redis.Options{Addr: addr, PoolSize: 3, MaxActiveConns: 3, PipelinePoolSize: -1, Protocol: 2})
	defer func() { _ = client.Close() }()
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+secret {
			http.Error(w, `{"error":"WRONGPASS invalid or missing auth token"}`, http.StatusUnauthorized)
			return
		}
		var args []any
		if r.Method == http.MethodPost {
			if err := json.NewDecoder(r.Body).Decode(&args); err != nil {
				http.Error(w, `{"error":"ERR parse error"}`, http.StatusBadRequest)
				return
			}
		} else {
			for arg := range strings.SplitSeq(strings.Trim(r.URL.Path, "/"), "/") {
				args = append(args, arg)
			}
		}
		result, err := client.Do(r.Context(), args...).Result()
		w.Header().Set("Content-Type", "application/json")
		if err != nil && !errors.Is(err, redis.Nil) {
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"result": result})
	}
	srv := &http.Server{Handler: http.HandlerFunc(handler), ReadHeaderTimeout: benchStart}
	go func() { <-ctx.Done(); _ = srv.Close() }()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// startWebdis runs Debian's webdis with two threads of one Redis connection each.
func startWebdis(b *testing.B, program, redisAddr string) *benchServer {
	b.Helper()
	ln, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	dir := b.TempDir()
	host, port, _ := net.SplitHostPort(redisAddr)
	_, httpPort, _ := net.SplitHostPort(addr)
	conf := fmt.Sprintf(`{"redis_host":%q,"redis_port":%s,"http_host":"127.0.0.1","http_port":%s,"threads":2,"pool_size":1,
		"daemonize":false,"websockets":false,"database":0,"verbosity":0,"logfile":%q}`, host, port, httpPort, filepath.Join(dir, "log"))
	file := filepath.Join(dir, "webdis.json")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), program, file)
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	s := &benchServer{name: peerWebdis, url: "http://" + addr, pid: cmd.Process.Pid}
	deadline := time.Now().Add(benchStart)
	for {
		conn, err := new(net.Dialer).DialContext(b.Context(), "tcp", addr)
		if err == nil {
			_ = conn.Close()
			return s
		}
		if time.Now().After(deadline) {
			b.Fatalf("webdis does not listen: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A generator loads one server at a time with wrk.
type generator struct {
	wrk, dir string
	seconds  int
	redisCPU func() (time.Duration, error)
}

// done prints what is needed of a run; latencies are in microseconds.
const wrkDone = `
done = function(summary, latency, requests)
  io.write(string.format("FIGURES %d %d %f %f %d\n", summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout))
end
`

// measure runs wrk for a round, or for seconds when that is not 0.
func (g *generator) measure(b *testing.B, s *benchServer, r benchRequest, connections, seconds int) measurement {
	b.Helper()
	if seconds == 0 {
		seconds = g.seconds
	}
	script := fmt.Sprintf("wrk.method = %q\nwrk.body = %s\nwrk.headers['Authorization'] = 'Bearer %s'\n%s", r.method, luaString(r.body), secret, wrkDone)
	file := filepath.Join(g.dir, "request.lua")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		b.Fatal(err)
	}
	cpu := cpuOf(s.pid)
	before, err1 := cpu()
	redisBefore, err2 := g.redisCPU()
	out, err := exec.CommandContext(b.Context(), g.wrk, "-t"+strconv.Itoa(min(2, connections)), "-c"+strconv.Itoa(connections), //nolint:gosec // our own arguments
		"-d"+strconv.Itoa(seconds)+"s", "-s", file, s.url+r.path).Output()
	after, err3 := cpu()
	redisAfter, err4 := g.redisCPU()
	if err := errors.Join(err, err1, err2, err3, err4); err != nil {
		b.Fatalf("%s: wrk: %v", s.name, err)
	}
	_, line, ok := bytes.Cut(out, []byte("FIGURES "))
	var requests, micros, failed int64
	var p50, p99 float64
	if _, err := fmt.Sscan(string(line), &requests, &micros, &p50, &p99, &failed); !ok || err != nil || requests == 0 {
		b.Fatalf("%s: wrk printed %s", s.name, out)
	}
	if failed > 0 {
		b.Fatalf("%s: %d of %d requests failed: %s", s.name, failed, requests, out)
	}
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(requests) }
	return measurement{
		requests: float64(requests), seconds: float64(micros) / 1e6, p50us: p50, p99us: p99,
		cpuUS: each(after - before), redisUS: each(redisAfter - redisBefore),
	}
}

func luaString(s string) string {
	if s == "" {
		return "nil"
	}
	return "[==[" + s + "]==]"
}

// cpuOf returns the processor time that a process has used, in steps of 10 ms.
func cpuOf(pid int) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		_, rest, ok := bytes.Cut(stat, []byte(") ")) // after the name: state is field 3, utime 14, stime 15
		fields := bytes.Fields(rest)
		if !ok || len(fields) < 13 {
			return 0, fmt.Errorf("/proc/%d/stat: %q", pid, stat)
		}
		user, err1 := strconv.ParseInt(string(fields[11]), 10, 64)
		system, err2 := strconv.ParseInt(string(fields[12]), 10, 64)
		return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
	}
}
