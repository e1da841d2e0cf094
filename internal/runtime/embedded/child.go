package embedded

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	childReady    = time.Minute      // to answer PING; loading a large file counts
	childStop     = 15 * time.Second // between SIGTERM and killing it
	childAttempts = 5                // free ports tried, should another process be quicker
	probeEvery    = 10 * time.Millisecond
	probeTimeout  = 500 * time.Millisecond
	otherTimeout  = 5 * time.Second          // for a server in the data directory, which may be busy
	addressFile   = "redisopt-embedded.addr" // in the data directory: where its server listens
)

// ErrNoServer is returned by Start when a data directory is asked for and there is no redis-server.
var ErrNoServer = errors.New("needs redis-server on PATH: install Redis (apt-get install redis-server, brew install redis), or leave the data directory out to run in memory, where nothing survives")

// A child is a real redis-server that we started and will stop.
type child struct {
	addr string
	note string // path of the address file
	cmd  *exec.Cmd
	log  *tail
	done chan struct{}
	once sync.Once
	err  error
}

// startChild starts a redis-server with an append-only file in dir.
func startChild(ctx context.Context, addr, dir string) (*child, error) {
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("data directory %q %w", dir, ErrNoServer)
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if st, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("data directory: %w; create it first", err)
	} else if !st.IsDir() {
		return nil, fmt.Errorf("data directory %q is a file", dir)
	}
	if resolved, err := filepath.EvalSymlinks(dir); err == nil {
		dir = resolved
	}
	note := filepath.Join(dir, addressFile)
	if other := serving(ctx, note, dir); other != "" {
		return nil, fmt.Errorf("data directory %q is served already by the redis-server at %s; stop that one first, two would ruin the append-only file", dir, other)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if strings.EqualFold(host, "localhost") {
		host = "127.0.0.1"
	}
	attempts := 1
	if port == "0" {
		attempts = childAttempts
	}
	for range attempts {
		if err = ctx.Err(); err != nil {
			return nil, err
		}
		at := net.JoinHostPort(host, port)
		if port == "0" {
			if at, err = freeAddr(ctx, host); err != nil {
				return nil, err
			}
		}
		var c *child
		if c, err = runChild(ctx, bin, at, dir, note); err == nil {
			return c, nil
		}
	}
	return nil, err
}

func runChild(ctx context.Context, bin, addr, dir, note string) (*child, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	c := &child{addr: addr, note: note, log: &tail{}, done: make(chan struct{})}
	// The server outlives the context that bounds its start; close ends it.
	c.cmd = exec.CommandContext(context.WithoutCancel(ctx), bin,
		"--bind", host, "--port", port, "--dir", dir, "--daemonize", "no",
		"--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction")
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	go func() {
		defer close(c.done)
		_ = c.cmd.Wait()
	}()
	if err := c.await(ctx); err != nil {
		_ = c.close()
		return nil, err
	}
	if err := os.WriteFile(note, []byte(addr+"\n"), 0o600); err != nil {
		_ = c.close()
		return nil, fmt.Errorf("data directory: %w", err)
	}
	return c, nil
}

// await returns when the server answers.
func (c *child) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, childReady)
	defer cancel()
	t := time.NewTicker(probeEvery)
	defer t.Stop()
	for {
		if c.answers(ctx) {
			return nil
		}
		select {
		case <-c.done:
			return fmt.Errorf("redis-server at %s ended while starting: %s", c.addr, c.log.last())
		case <-ctx.Done():
			return fmt.Errorf("redis-server at %s does not answer: %w: %s", c.addr, ctx.Err(), c.log.last())
		case <-t.C:
		}
	}
}

// answers is whether the server at the address is our own process, since another one may hold the port, and has
// loaded its file: INFO is answered before that, PING is not.
func (c *child) answers(ctx context.Context) bool {
	info, err := ask(ctx, c.addr, "INFO server", probeTimeout)
	if err != nil || !strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", c.cmd.Process.Pid)) {
		return false
	}
	pong, err := ask(ctx, c.addr, "PING", probeTimeout)
	return err == nil && pong == "+PONG"
}

// close stops the server and waits until it is gone.
func (c *child) close() error {
	c.once.Do(func() {
		_ = os.Remove(c.note)
		// Where processes take no signals, the server is killed; the append-only file stays valid.
		if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			_ = c.cmd.Process.Kill()
		}
		t := time.NewTimer(childStop)
		defer t.Stop()
		select {
		case <-c.done:
		case <-t.C:
			_ = c.cmd.Process.Kill()
			<-c.done
			c.err = fmt.Errorf("embedded redis: redis-server at %s did not stop within %s and was killed", c.addr, childStop)
		}
	})
	return c.err
}

// serving is the address of a server that still serves dir, left behind by a process that was
// killed; empty when there is none.
func serving(ctx context.Context, note, dir string) string {
	b, err := os.ReadFile(note)
	if err != nil {
		return ""
	}
	addr := strings.TrimSpace(string(b))
	if checkLoopback(addr) != nil {
		return ""
	}
	reply, err := ask(ctx, addr, "CONFIG GET dir", otherTimeout)
	if err != nil || !strings.Contains(reply, dir) {
		return ""
	}
	return addr
}

// ask sends one inline command and returns the reply, if it comes in time: a bulk string as it is, an array of
// them as its lines.
func ask(ctx context.Context, addr, command string, timeout time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer nc.Close()
	if at, ok := ctx.Deadline(); ok {
		if err := nc.SetDeadline(at); err != nil {
			return "", err
		}
	}
	if _, err := io.WriteString(nc, command+"\r\n"); err != nil {
		return "", err
	}
	r := bufio.NewReader(nc)
	first, err := readLine(r)
	if err != nil || first == "" || first[0] != '*' && first[0] != '$' {
		return first, err
	}
	n, err := strconv.Atoi(first[1:])
	if err != nil {
		return "", protocolError("invalid length")
	}
	if first[0] == '$' {
		return readBulk(r, max(0, min(n, trustedAlloc)))
	}
	out := []string{first}
	for range min(n, 16) * 2 {
		line, err := readLine(r)
		if err != nil {
			return "", err
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n"), nil
}

// freeAddr finds a free port that is not Redis' own.
func freeAddr(ctx context.Context, host string) (string, error) {
	var lc net.ListenConfig
	for range childAttempts {
		l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			return "", err
		}
		addr := l.Addr().String()
		_ = l.Close()
		if portOf(addr) != "6379" {
			return addr, nil
		}
	}
	return "", errors.New("no free port")
}

// tail keeps the end of what a process prints.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - 4096; over > 0 {
		t.buf = t.buf[over:]
	}
	return len(p), nil
}

// last is the last line printed.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := bytes.Split(bytes.TrimSpace(t.buf), []byte("\n"))
	return string(all[len(all)-1])
}
