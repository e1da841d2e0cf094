package gateway_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/gateway"
	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

const secret = "correct-horse"

// patience is how long a test waits for what is about to happen, on however busy a machine.
const patience = time.Minute

// newMux returns a mux on addr, closed with the test.
func newMux(tb testing.TB, addr string) *mux.Mux {
	tb.Helper()
	dial := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
	m, err := mux.New(mux.Options{Dial: dial, Lane: dial})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = m.Close() })
	return m
}

// newGateway returns a gateway with the token "correct-horse"; opts fill in the rest.
func newGateway(tb testing.TB, addr string, opts gateway.Options) *gateway.Gateway {
	tb.Helper()
	opts.Mux = newMux(tb, addr)
	opts.NoLoop = opts.NoLoop || os.Getenv(envNoLoop) != ""
	if opts.Timeout == 0 {
		opts = gateway.Patient(opts, patience)
	}
	if opts.Tokens == nil && !opts.Open {
		opts.Tokens = []gateway.Token{{Secret: secret}, {Secret: "reader", ReadOnly: true}}
	}
	g, err := gateway.New(opts)
	if err != nil {
		tb.Fatal(err)
	}
	return g
}

// serve runs g on a free port and returns its URL.
func serve(tb testing.TB, g *gateway.Gateway) string {
	tb.Helper()
	ln, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Serve(ctx, ln) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("Serve = %v, want nil", err)
		}
	})
	return "http://" + ln.Addr().String()
}

// start is a gateway over a fresh redis-server.
func start(tb testing.TB, opts gateway.Options) (url string, srv *redistest.Server) {
	tb.Helper()
	srv = redistest.Start(tb)
	return serve(tb, newGateway(tb, srv.Addr, opts)), srv
}

// An answer is what came over HTTP.
type answer struct {
	status int
	header http.Header
	body   string
}

// ask sends one request with the token, unless headers say otherwise: "Name: value" each.
func ask(tb testing.TB, method, url, body string, headers ...string) answer {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader([]byte(body)))
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(b)}
}
