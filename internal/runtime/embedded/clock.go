package embedded

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// How often the clock moves on.
const (
	tickEvery = time.Millisecond // the precision of Redis' TTLs
	tickShare = 10               // a tick that took d is followed by none for tickShare×d
)

// A clock makes keys expire. miniredis takes elapsed time off every TTL when its clock has moved, and
// goes through all keys to do so. The clock is therefore moved here, before a command, at most every
// millisecond, less often when the store is so large that going through it takes long, and not at
// all until something has asked for a TTL.
type clock struct {
	db     *miniredis.Miniredis
	wanted atomic.Bool // something has set a TTL

	mu    sync.Mutex
	armed bool
	next  time.Time
}

// advance expires what is due. It must not be called while the store is locked, so not from a script.
func (c *clock) advance() {
	if !c.wanted.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if !c.armed {
		c.armed = true
		c.db.SetTime(now.UTC())
		c.db.ClockTTL(true)
		c.next = now.Add(tickEvery)
		return
	}
	if now.Before(c.next) {
		return
	}
	c.db.SetTime(now.UTC())
	c.db.DB(0) // goes through the keys now, so that the time it takes is known
	end := time.Now()
	c.next = now.Add(max(tickEvery, tickShare*end.Sub(now)))
}

// watch notes a command that may set a TTL.
func (c *clock) watch(name string, args []string) {
	if !c.wanted.Load() && setsTTL(name, args) {
		c.wanted.Store(true)
	}
}

// setsTTL reports whether the command, whose name is in upper case, may give something a TTL.
func setsTTL(name string, args []string) bool {
	switch name {
	case "EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT", "SETEX", "PSETEX", "RESTORE", "HEXPIRE", "HSETEX":
		return true
	case "SET", "GETEX":
		return slices.ContainsFunc(args, func(a string) bool {
			switch strings.ToUpper(a) {
			case "EX", "PX", "EXAT", "PXAT":
				return true
			}
			return false
		})
	}
	return false
}
