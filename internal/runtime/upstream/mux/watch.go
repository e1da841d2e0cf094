package mux

import (
	"context"
	"sync"
	"time"
)

// A watch ends the wait of a Call at its deadline. Calls nearly always end in time and are used again at
// once, so its timer is left as it is until it goes off, and then goes on with the Call of that moment: to
// set and stop a timer for every Call is a cost that shows.
type watch struct {
	mu    sync.Mutex
	timer *time.Timer
	armed time.Time // when the timer goes off; zero: it does not
	until time.Time // when the wait is over; zero: nobody waits
	left  bool      // the flight was left at the deadline
}

// begin watches over the wait for the Call's flight, which is under way, until the deadline.
func (w *watch) begin(c *Call, deadline time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until, w.left = deadline, false
	if !w.armed.IsZero() && !deadline.Before(w.armed) {
		return
	}
	w.armed = deadline
	if d := time.Until(deadline); w.timer == nil {
		w.timer = time.AfterFunc(d, func() { w.fire(c) })
	} else {
		w.timer.Reset(d)
	}
}

// over ends the watch. True: the flight was left at the deadline and is not the Call's any more.
func (w *watch) over() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until = time.Time{}
	return w.left
}

// fire leaves the flight of a Call whose time is up, and tells it.
func (w *watch) fire(c *Call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = time.Time{}
	if w.until.IsZero() {
		return
	}
	if d := time.Until(w.until); d > 0 {
		w.armed = w.until
		w.timer.Reset(d)
		return
	}
	tell := c.f.tell // once it is left, the flight is the reader's
	if !c.f.leave() {
		return
	}
	w.until, w.left = time.Time{}, true
	if tell != nil {
		tell()
		return
	}
	c.done <- struct{}{}
}

// waitUntil waits for done, the end of ctx, or the deadline if it is not zero.
func waitUntil(ctx context.Context, done <-chan struct{}, deadline time.Time) error {
	var expired <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-expired:
		return context.DeadlineExceeded
	}
}
