package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/redisopt/redisopt/internal/migrate/portable"
)

// Bounds of what is read, so that a file from elsewhere cannot take all memory.
const (
	maxRecord = 1 << 30   // a value of Redis is at most half of it
	maxWindow = 128 << 20 // of the compression
)

// An Entry is one key of a backup.
type Entry struct {
	portable.Key
	Seal string // as it was when the key was saved; empty when it was not sealed
}

// ReadOptions say what of a file is wanted.
type ReadOptions struct {
	// Want says whether a key is wanted; nil wants all.
	Want func(k portable.Key) bool

	// Sink is given the wanted keys; nil: none. An error of it ends the reading.
	Sink portable.Sink

	// Entry, when not nil, is told of every wanted key after Sink had it. An error of it ends the reading.
	Entry func(e Entry) error
}

// Read reads a whole backup and checks all of it, also what is not wanted. What it hands out before the
// end was not yet found whole: to be sure first, read it once without a sink.
func Read(r io.Reader, opts ReadOptions) (Summary, error) {
	in := bufio.NewReader(r)
	version, err := readVersion(in)
	if err != nil {
		return Summary{}, err
	}
	zip, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return Summary{}, err
	}
	defer zip.Close()
	b := &reading{in: bufio.NewReader(zip), opts: opts, version: version, digest: sha256.New(), s: Summary{Types: map[string]int64{}}}
	if version > 1 {
		_, _ = fmt.Fprintf(b.digest, "%s%d\n", magic, version) // a hash never fails
	}
	for {
		kind, payload, err := b.record()
		if err != nil {
			return b.s, err
		}
		if kind == kindTotal {
			return b.s, b.total(payload)
		}
		if err := b.take(kind, payload); err != nil {
			return b.s, err
		}
	}
}

func readVersion(in *bufio.Reader) (int, error) {
	line, err := in.ReadSlice('\n')
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return 0, err
	}
	text, ok := strings.CutPrefix(strings.TrimSuffix(string(line), "\n"), magic)
	version, bad := strconv.Atoi(text)
	switch {
	case !ok || bad != nil || version < 1:
		return 0, ErrNoBackup
	case version > Version:
		return 0, &VersionError{Got: version}
	}
	return version, nil
}

// reading is one Read under way.
type reading struct {
	in   *bufio.Reader
	opts ReadOptions

	version int

	s      Summary
	digest hash.Hash
	begun  bool // the header was read
	open   bool // between a key and its end
	want   bool // this key is wanted
	k      portable.Key
}

// record reads one record and checks it.
func (b *reading) record() (kind byte, payload []byte, err error) {
	kind, err = b.in.ReadByte()
	if err != nil {
		return 0, nil, b.cut(err)
	}
	length, err := binary.ReadUvarint(b.in)
	if err != nil {
		return 0, nil, b.cut(err)
	}
	if length > maxRecord {
		return 0, nil, &DamagedError{"a record is too long"}
	}
	var buf bytes.Buffer // grows with what is there, whatever the length claims
	if _, err := io.CopyN(&buf, b.in, int64(length)); err != nil {
		return 0, nil, b.cut(err)
	}
	var check [4]byte
	if _, err := io.ReadFull(b.in, check[:]); err != nil {
		return 0, nil, b.cut(err)
	}
	payload = buf.Bytes()
	frame := frameOf(kind, payload)
	if !bytes.Equal(check[:], frame[len(frame)-crc32.Size:]) {
		return 0, nil, &DamagedError{"a checksum does not fit"}
	}
	if kind != kindTotal {
		b.digest.Write(frame)
		b.s.Bytes += int64(len(frame))
	}
	return kind, payload, nil
}

// cut says of an early end, and of what the compression finds wrong, that the file is damaged.
func (b *reading) cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &DamagedError{fmt.Sprintf("it ends after %d keys, before its own end", b.s.Keys)}
	}
	return &DamagedError{err.Error()}
}

func (b *reading) take(kind byte, payload []byte) error {
	switch {
	case kind == kindHeader && !b.begun:
		b.begun = true
		if err := json.Unmarshal(payload, &b.s.Header); err != nil {
			return &DamagedError{"its header is no JSON"}
		}
		return nil
	case kind == kindKey && b.begun && !b.open:
		return b.key(payload)
	case kind == kindValues && b.open:
		values, err := texts(payload)
		if err != nil || !b.want || b.opts.Sink == nil {
			return err
		}
		return b.opts.Sink.Values(values)
	case kind == kindFields && b.open && b.k.Type == portable.Hash:
		return b.fields(payload)
	case kind == kindEnd && b.open:
		return b.end(string(payload))
	}
	return &DamagedError{fmt.Sprintf("a record %q where none may be", kind)}
}

func (b *reading) key(payload []byte) error {
	name, rest, err := text(payload)
	if err != nil {
		return err
	}
	kind, rest, err := text(rest)
	if err != nil {
		return err
	}
	expiry, n := binary.Varint(rest)
	if n <= 0 || n != len(rest) || expiry < 0 {
		return &DamagedError{"a key's expiry is no number"}
	}
	b.k = portable.Key{Name: name, Type: kind}
	if expiry > 0 {
		b.k.ExpireAt = time.UnixMilli(expiry)
	}
	b.open, b.want = true, b.opts.Want == nil || b.opts.Want(b.k)
	if b.want && b.opts.Sink != nil {
		return b.opts.Sink.Begin(b.k)
	}
	return nil
}

// fields hands on when fields expire, to a sink that wants to know.
func (b *reading) fields(payload []byte) error {
	count, n := binary.Uvarint(payload)
	if n <= 0 || count > uint64(len(payload)) {
		return &DamagedError{"more fields than its record can hold"}
	}
	rest := payload[n:]
	out := make([]portable.FieldExpiry, 0, count)
	for range count {
		name, after, err := text(rest)
		if err != nil {
			return err
		}
		at, n := binary.Varint(after)
		if n <= 0 || at <= 0 {
			return &DamagedError{"a field's expiry is no number"}
		}
		out, rest = append(out, portable.FieldExpiry{Field: name, At: time.UnixMilli(at)}), after[n:]
	}
	if len(rest) > 0 {
		return &DamagedError{"something follows a record's fields"}
	}
	if told, ok := b.opts.Sink.(portable.FieldSink); ok && b.want {
		return told.Expiries(out)
	}
	return nil
}

func (b *reading) end(seal string) error {
	b.open = false
	b.s.Keys++
	b.s.Types[b.k.Type]++
	if !b.want {
		return nil
	}
	if b.opts.Sink != nil {
		if err := b.opts.Sink.End(); err != nil {
			return err
		}
	}
	if b.opts.Entry != nil {
		if b.version < 2 {
			seal = ""
		}
		return b.opts.Entry(Entry{Key: b.k, Seal: seal})
	}
	return nil
}

// total checks the last record, after which nothing may come.
func (b *reading) total(payload []byte) error {
	var t total
	if !b.begun || b.open || json.Unmarshal(payload, &t) != nil {
		return &DamagedError{"its end is not where it must be"}
	}
	b.s.Digest = hex.EncodeToString(b.digest.Sum(nil))
	if t.Keys != b.s.Keys || t.Digest != b.s.Digest {
		return &DamagedError{fmt.Sprintf("it has %d keys and was written with %d, or other ones", b.s.Keys, t.Keys)}
	}
	if _, err := b.in.ReadByte(); !errors.Is(err, io.EOF) {
		return &DamagedError{"something follows its end"}
	}
	return nil
}

// text reads one text and returns what follows it.
func text(from []byte) (string, []byte, error) {
	length, n := binary.Uvarint(from)
	if n <= 0 || length > uint64(len(from)-n) {
		return "", nil, &DamagedError{"a text is longer than its record"}
	}
	end := n + int(length)
	return string(from[n:end]), from[end:], nil
}

// texts reads the values of a record.
func texts(from []byte) ([]string, error) {
	count, n := binary.Uvarint(from)
	if n <= 0 || count > uint64(len(from)) {
		return nil, &DamagedError{"more values than its record can hold"}
	}
	from = from[n:]
	out := make([]string, 0, count)
	for range count {
		one, rest, err := text(from)
		if err != nil {
			return nil, err
		}
		out, from = append(out, one), rest
	}
	if len(from) > 0 {
		return nil, &DamagedError{"something follows a record's values"}
	}
	return out, nil
}
