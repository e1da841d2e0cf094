// Package journal is the write-ahead log of a migration: what was about to be done and what was done,
// kept so that a crash at any instant can be resumed, forwards or backwards.
//
// A journal is a sequence of entries, one JSON object a line, each holding the hash of the one before
// it. It exists twice: as a local file, which is written first, and as a list in Redis, which is what
// another host can read. Redis's copy is authoritative while it can be reached; the local file bridges
// the instant between writing and mirroring, and a Redis that lost its last seconds.
//
// Durable means: the file's name was synced into its directory when it was created, and an entry is
// written with its line feed and synced to the device before Append goes on to the mirror. Append
// returns nil only when both copies hold the entry. After a crash the last line may be torn; it was
// never acknowledged and is cut off when the journal is opened. Damage anywhere else is refused, as
// are a fork between the two copies and entries from a later version.
//
// A journal is synced once per entry. Entries are for steps and checkpoints; what moves in chunks keeps
// its own account where it moves things.
package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Options say where a journal is kept.
type Options struct {
	// Path is the local file. Required; its directory is created when missing, with mode 0700.
	Path string

	// Client reaches the Redis of the mirror. Nil means that there is no mirror.
	Client redis.UniversalClient

	// Key is the Redis list of the mirror. Required with a Client.
	Key string

	// Fence, when its Key is not empty, must hold its Token for an entry to be mirrored.
	Fence Fence

	// Timeout bounds each exchange with Redis. Default 10 seconds.
	Timeout time.Duration
}

// A Fence is a Redis key that must hold Token.
type Fence struct{ Key, Token string }

func (o Options) withDefaults() Options {
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if o.Path == "" {
		errs = append(errs, errors.New("path: got none, want the journal's file"))
	}
	if o.Client != nil && o.Key == "" {
		errs = append(errs, errors.New("key: got none, want the list that mirrors the journal"))
	}
	if o.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout: got %s, want 0 or more", o.Timeout))
	}
	return errors.Join(errs...)
}

// mirror is nil without a client.
func (o Options) mirror() *mirror {
	if o.Client == nil {
		return nil
	}
	return &mirror{client: o.Client, key: o.Key, fence: o.Fence, timeout: o.Timeout}
}

// A Journal is an open journal. It is safe for concurrent use; appends happen one after another.
type Journal struct {
	mu      sync.Mutex
	local   *local
	mirror  *mirror // nil without one
	entries []Entry
	broken  error // why no more can be appended
}

// Open opens the journal for appending and brings its two copies together: the longer valid chain wins
// and the shorter copy is completed from it. It returns a *DamagedError, a *ForkError or a *SchemaError
// when that cannot be done without losing something. Only the holder of the lease may open a journal.
//
// A *DamagedError of one copy says what is known of the other.
//
// Price: 1 command, and 4 for each entry the mirror lacks.
func Open(ctx context.Context, opts Options) (*Journal, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	file, entries, lines, err := openLocal(opts.Path)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", opts.mirror().beside(ctx, err))
	}
	j := &Journal{local: file, mirror: opts.mirror(), entries: entries}
	if j.mirror != nil {
		if err := j.reconcile(ctx, lines); err != nil {
			return nil, errors.Join(err, file.disk.Close())
		}
	}
	return j, nil
}

// Read returns the entries of the longer copy without changing either, so it may be called while
// somebody else holds the lease. A missing journal has none. Its errors are those of Open, except that
// a local copy which differs from the mirror only by being shorter or longer is no error. Price: 1 command.
func Read(ctx context.Context, opts Options) ([]Entry, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	entries, lines, err := readLocal(opts.Path)
	m := opts.mirror()
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", m.beside(ctx, err))
	}
	if m == nil {
		return entries, nil
	}
	mirrored, mirrorLines, err := m.read(ctx)
	if err != nil {
		return nil, besideLocal(err, opts.Path, lines)
	}
	if err := fork(opts.Path, m.key, lines, mirrorLines); err != nil {
		return nil, err
	}
	if len(mirrored) > len(entries) {
		return mirrored, nil
	}
	return entries, nil
}

// besideLocal adds to a *DamagedError of the mirror what is known of the local file, which is whole.
func besideLocal(err error, path string, lines [][]byte) error {
	if damaged, ok := errors.AsType[*DamagedError](err); ok {
		damaged.Other, damaged.OtherLen = path, len(lines)
	}
	return err
}

// fork compares two valid chains over their common length.
func fork(path, key string, local, mirror [][]byte) error {
	for i := range min(len(local), len(mirror)) {
		if !bytes.Equal(local[i], mirror[i]) {
			return &ForkError{
				Path: path, Key: key, Seq: int64(i) + 1,
				LocalLen: int64(len(local)), MirrorLen: int64(len(mirror)),
			}
		}
	}
	return nil
}

// reconcile completes the shorter of the two copies.
func (j *Journal) reconcile(ctx context.Context, lines [][]byte) error {
	mirrored, mirrorLines, err := j.mirror.read(ctx)
	if err != nil {
		return besideLocal(err, j.local.path, lines)
	}
	if err := fork(j.local.path, j.mirror.key, lines, mirrorLines); err != nil {
		return err
	}
	for i := len(mirrored); i < len(lines); i++ {
		if err := j.mirror.append(ctx, int64(i)+1, lines[i]); err != nil {
			return err
		}
	}
	for i := len(lines); i < len(mirrored); i++ {
		if err := j.local.append(mirrorLines[i]); err != nil {
			return fmt.Errorf("complete journal %s from its copy in Redis: %w", j.local.path, err)
		}
		j.entries = append(j.entries, mirrored[i])
	}
	return nil
}

// Append adds one entry and returns nil when it is durable in the local file and in the mirror. When it
// returns an error the caller must not act on the entry, and the journal takes no more entries until it
// is opened again: the entry may be there then or may not, and either is safe to resume from. A lost
// lease, ErrFenced, leaves no entry.
//
// It is not interrupted by ctx once it has begun, so that Ctrl-C cannot come between the two copies; it
// is bounded by Options.Timeout instead. Price: 1 fsync and 1 command, with 3 in its script.
func (j *Journal) Append(ctx context.Context, rec Record) error {
	if err := ctx.Err(); err != nil {
		if cause := context.Cause(ctx); !errors.Is(cause, err) {
			err = fmt.Errorf("%w: %w", err, cause)
		}
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != nil {
		return fmt.Errorf("%w: %w", ErrBroken, j.broken)
	}
	var prev *Entry
	if n := len(j.entries); n > 0 {
		prev = &j.entries[n-1]
	}
	e, line, err := seal(prev, rec, time.Now())
	if err != nil {
		return err
	}
	if err := j.local.append(line); err != nil {
		j.broken = err
		return fmt.Errorf("write journal %s: %w", j.local.path, err)
	}
	if j.mirror != nil {
		if err := j.mirror.append(context.WithoutCancel(ctx), e.Seq, line); err != nil {
			j.broken = err
			if errors.Is(err, ErrFenced) || errors.Is(err, errOutOfStep) {
				// Redis said no for certain. Leaving the line here would look like a fork later.
				err = errors.Join(err, j.local.retract(len(line)))
			}
			return err
		}
	}
	j.entries = append(j.entries, e)
	return nil
}

// Entries returns a copy of the entries, oldest first.
func (j *Journal) Entries() []Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]Entry{}, j.entries...)
}

// Close closes the local file. What was appended is durable without it.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken == nil {
		j.broken = errors.New("journal is closed")
	}
	return j.local.disk.Close()
}
