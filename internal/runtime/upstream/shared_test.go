package upstream_test

import (
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestShared(t *testing.T) {
	s := redistest.Start(t)
	u := open(t, upstream.Options{URL: s.URL(), Shared: true})
	ctx := t.Context()

	t.Run("clients work as over a pool", func(t *testing.T) {
		c := u.As(meter.Cache)
		if err := c.Set(ctx, "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		pipe := c.TxPipeline()
		get := pipe.Get(ctx, "k")
		incr := pipe.Incr(ctx, "n")
		if _, err := pipe.Exec(ctx); err != nil || get.Val() != "v" || incr.Val() != 1 {
			t.Errorf("transaction: %v, %q, %d", err, get.Val(), incr.Val())
		}
		sub := c.Subscribe(ctx, "news")
		defer func() { _ = sub.Close() }()
		if _, err := sub.Receive(ctx); err != nil {
			t.Fatal(err)
		}
		if err := c.Publish(ctx, "news", "hello").Err(); err != nil {
			t.Fatal(err)
		}
		m, err := sub.ReceiveMessage(ctx)
		if err != nil || m.Payload != "hello" {
			t.Errorf("message: %v, %v", m, err)
		}
	})

	t.Run("the bell", func(t *testing.T) {
		sub, err := u.Bell().Subscribe(ctx, "a", "b")
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Client().Publish(ctx, "b", "x").Err(); err != nil {
			t.Fatal(err)
		}
		select {
		case m := <-sub.C():
			if m.Channel != "b" || string(m.Payload) != "x" {
				t.Errorf("got %+v", m)
			}
		case <-time.After(5 * time.Second):
			t.Error("no message")
		}
		if err := sub.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
