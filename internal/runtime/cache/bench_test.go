package cache_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/cache"
)

// BenchmarkHotGet is a read from memory: what the application pays when the Redis is not asked.
func BenchmarkHotGet(b *testing.B) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1})
	defer func() { _ = client.Close() }()
	c, err := cache.New(cache.Options{Client: client})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	// The upstream is down: the value is in memory only, and believed there for a minute.
	if _, err := c.Set(b.Context(), "page:home", []byte("hello"), cache.SetOptions{}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if r, err := c.Get(b.Context(), "page:home"); err != nil || !r.Hit {
			b.Fatal(r, err)
		}
	}
}
