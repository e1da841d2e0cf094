package api

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/limit"
)

// nowhere is a ResponseWriter that keeps nothing, so that a benchmark measures the API.
type nowhere struct{ header http.Header }

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) WriteHeader(int)             {}
func (n *nowhere) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkOverhead is what the API adds to an engine that answers from memory: routing, token, request
// id, checks of the body, validation and JSON. It reports the 95th percentile of single calls besides the
// mean.
func BenchmarkOverhead(b *testing.B) {
	o := engines(b, open(b))
	l, err := limit.New(limit.Options{Client: open(b), Deadline: time.Second, Rules: []limit.Rule{{Name: "api", Limit: limit.MaxLimit, Lease: limit.LeaseOn}}})
	if err != nil {
		b.Fatal(err)
	}
	o.Limit = l
	o.Tokens = tokens()
	a := newAPI(b, o)
	if r := ask(b, a, call{method: http.MethodPut, path: "/v1/cache/keys/user:1:a", body: `{"name":"Ann"}`, header: bearer(secret(ScopeAdmin))}); r.StatusCode != 200 {
		b.Fatal(r.body)
	}
	for name, c := range map[string]call{
		"liveness":            {path: "/healthz"},
		"a value from memory": {path: "/v1/cache/keys/user:1:a"},
		"ten values from memory": {
			method: http.MethodPost, path: "/v1/cache/get",
			body: `{"keys":["` + strings.Repeat(`user:1:a","`, 9) + `user:1:a"]}`,
		},
		"a check": {method: http.MethodPost, path: "/v1/limit/check", body: `{"rule":"api","subject":{"user":"1"}}`},
	} {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				r := httptest.NewRequestWithContext(context.Background(), orGet(c.method), c.path, io.NopCloser(bytes.NewReader([]byte(c.body))))
				r.ContentLength = int64(len(c.body))
				r.Header.Set("Authorization", "Bearer "+secret(ScopeAdmin))
				if c.body != "" {
					r.Header.Set("Content-Type", "application/json")
				}
				begin := time.Now()
				a.ServeHTTP(&nowhere{http.Header{}}, r)
				took = append(took, time.Since(begin))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*95/100].Nanoseconds()), "p95-ns/op")
		})
	}
}
