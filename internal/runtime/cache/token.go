package cache

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"
)

// What a token says of the entry that was read.
const (
	stateUnknown = iota // the upstream was not asked
	stateAbsent         // nothing was there
	stateVersion        // a write with this version was there
)

// A token is what a reader saw: enough to store only if it still holds.
type token struct {
	instance uint64
	key      uint64 // hash of the key it is for
	at       uint64 // versions.key
	state    byte
	text     bool   // the entry was base64
	version  uint64 // of the entry
	tags     []tagged
}

func hashOf(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s))
	return h.Sum64()
}

func (t *token) encode() string {
	b := make([]byte, 0, 35+16*len(t.tags))
	b = binary.BigEndian.AppendUint64(b, t.instance)
	b = binary.BigEndian.AppendUint64(b, t.key)
	b = binary.BigEndian.AppendUint64(b, t.at)
	state := t.state
	if t.text {
		state |= 0x80
	}
	b = append(b, 1, state)
	b = binary.BigEndian.AppendUint64(b, t.version)
	for _, tag := range t.tags {
		b = binary.BigEndian.AppendUint64(b, hashOf(tag.tag))
		b = binary.BigEndian.AppendUint64(b, tag.gen)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// A parsedToken is a token as it comes back: of the tags only hashes are left.
type parsedToken struct {
	token
	gens map[uint64]uint64 // generation by hash of the tag, 0 for none
}

func (t token) parsed() *parsedToken {
	p := &parsedToken{token: t, gens: make(map[uint64]uint64, len(t.tags))}
	for _, tag := range t.tags {
		p.gens[hashOf(tag.tag)] = tag.gen
	}
	return p
}

func parseToken(text, store string) (*parsedToken, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	const fixed = 34
	if err != nil || len(b) < fixed || (len(b)-fixed)%16 != 0 || b[24] != 1 || b[25]&0x7f > stateVersion {
		return nil, fmt.Errorf("%w: the token is not one of this program", ErrValue)
	}
	t := &parsedToken{token: token{
		instance: binary.BigEndian.Uint64(b),
		key:      binary.BigEndian.Uint64(b[8:]),
		at:       binary.BigEndian.Uint64(b[16:]),
		state:    b[25] & 0x7f,
		text:     b[25]&0x80 != 0,
		version:  binary.BigEndian.Uint64(b[26:]),
	}, gens: map[uint64]uint64{}}
	if t.key != hashOf(store) {
		return nil, fmt.Errorf("%w: the token is of another key", ErrValue)
	}
	for rest := b[fixed:]; len(rest) > 0; rest = rest[16:] {
		t.gens[binary.BigEndian.Uint64(rest)] = binary.BigEndian.Uint64(rest[8:])
	}
	return t, nil
}

// genText is how a generation is kept: hexadecimal digits, which any transport takes.
func genText(gen uint64) string { return strconv.FormatUint(gen, 16) }

// genOf reads a generation; what is none is 0, which no entry has.
func genOf(f found) uint64 {
	if !f.ok {
		return 0
	}
	gen, err := strconv.ParseUint(f.value, 16, 64)
	if err != nil {
		return 0
	}
	return gen
}

// tagTTL is how long a generation is kept: longer than every entry that carries it. One that is lost
// ends the entries, which is safe.
func (c *Cache) tagTTL() time.Duration { return 2 * c.opts.MaxTTL }
