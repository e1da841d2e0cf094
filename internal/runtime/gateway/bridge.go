package gateway

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strconv"
	"unicode/utf8"
)

// deepest is how many arrays may be inside each other in a reply. Redis itself stops at 32 for scripts.
const deepest = 128

var errReply = errors.New("the Redis sent something that is not a reply")

// A bridge turns RESP2 replies into the JSON of the REST protocol without making values of them.
type bridge struct {
	base64 bool
}

// replyEnd is the length of the first complete reply in b.
func replyEnd(b []byte) (int, error) { return skipReply(b, 0, 0) }

func skipReply(b []byte, at, depth int) (int, error) {
	line, next, err := replyLine(b, at)
	if err != nil {
		return 0, err
	}
	switch b[at] {
	case '+', '-', ':':
		return next, nil
	case '$':
		n, err := replyLength(line)
		if err != nil {
			return 0, err
		}
		if n < 0 {
			return next, nil
		}
		if n > len(b)-next-2 || b[next+n] != '\r' || b[next+n+1] != '\n' {
			return 0, errReply
		}
		return next + n + 2, nil
	case '*':
		n, err := replyLength(line)
		if err != nil || depth == deepest {
			return 0, errReply
		}
		for range max(n, 0) {
			if next, err = skipReply(b, next, depth+1); err != nil {
				return 0, err
			}
		}
		return next, nil
	}
	return 0, errReply
}

// replyLine is the text after the type byte at, and where the next line begins.
func replyLine(b []byte, at int) (line []byte, next int, err error) {
	for i := at + 1; i+1 < len(b); i++ {
		if b[i] == '\r' {
			if b[i+1] != '\n' {
				return nil, 0, errReply
			}
			return b[at+1 : i], i + 2, nil
		}
	}
	return nil, 0, errReply
}

// replyLength is the length in the header of a string or of an array: -1 for nil.
func replyLength(line []byte) (int, error) {
	if string(line) == "-1" {
		return -1, nil
	}
	if len(line) == 0 || len(line) > 10 {
		return 0, errReply
	}
	n := 0
	for _, c := range line {
		if c < '0' || c > '9' {
			return 0, errReply
		}
		n = n*10 + int(c-'0')
	}
	return n, nil
}

// item appends {"result":…} or {"error":…} for the reply at the beginning of b, which is complete, and
// returns its length. Failed is whether it was an error.
func (br bridge) item(dst, b []byte) (with []byte, n int, failed bool, err error) {
	if len(b) > 0 && b[0] == '-' {
		line, next, err := replyLine(b, 0)
		if err != nil {
			return dst, 0, false, err
		}
		return appendErrorItem(dst, line), next, true, nil
	}
	dst = append(dst, `{"result":`...)
	dst, n, err = br.value(dst, b, 0, 0)
	return append(dst, '}'), n, false, err
}

// value appends the reply that begins at b[at:] and returns where the next begins.
func (br bridge) value(dst, b []byte, at, depth int) ([]byte, int, error) {
	line, next, err := replyLine(b, at)
	if err != nil {
		return dst, 0, err
	}
	switch b[at] {
	case ':':
		if !isInteger(line) {
			return dst, 0, errReply
		}
		return append(dst, line...), next, nil
	case '+':
		// The one string that is never encoded, so that a client can tell it from a value.
		if depth == 0 && string(line) == "OK" {
			return append(dst, `"OK"`...), next, nil
		}
		return br.str(dst, line), next, nil
	case '-':
		// An error inside an array, as a script may return it.
		return appendJSONString(dst, line), next, nil
	case '$':
		n, err := replyLength(line)
		if err != nil {
			return dst, 0, err
		}
		if n < 0 {
			return append(dst, "null"...), next, nil
		}
		if n > len(b)-next-2 || b[next+n] != '\r' || b[next+n+1] != '\n' {
			return dst, 0, errReply
		}
		return br.str(dst, b[next:next+n]), next + n + 2, nil
	case '*':
		return br.array(dst, b, line, next, depth)
	}
	return dst, 0, errReply
}

func (br bridge) array(dst, b, line []byte, next, depth int) ([]byte, int, error) {
	n, err := replyLength(line)
	if err != nil || depth == deepest {
		return dst, 0, errReply
	}
	if n < 0 {
		return append(dst, "null"...), next, nil
	}
	dst = append(dst, '[')
	for i := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, next, err = br.value(dst, b, next, depth+1); err != nil {
			return dst, 0, err
		}
	}
	return append(dst, ']'), next, nil
}

func (br bridge) str(dst, s []byte) []byte {
	if !br.base64 {
		return appendJSONString(dst, s)
	}
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, s)
	return append(dst, '"')
}

// isInteger is whether b is an integer that JSON takes as well.
func isInteger(b []byte) bool {
	b = bytes.TrimPrefix(b, []byte{'-'})
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) == 1 || len(b) > 1 && b[0] != '0'
}

// appendErrorItem appends {"error":"text"}. The text of an error is never encoded.
func appendErrorItem[T string | []byte](dst []byte, text T) []byte {
	dst = append(dst, `{"error":`...)
	dst = appendJSONString(dst, text)
	return append(dst, '}')
}

const hexDigits = "0123456789abcdef"

// appendJSONString appends s as a JSON string. A byte that is not UTF-8 becomes U+FFFD.
func appendJSONString[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := decodeRune(s[i:])
			if r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
			dst = append(dst, s[from:i]...)
			dst = append(dst, "\uFFFD"...)
			i++
			from = i
			continue
		}
		dst = append(dst, s[from:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
		}
		i++
		from = i
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

func decodeRune[T string | []byte](s T) (rune, int) {
	var few [utf8.UTFMax]byte
	return utf8.DecodeRune(few[:copy(few[:], s)])
}

// appendArrayHeader appends the header of a RESP array of n replies.
func appendArrayHeader(dst []byte, n int) []byte {
	dst = append(dst, '*')
	dst = strconv.AppendInt(dst, int64(n), 10)
	return append(dst, '\r', '\n')
}
