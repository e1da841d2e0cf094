package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/cache"
	"github.com/redisopt/redisopt/internal/runtime/control"
	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/limit"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/queue/cron"
	"github.com/redisopt/redisopt/internal/runtime/ramp"
	"github.com/redisopt/redisopt/internal/runtime/upstream/fleet"
)

// tokens are one for each scope, named after it, and one that may do everything.
func tokens() []Token {
	var all []Token
	for _, s := range Scopes() {
		all = append(all, Token{Name: "only " + string(s), Secret: secret(s), Scopes: []Scope{s}})
	}
	return all
}

func secret(s Scope) string { return "secret-of-" + string(s) }

// open starts an embedded Redis, and a client that keeps to deadlines.
func open(t testing.TB) *redis.Client {
	t.Helper()
	server, err := embedded.Start(t.Context(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	client := newClient(server.Addr())
	t.Cleanup(func() {
		_ = client.Close()
		_ = server.Close()
	})
	return client
}

// newClient is a client that gives up only when the context of a command ends.
func newClient(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: addr, ContextTimeoutEnabled: true, MaxRetries: -1, DisableIdentity: true,
		DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience,
	})
}

// patience is how long an engine waits for the upstream in tests: an answer that comes late on a busy
// machine is an answer all the same.
const patience = time.Minute

// engines are Options with everything behind them, over client.
func engines(t testing.TB, client redis.UniversalClient) Options {
	t.Helper()
	m := meter.New()
	c, err := cache.New(cache.Options{Client: client, BinarySafe: true, Deadline: patience, Namespaces: map[string]cache.Namespace{
		"shared": {Codec: cache.IORedisJSON},
		"user":   {OwnerParts: 1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	l, err := limit.New(limit.Options{Client: client, HashKey: []byte("0123456789abcdef0123456789abcdef"), Deadline: patience, Rules: []limit.Rule{
		{Name: "api"},
		{Name: "two", Limit: 2, Lease: limit.LeaseOff},
		{Name: "shut", Limit: 2, OnError: limit.Closed},
		{Name: "address", Limit: 2, By: limit.ByIP},
		limit.SMS(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	k, err := control.Open(control.Options{Client: client, StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	schedules, err := cron.New(cron.Options{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	members, err := fleet.New(fleet.Options{Client: client, Replica: "a", Instance: "1"})
	if err != nil {
		t.Fatal(err)
	}
	return Options{Cache: c, Limit: l, Queue: queues(t, client), Schedules: schedules, Fleet: members, Idle: func() []IdleCommand { return nil }, Control: k, Ramp: &RampView{Ledger: ramp.NewLedger()}, Meter: m, Version: "1.2.3", InstanceID: "replica-1", Timeout: patience, ProbeTimeout: patience}
}

func newAPI(t testing.TB, o Options) *API {
	t.Helper()
	a, err := New(o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return a
}

// An answer is a response with its body.
type answer struct {
	*http.Response
	body string
}

// A call is a request to be made. Its zero value is GET without a body.
type call struct {
	method, path, body string
	header             map[string]string
	host               string
}

// ask makes one request of a without a connection.
func ask(t testing.TB, a http.Handler, c call) answer {
	t.Helper()
	var body io.Reader
	if c.body != "" {
		body = strings.NewReader(c.body)
	}
	r := httptest.NewRequestWithContext(context.Background(), orGet(c.method), c.path, body)
	r.Host = "127.0.0.1:8080"
	if c.host != "" {
		r.Host = c.host
	}
	if c.body != "" && (c.method == http.MethodPost || c.method == http.MethodPut) {
		r.Header.Set("Content-Type", "application/json")
	}
	for name, value := range c.header {
		r.Header.Set(name, value)
		if value == "" {
			r.Header.Del(name)
		}
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return answer{w.Result(), w.Body.String()}
}

func orGet(method string) string {
	if method == "" {
		return http.MethodGet
	}
	return method
}

func bearer(secret string) map[string]string {
	return map[string]string{"Authorization": "Bearer " + secret}
}

// problem reads the body of an error, and checks what every error has.
func (r answer) problem(t testing.TB) Problem {
	t.Helper()
	if got := r.Header.Get("Content-Type"); got != problemType {
		t.Fatalf("Content-Type = %q, want %q; status %d, body %s", got, problemType, r.StatusCode, r.body)
	}
	var p Problem
	if err := json.Unmarshal([]byte(r.body), &p); err != nil {
		t.Fatalf("problem %q: %v", r.body, err)
	}
	if p.Status != r.StatusCode || p.Type != "urn:redisopt:problem:"+p.Code || p.Title == "" || p.Detail == "" || p.RequestID == "" {
		t.Errorf("problem = %+v with status %d, want it whole", p, r.StatusCode)
	}
	if id := r.Header.Get("X-Request-Id"); id != p.RequestID {
		t.Errorf("request id = %q in the problem, %q in the header", p.RequestID, id)
	}
	return p
}

// decode reads a JSON answer.
func decode[T any](t testing.TB, r answer, status int) T {
	t.Helper()
	var v T
	if r.StatusCode != status {
		t.Fatalf("status = %d, want %d; body %s", r.StatusCode, status, r.body)
	}
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("body %q: %v", r.body, err)
	}
	return v
}

// eventually waits until what is so.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("after %s: not yet: %s", patience, what)
		}
	}
}
