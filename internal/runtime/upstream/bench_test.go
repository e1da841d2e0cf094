package upstream_test

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// BenchmarkRoundTrip compares an Upstream with the same client library alone, on a real redis-server.
func BenchmarkRoundTrip(b *testing.B) {
	s := redistest.Start(b)
	u, err := upstream.Open(b.Context(), upstream.Options{URL: s.URL()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = u.Close() }()
	plain := s.Client(b)
	if err := plain.Set(b.Context(), "k", strings.Repeat("x", 1000), 0).Err(); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		client redis.UniversalClient
	}{{"plain", plain}, {"upstream", u.As(meter.Cache)}} {
		b.Run(c.name+" GET", func(b *testing.B) {
			for b.Loop() {
				if err := c.client.Get(b.Context(), "k").Err(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(c.name+" pipeline of 100 GET", func(b *testing.B) {
			for b.Loop() {
				pipe := c.client.Pipeline()
				for range 100 {
					pipe.Get(b.Context(), "k")
				}
				if _, err := pipe.Exec(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
