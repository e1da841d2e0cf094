// Package backup keeps keys of a Redis in a file, from which they can be restored: by type, with the time
// at which they expire and with a seal by which a later deletion tells whether a key is still what was
// saved. Both ways are streams, so memory is bounded however many keys there are.
//
// A file is one line of text that names the format and its version, and a zstd stream of records. Each
// record has a checksum, and the last one the number of keys and a digest of all before it: a file that was
// cut or changed anywhere is refused.
package backup

import (
	"errors"
	"fmt"
	"time"
)

// Version is the version of the format that this program writes; it reads no newer one. Version 1 had no record
// of when fields expire, and seals that are made in another way by now, so they are read as none.
const Version = 2

// magic begins the first line of a file; the version follows it.
const magic = "redisopt-backup "

// A Header says what a file holds.
type Header struct {
	// Database names the database as its migrations do; empty when it has no name.
	Database string `json:"database"`

	// Prefixes are those whose keys were saved.
	Prefixes []string `json:"prefixes"`

	// Created is when, by the clock of who made it.
	Created time.Time `json:"created"`

	// Owner is who made it: user@host pid.
	Owner string `json:"owner"`
}

// A Summary is what a whole file holds.
type Summary struct {
	Header
	Keys   int64            `json:"keys"`
	Types  map[string]int64 `json:"types"`
	Bytes  int64            `json:"bytes"` // before compression
	Digest string           `json:"digest"`
}

// kinds of records.
const (
	kindHeader = 'h'
	kindKey    = 'k'
	kindValues = 'v'
	kindFields = 'f' // when some fields of a hash expire
	kindEnd    = 'e'
	kindTotal  = 'z'
)

// total is the last record.
type total struct {
	Keys   int64  `json:"keys"`
	Digest string `json:"digest"`
}

// ErrNoBackup means that a file is none of ours.
var ErrNoBackup = errors.New("this is no backup of redisopt")

// A VersionError reports a file that a newer program wrote.
type VersionError struct{ Got int }

func (e *VersionError) Error() string {
	return fmt.Sprintf("the backup has format %d, and this version reads up to %d", e.Got, Version)
}

// A DamagedError reports a file that is not what was written.
type DamagedError struct{ Why string }

func (e *DamagedError) Error() string { return "the backup is damaged: " + e.Why }
