package rest_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/runtime/upstream/rest"
)

// A stage sends server-sent events to whoever subscribes.
type stage struct {
	*httptest.Server
	mu    sync.Mutex
	paths []string
	say   chan string // written as it is; "" ends the stream
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{say: make(chan string)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.paths = append(s.paths, r.Method+" "+r.URL.EscapedPath()+" "+r.Header.Get("Accept")+" "+r.Header.Get("Authorization"))
		s.mu.Unlock()
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		flush := http.NewResponseController(w)
		for i, name := range strings.Split(r.URL.EscapedPath(), "/")[2:] {
			_, _ = fmt.Fprintf(w, "data: subscribe,%s,%d\n\n", name, i+1)
		}
		_ = flush.Flush()
		for {
			select {
			case text := <-s.say:
				if text == "" {
					return
				}
				_, _ = io.WriteString(w, text)
				_ = flush.Flush()
			case <-r.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func next(t *testing.T, s *rest.Subscription) rest.Message {
	t.Helper()
	select {
	case m, ok := <-s.C():
		if !ok {
			t.Fatalf("the subscription ended: %v", s.Err())
		}
		return m
	case <-time.After(patience):
		t.Fatal("no message in time")
		return rest.Message{}
	}
}

func TestSubscribeByName(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	tr := newTransport(t, rest.Options{URL: st.URL})
	s, err := tr.Subscribe(t.Context(), "control", []string{"a", "a,b", "c/d é"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	st.say <- "data: message,a,hello\n\n: a comment\nevent: x\ndata: message,a,b,with, comma\r\n\r\n"
	st.say <- "data: message,a,two\ndata: lines\n\ndata: message,other,no\n\ndata: subscribe,x,1\n\ndata:message,c/d é,"
	st.say <- "late\n\ndata: message,a,\n\n"
	var got []rest.Message
	for range 5 {
		got = append(got, next(t, s))
	}
	want := []rest.Message{
		{Channel: "a", Payload: []byte("hello")},
		{Channel: "a,b", Payload: []byte("with, comma")},
		{Channel: "a", Payload: []byte("two\nlines")},
		{Channel: "c/d é", Payload: []byte("late")},
		{Channel: "a", Payload: []byte("")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, open := <-s.C(); open || s.Err() != nil {
		t.Errorf("after Close: open %v, error %v", open, s.Err())
	}
	wantPaths := []string{"POST /subscribe/a/a%2Cb/c%2Fd%20%C3%A9 text/event-stream Bearer " + token}
	if diff := cmp.Diff(wantPaths, st.paths); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestSubscribeByPattern(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	s, err := newTransport(t, rest.Options{URL: st.URL}).Subscribe(t.Context(), "control", nil, []string{"n*"})
	if err != nil {
		t.Fatal(err)
	}
	st.say <- "data: pmessage,n*,news,a,b\n\ndata: pmessage,n*,broken\n\ndata: pmessage,n*,nine,\n\n"
	got := []rest.Message{next(t, s), next(t, s)}
	want := []rest.Message{{Pattern: "n*", Channel: "news", Payload: []byte("a,b")}, {Pattern: "n*", Channel: "nine", Payload: []byte("")}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}

func TestAMessageBeforeTheLastConfirmationIsKept(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: subscribe,a,1\n\ndata: message,a,early\n\ndata: subscribe,b,2\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(srv.Close)
	s, err := newTransport(t, rest.Options{URL: srv.URL}).Subscribe(t.Context(), "control", []string{"a", "b"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if m := next(t, s); string(m.Payload) != "early" {
		t.Errorf("message = %+v", m)
	}
	_ = s.Close()
}

func TestAStreamThatBreaksIsMadeAnewAndSaysSo(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	s, err := newTransport(t, rest.Options{URL: st.URL}).Subscribe(t.Context(), "control", []string{"a"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	st.say <- ""
	select {
	case <-s.Gaps():
	case <-time.After(patience):
		t.Fatal("no gap was told in time")
	}
	st.say <- ": messages may have been missed\n\ndata: message,a,again\n\n"
	if m := next(t, s); string(m.Payload) != "again" {
		t.Errorf("message = %q", m.Payload)
	}
	select {
	case <-s.Gaps(): // the gateway's own
	case <-time.After(patience):
		t.Fatal("the endpoint's gap was not told in time")
	}
}

func TestASlowSubscriberIsDropped(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	s, err := newTransport(t, rest.Options{URL: st.URL}).Subscribe(t.Context(), "control", []string{"a"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	st.say <- strings.Repeat("data: message,a,x\n\n", 300)
	n := 0
	deadline := time.After(patience)
	for s.Err() == nil {
		select {
		case <-deadline:
			t.Fatal("not dropped in time")
		case <-time.After(time.Millisecond):
		}
	}
	for range s.C() {
		n++
	}
	if !errors.Is(s.Err(), rest.ErrSlow) || n != 256 {
		t.Errorf("got %d messages and %v, want 256 and ErrSlow", n, s.Err())
	}
}

func TestSubscriptionsThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		status int
		kind   string
		body   string
		want   rest.Kind
		say    string
	}{
		{"a wrong token", 401, "application/json", `{"error":"WRONGPASS no"}`, rest.Refused, "WRONGPASS no"},
		{"a web page", 200, "text/html", "<html>", rest.NotREST, "<html>"},
		{"a path that is not known", 404, "text/plain", "not found", rest.NotREST, "404"},
		{"no stream", 200, "application/json", `{"result":"OK"}`, rest.NotREST, "no stream of events"},
		{"not ready", 503, "text/html", "", rest.NotReady, "503"},
		{"a stream that ends before it is confirmed", 200, "text/event-stream", "data: subsc", rest.Lost, ""},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", tt.kind)
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		}))
		_, err := newTransport(t, rest.Options{URL: s.URL}).Subscribe(t.Context(), "control", []string{"a"}, nil)
		wantKind(t, err, tt.want)
		if err != nil && !strings.Contains(err.Error(), tt.say) {
			t.Errorf("%s: %q, want %q in it", tt.name, err, tt.say)
		}
		s.Close()
	}
	tr := newTransport(t, rest.Options{URL: "http://127.0.0.1:1"})
	for _, channels := range [][]string{nil, {""}, {"a\nb"}} {
		if _, err := tr.Subscribe(t.Context(), "control", channels, nil); err == nil {
			t.Errorf("Subscribe(%q): got no error", channels)
		}
	}
	hung := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer hung.Close()
	_, err := newTransport(t, rest.Options{URL: hung.URL, Timeout: 50 * time.Millisecond}).Subscribe(t.Context(), "control", []string{"a"}, nil)
	wantKind(t, err, rest.TimedOut)
}
