package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestBell(t *testing.T) {
	s := redistest.Start(t)
	u := open(t, upstream.Options{URL: s.URL(), Shared: true})
	look, ctx := s.Client(t), t.Context()
	// pubsubClients counts connections that follow something.
	pubsubClients := func() int {
		list, err := look.Do(ctx, "client", "list", "type", "pubsub").Text()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(list, "\n")
	}
	subscribe := func(t *testing.T, names ...string) *upstream.Subscription {
		t.Helper()
		sub, err := u.Bell().Subscribe(ctx, names...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = sub.Close() })
		return sub
	}
	receive := func(t *testing.T, sub *upstream.Subscription) upstream.Message {
		t.Helper()
		select {
		case m := <-sub.C():
			return m
		case <-time.After(patience):
			t.Fatal("no message in time")
		}
		return upstream.Message{}
	}

	t.Run("many subscribers share one connection, which goes with the last", func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				sub := subscribe(t, "all", fmt.Sprint("own", i))
				pattern, err := u.Bell().PSubscribe(ctx, "ow?"+fmt.Sprint(i))
				if err != nil {
					t.Error(err)
					return
				}
				look := u.As(meter.Control)
				if err := look.Publish(ctx, fmt.Sprint("own", i), i).Err(); err != nil {
					t.Error(err)
				}
				want := upstream.Message{Channel: fmt.Sprint("own", i), Payload: []byte(fmt.Sprint(i))}
				if diff := cmp.Diff(want, receive(t, sub)); diff != "" {
					t.Error(diff)
				}
				want.Pattern = "ow?" + fmt.Sprint(i)
				if diff := cmp.Diff(want, receive(t, pattern)); diff != "" {
					t.Error(diff)
				}
				_, _ = sub.Close(), pattern.Close()
			})
		}
		keeper := subscribe(t, "keeper")
		if n := pubsubClients(); n != 1 {
			t.Errorf("%d connections follow something, want 1", n)
		}
		wg.Wait()
		_ = keeper.Close()
		eventually(t, "the connection is gone", func() bool { return pubsubClients() == 0 })
	})

	t.Run("after a loss it follows again and says that there was a gap", func(t *testing.T) {
		sub := subscribe(t, "news")
		if err := look.Do(ctx, "client", "kill", "type", "pubsub").Err(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-sub.Gaps():
		case <-time.After(patience):
			t.Fatal("nothing said of the gap")
		}
		look.Publish(ctx, "news", "again")
		if m := receive(t, sub); string(m.Payload) != "again" {
			t.Errorf("got %+v", m)
		}
	})

	t.Run("a subscriber that does not read is dropped, and the others go on", func(t *testing.T) {
		slow, quick := subscribe(t, "flood"), subscribe(t, "flood")
		var got atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range quick.C() {
				if got.Add(1) == 3000 {
					return
				}
			}
		}()
		for n := range int64(3000) {
			look.Publish(ctx, "flood", "x")
			if n%500 == 0 {
				eventually(t, "the quick one keeps up", func() bool { return got.Load() >= n })
			}
		}
		<-done
		if got.Load() != 3000 {
			t.Errorf("the quick one got %d of 3000", got.Load())
		}
		for range slow.C() {
			continue // until it is closed
		}
		if err := slow.Err(); !errors.Is(err, upstream.ErrSlowSubscriber) {
			t.Errorf("Err = %v, want ErrSlowSubscriber", err)
		}
	})

	t.Run("a subscription of the client library rides along", func(t *testing.T) {
		sub := u.As(meter.Queue).Subscribe(ctx, "lib")
		defer func() { _ = sub.Close() }()
		if err := sub.PSubscribe(ctx, "l?b"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := sub.Receive(ctx); err != nil {
				t.Fatal(err)
			}
		}
		look.Publish(ctx, "lib", "hello")
		got := map[string]string{}
		for range 2 {
			m, err := sub.ReceiveMessage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			got[m.Pattern] = m.Payload
		}
		if diff := cmp.Diff(map[string]string{"": "hello", "l?b": "hello"}, got); diff != "" {
			t.Error(diff)
		}
		if err := sub.Ping(ctx); err != nil {
			t.Error(err)
		}
		if _, err := sub.Receive(ctx); err != nil {
			t.Errorf("PONG: %v", err)
		}
		if err := look.Do(ctx, "client", "kill", "type", "pubsub").Err(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it subscribes anew", func() bool {
			short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
			defer cancel()
			look.Publish(ctx, "lib", "back")
			m, err := sub.ReceiveMessage(short)
			return err == nil && m.Payload == "back"
		})
	})

	t.Run("it says why it cannot, and takes a context's word", func(t *testing.T) {
		away := open(t, upstream.Options{URL: "redis://" + closedPort(t), Lazy: true})
		if _, err := away.Bell().Subscribe(ctx, "x"); upstream.Classify(err) != upstream.Refused {
			t.Errorf("got %v, want class %s", err, upstream.Refused)
		}
		gone, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := u.Bell().Subscribe(gone, "x"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if _, err := u.Bell().Subscribe(ctx); err == nil {
			t.Error("a subscription to nothing")
		}
	})

	t.Run("after Close every subscription ends", func(t *testing.T) {
		u := open(t, upstream.Options{URL: s.URL()})
		sub, err := u.Bell().Subscribe(ctx, "x")
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		if _, ok := <-sub.C(); ok || !errors.Is(sub.Err(), upstream.ErrBellClosed) {
			t.Errorf("Err = %v", sub.Err())
		}
		if _, err := u.Bell().Subscribe(ctx, "x"); !errors.Is(err, upstream.ErrBellClosed) {
			t.Errorf("got %v", err)
		}
	})
}
