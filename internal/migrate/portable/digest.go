package portable

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
)

// A Digest is a Sink that tells whether two keys hold the same: the order counts for strings and lists and
// not for sets, hashes and sorted sets. It keeps the digest of every key that it was given.
type Digest struct {
	// Keys are the digests by name, of type, values and whether the key expires.
	Keys map[string]Summary

	k    Key
	sum  [sha256.Size]byte
	list []byte // of what came so far, for an ordered type
	n    int64
}

// A Summary is what a Digest keeps of one key.
type Summary struct {
	Key
	Elements int64 // for a string its pieces
	Sum      string
}

// Begin begins a key.
func (d *Digest) Begin(k Key) error {
	if d.Keys == nil {
		d.Keys = map[string]Summary{}
	}
	d.k, d.sum, d.n = k, sha256.Sum256([]byte(k.Type)), 0
	return nil
}

// Values adds values.
func (d *Digest) Values(values []string) error {
	width := d.k.Width()
	if len(values)%width != 0 {
		return &ValueError{d.k, "half an element"}
	}
	for element := range slices.Chunk(values, width) {
		d.n++
		if d.k.Type == ZSet {
			number, err := score(element[1])
			if err != nil {
				return &ValueError{d.k, "a score that is no number: " + element[1]}
			}
			element = []string{element[0], number}
		}
		one := sha256.Sum256(framed(element))
		if d.k.Type == Set || d.k.Type == Hash || d.k.Type == ZSet {
			add(&d.sum, one)
			continue
		}
		d.list = append(append(d.list[:0], d.sum[:]...), one[:]...)
		d.sum = sha256.Sum256(d.list)
	}
	return nil
}

// End ends the key.
func (d *Digest) End() error {
	d.Keys[d.k.Name] = Summary{Key: d.k, Elements: d.n, Sum: hex.EncodeToString(d.sum[:])}
	return nil
}

// framed joins values so that no two lists of them become the same.
func framed(values []string) []byte {
	var out []byte
	for _, v := range values {
		out = binary.AppendUvarint(out, uint64(len(v)))
		out = append(out, v...)
	}
	return out
}

// add adds two digests as numbers, so that their order does not matter.
func add(sum *[sha256.Size]byte, one [sha256.Size]byte) {
	carry := 0
	for i := len(sum) - 1; i >= 0; i-- {
		carry += int(sum[i]) + int(one[i])
		sum[i], carry = byte(carry), carry>>8
	}
}

// Same tells whether two keys hold the same, and if not, what is different: "type", "values", "expiry",
// which may differ by up to a second, or "missing". The values of dumped types are not compared where two
// servers write them differently; then only types and expiry are.
func Same(a, b Summary) (what string, same bool) {
	switch {
	case a.Name == "" || b.Name == "":
		return "missing", false
	case a.Type != b.Type:
		return "type", false
	case a.ExpireAt.IsZero() != b.ExpireAt.IsZero() || a.ExpireAt.Sub(b.ExpireAt).Abs() > expirySlack:
		return "expiry", false
	case a.Sum != b.Sum && !a.Dumped():
		return "values", false
	}
	return "", true
}

// Names are the names of all keys, sorted.
func (d *Digest) Names() []string {
	names := make([]string, 0, len(d.Keys))
	for name := range d.Keys {
		names = append(names, name)
	}
	slices.SortFunc(names, strings.Compare)
	return names
}
