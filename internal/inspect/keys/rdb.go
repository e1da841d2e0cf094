package keys

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/inspect/connections"
)

// ErrNoServer is returned by Load when there is no redis-server to load a dump into.
var ErrNoServer = errors.New("a dump is read by redis-server, which is not on PATH: install Redis (apt-get install redis-server, brew install redis)")

// A DumpError reports a file that is no dump a redis-server here can read.
type DumpError struct {
	File   string
	Reason string
	Err    error // may be nil
}

func (e *DumpError) Error() string { return fmt.Sprintf("dump %q: %s", e.File, e.Reason) }
func (e *DumpError) Unwrap() error { return e.Err }

const (
	loadAttempts = 5  // free ports tried, should another process be quicker
	keptLines    = 40 // of what the server printed, for the reason of a failure

	answerTimeout = 30 * time.Second // of a server that has this machine's memory and processors to share
)

// A Dump is an RDB file served by a throw-away redis-server on loopback, with a random password. The server
// writes nothing: no persistence, its own temporary directory, where the file is only linked.
type Dump struct {
	// Keys is how many keys were loaded; Expired, how many of the file had expired since.
	Keys, Expired int64

	// Database is the one with the most keys, which Client reads.
	Database int

	rdb  *redis.Client
	addr string
	pass string
	dir  string
	cmd  *exec.Cmd
	done chan struct{} // closed when the process is gone
	once sync.Once
}

// Load starts a server on file and returns when everything is loaded, which takes as much memory as the
// data set did. A *DumpError says that the file is no dump, cut short, or newer than the redis-server on
// PATH; ErrNoServer that there is none. The server is killed by Close, and when ctx ends.
func Load(ctx context.Context, file string) (*Dump, error) {
	path, err := checkDump(file)
	if err != nil {
		return nil, err
	}
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, ErrNoServer
	}
	for range loadAttempts {
		var d *Dump
		var taken bool
		if d, taken, err = start(ctx, bin, path, file); err == nil {
			return d, nil
		}
		if !taken {
			break
		}
	}
	return nil, err
}

// checkDump looks at the first bytes and returns the absolute path.
func checkDump(file string) (string, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return "", &DumpError{File: file, Reason: err.Error(), Err: err}
	}
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return "", &DumpError{File: file, Reason: "is no regular file"}
	}
	f, err := os.Open(path)
	if err != nil {
		reason := err
		if inner := errors.Unwrap(err); inner != nil {
			reason = inner
		}
		return "", &DumpError{File: file, Reason: reason.Error(), Err: err}
	}
	defer f.Close()
	head := make([]byte, 9)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", &DumpError{File: file, Reason: err.Error(), Err: err}
	}
	if !dumpHead.Match(head[:n]) {
		return "", &DumpError{File: file, Reason: "is no RDB file: it does not begin with REDIS or VALKEY and a version"}
	}
	return path, nil
}

var dumpHead = regexp.MustCompile(`^(REDIS[0-9]{4}|VALKEY[0-9]{3})`)

// start runs one server; taken says that only its port was.
func start(ctx context.Context, bin, path, file string) (d *Dump, taken bool, err error) {
	dir, err := os.MkdirTemp("", "redisopt-dump-")
	if err != nil {
		return nil, false, err
	}
	d = &Dump{dir: dir, pass: rand.Text(), done: make(chan struct{})}
	defer func() {
		if err != nil {
			_ = d.Close()
			d = nil
		}
	}()
	if err := os.Symlink(path, filepath.Join(dir, "dump.rdb")); err != nil {
		return d, false, fmt.Errorf("link the dump: %w", err)
	}
	if d.addr, err = freeLoopback(ctx); err != nil {
		return d, false, err
	}
	lines, err := d.run(ctx, bin)
	if err != nil {
		return d, false, fmt.Errorf("start redis-server: %w", err)
	}
	var last []string
	for line := range lines {
		if m := loaded.FindStringSubmatch(line); m != nil {
			d.Keys, d.Expired = integer(m[1]), integer(m[2])
		}
		if strings.Contains(line, "eady to accept connections") {
			go drain(lines)
			return d, false, d.open(ctx)
		}
		if last = append(last, line); len(last) > keptLines {
			last = last[1:]
		}
	}
	if err := ctx.Err(); err != nil {
		return d, false, err
	}
	said := strings.Join(last, "\n")
	return d, strings.Contains(said, "ddress already in use"), &DumpError{File: file, Reason: dumpReason(said)}
}

// drain lets the server go on printing until it ends.
func drain(lines <-chan string) {
	for {
		if _, more := <-lines; !more {
			return
		}
	}
}

var loaded = regexp.MustCompile(`keys loaded: ([0-9]+), keys expired: ([0-9]+)`)

// run starts the process. Its configuration goes through standard input, so that the password is in no
// list of processes. The channel gives what it prints and is closed when it ends.
func (d *Dump) run(ctx context.Context, bin string) (<-chan string, error) {
	_, port, err := net.SplitHostPort(d.addr)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, bin, "-")
	cmd.Dir = d.dir
	cmd.Stdin = strings.NewReader(strings.Join([]string{
		"bind 127.0.0.1", "port " + port, "requirepass " + d.pass, "dir " + strconv.Quote(d.dir),
		"dbfilename dump.rdb", `save ""`, "appendonly no", "daemonize no", "databases 1024",
		"maxmemory 0", "maxmemory-policy noeviction", "loglevel notice", "",
	}, "\n"))
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d.cmd = cmd
	go func() {
		defer close(d.done)
		_ = cmd.Wait()
		_ = in.Close()
	}()
	lines := make(chan string, keptLines)
	go func() {
		defer close(lines)
		s := bufio.NewScanner(out)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			lines <- s.Text()
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	return lines, nil
}

// open makes the client and finds the database with the most keys.
func (d *Dump) open(ctx context.Context) error {
	client := func(db int) *redis.Client {
		return redis.NewClient(&redis.Options{
			Addr: d.addr, Password: d.pass, DB: db, Protocol: 2, PoolSize: 1, PipelinePoolSize: -1,
			MaxActiveConns: 1, DisableIdentity: true, MaxRetries: -1, ContextTimeoutEnabled: true, ReadTimeout: answerTimeout,
		})
	}
	first := client(0)
	text, err := first.Info(ctx, "keyspace").Result()
	_ = first.Close()
	if err != nil {
		return fmt.Errorf("read the loaded dump: %w", err)
	}
	most := int64(-1)
	for name, v := range connections.InfoFields(text) {
		number, found := strings.CutPrefix(name, "db")
		rest, counts := strings.CutPrefix(v, "keys=")
		db, err := strconv.Atoi(number)
		if !found || !counts || err != nil {
			continue
		}
		keys, _, _ := strings.Cut(rest, ",")
		if n := integer(keys); n > most || n == most && db < d.Database {
			most, d.Database = n, db
		}
	}
	d.rdb = client(d.Database)
	return nil
}

// Client reads the loaded database. It is closed by Close.
func (d *Dump) Client() redis.UniversalClient { return d.rdb }

// Close kills the server, waits until it is gone and removes its directory. The dump stays as it was.
func (d *Dump) Close() error {
	var err error
	d.once.Do(func() {
		if d.rdb != nil {
			_ = d.rdb.Close()
		}
		if d.cmd != nil {
			_ = d.cmd.Process.Kill()
			<-d.done
		}
		err = os.RemoveAll(d.dir)
	})
	return err
}

func freeLoopback(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	for range loadAttempts {
		l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		addr := l.Addr().String()
		_ = l.Close()
		if !strings.HasSuffix(addr, ":6379") {
			return addr, nil
		}
	}
	return "", errors.New("no free port")
}

// dumpReason is why a server would not load, from what it printed.
func dumpReason(said string) string {
	if m := newer.FindStringSubmatch(said); m != nil {
		return fmt.Sprintf("is of RDB version %s, which the redis-server on PATH is too old for; install a newer one", m[1])
	}
	for _, known := range []struct{ said, reason string }{
		{"Wrong signature", "is of a kind that the redis-server on PATH does not know; install the one that wrote it"},
		{"nexpected EOF", "is cut short"},
		{"Short read", "is cut short or damaged"},
		{"checksum", "is damaged: its checksum is wrong"},
		{"module", "has data of a module that the redis-server on PATH has not"},
		{"nternal error in RDB", "is damaged"},
		{"OOM", "does not fit into memory"},
	} {
		if strings.Contains(said, known.said) {
			return known.reason
		}
	}
	lines := strings.Split(strings.TrimSpace(said), "\n")
	slices.Reverse(lines)
	for _, line := range lines {
		if _, text, found := strings.Cut(line, " # "); found {
			return "redis-server did not load it: " + text
		}
	}
	return "redis-server did not load it"
}

var newer = regexp.MustCompile(`handle RDB format version ([0-9]+)`)
