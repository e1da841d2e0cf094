package keys

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Class is what a string value looks like.
type Class string

// The classes.
const (
	ClassJSON       Class = "json_object_or_array"
	ClassJSONString Class = "json_string" // in quotes
	ClassLiteral    Class = "json_literal"
	ClassNumber     Class = "number"
	ClassText       Class = "text" // no JSON, the empty string included
	ClassBinary     Class = "binary"
	ClassCompressed Class = "compressed"
	ClassEnvelope   Class = "redisopt_envelope"
)

// A reading is what clients make of one value.
type reading struct {
	class Class

	// throws: JSON.parse of the value throws, which an application on ioredis with JSON does on reading.
	throws bool

	// changes: @upstash/redis, which parses what it reads, gives something else than a string for what a
	// plain client gives as a string.
	changes bool

	// damaged: the value is not UTF-8 and does not survive a reply in JSON without base64.
	damaged bool
}

// read classes a value; cut says that it goes on.
func read(b []byte, cut bool) reading {
	switch {
	case bytes.HasPrefix(b, []byte("\xffRC")), bytes.HasPrefix(b, []byte("~rc1:")):
		return reading{class: ClassEnvelope, throws: true, damaged: b[0] == 0xff}
	case compressed(b):
		return reading{class: ClassCompressed, throws: true, damaged: !utf8.Valid(b)}
	case !validUTF8(b, cut):
		return reading{class: ClassBinary, throws: true, damaged: true}
	}
	text := strings.Trim(string(b), " \t\r\n")
	if text == "" || !isJSON(text, cut) {
		return reading{class: ClassText, throws: true}
	}
	switch text[0] {
	case '{', '[':
		return reading{class: ClassJSON}
	case '"':
		return reading{class: ClassJSONString}
	case 't', 'f', 'n':
		return reading{class: ClassLiteral, changes: true}
	}
	return reading{class: ClassNumber, changes: string(b) == asJavaScript(text)}
}

// compressed knows gzip, zlib, zstd, LZ4 and xz by their first bytes.
func compressed(b []byte) bool {
	for _, magic := range []string{"\x1f\x8b\x08", "\x28\xb5\x2f\xfd", "\x04\x22\x4d\x18", "\xfd7zXZ"} {
		if bytes.HasPrefix(b, []byte(magic)) {
			return true
		}
	}
	// zlib: a header divisible by 31, and not text.
	return len(b) > 8 && b[0] == 0x78 && (int(b[0])<<8|int(b[1]))%31 == 0 && !utf8.Valid(b)
}

// validUTF8 allows the last character to be cut.
func validUTF8(b []byte, cut bool) bool {
	if utf8.Valid(b) {
		return true
	}
	if !cut {
		return false
	}
	for n := 1; n < utf8.UTFMax && n < len(b); n++ {
		if utf8.Valid(b[:len(b)-n]) {
			return true
		}
	}
	return false
}

// isJSON reports that text is one JSON value or, when it was cut, the beginning of one.
func isJSON(text string, cut bool) bool {
	if !cut {
		return json.Valid([]byte(text))
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	for n := 0; ; n++ {
		_, err := d.Token()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return text[0] == '{' || text[0] == '[' || text[0] == '"'
		case err != nil:
			// A string or number broken off where the value was cut ends the text, and nothing else does.
			return n > 0 && d.InputOffset() >= int64(len(text)-1)
		}
	}
}

// asJavaScript is what JavaScript writes for a number, which the SDK compares with what was stored.
func asJavaScript(text string) string {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		return ""
	}
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		s := strconv.FormatFloat(f, 'e', -1, 64)
		mantissa, exponent, _ := strings.Cut(s, "e")
		return mantissa + "e" + exponent[:1] + strings.TrimLeft(exponent[1:], "0")
	}
	if f == 0 {
		return "0" // also for -0
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}
