package mover

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// fill adds n waiting Bull jobs as the library writes them.
func fill(ctx context.Context, tb testing.TB, client redis.UniversalClient, e Endpoint, n int) {
	tb.Helper()
	for at := 1; at <= n; at += 1000 {
		_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
			var ids []any
			for i := at; i < at+1000 && i <= n; i++ {
				id := strconv.Itoa(i)
				p.HSet(ctx, e.Key(id), "name", "__default__", "data", fmt.Sprintf(`{"n":%d,"user":"someone@example.com"}`, i),
					"opts", `{"attempts":3,"delay":0,"timestamp":1795380456459}`, "timestamp", "1795380456459",
					"delay", "0", "priority", "0")
				ids = append(ids, id)
			}
			p.LPush(ctx, e.Key("wait"), ids...)
			return nil
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	if err := client.Set(ctx, e.Key("id"), n, 0).Err(); err != nil {
		tb.Fatal(err)
	}
}

func TestQuick(t *testing.T) {
	srv := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: srv.Addr, PoolSize: 2})
	defer client.Close()
	ctx := t.Context()
	from := Endpoint{Bull, 4, "bull", "q"}
	to := Endpoint{BullMQ, 5, "bullmq", "q"}
	for _, size := range []int{50, 1, 50} {
		client.FlushAll(ctx)
		n := 20000
		fill(ctx, t, client, from, n)
		client.ConfigResetStat(ctx)
		m, err := New(client, Options{From: from, To: to, ChunkSize: size})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		res, err := m.Move(ctx)
		if err != nil {
			t.Fatal(err)
		}
		d := time.Since(start)
		info := client.Info(ctx, "commandstats").Val()
		for _, l := range strings.Split(info, "\n") {
			if strings.HasPrefix(l, "cmdstat_") {
				t.Log(l)
			}
		}
		t.Logf("chunk %d: %v in %v: %.0f jobs/s", size, res.Moved, d, float64(n)/d.Seconds())
	}
}
