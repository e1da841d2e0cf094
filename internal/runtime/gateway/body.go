package gateway

import (
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

// What can be wrong with a body. The texts are the end of an error message to the client.
var (
	errNotArray  = errors.New("the body is not a JSON array")
	errNotNested = errors.New("the body is not a JSON array of arrays")
	errObject    = errors.New("an argument is a JSON object; send it as a string")
	errNested    = errors.New("an argument is an array; send its members as arguments of their own")
	errJSON      = errors.New("the body is not valid JSON")
	errUTF8      = errors.New("the body is not valid UTF-8; send binary arguments as a raw body after a path")
	errPercent   = errors.New("a percent sign is not followed by two hexadecimal digits")
)

// A bodyParser takes the commands out of a JSON body. It allocates nothing: a string argument is a part
// of the body, in which its escapes are replaced in place, and the body must stay as long as the
// arguments are used.
type bodyParser struct {
	b []byte
	i int
}

func (p *bodyParser) space() {
	for p.i < len(p.b) {
		switch p.b[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

// next is the next byte that is not white space, 0 at the end. It is not consumed.
func (p *bodyParser) next() byte {
	p.space()
	if p.i == len(p.b) {
		return 0
	}
	return p.b[p.i]
}

// begin consumes the bracket that opens an array.
func (p *bodyParser) begin(otherwise error) error {
	if p.next() != '[' {
		return otherwise
	}
	p.i++
	return nil
}

// more is whether another element follows, after the separator it consumes; first is whether it is the
// first. At the end it consumes the closing bracket.
func (p *bodyParser) more(first bool) (bool, error) {
	switch c := p.next(); {
	case c == ']':
		p.i++
		return false, nil
	case first:
		return true, nil
	case c == ',':
		p.i++
		return true, nil
	default:
		return false, errJSON
	}
}

// end is nil when nothing but white space is left.
func (p *bodyParser) end() error {
	if p.next() != 0 || p.i != len(p.b) {
		return errJSON
	}
	return nil
}

// command appends the arguments of the array that begins here to args.
func (p *bodyParser) command(args [][]byte, otherwise error) ([][]byte, error) {
	if err := p.begin(otherwise); err != nil {
		return args, err
	}
	for first := true; ; first = false {
		more, err := p.more(first)
		if err != nil || !more {
			return args, err
		}
		arg, err := p.argument()
		if err != nil {
			return args, err
		}
		args = append(args, arg)
	}
}

// argument is one argument as the text that Redis gets: a string is its value, a number, a boolean and
// null are what is written in the body.
func (p *bodyParser) argument() ([]byte, error) {
	switch c := p.next(); {
	case c == '"':
		return p.str()
	case c == '-', c >= '0' && c <= '9':
		return p.number()
	case c == 't':
		return p.word("true")
	case c == 'f':
		return p.word("false")
	case c == 'n':
		return p.word("null")
	case c == '{':
		return nil, errObject
	case c == '[':
		return nil, errNested
	}
	return nil, errJSON
}

func (p *bodyParser) word(w string) ([]byte, error) {
	end := p.i + len(w)
	if end > len(p.b) || string(p.b[p.i:end]) != w {
		return nil, errJSON
	}
	from := p.i
	p.i = end
	return p.b[from:end:end], nil
}

func (p *bodyParser) number() ([]byte, error) {
	from := p.i
	if p.b[p.i] == '-' {
		p.i++
	}
	whole := p.i
	n := p.digits()
	if n == 0 || n > 1 && p.b[whole] == '0' {
		return nil, errJSON
	}
	if p.i < len(p.b) && p.b[p.i] == '.' {
		p.i++
		if p.digits() == 0 {
			return nil, errJSON
		}
	}
	if p.i < len(p.b) && p.b[p.i]|0x20 == 'e' {
		p.i++
		if p.i < len(p.b) && (p.b[p.i] == '+' || p.b[p.i] == '-') {
			p.i++
		}
		if p.digits() == 0 {
			return nil, errJSON
		}
	}
	return p.b[from:p.i:p.i], nil
}

func (p *bodyParser) digits() (n int) {
	for p.i < len(p.b) && p.b[p.i] >= '0' && p.b[p.i] <= '9' {
		p.i++
		n++
	}
	return n
}

// str is the string whose opening quote is here.
func (p *bodyParser) str() ([]byte, error) {
	p.i++
	from := p.i
	for i := from; i < len(p.b); i++ {
		switch c := p.b[i]; {
		case c == '"':
			p.i = i + 1
			return p.b[from:i:i], nil
		case c == '\\':
			p.i = i
			return p.escaped(from)
		case c < 0x20:
			return nil, errJSON
		}
	}
	return nil, errJSON
}

// escaped is the string that began at from and whose first escape is here. What an escape stands for is
// never longer than the escape, so it is written over it.
func (p *bodyParser) escaped(from int) ([]byte, error) {
	to := p.i
	for p.i < len(p.b) {
		c := p.b[p.i]
		switch {
		case c == '"':
			p.i++
			return p.b[from:to:to], nil
		case c < 0x20:
			return nil, errJSON
		case c != '\\':
			p.b[to] = c
			to++
			p.i++
			continue
		}
		if p.i+1 >= len(p.b) {
			return nil, errJSON
		}
		esc := p.b[p.i+1]
		p.i += 2
		if esc == 'u' {
			r, ok := p.unicode()
			if !ok {
				return nil, errJSON
			}
			to += utf8.EncodeRune(p.b[to:to+4:cap(p.b)], r)
			continue
		}
		plain := unescape(esc)
		if plain == 0 {
			return nil, errJSON
		}
		p.b[to] = plain
		to++
	}
	return nil, errJSON
}

func unescape(c byte) byte {
	switch c {
	case '"', '\\', '/':
		return c
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return 0
}

// unicode is the character of the escape whose "\u" has been consumed, and of the second one when two
// stand for one character. Half of such a pair is U+FFFD.
func (p *bodyParser) unicode() (rune, bool) {
	r, ok := p.hex4(p.i)
	if !ok {
		return 0, false
	}
	p.i += 4
	if !utf16.IsSurrogate(r) {
		return r, true
	}
	if p.i+1 < len(p.b) && p.b[p.i] == '\\' && p.b[p.i+1] == 'u' {
		if low, ok := p.hex4(p.i + 2); ok {
			if both := utf16.DecodeRune(r, low); both != utf8.RuneError {
				p.i += 6
				return both, true
			}
		}
	}
	return utf8.RuneError, true
}

func (p *bodyParser) hex4(at int) (rune, bool) {
	if at+4 > len(p.b) {
		return 0, false
	}
	var r rune
	for _, c := range p.b[at : at+4] {
		d, ok := unhex(c)
		if !ok {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	return r, true
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
