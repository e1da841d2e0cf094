package cache

import "sync/atomic"

// counts are those of one namespace.
type counts struct {
	memoryHits, upstreamHits, staleHits, misses     atomic.Int64
	loads, loadErrors, absences, shared, earlyLoads atomic.Int64
	writes, writeErrors, superseded, refused        atomic.Int64
	clamped, deletes, invalidated, degraded         atomic.Int64
	foreign, newer, damaged, unknownKey             atomic.Int64
	valueBytes, storedBytes, bytesRead, compressed  atomic.Int64
}

// totals are those that belong to no namespace.
type totals struct {
	invalidations, deleteErrors, gaps, heard atomic.Int64
}

// Stats are counts since New. Taking them sends nothing.
type Stats struct {
	// Namespaces are the counts by namespace. At most 256 that nobody configured are told apart; the
	// others are together under "(others)".
	Namespaces map[string]NamespaceStats `json:"namespaces"`

	// MemoryEntries and MemoryBytes are what is in memory now, of MemoryLimitBytes.
	MemoryEntries    int   `json:"memory_entries"`
	MemoryBytes      int64 `json:"memory_bytes"`
	MemoryLimitBytes int64 `json:"memory_limit_bytes"`

	// KeyReads are the keys and tags that reads needed from the upstream, and ReadCommands the commands
	// that brought them. ReadsCalls are the reads and ReadTrips the round trips they became.
	KeyReads     int64 `json:"key_reads"`
	ReadCommands int64 `json:"read_commands"`
	ReadCalls    int64 `json:"read_calls"`
	ReadTrips    int64 `json:"read_trips"`

	// CommandsSaved and TripsSaved are what merging those reads has saved. Pipelining alone would save
	// the trips and none of the commands.
	CommandsSaved int64 `json:"commands_saved"`
	TripsSaved    int64 `json:"trips_saved"`

	// Invalidations are tags invalidated here, Heard announcements of other replicas, and Gaps the times
	// when some may have been missed.
	Invalidations int64 `json:"invalidations"`
	Heard         int64 `json:"heard"`
	Gaps          int64 `json:"gaps"`

	// DeleteErrors are deletes that the upstream did not take. PendingDeletes of their keys are still to
	// be told to it, and LostDeletes were too many to remember.
	DeleteErrors   int64 `json:"delete_errors"`
	PendingDeletes int64 `json:"pending_deletes"`
	LostDeletes    int64 `json:"lost_deletes"`

	// Broken is whether the upstream is being left alone now, and Breaks how often that began.
	Broken bool  `json:"broken"`
	Breaks int64 `json:"breaks"`

	// BinarySafe is Options.BinarySafe: where it is false, StoredBytes of the namespaces are a third
	// more than they had to be.
	BinarySafe bool `json:"binary_safe"`
}

// NamespaceStats are the counts of one namespace.
type NamespaceStats struct {
	MemoryHits   int64 `json:"memory_hits"`
	UpstreamHits int64 `json:"upstream_hits"`
	StaleHits    int64 `json:"stale_hits"` // past their time, or not to be checked
	Misses       int64 `json:"misses"`

	Loads      int64 `json:"loads"`
	LoadErrors int64 `json:"load_errors"`
	Absences   int64 `json:"absences"`    // loads that found that there is nothing
	Shared     int64 `json:"shared"`      // callers that got what another one's load brought
	EarlyLoads int64 `json:"early_loads"` // before the end of an entry

	Writes      int64 `json:"writes"`
	WriteErrors int64 `json:"write_errors"` // not taken by the upstream
	Superseded  int64 `json:"superseded"`   // not stored, because read before a later delete or write
	Refused     int64 `json:"refused"`      // denied names, wrong classes, sizes, values
	Clamped     int64 `json:"clamped"`      // times to live shortened to the maximum
	Deletes     int64 `json:"deletes"`

	Invalidated int64 `json:"invalidated"` // entries found that a tag had ended
	Degraded    int64 `json:"degraded"`    // reads that the upstream did not answer

	// What was under a key and was no entry: written by somebody else, by a newer version of this
	// program, damaged or moved from another key, or encrypted with a key that is not configured.
	Foreign    int64 `json:"foreign"`
	Newer      int64 `json:"newer"`
	Damaged    int64 `json:"damaged"`
	UnknownKey int64 `json:"unknown_key"`

	ValueBytes  int64 `json:"value_bytes"`  // of the values written
	StoredBytes int64 `json:"stored_bytes"` // of what was sent for them
	BytesRead   int64 `json:"bytes_read"`   // of what the upstream sent back
	Compressed  int64 `json:"compressed"`   // of Writes

	Reuse Reuse `json:"reuse"`
}

// HitRatio is the share of reads that found an entry, 0 to 1; 0 without reads.
func (n NamespaceStats) HitRatio() float64 {
	hits := n.MemoryHits + n.UpstreamHits + n.StaleHits
	if all := hits + n.Misses; all > 0 {
		return float64(hits) / float64(all)
	}
	return 0
}

// Stats counts what has happened since New. It sends nothing.
func (c *Cache) Stats() Stats {
	s := Stats{
		Namespaces: map[string]NamespaceStats{},
		KeyReads:   c.merge.reads.Load(), ReadCommands: c.merge.commands.Load(),
		ReadCalls: c.merge.calls.Load(), ReadTrips: c.merge.batches.Load(),
		Invalidations: c.counts.invalidations.Load(), Heard: c.counts.heard.Load(), Gaps: c.counts.gaps.Load(),
		DeleteErrors: c.counts.deleteErrors.Load(), PendingDeletes: c.pending.size.Load(), LostDeletes: c.pending.lost.Load(),
		Broken: c.breaker.open(), Breaks: c.breaker.opened.Load(),
		BinarySafe: c.opts.BinarySafe, MemoryLimitBytes: max(0, c.opts.L1Bytes),
	}
	s.MemoryEntries, s.MemoryBytes = c.memory.size()
	s.CommandsSaved = max(0, s.KeyReads-s.ReadCommands)
	s.TripsSaved = max(0, s.ReadCalls-s.ReadTrips)
	c.spaces.each(func(sp *space) {
		n := sp.counts.snapshot()
		if n.Reuse = sp.reuse.measured(c.opts.MaxTTL); n != (NamespaceStats{}) {
			s.Namespaces[sp.name] = n
		}
	})
	return s
}

func (n *counts) snapshot() NamespaceStats {
	return NamespaceStats{
		MemoryHits: n.memoryHits.Load(), UpstreamHits: n.upstreamHits.Load(), StaleHits: n.staleHits.Load(),
		Misses: n.misses.Load(), Loads: n.loads.Load(), LoadErrors: n.loadErrors.Load(),
		Absences: n.absences.Load(), Shared: n.shared.Load(), EarlyLoads: n.earlyLoads.Load(),
		Writes: n.writes.Load(), WriteErrors: n.writeErrors.Load(), Superseded: n.superseded.Load(),
		Refused: n.refused.Load(), Clamped: n.clamped.Load(), Deletes: n.deletes.Load(),
		Invalidated: n.invalidated.Load(), Degraded: n.degraded.Load(),
		Foreign: n.foreign.Load(), Newer: n.newer.Load(), Damaged: n.damaged.Load(), UnknownKey: n.unknownKey.Load(),
		ValueBytes: n.valueBytes.Load(), StoredBytes: n.storedBytes.Load(), BytesRead: n.bytesRead.Load(),
		Compressed: n.compressed.Load(),
	}
}
