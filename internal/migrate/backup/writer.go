package backup

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/redisopt/redisopt/internal/migrate/portable"
)

// A Writer writes a backup. It is a portable.FieldSink, and what it is given between Begin and End belongs to
// one key. It is for one goroutine.
type Writer struct {
	// Seal is the seal of the key that ends next; it is stored with it.
	Seal func(name string) string

	out    *bufio.Writer
	zip    *zstd.Encoder
	digest hash.Hash
	keys   int64
	k      portable.Key
	buf    []byte
}

// NewWriter begins a backup.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	out := bufio.NewWriter(w)
	digest := sha256.New()
	if _, err := fmt.Fprintf(io.MultiWriter(out, digest), "%s%d\n", magic, Version); err != nil {
		return nil, err
	}
	zip, err := zstd.NewWriter(out, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	b := &Writer{out: out, zip: zip, digest: digest}
	if h.Prefixes == nil {
		h.Prefixes = []string{}
	}
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	return b, b.record(kindHeader, text)
}

// record writes one record: kind, length, payload, checksum of all three.
func (b *Writer) record(kind byte, payload []byte) error {
	frame := frameOf(kind, payload)
	if kind != kindTotal {
		b.digest.Write(frame)
	}
	_, err := b.zip.Write(frame)
	return err
}

func frameOf(kind byte, payload []byte) []byte {
	frame := make([]byte, 0, len(payload)+16)
	frame = append(frame, kind)
	frame = binary.AppendUvarint(frame, uint64(len(payload)))
	frame = append(frame, payload...)
	return binary.LittleEndian.AppendUint32(frame, crc32.Checksum(frame, crc32.MakeTable(crc32.Castagnoli)))
}

// Begin begins a key.
func (b *Writer) Begin(k portable.Key) error {
	b.k = k
	expiry := int64(0)
	if !k.ExpireAt.IsZero() {
		expiry = k.ExpireAt.UnixMilli()
	}
	b.buf = appendText(appendText(b.buf[:0], k.Name), k.Type)
	return b.record(kindKey, binary.AppendVarint(b.buf, expiry))
}

// Values adds values of the key.
func (b *Writer) Values(values []string) error {
	b.buf = binary.AppendUvarint(b.buf[:0], uint64(len(values)))
	for _, v := range values {
		b.buf = appendText(b.buf, v)
	}
	return b.record(kindValues, b.buf)
}

// Expiries adds when some fields of a hash expire.
func (b *Writer) Expiries(fields []portable.FieldExpiry) error {
	b.buf = binary.AppendUvarint(b.buf[:0], uint64(len(fields)))
	for _, f := range fields {
		b.buf = binary.AppendVarint(appendText(b.buf, f.Field), f.At.UnixMilli())
	}
	return b.record(kindFields, b.buf)
}

// End ends the key.
func (b *Writer) End() error {
	seal := ""
	if b.Seal != nil {
		seal = b.Seal(b.k.Name)
	}
	b.keys++
	return b.record(kindEnd, []byte(seal))
}

func appendText(to []byte, text string) []byte {
	return append(binary.AppendUvarint(to, uint64(len(text))), text...)
}

// Close ends the backup. Without it the file is refused. It does not close what it was given.
func (b *Writer) Close() error {
	text, err := json.Marshal(total{Keys: b.keys, Digest: hex.EncodeToString(b.digest.Sum(nil))})
	if err != nil {
		return err
	}
	return errors.Join(b.record(kindTotal, text), b.zip.Close(), b.out.Flush())
}
