package migrate

import (
	"context"
	"sync"
	"time"
)

// A Pace says how fast a step may go: at most so many items a second, and not at all while something
// holds it up. It is safe for concurrent use, so whoever hosts a phase changes it while a step runs.
// The zero value is not limited.
type Pace struct {
	mu      sync.Mutex
	rate    float64 // items a second; 0: no limit
	why     string  // why nothing may go on; empty: it may
	changed chan struct{}

	next time.Time // when the next item is due
}

// SetRate lets at most n items a second pass from now on; 0 means no limit.
func (p *Pace) SetRate(n float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate, p.next = max(0, n), time.Time{}
	p.announce()
}

// Rate is the present limit in items a second, 0 without one.
func (p *Pace) Rate() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rate
}

// Throttle holds everything up, for the reason why, until Release.
func (p *Pace) Throttle(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.why != why {
		p.why = why
		p.announce()
	}
}

// Release ends what Throttle began.
func (p *Pace) Release() { p.Throttle("") }

// Throttled is why nothing may go on, empty when it may.
func (p *Pace) Throttled() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.why
}

// announce wakes who waits. Called with the lock held.
func (p *Pace) announce() {
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// Wait returns nil when another n items may pass, and the cause of ctx when that ends first. A nil Pace
// never waits.
func (p *Pace) Wait(ctx context.Context, n int) error {
	if p == nil {
		return context.Cause(ctx)
	}
	for {
		wait, changed := p.ask(n, time.Now())
		if changed == nil {
			return context.Cause(ctx)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// ask books n items if they may pass now, and else tells how long to wait, or until what changes.
func (p *Pace) ask(n int, now time.Time) (time.Duration, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	if p.why != "" {
		return time.Hour, p.changed
	}
	if p.rate == 0 {
		return 0, nil
	}
	if p.next.After(now) {
		return p.next.Sub(now), p.changed
	}
	if p.next.IsZero() || now.Sub(p.next) > time.Second {
		p.next = now // what was not used is not saved up
	}
	p.next = p.next.Add(time.Duration(float64(n) / p.rate * float64(time.Second)))
	return 0, nil
}
