package upstream_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

const restToken = "very-secret-rest-token"

// An echo answers every command with OK, until it is told otherwise.
type echo struct {
	*httptest.Server
	down  atomic.Bool // answers 503
	delay time.Duration

	mu    sync.Mutex
	asked []string // names of commands, in order
	proto map[string]bool
}

func startEcho(t *testing.T, tls bool) *echo {
	t.Helper()
	e := &echo{proto: map[string]bool{}}
	e.Server = httptest.NewUnstartedServer(e)
	e.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	if tls {
		e.EnableHTTP2 = true
		e.StartTLS()
	} else {
		e.Start()
	}
	t.Cleanup(e.Close)
	return e
}

func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var cmds [][]string
	body, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(body, &cmds) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if e.delay > 0 {
		select {
		case <-time.After(e.delay):
		case <-r.Context().Done():
		}
	}
	e.mu.Lock()
	e.proto[r.Proto] = true
	for _, c := range cmds {
		e.asked = append(e.asked, strings.ToLower(c[0]))
	}
	e.mu.Unlock()
	w.Header().Set("Redisopt-Instance", "echo")
	if e.down.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = io.WriteString(w, "*"+strconv.Itoa(len(cmds))+"\r\n"+strings.Repeat("+OK\r\n", len(cmds)))
}

func (e *echo) names() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.asked...)
}

func (e *echo) options() upstream.Options {
	return upstream.Options{REST: upstream.REST{URL: e.URL, Token: restToken}}
}

func TestRESTEndpointsThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	const html, js = "text/html", "application/json"
	for _, tt := range []struct {
		name   string
		status int
		kind   string
		body   string
		want   upstream.Class
		say    string
	}{
		{"a wrong token", 401, js, `{"error":"WRONGPASS invalid or missing auth token. See the docs for details."}`, upstream.Auth, "WRONGPASS"},
		{"a wrong token in no words", 401, html, "<html>", upstream.Auth, "token is refused"},
		{"a token that may only read", 403, js, `{"error":"NOPERM this user has no permissions to run the 'ping' command or its subcommand"}`, upstream.Permission, "NOPERM"},
		{"a web site", 200, html, "<html>Welcome</html>", upstream.NotRedis, "<html>"},
		{"a web site without that page", 404, html, "<html>Welcome</html>", upstream.NotRedis, "404"},
		{"a server that takes no POST", 405, html, "", upstream.NotRedis, "405"},
		{"a request that is too large", 413, js, `{"error":"ERR max request size exceeded. Limit: 10 bytes, Actual: 20 bytes."}`, upstream.RequestSize, "max request size"},
		{"too many requests", 429, js, `{"error":"ERR too many requests"}`, upstream.Quota, "too many requests"},
		{"a quota that is used up", 400, js, `{"error":"ERR max requests limit exceeded. Limit: 500000, Usage: 500001."}`, upstream.Quota, "500000"},
		{"a broken server", 500, html, "", upstream.Server, "500"},
		{"a proxy whose server is gone", 502, html, "", upstream.Unreachable, "502"},
		{"a server that is starting", 503, html, "", upstream.Loading, "503"},
		{"half a reply", 200, "application/octet-stream", "*1\r\n$5\r\nab", upstream.Reset, "not whole"},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", tt.kind)
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		}))
		addr := strings.TrimPrefix(s.URL, "http://")
		_, err := upstream.Open(t.Context(), upstream.Options{REST: upstream.REST{URL: s.URL, Token: restToken}})
		s.Close()
		e := upstream.Detail(err)
		if e == nil || e.Class != tt.want || !strings.Contains(err.Error(), tt.say) || strings.Count(err.Error(), addr) != 1 || strings.Contains(err.Error(), restToken) {
			t.Errorf("%s: Open = %v (%v), want class %q, %q in it, and the address once", tt.name, err, e, tt.want, tt.say)
		}
		if tt.name == "a quota that is used up" && e != nil && (e.Limit != 500000 || e.Usage != 500001) {
			t.Errorf("%s: limit %d, usage %d", tt.name, e.Limit, e.Usage)
		}
	}
	for _, tt := range []struct {
		name string
		o    upstream.Options
		want upstream.Class
	}{
		{"nobody there", upstream.Options{REST: upstream.REST{URL: "http://127.0.0.1:1", Token: restToken}}, upstream.Refused},
		{"no token", upstream.Options{REST: upstream.REST{URL: "https://x"}}, upstream.BadOptions},
		{"a database", upstream.Options{REST: upstream.REST{URL: "https://x", Token: restToken}, DB: 2}, upstream.BadOptions},
		{"an address for TCP", upstream.Options{REST: upstream.REST{URL: "rediss://default:" + restToken + "@x:6379", Token: restToken}}, upstream.BadOptions},
		{"https where only http is", upstream.Options{REST: upstream.REST{URL: strings.Replace(startEcho(t, false).URL, "http:", "https:", 1), Token: restToken}}, upstream.TLSMismatch},
		{"http where only https is", upstream.Options{REST: upstream.REST{URL: strings.Replace(startEcho(t, true).URL, "https:", "http:", 1), Token: restToken}}, upstream.TLSMismatch},
		{"a certificate nobody trusts", upstream.Options{REST: upstream.REST{URL: startEcho(t, true).URL, Token: restToken}}, upstream.TLSUntrusted},
	} {
		_, err := upstream.Open(t.Context(), tt.o)
		if got := upstream.Classify(err); got != tt.want || strings.Contains(err.Error(), restToken) {
			t.Errorf("%s: Open = %v of class %q, want %q", tt.name, err, got, tt.want)
		}
	}
}

func TestRESTOverHTTP2(t *testing.T) {
	t.Parallel()
	e := startEcho(t, true)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	o := e.options()
	o.TLS.CAFile = ca
	u := open(t, o)
	for range 20 {
		if err := u.Client().Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(map[string]bool{"HTTP/2.0": true}, e.proto); diff != "" {
		t.Errorf("protocols (-want +got):\n%s", diff)
	}
	if u.Transport() != "rest" || u.BinarySafe() || u.Instance() != "echo" || len(u.Connections()) != 0 {
		t.Errorf("transport %q, binary safe %t, instance %q, %d connections; want rest, false, echo, none", u.Transport(), u.BinarySafe(), u.Instance(), len(u.Connections()))
	}
}

func TestRESTKeepsToLimits(t *testing.T) {
	t.Parallel()
	e := startEcho(t, false)
	o := e.options()
	o.MaxCommands, o.Component = 5, meter.Cache
	u := open(t, o) // one PING
	ctx := t.Context()
	for range 3 {
		if err := u.Client().Set(ctx, "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := u.Client().TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "a"); return nil })
	if upstream.Classify(err) != upstream.Spend {
		t.Errorf("a transaction over the limit = %v, want a SpendError", err)
	}
	if err := u.Client().Get(ctx, "k").Err(); err != nil {
		t.Errorf("what the limit still allows = %v", err)
	}
	if err := u.Client().Get(ctx, "k").Err(); upstream.Classify(err) != upstream.Spend {
		t.Errorf("a command over the limit = %v, want a SpendError", err)
	}
	if got := u.Spent(); got.Commands != 5 || got.Writes != 3 {
		t.Errorf("Spent = %+v, want 5 commands of which 3 write", got)
	}
	if diff := cmp.Diff([]string{"ping", "set", "set", "set", "get"}, e.names()); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	o = e.options()
	o.ReadOnly = true
	if err := open(t, o).Client().Set(ctx, "k", "v", 0).Err(); upstream.Classify(err) != upstream.ReadOnly {
		t.Errorf("Set of a read-only upstream = %v", err)
	}
}

func TestRESTOutage(t *testing.T) { // not beside others, whose goroutines it would count
	e := startEcho(t, false)
	u := open(t, e.options())
	ctx := t.Context()
	get := func() error { return u.Client().Set(ctx, "k", "v", 0).Err() }
	if err := get(); err != nil {
		t.Fatal(err)
	}
	e.down.Store(true)
	for range 10 {
		_ = get()
	}
	before := runtime.NumGoroutine()
	var took []time.Duration
	for range 500 {
		begin := time.Now()
		if err := get(); err == nil || upstream.Classify(err) != upstream.Loading {
			t.Fatalf("during an outage = %v of class %q, want %q", err, upstream.Classify(err), upstream.Loading)
		}
		took = append(took, time.Since(begin))
	}
	if usual := median(took); usual > 10*time.Millisecond {
		t.Errorf("an error usually takes %s during an outage, want it at once", usual)
	}
	if after := runtime.NumGoroutine(); after > before+20 {
		t.Errorf("%d goroutines became %d", before, after)
	}
	e.down.Store(false)
	back := time.Now()
	for {
		asked := time.Since(back)
		err := get()
		if err == nil {
			break
		}
		if asked > 2*time.Second {
			t.Fatalf("%s after the endpoint's return: %v", asked, err)
		}
		runtime.Gosched()
	}
}

func TestRESTThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	o := upstream.Options{REST: upstream.REST{URL: "http://" + ln.Addr().String(), Token: restToken}, Timeout: 600 * time.Millisecond, Lazy: true}
	u := open(t, o)
	for i, d := range []time.Duration{300 * time.Millisecond, patience} {
		// On a busy machine the time may be up before the command is sent, and then it is not unanswered.
		for try := 0; u.Spent().Unanswered <= int64(i); try++ {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			begin := time.Now()
			err := u.Client().Get(ctx, "k").Err()
			cancel()
			if upstream.Classify(err) != upstream.Timedout || time.Since(begin) > patience/2 {
				t.Errorf("Get within %s = %v after %s, want a timeout in time", d, err, time.Since(begin))
			}
			if try == 20 {
				t.Fatalf("Spent = %+v after %d timeouts, want %d unanswered", u.Spent(), try, i+1)
			}
		}
		if got := u.Spent(); got.Unanswered != int64(i+1) {
			t.Errorf("Spent = %+v, want %d unanswered", got, i+1)
		}
	}
}
