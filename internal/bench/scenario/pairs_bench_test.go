package scenario_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/bench/scenario"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// farAway passes connections on to a server, each request delay later than it came: what is under way together
// does not wait for each other, as over a long line.
func farAway(tb testing.TB, addr string, delay time.Duration) string {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's own
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", addr) //nolint:noctx // likewise
			if err != nil {
				_ = client.Close()
				continue
			}
			go func() { _, _ = io.Copy(client, server) }()
			go passLate(client, server, delay)
		}
	}()
	return "redis://" + listener.Addr().String()
}

// passLate writes to server what client sent, delay later.
func passLate(client, server net.Conn, delay time.Duration) {
	type chunk struct {
		at    time.Time
		bytes []byte
	}
	under := make(chan chunk, 4096)
	go func() {
		defer func() { _, _ = client.Close(), server.Close() }()
		for c := range under {
			timer := time.NewTimer(time.Until(c.at.Add(delay)))
			<-timer.C
			if _, err := server.Write(c.bytes); err != nil {
				return
			}
		}
	}()
	defer close(under)
	for {
		buf := make([]byte, 4096)
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		under <- chunk{time.Now(), buf[:n]}
	}
}

// BenchmarkPairs compares a real Redis 5 ms away with itself, and with one 15% further away, each in ten pairs of
// turns, as bench --against does. Run it by make bench BENCH=Pairs PKG=./internal/bench/scenario.
func BenchmarkPairs(b *testing.B) {
	const near = 5 * time.Millisecond
	addr := redistest.Start(b).Addr
	run := bench.AlternateOptions{Pairs: 10, Run: bench.Options{Pace: bench.Pace{Rate: 500, Duration: 2100 * time.Millisecond}, WarmUp: 500 * time.Millisecond}}
	for range b.N {
		for _, far := range []time.Duration{near, near * 115 / 100} {
			first, second := open(b, farAway(b, addr, near)), open(b, farAway(b, addr, far))
			x, err := scenario.Alternate(b.Context(), chosen(b, "plain-tcp")[0], first, second, scenario.Options{Keys: 100}, run)
			if err != nil {
				b.Fatal(err)
			}
			for _, p := range []float64{0.5, 0.95, 0.99} {
				c, err := x.Compare(p, 0.1)
				if err != nil {
					b.Logf("B at %s, p%g: %v", far, p*100, err)
					continue
				}
				b.Logf("A at %s, B at %s, p%g: %.2f and %.2f ms, %+.1f%% (%+.1f%% to %+.1f%%), significant %v, worse %v",
					near, far, p*100, ms(c.Old), ms(c.New), (c.Ratio-1)*100, (c.Low-1)*100, (c.High-1)*100, c.Significant, c.Worse)
			}
		}
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
