package cache

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"
)

// The first bytes of an envelope are fixed: mark (3), format (1), codec (1), flags (1), version (8),
// reserved (1). The version and what follows it begin at a multiple of 3, so that base64 keeps them
// apart. The rest of the header are numbers as uvarints: written (Unix ms), fresh (ms), kept (ms),
// cost of the load (µs), number of tags, and for each tag its length, its bytes and its generation (8).
// Then, if it is encrypted, the length and bytes of the key's id and the nonce (12). Then the payload,
// which encryption authenticates together with the header and the entry's name; an entry that is not
// encrypted ends in a checksum over the same. As text it is textMark and base64 of all that.
const (
	mark       = "\xffRC" // not UTF-8, and so no JSON and no text
	textMark   = "~rc1:"
	format     = 1
	fixedBytes = 15
	versionAt  = 6 // up to fixedBytes
	maxTags    = 16
)

// The flags.
const (
	flagPacked   = 1 << iota // the payload is compressed
	flagSealed               // the payload is encrypted
	flagNegative             // there is no such thing
	flagForever              // no expiry
	flagDeleted              // the mark that a guarded delete leaves
	knownFlags   = 1<<iota - 1
)

// Why an envelope cannot be used. Each is a miss, counted by its kind.
var (
	errForeign    = errors.New("written by somebody else")
	errNewer      = errors.New("written in a newer format")
	errDamaged    = errors.New("damaged")
	errUnknownKey = errors.New("encrypted with a key that is not configured")
)

// An envelope is an entry as it is kept.
type envelope struct {
	codec   Codec
	flags   byte
	version uint64 // random, of this write
	written time.Time
	fresh   time.Duration // from written
	kept    time.Duration // from written; 0 with flagForever
	cost    time.Duration // of the load
	tags    []tagged
	keyID   string
	value   []byte // decrypted and unpacked
}

// A tagged is a tag, where it is kept, and its generation.
type tagged struct {
	tag string
	gen uint64
}

func (e *envelope) has(flag byte) bool { return e.flags&flag != 0 }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func codecByte(c Codec) byte {
	switch c {
	case JSON, IORedisJSON:
		return 1
	case MsgPack:
		return 2
	case Raw:
	}
	return 0
}

func codecOf(b byte) (Codec, bool) {
	switch b {
	case 0:
		return Raw, true
	case 1:
		return JSON, true
	case 2:
		return MsgPack, true
	}
	return "", false
}

// head makes the header. Flags, keyID and nonce must be final.
func (e *envelope) head(nonce []byte) []byte {
	size := fixedBytes + 5*binary.MaxVarintLen64 + len(e.keyID) + 1 + nonceSize
	for _, t := range e.tags {
		size += binary.MaxVarintLen32 + len(t.tag) + 8
	}
	b := make([]byte, 0, size+len(e.value)+32)
	b = append(b, mark...)
	b = append(b, format, codecByte(e.codec), e.flags)
	b = binary.BigEndian.AppendUint64(b, e.version)
	b = append(b, 0)
	b = binary.AppendUvarint(b, uint64(max(0, e.written.UnixMilli())))
	b = binary.AppendUvarint(b, uint64(e.fresh.Milliseconds()))
	b = binary.AppendUvarint(b, uint64(e.kept.Milliseconds()))
	b = binary.AppendUvarint(b, uint64(max(0, e.cost.Microseconds())))
	b = binary.AppendUvarint(b, uint64(len(e.tags)))
	for _, t := range e.tags {
		b = binary.AppendUvarint(b, uint64(len(t.tag)))
		b = append(b, t.tag...)
		b = binary.BigEndian.AppendUint64(b, t.gen)
	}
	if e.has(flagSealed) {
		b = append(b, byte(len(e.keyID)))
		b = append(b, e.keyID...)
		b = append(b, nonce...)
	}
	return b
}

// encode makes the bytes that are kept under store. Payload is the value, compressed if flagPacked is set.
func (e *envelope) encode(store string, payload, nonce []byte, r *ring, binarySafe bool) ([]byte, error) {
	b := e.head(nonce)
	if e.has(flagSealed) {
		var err error
		if b, err = r.seal(e.keyID, b, nonce, payload, store); err != nil {
			return nil, err
		}
	} else {
		b = append(b, payload...)
		b = binary.BigEndian.AppendUint32(b, checksum(b, store))
	}
	if binarySafe {
		return b, nil
	}
	text := make([]byte, len(textMark)+base64.RawStdEncoding.EncodedLen(len(b)))
	copy(text, textMark)
	base64.RawStdEncoding.Encode(text[len(textMark):], b)
	return text, nil
}

func checksum(b []byte, store string) uint32 {
	return crc32.Update(crc32.Checksum([]byte(store), castagnoli), castagnoli, b)
}

// versionRange is where the version stands in an encoded envelope, and what stands there: both ends are
// included, as GETRANGE has it.
func versionRange(version uint64, text bool) (from, to int, want []byte) {
	want = append(binary.BigEndian.AppendUint64(nil, version), 0)
	if !text {
		return versionAt, fixedBytes - 1, want
	}
	from = len(textMark) + base64.RawStdEncoding.EncodedLen(versionAt)
	to = len(textMark) + base64.RawStdEncoding.EncodedLen(fixedBytes) - 1
	return from, to, base64.RawStdEncoding.AppendEncode(nil, want)
}

// isEnvelope is whether kept begins like an envelope, in either form.
func isEnvelope(kept string) bool {
	return len(kept) >= len(mark) && kept[:len(mark)] == mark ||
		len(kept) >= len(textMark) && kept[:len(textMark)] == textMark
}

// decode reads what is kept under store. It never panics, and allocates no more than what is kept, or
// what the packer allows, whatever kept says of itself.
func decode(kept, store string, r *ring, p *packer) (*envelope, error) {
	b := []byte(kept)
	if len(kept) >= len(textMark) && kept[:len(textMark)] == textMark {
		var err error
		if b, err = base64.RawStdEncoding.Strict().DecodeString(kept[len(textMark):]); err != nil {
			return nil, errDamaged
		}
		if len(b) < len(mark) || string(b[:len(mark)]) != mark {
			return nil, errDamaged
		}
	}
	e, head, nonce, err := decodeHead(b)
	if err != nil {
		return nil, err
	}
	payload := b[len(head):]
	if e.has(flagSealed) {
		if payload, err = r.open(e.keyID, head, nonce, payload, store); err != nil {
			return nil, err
		}
	} else {
		end := len(b) - 4
		if end < len(head) || binary.BigEndian.Uint32(b[end:]) != checksum(b[:end], store) {
			return nil, errDamaged
		}
		payload = b[len(head):end]
	}
	if e.has(flagPacked) {
		if payload, err = p.unpack(payload); err != nil {
			return nil, err
		}
	}
	if e.value = payload; e.value == nil {
		e.value = []byte{}
	}
	return e, nil
}

// decodeHead reads the header, and returns it and the nonce as parts of b. Tags are not checked against
// anything yet.
func decodeHead(b []byte) (e *envelope, head, nonce []byte, err error) {
	switch {
	case len(b) < len(mark) || string(b[:len(mark)]) != mark:
		return nil, nil, nil, errForeign
	case len(b) < fixedBytes:
		return nil, nil, nil, errDamaged
	case b[3] != format:
		return nil, nil, nil, errNewer
	case b[5]&^knownFlags != 0 || b[14] != 0:
		return nil, nil, nil, errNewer
	}
	codec, ok := codecOf(b[4])
	if !ok {
		return nil, nil, nil, errNewer
	}
	e = &envelope{codec: codec, flags: b[5], version: binary.BigEndian.Uint64(b[versionAt:])}
	rest := reader{b: b[fixedBytes:]}
	const maxMS = uint64(1<<63-1) / uint64(time.Millisecond)
	written, fresh, kept := rest.number(1<<53), rest.number(maxMS), rest.number(maxMS)
	e.written = time.UnixMilli(int64(written))
	e.fresh = time.Duration(fresh) * time.Millisecond
	e.kept = time.Duration(kept) * time.Millisecond
	e.cost = time.Duration(rest.number(maxMS)) * time.Microsecond
	for range rest.number(maxTags) {
		tag := rest.take(rest.number(2 * maxKeyBytes))
		gen := rest.take(8)
		if rest.bad {
			break
		}
		e.tags = append(e.tags, tagged{tag: string(tag), gen: binary.BigEndian.Uint64(gen)})
	}
	if e.has(flagSealed) {
		if n := rest.take(1); !rest.bad {
			e.keyID = string(rest.take(uint64(n[0])))
		}
		nonce = rest.take(nonceSize)
	}
	if rest.bad {
		return nil, nil, nil, errDamaged
	}
	return e, b[:len(b)-len(rest.b)], nonce, nil
}

// A reader takes things off the front of b until something is not there.
type reader struct {
	b   []byte
	bad bool
}

// number takes a uvarint of at most limit.
func (r *reader) number(limit uint64) uint64 {
	if r.bad {
		return 0
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > limit {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}
