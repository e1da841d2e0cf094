package upstream_test

import (
	"testing"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// open opens an Upstream that is closed when the test ends. Unless o says otherwise it is patient: the machine
// may have much else to do.
func open(t *testing.T, o upstream.Options) *upstream.Upstream {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = patience
	}
	if o.DialTimeout == 0 {
		o.DialTimeout = patience
	}
	u, err := upstream.Open(t.Context(), o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { _ = u.Close() })
	return u
}

func TestAs(t *testing.T) {
	t.Run("commands are charged to the component of the client that sent them, over the same connections", func(t *testing.T) {
		s := redistest.Start(t)
		u := open(t, upstream.Options{URL: s.URL(), Component: meter.Audit})
		ctx := t.Context()
		for range 3 {
			if err := u.As(meter.Cache).Set(ctx, "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			if err := u.As(meter.Queue).Get(ctx, "k").Err(); err != nil {
				t.Fatal(err)
			}
		}
		pipe := u.As(meter.SMS).TxPipeline()
		pipe.Incr(ctx, "n")
		pipe.Incr(ctx, "n")
		if _, err := pipe.Exec(ctx); err != nil {
			t.Fatal(err)
		}
		got := map[string]int64{}
		for _, r := range u.Meter().Snapshot().Rows {
			got[string(r.Component)+" "+r.Command] = r.Sent
		}
		want := map[string]int64{
			"audit hello": 1, "audit ping": 1, "cache set": 3, "queue get": 3,
			"sms multi": 1, "sms incr": 2, "sms exec": 1,
		}
		for k, n := range want {
			if got[k] != n {
				t.Errorf("%s: %d, want %d", k, got[k], n)
			}
		}
		if len(got) != len(want) {
			t.Errorf("counted %v, want %v", got, want)
		}
	})
}
