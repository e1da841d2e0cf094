package cache

import (
	"errors"
	"slices"
	"time"
)

// finish notes a write that the upstream has answered.
func (c *Cache) finish(w *write, stored bool) {
	w.finished = true
	n := w.space.counts
	if !stored {
		n.superseded.Add(1)
		w.result.Cause = ErrSuperseded
		c.memory.drop(w.store)
		return
	}
	w.result.Stored = true
	n.writes.Add(1)
	n.valueBytes.Add(int64(len(w.value)))
	n.storedBytes.Add(int64(len(w.encoded)))
	if w.result.Compressed {
		n.compressed.Add(1)
	}
	for _, t := range w.create {
		c.versions.learn(t.tag, t.gen, c.versions.tag(t.tag))
	}
	if w.token == nil {
		c.pending.remove([]string{w.store})
	}
	c.keep(w)
}

// unsent notes a write that the upstream has not taken. The value is kept in memory all the same.
func (c *Cache) unsent(w *write, cause error) {
	w.finished = true
	w.space.counts.writeErrors.Add(1)
	w.result.Cause = cause
	if w.written.IsZero() {
		w.written = time.Now()
	}
	c.keep(w)
}

// keep puts a written value into memory, unless somebody else has written meanwhile.
func (c *Cache) keep(w *write) {
	if w.token == nil {
		mine := c.versions.key(w.store) == w.at
		w.at = c.versions.changed(w.store) // against those who have read meanwhile
		if !mine {
			c.memory.drop(w.store)
			return
		}
	}
	if c.overtaken(w) {
		return
	}
	if w.believed <= 0 {
		c.memory.drop(w.store)
		return
	}
	e := &entry{
		value: slices.Clone(w.value), codec: w.codec, negative: w.options.Negative, forever: w.forever,
		written: w.written, cost: w.options.cost, version: w.version, keyAt: w.at, tags: w.seen,
		checked: w.written, believed: w.written.Add(w.believed), fresh: w.written.Add(w.fresh),
	}
	c.memory.put(w.store, e)
}

// superseded are the writes to try once more: those that answer no read, and lost only because somebody
// gave a tag its generation at the same moment.
func (c *Cache) superseded(writes []*write) []*write {
	var again []*write
	for _, w := range writes {
		if w.token == nil && !w.retried && errors.Is(w.result.Cause, ErrSuperseded) {
			w.retried, w.finished, w.result.Cause = true, false, nil
			again = append(again, w)
		}
	}
	return again
}
