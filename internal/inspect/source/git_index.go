package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// gitTracked reads which files below a directory git keeps, from the index of the repository that the
// directory is in. The paths are relative to the directory.
func gitTracked(dir string) (map[string]bool, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	root, below := dir, ""
	for {
		index := filepath.Join(root, ".git", "index")
		data, err := os.ReadFile(index)
		if err == nil {
			return parseIndex(data, below)
		}
		parent := filepath.Dir(root)
		if parent == root {
			return nil, errors.New("no git repository")
		}
		below = filepath.ToSlash(filepath.Join(filepath.Base(root), below)) + "/"
		root = parent
	}
}

// parseIndex reads versions 2 and 3 of git's index; another version is an error.
func parseIndex(data []byte, below string) (map[string]bool, error) {
	const header, fixed = 12, 62
	if len(data) < header || !bytes.HasPrefix(data, []byte("DIRC")) {
		return nil, errors.New("not a git index")
	}
	version, count := binary.BigEndian.Uint32(data[4:]), binary.BigEndian.Uint32(data[8:])
	if version != 2 && version != 3 {
		return nil, errors.New("git index of another version")
	}
	out := make(map[string]bool)
	at := header
	for range count {
		if at+fixed > len(data) {
			return nil, errors.New("git index cut short")
		}
		name := at + fixed
		if flags := binary.BigEndian.Uint16(data[at+60:]); version == 3 && flags&0x4000 != 0 {
			name += 2
		}
		end := bytes.IndexByte(data[min(name, len(data)):], 0)
		if end < 0 {
			return nil, errors.New("git index cut short")
		}
		if rel, ok := strings.CutPrefix(string(data[name:name+end]), below); ok {
			out[rel] = true
		}
		at += (name - at + end + 8) &^ 7
	}
	return out, nil
}
