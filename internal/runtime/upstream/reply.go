package upstream

const (
	maxLine  = 512  // how much of an error reply is kept
	maxDepth = 1024 // nesting of a reply; Redis itself stays far below
)

type replyState uint8

const (
	atType replyState = iota
	inLine
	inLength
	inBody
	replyBad
)

// A replyParser finds where replies end in what a server sends, in RESP2 and RESP3, however the reads
// are cut. It keeps the text of error replies and steps over everything else. The zero value is at
// the start of a reply.
type replyParser struct {
	state  replyState
	kind   byte // of the top-level reply
	elem   byte // of the current element
	num    int64
	digits int
	neg    bool
	left   int64   // bytes of the current bulk still to come, its CR LF included
	stack  []int64 // elements still to come, by depth
	attrs  []bool  // whether that depth is an attribute, which is not an element itself
	size   int64
	line   []byte // of an error reply at top level
	cr     bool
}

// scan consumes b up to the next event, ended or bad, and returns how much it consumed.
func (p *replyParser) scan(b []byte) (int, event) {
	for i := 0; i < len(b); {
		var n int
		ev := more
		switch p.state {
		case atType:
			n, ev = 1, p.begin(b[i])
		case inLine:
			n, ev = p.text(b[i:])
		case inLength:
			n, ev = 1, p.length(b[i])
		case inBody:
			n, ev = p.body(b[i:])
		case replyBad:
			return i, bad
		}
		i += n
		p.size += int64(n)
		if ev != more {
			return i, ev
		}
	}
	return len(b), more
}

func (p *replyParser) begin(c byte) event {
	if len(p.stack) == 0 {
		p.kind, p.size, p.line = c, 0, p.line[:0]
	}
	p.elem, p.num, p.digits, p.neg, p.cr = c, 0, 0, false, false
	switch c {
	case '+', '-', ':', '_', ',', '#', '(':
		p.state = inLine
	case '$', '=', '!', '*', '~', '>', '%', '|':
		p.state = inLength
	default:
		p.state = replyBad
		return bad
	}
	return more
}

// text consumes a line.
func (p *replyParser) text(b []byte) (int, event) {
	for i, c := range b {
		switch {
		case p.cr && c == '\n':
			return i + 1, p.done()
		case c == '\r':
			p.cr = true
		default:
			p.cr = false
			p.keep(c)
		}
	}
	return len(b), more
}

func (p *replyParser) keep(c byte) {
	if len(p.stack) == 0 && (p.elem == '-' || p.elem == '!') && len(p.line) < maxLine {
		p.line = append(p.line, c)
	}
}

func (p *replyParser) length(c byte) event {
	if !readNumber(c, &p.num, &p.digits, &p.neg) {
		p.state = replyBad
		return bad
	}
	if c != '\n' {
		return more
	}
	switch p.elem {
	case '$', '=', '!':
		if p.neg {
			return p.done()
		}
		p.left, p.state = p.num+2, inBody
		return more
	case '%', '|':
		p.num *= 2
	}
	if p.neg || p.num == 0 && p.elem != '|' {
		return p.done()
	}
	if len(p.stack) >= maxDepth {
		p.state = replyBad
		return bad
	}
	p.state = atType
	if p.num == 0 { // an empty attribute: the reply itself follows
		return more
	}
	p.stack = append(p.stack, p.num)
	p.attrs = append(p.attrs, p.elem == '|')
	return more
}

func (p *replyParser) body(b []byte) (int, event) {
	n := int(min(p.left, int64(len(b))))
	if p.elem == '!' {
		text := b[:min(int64(n), max(0, p.left-2))]
		for _, c := range text {
			p.keep(c)
		}
	}
	if p.left -= int64(n); p.left > 0 {
		return n, more
	}
	return n, p.done()
}

// done ends one element, and with it every aggregate that it completes.
func (p *replyParser) done() event {
	p.state = atType
	for len(p.stack) > 0 {
		top := len(p.stack) - 1
		if p.stack[top]--; p.stack[top] > 0 {
			return more
		}
		attr := p.attrs[top]
		p.stack, p.attrs = p.stack[:top], p.attrs[:top]
		if attr {
			return more
		}
	}
	return ended
}

// isError is whether the reply that just ended is an error.
func (p *replyParser) isError() bool { return p.kind == '-' || p.kind == '!' }

// isPush is whether the reply that just ended answers no command.
func (p *replyParser) isPush() bool { return p.kind == '>' }
