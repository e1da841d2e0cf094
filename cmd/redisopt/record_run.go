package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/inspect/record"
)

// outputGrace is how long output of processes that the command left behind is waited for, where it
// passes through this program.
const outputGrace = 2 * time.Second

// killAfter is how long a command may take to end once nobody waits for it any more.
const killAfter = 5 * time.Second

// runRecorded runs the command behind the recorder and returns how it ended. An error means that it could
// not be run.
func (a *app) runRecorded(ctx context.Context, f recordFlags, rec *record.Recorder, args []string) (record.Exit, error) {
	gate, err := a.recordGateway(ctx, f, rec)
	if err != nil {
		return record.Exit{}, err
	}
	if gate.close != nil {
		defer gate.close()
	}
	cmd := exec.Command(args[0], args[1:]...) //nolint:gosec,noctx // running it is what was asked for; signals end it
	cmd.Env = recordEnv(os.Environ(), f.env, rec.Addr(), gate)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.in, a.err, a.err
	if f.out != "" {
		cmd.Stdout = a.out
	}
	cmd.WaitDelay = outputGrace
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, forwarded()...)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return record.Exit{}, withHint(usagef("run %s: %w", args[0], startCause(err)), "give the command after --, as a shell would find it: redisopt record -- npm test")
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	done := ctx.Done()
	for {
		select {
		case err := <-ended:
			return exitOf(cmd, err)
		case s := <-signals:
			if !a.reachesAnyway(s) {
				_ = cmd.Process.Signal(s) // it may have ended just now
			}
		case <-done:
			done = nil
			if !interrupted(ctx) {
				_ = cmd.Process.Signal(os.Interrupt)
				defer time.AfterFunc(killAfter, func() { _ = cmd.Process.Kill() }).Stop()
			}
		}
	}
}

// reachesAnyway is whether the terminal sends a signal to the command as well.
func (a *app) reachesAnyway(s os.Signal) bool { return a.inTerminal && s == os.Interrupt }

// startCause is err without what exec says around it.
func startCause(err error) error {
	if e, ok := errors.AsType[*exec.Error](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}

// exitOf is how the command ended, as a shell tells it.
func exitOf(cmd *exec.Cmd, err error) (record.Exit, error) {
	state := cmd.ProcessState
	if state == nil {
		return record.Exit{}, fmt.Errorf("wait for the command: %w", err)
	}
	if name, number := endedBy(state); number > 0 {
		return record.Exit{Code: 128 + number, Signal: name}, nil
	}
	return record.Exit{Code: state.ExitCode()}, nil
}

// recordEnv is the environment of the command: that of this program with every way to a Redis replaced.
func recordEnv(env, also []string, addr string, gate recordGate) []string {
	host, port, _ := net.SplitHostPort(addr)
	url := "redis://" + addr
	set := map[string]string{"REDIS_URL": url, "REDIS_HOST": host, "REDIS_PORT": port, "REDISOPT_RECORD": url}
	unset := []string{"REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_TLS"}
	if gate.url != "" {
		for _, prefix := range []string{"UPSTASH_REDIS_REST_", "KV_REST_API_"} {
			set[prefix+"URL"], set[prefix+"TOKEN"] = gate.url, gate.token
		}
	}
	for _, name := range also {
		set[name] = url
	}
	out := slices.DeleteFunc(slices.Clone(env), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		plain := strings.TrimSuffix(name, "_FILE")
		return set[name] != "" || set[plain] != "" || slices.Contains(unset, plain)
	})
	for name, value := range set {
		out = append(out, name+"="+value)
	}
	slices.Sort(out)
	return out
}

// A recordGate is the HTTP door of a recording; its zero value is none.
type recordGate struct {
	url, token string
	close      func() // not nil where there is a URL
}
