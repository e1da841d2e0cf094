package api

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/limit"
)

func newRequest(t testing.TB, path string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, nil)
	r.Host = "localhost"
	return r
}

func serve(a http.Handler, r *http.Request) answer {
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return answer{w.Result(), w.Body.String()}
}

// start serves a on loopback; stop ends it and returns what Serve did.
func start(t testing.TB, a *API) (addr string, stop func() error) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Serve(ctx, l) }()
	var once atomic.Bool
	stop = func() error {
		cancel()
		if !once.CompareAndSwap(false, true) {
			return nil
		}
		return <-ended
	}
	t.Cleanup(func() { _ = stop() })
	return l.Addr().String(), stop
}

// dial speaks HTTP by hand.
func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func send(t testing.TB, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

func receive(t testing.TB, r *bufio.Reader) answer {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp, string(body)}
}

func TestWithoutATokenTheAPIIsNotServedToOtherMachines(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]bool{
		"127.0.0.1:8080": true, "localhost:8080": true, "[::1]:8080": true,
		":8080": false, "0.0.0.0:8080": false, "[::]:8080": false, "10.1.2.3:8080": false, "example.com:80": false, "": false,
	} {
		err := CheckListen(addr, nil)
		if (err == nil) != want {
			t.Errorf("CheckListen(%q) = %v, want allowed: %v", addr, err, want)
		}
		if _, ok := errors.AsType[*ExposedError](err); err != nil && !ok {
			t.Errorf("CheckListen(%q) = %T, want an *ExposedError", addr, err)
		}
		if err := CheckListen(addr, tokens()); err != nil {
			t.Errorf("CheckListen(%q) with tokens = %v, want nil", addr, err)
		}
	}
	socket, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	if err := CheckListener(socket.Addr(), nil); err != nil {
		t.Errorf("CheckListener of a unix socket = %v, want nil", err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	var exposed *ExposedError
	if err := newAPI(t, Options{}).Serve(t.Context(), l); !errors.As(err, &exposed) {
		t.Errorf("Serve on every address = %v, want an *ExposedError at once", err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("the listener is still open")
	}
}

func TestServeEndsRequestsUnderWayBeforeItReturns(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	a := newAPI(t, Options{Probes: []Probe{{Name: "slow", Write: func(context.Context) error {
		close(entered)
		<-release
		return nil
	}}}})
	addr, stop := start(t, a)
	idle := dial(t, addr)
	send(t, idle, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if r := receive(t, bufio.NewReader(idle)); r.StatusCode != 200 {
		t.Fatalf("healthz = %d", r.StatusCode)
	}
	busy := dial(t, addr)
	send(t, busy, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	<-entered
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	eventually(t, "the API stops", a.stopping.Load)
	close(release)
	r := receive(t, bufio.NewReader(busy))
	if r.StatusCode != 200 {
		t.Errorf("the request under way = %d, want its answer: %s", r.StatusCode, r.body)
	}
	if err := <-ended; err != nil {
		t.Errorf("Serve = %v, want nil", err)
	}
	if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("an idle connection after Serve: %v, want its end", err)
	}
	if got := ask(t, a, call{path: "/readyz"}); got.StatusCode != 503 || !strings.Contains(got.body, `"stopping":true`) {
		t.Errorf("readyz while stopping = %d %s, want 503", got.StatusCode, got.body)
	}
}

func TestServeSaysWhenItsListenerFails(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := newAPI(t, Options{})
	ended := make(chan error, 1)
	go func() { ended <- a.Serve(t.Context(), l) }()
	conn := dial(t, l.Addr().String())
	send(t, conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if r := receive(t, bufio.NewReader(conn)); r.StatusCode != 200 {
		t.Fatalf("healthz = %d", r.StatusCode)
	}
	_ = l.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve = %v, want what happened to the listener", err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlived Serve")
	}
}

func TestServeCutsOffWhatDoesNotEndInTime(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	a := newAPI(t, Options{ShutdownTimeout: 20 * time.Millisecond, Probes: []Probe{{
		Name: "stuck", Write: func(context.Context) error {
			close(entered)
			<-release
			return nil
		},
	}}})
	addr, stop := start(t, a)
	conn := dial(t, addr)
	send(t, conn, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	<-entered
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the request was answered, want its connection cut off")
	}
	select {
	case err := <-ended:
		t.Errorf("Serve = %v while the request was still being answered", err)
	default:
	}
	close(release)
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("Serve = %v, want it to say that something was cut off", err)
	}
}

func TestASlowBodyIsGivenUp(t *testing.T) {
	t.Parallel()
	a := newAPI(t, Options{BodyTimeout: 50 * time.Millisecond})
	addr, _ := start(t, a)
	conn := dial(t, addr)
	send(t, conn, "POST /v1/control HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	r := receive(t, bufio.NewReader(conn))
	if p := r.problem(t); r.StatusCode != http.StatusRequestTimeout || p.Code != "body_timeout" || !r.Close {
		t.Errorf("a slow body = %d %+v, connection closed: %v; want 408 and the end", r.StatusCode, p, r.Close)
	}
}

// inTime is a Redis that admits every check that comes within its time.
type inTime struct{ redis.UniversalClient }

func (inTime) EvalSha(ctx context.Context, _ string, _ []string, _ ...any) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	if err := ctx.Err(); err != nil {
		cmd.SetErr(err)
		return cmd
	}
	cmd.SetVal([]any{int64(3), time.Now().UnixMicro(), int64(1), int64(1), int64(0), int64(0), int64(0), int64(0), int64(0)})
	return cmd
}

// A pipeListener has connections within this process, which a bubble of time can look into.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func TestAnOperationHasItsTimeAfterASlowBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, err := limit.New(limit.Options{Client: inTime{}, Deadline: patience, Rules: []limit.Rule{{Name: "api"}}})
		if err != nil {
			t.Fatal(err)
		}
		a := newAPI(t, Options{Limit: l, Timeout: 500 * time.Millisecond, BodyTimeout: 5 * time.Second})
		near, far := net.Pipe()
		pipes := &pipeListener{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
		pipes.conns <- far
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a.Serve(ctx, pipes) }()
		body := `{"rule":"api","subject":{"user":"1"}}`
		send(t, near, fmt.Sprintf("POST /v1/limit/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(body)))
		time.Sleep(600 * time.Millisecond)
		send(t, near, body)
		if r := receive(t, bufio.NewReader(near)); r.StatusCode != 200 || !strings.Contains(r.body, `"checked"`) {
			t.Errorf("a check whose body took longer than an operation may = %d %s, want 200", r.StatusCode, r.body)
		}
		_ = near.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve = %v, want nil", err)
		}
	})
}

func TestABodyThatEndsEarlyIsRefused(t *testing.T) {
	t.Parallel()
	addr, _ := start(t, newAPI(t, Options{}))
	conn := dial(t, addr)
	send(t, conn, "POST /v1/control HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	r := receive(t, bufio.NewReader(conn))
	if p := r.problem(t); r.StatusCode != http.StatusBadRequest || p.Code != "malformed_body" {
		t.Errorf("half a body = %d %+v, want 400", r.StatusCode, p)
	}
}

func TestAHugeBodyIsRefusedUnread(t *testing.T) {
	t.Parallel()
	a := newAPI(t, Options{MaxBodyBytes: 1000})
	addr, _ := start(t, a)
	for what, head := range map[string]string{
		"announced": "Content-Length: 100000000\r\n\r\n",
		"chunked":   "Transfer-Encoding: chunked\r\n\r\n1000\r\n" + strings.Repeat(" ", 4096) + "\r\n",
	} {
		conn := dial(t, addr)
		send(t, conn, "POST /v1/control HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"+head)
		r := receive(t, bufio.NewReader(conn))
		if p := r.problem(t); r.StatusCode != http.StatusRequestEntityTooLarge || p.Code != "body_too_large" || !r.Close {
			t.Errorf("a huge body, %s = %d %+v, closed: %v; want 413 and the end", what, r.StatusCode, p, r.Close)
		}
	}
}

func TestTooManyRequestsAtOnceAreToldToWait(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	a := newAPI(t, Options{MaxInFlight: 1, Probes: []Probe{{Name: "slow", Write: func(context.Context) error {
		close(entered)
		<-release
		return nil
	}}}})
	done := make(chan answer, 1)
	go func() { done <- serve(a, newRequest(t, "/readyz")) }()
	<-entered
	r := ask(t, a, call{path: "/healthz"})
	if p := r.problem(t); r.StatusCode != http.StatusServiceUnavailable || p.Code != "overloaded" || r.Header.Get("Retry-After") == "" {
		t.Errorf("one too many = %d %+v, want 503", r.StatusCode, p)
	}
	close(release)
	if r := <-done; r.StatusCode != 200 {
		t.Errorf("the first = %d, want 200", r.StatusCode)
	}
	if r := ask(t, a, call{path: "/healthz"}); r.StatusCode != 200 {
		t.Errorf("after it = %d, want 200", r.StatusCode)
	}
}

func TestBodiesInFlightAreBounded(t *testing.T) {
	t.Parallel()
	a := newAPI(t, Options{MaxBodyBytes: 1000, MaxBodyBytesInFlight: 1000, BodyTimeout: patience})
	addr, _ := start(t, a)
	slow := dial(t, addr)
	send(t, slow, "POST /v1/control HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{")
	eventually(t, "the slow one has what it asked for", func() bool {
		free := a.bodies.TryAcquire(200)
		if free {
			a.bodies.Release(200)
		}
		return !free
	})
	r := ask(t, a, call{method: http.MethodPost, path: "/v1/control", body: `{"reason":"` + strings.Repeat("x", 300) + `"}`})
	if p := r.problem(t); r.StatusCode != http.StatusServiceUnavailable || p.Code != "overloaded" {
		t.Errorf("what does not fit = %d %+v, want 503", r.StatusCode, p)
	}
	if r := ask(t, a, call{method: http.MethodPost, path: "/v1/control", body: `{"reason":"x"}`}); r.StatusCode != http.StatusNotFound {
		t.Errorf("what fits = %d, want it answered", r.StatusCode)
	}
}

func TestAnUnfinishedHeaderDoesNotKeepAConnection(t *testing.T) {
	t.Parallel()
	if readHeaderTimeout > 5*time.Second || maxHeaderBytes > 16<<10 {
		t.Error("a client may hold a connection longer, or send more, than is documented")
	}
	addr, _ := start(t, newAPI(t, Options{}))
	conn := dial(t, addr)
	send(t, conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: "+strings.Repeat("x", 32<<10)+"\r\n\r\n")
	if r := receive(t, bufio.NewReader(conn)); r.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("32 KiB of header = %d, want 431", r.StatusCode)
	}
}

func TestServeSpeaksHTTP2OverAListenerWithTLS(t *testing.T) {
	t.Parallel()
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS()
	defer certified.Close()
	plain, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := tls.NewListener(plain, &tls.Config{Certificates: certified.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}})
	a := newAPI(t, Options{MaxBodyBytes: 1000})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Serve(ctx, l) }()
	roots := x509.NewCertPool()
	roots.AddCert(certified.Certificate())
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com"}}
	client := &http.Client{Transport: transport}
	for _, tt := range []struct {
		method, path, body string
		status             int
	}{
		{http.MethodGet, "/healthz", "", 200},
		{http.MethodPost, "/v1/control", `{"reason":"` + strings.Repeat("x", 2000) + `"}`, 413},
		{http.MethodPost, "/v1/control", `{"reason":"x"}`, 404},
	} {
		r, err := http.NewRequestWithContext(t.Context(), tt.method, "https://"+l.Addr().String()+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.ProtoMajor != 2 || resp.StatusCode != tt.status {
			t.Errorf("%s %s = %s %d, want HTTP/2 and %d", tt.method, tt.path, resp.Proto, resp.StatusCode, tt.status)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve = %v, want nil", err)
	}
	transport.CloseIdleConnections()
}
