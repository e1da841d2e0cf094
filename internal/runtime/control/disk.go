package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// FileName is the file in the state directory that holds the last document and the override.
const FileName = "control.json"

// kept is what survives a restart.
type kept struct {
	// Stored is the last document that the upstream was seen to hold.
	Stored Document `json:"stored"`

	// Override is the local one, nil when there is none.
	Override *Document `json:"override,omitempty"`
}

// envelope is the file: what is kept, and a checksum that tells a damaged file from a valid one.
type envelope struct {
	Schema int64           `json:"schema"`
	Sum    uint32          `json:"crc32c"` // over the bytes of Body
	Body   json.RawMessage `json:"body"`
}

// A disk keeps one file in dir. Step, when not nil, is called before each step of a write, by name;
// its error ends the write there, as a crash would.
type disk struct {
	dir  string
	step func(name string) error
}

func (d disk) path() string { return filepath.Join(d.dir, FileName) }

// load reads the file; without one there is nothing, and no error.
func (d disk) load() (kept, error) {
	var k kept
	text, err := os.ReadFile(d.path())
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return k, fmt.Errorf("control: %w", err)
	}
	var e envelope
	if err := json.Unmarshal(text, &e); err != nil {
		return k, &DamagedError{d.path(), "not JSON, or cut off"}
	}
	if e.Schema > Schema {
		return k, &SchemaError{d.path(), e.Schema, Schema}
	}
	if e.Schema < 1 || crc32.Checksum(e.Body, crc32.MakeTable(crc32.Castagnoli)) != e.Sum {
		return k, &DamagedError{d.path(), "its checksum does not match"}
	}
	if err := json.Unmarshal(e.Body, &k); err != nil {
		return kept{}, &DamagedError{d.path(), "a field of another kind than it must be"}
	}
	for _, doc := range []*Document{&k.Stored, k.Override} {
		if doc != nil && doc.Schema > Schema {
			return kept{}, &SchemaError{d.path(), int64(doc.Schema), Schema}
		}
	}
	return k, nil
}

// save replaces the file. When it returns nil the new content survives a crash of the machine; a crash
// before that leaves the old content or the new one, never something between.
func (d disk) save(k kept) error {
	body, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	text, err := json.Marshal(envelope{
		Schema: Schema,
		Sum:    crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)),
		Body:   body,
	})
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	if err := d.replace(append(text, '\n')); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	return nil
}

func (d disk) replace(text []byte) error {
	if err := d.before("directory"); err != nil {
		return err
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	if err := d.before("create"); err != nil {
		return err
	}
	temporary := d.path() + ".new"
	file, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := d.fill(file, text); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := file.Close(); err != nil {
		return err
	}
	if err := d.before("rename"); err != nil {
		return err
	}
	if err := os.Rename(temporary, d.path()); err != nil {
		return err
	}
	if err := d.before("sync directory"); err != nil {
		return err
	}
	return syncDirectory(d.dir)
}

// fill writes in two halves, so that a crash between them can be tried.
func (d disk) fill(file *os.File, text []byte) error {
	for i, half := range [][]byte{text[:len(text)/2], text[len(text)/2:]} {
		if err := d.before([]string{"write", "write the rest"}[i]); err != nil {
			return err
		}
		if _, err := file.Write(half); err != nil {
			return err
		}
	}
	if err := d.before("sync"); err != nil {
		return err
	}
	return file.Sync()
}

func (d disk) before(step string) error {
	if d.step == nil {
		return nil
	}
	return d.step(step)
}
