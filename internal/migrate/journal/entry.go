package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Schema is the version of the line format that this package writes and the newest it reads.
const Schema = 1

// MaxLine is the most bytes one line may have, its line feed not counted. A longer entry is refused
// when it is appended, and a longer line is damage when it is read.
const MaxLine = 64 << 10

// A Kind says what an entry records.
type Kind string

// The kinds of entry, in the order in which a migration writes them.
const (
	Begin      Kind = "begin"       // a run was asked for; Detail holds its plan
	Intent     Kind = "intent"      // Step is about to be applied
	Checkpoint Kind = "checkpoint"  // Step is under way; Detail says how far
	Done       Kind = "done"        // Step is in place, and was verified
	Complete   Kind = "complete"    // every step is in place
	Stopped    Kind = "stopped"     // the run stopped; Detail says why; it can be resumed
	Back       Kind = "back"        // the way back was asked for; Detail says why
	Undo       Kind = "undo"        // Step is about to be rolled back
	Undone     Kind = "undone"      // Step was rolled back
	RolledBack Kind = "rolled-back" // every step was rolled back
	Finish     Kind = "finish"      // what the way back needs is about to be given up
	Finished   Kind = "finished"    // it was given up: only a new migration leads back
	Window     Kind = "window"      // the run goes forward only in other times from now on; Detail lists them
	Sign       Kind = "sign"        // somebody vouches for something that no instrument measures; Detail says who
)

// A Record is what a caller appends; the journal adds the rest of the Entry.
type Record struct {
	// Kind says what is recorded. Required.
	Kind Kind

	// Step is the step it is about, empty when it is about the whole migration.
	Step string

	// Detail is anything encoding/json can write, nil for nothing. It must hold no credentials.
	Detail any
}

// An Entry is one line of a journal.
type Entry struct {
	// Schema is the version of the format, 1 today.
	Schema int `json:"schema"`

	// Seq numbers the entries of one journal from 1, without gaps.
	Seq int64 `json:"seq"`

	// Time is when the entry was made, in UTC, by the clock of the host that made it.
	Time time.Time `json:"time"`

	// Kind, Step and Detail are those of the Record.
	Kind   Kind            `json:"kind"`
	Step   string          `json:"step,omitempty"`
	Detail json.RawMessage `json:"detail,omitempty"`

	// Prev is the Hash of the entry before, empty for the first.
	Prev string `json:"prev"`

	// Hash is the SHA-256, in 64 lower-case hexadecimal digits, of the line's bytes up to the hash.
	Hash string `json:"hash"`
}

// body is an Entry without its hash: what the hash is taken over.
type body struct {
	Schema int             `json:"schema"`
	Seq    int64           `json:"seq"`
	Time   time.Time       `json:"time"`
	Kind   Kind            `json:"kind"`
	Step   string          `json:"step,omitempty"`
	Detail json.RawMessage `json:"detail,omitempty"`
	Prev   string          `json:"prev"`
}

const (
	hashOpen  = `,"hash":"`
	hashClose = `"}`
	hashLen   = sha256.Size * 2
	hashTail  = len(hashOpen) + hashLen + len(hashClose)
)

// seal makes the line that follows prev, which is nil for the first, and the entry a reader of that
// line will see.
func seal(prev *Entry, rec Record, now time.Time) (Entry, []byte, error) {
	b := body{Schema: Schema, Seq: 1, Time: now.UTC(), Kind: rec.Kind, Step: rec.Step}
	if prev != nil {
		b.Seq, b.Prev = prev.Seq+1, prev.Hash
	}
	if rec.Detail != nil {
		detail, err := json.Marshal(rec.Detail)
		if err != nil {
			return Entry{}, nil, fmt.Errorf("detail of %s entry: %w", rec.Kind, err)
		}
		b.Detail = detail
	}
	line, err := json.Marshal(b)
	if err != nil {
		return Entry{}, nil, fmt.Errorf("%s entry: %w", rec.Kind, err)
	}
	line = line[:len(line)-1] // without the closing brace
	sum := sha256.Sum256(line)
	line = append(line, hashOpen+hex.EncodeToString(sum[:])+hashClose...)
	if len(line) > MaxLine {
		return Entry{}, nil, fmt.Errorf("%s entry: got %d bytes, want at most %d", rec.Kind, len(line), MaxLine)
	}
	e, err := parse(line)
	return e, line, err
}

// parse reads one line, without its line feed. The hash covers bytes, not meanings: any other
// spelling of the same entry is damage.
func parse(line []byte) (Entry, error) {
	if len(line) > MaxLine {
		return Entry{}, fmt.Errorf("line of %d bytes, want at most %d", len(line), MaxLine)
	}
	n := len(line) - hashTail
	if n < 0 || !bytes.HasPrefix(line[n:], []byte(hashOpen)) || !bytes.HasSuffix(line, []byte(hashClose)) {
		return Entry{}, newerOr(line, "does not end in a hash")
	}
	sum := sha256.Sum256(line[:n])
	if got := string(line[n+len(hashOpen) : len(line)-len(hashClose)]); got != hex.EncodeToString(sum[:]) {
		return Entry{}, newerOr(line, "does not match its hash")
	}
	var e Entry
	if err := json.Unmarshal(line, &e); err != nil {
		return Entry{}, fmt.Errorf("not an entry: %w", err)
	}
	switch {
	case e.Schema > Schema:
		return Entry{}, &SchemaError{Got: e.Schema}
	case e.Schema < 1:
		return Entry{}, fmt.Errorf("schema: got %d, want 1 to %d", e.Schema, Schema)
	}
	return e, nil
}

// newerOr tells a line in a later format, whose hash may be kept otherwise, from a damaged one.
func newerOr(line []byte, what string) error {
	var probe struct {
		Schema int `json:"schema"`
	}
	if json.Unmarshal(line, &probe) == nil && probe.Schema > Schema {
		return &SchemaError{Got: probe.Schema}
	}
	return fmt.Errorf("line %s", what)
}

// chain parses lines and checks that they follow one another from the first.
func chain(lines [][]byte) ([]Entry, error) {
	entries := make([]Entry, 0, len(lines))
	var prev Entry
	for i, line := range lines {
		e, err := parse(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		if e.Seq != int64(i)+1 {
			return nil, fmt.Errorf("line %d: sequence number %d, want %d", i+1, e.Seq, i+1)
		}
		if e.Prev != prev.Hash {
			return nil, fmt.Errorf("line %d: does not follow the line before it", i+1)
		}
		entries = append(entries, e)
		prev = e
	}
	return entries, nil
}
