package rest_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/upstream/rest"
)

// ask sends s over a new connection and returns what comes back.
func ask(t *testing.T, tr *rest.Transport, s string) (string, error) {
	t.Helper()
	c, err := tr.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, s); err != nil {
		return "", err
	}
	buf := make([]byte, 1<<16)
	n, err := c.Read(buf)
	return string(buf[:n]), err
}

func TestEndpointsThatAnswerSomethingElse(t *testing.T) {
	t.Parallel()
	one, two := words("GET", "a"), words("GET", "a")+words("SET", "b", "c")
	tx := words("MULTI") + words("GET", "a") + words("EXEC")
	type answer struct {
		status int
		kind   string
		body   string
	}
	const html, octets, js = "text/html; charset=utf-8", "application/octet-stream", "application/json"
	for _, tt := range []struct {
		name string
		send string
		with answer
		kind rest.Kind // or
		got  string    // the beginning of the replies
		say  []string
	}{
		{"a web page is not a Redis", one, answer{200, html, "<html>hello " + token + "</html>"}, rest.NotREST, "", []string{"not a Redis REST endpoint", "<html>", "text/html"}},
		{"a web page with status 404", one, answer{404, html, "<html>no</html>"}, rest.NotREST, "", []string{"404", "<html>"}},
		{"a plain text that begins like a reply", one, answer{200, "text/plain", "+OK\r\n"}, rest.NotREST, "", nil},
		{"a redirect is not followed", one, answer{302, html, ""}, rest.NotREST, "", []string{"302", "an empty answer"}},
		{"a method that is not allowed", one, answer{405, js, `{"error":"ERR method not allowed"}`}, rest.NotREST, "", []string{"405", "method not allowed"}},
		{"half a bulk string", one, answer{200, octets, "*1\r\n$10\r\nabc"}, rest.Lost, "", []string{"not whole"}},
		{"half a pipeline", two, answer{200, octets, "*2\r\n+OK\r\n"}, rest.Lost, "", []string{"not whole"}},
		{"half of a JSON answer", two, answer{200, js, `[{"result":"T0s="},{"res`}, rest.Lost, "", []string{"not whole"}},
		{"nothing at all", one, answer{200, octets, ""}, rest.Lost, "", []string{"not whole"}},
		{"too few replies", two, answer{200, octets, "*1\r\n+OK\r\n"}, rest.NotREST, "", []string{"number of replies"}},
		{"too many replies", two, answer{200, js, `[{"result":1},{"result":1},{"result":1}]`}, rest.NotREST, "", []string{"3 results, want 2"}},
		{"more after the reply", one, answer{200, octets, "*1\r\n+OK\r\n+OK\r\n"}, rest.NotREST, "", []string{"after its end"}},
		{"a reply of a later protocol", one, answer{200, octets, "*1\r\n%1\r\n+a\r\n+b\r\n"}, rest.NotREST, "", nil},
		{"a number that is none", one, answer{200, octets, "*1\r\n:1x\r\n"}, rest.NotREST, "", nil},
		{"an object whose keys are not base64", tx, answer{200, js, `[{"result":{"a":1}}]`}, rest.NotREST, "", []string{"base64"}},
		{"an object, for those who answer HGETALL so", one, answer{200, js, `[{"result":{"b":{},"a":"1"}}]`}, "", "*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n*0\r\n", nil},
		{"neither result nor error", tx, answer{200, js, `[{}]`}, rest.NotREST, "", []string{"neither a result nor an error"}},
		{"a string that is not base64", tx, answer{200, js, `[{"result":"?"}]`}, rest.NotREST, "", []string{"base64"}},
		{"a token refused without words", one, answer{401, html, "<html>"}, rest.NoAuth, "", []string{"token is refused", "401"}},
		{"forbidden without words", one, answer{403, html, "<html>"}, rest.Forbidden, "", []string{"403"}},
		{"a token refused in words", two, answer{401, js, `{"error":"WRONGPASS invalid or missing auth token: ` + token + `"}`}, "", "-WRONGPASS invalid or missing auth token: [token]\r\n-WRONGPASS", nil},
		{"too many requests", one, answer{429, js, `{"error":"ERR too many requests"}`}, rest.TooMany, "", []string{"allows no more requests now", "429", "too many requests, retry after 7"}},
		{"too large a request in the provider's words", one, answer{413, js, `{"error":"ERR max request size exceeded. Limit: 5 bytes, Actual: 9 bytes"}`}, "", "-ERR max request size exceeded. Limit: 5 bytes, Actual: 9 bytes\r\n", nil},
		{"too large a request in no words", two, answer{413, html, "<html>"}, "", "-ERR max request size exceeded\r\n-ERR max request size exceeded\r\n", nil},
		{"a broken endpoint", words("SET", "a", "b"), answer{500, html, "<html>"}, rest.Broken, "", []string{"500"}},
		{"an endpoint that is not ready", words("SET", "a", "b"), answer{503, js, `{"error":"ERR upstream is down"}`}, rest.NotReady, "", []string{"upstream is down"}},
		{"an endpoint whose Redis does not answer", words("SET", "a", "b"), answer{504, js, `{"error":"ERR no reply from the Redis in time; the command may have run"}`}, rest.TimedOut, "", []string{"504", "may have run"}},
		{"a proxy without a backend", words("SET", "a", "b"), answer{502, html, "<html>"}, rest.NoBackend, "", []string{"502"}},
		{"a reply larger than allowed", one, answer{200, octets, "*1\r\n$5000\r\n" + strings.Repeat("x", 5000) + "\r\n"}, rest.TooLarge, "", []string{"more than 4096 bytes"}},
		{"a command that failed, in JSON", one, answer{200, js, `[{"error":"WRONGTYPE wrong"}]`}, "", "-WRONGTYPE wrong\r\n", nil},
		{"a request refused in RESP", two, answer{400, octets, "-ERR no\r\n"}, "", "-ERR no\r\n-ERR no\r\n", nil},
		{"a quota that is used up", two, answer{400, js, `{"error":"ERR max requests limit exceeded. Limit: 1, Usage: 2"}`}, "", "-ERR max requests limit exceeded. Limit: 1, Usage: 2\r\n-ERR max requests", nil},
		{"an error over two lines is one", one, answer{400, js, `{"error":"bad\r\nthing"}`}, "", "-ERR bad  thing\r\n", nil},
		{"JSON although RESP was asked for", two, answer{200, js, `[{"result":"x"},{"error":"ERR no"}]`}, "", "$1\r\nx\r\n-ERR no\r\n", nil},
		{"an empty answer of 400", one, answer{400, octets, ""}, rest.NotREST, "", nil},
		{"a transaction that was discarded", tx, answer{400, js, `{"error":"EXECABORT Transaction discarded because of previous errors."}`}, "", "-EXECABORT Transaction discarded because of previous errors.\r\n", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int64
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				n.Add(1)
				w.Header().Set("Content-Type", tt.with.kind)
				w.Header().Set("Retry-After", "7")
				w.Header().Set("Location", "http://127.0.0.1:1/")
				w.WriteHeader(tt.with.status)
				_, _ = io.WriteString(w, tt.with.body)
			}))
			t.Cleanup(s.Close)
			tr := newTransport(t, rest.Options{URL: s.URL, MaxReplyBytes: 4096, MaxAttempts: 1})
			c := dial(t, tr)
			_, _ = io.WriteString(c, tt.send)
			buf := make([]byte, 1<<14)
			k, err := c.Read(buf)
			got := string(buf[:k])
			if tt.send == tx { // what was queued comes first
				k, err = c.Read(buf)
				got = string(buf[:k])
			}
			if tt.kind != "" {
				wantKind(t, err, tt.kind)
				for _, s := range append(tt.say, tr.Addr()) {
					if err != nil && !strings.Contains(err.Error(), s) {
						t.Errorf("error %q, want %q in it", err, s)
					}
				}
			} else if err != nil || !strings.HasPrefix(got, tt.got) {
				t.Errorf("got %q, %v, want %q", got, err, tt.got)
			}
			if err != nil && strings.Contains(err.Error(), token) || strings.Contains(got, token) {
				t.Errorf("the token shows: %v %q", err, got)
			}
			if n.Load() != 1 {
				t.Errorf("%d requests, want 1", n.Load())
			}
		})
	}
}

func TestAConnectionThatEnds(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n.Add(1)
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "*1\r\n$90\r\nabc")
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}))
	t.Cleanup(s.Close)
	tr := newTransport(t, rest.Options{URL: s.URL, MaxAttempts: 2, RetryShare: 1, BreakAfter: 100})
	_, err := ask(t, tr, words("SET", "a", "b"))
	wantKind(t, err, rest.Lost)
	if e, _ := errors.AsType[*rest.Error](err); e == nil || e.Unsent || n.Load() != 1 {
		t.Errorf("a write whose reply was lost was sent %d times, %+v; want once, and no claim that it was not sent", n.Load(), e)
	}
	n.Store(0)
	if _, err = ask(t, tr, words("GET", "a")); n.Load() != 2 {
		t.Errorf("a read whose reply was lost was sent %d times (%v), want twice", n.Load(), err)
	}
	n.Store(0)
	if _, err = ask(t, tr, words("GET", "a")+words("INCR", "a")); n.Load() != 1 {
		t.Errorf("a pipeline with a write in it was sent %d times (%v), want once", n.Load(), err)
	}
	n.Store(0)
	if _, err = ask(t, tr, words("EVAL", "return 1", "0")); n.Load() != 1 {
		t.Errorf("a script was sent %d times (%v), want once", n.Load(), err)
	}
}

func TestWhatNeverArrivedIsSentAgain(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	for try := 0; !sentAgain(t, f); try++ {
		if try == 10 {
			t.Fatal("others took the port each time")
		}
	}
}

// sentAgain is false when somebody else has taken the port meanwhile.
func sentAgain(t *testing.T, f *fakeEndpoint) bool {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	tr := newTransport(t, rest.Options{URL: "http://" + addr, MaxAttempts: 20, RetryShare: 1, BreakAfter: 100})
	_, refused := ask(t, newTransport(t, rest.Options{URL: "http://" + addr, MaxAttempts: 1}), words("SET", "a", "b"))
	got := make(chan string, 1)
	go func() {
		reply, err := ask(t, tr, words("SET", "a", "b"))
		got <- fmt.Sprint(reply, err)
	}()
	runtime.Gosched()
	if ln, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr); err != nil {
		<-got
		return false
	}
	wantKind(t, refused, rest.Unreached)
	if e, _ := errors.AsType[*rest.Error](refused); e == nil || !e.Unsent {
		t.Errorf("a refused connection = %+v, want Unsent", e)
	}
	s := &http.Server{Handler: f, ReadHeaderTimeout: patience}
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(func() { _ = s.Close() })
	if r := <-got; r != "+OK\r\n<nil>" && !strings.Contains(r, "refused") {
		t.Errorf("got %q", r)
	}
	return true
}

func TestAnEndpointThatSaysItSentNothingIsAskedAgain(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var n atomic.Int64
	f.answer(func(w http.ResponseWriter, _ *http.Request) bool {
		if n.Add(1) > 1 {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"error":"ERR too many commands wait for the Redis; the command was not sent"}`)
		return true
	})
	tr := newTransport(t, rest.Options{URL: f.URL})
	if got, err := ask(t, tr, words("INCR", "a")); err != nil || got != ":1\r\n" || n.Load() != 2 {
		t.Errorf("a write that was not sent = %q, %v after %d requests, want it sent again", got, err, n.Load())
	}
}

func TestRetriesAreAShareOfTheRequests(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(s.Close)
	tr := newTransport(t, rest.Options{URL: s.URL, BreakAfter: 1 << 30})
	const requests = 100
	for range requests {
		_, err := ask(t, tr, words("GET", "a"))
		wantKind(t, err, rest.NotReady)
	}
	if got := n.Load(); got < requests+5 || got > requests+11 {
		t.Errorf("%d requests became %d, want 5 to 11 more", requests, got)
	}
}

func TestNoPauseAfterTheLastAttempt(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(s.Close)
	tr := newTransport(t, rest.Options{URL: s.URL, MaxAttempts: 1, BreakAfter: 1 << 30})
	begin := time.Now()
	for range 100 {
		_, _ = ask(t, tr, words("GET", "a"))
	}
	if d := time.Since(begin); d > patience/3 {
		t.Errorf("100 single attempts took %s", d)
	}
}

func TestTheBreaker(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var down atomic.Bool
	var n atomic.Int64
	f.answer(func(w http.ResponseWriter, _ *http.Request) bool {
		n.Add(1)
		if down.Load() {
			w.WriteHeader(http.StatusBadGateway)
		}
		return down.Load()
	})
	tr := newTransport(t, rest.Options{URL: f.URL, MaxAttempts: 1, BreakAfter: 3, Cooldown: 100 * time.Millisecond})
	down.Store(true)
	for range 3 {
		_, err := ask(t, tr, words("SET", "a", "b"))
		if e, ok := errors.AsType[*rest.Error](err); !ok || e.Open || e.Kind != rest.NoBackend {
			t.Fatalf("while it closes = %v, want %s", err, rest.NoBackend)
		}
	}
	begin := time.Now()
	opened := 0
	for range 200 {
		_, err := ask(t, tr, words("SET", "a", "b"))
		if e, ok := errors.AsType[*rest.Error](err); ok && e.Open {
			opened++
			if !e.Unsent || e.Kind != rest.NoBackend || !strings.Contains(err.Error(), "not tried") {
				t.Fatalf("while open = %v, want the cause, and that it was not tried", err)
			}
		}
	}
	trials := int64(time.Since(begin)/(100*time.Millisecond)) + 1
	if opened == 0 || int64(opened) < 200-trials || n.Load() > 3+trials {
		t.Errorf("while open, %d of 200 were refused at once and %d requests left in %s", opened, n.Load(), time.Since(begin))
	}
	down.Store(false)
	back := time.Now()
	for {
		asked := time.Since(back)
		got, err := ask(t, tr, words("SET", "a", "b"))
		if err == nil && got == "+OK\r\n" {
			break
		}
		if asked > 2*time.Second {
			t.Fatalf("%s after the endpoint's return: %v", asked, err)
		}
		runtime.Gosched()
	}
	for range 5 {
		if _, err := ask(t, tr, words("GET", "a")); err != nil {
			t.Fatalf("after its return: %v", err)
		}
	}
}

func TestImpatientCallersDoNotOpenTheBreaker(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var slow atomic.Bool
	f.answer(func(_ http.ResponseWriter, r *http.Request) bool {
		if slow.Load() {
			select {
			case <-r.Context().Done():
			case <-time.After(400 * time.Millisecond):
			}
		}
		return false
	})
	slow.Store(true)
	tr := newTransport(t, rest.Options{URL: f.URL, BreakAfter: 2})
	for range 3 {
		if _, err := ask(t, tr, words("GET", "a")); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		_, err := readWithin(t, tr, 100*time.Millisecond, words("GET", "a"))
		wantKind(t, err, rest.TimedOut)
	}
	if _, err := ask(t, tr, words("GET", "a")); err != nil {
		t.Errorf("for a patient caller = %v, want a reply", err)
	}
}

func TestOptionsSayAllThatIsWrong(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		o    rest.Options
		want []string
	}{
		{"nothing given", rest.Options{}, []string{"url: empty", "token: empty"}},
		{"a TCP address", rest.Options{URL: "rediss://default:" + token + "@eu1.upstash.io:6379", Token: "x"}, []string{"rediss:// is the address for TCP", "https://eu1.upstash.io"}},
		{"credentials in the URL", rest.Options{URL: "https://u:" + token + "@x", Token: "x"}, []string{"has a user or a password"}},
		{"a token in the query", rest.Options{URL: "https://x/?_token=" + token, Token: "x"}, []string{"has a query"}},
		{"a token with a line break", rest.Options{URL: "https://x", Token: token + "\n"}, []string{"line break"}},
		{"a token no header can carry", rest.Options{URL: "https://x", Token: token + "\x00é"}, []string{"no HTTP header"}},
		{"no host", rest.Options{URL: "https://", Token: "x"}, []string{"no host"}},
		{"no scheme", rest.Options{URL: "x.upstash.io", Token: "x"}, []string{"want https://host"}},
		{"a URL that cannot be parsed", rest.Options{URL: "https://%" + token, Token: "x"}, []string{"cannot be parsed"}},
		{"spaces", rest.Options{URL: " https://x", Token: "x"}, []string{"spaces"}},
		{"numbers out of range", rest.Options{
			URL: "https://x", Token: "x", Format: "xml", Timeout: -1, MaxConnections: -1, MaxBatch: -1, MaxRequestBytes: -1,
			MaxReplyBytes: -1, MaxAttempts: -1, RetryShare: 2, BreakAfter: -1, Cooldown: -1,
		}, []string{"format", "timeout", "max connections", "max batch", "max request bytes", "max reply bytes", "max attempts", "retry share", "break after", "cooldown"}},
	} {
		_, err := rest.New(tt.o)
		if err == nil {
			t.Errorf("%s: got no error", tt.name)
			continue
		}
		for _, w := range tt.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q, want %q in it", tt.name, err, w)
			}
		}
		if strings.Contains(err.Error(), token) {
			t.Errorf("%s: %q shows the token", tt.name, err)
		}
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	tr, err := rest.New(rest.Options{URL: f.URL + "/", Token: token})
	if err != nil {
		t.Fatal(err)
	}
	if got := tr.Instance(); got != "" {
		t.Errorf("Instance before an answer = %q", got)
	}
	if _, err := ask(t, tr, words("PING")); err != nil {
		t.Fatal(err)
	}
	if got := tr.Instance(); got != "fake-1" {
		t.Errorf("Instance = %q, want that of the answer", got)
	}
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Dial(t.Context()); err == nil {
		t.Error("Dial after Close: got no error")
	}
	if _, err := tr.Subscribe(t.Context(), "", []string{"c"}, nil); err == nil {
		t.Error("Subscribe after Close: got no error")
	}
}

func TestAWrongTokenIsAReply(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	tr := newTransport(t, rest.Options{URL: f.URL, Token: "wrong"})
	got, err := ask(t, tr, words("PING"))
	if err != nil || !strings.HasPrefix(got, "-WRONGPASS invalid or missing auth token") {
		t.Errorf("got %q, %v", got, err)
	}
}
