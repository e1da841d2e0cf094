//go:build unix

package main

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestSignalsReachTheCommandAndTheDocumentIsWritten(t *testing.T) {
	for name, s := range map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "USR1": syscall.SIGUSR1} {
		file := filepath.Join(t.TempDir(), "r.json")
		// The shell runs the trap between two of its short sleeps.
		script := "trap 'echo got " + name + "; exit 5' " + name + "; echo ready; while :; do sleep 0.05; done"
		out, into := io.Pipe()
		ended := make(chan int, 1)
		go func() {
			s := streams{in: strings.NewReader(""), out: into, err: io.Discard}
			ended <- run(t.Context(), []string{"record", "--out", file, "--", "sh", "-c", script}, s)
			_ = into.Close()
		}()
		lines := bufio.NewScanner(out)
		if !lines.Scan() || lines.Text() != "ready" {
			t.Fatalf("got %q", lines.Text())
		}
		if err := syscall.Kill(os.Getpid(), s); err != nil { // the recorder has taken the signal over by now
			t.Fatal(err)
		}
		if !lines.Scan() || lines.Text() != "got "+name {
			t.Errorf("%s: the command printed %q", name, lines.Text())
		}
		if code := <-ended; code != 5 {
			t.Errorf("%s: exit code %d, want 5", name, code)
		}
		if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), `"record/v1"`) {
			t.Errorf("%s: document %.60q, %v", name, text, err)
		}
	}
}

func TestAPortThatIsTakenIsSaidWithWhatToDo(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	busy := l.Addr().String()
	for _, flag := range []string{"--listen", "--gateway-listen"} {
		var r recorder
		if code := run(t.Context(), []string{"record", flag, busy, "--", "true"}, r.streams()); code != exitBlocked {
			t.Errorf("%s: exit code %d, want %d", flag, code, exitBlocked)
		}
		if got := r.err.String(); !strings.Contains(got, "listen on "+busy) || !strings.Contains(got, "hint: leave --listen") {
			t.Errorf("%s: got %s", flag, got)
		}
	}
}

func TestInFrontOfARealRedisScriptsAreCountedTogether(t *testing.T) {
	if _, err := exec.LookPath("redis-cli"); err != nil {
		t.Skip("needs redis-cli on PATH")
	}
	server := redistest.Start(t, "--requirepass", "secret")
	var r recorder
	file := filepath.Join(t.TempDir(), "r.json")
	s := r.streams()
	s.env = func(name string) (string, bool) {
		v, ok := map[string]string{"REDIS_URL": server.URL()}[name]
		return v, ok
	}
	script := `redis-cli -u "$REDIS_URL" eval "redis.call('incr',KEYS[1]) redis.call('incr',KEYS[1]) return redis.call('get',KEYS[1])" 1 a; redis-cli -u "$REDIS_URL" get a`
	if code := run(t.Context(), []string{"record", "--upstream", "--out", file, "--", "sh", "-c", script}, s); code != 0 {
		t.Fatalf("exit code %d: %s", code, r.err.String())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"engine": "upstream"`, `"in_script": "total"`, `"in_script": 3`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	if strings.Contains(string(text), "secret") || r.out.String() != "2\n2\n" {
		t.Errorf("standard output %q", r.out.String())
	}
	if got := server.Client(t).Get(t.Context(), "a").Val(); got != "2" {
		t.Errorf("the Redis has %q, want what the command wrote", got)
	}
}
