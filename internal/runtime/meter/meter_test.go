package meter_test

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

var ignoreLatency = cmpopts.IgnoreFields(meter.Row{}, "Latency")

func TestSnapshot(t *testing.T) {
	t.Run("an empty meter has no rows, and not null", func(t *testing.T) {
		if s := meter.New().Snapshot(); s.Rows == nil || len(s.Rows) != 0 {
			t.Errorf("Rows = %#v, want empty", s.Rows)
		}
	})

	t.Run("rows are in order of component and command", func(t *testing.T) {
		m := meter.New()
		m.Series(meter.Queue, "set").Sent(10)
		m.Series(meter.Cache, "set").Sent(20)
		m.Series(meter.Cache, "get").Sent(30)
		s := m.Series(meter.Cache, "get")
		s.Ended(meter.OK, time.Millisecond, 5)
		m.InScript(meter.Queue, "evalsha", 7)
		want := []meter.Row{
			{Component: meter.Cache, Command: "get", Sent: 1, BytesOut: 30, BytesIn: 5, Outcomes: map[meter.Outcome]int64{meter.OK: 1}},
			{Component: meter.Cache, Command: "set", Sent: 1, BytesOut: 20, Outcomes: map[meter.Outcome]int64{}},
			{Component: meter.Queue, Command: "evalsha", InScript: 7, Outcomes: map[meter.Outcome]int64{}},
			{Component: meter.Queue, Command: "set", Sent: 1, BytesOut: 10, Outcomes: map[meter.Outcome]int64{}},
		}
		if diff := cmp.Diff(want, m.Snapshot().Rows, ignoreLatency); diff != "" {
			t.Errorf("rows (-want +got):\n%s", diff)
		}
	})

	t.Run("the difference of two snapshots is what happened between them", func(t *testing.T) {
		m := meter.New()
		get := m.Series(meter.Cache, "get")
		get.Sent(1)
		get.Ended(meter.OK, 5*time.Millisecond, 1)
		m.Series(meter.Cache, "old").Sent(1)
		before := m.Snapshot()
		get.Sent(1)
		get.Ended(meter.Timeout, time.Second, 0)
		get.Sent(1)
		get.Ended("quota", 9*time.Millisecond, 2)
		diff := m.Snapshot().Sub(before)
		want := []meter.Row{{
			Component: meter.Cache, Command: "get", Sent: 2, BytesOut: 2, BytesIn: 2,
			Outcomes: map[meter.Outcome]int64{meter.Timeout: 1, "quota": 1},
		}}
		if d := cmp.Diff(want, diff.Rows, ignoreLatency); d != "" {
			t.Fatalf("rows (-want +got):\n%s", d)
		}
		if h := diff.Rows[0].Latency; h.TotalCount() != 1 || math.Abs(float64(h.Max())-9000) > 90 {
			t.Errorf("latency: %d values up to %d µs, want 1 of 9000: timeouts have none", h.TotalCount(), h.Max())
		}
		if before.Rows[0].Outcomes[meter.OK] != 1 || len(before.Rows[0].Outcomes) != 1 {
			t.Error("Sub changed the earlier snapshot")
		}
	})

	t.Run("snapshots of two processes add up, latencies included", func(t *testing.T) {
		a, b := meter.New(), meter.New()
		for i, m := range []*meter.Meter{a, b} {
			s := m.Series(meter.Cache, "get")
			s.Sent(1)
			s.Ended(meter.OK, time.Duration(i+1)*time.Millisecond, 1)
		}
		b.Series(meter.SMS, "set").Sent(1)
		sum := a.Snapshot().Add(b.Snapshot())
		if got := sum.Totals(); got.Sent != 3 || got.Latency.TotalCount() != 2 || sum.Only(meter.SMS).Totals().Sent != 1 {
			t.Errorf("sum %+v", got)
		}
		if got := sum.Sub(b.Snapshot()); cmp.Diff(a.Snapshot().Rows, got.Rows, ignoreLatency) != "" {
			t.Errorf("sum less one part is not the other: %+v", got.Rows)
		}
	})
}

func TestPrice(t *testing.T) {
	m := meter.New()
	count := func(c meter.Component, command string, n int) {
		for range n {
			m.Series(c, command).Sent(1)
		}
	}
	count(meter.Audit, "info", 100)
	count(meter.Audit, "config|get", 10)
	count(meter.Audit, "client|list", 5)
	count(meter.Queue, "evalsha", 3)
	m.InScript(meter.Queue, "evalsha", 40)

	t.Run("Upstash bills commands inside scripts and not INFO or CONFIG", func(t *testing.T) {
		want := meter.Price{TopLevel: 118, Free: 110, InScript: 40, Billed: 48}
		if got := m.Snapshot().Price(meter.UpstashProfile()); got != want {
			t.Errorf("Price = %+v, want %+v", got, want)
		}
	})
	t.Run("without a price per command everything is free", func(t *testing.T) {
		want := meter.Price{TopLevel: 118, Free: 118, InScript: 40}
		if got := m.Snapshot().Price(meter.UnmeteredProfile()); got != want {
			t.Errorf("Price = %+v, want %+v", got, want)
		}
	})
	t.Run("the commands that Upstash does not bill", func(t *testing.T) {
		p := meter.UpstashProfile()
		for _, c := range []string{"AUTH", "hello", "select", "command", "command|docs", "config|get", "info", "ping", "reset", "quit"} {
			if p.Billed(c) {
				t.Errorf("%s is billed", c)
			}
		}
		for _, c := range []string{"get", "scan", "client|list", "memory|usage", "ttl", "type", "multi", "exec", "script|load", "infox"} {
			if !p.Billed(c) {
				t.Errorf("%s is free", c)
			}
		}
	})
}

func TestLatency(t *testing.T) {
	t.Run("every value lands where the library's own histogram puts it", func(t *testing.T) {
		m, want := meter.New(), meter.NewHistogram()
		s := m.Series(meter.Bench, "get")
		rnd := rand.New(rand.NewPCG(1, 2))
		values := []int64{1, 2, 127, 128, 255, 256, 257, 511, 512, 1000, 599_999_999, 600_000_000}
		for range 20_000 {
			values = append(values, 1+rnd.Int64N(1<<(1+rnd.IntN(29))))
		}
		for _, us := range values {
			s.Sent(1)
			s.Ended(meter.OK, time.Duration(us)*time.Microsecond, 0)
			if err := want.RecordValue(us); err != nil {
				t.Fatal(err)
			}
		}
		if got := m.Snapshot().Rows[0].Latency; !got.Equals(want) {
			t.Errorf("histograms differ: p50 %d and %d, p99 %d and %d", got.ValueAtQuantile(50), want.ValueAtQuantile(50), got.ValueAtQuantile(99), want.ValueAtQuantile(99))
		}
	})
	t.Run("values out of range count at its ends", func(t *testing.T) {
		m := meter.New()
		s := m.Series(meter.Bench, "get")
		s.Sent(1)
		s.Ended(meter.OK, -time.Second, 0)
		s.Sent(1)
		s.Ended(meter.OK, 1000*time.Hour, 0)
		if h := m.Snapshot().Rows[0].Latency; h.TotalCount() != 2 || h.Min() > 1 || h.Max() < 590_000_000 {
			t.Errorf("%d values from %d to %d", h.TotalCount(), h.Min(), h.Max())
		}
	})
}

func TestConcurrentUse(t *testing.T) {
	const goroutines, each = 8, 5000
	m := meter.New()
	var wg sync.WaitGroup
	for i := range goroutines {
		wg.Go(func() {
			for n := range each {
				s := m.Series(meter.Components()[i%3], "get")
				s.Sent(1)
				s.Ended([]meter.Outcome{meter.OK, meter.Lost, "quota"}[n%3], time.Microsecond, 1)
				if n%1000 == 0 {
					for _, r := range m.Snapshot().Rows {
						var ended int64
						for _, k := range r.Outcomes {
							ended += k
						}
						if ended > r.Sent {
							t.Errorf("%d ended of %d sent", ended, r.Sent)
						}
					}
				}
			}
		})
	}
	wg.Wait()
	if got := m.Snapshot().Totals(); got.Sent != goroutines*each {
		t.Errorf("Sent = %d, want %d", got.Sent, goroutines*each)
	}
}

func BenchmarkCount(b *testing.B) {
	b.Run("one goroutine", func(b *testing.B) {
		s := meter.New().Series(meter.Cache, "get")
		b.ReportAllocs()
		for b.Loop() {
			s.Sent(30)
			s.Ended(meter.OK, 200*time.Microsecond, 10)
		}
	})
	b.Run("all processors on one series", func(b *testing.B) {
		m := meter.New()
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			s := m.Series(meter.Cache, "get")
			for pb.Next() {
				s.Sent(30)
				s.Ended(meter.OK, 200*time.Microsecond, 10)
			}
		})
	})
	b.Run("looking the series up each time", func(b *testing.B) {
		m := meter.New()
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				m.Series(meter.Cache, "get").Sent(30)
			}
		})
	})
}
