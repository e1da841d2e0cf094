package upstream

// maxName is how much of a command's name is kept, and of its subcommand's. The longest real one is
// shorter; what is longer is no command.
const maxName = 32

// An event is what a parser came to.
type event int

const (
	more  event = iota // all bytes are consumed
	named              // the name of the command is known; the command goes on
	ended              // the last byte of a command or reply is consumed
	bad                // this is not RESP; the parser stays here
)

type requestState uint8

const (
	atStart requestState = iota
	inCount
	inBulkStart
	inBulkLength
	inBulk
	inBulkEnd
	inInline
	isBad
)

// A requestParser finds where commands begin and end in what a client writes, however the writes are
// cut. It keeps the name only, and steps over arguments without looking at them, so its cost does
// not depend on their size. The zero value is at the start of a command. It is copied by value to
// look ahead.
type requestParser struct {
	state   requestState
	args    int64 // arguments still to come
	arg     int64 // index of the current one
	left    int64 // bytes of the current argument still to come
	num     int64 // number being read
	digits  int
	neg     bool
	told    bool // named was reported for this command
	size    int64
	nameLen [2]int
	name    [2][maxName]byte
}

// scan consumes b up to the next event and returns how much it consumed.
func (p *requestParser) scan(b []byte) (int, event) {
	for i := 0; i < len(b); {
		if p.state == inBulk {
			n := p.bulk(b[i:])
			i += n
			if p.left > 0 {
				return i, more
			}
			p.state, p.left = inBulkEnd, 2
			if p.argKnown() {
				return i, named
			}
			continue
		}
		ev := p.step(b[i])
		i++
		p.size++
		if ev != more {
			return i, ev
		}
	}
	return len(b), more
}

// bulk consumes bytes of an argument, and keeps them where they belong to the name.
func (p *requestParser) bulk(b []byte) int {
	n := int(min(p.left, int64(len(b))))
	if p.arg < 2 {
		kept := copy(p.name[p.arg][p.nameLen[p.arg]:], b[:n])
		p.nameLen[p.arg] += kept
	}
	p.left -= int64(n)
	p.size += int64(n)
	return n
}

// argKnown is whether the argument that just ended completes the name.
func (p *requestParser) argKnown() bool {
	if p.told || p.arg == 0 && p.args > 1 && p.verbIsContainer() {
		return false
	}
	p.told = true
	return true
}

// step consumes one byte outside of an argument.
func (p *requestParser) step(c byte) event {
	switch p.state {
	case atStart:
		return p.start(c)
	case inCount:
		if !p.number(c) {
			return p.fail()
		}
		if c == '\n' {
			return p.counted()
		}
	case inBulkStart:
		if c != '$' {
			return p.fail()
		}
		p.startNumber(inBulkLength)
	case inBulkLength:
		if !p.number(c) || p.neg {
			return p.fail()
		}
		if c == '\n' {
			p.left = p.num
			p.state = inBulk
		}
	case inBulkEnd:
		return p.bulkEnd(c)
	case inInline:
		return p.inline(c)
	case inBulk, isBad:
		return bad
	}
	return more
}

func (p *requestParser) start(c byte) event {
	if c == '*' {
		*p = requestParser{}
		p.startNumber(inCount)
		return more
	}
	*p = requestParser{state: inInline}
	return p.inline(c)
}

func (p *requestParser) counted() event {
	if p.neg || p.num == 0 {
		*p = requestParser{size: -1} // the server ignores it; scan adds the byte itself
		return more
	}
	p.args, p.state = p.num, inBulkStart
	return more
}

func (p *requestParser) bulkEnd(c byte) event {
	if p.left == 2 && c != '\r' || p.left == 1 && c != '\n' {
		return p.fail()
	}
	if p.left--; p.left > 0 {
		return more
	}
	p.arg++
	if p.args--; p.args > 0 {
		p.state = inBulkStart
		return more
	}
	p.state = atStart
	return ended
}

// inline reads a command typed as a line of text.
func (p *requestParser) inline(c byte) event {
	switch {
	case c == '\n':
		if p.nameLen[0] == 0 {
			*p = requestParser{size: -1}
			return more
		}
		p.state = atStart
		return ended
	case c == '\r':
	case c == ' ' || c == '\t':
		if p.arg == 0 && p.nameLen[0] > 0 {
			p.arg = 1
		} else if p.arg == 1 && p.nameLen[1] > 0 {
			p.arg = 2
		}
	case p.arg < 2:
		p.nameLen[p.arg] += copy(p.name[p.arg][p.nameLen[p.arg]:], []byte{c})
	}
	return more
}

func (p *requestParser) startNumber(s requestState) {
	p.state, p.num, p.digits, p.neg = s, 0, 0, false
}

// number takes the next byte of "123\r\n" and says whether it may be there.
func (p *requestParser) number(c byte) bool {
	return readNumber(c, &p.num, &p.digits, &p.neg)
}

// readNumber takes one byte of a length line, its CR and LF included. After CR only LF is right:
// digits is then negative.
func readNumber(c byte, num *int64, digits *int, neg *bool) bool {
	switch {
	case *digits < 0:
		return c == '\n'
	case c >= '0' && c <= '9' && *digits < 18:
		*num = *num*10 + int64(c-'0')
		*digits++
		return true
	case c == '-' && *digits == 0 && !*neg:
		*neg = true
		return true
	case c == '\r' && *digits > 0:
		*digits = -1
		return true
	}
	return false
}

func (p *requestParser) fail() event {
	p.state = isBad
	return bad
}

// command is the name as INFO commandstats spells it. It is valid from named until the first byte of
// the next command.
func (p *requestParser) command() string {
	var buf [2*maxName + 1]byte
	return string(p.appendCommand(buf[:0]))
}

// appendCommand appends the name to dst.
func (p *requestParser) appendCommand(dst []byte) []byte {
	dst = appendName(dst, p.name[0][:p.nameLen[0]])
	if p.nameLen[1] == 0 || !isContainer(string(dst)) {
		return dst
	}
	return appendName(append(dst, '|'), p.name[1][:p.nameLen[1]])
}

// verbIsContainer is whether the first word alone does not name the command.
func (p *requestParser) verbIsContainer() bool {
	var buf [maxName]byte
	return isContainer(string(appendName(buf[:0], p.name[0][:p.nameLen[0]])))
}

// appendName appends word in lower case, or "?" when it cannot be the name of a command: names end up
// as labels of metrics, and what an application sends by mistake may be anything.
func appendName(dst, word []byte) []byte {
	start := len(dst)
	for _, c := range word {
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return append(dst[:start], '?')
		}
		dst = append(dst, c)
	}
	if len(word) == 0 {
		return append(dst, '?')
	}
	return dst
}
