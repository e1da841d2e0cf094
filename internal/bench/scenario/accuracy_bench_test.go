//go:build linux

package scenario_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/bench/scenario"
)

// The double answers 5 ms after it was asked, and answers nothing for the first 100 ms of every second. At a
// constant rate a tenth of the requests come in such a stall and wait for what is left of it, so that the
// percentiles are these.
const (
	doubleBase  = 5 * time.Millisecond
	doubleStall = 100 * time.Millisecond
)

func doubleTruth() map[float64]time.Duration {
	return map[float64]time.Duration{0.5: 5 * time.Millisecond, 0.95: 55 * time.Millisecond, 0.99: 95 * time.Millisecond}
}

// answerTime sleeps as long as the double takes, to some ten microseconds.
func answerTime(began time.Time) {
	left := doubleBase
	if phase := time.Since(began) % time.Second; phase < doubleStall {
		left += doubleStall - phase
	}
	ts := unix.NsecToTimespec(left.Nanoseconds())
	_ = unix.Nanosleep(&ts, nil)
}

// doubleHTTP is the double over HTTP.
func doubleHTTP(tb testing.TB) string {
	tb.Helper()
	began := time.Now()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answerTime(began)
		_, _ = io.WriteString(w, "ok")
	}))
	tb.Cleanup(server.Close)
	return server.URL
}

// doubleRESP is the double for redis-benchmark: every request is answered with +OK.
func doubleRESP(tb testing.TB) string {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's own
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = listener.Close() })
	began := time.Now()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serveRESP(conn, began)
		}
	}()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

func serveRESP(conn net.Conn, began time.Time) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		head, err := in.ReadString('\n')
		if err != nil {
			return
		}
		n, _ := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(head, "*")))
		for range 2 * n { // the length and the text of each argument
			if _, err := in.ReadString('\n'); err != nil {
				return
			}
		}
		answerTime(began)
		if _, err := io.WriteString(conn, "+OK\r\n"); err != nil {
			return
		}
	}
}

// reported are the percentiles that a tool says.
type reported map[float64]time.Duration

// peer runs another tool and reads its percentiles with patterns, whose last group is a number of unit.
func peer(tb testing.TB, unit time.Duration, patterns map[float64]string, name string, args ...string) reported {
	tb.Helper()
	if _, err := exec.LookPath(name); err != nil {
		tb.Logf("%s is not installed, left out", name)
		return nil
	}
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s: %v\n%s", name, err, out)
	}
	r := reported{}
	for p, pattern := range patterns {
		m := regexp.MustCompile(pattern).FindSubmatch(out)
		if m == nil {
			tb.Fatalf("%s: no %s in\n%s", name, pattern, out)
		}
		value, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			tb.Fatal(err)
		}
		scale := unit
		if len(m) > 2 {
			scale = map[string]time.Duration{"us": time.Microsecond, "ms": time.Millisecond, "s": time.Second}[string(m[2])]
		}
		r[p] = time.Duration(value * float64(scale))
	}
	return r
}

// ours runs an operation of ours.
func ours(tb testing.TB, url string, o bench.Options) (*bench.Result, reported) {
	tb.Helper()
	p, err := scenario.HTTP(scenario.Endpoint{URL: url})
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = p.Close(tb.Context()) }()
	r, err := bench.Run(tb.Context(), o, p.Operation)
	if err != nil || r.Failed() > 0 {
		tb.Fatalf("%v, %s", err, r.FirstError)
	}
	said := reported{}
	for share := range doubleTruth() {
		q, err := r.Latency.Quantile(share)
		if err != nil {
			tb.Fatal(err)
		}
		said[share] = q.Value
	}
	return r, said
}

// BenchmarkAccuracy shows, for a server with a known distribution, what each tool reports: ours with an
// open and with a closed loop, wrk, hey and redis-benchmark. It fails when ours is off by more than 2% or
// 1 ms. Run it by make bench BENCH=Accuracy PKG=./internal/bench/scenario.
func BenchmarkAccuracy(b *testing.B) {
	url, port := doubleHTTP(b), doubleRESP(b)
	const seconds = 10
	for range b.N {
		// Not a whole number a second: otherwise every stall would meet requests at the same few moments.
		open, said := ours(b, url, bench.Options{Pace: bench.Pace{Rate: 307.3, Duration: seconds * time.Second}})
		_, closed := ours(b, url, bench.Options{Closed: 8, Pace: bench.Pace{Duration: seconds * time.Second}})
		wrk := peer(b, 0, map[float64]string{0.5: `50%\s+([\d.]+)(us|ms|s)`, 0.95: `90%\s+([\d.]+)(us|ms|s)`, 0.99: `99%\s+([\d.]+)(us|ms|s)`},
			"wrk", "-t1", "-c8", "-d"+strconv.Itoa(seconds)+"s", "--latency", url)
		hey := peer(b, time.Second, map[float64]string{0.5: `50%+ in ([\d.]+) secs`, 0.95: `95%+ in ([\d.]+) secs`, 0.99: `99%+ in ([\d.]+) secs`},
			"hey", "-c", "8", "-z", strconv.Itoa(seconds)+"s", url)
		redis := peer(b, time.Millisecond, map[float64]string{0.5: `"[\d.]+","[\d.]+","[\d.]+","([\d.]+)"`, 0.95: `"[\d.]+","[\d.]+","[\d.]+","[\d.]+","([\d.]+)"`, 0.99: `"[\d.]+","[\d.]+","[\d.]+","[\d.]+","[\d.]+","([\d.]+)"`},
			"redis-benchmark", "-p", port, "-c", "8", "-n", strconv.Itoa(seconds*1400), "-t", "get", "--csv")
		b.Logf("%-36s %10s %10s %10s", "ms", "p50", "p95", "p99")
		row := func(name string, r reported) {
			if r != nil {
				b.Logf("%-36s %10.2f %10.2f %10.2f", name, ms(r[0.5]), ms(r[0.95]), ms(r[0.99]))
			}
		}
		row("the truth at a constant rate", doubleTruth())
		row("redisopt bench, open loop", said)
		row("redisopt bench, closed loop of 8", closed)
		row("wrk, 8 connections (p90 for p95)", wrk)
		row("hey, 8 connections", hey)
		row("redis-benchmark, 8 connections", redis)
		late, _ := bench.GeneratorLimited(open, 1)
		b.Logf("our own lateness: p99 %.3f ms", late/1e6)
		if late > 1e6 {
			b.Log("more than 1 ms: this machine is too busy to be judged by")
			continue
		}
		for share, want := range doubleTruth() {
			if off := (said[share] - want).Abs(); off > max(time.Millisecond, want/50) {
				b.Errorf("p%g is %s, want %s within 2%% or 1ms", share*100, said[share], want)
			}
		}
	}
}

// BenchmarkLoad shows how many requests a second of CPU generates, beside wrk: both as fast as a trivial
// server answers, in turns.
func BenchmarkLoad(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	defer server.Close()
	for range b.N {
		before := cpu(b, syscall.RUSAGE_SELF)
		r, _ := ours(b, server.URL, bench.Options{Closed: 16, Pace: bench.Pace{Duration: 4 * time.Second}, WarmUp: -1})
		spent := cpu(b, syscall.RUSAGE_SELF) - before // the server's share is in it
		b.Logf("redisopt bench: %.0f requests a second, %.1f us of CPU each with the server's own", r.AchievedPerSecond(), float64(spent.Microseconds())/float64(r.Done))
		if _, err := exec.LookPath("wrk"); err != nil {
			b.Log("wrk is not installed, left out")
			continue
		}
		self, children := cpu(b, syscall.RUSAGE_SELF), cpu(b, syscall.RUSAGE_CHILDREN)
		out, err := exec.CommandContext(b.Context(), "wrk", "-t1", "-c16", "-d4s", server.URL).CombinedOutput()
		if err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		var n float64
		if m := regexp.MustCompile(`(\d+) requests in`).FindSubmatch(out); m != nil {
			n, _ = strconv.ParseFloat(string(m[1]), 64)
		}
		serving, wrk := cpu(b, syscall.RUSAGE_SELF)-self, cpu(b, syscall.RUSAGE_CHILDREN)-children
		each := float64(serving.Microseconds()) / n
		b.Logf("wrk: %.0f requests a second, %.1f us of CPU each, and %.1f of the server", n/4, float64(wrk.Microseconds())/n, each)
		b.Logf("a core generates: redisopt bench about %.0f requests a second, wrk %.0f",
			1e6/max(1, float64(spent.Microseconds())/float64(r.Done)-each), 1e6/(float64(wrk.Microseconds())/n))
	}
}

// cpu is the CPU time that this process, or its ended children, have taken.
func cpu(tb testing.TB, who int) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
