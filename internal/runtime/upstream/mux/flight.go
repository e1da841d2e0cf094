package mux

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// A command is what is known of one command of one component.
type command struct {
	name     string
	category Category
	allowed  bool // on a shared connection, by the table or by Options.Allow
	writes   bool
	options  bool // whether it waits depends on its arguments
	series   *meter.Series
}

// mayTravel is why a command may not go over a shared connection.
func (c *command) mayTravel(args [][]byte, inMulti bool) error {
	switch {
	case c.options && Blocks(args) && !inMulti:
		return &PolicyError{c.name, Blocking}
	case c.allowed:
		return nil
	case inMulti && c.category == Blocking && c.name != "wait" && c.name != "waitaof":
		return nil
	}
	return &PolicyError{c.name, c.category}
}

// names are the commands of one component, by name. Looking one up takes no lock.
type names struct {
	m         *Mux
	component meter.Component
	known     atomic.Pointer[map[string]*command]
	mu        sync.Mutex // guards writes of known
}

func (n *names) lookup(name []byte) *command {
	if c, ok := (*n.known.Load())[string(name)]; ok {
		return c
	}
	return n.add(string(name))
}

// add makes a command known. What may not travel is not kept: nobody can fill the table with names
// that do not exist.
func (n *names) add(name string) *command {
	c := &command{name: name, category: Kind(name)}
	c.allowed = c.category.Shared()
	if c.category == Unknown && slices.Contains(n.m.opts.Allow, name) {
		c.category, c.allowed = Write, true
	}
	c.writes = c.category == Write || c.category == Script || c.category == Admin || c.category == Blocking
	c.options = name == "xread" || name == "xreadgroup"
	if c.category == Unknown {
		return c
	}
	c.series = n.m.opts.Meter.Series(n.component, name)
	n.mu.Lock()
	defer n.mu.Unlock()
	old := *n.known.Load()
	if known, ok := old[name]; ok {
		return known
	}
	fresh := make(map[string]*command, len(old)+1)
	maps.Copy(fresh, old)
	fresh[name] = c
	n.known.Store(&fresh)
	return c
}

type sentCommand struct {
	*command
	size int32
}

// The states of a flight. Whoever moves it away from waiting decides who owns it: the caller when it
// is done, the reader when it was left.
const (
	waiting uint32 = iota
	done
	left
)

// A flight is the commands of one Call under way. From the moment it is queued until it ends it
// belongs to the wire; only state and done are touched by both sides.
type flight struct {
	state atomic.Uint32
	done  chan struct{} // the Call's, of capacity 1: one token when the flight ends
	on    atomic.Pointer[wire]

	closes bool          // done is closed instead
	tell   func()        // is called instead, by whoever ends the flight
	unread *atomic.Int64 // bytes of replies that the same client has not read

	component meter.Component
	req       []byte
	cmds      []sentCommand
	used      bool

	wire  *wire
	size  int64  // of req
	first uint64 // number on the wire of its first command
	next  int    // replies that came whole
	skip  int    // replies at the beginning that are not handed on
	reply []byte
	err   error
}

func (f *flight) reset() {
	f.req, f.cmds = trim(f.req), trim(f.cmds)
	f.rewind()
	f.skip, f.tell = 0, nil
}

// rewind makes it ready to be sent again.
func (f *flight) rewind() {
	f.reply, f.next, f.err, f.used, f.wire = trim(f.reply), 0, nil, false, nil
	f.state.Store(waiting)
}

func trim[T any](s []T) []T {
	if cap(s) > keepBytes {
		return nil
	}
	return s[:0]
}

// leave is what a caller does that stops waiting; false means that the flight has just ended.
func (f *flight) leave() bool { return f.state.CompareAndSwap(waiting, left) }

// end tells the caller, if there still is one.
func (f *flight) end(err error) bool {
	f.err = err
	if !f.state.CompareAndSwap(waiting, done) {
		return false
	}
	switch {
	case f.tell != nil:
		f.tell()
	case f.closes:
		close(f.done)
	default:
		f.done <- struct{}{}
	}
	return true
}

func (f *flight) onlyReads() bool {
	for _, c := range f.cmds {
		if c.category != Read {
			return false
		}
	}
	return true
}
