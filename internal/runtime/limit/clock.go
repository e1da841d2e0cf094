package limit

import (
	"sync/atomic"
	"time"
)

// A clock gives steady microseconds, and the server's time as far as it is known.
type clock struct {
	start  time.Time
	extra  atomic.Int64 // microseconds that the steady clock missed, as while a machine was asleep
	offset atomic.Int64 // the server's microseconds since 1970 less our steady ones
}

func newClock() *clock {
	c := &clock{start: time.Now()}
	c.offset.Store(c.start.UnixMicro())
	return c
}

// now is microseconds since the clock was made, plus one. It never goes back, whatever is done to the
// wall clock. Where the wall clock runs ahead by more than a second it follows: what was taken in advance
// must not outlive its time because the machine was asleep.
func (c *clock) now() int64 { return c.at(time.Now()) }

func (c *clock) at(t time.Time) int64 {
	steady := t.Sub(c.start).Microseconds()
	wall := t.Round(0).Sub(c.start.Round(0)).Microseconds()
	for {
		extra := c.extra.Load()
		if wall <= steady+extra+time.Second.Microseconds() {
			return steady + extra + 1
		}
		c.extra.CompareAndSwap(extra, wall-steady)
	}
}

// learn notes that the server's time was server when ours was now.
func (c *clock) learn(server, now int64) { c.offset.Store(server - now) }

// server is the server's time at our time now, or our own wall clock's until it was learned.
func (c *clock) server(now int64) int64 { return now + c.offset.Load() }
