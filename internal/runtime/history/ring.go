package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	// Interval is how often a sampler is expected to append.
	Interval = time.Minute

	// Slots is how many samples the ring holds: 35 days of one a minute, so that a whole month and the
	// days around it are always there. The file is then 4,838,528 bytes long and grows no further.
	Slots = 35 * 24 * 60

	// FileName is the ring's file in the state directory.
	FileName = "history.ring"

	schema     = 1
	headerSize = 128
)

var magic = [8]byte{'R', 'D', 'O', 'P', 'T', 'H', 'I', 'S'}

// ErrLocked means that another process writes the ring. Reading it is possible all the same.
var ErrLocked = errors.New("another process writes the history in this directory")

// A SchemaError means that a newer program wrote what is to be read.
type SchemaError struct {
	Where string // file or key
	Got   int64
	Known int64
}

// Error says which schema was found and which is known.
func (e *SchemaError) Error() string {
	return fmt.Sprintf("%s has schema %d, this program knows %d; use the newer program, or another state directory", e.Where, e.Got, e.Known)
}

// A DamagedError means that the head of the ring's file is not what was written there. Damage further
// on costs single samples and is no error.
type DamagedError struct {
	Path string
	Why  string
}

// Error says which file is damaged and what to do.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("%s: %s; move it away to begin a new history", e.Path, e.Why)
}

// A Ring is the ring opened for writing. Its methods may be called from several goroutines.
type Ring struct {
	mu     sync.Mutex
	file   *os.File
	unlock func() error
	table  *crc32.Table
	next   uint64 // sequence number of the next sample
}

// Open opens the ring in dir for writing and creates both if need be, dir with mode 0700 and the file
// with 0600. It takes a lock that lasts until Close or the end of the process; if another process
// has it, the error is ErrLocked.
func Open(dir string) (*Ring, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	unlock, err := lock(filepath.Join(dir, FileName+".lock"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	r := &Ring{unlock: unlock, table: crc32.MakeTable(crc32.Castagnoli), next: 1}
	if err := r.open(filepath.Join(dir, FileName)); err != nil {
		return nil, errors.Join(err, unlock())
	}
	return r, nil
}

func (r *Ring) open(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		if err := create(path, r.table); err != nil {
			return fmt.Errorf("history: %w", err)
		}
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	err = checkHeader(file, path, r.table)
	if err == nil {
		err = scan(file, r.table, func(seq uint64, _ Sample) { r.next = max(r.next, seq+1) })
	}
	if err != nil {
		_ = file.Close()
		return err
	}
	r.file = file
	return nil
}

// create writes a ring without samples. It appears under its name only when it is complete.
func create(path string, table *crc32.Table) error {
	temporary := path + ".new"
	file, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	head := header(table)
	_, err = file.Write(head[:])
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// header is magic, schema, record size, slots, zeros, and a CRC-32C over all of that.
func header(table *crc32.Table) [headerSize]byte {
	var b [headerSize]byte
	copy(b[:], magic[:])
	le := binary.LittleEndian
	le.PutUint32(b[8:], schema)
	le.PutUint32(b[12:], recordSize)
	le.PutUint32(b[16:], Slots)
	le.PutUint32(b[headerSize-4:], crc32.Checksum(b[:headerSize-4], table))
	return b
}

func checkHeader(file io.ReaderAt, path string, table *crc32.Table) error {
	var b [headerSize]byte
	if _, err := file.ReadAt(b[:], 0); errors.Is(err, io.EOF) {
		return &DamagedError{path, "shorter than its head"}
	} else if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	le := binary.LittleEndian
	switch {
	case [8]byte(b[:8]) != magic:
		return &DamagedError{path, "not a history file"}
	case le.Uint32(b[headerSize-4:]) != crc32.Checksum(b[:headerSize-4], table):
		return &DamagedError{path, "damaged head"}
	case le.Uint32(b[8:]) > schema:
		return &SchemaError{path, int64(le.Uint32(b[8:])), schema}
	case b != header(table):
		return &DamagedError{path, "a head of another layout"}
	}
	return nil
}

// scan calls f for every sample that is whole, in the order of the file, which is not that of time
// once the ring has gone round.
func scan(file io.ReaderAt, table *crc32.Table, f func(seq uint64, s Sample)) error {
	const batch = 512
	buffer := make([]byte, batch*recordSize)
	for slot := uint64(0); slot < Slots; slot += batch {
		n, err := file.ReadAt(buffer, headerSize+int64(slot)*recordSize)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("history: %w", err)
		}
		for i := range uint64(n / recordSize) {
			seq, s, ok := decode(buffer[i*recordSize:][:recordSize], table)
			if ok && seq > 0 && (seq-1)%Slots == slot+i {
				f(seq, s)
			}
		}
		if n < len(buffer) {
			break
		}
	}
	return nil
}

// Append writes s in the place of the oldest sample, with one write and one fsync whatever the size of
// the ring. When it returns nil the sample survives a crash of the machine. A process killed
// half-way loses this sample and no other.
func (r *Ring) Append(s Sample) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return fmt.Errorf("history: %w", os.ErrClosed)
	}
	record := s.encode(r.next, r.table)
	at := headerSize + int64((r.next-1)%Slots)*recordSize
	if _, err := r.file.WriteAt(record[:], at); err != nil {
		return fmt.Errorf("history: %w", err)
	}
	if err := r.file.Sync(); err != nil {
		return fmt.Errorf("history: %w", err)
	}
	r.next++
	return nil
}

// Range returns the samples with from <= Time < to, oldest first.
func (r *Ring) Range(from, to time.Time) ([]Sample, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return nil, fmt.Errorf("history: %w", os.ErrClosed)
	}
	return inRange(r.file, r.table, from, to)
}

// Close releases the file and the lock. A second call does nothing.
func (r *Ring) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return nil
	}
	err := errors.Join(r.file.Close(), r.unlock())
	r.file = nil
	return err
}

// Read returns the samples with from <= Time < to of the ring in dir, oldest first, also while another
// process writes it. Without a ring there are none.
func Read(dir string, from, to time.Time) ([]Sample, error) {
	path := filepath.Join(dir, FileName)
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	defer func() { _ = file.Close() }()
	table := crc32.MakeTable(crc32.Castagnoli)
	if err := checkHeader(file, path, table); err != nil {
		return nil, err
	}
	return inRange(file, table, from, to)
}

// inRange orders by time, and samples of one time as they were appended: a clock that was set back
// must not hide samples.
func inRange(file io.ReaderAt, table *crc32.Table, from, to time.Time) ([]Sample, error) {
	type numbered struct {
		seq uint64
		Sample
	}
	var found []numbered
	err := scan(file, table, func(seq uint64, s Sample) {
		if !s.Time.Before(from) && s.Time.Before(to) {
			found = append(found, numbered{seq, s})
		}
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b numbered) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		if a.seq < b.seq {
			return -1
		}
		return 1
	})
	samples := make([]Sample, len(found))
	for i, f := range found {
		samples[i] = f.Sample
	}
	return samples, nil
}
