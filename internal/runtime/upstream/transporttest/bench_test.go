package transporttest_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// BenchmarkWays measures one caller, which waits for every reply, over each way to the same server.
func BenchmarkWays(b *testing.B) {
	s := redistest.Start(b)
	endpoint := upstream.REST{URL: gatewayOver(b, s), Token: token}
	for _, way := range []struct {
		name string
		o    upstream.Options
	}{
		{"tcp", upstream.Options{URL: s.URL()}},
		{"tcp shared", upstream.Options{URL: s.URL(), Shared: true}},
		{"rest", upstream.Options{REST: endpoint}},
		{"rest shared", upstream.Options{REST: endpoint, Shared: true}},
	} {
		u := open(b, way.o)
		c := u.Client()
		b.Run(way.name+"/set", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.Set(b.Context(), "k", "0123456789", 0).Err(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(way.name+"/pipeline of 50", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Pipelined(b.Context(), func(p redis.Pipeliner) error {
					for range 50 {
						p.Get(b.Context(), "k")
					}
					return nil
				}); err != nil {
					b.Fatal(err)
				}
			}
		})
		if err := u.Close(); err != nil {
			b.Error(err)
		}
	}
}
