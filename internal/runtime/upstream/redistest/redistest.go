// Package redistest starts throw-away real redis-servers on loopback for the tests of every package.
// A server never listens on 6379, is stopped by its own pid, and is gone when the test ends.
package redistest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	startAttempts = 8                // ports tried when another process takes the free one first
	readyTimeout  = 60 * time.Second // for a server to answer, on however busy a machine; loading an AOF counts
	replyTimeout  = 60 * time.Second // for an answer to Client
	stopTimeout   = 5 * time.Second  // between SIGTERM and SIGKILL
	pollInterval  = 5 * time.Millisecond
)

// A Server is one redis-server process that belongs to one test. Its methods are for the test's own
// goroutine.
type Server struct {
	// Addr is host:port on 127.0.0.1. It stays the same over Kill, Stop and Restart.
	Addr string

	// Dir is the server's working directory, kept over Restart: its AOF, RDB and log are there.
	Dir string

	// Password is the value of --requirepass among the arguments, or empty.
	Password string

	bin      string
	args     []string
	port     *heldPort
	sentinel string // the configuration of a Sentinel, empty for a Redis
	proc     *process
}

// A process is one run of the program; done is closed when it has been waited for.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	mu   sync.Mutex
	log  bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// Start runs a redis-server with persistence off and the given extra arguments, such as
// "--appendonly", "yes" or "--requirepass", "secret", and waits until it answers. It skips the test
// when redis-server is not on PATH. The server is killed when the test ends.
//
// To listen with TLS only, pass "--port", "0" and "--tls-port", "auto" besides the certificate
// arguments; "auto" stands for the chosen port.
func Start(tb testing.TB, args ...string) *Server {
	tb.Helper()
	return start(tb, "", args)
}

// StartSentinel runs a Sentinel that watches master under the name "mymaster" and decides alone. Its
// Client and Addr are the Sentinel's.
func StartSentinel(tb testing.TB, master *Server) *Server {
	tb.Helper()
	host, port, err := net.SplitHostPort(master.Addr)
	if err != nil {
		tb.Fatal(err)
	}
	return start(tb, fmt.Sprintf("sentinel monitor mymaster %s %s 1\n", host, port), nil)
}

func start(tb testing.TB, sentinel string, args []string) *Server {
	tb.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		tb.Skip("needs redis-server on PATH")
	}
	// Not tb.TempDir: a long test name would exceed what a unix socket path may have, and a server
	// that still writes while it is being stopped would fail the removal.
	dir, err := os.MkdirTemp("", "redistest") //nolint:usetesting // see above
	if err != nil {
		tb.Fatalf("directory for redis-server: %v", err)
	}
	s := &Server{Dir: dir, bin: bin, args: args, sentinel: sentinel}
	if i := slices.Index(args, "--requirepass"); i >= 0 && i+1 < len(args) {
		s.Password = args[i+1]
	}
	tb.Cleanup(func() {
		s.Kill(tb)
		s.port.release()
		_ = os.RemoveAll(dir)
	})

	var last error
	for range startAttempts {
		s.port.release()
		if s.port, err = holdPort(tb.Context()); err != nil {
			tb.Fatalf("free port: %v", err)
		}
		s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port.number))
		if last = s.run(tb.Context()); last == nil {
			return s
		}
		s.Kill(tb)
	}
	tb.Fatalf("start redis-server: %v", last)
	return nil
}

// Restart stops the server if it runs and starts it again on the same address and directory.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	s.Stop(tb)
	if err := s.run(tb.Context()); err != nil {
		tb.Fatalf("restart redis-server: %v", err)
	}
}

// Kill ends the server with SIGKILL, as a crash would, and waits until it is gone. Killing a server
// that does not run does nothing.
func (s *Server) Kill(tb testing.TB) {
	tb.Helper()
	if s.proc == nil {
		return
	}
	_ = s.proc.cmd.Process.Kill()
	<-s.proc.done
	s.proc = nil
}

// Stop ends the server with SIGTERM, as an operator would, and waits until it is gone.
func (s *Server) Stop(tb testing.TB) {
	tb.Helper()
	if s.proc == nil {
		return
	}
	_ = s.proc.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.proc.done:
		s.proc = nil
	case <-time.After(stopTimeout):
		s.Kill(tb)
	}
}

// PID is the process id of the running server, 0 when it does not run.
func (s *Server) PID() int {
	if s.proc == nil {
		return 0
	}
	return s.proc.cmd.Process.Pid
}

// Log is what the running server has printed so far.
func (s *Server) Log() string {
	if s.proc == nil {
		return ""
	}
	return s.proc.output()
}

// URL is the server's redis:// address, with the password when there is one.
func (s *Server) URL() string {
	if s.Password != "" {
		return "redis://:" + s.Password + "@" + s.Addr
	}
	return "redis://" + s.Addr
}

// Client returns a plain go-redis client of one connection, closed when the test ends. It is for
// looking at the server from outside, and works only without TLS.
func (s *Server) Client(tb testing.TB) *redis.Client {
	tb.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: s.Addr, Password: s.Password,
		Protocol: 2, PoolSize: 1, PipelinePoolSize: -1, MaxActiveConns: 1,
		DisableIdentity: true, MaxRetries: -1, ContextTimeoutEnabled: true,
		DialTimeout: replyTimeout, ReadTimeout: replyTimeout,
	})
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

func (s *Server) run(ctx context.Context) error {
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return err
	}
	args := []string{
		"--port", port, "--bind", "127.0.0.1", "--dir", s.Dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no",
	}
	if s.sentinel != "" {
		// A Sentinel wants a file that it can rewrite.
		file := filepath.Join(s.Dir, "sentinel.conf")
		conf := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\n%s", port, s.Dir, s.sentinel)
		if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
			return err
		}
		args = []string{file, "--sentinel"}
	}
	for _, a := range s.args {
		if a == "auto" {
			a = port
		}
		args = append(args, a)
	}
	p := &process{done: make(chan struct{})}
	// The server outlives the context of the call that starts it; Cleanup ends it.
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), s.bin, args...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		return err
	}
	s.proc = p
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return s.waitReady(ctx, p)
}

// waitReady returns when the server says, in what it prints, that it accepts connections. That alone
// proves that it is our server, since another one may own the port; connecting would take one of its
// clients.
func (s *Server) waitReady(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	ready := "eady to accept connections"
	if s.sentinel != "" {
		ready = "+monitor master"
	}
	for !strings.Contains(p.output(), ready) {
		select {
		case <-p.done:
			return fmt.Errorf("redis-server ended at once: %s", p.output())
		case <-ctx.Done():
			return fmt.Errorf("redis-server is not ready after %s: %s: %w", readyTimeout, p.output(), ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}
