package gateway_test

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/gateway"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// startUpstream is start with everything an Upstream has: the shared connection, the bell and the lane.
func startUpstream(tb testing.TB, opts gateway.Options) (url string, g *gateway.Gateway, srv *redistest.Server) {
	tb.Helper()
	srv = redistest.Start(tb)
	up, err := upstream.Open(tb.Context(), upstream.Options{URL: srv.URL(), Shared: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = up.Close() })
	if opts.Mux, err = up.Mux(); err != nil {
		tb.Fatal(err)
	}
	opts.Bell = up.Bell()
	opts.Tokens = []gateway.Token{{Secret: secret, MaxConcurrent: 4}, {Secret: "reader", ReadOnly: true}}
	if opts.Timeout == 0 {
		opts = gateway.Patient(opts, patience)
	}
	g, err = gateway.New(opts)
	if err != nil {
		tb.Fatal(err)
	}
	return serve(tb, g), g, srv
}

// An events is an open stream.
type events struct {
	tb     testing.TB
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

// follow opens a stream.
func follow(tb testing.TB, method, url string) *events {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 2*patience)
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Upstash-Encoding", "base64")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		cancel()
		_ = res.Body.Close()
	})
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get(gateway.InstanceHeader) == "" {
		tb.Fatalf("%d, headers %v", res.StatusCode, res.Header)
	}
	return &events{tb, bufio.NewScanner(res.Body), cancel}
}

// next is the next line that is not empty; "" at the end.
func (e *events) next() string {
	e.tb.Helper()
	for e.lines.Scan() {
		if line := e.lines.Text(); line != "" {
			return line
		}
	}
	return ""
}

func (e *events) want(lines ...string) {
	e.tb.Helper()
	for _, want := range lines {
		got := e.next()
		for got == ": alive" && want != got { // comes by the clock
			got = e.next()
		}
		if got != want {
			e.tb.Fatalf("next line = %q, want %q", got, want)
		}
	}
}

func TestSubscribe(t *testing.T) {
	t.Parallel()
	url, g, srv := startUpstream(t, gateway.Options{})
	c := srv.Client(t)
	publish := func(channel, payload string) {
		t.Helper()
		if err := c.Publish(t.Context(), channel, payload).Err(); err != nil {
			t.Fatal(err)
		}
	}
	one := follow(t, "POST", url+"/subscribe/chat/a%2Fb")
	one.want("data: subscribe,chat,1", "data: subscribe,a/b,2")
	all := follow(t, "GET", url+"/psubscribe/ch*")
	all.want("data: psubscribe,ch*,1")

	publish("chat", `{"hello":"wörld"}`)
	publish("a/b", "x,y")
	publish("chat", "two\nlines\r\nthree")
	publish("chat", "\xff")
	one.want("data: message,chat,"+`{"hello":"wörld"}`, "data: message,a/b,x,y", "data: message,chat,two", "data: lines", "data: three", "data: message,chat,\uFFFD")
	all.want("data: pmessage,ch*,chat," + `{"hello":"wörld"}`)

	if got := ask(t, "POST", url, `["PUBLISH","chat","via REST"]`); got.status != 200 {
		t.Errorf("publish: %d %s", got.status, got.body)
	}
	one.want("data: message,chat,via REST")

	if n := g.Stats().Streams; n != 2 {
		t.Errorf("%d streams, want 2", n)
	}
	one.cancel()
	eventually(t, func() bool { return g.Stats().Streams == 1 && g.Stats().Tokens[0].Active == 1 })

	for name, path := range map[string]string{"no channel": "/subscribe", "no pattern": "/psubscribe/"} {
		if got := ask(t, "POST", url+path, ""); got.status != 400 || !strings.Contains(got.body, "ERR wrong number of arguments for '") {
			t.Errorf("%s: %d %s, want 400", name, got.status, got.body)
		}
	}
	if got := ask(t, "POST", url+"/subscribe/x", "", "Authorization: Bearer nobody"); got.status != 401 {
		t.Errorf("a wrong token: %d, want 401", got.status)
	}
	if got := ask(t, "POST", url, `["SUBSCRIBE","x"]`); got.body != notREST("SUBSCRIBE") {
		t.Errorf("as a command: %s", got.body)
	}
}

func TestStreamsCountAsConcurrent(t *testing.T) {
	t.Parallel()
	url, g, _ := startUpstream(t, gateway.Options{})
	var open []*events
	for range 4 {
		e := follow(t, "POST", url+"/subscribe/x")
		e.want("data: subscribe,x,1")
		open = append(open, e)
	}
	if got := ask(t, "POST", url+"/ping", ""); got.status != 429 {
		t.Errorf("a fifth request = %d, want 429", got.status)
	}
	for _, e := range open {
		e.cancel()
	}
	eventually(t, func() bool { return g.Stats().Tokens[0].Active == 0 })
	if got := ask(t, "POST", url+"/ping", ""); got.status != 200 {
		t.Errorf("after they went = %d, want 200", got.status)
	}
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	url, _, _ := startUpstream(t, gateway.Options{Listener: gateway.Limits{Heartbeat: 20 * time.Millisecond}})
	e := follow(t, "POST", url+"/subscribe/quiet")
	e.want("data: subscribe,quiet,1", ": alive", ": alive")
	m := follow(t, "POST", url+"/monitor")
	m.want(`data: "OK"`, ": alive", ": alive")
}

func TestHeadOfAStream(t *testing.T) {
	t.Parallel()
	url, g, _ := startUpstream(t, gateway.Options{})
	for _, path := range []string{"/subscribe/x", "/monitor"} {
		got := ask(t, "HEAD", url+path, "")
		if got.status != 200 || got.body != "" || got.header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("HEAD %s = %d %q %v", path, got.status, got.body, got.header)
		}
	}
	eventually(t, func() bool { return g.Stats().Streams == 0 && g.Stats().Tokens[0].Active == 0 })
}

func TestMonitor(t *testing.T) {
	t.Parallel()
	url, g, srv := startUpstream(t, gateway.Options{})
	c := srv.Client(t)
	c.Ping(t.Context()) // connected, so that this is not what is monitored
	m := follow(t, "POST", url+"/monitor")
	m.want(`data: "OK"`)
	c.Set(t.Context(), "k", "v\n", 0)
	if line := m.next(); !strings.HasPrefix(line, "data: ") || !strings.HasSuffix(line, `] "set" "k" "v\n"`) {
		t.Errorf("a command is shown as %q", line)
	}
	if got := ask(t, "POST", url+"/monitor", ""); got.status != 429 || got.header.Get("Retry-After") != "1" {
		t.Errorf("a second one: %d %s, want 429", got.status, got.body)
	}
	m.cancel()
	eventually(t, func() bool { return g.Stats().Streams == 0 })
	again := follow(t, "GET", url+"/monitor")
	again.want(`data: "OK"`)
	srv.Kill(t)
	if line := again.next(); line != "" {
		t.Errorf("after the end of the Redis: %q, want the end of the stream", line)
	}
	if got := ask(t, "POST", url+"/monitor", ""); got.status != 503 {
		t.Errorf("without a Redis: %d %s, want 503", got.status, got.body)
	}
	if got := ask(t, "POST", url+"/subscribe/x", ""); got.status != 503 {
		t.Errorf("without a Redis: %d %s, want 503", got.status, got.body)
	}
}

// TestShutdownEndsStreams: see the cleanup of serve, which waits for Serve.
func TestShutdownEndsStreams(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	g := newGateway(t, srv.Addr, gateway.Options{})
	var e *events
	t.Run("while it runs", func(t2 *testing.T) {
		url := serve(t2, g)
		e = follow(t, "POST", url+"/monitor")
		e.want(`data: "OK"`)
	})
	if line := e.next(); line != "" {
		t.Errorf("after the end: %q, want nothing", line)
	}
	if n := g.Stats().Streams; n != 0 {
		t.Errorf("%d streams are left", n)
	}
}

// TestNetHTTP goes through the same core from the standard library's server.
func TestNetHTTP(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	g := newGateway(t, srv.Addr, gateway.Options{MaxRequestBytes: 1000, MaxBodyBytes: 100_000})
	web := httptest.NewServer(g)
	t.Cleanup(web.Close)
	for _, s := range []step{
		{method: "POST", path: "/set/a%2Fb?EX=10", body: "\xffv", want: `{"result":"OK"}`},
		{method: "GET", path: "/get/a%2fb", headers: []string{"Upstash-Encoding: base64"}, want: `{"result":"/3Y="}`},
		{method: "HEAD", path: "/get/a%2fb", want: ""},
		{method: "POST", path: "/pipeline", body: `[["GET","none"],["BLPOP","x",1]]`, want: `[{"result":null},` + notREST("BLPOP") + `]`},
		{
			method: "POST", path: "/", body: `["GET","none"]`, headers: []string{"Authorization: "}, status: 401,
			want: `{"error":"WRONGPASS invalid or missing auth token. See docs/gateway.md of redisopt for details."}`,
		},
		{method: "DELETE", path: "/get/x", status: 405, want: `{"error":"ERR method not allowed. Use HEAD, GET, POST or PUT"}`},
		{method: "POST", path: "/set/x", body: strings.Repeat("x", 2000), status: 413, want: `{"error":"ERR max request size exceeded. Limit: 1000 bytes, Actual: 2004 bytes"}`},
		{method: "POST", path: "/set/x", body: strings.Repeat("x", 200_000), status: 413, want: `{"error":"ERR max request size exceeded. Limit: 100000 bytes of body"}`},
		{
			method: "POST", path: "/set/x", body: strings.Repeat("x", 200_000), headers: []string{"Authorization: "}, status: 401,
			want: `{"error":"WRONGPASS invalid or missing auth token. See docs/gateway.md of redisopt for details."}`,
		},
	} {
		status := s.status
		if status == 0 {
			status = 200
		}
		got := ask(t, s.method, web.URL+s.path, s.body, s.headers...)
		if got.status != status || got.body != s.want || got.header.Get(gateway.InstanceHeader) != g.InstanceID() || got.header.Get("X-Request-Id") == "" {
			t.Errorf("%s %s = %d %s %v, want %d %s", s.method, s.path, got.status, got.body, got.header, status, s.want)
		}
	}
	m := follow(t, "POST", web.URL+"/monitor")
	m.want(`data: "OK"`)
	m.cancel()
	eventually(t, func() bool { return g.Stats().Streams == 0 })
}
