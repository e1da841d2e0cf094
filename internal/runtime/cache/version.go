package cache

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// versions remember, in fixed memory, that something has changed: a key's number grows with every write
// and delete of it in this process, a tag's with every change of its generation that this process made
// or saw. Keys share numbers, so that one may also grow without reason, which costs a read.
type versions struct {
	seed  maphash.Seed
	reads atomic.Uint64 // counts for everything that was read and is still to be stored
	keys  [1 << 16]atomic.Uint64
	tags  [1 << 13]tagVersion
}

type tagVersion struct {
	mu      sync.Mutex
	tag     uint64 // hash of the tag that was last seen here, 0 for none
	gen     uint64
	version atomic.Uint64
}

func newVersions() *versions { return &versions{seed: maphash.MakeSeed()} }

func (v *versions) slot(store string) *atomic.Uint64 {
	return &v.keys[maphash.String(v.seed, store)%uint64(len(v.keys))]
}

// key is the number of a key.
func (v *versions) key(store string) uint64 { return v.slot(store).Load() }

// read is the number of a key for a reader who will store what it makes of it.
func (v *versions) read(store string) uint64 { return v.slot(store).Load() + v.reads.Load() }

// changed makes everything that was read of a key before out of date, and returns its new number. A
// write calls it before, against those who read before it, and after, against those who read meanwhile.
func (v *versions) changed(store string) uint64 { return v.slot(store).Add(1) }

// unknownChanged makes everything out of date that was read and is not stored yet: keys were deleted, it
// is not known which.
func (v *versions) unknownChanged() { v.reads.Add(1) }

func (v *versions) tagSlot(tag string) (*tagVersion, uint64) {
	h := maphash.String(v.seed, tag) | 1 // never 0
	return &v.tags[(h>>1)%uint64(len(v.tags))], h
}

// tag is the number of a tag.
func (v *versions) tag(tag string) uint64 {
	t, _ := v.tagSlot(tag)
	return t.version.Load()
}

// learn is told the generation that a tag had at the upstream, asked for when the tag's number was at.
// It returns the number that entries with this generation have: what ended before, or meanwhile, has
// another one.
func (v *versions) learn(tag string, gen, at uint64) uint64 {
	t, h := v.tagSlot(tag)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.version.Load() != at {
		return at
	}
	if t.tag == h && t.gen != gen {
		t.version.Add(1)
	}
	t.tag, t.gen = h, gen
	return t.version.Load()
}

// renew is told the generation that this process has given to a tag: all that carries it has ended.
func (v *versions) renew(tag string, gen uint64) {
	t, h := v.tagSlot(tag)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.version.Add(1)
	t.tag, t.gen = h, gen
}

// known is the generation of a tag that was last learned, if it is remembered.
func (v *versions) known(tag string) (uint64, bool) {
	t, h := v.tagSlot(tag)
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.gen, t.tag == h && t.gen != 0
}

// tagChanged makes everything that carries the tag out of date and forgets its generation.
func (v *versions) tagChanged(tag string) {
	t, h := v.tagSlot(tag)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.version.Add(1)
	if t.tag == h {
		t.tag, t.gen = 0, 0
	}
}
