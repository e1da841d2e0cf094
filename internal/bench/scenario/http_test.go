package scenario_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/bench/scenario"
)

func TestAnEndpointsAnswersAreToldApart(t *testing.T) {
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t" {
			http.Error(w, "no token", http.StatusUnauthorized)
			return
		}
		switch n.Add(1) % 3 {
		case 2:
			w.WriteHeader(http.StatusTooManyRequests)
		case 0:
			http.Error(w, "broken inside", http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	p, err := scenario.HTTP(scenario.Endpoint{URL: server.URL, Header: http.Header{"Authorization": {"Bearer t"}}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := bench.Run(t.Context(), bench.Options{Pace: bench.Pace{Rate: 300, Duration: 200 * time.Millisecond}, WarmUp: -1, Timeout: time.Minute, Class: scenario.Class}, p.Operation)
	if err != nil {
		t.Fatal(err)
	}
	if r.Done != 20 || r.Limited != 20 || r.Errors["http_500"] != 20 || !strings.Contains(r.FirstError, "broken inside") {
		t.Errorf("done %d, limited %d, errors %v, first %q; want 20 of each", r.Done, r.Limited, r.Errors, r.FirstError)
	}
	if r.Server.Count() != 20 || r.Connect.Count() == 0 {
		t.Errorf("%d times of the server and %d of connecting, want 20 and some", r.Server.Count(), r.Connect.Count())
	}
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTheClassOfAnErrorIsItsCause(t *testing.T) {
	p, err := scenario.HTTP(scenario.Endpoint{URL: "http://127.0.0.1:1/"})
	if err != nil {
		t.Fatal(err)
	}
	if got := scenario.Class(p.Operation(t.Context(), &bench.Span{})); got != "connection" {
		t.Errorf("nobody there = %s, want connection", got)
	}
	for err, want := range map[error]string{
		context.DeadlineExceeded: "timeout", errors.New("x"): "error", &scenario.StatusError{Status: 503}: "http_503",
	} {
		if got := scenario.Class(err); got != want {
			t.Errorf("Class(%v) = %s, want %s", err, got, want)
		}
	}
}

func TestAnErrorDoesNotTellTheQueryOfItsURL(t *testing.T) {
	p, err := scenario.HTTP(scenario.Endpoint{URL: "http://127.0.0.1:1/x?token=hidden"})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Operation(t.Context(), &bench.Span{}); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("nobody there: %v, want an error without the query", err)
	}
}

func TestWhatIsNoEndpointIsRefusedWithoutItsSecret(t *testing.T) {
	for _, url := range []string{"", "localhost:80", "redis://h/", "http://", "https://u:hidden@h/", "http://h/%zz?hidden"} {
		_, err := scenario.HTTP(scenario.Endpoint{URL: url})
		if err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("HTTP(%q) = %v, want an error without the secret", url, err)
		}
	}
}
