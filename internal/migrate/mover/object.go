package mover

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// An object is a JSON object whose members keep their order and their exact bytes: a value that is
// not edited is written back as it was read, big numbers and escapes included.
type object []member

type member struct {
	key string // decoded
	raw string // the key and its quotes, as written
	val string // the value, as written
}

var errNotObject = errors.New("not a JSON object")

// parseObject splits s, which must be one JSON object. It reads no deeper than the first level.
func parseObject(s string) (object, error) {
	if !json.Valid([]byte(s)) {
		return nil, errNotObject
	}
	i := skipSpace(s, 0)
	if s[i] != '{' {
		return nil, errNotObject
	}
	o := make(object, 0, 8)
	i = skipSpace(s, i+1)
	for s[i] != '}' {
		var m member
		end := skipValue(s, i)
		m.raw = s[i:end]
		key, err := unquote(m.raw)
		if err != nil {
			return nil, err
		}
		m.key = key
		i = skipSpace(s, skipSpace(s, end)+1) // over the colon
		end = skipValue(s, i)
		m.val = s[i:end]
		o = append(o, m)
		i = skipSpace(s, end)
		if s[i] == ',' {
			i = skipSpace(s, i+1)
		}
	}
	return o, nil
}

func skipSpace(s string, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\t' || s[i] == '\n' || s[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns where the value at i ends. The text is known to be valid JSON.
func skipValue(s string, i int) int {
	depth := 0
	for ; i < len(s); i++ {
		switch s[i] {
		case '"':
			for i++; s[i] != '"'; i++ {
				if s[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ':', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
		}
	}
	return i
}

func unquote(raw string) (string, error) {
	if !strings.Contains(raw, `\`) {
		return raw[1 : len(raw)-1], nil
	}
	var s string
	err := json.Unmarshal([]byte(raw), &s)
	return s, err
}

// get returns the value of key as written; of a repeated key the last one counts, as in JavaScript.
func (o object) get(key string) (string, bool) {
	for _, m := range slices.Backward(o) {
		if m.key == key {
			return m.val, true
		}
	}
	return "", false
}

// text returns the value of key if it is a JSON string.
func (o object) text(key string) (string, bool) {
	raw, ok := o.get(key)
	if !ok || raw == "" || raw[0] != '"' {
		return "", false
	}
	s, err := unquote(raw)
	return s, err == nil
}

// integer returns the value of key if it is a whole number.
func (o object) integer(key string) (int64, bool) {
	raw, ok := o.get(key)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(raw, 10, 64)
	return n, err == nil
}

// without returns o less every member called key. It may reuse o's memory.
func (o object) without(key string) object {
	kept := o[:0]
	for _, m := range o {
		if m.key != key {
			kept = append(kept, m)
		}
	}
	return kept
}

// with returns o with key set to the raw value: in its place if it was there, else at the end.
func (o object) with(key, raw string) object {
	place := -1
	for i := len(o) - 1; i >= 0; i-- {
		if o[i].key != key {
			continue
		}
		if place < 0 {
			place = i
			o[i].val = raw
			continue
		}
		o = append(o[:i], o[i+1:]...)
		place--
	}
	if place < 0 {
		return append(o, member{key: key, raw: quote(key), val: raw})
	}
	return o
}

// clone returns a copy that can be edited without touching o.
func (o object) clone() object { return append(make(object, 0, len(o)+4), o...) }

// String is the object as compact JSON.
func (o object) String() string {
	n := 2
	for _, m := range o {
		n += len(m.raw) + len(m.val) + 2
	}
	var b strings.Builder
	b.Grow(n)
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(m.raw)
		b.WriteByte(':')
		b.WriteString(m.val)
	}
	b.WriteByte('}')
	return b.String()
}

// quote is s as JSON writes it in JavaScript: nothing escaped that need not be.
func quote(s string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return strconv.Quote(s)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
