package mux

import (
	"sync"
	"sync/atomic"
	"time"
)

// A tally counts the commands of one wire as they leave. The writer begins a batch before it writes
// it and settles it afterwards; the reader, which may see the reply to a command before the writer is
// told that the write succeeded, counts up to that command itself. So nobody can see a reply to a
// command that is not counted yet. Commands are numbered as on the wire.
type tally struct {
	sent    func(commands, writes, bytes int64)
	meter   bool // count by series, too
	counted atomic.Uint64

	mu     sync.Mutex
	cmds   []sentCommand // being written
	base   uint64        // number of the first of cmds
	next   int           // first of cmds that is not counted
	stamps []stamp       // when commands left, for those whose reply has not come
}

// A stamp says when the commands up to a number left.
type stamp struct {
	upTo uint64 // exclusive
	at   time.Time
}

func (t *tally) begin(cmds []sentCommand, base uint64) {
	t.mu.Lock()
	t.cmds, t.base, t.next = cmds, base, 0
	t.mu.Unlock()
}

// settle counts what ended within the first n bytes of the batch.
func (t *tally) settle(n int, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	upTo, at := 0, 0
	for upTo < len(t.cmds) && at+int(t.cmds[upTo].size) <= n {
		at += int(t.cmds[upTo].size)
		upTo++
	}
	t.count(upTo, now)
	t.cmds, t.base, t.next = nil, t.base+uint64(upTo), 0
	if t.meter {
		t.sent(0, 0, int64(n))
	}
}

// count counts the commands of the batch before index upTo that are not counted yet.
func (t *tally) count(upTo int, now time.Time) {
	if upTo <= t.next {
		return
	}
	writes := int64(0)
	if t.meter {
		for _, c := range t.cmds[t.next:upTo] {
			c.series.Sent(int64(c.size))
			if c.writes {
				writes++
			}
		}
		t.sent(int64(upTo-t.next), writes, 0)
	}
	t.next = upTo
	t.counted.Store(t.base + uint64(upTo))
	t.stamps = append(t.stamps, stamp{t.base + uint64(upTo), now})
}

// answered is the stamp of command number k, whose reply has come. False: nobody has begun to write it.
func (t *tally) answered(k uint64, now time.Time) (stamp, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k >= t.counted.Load() {
		if k >= t.base+uint64(len(t.cmds)) {
			return stamp{}, false
		}
		t.count(int(k-t.base)+1, now)
	}
	i := 0
	for t.stamps[i].upTo <= k {
		i++
	}
	s := t.stamps[i]
	t.stamps = append(t.stamps[:0], t.stamps[i+1:]...)
	return s, true
}
