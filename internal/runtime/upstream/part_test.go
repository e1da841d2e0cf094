package upstream_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// slowToNotice serves connections whose ends it notices late, and notes how many it has at most.
func slowToNotice(have, most *atomic.Int64, answer bool) func(net.Conn) {
	return func(c net.Conn) {
		n := have.Add(1)
		for {
			old := most.Load()
			if n <= old || most.CompareAndSwap(old, n) {
				break
			}
		}
		if answer {
			r := bufio.NewReader(c)
			for {
				if _, err := readCommand(r); err != nil {
					break
				}
				if _, err := io.WriteString(c, "+OK\r\n"); err != nil {
					break
				}
			}
		} else {
			_, _ = io.Copy(io.Discard, c)
		}
		<-time.After(10 * time.Millisecond)
		have.Add(-1)
	}
}

// What we have closed counts until the server has noticed.
func TestTheServerNeverSeesOneConnectionTooMany(t *testing.T) {
	for name, answers := range map[string]bool{
		"when commands are given up":                true,
		"when connections are given up half set up": false,
	} {
		t.Run(name, func(t *testing.T) {
			var have, most atomic.Int64
			addr := listen(t, slowToNotice(&have, &most, answers))
			o := upstream.Options{URL: "redis://" + addr, Shared: true, Lazy: true}
			u, err := upstream.Open(t.Context(), upstream.PatientWithServers(o, patience))
			if err != nil {
				t.Fatal(err)
			}
			m, err := u.Mux()
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					for n := range 10 {
						ctx, cancel := context.WithTimeout(t.Context(), time.Duration(5+(i*7+n)%20)*time.Millisecond)
						if st, err := m.Stream(ctx, meter.Gateway, []byte("MONITOR")); err == nil {
							_ = st.Close()
						}
						_ = u.Client().Get(ctx, "k").Err()
						cancel()
					}
				})
			}
			wg.Wait()
			if got := most.Load(); got > 3 || got == 0 {
				t.Errorf("the server had up to %d connections, want 1 to 3", got)
			}
			begin := time.Now()
			if err := u.Close(); err != nil {
				t.Error(err)
			}
			if took := time.Since(begin); took > patience/3 {
				t.Errorf("Close took %s", took)
			}
			eventually(t, "no connection is left", func() bool { return have.Load() == 0 })
		})
	}
}
