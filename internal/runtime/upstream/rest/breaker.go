package rest

import (
	"sync"
	"time"
)

// A breaker makes requests fail at once while an endpoint is down, so that an outage costs nobody a
// timeout. It opens after failures in a row. While it is open, one request per cooldown is let through
// as a trial, however long the earlier trials hang, and the first success closes it. Its zero value,
// with its bounds set, is closed.
type breaker struct {
	after    int
	cooldown time.Duration

	mu       sync.Mutex
	failures int       // in a row
	trial    time.Time // while open, when the next one is due
	cause    *Error
	usual    time.Duration // smoothed time of successes
}

// allow is nil when a request may be tried at now, and otherwise why the ones before failed.
func (b *breaker) allow(now time.Time) *Error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < b.after {
		return nil
	}
	if now.Before(b.trial) {
		return b.cause
	}
	b.trial = now.Add(b.cooldown)
	return nil
}

// success takes note of a reply that took d.
func (b *breaker) success(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures, b.cause = 0, nil
	if b.usual == 0 {
		b.usual = d
		return
	}
	b.usual += (d - b.usual) / 8
}

// failure takes note of an attempt that ended with e at now, and says whether that opened the breaker.
// Who waits less than replies usually take proves nothing about the endpoint.
func (b *breaker) failure(e *Error, now time.Time) (opened bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.Kind == TimedOut && e.After < 2*b.usual {
		return false
	}
	b.failures++
	b.cause = e
	if b.failures == b.after {
		b.trial = now.Add(b.cooldown)
		return true
	}
	return false
}

// expected is how long a reply usually takes.
func (b *breaker) expected() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.usual
}

// A budget bounds retries to a share of the requests. Its zero value, with the share set, starts with
// one retry.
type budget struct {
	share float64

	mu    sync.Mutex
	spare float64 // retries to spare, less the one it starts with
}

const maxSpare = 10

// earn adds what one request allows.
func (b *budget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spare = min(b.spare+b.share, maxSpare-1)
}

// take takes one retry if there is one.
func (b *budget) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.spare < 0 {
		return false
	}
	b.spare--
	return true
}
