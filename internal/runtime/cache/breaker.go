package cache

import (
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// A breaker leaves an upstream alone that does not answer, and lets one call through now and then to
// see whether it is back.
type breaker struct {
	after  int64
	every  time.Duration
	failed atomic.Int64 // in a row
	until  atomic.Int64 // Unix ns before which nothing is sent; 0 is closed
	opened atomic.Int64 // how often
	spared atomic.Bool  // see Cache.MemoryOnly
}

// allow is whether a call may be sent now. While the breaker is open it is true for one caller in each
// interval.
func (b *breaker) allow(now time.Time) bool {
	if b.spared.Load() {
		return false
	}
	until := b.until.Load()
	if until == 0 {
		return true
	}
	if now.UnixNano() < until {
		return false
	}
	return b.until.CompareAndSwap(until, now.Add(b.every).UnixNano())
}

// open is whether the upstream is being left alone.
func (b *breaker) open() bool { return b.until.Load() != 0 || b.spared.Load() }

// report says how a call ended.
func (b *breaker) report(err error, now time.Time) {
	if !isOutage(err) {
		b.failed.Store(0)
		b.until.Store(0)
		return
	}
	if b.failed.Add(1) < b.after {
		return
	}
	if b.until.CompareAndSwap(0, now.Add(b.every).UnixNano()) {
		b.opened.Add(1)
	}
}

// isOutage tells an upstream that does not work from a reply that one caller does not like.
func isOutage(err error) bool {
	if err == nil || errors.Is(err, redis.Nil) {
		return false
	}
	var reply redis.Error
	if !errors.As(err, &reply) {
		return true
	}
	text := reply.Error()
	for _, prefix := range []string{"LOADING", "MASTERDOWN", "CLUSTERDOWN", "BUSY ", "ERR max "} {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	return false
}
