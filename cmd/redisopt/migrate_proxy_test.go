package main

import (
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A moment is when the proxy acts on the command that it waits for.
type moment int

const (
	beforeForwarding moment = iota // the server never sees it
	beforeTheReply                 // the server has it, the client never hears
)

// A killProxy is the network between one client process and a real Redis, which kills the process at one script
// call: all that a migration changes, and every entry of its journal's mirror, is one.
type killProxy struct {
	*wire
	at   int    // the call to act on, counted from 0; negative: never
	when moment // of that call

	aimed    chan struct{} // closed when it is known which process to kill
	counting sync.Mutex
	calls    int // script calls seen
	victim   *os.Process
}

// startProxy listens on loopback until the test ends.
func startProxy(t *testing.T, to string, at int, when moment) *killProxy {
	t.Helper()
	p := &killProxy{wire: newWire(t, to), at: at, when: when, aimed: make(chan struct{})}
	p.on(p.see)
	return p
}

// aim says which process to kill. It is called once.
func (p *killProxy) aim(victim *os.Process) {
	p.counting.Lock()
	defer p.counting.Unlock()
	p.victim = victim
	close(p.aimed)
}

// seen is how many script calls came by.
func (p *killProxy) seen() int {
	p.counting.Lock()
	defer p.counting.Unlock()
	return p.calls
}

// see counts a script call, and acts when it is the one.
func (p *killProxy) see(command []string) (drop bool) {
	if len(command) == 0 || !strings.HasPrefix(strings.ToUpper(command[0]), "EVAL") {
		return false
	}
	p.counting.Lock()
	p.calls++
	mine := p.calls-1 == p.at
	p.counting.Unlock()
	if !mine {
		return false
	}
	<-p.aimed // it may come so far before whoever has started it knows that it runs
	if p.when == beforeForwarding {
		return p.die()
	}
	p.hold(p.die)
	return false
}

// die kills the process and lets nothing through any more.
func (p *killProxy) die() (drop bool) {
	p.counting.Lock()
	if p.victim != nil {
		_ = p.victim.Signal(syscall.SIGKILL)
		p.victim = nil
	}
	p.counting.Unlock()
	p.strike(cutNoWay)
	return true
}
