package outcome

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	// keptFor is how long readings are kept.
	keptFor = 35 * 24 * time.Hour

	// longestLine bounds one reading on disk, and trimAt is the size from which old ones are dropped.
	longestLine = 1 << 20
	trimAt      = 8 << 20
)

// A diary is readings on disk, one JSON object a line. One process writes it, which holds the migration's lease;
// any number read. A line that a crash cut is left out.
type diary struct{ path string }

// read returns the readings from and to, oldest first. A diary that does not exist has none.
func (d diary) read(from, to time.Time) ([]Reading, error) {
	file, err := os.Open(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read from
	var out []Reading
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 0, 64<<10), longestLine)
	for lines.Scan() {
		var r Reading
		if json.Unmarshal(lines.Bytes(), &r) != nil || r.At.IsZero() {
			continue
		}
		if !r.At.Before(from) && !r.At.After(to) {
			out = append(out, r)
		}
	}
	return out, lines.Err()
}

// last is the newest reading of source, nil when there is none.
func (d diary) last(source string) (*Reading, error) {
	all, err := d.read(time.Time{}, time.Now().Add(keptFor))
	if err != nil {
		return nil, err
	}
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Source == source {
			return &all[i], nil
		}
	}
	return nil, nil //nolint:nilnil // none is no error
}

// append writes one reading.
func (d diary) append(r Reading) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(line) > longestLine {
		return fmt.Errorf("a reading has %d bytes, want at most %d", len(line), longestLine)
	}
	if err := os.MkdirAll(filepath.Dir(d.path), 0o700); err != nil {
		return err
	}
	if err := d.trim(r.At); err != nil {
		return err
	}
	file, err := os.OpenFile(d.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if cut(file) {
		line = append([]byte{'\n'}, line...)
	}
	_, err = file.Write(append(line, '\n'))
	return errors.Join(err, file.Close())
}

// cut is true when the last line has no end.
func cut(file *os.File) bool {
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return false
	}
	var end [1]byte
	_, err = file.ReadAt(end[:], info.Size()-1)
	return err == nil && end[0] != '\n'
}

// trim drops what is older than keptFor once the diary has grown large.
func (d diary) trim(now time.Time) error {
	info, err := os.Stat(d.path)
	if err != nil || info.Size() < trimAt {
		return nil //nolint:nilerr // one that does not exist needs no trimming
	}
	kept, err := d.read(now.Add(-keptFor), now)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	for _, r := range kept {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		text.Write(append(line, '\n'))
	}
	if text.Len() > trimAt*3/4 { // readings so many that their age does not bound them: the newer half stays
		half := text.Bytes()[text.Len()/2:]
		text = *bytes.NewBuffer(half[bytes.IndexByte(half, '\n')+1:])
	}
	temporary := d.path + ".new"
	if err := os.WriteFile(temporary, text.Bytes(), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, d.path)
}
