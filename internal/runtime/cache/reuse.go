package cache

import (
	"hash/maphash"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// reuseKeys is how many keys of a namespace are followed.
	reuseKeys = 1024

	// reuseBins are for gaps of up to 1 s, 2 s, 4 s and so on; the last one is for all beyond 36 hours.
	reuseBins = 19

	// reuseEnough is how many gaps must have been seen before anything is concluded from them.
	reuseEnough = 100
)

// A reuse measures how long after one read of a key the next one comes: from that follows which time to
// live makes hits of how many reads. It follows a sample of the keys, those whose hash is below a bound
// that falls when they become too many, so that which keys are in it does not depend on how they are
// used. It is safe for concurrent use.
type reuse struct {
	seed  maphash.Seed
	bound atomic.Uint64 // hashes from here on are not followed

	mu   sync.Mutex
	last map[uint64]int64 // by hash, when the key was read last, in Unix nanoseconds
	gaps [reuseBins]int64
}

func newReuse() *reuse {
	r := &reuse{seed: maphash.MakeSeed(), last: map[uint64]int64{}}
	r.bound.Store(math.MaxUint64)
	return r
}

// read notes a read of key.
func (r *reuse) read(key string, now time.Time) {
	h := maphash.String(r.seed, key)
	if h >= r.bound.Load() {
		return
	}
	at := now.UnixNano()
	r.mu.Lock()
	defer r.mu.Unlock()
	before, known := r.last[h]
	r.last[h] = at
	if known {
		r.gaps[binOf(time.Duration(at-before))]++
		return
	}
	for len(r.last) > reuseKeys {
		bound := r.bound.Load() / 2
		r.bound.Store(bound)
		for h := range r.last {
			if h >= bound {
				delete(r.last, h)
			}
		}
	}
}

// binOf is the bin of a gap: that of the least power of two seconds that is not shorter.
func binOf(gap time.Duration) int {
	seconds := uint64(max(0, gap+time.Second-1) / time.Second)
	return min(bits.Len64(max(1, seconds)-1), reuseBins-1)
}

// Reuse says how soon keys of a namespace are read again. It is measured on a sample of up to 1,024 keys.
type Reuse struct {
	// Reads are those of the sample that came again.
	Reads int64 `json:"reads"`

	// P50Seconds and P95Seconds are within how many seconds of the read before half of them and 95% came,
	// rounded up to a power of two; 0 while there were fewer than 100.
	P50Seconds int64 `json:"p50_seconds"`
	P95Seconds int64 `json:"p95_seconds"`

	// SuggestedTTLSeconds is the time to live beyond which hardly a read would be saved: P95Seconds, at
	// most the configured maximum. It says nothing of how old a value may be. 0 while nothing is known.
	SuggestedTTLSeconds int64 `json:"suggested_ttl_seconds"`
}

// measured is what is known by now.
func (r *reuse) measured(maxTTL time.Duration) Reuse {
	r.mu.Lock()
	gaps := r.gaps
	r.mu.Unlock()
	var m Reuse
	for _, n := range gaps {
		m.Reads += n
	}
	if m.Reads < reuseEnough {
		return m
	}
	within := func(share float64) int64 {
		sum := int64(0)
		for i, n := range gaps {
			if sum += n; float64(sum) >= share*float64(m.Reads) {
				return 1 << i
			}
		}
		return 1 << (reuseBins - 1)
	}
	m.P50Seconds, m.P95Seconds = within(0.5), within(0.95)
	m.SuggestedTTLSeconds = min(m.P95Seconds, int64(maxTTL/time.Second))
	return m
}
