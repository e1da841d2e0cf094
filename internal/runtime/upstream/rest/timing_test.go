package rest_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/upstream/rest"
)

// timings are what a transport told.
type timings struct {
	mu   sync.Mutex
	told []rest.Timing
}

func (s *timings) add(one rest.Timing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, one)
}

func (s *timings) all() []rest.Timing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]rest.Timing(nil), s.told...)
}

func TestEachRequestTellsWhereItsTimeWent(t *testing.T) {
	const takes = 30 * time.Millisecond
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-time.After(takes):
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, `[{"result":"v"}]`)
	}))
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	told := &timings{}
	c := client(t, newTransport(t, rest.Options{
		URL: server.URL, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, Observer: rest.Observer{Timed: told.add},
	}))
	for range 2 {
		if err := c.Get(t.Context(), "k").Err(); err != nil {
			t.Fatal(err)
		}
	}
	all := told.all()
	if len(all) < 2 {
		t.Fatalf("%d requests told, want 2", len(all))
	}
	first, last := all[0], all[len(all)-1]
	if first.Connect <= 0 || first.TLS <= 0 || first.Server < takes {
		t.Errorf("first request: %+v, want all three, and %s of the server", first, takes)
	}
	if last.Connect != 0 || last.TLS != 0 || last.Server < takes {
		t.Errorf("request over the same connection: %+v, want the server alone, %s", last, takes)
	}
}

func TestARequestWithoutAnAnswerTellsNothingOfTheServer(t *testing.T) {
	told := &timings{}
	c := client(t, newTransport(t, rest.Options{URL: "http://127.0.0.1:1", MaxAttempts: 1, Observer: rest.Observer{Timed: told.add}}))
	if err := c.Get(t.Context(), "k").Err(); err == nil {
		t.Fatal("nobody answered, and there was no error")
	}
	for _, one := range told.all() {
		if one != (rest.Timing{}) {
			t.Errorf("told %+v, want nothing", one)
		}
	}
}

func TestAnAnswerBeforeAllWasSentTellsNothingOfTheServer(t *testing.T) {
	var trace rest.Trace
	hooks := httptrace.ContextClientTrace(trace.Context(t.Context()))
	hooks.GotFirstResponseByte()
	hooks.WroteRequest(httptrace.WroteRequestInfo{})
	if got := trace.Timing().Server; got != 0 {
		t.Errorf("the server took %s, want nothing known", got)
	}
}
