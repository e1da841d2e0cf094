package cache

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestWhoComesWhenALoadHasJustEndedHasWhatItBrought(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1, Dialer: func(context.Context, string, string) (net.Conn, error) {
		return nil, context.DeadlineExceeded
	}})
	t.Cleanup(func() { _ = client.Close() })
	c, err := New(Options{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	a, err := c.locate("page:1")
	if err != nil {
		t.Fatal(err)
	}
	o := SetOptions{TTL: time.Hour}
	if _, err := c.GetOrLoad(t.Context(), "page:1", o, func(context.Context) ([]byte, error) { return []byte("v"), nil }); err != nil {
		t.Fatal(err)
	}
	// It looked in memory before that load was there, and asks for a flight only now.
	f, joined := c.board(t.Context(), a, o, nil, func(context.Context) ([]byte, error) {
		t.Error("it is loaded once more")
		return nil, ErrNotFound
	}, false)
	<-f.done
	if f.err != nil || string(f.result.Value) != "v" {
		t.Errorf("got %q, joined %t, %v; want what the load brought", f.result.Value, joined, f.err)
	}
}
