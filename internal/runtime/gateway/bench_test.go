package gateway_test

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// benchValue is what is asked for: 32 bytes.
const benchValue = "12345678901234567890123456789012"

// A load is one kind of request at one number of connections.
type load struct {
	name        string
	post        bool
	connections int
}

var loads = []load{
	{"GET, 50 connections", false, 50},
	{"POST, 50 connections", true, 50},
	{"GET, 500 connections", false, 500},
	{"POST, 500 connections", true, 500},
}

// BenchmarkGatewayBesidePeers measures the gateway with auth, policy and metering on beside webdis (two
// Redis connections), a bare answer of fasthttp, and net/http over a pool of three go-redis connections,
// on the same Redis, each a process of its own, with wrk as the load. Rounds are interleaved and every
// figure is a ratio within a round, since a machine is not equally fast all the time.
//
// It takes about 20 minutes: REDISOPT_BENCH_ROUNDS (20) rounds of REDISOPT_BENCH_SECONDS (3) each.
// REDISOPT_BENCH_GOMAXPROCS is what the gateway alone runs with; default: what it would choose. It needs
// redis-server, webdis and wrk, which `make bench` does not install.
func BenchmarkGatewayBesidePeers(b *testing.B) {
	rounds, seconds := benchNumber(b, "REDISOPT_BENCH_ROUNDS", 20), benchNumber(b, "REDISOPT_BENCH_SECONDS", 3)
	wrk := needsProgram(b, "wrk")
	webdis := needsProgram(b, "webdis")
	redis := redistest.Start(b)
	if err := redis.Client(b).Set(b.Context(), "k", benchValue, 0).Err(); err != nil {
		b.Fatal(err)
	}
	servers := []*benchServer{
		startBenchChild(b, peerGateway, redis.Addr),
		startWebdis(b, webdis, redis.Addr),
		startBenchChild(b, peerBare, redis.Addr),
		startBenchChild(b, peerPool, redis.Addr),
	}
	redisCPU := cpuOf(redis.PID())
	g := generator{wrk: wrk, dir: b.TempDir(), seconds: seconds, redisCPU: redisCPU}
	for _, s := range servers {
		s.check(b)
		g.measure(b, s, s.get(), 50, 1) // warm
	}

	ours := servers[0]
	results := map[string][]measurement{} // by load and server, one for each round
	note := func(name string, s *benchServer, m measurement) {
		key := name + "/" + s.name
		results[key] = append(results[key], m)
	}
	for round := range rounds {
		for _, l := range loads {
			turn := slices.Clone(servers)
			if round%2 == 1 {
				slices.Reverse(turn)
			}
			for _, s := range turn {
				r := s.get()
				if l.post {
					r = s.post()
				}
				note(l.name, s, g.measure(b, s, r, l.connections, 0))
			}
		}
		note("single", ours, g.measure(b, ours, ours.post(), 1, 0))
		note("pipeline", ours, g.measure(b, ours, ours.pipeline(), 1, 0))
		note("single 50", ours, g.measure(b, ours, ours.post(), 50, 0))
		note("pipeline 50", ours, g.measure(b, ours, ours.pipeline(), 50, 0))
	}

	var text strings.Builder
	fmt.Fprintf(&text, "%d rounds of %d s, GOMAXPROCS of the gateway %s\n", rounds, seconds, ours.procs)
	printFigures(&text, servers, results)
	for _, c := range printGoals(&text, results) {
		b.ReportMetric(c.median, c.unit)
	}
	_, _ = io.WriteString(os.Stderr, text.String()) //nolint:forbidigo // the log of a benchmark is cut after ten lines
}

func printFigures(w io.Writer, servers []*benchServer, results map[string][]measurement) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, l := range loads {
		fmt.Fprintf(t, "\n%s\treq/s\tp50 us\tp99 us\tCPU us\tCPU redis us\tx webdis\tp99 x webdis\tCPU x webdis\n", l.name)
		for _, s := range servers {
			all := results[l.name+"/"+s.name]
			fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.0f\t%.1f\t%.1f", s.name,
				middle(all, measurement.rate), middle(all, func(m measurement) float64 { return m.p50us }),
				middle(all, func(m measurement) float64 { return m.p99us }),
				middle(all, func(m measurement) float64 { return m.cpuUS }), middle(all, func(m measurement) float64 { return m.redisUS }))
			if s.name == peerWebdis {
				fmt.Fprintln(t)
				continue
			}
			peer := results[l.name+"/"+peerWebdis]
			fmt.Fprintf(t, "\t%s\t%s\t%s\n", ratios(all, peer, measurement.rate),
				ratios(all, peer, func(m measurement) float64 { return m.p99us }), ratios(all, peer, measurement.wholeCPU))
		}
	}
	_ = t.Flush()
}

// A goal is a figure beside what it must reach.
type goal struct {
	spread
	unit string
}

// printGoals writes what must be reached and whether it was.
func printGoals(w io.Writer, results map[string][]measurement) []goal {
	rate := func(m measurement) float64 { return m.rate() }
	p99 := func(m measurement) float64 { return m.p99us }
	of := func(name, who string) []measurement { return results[name+"/"+who] }
	var goals []goal
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\ngoal\tmedian [95%% interval]\twanted\t\n")
	row := func(name, unit string, s spread, wanted string, reached bool) {
		word := "reached"
		if !reached {
			word = "NOT REACHED"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", name, s, wanted, word)
		goals = append(goals, goal{s, unit})
	}
	for _, l := range loads {
		us, webdis, pool := of(l.name, peerGateway), of(l.name, peerWebdis), of(l.name, peerPool)
		tag := strings.NewReplacer(",", "", " connections", "", " ", "").Replace(l.name)
		s := ratios(us, webdis, measurement.wholeCPU)
		row(l.name+": CPU per request, gateway and Redis, x webdis", "x-cpu-"+tag, s, "<= 0.8", s.median <= 0.8)
		s = ratios(us, webdis, rate)
		if l.connections == 50 {
			row(l.name+": requests/s x webdis", "x-rate-"+tag, s, ">= 1.15, interval from 1.0", s.median >= 1.15 && s.low >= 1)
			s = ratios(us, webdis, p99)
			row(l.name+": p99 x webdis", "x-p99-"+tag, s, "interval up to 1.0", s.high <= 1)
		} else {
			row(l.name+": requests/s x webdis", "x-rate-"+tag, s, ">= 1.0", s.median >= 1)
		}
		s = ratios(us, pool, rate)
		row(l.name+": requests/s x net/http with a pool of 3", "x-pool-"+tag, s, ">= 3", s.median >= 3)
	}
	for _, n := range []string{"", " 50"} {
		s := ratios(of("pipeline"+n, peerGateway), of("single"+n, peerGateway), rate)
		s = spread{50 * s.median, 50 * s.low, 50 * s.high, s.sure}
		name, clients := "commands/s, /pipeline of 50 x single requests, 1 connection", "1"
		if n != "" {
			name, clients = "the same, 50 connections (for information)", "50"
			fmt.Fprintf(t, "%s\t%s\t\t\n", name, s)
			goals = append(goals, goal{s, "x-pipeline-" + clients})
			continue
		}
		row(name, "x-pipeline-"+clients, s, ">= 25", s.median >= 25)
	}
	_ = t.Flush()
	return goals
}

func benchNumber(b *testing.B, name string, def int) int {
	b.Helper()
	text := os.Getenv(name)
	if text == "" {
		return def
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("%s=%q, want a whole number from 1", name, text)
	}
	return n
}

// benchStart is how long a server may take to listen.
const benchStart = 10 * time.Second
