package gateway_test

import (
	"context"
	"testing"

	"github.com/redisopt/redisopt/internal/runtime/gateway"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// BenchmarkHandle is the core without HTTP: what one request costs between an adapter and the Redis.
func BenchmarkHandle(b *testing.B) {
	srv := redistest.Start(b)
	if err := srv.Client(b).Set(b.Context(), "k", "12345678901234567890123456789012", 0).Err(); err != nil {
		b.Fatal(err)
	}
	g := newGateway(b, srv.Addr, gateway.Options{})
	auth := []byte("Bearer " + secret)
	for _, c := range []struct{ name, path, body, encoding string }{
		{"get by path", "/get/k", "", ""},
		{"get by body", "/", `["GET","k"]`, ""},
		{"get in base64", "/", `["GET","k"]`, "base64"},
		{"pipeline of one", "/pipeline", `[["GET","k"]]`, "base64"},
		{"pipeline of fifty", "/pipeline", fifty(), "base64"},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(25)
			b.RunParallel(func(pb *testing.PB) {
				var req gateway.Request
				var rep gateway.Reply
				path, body := make([]byte, 0, 64), make([]byte, 0, 4096)
				for pb.Next() {
					path, body = append(path[:0], c.path...), append(body[:0], c.body...)
					req = gateway.Request{Method: "POST", Path: path, Body: body, Authorization: auth, Encoding: []byte(c.encoding)}
					g.Handle(context.Background(), &req, &rep)
					if rep.Status != 200 {
						b.Errorf("status %d: %s", rep.Status, rep.Body)
						return
					}
				}
			})
		})
	}
}

func fifty() string {
	s := `[`
	for range 49 {
		s += `["GET","k"],`
	}
	return s + `["GET","k"]]`
}
