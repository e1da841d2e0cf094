package cache

import (
	"math"
	"time"

	"github.com/maypok86/otter/v2"
)

// entryOverhead is what an entry costs in memory besides its key and value, about.
const entryOverhead = 256

// An entry is an envelope in memory. It is never changed once it is there.
type entry struct {
	value    []byte
	codec    Codec
	negative bool
	foreign  bool
	forever  bool
	written  time.Time // zero where it is not known
	cost     time.Duration
	version  uint64    // of the write, 0 where it is not known
	checked  time.Time // with the upstream
	believed time.Time // until here without looking at the upstream
	fresh    time.Time // until here not stale
	keyAt    uint64    // versions.key when it was read
	tags     []seen
}

// A seen is a tag and its versions.tag when the entry was read.
type seen struct {
	tag string
	at  uint64
}

// current is whether nothing happened in this process that ends the entry.
func (e *entry) current(v *versions, store string) bool {
	if e.keyAt != v.key(store) {
		return false
	}
	for _, t := range e.tags {
		if t.at != v.tag(t.tag) {
			return false
		}
	}
	return true
}

// A memory keeps entries up to a number of bytes. Entries do not end by time, because what is past its
// time is still of use while the upstream is down; admission and eviction decide what stays.
type memory struct {
	cache *otter.Cache[string, *entry]
}

// newMemory returns nil, which keeps nothing, for a negative size.
func newMemory(size int64) (*memory, error) {
	if size < 0 {
		return nil, nil //nolint:nilnil // a nil memory is one that is off
	}
	cache, err := otter.New(&otter.Options[string, *entry]{
		MaximumWeight: uint64(size),
		Weigher: func(store string, e *entry) uint32 {
			return uint32(min(len(store)+len(e.value)+entryOverhead, math.MaxUint32))
		},
	})
	if err != nil {
		return nil, err
	}
	return &memory{cache: cache}, nil
}

func (m *memory) get(store string) *entry {
	if m == nil {
		return nil
	}
	e, _ := m.cache.GetIfPresent(store)
	return e
}

func (m *memory) put(store string, e *entry) {
	if m != nil {
		m.cache.Set(store, e)
	}
}

func (m *memory) drop(store string) {
	if m != nil {
		m.cache.Invalidate(store)
	}
}

// dropMatching drops every entry that match is true for.
func (m *memory) dropMatching(match func(store string) bool) {
	if m == nil {
		return
	}
	var found []string
	for store := range m.cache.Keys() {
		if match(store) {
			found = append(found, store)
		}
	}
	for _, store := range found {
		m.cache.Invalidate(store)
	}
}

func (m *memory) size() (entries int, size int64) {
	if m == nil {
		return 0, 0
	}
	return m.cache.EstimatedSize(), int64(m.cache.WeightedSize())
}

func (m *memory) close() {
	if m != nil {
		m.cache.StopAllGoroutines()
	}
}
