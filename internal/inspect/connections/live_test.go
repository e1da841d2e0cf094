package connections

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// childAddr makes this test binary a client process: it opens childConnections to that address and
// stays until its standard input closes.
const (
	childAddr        = "REDISOPT_TEST_CLIENT_OF"
	childConnections = 3
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(childAddr); addr != "" {
		beClient(addr)
		return
	}
	os.Exit(m.Run()) //nolint:forbidigo // this is main for tests
}

func beClient(addr string) {
	ctx := context.Background()
	for range childConnections {
		rdb := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true, DialTimeout: time.Minute, ReadTimeout: time.Minute, PoolSize: 1})
		defer func() { _ = rdb.Close() }()
		if err := rdb.Get(ctx, "k").Err(); err != nil && err != redis.Nil { //nolint:errorlint // Nil is returned bare
			panic(err)
		}
	}
	_, _ = io.WriteString(os.Stdout, "ready\n") //nolint:forbidigo // as a child, this is a program
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// start runs a client process until the test ends and returns once it says ready.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var problems strings.Builder
	cmd.Stderr = &problems
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n')
		lines <- line
	}()
	t.Cleanup(sync.OnceFunc(func() {
		_ = in.Close()
		killed := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		killed.Stop()
	}))
	select {
	case line := <-lines:
		if strings.TrimSpace(line) != "ready" {
			t.Fatalf("%s said %q; %s", cmd, line, problems.String())
		}
	case <-time.After(3 * time.Minute):
		t.Fatalf("%s is not ready after 3 minutes", cmd)
	}
}

// peers starts the real library; what and sharing are explained in testdata/peers/audit-queues.js.
func peers(t *testing.T, addr, library, what, sharing string, args ...string) {
	t.Helper()
	dir := filepath.Join("..", "..", "..", "testdata", "peers")
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("needs node peers: run make deps")
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "bull")); err != nil {
		t.Skip("needs node peers: run make deps")
	}
	_, port, _ := strings.Cut(addr, ":")
	cmd := exec.CommandContext(t.Context(), node, append([]string{"audit-queues.js", port, library, what, sharing}, args...)...)
	cmd.Dir = dir
	start(t, cmd)
}

// until audits again and again until done holds or the time is up, and returns the last report.
func until(t *testing.T, a *Auditor, done func(*Report) bool) *Report {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := a.Audit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if done(r) {
			return r
		}
		select {
		case <-deadline:
			return r
		case <-tick.C:
		}
	}
}

func TestRealLibrariesAreFoundAndAttributed(t *testing.T) {
	for _, tc := range []struct {
		name, library, what, sharing string
		want                         map[string]int
		// forced holds where the numbers leave no choice, so that each queue gets its own three.
		forced bool
	}{
		{
			"eleven Bull queues hold 33 connections", "bull", "qw", "plain",
			map[string]int{"bull worker": 11, "bull subscriber": 11, "bull queue-client": 11},
			true,
		},
		{
			"eleven BullMQ 5 queues hold 33 connections", "bullmq5", "qw", "plain",
			map[string]int{"bullmq worker": 11, "bullmq worker-client": 11, "bullmq queue-client": 11},
			true,
		},
		{
			"eleven BullMQ 6 queues hold 33 connections", "bullmq6", "qw", "plain",
			map[string]int{"bullmq worker": 11, "bullmq worker-client": 11, "bullmq queue-client": 11},
			true,
		},
		{
			"eleven BullMQ 6 queues that were used hold 33 connections", "bullmq6", "qwa", "plain",
			map[string]int{"bullmq worker": 11, "bullmq worker-client": 11, "bullmq queue-client": 11},
			true,
		},
		{
			"eleven shared Bull queues hold 13", "bull", "qw", "shared",
			map[string]int{"bull worker": 11, "bull subscriber": 1, "bull shared-client": 1},
			false,
		},
		{
			"should create queue with shared connection: eleven BullMQ 5 queues hold 12", "bullmq5", "qw", "shared",
			map[string]int{"bullmq worker": 11, "bullmq shared-client": 1},
			false,
		},
		{
			"eleven shared BullMQ 6 queues hold 12", "bullmq6", "qw", "shared",
			map[string]int{"bullmq worker": 11, "bullmq shared-client": 1},
			false,
		},
		{
			"eleven QueueEvents more make 44", "bullmq5", "qwe", "plain",
			map[string]int{"bullmq worker": 11, "bullmq worker-client": 11, "bullmq queue-client": 11, "bullmq queue-events": 11},
			false,
		},
		{
			"eleven shared QueueEvents more make 23", "bullmq6", "qwe", "shared",
			map[string]int{"bullmq worker": 11, "bullmq shared-client": 1, "bullmq queue-events": 11},
			false,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			peers(t, server.Addr, tc.library, tc.what, tc.sharing)
			a, err := New(server.Client(t), Options{Deep: true})
			if err != nil {
				t.Fatal(err)
			}
			// A worker that is late may come again over a new connection, and a queue writes its version in the background.
			r := until(t, a, func(r *Report) bool {
				return cmp.Equal(tc.want, byRole(r)) &&
					(tc.library == "bull" || !slices.ContainsFunc(r.Queues, func(q Queue) bool { return q.Version == "" }))
			})
			if diff := cmp.Diff(tc.want, byRole(r)); diff != "" {
				t.Errorf("roles (-want +got):\n%s", diff)
			}
			want := 0
			for _, n := range tc.want {
				want += n
			}
			if r.Total != want || r.Unknown != 0 || len(r.Missing) != 0 {
				t.Errorf("total %d, unknown %d, missing %q, want %d, 0 and none", r.Total, r.Unknown, r.Missing, want)
			}
			var names []string
			for _, q := range r.Queues {
				names = append(names, q.Queue)
				if tc.forced && q.Connections != 3 {
					t.Errorf("queue %s holds %d, want 3", q.Queue, q.Connections)
				}
				if tc.library != "bull" && !strings.HasPrefix(q.Version, "bullmq:"+tc.library[len("bullmq"):]+".") {
					t.Errorf("queue %s version %q", q.Queue, q.Version)
				}
			}
			if diff := cmp.Diff(elevenQueues(), names); diff != "" {
				t.Errorf("queues (-want +got):\n%s", diff)
			}
			if len(r.Sharing) != 1 || r.Sharing[0].Shared != (tc.sharing == "shared") {
				t.Errorf("sharing = %+v, want %s", r.Sharing, tc.sharing)
			}
			t.Logf("%d connections; %s", r.Total, r.Sharing[0].Explain)
		})
	}
}

func TestTwoProcessesAreToldApart(t *testing.T) {
	server := redistest.Start(t)
	pids := make(map[int]bool)
	for range 2 {
		cmd := exec.CommandContext(t.Context(), os.Args[0]) //nolint:forbidigo // the test binary runs itself
		cmd.Env = append(os.Environ(), childAddr+"="+server.Addr)
		start(t, cmd)
		pids[cmd.Process.Pid] = true
	}
	if _, err := kernelProcesses(nil); err != nil {
		t.Skip("needs the kernel's socket tables: " + err.Error())
	}
	r, err := Audit(t.Context(), server.Client(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Processes) != 2 || r.Total != 2*childConnections || r.Own < 1 {
		t.Fatalf("processes %+v, total %d, own %d, want two with %d each and ours apart", r.Processes, r.Total, r.Own, childConnections)
	}
	for _, p := range r.Processes {
		if !pids[p.PID] || p.Connections != childConnections || p.Command == "" {
			t.Errorf("process %+v, want one of %v with %d connections and a name", p, pids, childConnections)
		}
	}
}

func TestProcessesOfAnotherHostAreGroupedByHost(t *testing.T) {
	r := fromList(t, listOf(line{cmd: "get"}, line{cmd: "get"}, line{host: "10.0.0.2", cmd: "get"}))
	var got []string
	for _, p := range r.Processes {
		got = append(got, p.ID+" "+strconv.Itoa(p.Unnamed)+" unnamed")
	}
	if diff := cmp.Diff([]string{"host 10.0.0.1 2 unnamed", "host 10.0.0.2 1 unnamed"}, got); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
}

// recorder notes the commands that reach the server.
type recorder struct {
	mu  sync.Mutex
	got []string
}

func (r *recorder) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r *recorder) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		r.note(cmd)
		return next(ctx, cmd)
	}
}

func (r *recorder) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		r.note(cmds...)
		return next(ctx, cmds)
	}
}

func (r *recorder) note(cmds ...redis.Cmder) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range cmds {
		name := c.Name()
		if name == "client" || name == "pubsub" {
			name = fmt.Sprintf("%s %v", name, c.Args()[1])
		}
		if name != "hello" { // go-redis's own handshake
			r.got = append(r.got, name)
		}
	}
}

func TestTheAuditSendsOnlyReadsAndSaysHowMany(t *testing.T) {
	server := redistest.Start(t)
	quiet := server.Client(t)
	sub := quiet.Subscribe(t.Context(), "bull:mail:delayed")
	t.Cleanup(func() { _ = sub.Close() })
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	mq := redis.NewClient(&redis.Options{Addr: server.Addr, ClientName: mail + ":w:a", DisableIdentity: true, DialTimeout: time.Minute, ReadTimeout: time.Minute})
	t.Cleanup(func() { _ = mq.Close() })
	if err := mq.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	rec := &recorder{}
	rdb := server.Client(t)
	rdb.AddHook(rec)
	for _, tc := range []struct {
		opts Options
		want []string
	}{
		{Options{}, []string{"info", "client list", "client id", "pubsub channels"}},
		{Options{Deep: true}, []string{"info", "client list", "client id", "pubsub channels", "hget"}},
	} {
		rec.got = nil
		a, err := New(rdb, tc.opts)
		if err != nil {
			t.Fatal(err)
		}
		// Otherwise the worker would be recognised as this process's own.
		a.lookup = func([]socket) (map[socket]owner, error) { return nil, nil }
		r, err := a.Audit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := slices.Clone(rec.got)
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("commands (-want +got):\n%s", diff)
		}
		if r.Commands != len(got) {
			t.Errorf("report says %d commands, want %d", r.Commands, len(got))
		}
	}
}

func TestARestrictedUserGetsWhatItMayReadAndIsToldTheRest(t *testing.T) {
	server := redistest.Start(t)
	admin := server.Client(t)
	for _, tc := range []struct {
		name    string
		rules   []string
		missing string
		total   int
		fails   bool
	}{
		{"without CLIENT LIST the total is known, the holders are not", []string{"+info", "+client|id"}, "CLIENT LIST refused", 1, false},
		{"without INFO the holders are known, the limit is not", []string{"+client"}, "INFO refused", 0, false},
		{"without both there is nothing to report", []string{"+ping"}, "neither INFO nor CLIENT LIST", 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := []any{"acl", "setuser", "narrow", "reset", "on", ">pw", "~*", "-@all"}
			for _, r := range tc.rules {
				args = append(args, r)
			}
			if err := admin.Do(t.Context(), args...).Err(); err != nil {
				t.Fatal(err)
			}
			rdb := redis.NewClient(&redis.Options{Addr: server.Addr, Username: "narrow", Password: "pw", DisableIdentity: true, DialTimeout: time.Minute, ReadTimeout: time.Minute})
			t.Cleanup(func() { _ = rdb.Close() })
			r, err := Audit(t.Context(), rdb, Options{})
			if tc.fails {
				if err == nil || !strings.Contains(err.Error(), tc.missing) {
					t.Fatalf("error = %v, want %q", err, tc.missing)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.Total != tc.total || len(r.Missing) == 0 || !strings.Contains(strings.Join(r.Missing, " "), tc.missing) {
				t.Errorf("total %d, missing %q, want %d and %q", r.Total, r.Missing, tc.total, tc.missing)
			}
		})
	}
}

func TestAnUnreachableServerIsAnError(t *testing.T) {
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DisableIdentity: true, DialTimeout: time.Minute, ReadTimeout: time.Minute})
	t.Cleanup(func() { _ = rdb.Close() })
	if _, err := Audit(t.Context(), rdb, Options{}); err == nil {
		t.Error("no error from a server that is not there")
	}
}

func TestOptionsReportEveryProblemAtOnce(t *testing.T) {
	_, err := New(nil, Options{Limit: -1, Max: -2, ZombieAfter: time.Second})
	for _, want := range []string{"limit", "max", "zombie after"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}
