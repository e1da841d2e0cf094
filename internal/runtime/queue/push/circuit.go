package push

import (
	"sync"
	"time"
)

// The pauses of an open circuit, doubled from the first to the last.
const (
	firstPause = time.Second
	lastPause  = time.Minute
)

// A verdict is what an attempt says about the endpoint.
type verdict int

const (
	unknown verdict = iota // nothing was sent, or it was taken back
	alive
	failing
)

// A circuit keeps jobs from an endpoint that fails again and again.
type circuit struct {
	failures int
	changed  func() // told when admitted may answer otherwise

	mu     sync.Mutex
	failed int
	pause  time.Duration
	until  time.Time
	trying bool
	opened uint64
	wake   *time.Timer
	moved  chan struct{} // closed when something changed
}

func newCircuit(failures int, changed func()) *circuit {
	return &circuit{failures: failures, changed: changed, pause: firstPause, moved: make(chan struct{})}
}

// admitted is whether a job would be sent now besides ahead others, and where not, how long to wait. Only one tries an
// endpoint that fails.
func (c *circuit) admitted(now time.Time, ahead int) (ok bool, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ok, wait, _ = c.look(now); ok && c.failed >= c.failures && ahead > 0 {
		return false, c.pause
	}
	return ok, wait
}

// look is admitted, with what ends the wait earlier.
func (c *circuit) look(now time.Time) (ok bool, wait time.Duration, moved <-chan struct{}) {
	switch {
	case c.failed < c.failures:
		return true, 0, nil
	case c.trying:
		return false, c.pause, c.moved
	case now.Before(c.until):
		return false, c.until.Sub(now), c.moved
	}
	return true, 0, nil
}

// begin is admitted, and makes the job the one that tries where the circuit is open. One that was
// admitted must be reported by done.
func (c *circuit) begin(now time.Time) (ok, tries bool, wait time.Duration, moved <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ok, wait, moved = c.look(now)
	if tries = ok && c.failed >= c.failures; tries {
		c.trying = true
	}
	return ok, tries, wait, moved
}

// done takes over how an attempt went; tries is what begin said.
func (c *circuit) done(v verdict, tries bool, now time.Time) {
	c.mu.Lock()
	was := c.failed >= c.failures
	tried := c.trying
	if tries {
		c.trying = false
	}
	switch {
	case v == alive:
		c.failed, c.pause = 0, firstPause
	case v == unknown:
	case !was:
		if c.failed++; c.failed >= c.failures {
			c.opened++
			c.open(now)
		}
	case tries:
		c.pause = min(2*c.pause, lastPause)
		c.open(now)
	}
	is := c.failed >= c.failures
	moves := was != is || tried != c.trying
	if moves {
		close(c.moved)
		c.moved = make(chan struct{})
	}
	c.mu.Unlock()
	if moves {
		c.changed()
	}
}

// open sets the time of the next try, and sees to it that somebody is told then.
func (c *circuit) open(now time.Time) {
	c.until = now.Add(c.pause)
	if c.wake != nil {
		c.wake.Stop()
	}
	c.wake = time.AfterFunc(c.pause, c.changed)
}

// stop ends the timer.
func (c *circuit) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wake != nil {
		c.wake.Stop()
	}
}

func (c *circuit) state(now time.Time) (open bool, opened uint64, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if open = c.failed >= c.failures; open && c.until.After(now) {
		until = c.until
	}
	return open, c.opened, until
}
