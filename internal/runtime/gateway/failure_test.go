package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/gateway"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestUpstreamFails(t *testing.T) {
	t.Parallel()
	say := func(what string) func(*fakeConn) {
		return func(c *fakeConn) {
			for c.command() == nil {
				if _, err := io.WriteString(c, what); err != nil {
					return
				}
			}
		}
	}
	const quota = "ERR max requests limit exceeded. Limit: 500000, Usage: 500000. See https://upstash.com/docs/redis/troubleshooting/max_requests_limit for details"
	for _, c := range []struct {
		name   string
		redis  func(*fakeConn)
		status int
		want   string
	}{
		{"a quota that is spent is told word for word", say("-" + quota + "\r\n"), 400, `{"error":"` + quota + `"}`},
		{"HTML is not a reply", say("HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<html>secret-host</html>"), 502, `{"error":"ERR the Redis sent something that is not a reply; the command may have run"}`},
		{"nor is a number without an end", say(":12x\r\n"), 502, `{"error":"ERR the Redis sent something that is not a reply; the command may have run"}`},
		{"half a reply and then nothing", func(c *fakeConn) {
			_ = c.command()
			_, _ = io.WriteString(c, "$100\r\nabc")
			c.waitClosed()
		}, 504, `{"error":"ERR no reply from the Redis in time; the command may have run"}`},
		{"half a reply and the end", func(c *fakeConn) {
			_ = c.command()
			_, _ = io.WriteString(c, "$100\r\nabc")
		}, 502, `{"error":"ERR the connection to the Redis broke before the reply; the command may have run"}`},
		{"nothing at all", func(c *fakeConn) { c.waitClosed() }, 504, `{"error":"ERR no reply from the Redis in time; the command may have run"}`},
		{"the end at once", func(c *fakeConn) { _ = c.command() }, 502, `{"error":"ERR the connection to the Redis broke before the reply; the command may have run"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, path := range []string{"/incr/k", "/pipeline", "/multi-exec"} {
				opts := gateway.Options{}
				if c.status == 504 { // the fake says nothing more
					opts.Timeout = 300 * time.Millisecond
				}
				url := serve(t, newGateway(t, fakeRedis(t, c.redis), opts))
				send := func() answer {
					return ask(t, "POST", url+path, map[bool]string{true: `[["INCR","k"],["INCR","k"]]`}[path != "/incr/k"])
				}
				got := send()
				for try := 0; c.status == 504 && got.status == 503 && try < 20; try++ {
					got = send() // on a busy machine the time may be up before there is a connection
				}
				if path == "/pipeline" && c.status == 400 {
					if want := "[" + c.want + "," + c.want + "]"; got.status != 200 || got.body != want {
						t.Errorf("%s = %d %s, want 200 %s", path, got.status, got.body, want)
					}
					continue
				}
				if got.status != c.status || got.body != c.want {
					t.Errorf("%s = %d %s, want %d %s", path, got.status, got.body, c.status, c.want)
				}
			}
		})
	}
}

func TestUpstreamDownAndBack(t *testing.T) {
	t.Parallel()
	url, srv := start(t, gateway.Options{})
	if got := ask(t, "POST", url+"/set/k/v", ""); got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	srv.Stop(t)
	eventually(t, func() bool { return ask(t, "POST", url+"/get/k", "").status != 200 })
	var took []time.Duration
	for range 20 {
		begin := time.Now()
		got := ask(t, "POST", url+"/set/k/w", "")
		took = append(took, time.Since(begin))
		if got.status != 503 || got.body != `{"error":"ERR the Redis behind the gateway cannot be reached; the command was not sent"}` {
			t.Errorf("%d %s, want 503", got.status, got.body)
		}
	}
	slices.Sort(took)
	if usual := took[len(took)/2]; usual > time.Second {
		t.Errorf("an answer usually takes %s, want it at once", usual)
	}
	srv.Restart(t)
	back := time.Now()
	eventually(t, func() bool {
		asked := time.Since(back)
		got := ask(t, "POST", url+"/ping", "")
		if got.status != 200 && asked > 2*time.Second {
			t.Fatalf("%s after the Redis is back: %d %s", asked, got.status, got.body)
		}
		return got.status == 200
	})
}

// TestSlowClients holds connections that send too slowly or nothing, beside one that works.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	g := newGateway(t, srv.Addr, gateway.Options{Listener: gateway.Limits{
		ReadTimeout: 500 * time.Millisecond, WriteTimeout: patience, IdleTimeout: 500 * time.Millisecond, MaxHeaderBytes: 4096,
	}})
	url := serve(t, g)
	for _, c := range []struct{ name, send, want string }{
		{"half a header", "POST / HTTP/1.1\r\nHost: x\r\nAuthor", "HTTP/1.1 408 "},
		{"half a body", "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + secret + "\r\nContent-Length: 100\r\n\r\n[\"GET\"", "HTTP/1.1 408 "},
		{"nothing", "", ""},
		{"not HTTP", "*1\r\n$4\r\nPING\r\n", "HTTP/1.1 400 "},
		{"too long a header", "GET /get/" + strings.Repeat("x", 8000) + " HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 431 "},
		{"a body with a GET, and the next request", "GET /get/none HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + secret + "\r\nContent-Length: 5\r\n\r\nhello" +
			"POST /ping HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + secret + "\r\nConnection: close\r\n\r\n", "HTTP/1.1 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b, err := sendSlowly(t, url, c.send)
			for try := 0; len(b) == 0 && c.want != "" && try < 10; try++ {
				b, err = sendSlowly(t, url, c.send) // on a busy machine the time may be up before anything is sent
			}
			if err != nil && len(b) == 0 && c.want != "" {
				t.Fatal(err)
			}
			if !strings.HasPrefix(string(b), c.want) {
				t.Errorf("answered %q, want %q", b, c.want)
			}
			if c.name == "a body with a GET, and the next request" && !strings.Contains(string(b), `{"result":"PONG"}`) {
				t.Errorf("the second request was not answered: %q", b)
			}
		})
	}
	if got := ask(t, "POST", url+"/ping", ""); got.status != 200 {
		t.Errorf("beside them: %d, want 200", got.status)
	}
}

// sendSlowly sends text on a connection of its own and returns all that comes.
func sendSlowly(t *testing.T, url, text string) ([]byte, error) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, text); err != nil {
		return nil, err
	}
	return io.ReadAll(bufio.NewReader(conn))
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	stalled := fakeRedis(t, func(c *fakeConn) { c.waitClosed() })
	g := newGateway(t, stalled, gateway.Options{Timeout: time.Second, Listener: gateway.Limits{ShutdownTimeout: patience}})
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- g.Serve(ctx, ln) }()
	url := "http://" + ln.Addr().String()
	status := make(chan int, 1)
	go func() { status <- ask(t, "POST", url+"/get/k", "").status }()
	eventually(t, func() bool { return g.Stats().Tokens[0].Requests == 1 })
	cancel()
	if got := <-status; got != 504 {
		t.Errorf("the request in progress = %d, want 504", got)
	}
	if err := <-done; err != nil {
		t.Errorf("Serve = %v, want nil", err)
	}
	if c, err := new(net.Dialer).DialContext(t.Context(), "tcp", ln.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("the address still answers")
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	_, err := gateway.New(gateway.Options{
		Tokens:  []gateway.Token{{Secret: " x\n"}, {Name: "b", MaxPerSecond: -1}, {Secret: "same"}, {Secret: "same"}},
		Timeout: 6 * time.Second, MaxPipeline: -1, InstanceID: "a b",
	})
	if err == nil {
		t.Fatal("New succeeded")
	}
	for _, want := range []string{
		"mux: got none", "token-1: secret: has white space", "b: secret: got nothing", "b: max_per_second", "token-3 and token-4 have the same secret",
		"timeout: got 6s", "max_pipeline: got -1", "instance_id",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("New = %v\nwant also %q", err, want)
		}
	}
}

// TestWhatTheMuxSays covers what the shared connection refuses by itself.
func TestWhatTheMuxSays(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	c := srv.Client(t)
	c.Set(t.Context(), "big", strings.Repeat("x", 5000), 0)
	dial := func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", srv.Addr) }
	var spent atomic.Bool
	m, err := mux.New(mux.Options{Dial: dial, MaxReplyBytes: 4000, Admit: func(_ meter.Component, _ string) error {
		if spent.Load() {
			return errors.New("the budget of 100 commands is spent")
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	g, err := gateway.New(gateway.Patient(gateway.Options{Mux: m, Open: true}, patience))
	if err != nil {
		t.Fatal(err)
	}
	const large = `{"error":"ERR max request size exceeded. Limit: 4000 bytes for all replies of a request"}`
	const budget = `{"error":"ERR the budget of 100 commands is spent"}`
	for _, s := range []struct {
		name, path, body string
		spent            bool
		status           int
		want             string
	}{
		{"one reply that nobody keeps", "/get/big", "", false, 400, large},
		{"a pipeline of them", "/pipeline", `[["PING"],["GET","big"],["BLPOP","x",1]]`, false, 200, "[" + large + "," + large + "," + notREST("BLPOP") + "]"},
		{"a transaction, which has run", "/multi-exec", `[["SET","ran","1"],["GET","big"]]`, false, 200, "[" + large + "," + large + "]"},
		{"a budget that is spent", "/get/x", "", true, 400, budget},
		{"for a pipeline", "/pipeline", `[["PING"]]`, true, 400, budget},
		{"a command too few arguments name", "/object", "", false, 400, unavailable("OBJECT")},
		{"no lane for MONITOR", "/monitor", "", false, 400, `{"error":"ERR there is no connection for WATCH and MONITOR here"}`},
		{"no bell", "/subscribe/x", "", false, 400, `{"error":"ERR subscriptions are not available through this gateway"}`},
	} {
		spent.Store(s.spent)
		var rep gateway.Reply
		g.Handle(t.Context(), &gateway.Request{Method: "POST", Path: []byte(s.path), Body: []byte(s.body)}, &rep)
		if rep.Status != s.status || string(rep.Body) != s.want {
			t.Errorf("%s: %d %s, want %d %s", s.name, rep.Status, rep.Body, s.status, s.want)
		}
	}
	if n := c.Exists(t.Context(), "ran").Val(); n != 1 {
		t.Errorf("the transaction ran %d times, want once", n)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	g := newGateway(t, srv.Addr, gateway.Options{MaxRequestBytes: 1000, MaxBodyBytes: 1000})
	pki := httptest.NewTLSServer(nil) // for its certificate and the client that trusts it
	t.Cleanup(pki.Close)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "https://" + ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- g.Serve(ctx, tls.NewListener(ln, &tls.Config{Certificates: pki.TLS.Certificates, MinVersion: tls.VersionTLS12}))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	for body, want := range map[string]int{`["PING"]`: 200, strings.Repeat(" ", 1<<20): 413} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+secret)
		res, err := pki.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("a body of %d bytes = %d, want %d", len(body), res.StatusCode, want)
		}
	}
}
