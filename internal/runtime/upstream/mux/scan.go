package mux

import "bytes"

// An event is what a scanner came to.
type event int

const (
	more  event = iota // all bytes are consumed
	ended              // the last byte of a reply is consumed
	bad                // this is not RESP; the scanner stays there
)

const (
	maxText  = 512  // how much of an error reply is kept
	maxDepth = 1024 // nesting of a reply; Redis itself stays far below
)

type scanState uint8

const (
	atType scanState = iota
	inLine
	inLength
	inBody
	isBad
)

// A scanner finds where replies end in what a server sends, however the reads are cut. It understands
// the types of RESP2, and those of RESP3 that nest like them. It looks at lengths and line ends only,
// so a large value costs it nothing. The zero value is at the start of a reply.
type scanner struct {
	state  scanState
	kind   byte // of the top-level reply
	elem   byte // of the current element
	num    int64
	digits int
	neg    bool
	left   int64   // bytes of the current bulk still to come, its CR LF included
	stack  []int64 // elements still to come, by depth
	size   int64   // of the reply
	text   []byte  // of an error reply at top level
}

// scan consumes b up to the next event and returns how much it consumed.
func (s *scanner) scan(b []byte) (int, event) {
	i := 0
	for i < len(b) {
		n, ev := 1, more
		switch s.state {
		case atType:
			ev = s.begin(b[i])
		case inLine:
			n, ev = s.line(b[i:])
		case inLength:
			ev = s.length(b[i])
		case inBody:
			n = int(min(s.left, int64(len(b)-i)))
			if s.left -= int64(n); s.left == 0 {
				ev = s.done()
			}
		case isBad:
			return i, bad
		}
		i += n
		if ev != more {
			s.size += int64(i)
			return i, ev
		}
	}
	s.size += int64(i)
	return i, more
}

func (s *scanner) begin(c byte) event {
	if len(s.stack) == 0 {
		s.kind, s.size, s.text = c, 0, s.text[:0]
	}
	s.elem = c
	switch c {
	case '+', '-', ':', '_', ',', '#', '(':
		s.state = inLine
	case '$', '=', '!', '*', '~', '>', '%':
		s.state, s.num, s.digits, s.neg = inLength, 0, 0, false
	default:
		s.state = isBad
		return bad
	}
	return more
}

// line consumes a line, of which every byte but the last may be anything but a line feed.
func (s *scanner) line(b []byte) (int, event) {
	n := bytes.IndexByte(b, '\n')
	keep := b
	if n >= 0 {
		keep = b[:n]
	}
	if s.elem == '-' && len(s.stack) == 0 {
		s.text = append(s.text, keep[:min(len(keep), maxText-len(s.text))]...)
	}
	if n < 0 {
		return len(b), more
	}
	return n + 1, s.done()
}

// length takes one byte of "123\r\n".
func (s *scanner) length(c byte) event {
	switch {
	case c >= '0' && c <= '9' && s.digits >= 0 && s.digits < 18:
		s.num = s.num*10 + int64(c-'0')
		s.digits++
		return more
	case c == '-' && s.digits == 0 && !s.neg:
		s.neg = true
		return more
	case c == '\r' && s.digits > 0:
		s.digits = -1
		return more
	case c == '\n' && s.digits < 0:
		return s.counted()
	}
	s.state = isBad
	return bad
}

// counted goes on after a length.
func (s *scanner) counted() event {
	switch s.elem {
	case '$', '=', '!':
		if s.neg {
			return s.done()
		}
		s.left, s.state = s.num+2, inBody
		return more
	case '%':
		s.num *= 2
	}
	if s.neg || s.num == 0 {
		return s.done()
	}
	if len(s.stack) >= maxDepth {
		s.state = isBad
		return bad
	}
	s.stack = append(s.stack, s.num)
	s.state = atType
	return more
}

// done ends one element, and with it every aggregate that it completes.
func (s *scanner) done() event {
	s.state = atType
	for len(s.stack) > 0 {
		top := len(s.stack) - 1
		if s.stack[top]--; s.stack[top] > 0 {
			return more
		}
		s.stack = s.stack[:top]
	}
	return ended
}

// isError is whether the reply that just ended is an error.
func (s *scanner) isError() bool { return s.kind == '-' || s.kind == '!' }

// errorText is the text of that error, without its line end.
func (s *scanner) errorText() string { return string(bytes.TrimSuffix(s.text, []byte{'\r'})) }
