// Package history remembers what a Redis was asked to do: a fixed-size ring of samples on disk, one a
// minute for 35 days, that alerts, dashboards, forecasts and gates read, and the month's spending
// over all replicas, kept in the Redis itself for one command per replica and 15 minutes.
package history

import (
	"encoding/binary"
	"hash/crc32"
	"time"
)

// Unknown stands for what could not be observed. It is never zero, because zero is an observation.
const Unknown = -1

// A Sample is what happened in one span of time, and what was there at its end. A field that could
// not be observed is Unknown.
type Sample struct {
	// Time is the end of the span, in whole milliseconds.
	Time time.Time

	// Span is the time the counts cover, in whole milliseconds, at most 49 days.
	Span time.Duration

	// Commands is the number of commands in the span, without those inside scripts where Source can
	// tell them apart.
	Commands int64

	// InScript is the number of commands run inside scripts.
	InScript int64

	// Writes is the number of commands that write.
	Writes int64

	// Errors is the number of error replies.
	Errors int64

	// Connections is the number of connections at Time.
	Connections int64

	// MemoryBytes is the memory used by data at Time.
	MemoryBytes int64

	// Own is how many of Commands the sampling process sent itself, those inside its scripts included. 0 also
	// where it did not count.
	Own int64

	// Source says which instruments the numbers came from.
	Source Source
}

// Source is a set of flags that say where a sample's numbers came from and what is special about it.
type Source uint32

// The sources. Their values are stored, so they never change.
const (
	FromMeter        Source = 1 << iota // counted by ourselves at the socket: our own commands only
	FromInfo                            // INFO: the whole server
	FromCommandStats                    // INFO commandstats: the whole server, with commands inside scripts
	FromProvider                        // the provider's API
	Restarted                           // the server's counters began anew in this span, so some were missed
	Embedded                            // measured on the embedded Redis
)

// recordSize is the length of one stored sample in bytes. The last four are a CRC-32C over the rest.
//
//	 0 sequence number, from 1     24 commands     56 connections
//	 8 time, Unix milliseconds     32 in script    64 memory bytes
//	16 span, milliseconds (u32)    40 writes       72 own
//	20 source (u32)                48 errors       80 reserved, zero
//	                                               92 CRC-32C (u32)
//
// Numbers are little-endian, 8 bytes where nothing else is said.
const recordSize = 96

func (s Sample) encode(seq uint64, table *crc32.Table) [recordSize]byte {
	var b [recordSize]byte
	le := binary.LittleEndian
	le.PutUint64(b[0:], seq)
	le.PutUint64(b[8:], uint64(s.Time.UnixMilli()))
	le.PutUint32(b[16:], uint32(min(max(0, s.Span.Milliseconds()), 1<<32-1)))
	le.PutUint32(b[20:], uint32(s.Source))
	for i, n := range []int64{s.Commands, s.InScript, s.Writes, s.Errors, s.Connections, s.MemoryBytes, s.Own} {
		le.PutUint64(b[24+8*i:], uint64(n))
	}
	le.PutUint32(b[recordSize-4:], crc32.Checksum(b[:recordSize-4], table))
	return b
}

// decode reads one record. It is false for a record that is torn, damaged, or was never written.
func decode(b []byte, table *crc32.Table) (seq uint64, s Sample, ok bool) {
	le := binary.LittleEndian
	if le.Uint32(b[recordSize-4:]) != crc32.Checksum(b[:recordSize-4], table) {
		return 0, Sample{}, false
	}
	number := func(at int) int64 { return int64(le.Uint64(b[at:])) }
	return le.Uint64(b), Sample{
		Time:        time.UnixMilli(number(8)).UTC(),
		Span:        time.Duration(le.Uint32(b[16:])) * time.Millisecond,
		Source:      Source(le.Uint32(b[20:])),
		Commands:    number(24),
		InScript:    number(32),
		Writes:      number(40),
		Errors:      number(48),
		Connections: number(56),
		MemoryBytes: number(64),
		Own:         number(72),
	}, true
}

// Coverage is the share, from 0 to 1, of the time from from to to that samples cover. Spans that
// overlap are not counted twice. Samples are in the order of their time, as Range returns them.
func Coverage(samples []Sample, from, to time.Time) float64 {
	if !from.Before(to) {
		return 0
	}
	var covered time.Duration
	done := from
	for _, s := range samples {
		begin, end := s.Time.Add(-s.Span), s.Time
		if begin.Before(done) {
			begin = done
		}
		if end.After(to) {
			end = to
		}
		if begin.Before(end) {
			covered += end.Sub(begin)
			done = end
		}
	}
	return float64(covered) / float64(to.Sub(from))
}
