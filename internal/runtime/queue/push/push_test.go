package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

var _ queue.Runner = (*Endpoint)(nil)

func secret() []byte { return []byte("0123456789abcdef0123456789abcdef") }

func sender(t testing.TB) *Sender {
	t.Helper()
	s, err := New(Options{MaxConnections: 16})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func endpoint(t testing.TB, url string, change ...func(*EndpointOptions)) *Endpoint {
	t.Helper()
	return of(t, sender(t), url, change...)
}

func of(t testing.TB, s *Sender, url string, change ...func(*EndpointOptions)) *Endpoint {
	t.Helper()
	opts := EndpointOptions{URL: url, Secrets: [][]byte{secret()}, Timeout: time.Minute}
	for _, f := range change {
		f(&opts)
	}
	e, err := s.Endpoint(opts)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func job() queue.Job {
	return queue.Job{
		Queue: "mail", ID: "id-1", Name: "welcome", Payload: []byte(`{"to":"a@example.com"}`), Attempt: 2, Attempts: 3,
		Headers: map[string]string{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tenant": "blau ä"},
	}
}

// serve answers every request alike and stops when the test ends.
func serve(t testing.TB, f http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return server.URL
}

func TestAJobArrivesWithWhatIdentifiesIt(t *testing.T) {
	var got http.Header
	var body []byte
	var verified error
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		body, _ = io.ReadAll(r.Body)
		verified = Verify([][]byte{secret()}, r.Header, body, time.Now())
		_, _ = io.WriteString(w, `{"sent":true}`)
	})
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(30*time.Second))
	defer cancel()
	result, err := endpoint(t, url).Run(ctx, job())
	if err != nil || string(result) != `{"sent":true}` || verified != nil || string(body) != `{"to":"a@example.com"}` {
		t.Fatalf("Run = %q, %v; body %q, verified %v", result, err, body, verified)
	}
	deadline, err := time.Parse(time.RFC3339, got.Get("Redisopt-Deadline"))
	if want, _ := ctx.Deadline(); err != nil || deadline.Sub(want).Abs() > 10*time.Millisecond {
		t.Errorf("deadline %s, %v; want %s", deadline, err, want)
	}
	want := map[string]string{
		"Redisopt-Queue": "mail", "Redisopt-Job-Id": "id-1", "Redisopt-Job-Name": "welcome", "Redisopt-Attempt": "2", "Redisopt-Attempts": "3",
		"Idempotency-Key": "mail/id-1", "Traceparent": job().Headers["traceparent"], "Redisopt-Header-Tenant": "blau %C3%A4",
		"Content-Type": "application/json", "User-Agent": "redisopt",
	}
	for name, value := range want {
		if got.Get(name) != value {
			t.Errorf("%s: %q, want %q", name, got.Get(name), value)
		}
	}
}

func TestHostileNamesStayInsideTheirHeader(t *testing.T) {
	var got http.Header
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		body, _ := io.ReadAll(r.Body)
		if err := Verify([][]byte{secret()}, r.Header, body, time.Now()); err != nil {
			t.Errorf("Verify = %v", err)
		}
	})
	j := job()
	j.ID, j.Name, j.Payload = "a\r\nX-Evil: 1", " ü 100%\x00 ", []byte{0xff, 0}
	j.Headers = map[string]string{"baggage": "a=1\r\nX-Evil: 1", "bad name\r\n": "x", "Host": "evil", "": "x"}
	if _, err := endpoint(t, url).Run(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	if got.Get("X-Evil") != "" || got.Get("Redisopt-Job-Id") != "a%0D%0AX-Evil: 1" || got.Get("Redisopt-Job-Name") != "%20%C3%BC 100%25%00%20" ||
		got.Get("Content-Type") != "application/octet-stream" || got.Get("Redisopt-Header-Host") != "evil" {
		t.Errorf("headers %v", got)
	}
}

// outcome names what the queue makes of an error.
func outcome(err error) string {
	if err == nil {
		return "done"
	}
	if e, ok := errors.AsType[*queue.DeadError](err); ok {
		return "dead: " + e.Reason
	}
	if e, ok := errors.AsType[*queue.RetryAfterError](err); ok {
		return "after " + e.After.String()
	}
	return "retry: " + err.Error()
}

func TestWhatEachAnswerMeans(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   string // URL stands for the endpoint's
	}{
		{"201 is done", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201) }, "done"},
		{"204 is done", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, "done"},
		{"409 is a dead letter", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no such\n\tuser\x00", http.StatusConflict)
		}, "dead: URL answered 409 Conflict: no such user"},
		{"422 is a dead letter, its reason bounded", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, strings.Repeat("x", 5000), http.StatusUnprocessableEntity)
		}, "dead: URL answered 422 Unprocessable Entity: " + strings.Repeat("x", 500) + " …"},
		{"429 with seconds waits", after(429, "7"), "after 7s"},
		{"503 with seconds waits", after(503, "120"), "after 2m0s"},
		{"a Retry-After of no time waits a second", after(503, "0"), "after 1s"},
		{"a Retry-After of years is cut", after(429, "4000000000"), "after 1h0m0s"},
		{"a Retry-After in the past waits a second", after(429, "Mon, 02 Jan 2006 15:04:05 GMT"), "after 1s"},
		{"429 without one is a failed attempt", after(429, ""), "retry: URL answered 429 Too Many Requests"},
		{"a Retry-After that says nothing is none", after(503, "soon"), "retry: URL answered 503 Service Unavailable"},
		{"500 with Retry-After is a failed attempt", after(500, "7"), "retry: URL answered 500 Internal Server Error"},
		{"404 is a failed attempt", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "where?", 404) }, "retry: URL answered 404 Not Found: where?"},
		{"a redirect is not followed", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/elsewhere", http.StatusTemporaryRedirect)
		}, "retry: URL answered 307 Temporary Redirect; redirects are not followed"},
		{"an unknown status is a failed attempt", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(799) }, "retry: URL answered 799"},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := serve(t, c.answer)
			_, err := endpoint(t, url+"/jobs?token=hidden").Run(t.Context(), job())
			got := strings.ReplaceAll(outcome(err), url+"/jobs", "URL")
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	t.Run("a date waits until then", func(t *testing.T) {
		date := time.Now().Add(10 * time.Minute).UTC().Truncate(time.Second)
		url := serve(t, after(503, date.Format(http.TimeFormat)))
		begin := time.Now()
		_, err := endpoint(t, url).Run(t.Context(), job())
		least, most := time.Until(date), date.Sub(begin)
		if e, ok := errors.AsType[*queue.RetryAfterError](err); !ok || e.After < least || e.After > most {
			t.Errorf("got %v, want from %s to %s", outcome(err), least, most)
		}
	})
}

func after(code int, value string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if value != "" {
			w.Header().Set("Retry-After", value)
		}
		w.WriteHeader(code)
	}
}

func TestAResultIsKeptUpToItsLimit(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	})
	var notices atomic.Int64
	e := endpoint(t, url, func(o *EndpointOptions) { o.MaxResult = 1000; o.Notice = func(error) { notices.Add(1) } })
	j := job()
	for n, want := range map[int]int{1000: 1000, 1001: 0, 1 << 20: 0} {
		j.Payload = []byte(strings.Repeat("x", n))
		if result, err := e.Run(t.Context(), j); err != nil || len(result) != want {
			t.Errorf("an answer of %d bytes: %d are kept, %v; want %d", n, len(result), err, want)
		}
	}
	if notices.Load() != 2 {
		t.Errorf("%d notices, want 2", notices.Load())
	}
}

// raw serves TCP connections; f ends when it is released.
func raw(t *testing.T, f func(conn net.Conn, released <-chan struct{})) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accept(t, listener, f)
	return "http://" + listener.Addr().String()
}

func accept(t *testing.T, listener net.Listener, f func(conn net.Conn, released <-chan struct{})) {
	t.Helper()
	released := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				buffer := make([]byte, 64<<10)
				_, _ = conn.Read(buffer)
				f(conn, released)
			})
		}
	})
	t.Cleanup(func() { close(released); listener.Close(); running.Wait() })
}

func TestAnEndpointThatMisbehavesEndsTheAttempt(t *testing.T) {
	write := func(text string) func(net.Conn, <-chan struct{}) {
		return func(c net.Conn, _ <-chan struct{}) { _, _ = io.WriteString(c, text) }
	}
	drip := func(c net.Conn, released <-chan struct{}) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
		for {
			if _, err := io.WriteString(c, "x"); err != nil {
				return
			}
			select {
			case <-released:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	attempt := func(t *testing.T, e *Endpoint, url, want string) {
		t.Helper()
		_, err := e.Run(t.Context(), job())
		if err == nil || !strings.HasPrefix(strings.ReplaceAll(err.Error(), url, "URL"), want) {
			t.Errorf("Run = %v, want %s", err, want)
		}
		// One may try when the first pause is over, and no two ever.
		if s := e.Stats(); !s.Open || s.Failed != 1 || e.Admit(1) {
			t.Errorf("stats %+v, want an open circuit", s)
		}
	}
	for name, c := range map[string]struct {
		serve   func(net.Conn, <-chan struct{})
		timeout time.Duration
		want    string
	}{
		"it hangs":               {func(_ net.Conn, released <-chan struct{}) { <-released }, 100 * time.Millisecond, "no answer from URL within 100ms"},
		"it answers garbage":     {write("\x16\x03\x01 not http\r\n\r\n"), time.Minute, "no answer from URL: net/http: "},
		"it disappears":          {func(net.Conn, <-chan struct{}) {}, time.Minute, "no answer from URL: "},
		"it stops in the middle": {write("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf"), time.Minute, "200 OK, but not the whole answer from URL: unexpected EOF"},
		"its headers never end": {func(c net.Conn, released <-chan struct{}) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			for range 3000 {
				if _, err := io.WriteString(c, "X-A: "+strings.Repeat("a", 100)+"\r\n"); err != nil {
					return
				}
			}
			<-released
		}, time.Minute, "no answer from URL: "},
	} {
		t.Run(name, func(t *testing.T) {
			url := raw(t, c.serve)
			attempt(t, endpoint(t, url, func(o *EndpointOptions) { o.Timeout = c.timeout; o.Failures = 1 }), url, c.want)
		})
	}
	t.Run("it drips", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { // the head must be there within the second
			s := sender(t)
			accept(t, newWire(s), drip)
			e := of(t, s, "http://dripping", func(o *EndpointOptions) { o.Timeout = time.Second; o.Failures = 1 })
			attempt(t, e, "http://dripping", "200 OK, but not the whole answer from URL within 1s")
		})
	})
	t.Run("nobody listens", func(t *testing.T) {
		_, err := endpoint(t, "http://127.0.0.1:1").Run(t.Context(), job())
		if err == nil || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), "Post") {
			t.Errorf("Run = %v", err)
		}
	})
	t.Run("a job that is taken back is nobody's failure", func(t *testing.T) {
		begun := make(chan struct{})
		url := raw(t, func(_ net.Conn, released <-chan struct{}) { close(begun); <-released })
		e := endpoint(t, url, func(o *EndpointOptions) { o.Failures = 1 })
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-begun; cancel() }()
		if _, err := e.Run(ctx, job()); !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v, want canceled", err)
		}
		if !e.Admit(0) {
			t.Error("the circuit opened")
		}
	})
}

func TestConnectionsAreBoundedOverAllEndpoints(t *testing.T) {
	const limit = 4
	s, err := New(Options{MaxConnections: limit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	// They are counted where they are made and ended: a server learns of the end of one when others are there already.
	var open, most, served atomic.Int64
	dial := s.transport.DialContext
	s.transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		n, m := open.Add(1), most.Load()
		for n > m && !most.CompareAndSwap(m, n) {
			m = most.Load()
		}
		return &countedConn{Conn: conn, end: sync.OnceFunc(func() { open.Add(-1) })}, nil
	}
	state := func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			served.Add(1)
		case http.StateClosed, http.StateHijacked:
			served.Add(-1)
		case http.StateActive, http.StateIdle:
		}
	}
	var running sync.WaitGroup
	for range 3 {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		server.Config.ConnState = state
		server.Start()
		t.Cleanup(server.Close)
		e := of(t, s, server.URL)
		for range 8 {
			running.Go(func() {
				for range 10 {
					if _, err := e.Run(t.Context(), job()); err != nil {
						t.Errorf("Run = %v", err)
					}
				}
			})
		}
	}
	running.Wait()
	if s.Connections() > limit || most.Load() > limit {
		t.Errorf("%d connections now, up to %d at a time; want at most %d", s.Connections(), most.Load(), limit)
	}
	for end := time.Now().Add(time.Minute); served.Load() > limit; {
		if time.Now().After(end) {
			t.Fatalf("the servers still have %d connections, want at most %d", served.Load(), limit)
		}
		<-time.After(time.Millisecond)
	}
}

// A countedConn says when it is closed, right before it is.
type countedConn struct {
	net.Conn

	end func()
}

func (c *countedConn) Close() error {
	c.end()
	return c.Conn.Close()
}

// net/http counts a connection among the idle ones before it hands over an answer without a body.
func TestAnAnswerIsNotLostWhenIdleConnectionsMakeWay(t *testing.T) {
	s := sender(t)
	e := of(t, s, serve(t, func(http.ResponseWriter, *http.Request) {}))
	for range 3 {
		returned := make(chan struct{})
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{PutIdleConn: func(error) {
			s.makeWay()
			select {
			case <-returned: // without the answer
			case <-time.After(50 * time.Millisecond):
			}
		}})
		_, err := e.Run(ctx, job())
		close(returned)
		if err != nil {
			t.Fatalf("Run = %v, and the answer was there", err)
		}
		if n := s.Connections(); n != 0 {
			t.Fatalf("%d connections after the answer, want that it has made way", n)
		}
	}
}

// The design's load test, without the queue: each job runs once.
func TestAThousandJobsRunOnceEach(t *testing.T) {
	var seen sync.Map
	var conns atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		n, _ := seen.LoadOrStore(r.Header.Get("Idempotency-Key"), new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		<-time.After(10 * time.Millisecond)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	e := endpoint(t, server.URL)
	begin := time.Now()
	jobs := make(chan int)
	var running sync.WaitGroup
	for range 10 {
		running.Go(func() {
			for n := range jobs {
				j := job()
				j.ID = fmt.Sprint(n)
				if _, err := e.Run(t.Context(), j); err != nil {
					t.Errorf("job %d: %v", n, err)
				}
			}
		})
	}
	for n := range 1000 {
		jobs <- n
	}
	close(jobs)
	running.Wait()
	count := 0
	seen.Range(func(_, n any) bool { count += int(n.(*atomic.Int64).Load()); return true })
	if count != 1000 {
		t.Errorf("%d runs, want 1000", count)
	}
	t.Logf("1000 jobs of 10 ms, 10 at a time: %s over %d connections", time.Since(begin).Round(time.Millisecond), conns.Load())
}

func TestOptionsAreChecked(t *testing.T) {
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		opts EndpointOptions
		want string
	}{
		{EndpointOptions{URL: "ftp://host/x"}, `got scheme "ftp"`},
		{EndpointOptions{URL: "http:///x"}, "no host"},
		{EndpointOptions{URL: "http://user:hunter2@host/"}, "no user"},
		{EndpointOptions{URL: "http://host/#x"}, "no fragment"},
		{EndpointOptions{URL: "http://host\x7f?token=hunter2"}, "not a URL"},
		{EndpointOptions{URL: "http://host"}, "secrets: got 0"},
		{EndpointOptions{URL: "http://host", Secrets: [][]byte{[]byte("hunter2")}}, "secrets[0]: 7 bytes"},
		{EndpointOptions{URL: "http://host", Timeout: -1}, "timeout:"},
		{EndpointOptions{URL: "http://host", MaxResult: 1 << 30}, "max_result:"},
		{EndpointOptions{URL: "http://host", MaxRetryAfter: 1}, "max_retry_after:"},
	} {
		_, err := s.Endpoint(c.opts)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%+v: got %v, want %q and no secret", c.opts, err, c.want)
		}
	}
	if _, err := New(Options{MaxConnections: -1}); err == nil {
		t.Error("-1 connections were taken")
	}
}

// net/http sends a request again by itself when a connection that was kept alive ends instead of an answer, if
// the request says that it can be repeated. Here that would be an attempt that nobody counts.
func TestAnAnswerThatIsDroppedOnAKeptConnectionIsOneAttempt(t *testing.T) {
	var requests atomic.Int64
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if requests.Add(1) == 1 {
			return // the connection is kept
		}
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.Close()
	})
	e := endpoint(t, url)
	if _, err := e.Run(t.Context(), job()); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Run(t.Context(), job()); err == nil {
		t.Error("Run = nil, want that there was no answer")
	}
	if n := requests.Load(); n != 2 {
		t.Errorf("%d requests for 2 attempts", n)
	}
}
