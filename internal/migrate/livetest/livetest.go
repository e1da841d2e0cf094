// Package livetest runs the real Node libraries of testdata/peers beside a test: a script that says what
// happens in lines on its standard output, and is told what to do in lines on its standard input.
package livetest

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Patience is how long a peer may say nothing. What it does takes as long as it takes: how fast a real
// library is on a busy machine is not what is tested.
const Patience = 90 * time.Second

// Dir is the directory of the peers. It skips the test when Node or the libraries are not there.
func Dir(tb testing.TB) string {
	tb.Helper()
	at, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			break
		}
		up := filepath.Dir(at)
		if up == at {
			tb.Fatal("no go.mod above the working directory")
		}
		at = up
	}
	dir := filepath.Join(at, "testdata", "peers")
	if _, err := exec.LookPath("node"); err != nil {
		tb.Skip("needs node on PATH")
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "bull")); err != nil {
		tb.Skip("needs the Node peers: run make deps")
	}
	return dir
}

// Command is script, which is in the directory of the peers, ready to be started; what it says on stderr goes
// into the test's log. It is killed with the test.
func Command(tb testing.TB, script string, args ...string) *exec.Cmd {
	tb.Helper()
	dir := Dir(tb)
	cmd := exec.CommandContext(tb.Context(), "node", append([]string{script}, args...)...)
	cmd.Dir, cmd.Stderr, cmd.WaitDelay = dir, complaints{tb}, 5*time.Second
	return cmd
}

// A Peer is one process that runs a real library. Its methods are for the test's own goroutine.
type Peer struct {
	tb    testing.TB
	name  string
	stdin io.WriteCloser
	ended chan struct{} // closed when stdout ended

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every line
}

// Start runs script, which is in the directory of the peers, with opts as JSON in PEER_OPTS, and waits until it
// has said "ready". heard is called with every line in turn, while the peer is locked, from one goroutine;
// what it changes may be read in Await. The process ends with the test.
func Start(tb testing.TB, heard func(line string), opts any, script string, args ...string) *Peer {
	tb.Helper()
	packed, err := json.Marshal(opts)
	if err != nil {
		tb.Fatal(err)
	}
	cmd := Command(tb, script, args...)
	cmd.Env = append(os.Environ(), "PEER_OPTS="+string(packed))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	p := &Peer{
		tb: tb, name: script + " " + strings.Join(args, " "), stdin: stdin,
		ended: make(chan struct{}), changed: make(chan struct{}),
	}
	ready := false
	go p.read(stdout, func(line string) {
		ready = ready || line == "ready"
		heard(line)
	})
	tb.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill() // a peer that was asked to quit has ended by now
		<-p.ended
		_ = cmd.Wait()
	})
	p.Await("ready", func() bool { return ready })
	return p
}

// complaints writes what a peer says on stderr into the test's log.
type complaints struct{ tb testing.TB }

func (w complaints) Write(text []byte) (int, error) {
	if !strings.Contains(string(text), "simulated failure") {
		w.tb.Logf("peer: %s", text)
	}
	return len(text), nil
}

func (p *Peer) read(stdout io.Reader, heard func(string)) {
	defer close(p.ended)
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		p.mu.Lock()
		heard(lines.Text())
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
	}
}

// Await blocks until holds is true; it is called with the peer locked, after every line. The test fails when the
// peer ends before, or says nothing for Patience.
func (p *Peer) Await(what string, holds func() bool) {
	p.tb.Helper()
	silence := time.NewTimer(Patience)
	defer silence.Stop()
	for {
		p.mu.Lock()
		ok, changed := holds(), p.changed
		p.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
			silence.Reset(Patience)
		case <-p.ended:
			p.mu.Lock()
			ok := holds()
			p.mu.Unlock()
			if !ok {
				p.tb.Fatalf("peer %s ended before: %s", p.name, what)
			}
			return
		case <-silence.C:
			p.tb.Fatalf("peer %s: not yet %s, and nothing at all for %s", p.name, what, Patience)
		}
	}
}

// Look calls see while the peer is locked: what heard changes may be read there.
func (p *Peer) Look(see func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	see()
}

// Tell writes one line to the peer.
func (p *Peer) Tell(line string) {
	p.tb.Helper()
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		p.tb.Fatalf("tell peer %s %q: %v", p.name, line, err)
	}
}

// Quit asks the peer to end in its own good time, and waits until it has.
func (p *Peer) Quit() {
	p.tb.Helper()
	p.Tell("quit")
	select {
	case <-p.ended:
	case <-time.After(Patience):
		p.tb.Fatalf("peer %s does not end", p.name)
	}
}
