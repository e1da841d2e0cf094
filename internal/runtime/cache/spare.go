package cache

import "time"

// MemoryOnly has the cache do without the upstream while on is true, as if it did not answer: reads come
// from memory or are misses, what is written stays in memory, and deletions are told to the upstream
// afterwards. It may be called at any time and sends nothing.
func (c *Cache) MemoryOnly(on bool) { c.breaker.spared.Store(on) }

// NoRefresh stops loading entries anew before their end while on is true: they are loaded when they have
// ended. It may be called at any time.
func (c *Cache) NoRefresh(on bool) { c.lazy.Store(on) }

// early is whether to load an entry anew before its end.
func (c *Cache) early(e *entry, now time.Time) bool { return !c.lazy.Load() && e.early(now) }
