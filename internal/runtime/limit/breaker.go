package limit

import (
	"errors"
	"sync"
	"time"
)

// errLeftAlone says that Redis is not asked because it did not answer before.
var errLeftAlone = errors.New("redis is left alone after it failed several times")

// A breaker leaves Redis alone for a pause after some failures in a row. One call at a time then tries
// it again.
type breaker struct {
	failures int
	pause    time.Duration

	mu     sync.Mutex
	failed int
	until  time.Time
	trying bool
}

// admit is whether a call may be made. A call that was admitted must be reported by done.
func (b *breaker) admit() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed < b.failures {
		return true
	}
	if b.trying || time.Now().Before(b.until) {
		return false
	}
	b.trying = true
	return true
}

// done reports how an admitted call ended.
func (b *breaker) done(ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
	if ok {
		b.failed = 0
		return
	}
	if b.failed++; b.failed >= b.failures {
		b.until = time.Now().Add(b.pause)
	}
}

func (b *breaker) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed >= b.failures
}
