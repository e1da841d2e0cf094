package source

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evanw/esbuild/pkg/api"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// quick makes the intervals of the applications short, so that a window of seconds holds many.
func quick() map[string]string {
	return map[string]string{"DRAIN_DELAY": "2", "GUARD_INTERVAL": "2000", "STALLED_INTERVAL": "10000"}
}

const idleWindow = 20 * time.Second

// launch builds an application and runs it with Node against a server until the test ends. It returns
// once the application says ready.
func launch(t *testing.T, a app, addr string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("needs node peers: run make deps")
	}
	peers, err := filepath.Abs(filepath.Join("..", "..", "..", "testdata", "peers", "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bull", "bullmq", "@nestjs"} {
		if _, err := os.Stat(filepath.Join(peers, name)); err != nil {
			t.Skip("needs node peers: run make deps")
		}
	}
	dir := t.TempDir()
	if err := os.Symlink(peers, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	built := api.Build(api.BuildOptions{
		EntryPoints: []string{filepath.Join(a.dir(), a.entry())}, Outfile: filepath.Join(dir, "app.js"), Write: true,
		Bundle: true, Platform: api.PlatformNode, Packages: api.PackagesExternal, Format: api.FormatCommonJS,
		TsconfigRaw: a.tsconfig(t), LogLevel: api.LogLevelSilent, AbsWorkingDir: mustAbs(t),
	})
	if len(built.Errors) > 0 {
		t.Fatalf("%s does not build: %s", a.name, built.Errors[0].Text)
	}
	cmd := exec.CommandContext(t.Context(), node, "app.js")
	cmd.Dir = dir
	_, port, _ := strings.Cut(addr, ":")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "REDIS_PORT=" + port}
	for k, v := range quick() {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	runUntilReady(t, cmd)
}

func mustAbs(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// tsconfig turns decorators on and keeps the application's own paths.
func (a app) tsconfig(t *testing.T) string {
	t.Helper()
	if a.name != "factory" {
		return `{"compilerOptions":{"experimentalDecorators":true}}`
	}
	src, err := filepath.Abs(filepath.Join(a.dir(), "src"))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"compilerOptions":{"baseUrl":%q,"paths":{"@jobs/*":[%q]}}}`, src, filepath.Join(src, "jobs", "*"))
}

func (a app) entry() string {
	if a.name == "nestjs" {
		return "src/main.ts"
	}
	return "src/index.ts"
}

func runUntilReady(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var problems strings.Builder
	cmd.Stderr = &problems
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan bool, 1)
	var reader sync.WaitGroup
	reader.Go(func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.TrimSpace(lines.Text()) == "ready" {
				ready <- true
			}
		}
		close(ready)
	})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		reader.Wait()
		_ = cmd.Wait()
	})
	select {
	case ok := <-ready:
		if !ok {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Fatalf("the application ended: %s", problems.String())
		}
	case <-time.After(3 * time.Minute):
		t.Fatal("the application is not ready after 3 minutes")
	}
}

// windows is how often an application is watched before it is judged: on a machine that is busy with
// something else, timers run late, and less is sent than would be. One window that agrees is enough.
const windows = 5

// A watched application runs beside its prediction.
type watched struct {
	app
	rdb      *redis.Client
	report   *Report
	held     int
	top, all float64 // commands a month, as of the last window
}

// watch counts what all of them send in one window.
func watch(t *testing.T, all []*watched) {
	t.Helper()
	before, began := make([]map[string]float64, len(all)), make([]time.Time, len(all))
	for i, w := range all {
		before[i], began[i] = calls(t, w.rdb), time.Now()
	}
	ctx, stop := context.WithTimeout(t.Context(), idleWindow)
	defer stop()
	<-ctx.Done()
	for i, w := range all {
		after := calls(t, w.rdb)
		month := secondsInMonth / time.Since(began[i]).Seconds()
		top, sum := spent(before[i], after)
		w.top, w.all = top*month, sum*month
	}
}

func (w *watched) agrees() bool {
	return near(w.report.Idle.Top.Min, w.top) && near(w.report.Idle.All.Min, w.all)
}

// near is within a tenth of what was measured.
func near(predicted, measured float64) bool { return math.Abs(predicted-measured) <= 0.1*measured }

// TestPredictionsHoldForTheApplicationsRunning is the promise of the package: what the code was
// predicted to hold and spend is what the server sees when it runs. All applications run at once, so
// that they share a window.
func TestPredictionsHoldForTheApplicationsRunning(t *testing.T) {
	var all []*watched
	for _, a := range apps() {
		server := redistest.Start(t, "--hz", "100") // blocked commands end on time
		r, err := Scan(t.Context(), a.dir(), Options{Env: quick()})
		if err != nil {
			t.Fatal(err)
		}
		launch(t, a, server.Addr)
		all = append(all, &watched{app: a, rdb: server.Client(t), report: r})
	}
	for _, w := range all {
		w.held = settle(t, w.rdb, int(w.report.Connections.Min))
	}
	for range windows {
		left := slices.DeleteFunc(slices.Clone(all), (*watched).agrees)
		if len(left) == 0 {
			break
		}
		watch(t, left)
	}
	for _, w := range all {
		t.Run(w.name, func(t *testing.T) {
			r := w.report
			if r.Connections.Min != float64(w.held) || !r.Connections.Exact() {
				t.Errorf("predicted %+v connections, the server has %d", r.Connections, w.held)
			}
			if !w.agrees() {
				t.Error("idle commands a month: predicted and measured differ by more than a tenth")
			}
			t.Logf("%-15s connections %3g predicted, %3d held; idle a month, top-level %6.2f M predicted, %6.2f M measured; all %6.2f M predicted, %6.2f M measured",
				w.name, r.Connections.Min, w.held, r.Idle.Top.Min/1e6, w.top/1e6, r.Idle.All.Min/1e6, w.all/1e6)
		})
	}
}

// settle waits until as many connections stand as are expected, and no fewer or more a while later.
func settle(t *testing.T, rdb *redis.Client, want int) int {
	t.Helper()
	held, same := -1, 0
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(2 * time.Minute)
	for same < 8 {
		select {
		case <-tick.C:
		case <-deadline:
			return held
		}
		list, err := rdb.ClientList(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		n := -1 // the observer
		for range strings.SplitSeq(strings.TrimSpace(list), "\n") {
			n++
		}
		if n == want && held == want {
			same++
		} else {
			same = 0
		}
		held = n
	}
	return held
}

// spent is what was sent, and what was run in all, between two readings. INFO counts both alike; what
// clients send here are blocking commands and calls of scripts, which scripts never run.
func spent(before, after map[string]float64) (top, all float64) {
	for name, n := range after {
		d := n - before[name]
		switch name {
		case "info", "client|list":
			continue
		case "brpoplpush", "bzpopmin", "evalsha", "eval", "xread":
			top += d
		}
		all += d
	}
	return top, all
}

func calls(t *testing.T, rdb *redis.Client) map[string]float64 {
	t.Helper()
	info, err := rdb.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64)
	for line := range strings.Lines(info) {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		if !ok {
			continue
		}
		n, _, _ := strings.Cut(rest, ",")
		f, err := strconv.ParseFloat(n, 64)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = f
	}
	return out
}
