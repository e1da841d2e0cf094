package tend_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/migrate/livetest"
)

// patience is how long a test waits for something that must happen, on however busy a machine.
const patience = 60 * time.Second

// peerOptions is what a live peer reads from PEER_OPTS.
type peerOptions struct {
	JobOpts map[string]any `json:"jobOpts,omitempty"`
	WorkMs  int            `json:"workMs,omitempty"`
	Fail    int            `json:"fail,omitempty"`
	Hold    int            `json:"hold,omitempty"`
}

// A peer is one process running a real library: testdata/peers/move-peer.js.
type peer struct {
	*livetest.Peer
	t       *testing.T
	started []int
	done    []int
}

// startPeer runs a peer and waits until it says that it is ready.
func startPeer(t *testing.T, opts peerOptions, args ...string) *peer {
	t.Helper()
	p := &peer{t: t}
	p.Peer = livetest.Start(t, p.hear, opts, "move-peer.js", args...)
	return p
}

func (p *peer) hear(line string) {
	word, rest, _ := strings.Cut(line, " ")
	n, _ := strconv.Atoi(rest)
	switch word {
	case "start":
		p.started = append(p.started, n)
	case "done":
		p.done = append(p.done, n)
	}
}

// awaitDone waits until n jobs were finished.
func (p *peer) awaitDone(n int) {
	p.t.Helper()
	p.Await(fmt.Sprintf("%d jobs done", n), func() bool { return len(p.done) >= n })
}

// counts is how often each job was finished, and started.
func (p *peer) counts() (done, started map[int]int) {
	done, started = map[int]int{}, map[int]int{}
	p.Look(func() {
		for _, n := range p.done {
			done[n]++
		}
		for _, n := range p.started {
			started[n]++
		}
	})
	return done, started
}

// order is the jobs in the order in which they were started, from the given one on.
func (p *peer) order(from int) (numbers []int) {
	p.Look(func() { numbers = slices.Clone(p.started[min(from, len(p.started)):]) })
	return numbers
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
