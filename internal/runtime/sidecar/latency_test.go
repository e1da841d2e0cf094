package sidecar

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// A longLine passes connections on to an address from which everything takes a while.
type longLine struct {
	to     string
	oneWay time.Duration
}

// lengthen is the address of a line to addr with a round trip of trip.
func lengthen(tb testing.TB, addr string, trip time.Duration) string {
	tb.Helper()
	ln, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	line := longLine{addr, trip / 2}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { line.carry(tb, near) })
		}
	})
	tb.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

func (l longLine) carry(tb testing.TB, near net.Conn) {
	far, err := new(net.Dialer).DialContext(tb.Context(), "tcp", l.to)
	if err != nil {
		_ = near.Close()
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { l.delay(far, near) })
	wg.Go(func() { l.delay(near, far) })
	wg.Wait()
}

// delay hands on what from says, each piece when it has been on its way long enough.
func (l longLine) delay(to, from net.Conn) {
	type piece struct {
		due  time.Time
		text []byte
	}
	pieces := make(chan piece, 1024)
	go func() {
		defer close(pieces)
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			pieces <- piece{time.Now().Add(l.oneWay), slices.Clone(buf[:n])}
		}
	}()
	for p := range pieces {
		<-time.After(time.Until(p.due))
		if _, err := to.Write(p.text); err != nil {
			break
		}
	}
	_ = to.Close()
	for range pieces { // until its reader has ended
	}
}

// BenchmarkOverREST measures through the API what callers wait for while cache and limits reach their
// Redis over REST, 30 ms away. Each row is of 300 requests, 10 at a time; those that spend a lease come
// 500 a second for three seconds.
func BenchmarkOverREST(b *testing.B) {
	const trip, requests, callers = 30 * time.Millisecond, 300, 10
	far := run(b, configured(b, map[string]string{"REDIS_URL": redistest.Start(b).URL(), "REDISOPT_TOKEN": "far-token"}, ""), Options{})
	near := run(b, configured(b, map[string]string{
		"UPSTASH_REDIS_REST_URL": "http://" + lengthen(b, far.Gateway, trip), "UPSTASH_REDIS_REST_TOKEN": "far-token",
	}, "limits: {rules: {api: {limit: 60}, busy: {limit: 1000000, period: 1m}, few: {limit: 1, period: 1h}}}\n"), Options{})
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
	defer client.CloseIdleConnections()
	ask := func(method, path, body string) (time.Duration, string) {
		req, err := http.NewRequestWithContext(b.Context(), method, "http://"+near.API+path, strings.NewReader(body))
		if err != nil {
			b.Error(err)
			return 0, ""
		}
		req.Header.Set("Content-Type", "application/json")
		begin := time.Now()
		resp, err := client.Do(req)
		if err != nil {
			b.Error(err)
			return 0, ""
		}
		text, err := io.ReadAll(resp.Body)
		took := time.Since(begin)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode >= 500 {
			b.Errorf("%s %s: %d %s %v", method, path, resp.StatusCode, text, err)
		}
		return took, string(text)
	}
	check := func(rule, user string) (time.Duration, string) {
		return ask(http.MethodPost, "/v1/limit/check", fmt.Sprintf(`{"rule":%q,"subject":{"user":%q}}`, rule, user))
	}
	round := 0
	for b.Loop() {
		round++
		for range 5 {
			check("few", "hot")
			ask(http.MethodPut, "/v1/cache/keys/user:hot", `"value"`)
		}
		for _, way := range []struct {
			name   string
			budget time.Duration // of the 95th percentile
			do     func(n int) (time.Duration, string)
			want   string
			pace   time.Duration // between the requests of one caller
		}{
			{"limit, cold", 35 * time.Millisecond, func(n int) (time.Duration, string) { return check("api", fmt.Sprint(round, "/", n)) }, `"checked"`, 0},
			{"limit, hot and denied", time.Millisecond, func(int) (time.Duration, string) { return check("few", "hot") }, `"blocked"`, 0},
			{"limit, hot and leased", time.Millisecond, func(int) (time.Duration, string) { return check("busy", "hot") }, `"leased"`, callers * 2 * time.Millisecond},
			{"cache, cold", 100 * time.Millisecond, func(n int) (time.Duration, string) {
				return ask(http.MethodGet, fmt.Sprintf("/v1/cache/keys/user:%d-%d", round, n), "")
			}, "", 0},
			{"cache, hot", time.Millisecond, func(int) (time.Duration, string) { return ask(http.MethodGet, "/v1/cache/keys/user:hot", "") }, "value", 0},
		} {
			for range 20 { // connections, and what a busy key is known by
				way.do(-1)
			}
			var mu sync.Mutex
			var waits []time.Duration
			as := 0
			total := requests
			if way.pace > 0 {
				total = 5 * requests
			}
			var wg sync.WaitGroup
			for c := range callers {
				wg.Go(func() {
					for n := c; n < total; n += callers {
						<-time.After(way.pace)
						took, text := way.do(n)
						mu.Lock()
						waits = append(waits, took)
						if strings.Contains(text, way.want) {
							as++
						}
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			slices.Sort(waits)
			at := func(percent int) time.Duration { return waits[len(waits)*percent/100] }
			word := "reached"
			if at(95) >= way.budget {
				word = "NOT REACHED"
			}
			b.Logf("%-22s p50 %8s  p95 %8s  p99 %8s  p95 below %s: %s; %d of %d answered so", way.name,
				at(50).Round(10*time.Microsecond), at(95).Round(10*time.Microsecond), at(99).Round(10*time.Microsecond), way.budget, word, as, total)
		}
	}
}
