package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// A strikeKind is what goes wrong.
type strikeKind string

// The kinds of strikes.
const (
	killedAnywhere  strikeKind = "program killed at a random instant"
	killedAtJournal strikeKind = "program killed at a journal write"
	serverKilled    strikeKind = "redis-server killed"
	networkCut      strikeKind = "network cut"
)

// The moments of a journal write. An entry is written to the file, synced, then mirrored in Redis: so a
// death before the write leaves neither, one under it a part of the line, which only the file's sync ends.
const (
	beforeTheFile = "before it"
	tornInTheFile = "in the middle of the line"
	beforeMirror  = "between file and mirror"
	afterMirror   = "after it"
)

func journalMoments() []string {
	return []string{beforeTheFile, tornInTheFile, beforeMirror, afterMirror}
}

// A strike is one thing that goes wrong with a run of the program.
type strike struct {
	kind   strikeKind
	write  int    // at a journal write: which of the run, from 1
	moment string // of that write
	cut    cut    // of the network
	script bool   // only calls of scripts are counted, which is what changes anything: else every command
}

func (s strike) String() string {
	switch s.kind {
	case killedAtJournal:
		return fmt.Sprintf("killed at journal write %d, %s", s.write, s.moment)
	case networkCut:
		return "network cut, " + s.cut.String()
	case killedAnywhere, serverKilled:
	}
	return string(s.kind)
}

// A trial is one migration that is struck once, or twice, on a server of its own.
type trial struct {
	t      *testing.T
	rng    *rand.Rand
	dir    string
	server *redistest.Server
	client *redis.Client
	wire   *wire
	env    []string
	busy   bool // the queue is in use while it is moved, where the route knows how

	other     *redistest.Server // the target of a copy, the new side of phase 1
	otherWire *wire
}

// patience bounds one run of the program, on a machine however busy.
const patience = 2 * time.Minute

func newTrial(t *testing.T, seed uint64) *trial {
	t.Helper()
	tr := &trial{
		t: t, rng: rand.New(rand.NewPCG(seed, 0x70727475)), dir: t.TempDir(), //nolint:gosec // reproducible on purpose
		server: redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"),
	}
	// Its own connections go on over a restart of the server.
	tr.client = redis.NewClient(&redis.Options{Addr: tr.server.Addr, Protocol: 2, DisableIdentity: true, MaxRetries: 3})
	t.Cleanup(func() { _ = tr.client.Close() })
	tr.wire = newWire(t, tr.server.Addr)
	return tr
}

// A running is the program under way.
type running struct {
	cmd         *exec.Cmd
	out, errs   bytes.Buffer
	ended       chan struct{}
	killed      sync.Once
	wasKilled   bool
	description string
}

// begin starts the program.
func (tr *trial) begin(args []string) *running {
	tr.t.Helper()
	path, err := exec.LookPath("redisopt")
	if err != nil {
		tr.t.Fatal(err)
	}
	r := &running{ended: make(chan struct{}), description: fmt.Sprint(args)}
	r.cmd = exec.CommandContext(context.WithoutCancel(tr.t.Context()), path, args...)
	r.cmd.Env = append([]string{"PATH=" + filepath.Dir(path), "REDIS_URL=" + tr.wire.url(), "XDG_STATE_HOME=" + tr.dir, hurried}, tr.env...)
	r.cmd.Dir = tr.dir
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.errs
	if err := r.cmd.Start(); err != nil {
		tr.t.Fatal(err)
	}
	go func() {
		_ = r.cmd.Wait() // its exit code says how it ended
		close(r.ended)
	}()
	return r
}

// kill ends the program as a crash would.
func (r *running) kill() {
	r.killed.Do(func() { r.wasKilled = r.cmd.Process.Signal(syscall.SIGKILL) == nil })
}

// result waits for the end. A program that does not come to one is asked where it hangs.
func (r *running) result(t *testing.T) finished {
	t.Helper()
	select {
	case <-r.ended:
	case <-time.After(patience):
		_ = r.cmd.Process.Signal(syscall.SIGQUIT)
		select {
		case <-r.ended:
		case <-time.After(10 * time.Second):
			r.kill()
			<-r.ended
		}
		t.Fatalf("%s did not end within %s:\n%s", r.description, patience, r.errs.String())
	}
	return finished{code: r.cmd.ProcessState.ExitCode(), stdout: r.out.String(), stderr: r.errs.String()}
}

// run runs the program undisturbed.
func (tr *trial) run(args ...string) finished {
	tr.t.Helper()
	return tr.begin(args).result(tr.t)
}

// strike runs the program and has s happen to it at command at of what it sends (from 0), or at its journal
// write. It tells whether that came to pass before the program ended by itself, and how many commands of the
// kind that count it sent.
func (tr *trial) strike(s strike, journal string, at int, args []string) (c finished, struck bool, counted int) {
	tr.t.Helper()
	hit := make(chan struct{})
	once := sync.OnceFunc(func() { close(hit) })
	delay := soonUpTo(tr.rng, 3*time.Millisecond)
	down := soonUpTo(tr.rng, time.Second)
	var sent atomic.Int64
	first := tr.entries(journal)

	where, server := tr.wire, tr.server
	if journal == "" && s.kind != killedAnywhere && tr.rng.IntN(2) == 0 { // of a copy, either side
		where, server = tr.otherWire, tr.other
	}
	var program *running
	started := make(chan struct{})
	where.on(func(command []string) bool {
		<-started
		if s.kind != killedAtJournal {
			if !s.script || strings.HasPrefix(strings.ToUpper(command[0]), "EVAL") {
				if sent.Add(1) == int64(at)+1 {
					once()
				}
			}
			return false
		}
		if journalWrite(command, journal) != first+s.write {
			return false
		}
		if s.moment != afterMirror {
			once()
			program.kill()
			return true
		}
		where.hold(func() bool {
			if tr.entries(journal) < first+s.write {
				return false
			}
			once()
			program.kill()
			return true
		})
		return false
	})
	program = tr.begin(args)
	close(started)
	select {
	case <-program.ended:
	case <-hit:
		struck = true
		<-delay
		switch s.kind {
		case killedAnywhere, killedAtJournal:
			program.kill()
		case serverKilled:
			server.Kill(tr.t)
			<-down
			server.Restart(tr.t)
		case networkCut:
			where.strike(s.cut)
			select {
			case <-down:
			case <-program.ended:
			}
			where.heal()
		}
	case <-time.After(patience):
	}
	c = program.result(tr.t)
	where.heal()
	select {
	case <-hit:
		struck = true
	default:
	}
	if s.kind == killedAnywhere || s.kind == killedAtJournal {
		struck = struck && c.code == -1
	}
	if struck && s.kind == killedAtJournal {
		tr.tear(s)
	}
	return c, struck, int(sent.Load())
}

// soonUpTo is a moment after now, at most most later.
func soonUpTo(rng *rand.Rand, most time.Duration) <-chan time.Time {
	return time.After(time.Duration(rng.Int64N(int64(most) + 1)))
}

// entries is how many entries the journal has in Redis.
func (tr *trial) entries(journal string) int {
	if journal == "" {
		return 0
	}
	n, err := tr.client.LLen(context.WithoutCancel(tr.t.Context()), journal).Result()
	if err != nil {
		return 0
	}
	return int(n)
}

// tear brings the journal's file into the state in which a death at an earlier moment leaves it.
func (tr *trial) tear(s strike) {
	tr.t.Helper()
	if s.moment != beforeTheFile && s.moment != tornInTheFile {
		return
	}
	files, err := filepath.Glob(filepath.Join(tr.dir, "redisopt", "migrations", "*", "*.journal"))
	if err != nil || len(files) != 1 {
		tr.t.Fatalf("want one journal, got %v, %v", files, err)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		tr.t.Fatal(err)
	}
	if len(content) == 0 || content[len(content)-1] != '\n' {
		tr.t.Fatalf("the journal does not end in a line: %q", content)
	}
	start := bytes.LastIndexByte(content[:len(content)-1], '\n') + 1
	keep := start
	if s.moment == tornInTheFile {
		keep += 1 + tr.rng.IntN(len(content)-1-start)
	}
	if err := os.Truncate(files[0], int64(keep)); err != nil {
		tr.t.Fatal(err)
	}
}

// operate runs the program as an operator does who finds what was struck. He does nothing but this; while the
// lease of the dead one is in force, he tries again.
func (tr *trial) operate(args ...string) finished {
	tr.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		c := tr.run(args...)
		held := c.code == exitBlocked && strings.Contains(c.stderr, "is held by")
		asked := strings.Contains(c.stdout, "migrate.intent/v1") // of the dead one, which looks alive
		if !held && !asked || time.Now().After(deadline) {
			return c
		}
		<-time.After(time.Second)
	}
}
