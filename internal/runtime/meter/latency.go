package meter

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The range and resolution of every latency histogram: 1 µs to 10 minutes with two significant
// digits, so a value read back is at most 1% away from the one recorded.
const (
	lowestUS     = 1
	highestUS    = int64(10 * time.Minute / time.Microsecond)
	digits       = 2
	subBuckets   = 256 // the smallest power of two above 2 * 10^digits
	halfBits     = 7   // log2(subBuckets / 2)
	bucketCount  = 23  // subBuckets << 22 is the first power of two above highestUS
	latencySlots = (bucketCount + 1) * subBuckets / 2
)

// A latency is an HDR histogram that many goroutines record into at once without a lock. The library's
// own histogram is not safe for that, so the slots are atomic here and laid out as the library lays
// them out; histogram hands them over. The slots are made on the first record: most series never
// see one.
type latency struct {
	slots atomic.Pointer[[latencySlots]atomic.Int64]
}

// record adds one latency; below 1 µs counts as 1 µs, above 10 minutes as 10 minutes.
func (l *latency) record(d time.Duration) {
	slots := l.slots.Load()
	if slots == nil {
		fresh := new([latencySlots]atomic.Int64)
		if l.slots.CompareAndSwap(nil, fresh) {
			slots = fresh
		} else {
			slots = l.slots.Load()
		}
	}
	slots[slot(d.Microseconds())].Add(1)
}

// slot is where the HDR layout keeps the value us. A bucket covers a power of two in half as many
// linear steps as there are sub-buckets; the first bucket alone uses all of them.
func slot(us int64) int {
	us = min(max(us, lowestUS), highestUS)
	bucket := max(0, bits.Len64(uint64(us))-halfBits-1)
	sub := int(us >> bucket)
	return bucket<<halfBits + sub
}

// histogram is a copy of what was recorded so far, in microseconds; nil when nothing was.
func (l *latency) histogram() *hdrhistogram.Histogram {
	slots := l.slots.Load()
	if slots == nil {
		return nil
	}
	counts := make([]int64, latencySlots)
	for i := range slots {
		counts[i] = slots[i].Load()
	}
	return hdrhistogram.Import(&hdrhistogram.Snapshot{
		LowestTrackableValue:  lowestUS,
		HighestTrackableValue: highestUS,
		SignificantFigures:    digits,
		Counts:                counts,
	})
}

// NewHistogram returns an empty histogram with the range and resolution of this package's: values are
// microseconds from 1 to 10 minutes, two significant digits. All of them merge without loss. It is
// not safe for concurrent use.
func NewHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(lowestUS, highestUS, digits)
}
