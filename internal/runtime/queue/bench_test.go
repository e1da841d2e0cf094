package queue_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// BenchmarkQueuesBesidePeers runs the same work through our engine, asynq as it is, asynq on three connections,
// Bull and BullMQ: jobs that do nothing over 11 queues, 10 at a time (Bull and BullMQ: 1 in each queue), added by
// 10 callers, first all added and then all processed, the start of the workers included. Nothing is kept of a
// job. All are processes of their own on one redis-server, in turn within each round and in reverse order in
// every other round; a ratio is of two neighbours in a round.
//
// It takes about 5 minutes: REDISOPT_BENCH_ROUNDS (20) rounds of REDISOPT_BENCH_JOBS (1100) jobs, and
// REDISOPT_BENCH_IDLE_SECONDS (10) of looking at each with nothing to do. Without Node or its libraries
// (`make deps`) Bull and BullMQ are left out.
//
// Beside each goal it says whether it was reached. It fails when a job costs more commands than in stock asynq, or
// when adding one takes 10 ms or longer at the 95th percentile (the design's section 7.3).
func BenchmarkQueuesBesidePeers(b *testing.B) {
	rounds, jobs := benchNumber(b, "REDISOPT_BENCH_ROUNDS", 20), benchNumber(b, "REDISOPT_BENCH_JOBS", 1100)
	idle := time.Duration(benchNumber(b, "REDISOPT_BENCH_IDLE_SECONDS", 10)) * time.Second
	server := redistest.Start(b)
	g := &ground{server.Client(b)}
	all := startContenders(b, server.Addr)
	var names []string
	for _, c := range all {
		names = append(names, c.name)
		g.round(b, c, jobs/5+1) // warm
		c.standing = &standing{}
	}
	for round := range rounds {
		turn := slices.Clone(all)
		if round%2 == 1 {
			slices.Reverse(turn)
		}
		for _, c := range turn {
			g.round(b, c, jobs)
		}
	}
	standings := map[string]*standing{}
	for _, c := range all {
		g.idle(b, c, idle)
		standings[c.name] = c.standing
	}

	var text strings.Builder
	_, _ = fmt.Fprintf(&text, "%d rounds of %d jobs; %s\n", rounds, jobs, load())
	printStandings(&text, names, standings)
	printRatios(&text, names, standings)
	for _, r := range printGoals(&text, standings) {
		b.ReportMetric(r.median, r.unit)
		if r.fails {
			b.Errorf("%s: not reached", r.unit)
		}
	}
	_, _ = io.WriteString(os.Stderr, text.String()) //nolint:forbidigo // the log of a benchmark is cut after ten lines
}

// A contender is one who is measured, in a process of its own.
type contender struct {
	name     string
	active   string        // of the names of the keys that hold running jobs; %s is the queue
	samples  int           // single jobs in a round
	rest     time.Duration // at most, before a single job
	in       io.Writer
	out      *bufio.Reader
	standing *standing
}

func startContenders(b *testing.B, addr string) []*contender {
	b.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	var all []*contender
	for _, name := range []string{ours, stock, stockPool3} {
		cmd := exec.CommandContext(b.Context(), exe)
		cmd.Env = append(os.Environ(), contenderAs+"="+name, contenderAddr+"="+addr)
		// Who polls is asked once, at any time of a second.
		c := &contender{name: name, active: "asynq:{%s}:active", samples: 1, rest: time.Second}
		if name == ours {
			c.samples, c.rest = 20, 20*time.Millisecond
		}
		all = append(all, c.start(b, cmd))
	}
	dir, err := filepath.Abs("../../../testdata/peers")
	if err != nil {
		b.Fatal(err)
	}
	node, err := exec.LookPath("node")
	if _, missing := os.Stat(filepath.Join(dir, "node_modules", "bullmq6")); err != nil || missing != nil {
		b.Log("Bull and BullMQ are left out: they need node, and npm ci in testdata/peers")
		return all
	}
	_, port, _ := strings.Cut(addr, ":")
	for _, lib := range [][2]string{{bull, "bull"}, {bullMQ, "bullmq6"}} {
		cmd := exec.CommandContext(b.Context(), node, "queue-bench.js", lib[1], port, strconv.Itoa(benchQueues)) //nolint:gosec // our own arguments
		cmd.Dir = dir
		c := &contender{name: lib[0], active: "bull:%s:active", samples: 20, rest: 20 * time.Millisecond}
		all = append(all, c.start(b, cmd))
	}
	return all
}

func (c *contender) start(b *testing.B, cmd *exec.Cmd) *contender {
	b.Helper()
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	cmd.Stderr, cmd.WaitDelay = os.Stderr, time.Second //nolint:forbidigo // what a contender complains about
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	c.in, c.out, c.standing = in, bufio.NewReader(out), &standing{}
	return c
}

// say has a contender do something, and returns what it answers.
func say[T any](b *testing.B, c *contender, words ...any) T {
	b.Helper()
	var answer struct {
		OK    T
		Error string
	}
	line, err := []byte(nil), json.NewEncoder(c.in).Encode(words)
	if err == nil {
		line, err = c.out.ReadBytes('\n')
	}
	if err == nil {
		err = json.Unmarshal(line, &answer)
	}
	if err == nil && answer.Error != "" {
		err = errors.New(answer.Error)
	}
	if err != nil {
		b.Fatalf("%s: %v: %v", c.name, words, err)
	}
	return answer.OK
}

// The ground is the Redis that they contend on.
type ground struct{ look *redis.Client }

// round measures a contender once.
func (g *ground) round(b *testing.B, c *contender, jobs int) {
	b.Helper()
	say[any](b, c, "open")
	n := float64(jobs)
	g.reset(b)
	client, server := say[float64](b, c, "usage"), g.cpu(b)
	m := measurement{enqueued: n / say[float64](b, c, "enqueue", jobs, benchConcurrency)}
	m.worked = n / say[float64](b, c, "work", jobs)
	looks := g.settle(b, c)
	m.clientUS, m.redisUS = (say[float64](b, c, "usage")-client)/n, (g.cpu(b)-server)/n
	m.commands = float64(billed(b, g.look)-looks) / n
	for _, took := range say[[][2]float64](b, c, "alone", c.samples, c.rest.Milliseconds()) {
		c.standing.addUS = append(c.standing.addUS, took[0])
		c.standing.pickUS = append(c.standing.pickUS, took[1])
	}
	g.settle(b, c)
	list, err := g.look.ClientList(b.Context()).Result()
	if err != nil {
		b.Fatal(err)
	}
	m.connections = float64(strings.Count(list, "\n") - 1) // one is the one that asks
	c.standing.rounds = append(c.standing.rounds, m)
	g.stop(b, c)
}

// idle counts what a contender sends with nothing to do, when it has had something to do.
func (g *ground) idle(b *testing.B, c *contender, lasts time.Duration) {
	b.Helper()
	say[any](b, c, "open")
	say[float64](b, c, "enqueue", 10*benchQueues, benchConcurrency)
	say[float64](b, c, "work", 10*benchQueues)
	g.settle(b, c)
	<-time.After(2 * time.Second) // what comes right after work
	g.reset(b)
	begin := time.Now()
	<-time.After(lasts)
	c.standing.idle = float64(billed(b, g.look))
	c.standing.idleSeconds = time.Since(begin).Seconds()
	c.standing.registeredIdle = -1
	if price := say[*float64](b, c, "price"); price != nil {
		c.standing.registeredIdle = *price
	}
	g.stop(b, c)
}

// settle waits until no job runs any more by what the Redis says, and returns how many commands that took.
func (g *ground) settle(b *testing.B, c *contender) int {
	b.Helper()
	var keys []string
	for i := range benchQueues {
		keys = append(keys, fmt.Sprintf(c.active, fmt.Sprint("q", i)))
	}
	looks := 0
	eventually(b, func() error {
		looks++
		n, err := g.look.Exists(b.Context(), keys...).Result()
		if err == nil && n > 0 {
			err = fmt.Errorf("%s: jobs of %d queues run", c.name, n)
		}
		return err
	})
	return looks
}

func (g *ground) stop(b *testing.B, c *contender) {
	b.Helper()
	say[any](b, c, "stop")
	if err := g.look.FlushAll(b.Context()).Err(); err != nil {
		b.Fatal(err)
	}
}

func (g *ground) reset(b *testing.B) {
	b.Helper()
	if err := g.look.ConfigResetStat(b.Context()).Err(); err != nil {
		b.Fatal(err)
	}
}

// cpu is the processor time of the server so far, in microseconds.
func (g *ground) cpu(b *testing.B) float64 {
	b.Helper()
	info, err := g.look.Info(b.Context(), "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	sum := 0.0
	for line := range strings.Lines(info) {
		for _, name := range []string{"used_cpu_sys:", "used_cpu_user:"} {
			if text, ok := strings.CutPrefix(strings.TrimSpace(line), name); ok {
				seconds, err := strconv.ParseFloat(text, 64)
				if err != nil {
					b.Fatal(err)
				}
				sum += seconds * 1e6
			}
		}
	}
	return sum
}

// load says how busy the machine is, as far as it can be known.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "load average unknown"
	}
	return "load average " + strings.Join(strings.Fields(string(text))[:3], " ")
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
