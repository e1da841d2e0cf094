package cache

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func testRing(t testing.TB, ids ...string) *ring {
	t.Helper()
	o := Options{}
	for _, id := range ids {
		o.Keys = append(o.Keys, Key{ID: id, Secret: bytes.Repeat([]byte(id[:1]), 32)})
	}
	r, err := newRing(&o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func testPacker(t testing.TB) *packer {
	t.Helper()
	p, err := newPacker(1024, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

// keep makes what is kept of a value, as a write does.
func keep(t testing.TB, e envelope, r *ring, p *packer, binarySafe bool) string {
	t.Helper()
	payload := e.value
	var nonce []byte
	if e.has(flagSealed) {
		nonce = make([]byte, nonceSize)
	} else if packed, ok := p.pack(e.value); ok {
		e.flags |= flagPacked
		payload = packed
	}
	b, err := e.encode("k", payload, nonce, r, binarySafe)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEnvelopeSaysWhatItHolds(t *testing.T) {
	r, p := testRing(t, "new", "old"), testPacker(t)
	at := time.UnixMilli(1_790_000_000_123)
	base := envelope{
		version: 7, written: at, fresh: time.Hour, kept: 2 * time.Hour, cost: 1500 * time.Microsecond,
		tags: []tagged{{"cache:~tag:user:42", 99}, {"cache:~tag:é", 1 << 63}},
	}
	for name, change := range map[string]func(*envelope){
		"an empty raw value":      func(e *envelope) { e.codec, e.value = Raw, []byte{} },
		"bytes that are no text":  func(e *envelope) { e.codec, e.value = Raw, []byte{0, 255, 254, '\n'} },
		"JSON null":               func(e *envelope) { e.codec, e.value = JSON, []byte("null") },
		"a large value":           func(e *envelope) { e.codec, e.value = JSON, []byte(`"`+strings.Repeat("a", 9000)+`"`) },
		"MessagePack":             func(e *envelope) { e.codec, e.value = MsgPack, []byte{0x93, 1, 2, 3} },
		"a negative entry":        func(e *envelope) { e.codec, e.value, e.flags = Raw, []byte{}, flagNegative },
		"an encrypted value":      func(e *envelope) { e.codec, e.value, e.flags, e.keyID = Raw, []byte("secret"), flagSealed, "new" },
		"one with an older key":   func(e *envelope) { e.codec, e.value, e.flags, e.keyID = JSON, []byte("{}"), flagSealed, "old" },
		"an entry without expiry": func(e *envelope) { e.codec, e.value, e.flags = Raw, []byte("x"), flagForever },
		"an entry without tags":   func(e *envelope) { e.codec, e.value, e.tags = Raw, []byte("x"), nil },
	} {
		for _, binarySafe := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				want := base
				change(&want)
				kept := keep(t, want, r, p, binarySafe)
				if !binarySafe && strings.ContainsFunc(kept, func(r rune) bool { return r < ' ' || r > '~' }) {
					t.Errorf("%q is not plain text", kept)
				}
				if want.has(flagSealed) && strings.Contains(kept, "secret") {
					t.Errorf("the value can be read in %q", kept)
				}
				got, err := decode(kept, "k", r, p)
				if err != nil {
					t.Fatal(err)
				}
				got.flags &^= flagPacked
				if diff := cmp.Diff(want, *got, cmp.AllowUnexported(envelope{}, tagged{})); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				from, to, version := versionRange(want.version, !binarySafe)
				if kept[from:to+1] != string(version) {
					t.Errorf("version at %d to %d is %q, want %q", from, to, kept[from:to+1], version)
				}
			})
		}
	}
}

func TestEnvelopeIsRefused(t *testing.T) {
	r, p := testRing(t, "new"), testPacker(t)
	plain := keep(t, envelope{codec: Raw, value: []byte("value"), fresh: time.Hour, kept: time.Hour}, r, p, true)
	sealed := keep(t, envelope{codec: Raw, value: []byte("value"), flags: flagSealed, keyID: "new"}, r, p, true)
	newer := []byte(plain)
	newer[3] = 2
	for _, tt := range []struct {
		name, kept, store string
		ring              *ring
		want              error
	}{
		{"an empty string", "", "k", r, errForeign},
		{"text of somebody else", "hello", "k", r, errForeign},
		{"JSON of somebody else", `{"a":1}`, "k", r, errForeign},
		{"a newer format", string(newer), "k", r, errNewer},
		{"base64 of something else", textMark + "aGVsbG8", "k", r, errDamaged},
		{"no base64", textMark + "!!", "k", r, errDamaged},
		{"a plain entry copied to another key", plain, "other", r, errDamaged},
		{"an encrypted entry copied to another key", sealed, "other", r, errDamaged},
		{"a key that was dropped", sealed, "k", testRing(t, "other"), errUnknownKey},
		{"another key under the same name", sealed, "k", func() *ring {
			r := testRing(t, "zzz")
			r.seals["new"] = r.seals["zzz"]
			return r
		}(), errDamaged},
	} {
		t.Run(tt.name+" is refused", func(t *testing.T) {
			if _, err := decode(tt.kept, tt.store, tt.ring, p); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	t.Run("any byte that is changed and any end that is cut", func(t *testing.T) {
		for _, kept := range []string{plain, sealed} {
			for i := range len(kept) {
				b := []byte(kept)
				b[i] ^= byte(1 + rand.IntN(255))
				if _, err := decode(string(b), "k", r, p); err == nil {
					t.Errorf("byte %d changed: accepted", i)
				}
				if _, err := decode(kept[:i], "k", r, p); err == nil {
					t.Errorf("cut at %d: accepted", i)
				}
			}
		}
	})
	t.Run("a little that unpacks to a lot", func(t *testing.T) {
		bomb := p.enc.EncodeAll(make([]byte, 8<<20), nil)
		e := envelope{flags: flagPacked}
		b, err := e.encode("k", bomb, nil, r, true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(string(b), "k", r, p); !errors.Is(err, errDamaged) {
			t.Errorf("got %v, want errDamaged", err)
		}
	})
}

func FuzzEnvelope(f *testing.F) {
	r, p := testRing(f, "new"), testPacker(f)
	for _, e := range []envelope{
		{codec: Raw, value: []byte("value"), fresh: time.Hour, kept: time.Hour},
		{codec: JSON, value: []byte("null"), tags: []tagged{{"t", 5}}},
		{codec: MsgPack, value: bytes.Repeat([]byte{1}, 4000)},
		{codec: Raw, flags: flagSealed, keyID: "new", value: []byte("secret")},
		{flags: flagDeleted, kept: time.Minute},
	} {
		f.Add(keep(f, e, r, p, true))
		f.Add(keep(f, e, r, p, false))
	}
	f.Add("plain text")
	f.Add(mark)
	f.Add(textMark)
	f.Fuzz(func(t *testing.T, kept string) {
		e, err := decode(kept, "k", r, p)
		if err != nil {
			return
		}
		if e.has(flagSealed) {
			return // a nonce of its own makes the same entry other bytes
		}
		e.flags &^= flagPacked // the value is unpacked
		again, err := e.encode("k", e.value, nil, r, true)
		if err != nil {
			t.Fatal(err)
		}
		second, err := decode(string(again), "k", r, p)
		if err != nil || !bytes.Equal(second.value, e.value) || second.version != e.version {
			t.Errorf("got %v, %v, want the same entry", second, err)
		}
	})
}
