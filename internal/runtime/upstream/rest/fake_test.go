package rest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream/rest"
)

const token = "s3cr3t-token"

// patience is how long a test waits for what is about to happen, on however busy a machine.
const patience = time.Minute

// A fakeEndpoint is a REST endpoint over a Redis in memory, as small as it can be, that remembers what
// it was asked.
type fakeEndpoint struct {
	*httptest.Server
	redis *miniredis.Miniredis

	mu       sync.Mutex
	requests []seen
	override func(w http.ResponseWriter, r *http.Request) bool // answers in place of the endpoint
}

// seen is one request.
type seen struct {
	Path     string
	Sync     string
	Commands [][]string
}

func newFake(t *testing.T) *fakeEndpoint {
	t.Helper()
	f := &fakeEndpoint{redis: miniredis.RunT(t)}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

// answer makes the endpoint answer with h while it says true.
func (f *fakeEndpoint) answer(h func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.override = h
}

func (f *fakeEndpoint) log() []seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]seen(nil), f.requests...)
}

func (f *fakeEndpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	override := f.override
	f.mu.Unlock()
	if override != nil && override(w, r) {
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+token {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"error":"WRONGPASS invalid or missing auth token. See the docs for details."}`)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var cmds [][]string
	if err := json.Unmarshal(body, &cmds); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"ERR failed to parse"}`)
		return
	}
	f.mu.Lock()
	f.requests = append(f.requests, seen{r.URL.Path, r.Header.Get("Upstash-Sync-Token"), cmds})
	n := len(f.requests)
	f.mu.Unlock()
	w.Header().Set("Upstash-Sync-Token", fmt.Sprint("sync-", n))
	w.Header().Set("Redisopt-Instance", "fake-1")
	if r.URL.Path == "/multi-exec" {
		f.multi(w, cmds)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = fmt.Fprintf(w, "*%d\r\n%s", len(cmds), f.run(cmds))
}

// run executes cmds on one connection and returns the raw replies.
func (f *fakeEndpoint) run(cmds [][]string) string {
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", f.redis.Addr())
	if err != nil {
		return "-ERR no Redis\r\n"
	}
	defer func() { _ = conn.Close() }()
	done := make(chan string)
	go func() {
		r := bufio.NewReader(conn)
		var out strings.Builder
		for range cmds {
			out.WriteString(readReply(r))
		}
		done <- out.String()
	}()
	w := bufio.NewWriter(conn)
	for _, c := range cmds {
		_, _ = fmt.Fprintf(w, "*%d\r\n", len(c))
		for _, a := range c {
			_, _ = fmt.Fprintf(w, "$%d\r\n%s\r\n", len(a), a)
		}
	}
	_ = w.Flush()
	return <-done
}

func readReply(r *bufio.Reader) string {
	line, err := r.ReadString('\n')
	if err != nil {
		return ""
	}
	var n int
	switch line[0] {
	case '$':
		if _, err := fmt.Sscanf(line, "$%d", &n); err != nil || n < 0 {
			return line
		}
		body := make([]byte, n+2)
		_, _ = io.ReadFull(r, body)
		return line + string(body)
	case '*':
		if _, err := fmt.Sscanf(line, "*%d", &n); err != nil {
			return line
		}
		for range n {
			line += readReply(r)
		}
	}
	return line
}

// multi answers in JSON, integers only: enough for the tests of transactions.
func (f *fakeEndpoint) multi(w http.ResponseWriter, cmds [][]string) {
	var items []string
	for _, c := range cmds {
		reply := strings.TrimRight(f.run([][]string{c}), "\r\n")
		switch reply[0] {
		case ':':
			items = append(items, `{"result":`+reply[1:]+`}`)
		case '-':
			items = append(items, `{"error":`+fmt.Sprintf("%q", reply[1:])+`}`)
		case '+':
			items = append(items, `{"result":"OK"}`)
		default:
			items = append(items, `{"result":null}`)
		}
	}
	_, _ = io.WriteString(w, "["+strings.Join(items, ",")+"]")
}

func newTransport(t *testing.T, o rest.Options) *rest.Transport {
	t.Helper()
	if o.Token == "" {
		o.Token = token
	}
	if o.Timeout == 0 {
		o.Timeout = patience
	}
	tr, err := rest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

func client(t *testing.T, tr *rest.Transport) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: tr.Addr(), Protocol: 2, Password: "x", DisableIdentity: true, MaxRetries: -1, DialerRetries: 1, PipelinePoolSize: -1,
		Dialer:                func(ctx context.Context, _, _ string) (net.Conn, error) { return tr.Dial(ctx) },
		ContextTimeoutEnabled: true, ReadTimeout: patience,
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}
