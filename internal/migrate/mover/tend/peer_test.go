package tend_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for something that must happen, on however busy a machine.
const patience = 60 * time.Second

// peerOptions is what a live peer reads from PEER_OPTS.
type peerOptions struct {
	JobOpts map[string]any `json:"jobOpts,omitempty"`
	WorkMs  int            `json:"workMs,omitempty"`
	Fail    int            `json:"fail,omitempty"`
}

// A peer is one process running a real library: testdata/peers/move-peer.js.
type peer struct {
	t     *testing.T
	stdin io.WriteCloser
	ended chan struct{}

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every line
	words   map[string]int
	started []int
	done    []int
}

// startPeer runs a peer and waits until it says that it is ready.
func startPeer(t *testing.T, opts peerOptions, args ...string) *peer {
	t.Helper()
	dir, err := filepath.Abs("../../../../testdata/peers")
	if err != nil {
		t.Fatal(err)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("needs node on PATH")
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "bull")); err != nil {
		t.Skip("needs the Node peers: run make deps")
	}
	packed, err := json.Marshal(opts)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, append([]string{"move-peer.js"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PEER_OPTS="+string(packed))
	cmd.Stderr = peerErrors{t}
	cmd.WaitDelay = 5 * time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, stdin: stdin, ended: make(chan struct{}), changed: make(chan struct{}), words: map[string]int{}}
	go p.read(stdout)
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill() // a peer that was asked to quit has ended by now
		<-p.ended
		_ = cmd.Wait()
	})
	p.await("ready", func() bool { return p.words["ready"] > 0 })
	return p
}

// peerErrors writes what a peer complains about into the test's log.
type peerErrors struct{ t *testing.T }

func (w peerErrors) Write(text []byte) (int, error) {
	if !strings.Contains(string(text), "simulated failure") {
		w.t.Logf("peer: %s", text)
	}
	return len(text), nil
}

func (p *peer) read(stdout io.Reader) {
	defer close(p.ended)
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		n, _ := strconv.Atoi(rest)
		p.mu.Lock()
		p.words[word]++
		switch word {
		case "start":
			p.started = append(p.started, n)
		case "done":
			p.done = append(p.done, n)
		}
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
	}
}

// await waits until is says so; it is called with the peer locked.
func (p *peer) await(what string, is func() bool) {
	p.t.Helper()
	limit := time.After(patience)
	for {
		p.mu.Lock()
		ok, changed := is(), p.changed
		started, done := len(p.started), len(p.done)
		p.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-p.ended:
			p.t.Fatalf("the peer ended before: %s", what)
		case <-limit:
			p.t.Fatalf("not within %s: %s; %d started, %d done", patience, what, started, done)
		}
	}
}

// awaitDone waits until n jobs were finished.
func (p *peer) awaitDone(n int) {
	p.t.Helper()
	p.await(fmt.Sprintf("%d jobs done", n), func() bool { return len(p.done) >= n })
}

// counts is how often each job was finished, and started.
func (p *peer) counts() (done, started map[int]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	done, started = map[int]int{}, map[int]int{}
	for _, n := range p.done {
		done[n]++
	}
	for _, n := range p.started {
		started[n]++
	}
	return done, started
}

// order is the jobs in the order in which they were started, from the given one on.
func (p *peer) order(from int) []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.started[min(from, len(p.started)):])
}

// quit ends the peer in its own good time.
func (p *peer) quit() {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, "quit\n"); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatal("the peer does not end")
	}
}

// onceEach says what is wrong with jobs 1 to n that must each be done once.
func onceEach(done map[int]int, n int) string {
	var wrong []string
	for i := 1; i <= n; i++ {
		if done[i] != 1 {
			wrong = append(wrong, fmt.Sprintf("job %d was done %d times", i, done[i]))
		}
	}
	for _, i := range slices.Sorted(maps.Keys(done)) {
		if i < 1 || i > n {
			wrong = append(wrong, fmt.Sprintf("job %d was done and never added", i))
		}
	}
	return strings.Join(wrong[:min(len(wrong), 10)], "; ")
}

func portOf(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
