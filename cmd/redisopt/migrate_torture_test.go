package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// tortured says whether every point is tried (TORTURE=1) or a few, spread over the whole run.
func tortured() bool { return os.Getenv("TORTURE") == "1" }

// argsVariable holds the arguments of a child, separated by line feeds.
const argsVariable = "REDISOPT_TEST_ARGS"

// hurried keeps a program that is watched by the race detector from sleeping a second before it exits.
const hurried = "GORACE=atexit_sleep_ms=10"

// TestRunAsTheProgram is not a test but the child: in a process that runChild started it is the whole
// program, main and all, and never returns.
func TestRunAsTheProgram(*testing.T) {
	args, ok := os.LookupEnv(argsVariable)
	if !ok {
		return
	}
	os.Args = append([]string{"redisopt"}, strings.Split(args, "\n")...) //nolint:forbidigo // this process is the program
	main()
}

// A finished is what one run of the real program came to.
type finished struct {
	code           int // -1 when it was killed
	stdout, stderr string
}

func (c finished) String() string {
	return fmt.Sprintf("exit %d\nstdout: %s\nstderr: %s", c.code, c.stdout, c.stderr)
}

// runChild runs the program against url to its end. started, when not nil, is given its process.
func runChild(t *testing.T, url, dir string, started func(*os.Process), args ...string) finished {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self, "-test.run=^TestRunAsTheProgram$")
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "REDIS") }),
		"REDIS_URL="+url, hurried, argsVariable+"="+strings.Join(append(args, "--state-dir", dir), "\n"))
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if started != nil {
		started(cmd.Process)
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", args, err)
	}
	return finished{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}

// A journey is one thing an operator does with one queue of the capture.
type journey struct {
	queue, prefix string
	plain         int        // waiting jobs to add to the capture, for a move of many chunks
	prepare       [][]string // what comes before, uninterrupted
	command       []string   // what is killed
}

// mixedQueue is the queue of the capture with a job in every state.
const mixedQueue = "suggestion-generation"

// queues are those of the capture: the mixed one, a paused one, one of repeatables under a hash tag; and
// one that takes several chunks.
func queues() []journey {
	return []journey{
		{queue: mixedQueue, prefix: "bull"},
		{queue: "calendar-sync", prefix: "bull"},
		{queue: "token-refresh", prefix: "{bull}"},
		{queue: "bulk", prefix: "bull", plain: 180},
	}
}

func (j journey) args(words ...string) []string {
	return append(words, "--queue", j.queue, "--prefix", j.prefix, "--yes")
}

func (j journey) tuned(words ...string) []string {
	return append(j.args(words...), "--workers-stopped", "--active-timeout", "-1s")
}

func (j journey) there() []string {
	return append(j.tuned("migrate", "phase3"), "--engine", "bullmq", "--bullmq-major", "6")
}

func (j journey) back() []string { return j.tuned("rollback", "phase3") }

// world is everything in the database that a run must leave the same, however often it was killed: all
// but what counts or times the runs themselves.
func world(t *testing.T, client redis.UniversalClient) []capture.Key {
	t.Helper()
	keys, err := capture.Dump(t.Context(), client, "*")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(keys, func(k capture.Key) bool {
		for _, own := range []string{"redisopt:id", "redisopt:migrations", "redisopt:journal:", "redisopt:lease:", "redisopt:fence:"} {
			if strings.HasPrefix(k.Name, own) {
				return true
			}
		}
		return false
	})
}

// fresh empties the server and loads the capture.
func fresh(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	// Without its scripts the server asks for each of them again, in every run alike.
	if err := errors.Join(client.FlushAll(t.Context()).Err(), client.ScriptFlush(t.Context()).Err()); err != nil {
		t.Fatal(err)
	}
	keys, err := capture.Bull()
	if err != nil {
		t.Fatal(err)
	}
	// What expires might do so in one run and not in another.
	keys = slices.DeleteFunc(keys, func(k capture.Key) bool { return k.TTL >= 0 })
	if err := capture.Restore(t.Context(), client, keys); err != nil {
		t.Fatal(err)
	}
}

// before runs what comes before the command that is killed.
func (j journey) before(t *testing.T, client redis.UniversalClient, url, dir string) {
	t.Helper()
	fresh(t, client)
	p := client.Pipeline()
	for i := range j.plain {
		key := fmt.Sprintf("%s:%s:%d", j.prefix, j.queue, i+1)
		p.HSet(t.Context(), key, "name", "__default__", "data", `{"n":1}`, "opts", `{"attempts":3,"timeout":5}`,
			"timestamp", "1795000000000", "delay", "0", "priority", "0", "attemptsMade", "1")
		p.LPush(t.Context(), j.prefix+":"+j.queue+":wait", i+1)
	}
	if _, err := p.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, args := range j.prepare {
		if c := runChild(t, url, dir, nil, args...); c.code != 0 {
			t.Fatalf("%v: %s", args, c)
		}
	}
}

// afterwards does what an operator does who finds a dead process: takes its lease away and goes on.
func (j journey) afterwards(t *testing.T, url, dir string) {
	t.Helper()
	if c := runChild(t, url, dir, nil, j.args("migrate", "--force-unlock")...); c.code != 0 {
		t.Fatalf("force-unlock: %s", c)
	}
	c := runChild(t, url, dir, nil, j.tuned("migrate", "resume")...)
	if c.code != 0 && c.code != exitBlocked {
		t.Fatalf("resume: %s", c)
	}
	// What was killed before it was recorded was not begun: the operator asks again. After a finished
	// one this finds nothing to do.
	if c := runChild(t, url, dir, nil, j.command...); c.code != 0 {
		t.Fatalf("asking again: %s", c)
	}
}

func (j journey) torture(t *testing.T) {
	t.Helper()
	server := redistest.Start(t)
	client := server.Client(t)

	// Once without a kill, to know the end and to count the calls.
	dir := t.TempDir()
	j.before(t, client, server.URL(), dir)
	proxy := startProxy(t, server.Addr, -1, beforeForwarding)
	if c := runChild(t, proxy.url(), dir, nil, j.command...); c.code != 0 {
		t.Fatalf("uninterrupted run: %s", c)
	}
	want, calls := world(t, client), proxy.seen()
	if calls < 8 {
		t.Fatalf("%d script calls in the whole run, want at least lease, journal and chunks", calls)
	}
	t.Logf("%d script calls, killed at each of %v", calls, points(calls))

	for _, at := range points(calls) {
		for when, name := range map[moment]string{beforeForwarding: "before", beforeTheReply: "after"} {
			t.Run(fmt.Sprintf("killed %s call %d of %d", name, at+1, calls), func(t *testing.T) {
				dir := t.TempDir()
				j.before(t, client, server.URL(), dir)
				proxy := startProxy(t, server.Addr, at, when)
				c := runChild(t, proxy.url(), dir, proxy.aim, j.command...)
				if c.code != -1 && (c.code != 0 || proxy.seen() > at) { // a lease may be renewed once less
					t.Fatalf("the program outlived its kill: %s", c)
				}
				j.afterwards(t, server.URL(), dir)
				if diff := capture.Compare(want, world(t, client)); len(diff) > 0 {
					t.Errorf("differs from the uninterrupted run:\n%v", diff)
				}
			})
		}
	}
}

// points are the calls to kill at.
func points(calls int) []int {
	if tortured() {
		out := make([]int, calls)
		for i := range out {
			out[i] = i
		}
		return out
	}
	if raceEnabled {
		return []int{calls / 2} // dozens of runs of the program, each several times as long
	}
	const few = 3
	var out []int
	for i := range few {
		out = append(out, i*(calls-1)/(few-1))
	}
	return slices.Compact(out)
}

func TestKilledAtAnyWriteOfTheWayThereItEndsAsIfUninterrupted(t *testing.T) {
	t.Parallel()
	for _, j := range queues() {
		t.Run(j.queue, func(t *testing.T) {
			t.Parallel()
			j.command = j.there()
			j.torture(t)
		})
	}
}

func TestKilledAtAnyWriteOfTheWayBackItEndsAsIfUninterrupted(t *testing.T) {
	t.Parallel()
	for _, j := range queues() {
		t.Run(j.queue, func(t *testing.T) {
			t.Parallel()
			j.prepare, j.command = [][]string{j.there()}, j.back()
			j.torture(t)
		})
	}
}

func TestKilledOnTheWayThereItCanGoBack(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	dir := t.TempDir()
	there := queues()[0]
	there.command = there.there()
	there.before(t, client, server.URL(), dir)
	proxy := startProxy(t, server.Addr, -1, beforeForwarding)
	if c := runChild(t, proxy.url(), dir, nil, there.command...); c.code != 0 {
		t.Fatalf("uninterrupted run: %s", c)
	}
	calls := proxy.seen()
	if c := runChild(t, server.URL(), dir, nil, there.back()...); c.code != 0 {
		t.Fatalf("uninterrupted way back: %s", c)
	}
	want := world(t, client)
	for _, at := range points(calls) {
		for when, name := range map[moment]string{beforeForwarding: "before", beforeTheReply: "after"} {
			t.Run(fmt.Sprintf("killed %s call %d of %d", name, at+1, calls), func(t *testing.T) {
				dir := t.TempDir()
				there.before(t, client, server.URL(), dir)
				begun := world(t, client)
				proxy := startProxy(t, server.Addr, at, when)
				c := runChild(t, proxy.url(), dir, proxy.aim, there.command...)
				if c.code != -1 && (c.code != 0 || proxy.seen() > at) { // a lease may be renewed once less
					t.Fatalf("the program outlived its kill: %s", c)
				}
				if c := runChild(t, server.URL(), dir, nil, there.args("migrate", "--force-unlock")...); c.code != 0 {
					t.Fatalf("force-unlock: %s", c)
				}
				if c := runChild(t, server.URL(), dir, nil, there.back()...); c.code != 0 {
					t.Fatalf("way back: %s", c)
				}
				got := world(t, client)
				// Killed early, the way back undoes less: what had not moved yet is as it was, all else as after
				// a whole way there and back. The active job, which comes back as a waiting one, is in one place.
				for _, d := range capture.Compare(unmarked(want), unmarked(got)) {
					if same(begun, got, d.Key) {
						continue
					}
					t.Errorf("neither as before nor as after the whole way there and back: %v", d)
				}
				active, wait := "bull:"+mixedQueue+":active", "bull:"+mixedQueue+":wait"
				if same(begun, got, active) != same(begun, got, wait) {
					t.Errorf("the active job is lost or doubled: %v", capture.Compare(begun, got))
				}
			})
		}
	}
}

// unmarked is keys without BullMQ's wake-up calls.
func unmarked(keys []capture.Key) []capture.Key {
	return slices.DeleteFunc(slices.Clone(keys), func(k capture.Key) bool { return strings.HasSuffix(k.Name, ":marker") })
}

// same tells whether one key is the same in two dumps.
func same(a, b []capture.Key, name string) bool {
	only := func(keys []capture.Key) []capture.Key {
		return slices.DeleteFunc(slices.Clone(keys), func(k capture.Key) bool { return k.Name != name })
	}
	return len(capture.Compare(only(a), only(b))) == 0
}
