package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// disk is what of a file the journal uses. Tests replace it to fill the disk or to lose a sync.
type disk interface {
	io.WriterAt
	Sync() error
	Truncate(size int64) error
	Close() error
}

// local is the journal's file. size is how many of its bytes are known to be durable.
type local struct {
	path string
	disk disk
	size int64
}

// openLocal opens or creates the file at path and returns its lines. It cuts off a torn last line,
// and refuses a file that is damaged anywhere else. When it returns, the file's existence is durable.
func openLocal(path string) (*local, []Entry, [][]byte, error) {
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, nil, nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, nil, err
	}
	entries, lines, good, total, err := readLines(path, f)
	if err == nil && total > good {
		err = errors.Join(f.Truncate(good), f.Sync())
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, nil, err
	}
	return &local{path: path, disk: f, size: good}, entries, lines, nil
}

// readLocal returns the entries of the file at path and changes nothing. No file is an empty journal.
func readLocal(path string) ([]Entry, [][]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	entries, lines, _, _, err := readLines(path, f)
	return entries, lines, err
}

// readLines reads a whole file: its entries and lines, how many bytes those take, and the file's size.
// What follows the last line feed is a torn line if it can be the beginning of a line; a complete line
// with anything but a line feed behind it cannot.
func readLines(path string, r io.Reader) (entries []Entry, lines [][]byte, good, total int64, err error) {
	content, err := io.ReadAll(r)
	if err != nil {
		return nil, nil, 0, 0, err
	}
	good = int64(bytes.LastIndexByte(content, '\n') + 1)
	if good > 0 {
		lines = bytes.Split(content[:good-1], []byte{'\n'})
	}
	if entries, err = chain(lines); err != nil {
		return nil, nil, 0, 0, &DamagedError{Where: path, Err: err, Lines: len(lines)}
	}
	if torn := content[good:]; len(torn) > 1 {
		if _, err := parse(torn[:len(torn)-1]); err == nil {
			return nil, nil, 0, 0, &DamagedError{Where: path, Lines: len(lines) + 1, Err: fmt.Errorf("line %d: ends in byte %#x, want a line feed",
				len(lines)+1, torn[len(torn)-1])}
		}
	}
	return entries, lines, good, int64(len(content)), nil
}

// append makes line durable: when it returns nil, the line and its line feed have been synced to the
// device. When it fails the line may be there, wholly, partly or not at all, and it tries to take it back.
func (l *local) append(line []byte) error {
	_, err := l.disk.WriteAt(append(bytes.Clone(line), '\n'), l.size)
	if err == nil {
		err = l.disk.Sync()
	}
	if err != nil {
		// What this leaves behind is either nothing, a torn line, or a whole entry that nobody acted on;
		// opening copes with all three, so a failure here adds nothing to tell.
		_ = l.disk.Truncate(l.size)
		return err
	}
	l.size += int64(len(line)) + 1
	return nil
}

// retract takes the last line back, which has n bytes without its line feed.
func (l *local) retract(n int) error {
	size := l.size - int64(n) - 1
	if err := errors.Join(l.disk.Truncate(size), l.disk.Sync()); err != nil {
		return err
	}
	l.size = size
	return nil
}

// makeDir creates dir, and makes each directory it had to create durable in its parent.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// syncDir makes the names in dir durable. Windows has no such call, and its file systems journal names.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
