//go:build unix

package child

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

var _ queue.Runner = (*Command)(nil)

// TestMain lets this test be the program that becomes a command, as main does.
func TestMain(m *testing.M) {
	if Staged(os.Args) { //nolint:forbidigo // it stands for main
		os.Exit(Stage(os.Args, os.Stderr)) //nolint:forbidigo // it stands for main
	}
	os.Exit(m.Run()) //nolint:forbidigo // it is main
}

// command runs a script of sh, which is itself the command here: nothing of the package uses a shell.
func command(t testing.TB, script string, change ...func(*Options)) *Command {
	t.Helper()
	opts := Options{Command: []string{"sh", "-c", script}}
	for _, f := range change {
		f(&opts)
	}
	c, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func job() queue.Job {
	return queue.Job{
		Queue: "mail", ID: "1", Name: "welcome", Payload: []byte(`{"to":"a"}`), Attempt: 2, Attempts: 3,
		Headers: map[string]string{"traceparent": "00-trace"},
	}
}

func TestACommandGetsTheJobAndGivesTheResult(t *testing.T) {
	result, err := command(t, "cat").Run(t.Context(), job())
	if err != nil {
		t.Fatal(err)
	}
	var in Input
	if err := json.Unmarshal(result, &in); err != nil || string(in.Payload) != `{"to":"a"}` || in.ID != "1" || in.Attempt != 2 || in.Headers["traceparent"] != "00-trace" {
		t.Errorf("input %s, %v", result, err)
	}
	binary := job()
	binary.Payload = []byte{0xff, 0}
	result, err = command(t, "cat").Run(t.Context(), binary)
	if err != nil || !strings.Contains(string(result), `"payload_base64":"/wA="`) {
		t.Errorf("input %s, %v", result, err)
	}
}

func TestTheEnvironmentIsCleared(t *testing.T) {
	t.Setenv("SECRET_TOKEN", "hunter2")
	t.Setenv("LANG", "C")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	result, err := command(t, "env; pwd", func(o *Options) { o.Env = []string{"MODE=x"} }).Run(ctx, job())
	got := string(result)
	for _, want := range []string{"REDISOPT_QUEUE=mail\n", "REDISOPT_JOB_ID=1\n", "REDISOPT_JOB_NAME=welcome\n", "REDISOPT_ATTEMPT=2\n", "REDISOPT_ATTEMPTS=3\n", "REDISOPT_DEADLINE=20", "TRACEPARENT=00-trace\n", "MODE=x\n", "LANG=C\n", "redisopt-job-"} {
		if err != nil || !strings.Contains(got, want) {
			t.Errorf("environment %s, %v; want %s", got, err, want)
		}
	}
	if strings.Contains(got, "hunter2") {
		t.Error("a variable that is not on the list got through")
	}
	lines := strings.Split(strings.TrimSpace(got), "\n")
	if _, err := os.Stat(lines[len(lines)-1]); err == nil {
		t.Error("the directory of the job is still there")
	}
}

func TestWhatEachExitMeans(t *testing.T) {
	for script, want := range map[string]string{
		"exit 0":                            "done",
		"echo bad data >&2; exit 65":        "dead: exit status 65: bad data",
		"echo later >&2; exit 75":           "after 1m0s: exit status 75: later",
		"echo a; echo 'b\n\tc' >&2; exit 3": "retry: exit status 3: b c",
		"kill -9 $$":                        "retry: signal: killed",
		"yes x | head -c 100000 >&2; echo end >&2; exit 1": "retry: exit status 1: … " + strings.Repeat("x ", 1022) + "end",
	} {
		_, err := command(t, script).Run(t.Context(), job())
		got := "done"
		if dead, ok := errors.AsType[*queue.DeadError](err); ok {
			got = "dead: " + dead.Reason
		} else if later, ok := errors.AsType[*queue.RetryAfterError](err); ok {
			got = "after " + later.After.String() + ": " + later.Reason
		} else if err != nil {
			got = "retry: " + err.Error()
		}
		if got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", script, got, want)
		}
	}
}

func TestOutputIsBounded(t *testing.T) {
	notices := 0
	limit := func(o *Options) { o.MaxResult = 1000; o.Notice = func(error) { notices++ } }
	if result, err := command(t, "head -c 1000 /dev/zero", limit).Run(t.Context(), job()); err != nil || len(result) != 1000 {
		t.Errorf("%d bytes, %v; want 1000", len(result), err)
	}
	if result, err := command(t, "head -c 10000000 /dev/zero", limit).Run(t.Context(), job()); err != nil || result != nil || notices != 1 {
		t.Errorf("%d bytes, %v, %d notices; want nothing and one notice", len(result), err, notices)
	}
}

// alive is whether a process is there and no zombie.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

// gone waits for the end of processes whose numbers are in a file.
func gone(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for word := range strings.FieldsSeq(string(text)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(20 * time.Second); alive(pid); {
			if time.Now().After(end) {
				t.Fatalf("process %d is still there", pid)
			}
			<-time.After(10 * time.Millisecond)
		}
	}
}

func TestTheWholeGroupEndsAtTheDeadline(t *testing.T) {
	for name, script := range map[string]string{
		"one that listens":       "sleep 1000 & echo $! $$ >FILE; wait",
		"one that is deaf":       "trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & echo $! $$ >FILE; while :; do sleep 1; done",
		"one that leaves others": "sleep 1000 & echo $! >FILE; exit 7",
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pids")
			c := command(t, strings.ReplaceAll(script, "FILE", file), func(o *Options) { o.Grace = 100 * time.Millisecond })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				for { // until it has said who it is
					if text, _ := os.ReadFile(file); len(text) > 0 {
						cancel()
						return
					}
					<-time.After(5 * time.Millisecond)
				}
			}()
			_, err := c.Run(ctx, job())
			if err == nil {
				t.Error("it ended well")
			}
			gone(t, file)
		})
	}
	t.Run("its own timeout", func(t *testing.T) {
		_, err := command(t, "sleep 1000", func(o *Options) { o.Timeout = 50 * time.Millisecond }).Run(t.Context(), job())
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run = %v, want the deadline", err)
		}
	})
}

func TestLimitsHoldForTheCommandAndItsChildren(t *testing.T) {
	if err := (Limits{CPU: 1}).supported(); err != nil {
		t.Skip(err)
	}
	limits := Limits{CPU: 90 * time.Minute, Files: 64, FileSize: 1 << 20}
	if runtime.GOOS == "linux" {
		limits.Memory = 512 << 20
	}
	with := func(l Limits) func(*Options) { return func(o *Options) { o.Limits = l } }
	result, err := command(t, "sh -c 'ulimit -t; ulimit -n; ulimit -v'", with(limits)).Run(t.Context(), job())
	if want := "5400\n64\n524288\n"; err != nil || runtime.GOOS == "linux" && string(result) != want {
		t.Errorf("limits %q, %v; want %q", result, err, want)
	}
	_, err = command(t, "head -c 2000000 /dev/zero > big", with(limits)).Run(t.Context(), job())
	if err == nil {
		t.Error("a file of 2 MB was written")
	}
	_, err = command(t, "while :; do :; done", with(Limits{CPU: time.Second})).Run(t.Context(), job())
	if err == nil || !strings.Contains(err.Error(), "processor time of 1s") {
		t.Errorf("an endless loop: %v", err)
	}
	// Exit codes and input pass through.
	_, err = command(t, "cat >/dev/null; exit 65", with(limits)).Run(t.Context(), job())
	if _, ok := errors.AsType[*queue.DeadError](err); !ok {
		t.Errorf("with limits, exit 65 is %v", err)
	}
}

func TestACopyThatCannotBecomeTheCommandSaysWhy(t *testing.T) {
	for _, args := range [][]string{{"x", stageWord}, {"x", stageWord, "1,2", "/bin/true"}, {"x", stageWord, "-1,0,0,0", "/bin/true"}, {"x", stageWord, "0,0,0,0", "/nowhere"}} {
		if err := stage(args); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
}

func TestOptionsReportAllTheirProblems(t *testing.T) {
	_, err := New(Options{Dir: "/nowhere", Env: []string{"=x"}, Pass: []string{"A=B"}, Timeout: -1, Grace: -1, RetryAfter: -1, MaxResult: 1 << 30, Limits: Limits{Memory: -1, Files: 2}})
	for _, want := range []string{"command:", "dir:", "env:", "pass:", "timeout:", "grace:", "retry_after:", "max_result:", "limits.memory:", "limits.files:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
	if _, err := New(Options{Command: []string{"no-such-program-anywhere"}}); err == nil {
		t.Error("a program that is not there was taken")
	}
}

func BenchmarkRun(b *testing.B) {
	for name, limits := range map[string]Limits{"without limits": {}, "with limits": {CPU: time.Minute}} {
		b.Run(name, func(b *testing.B) {
			c := command(b, "exit 0", func(o *Options) { o.Limits = limits })
			for b.Loop() {
				if _, err := c.Run(b.Context(), job()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
