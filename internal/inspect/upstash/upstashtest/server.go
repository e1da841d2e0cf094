// Package upstashtest stands in for the Upstash Developer API in tests, on a loopback address.
package upstashtest

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// What a Server answers for the one database it has. The object of the database holds secrets, as the
// API's does when nobody asks it to hide them.
//
//go:embed testdata/database.json
var database string

//go:embed testdata/stats.json
var stats string

// The credentials and the database of every Server.
const (
	Email    = "ops@example.com"
	Key      = "k-3f9a1c77d2"
	ID       = "96ad0856-03b1-4ee7-9666-e81abd0349e1"
	Name     = "shop"
	Endpoint = "shop-1.upstash.example"
)

// An Answer is what a Server says instead of the truth.
type Answer struct {
	Status int
	Body   string
	Header map[string]string
}

// A Server is a Developer API with one database, pay as you go, in two regions, half way through
// November 2026.
type Server struct {
	// URL is the base address.
	URL string

	mu    sync.Mutex
	next  []Answer
	asked []string
}

// Start starts a Server that ends with the test.
func Start(tb testing.TB) *Server {
	tb.Helper()
	s := &Server{}
	web := httptest.NewServer(s)
	tb.Cleanup(web.Close)
	s.URL = web.URL + "/v2"
	return s
}

// Next makes the coming requests be answered with these, one each.
func (s *Server) Next(answers ...Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = append(s.next, answers...)
}

// Asked lists the requests so far: method, path and query.
func (s *Server) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.Method+" "+r.URL.RequestURI())
	var forced *Answer
	if len(s.next) > 0 {
		forced, s.next = &s.next[0], s.next[1:]
	}
	s.mu.Unlock()
	if forced != nil {
		for k, v := range forced.Header {
			w.Header().Set(k, v)
		}
		s.say(w, forced.Status, forced.Body)
		return
	}
	email, key, _ := r.BasicAuth()
	path := strings.TrimPrefix(r.URL.Path, "/v2")
	switch {
	case email != Email || key != Key:
		s.say(w, http.StatusUnauthorized, `{"code":401,"message":"Unauthorized"}`)
	case r.Method != http.MethodGet:
		s.say(w, http.StatusMethodNotAllowed, `{"message":"method not allowed"}`)
	case path == "/redis/databases":
		s.say(w, http.StatusOK, "["+hidden(database)+"]")
	case path == "/redis/database/"+ID && r.URL.Query().Get("credentials") == "hide":
		s.say(w, http.StatusOK, hidden(database))
	case path == "/redis/database/"+ID:
		s.say(w, http.StatusOK, database)
	case path == "/redis/stats/"+ID:
		s.say(w, http.StatusOK, stats)
	default:
		s.say(w, http.StatusNotFound, `{"code":404,"message":"database not found"}`)
	}
}

func (s *Server) say(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

// hidden is the object of a database without its credentials.
func hidden(object string) string {
	var m map[string]any
	if err := json.Unmarshal([]byte(object), &m); err != nil {
		return object
	}
	delete(m, "password")
	delete(m, "rest_token")
	out, err := json.Marshal(m)
	if err != nil {
		return object
	}
	return string(out)
}

// Stats is the object that a Server answers for what was counted.
func Stats() string { return stats }

// Database is the object that a Server answers for its database, credentials included.
func Database() string { return database }
