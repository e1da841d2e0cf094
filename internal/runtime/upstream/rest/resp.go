package rest

import (
	"bytes"
	"strconv"
)

// A span is a stretch of a buffer.
type span struct{ off, len int }

// A requestParser finds the commands in what a client writes, however the writes are cut: arrays of
// bulk strings, which is all that client libraries send. The zero value is at the start of a command.
type requestParser struct {
	next  int // where to go on in the buffer
	args  int // still to come of the current command; 0 at its start
	need  int // length of the buffer below which looking again is useless
	start int // of the current command
}

const (
	maxArgs = 1 << 20
	maxBulk = 512 << 20
)

// parse appends the arguments found in buf from where it stopped to spans, and calls done at the end of
// every command with its start and end. It returns false when buf is not RESP.
func (p *requestParser) parse(buf []byte, spans *[]span, done func(start, end int)) bool {
	for len(buf) > p.next && len(buf) >= p.need {
		line, after := cutLine(buf, p.next)
		if after < 0 {
			return len(buf)-p.next < 32 // a length has far fewer digits
		}
		if p.args == 0 {
			n, ok := parseLength(line, '*', maxArgs)
			if !ok {
				return false
			}
			p.next = after
			if n <= 0 { // a server ignores it
				p.start = p.next
				continue
			}
			p.args = n
			continue
		}
		n, ok := parseLength(line, '$', maxBulk)
		if !ok || n < 0 {
			return false
		}
		if end := after + n + 2; len(buf) < end {
			p.need = end
			return true
		}
		if buf[after+n] != '\r' || buf[after+n+1] != '\n' {
			return false
		}
		*spans = append(*spans, span{after, n})
		p.next, p.need = after+n+2, 0
		if p.args--; p.args == 0 {
			done(p.start, p.next)
			p.start = p.next
		}
	}
	return true
}

// moved takes note that the n first bytes of the buffer are gone.
func (p *requestParser) moved(n int) {
	p.next -= n
	p.start -= n
	p.need = max(0, p.need-n)
}

// cutLine is the line of buf that begins at i, without its end, and where the next one begins; -1 when
// it is not whole.
func cutLine(buf []byte, i int) (line []byte, after int) {
	n := bytes.IndexByte(buf[i:], '\n')
	if n < 1 || buf[i+n-1] != '\r' {
		if n >= 0 {
			return nil, i + n + 1 // a line that no parser of lengths accepts
		}
		return nil, -1
	}
	return buf[i : i+n-1], i + n + 1
}

// parseLength reads "*3" or "$-1".
func parseLength(line []byte, kind byte, limit int) (int, bool) {
	if len(line) < 2 || line[0] != kind || len(line) > 12 {
		return 0, false
	}
	n, err := strconv.Atoi(string(line[1:]))
	if err != nil || n < -1 || n > limit || line[1] == '+' {
		return 0, false
	}
	return n, true
}

const maxDepth = 128

// skip is where the reply in b that begins at i ends; -1 when it is not whole, and -2 when it is no
// RESP2.
func skip(b []byte, i, depth int) int {
	if i >= len(b) {
		return -1
	}
	n := bytes.IndexByte(b[i:], '\n')
	if n < 0 {
		return -1
	}
	if n < 2 || b[i+n-1] != '\r' {
		return -2
	}
	line, after := b[i:i+n-1], i+n+1
	switch line[0] {
	case '+', '-':
		return after
	case ':':
		if _, err := strconv.ParseInt(string(line[1:]), 10, 64); err != nil {
			return -2
		}
		return after
	case '$':
		size, ok := parseLength(line, '$', maxBulk)
		if !ok {
			return -2
		}
		if size < 0 {
			return after
		}
		if len(b) < after+size+2 {
			return -1
		}
		if b[after+size] != '\r' || b[after+size+1] != '\n' {
			return -2
		}
		return after + size + 2
	case '*':
		size, ok := parseLength(line, '*', maxBulk)
		if !ok || depth >= maxDepth {
			return -2
		}
		for range size {
			if after = skip(b, after, depth+1); after < 0 {
				return after
			}
		}
		return after
	}
	return -2
}

// appendError appends an error reply whose text is s. It keeps to one line, and begins with a code as
// every error of a Redis does.
func appendError(dst []byte, s string) []byte {
	dst = append(dst, '-')
	if !hasCode(s) {
		dst = append(dst, "ERR "...)
	}
	for i := range len(s) {
		if c := s[i]; c == '\r' || c == '\n' {
			dst = append(dst, ' ')
		} else {
			dst = append(dst, c)
		}
	}
	return append(dst, "\r\n"...)
}

// hasCode is whether s begins with a word in capitals.
func hasCode(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'A' && c <= 'Z', i > 0 && c >= '0' && c <= '9', i > 0 && c == '_':
		case c == ' ':
			return i > 1
		default:
			return false
		}
	}
	return len(s) > 1
}
