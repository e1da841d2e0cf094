package record

import (
	"bufio"
	"io"
	"strings"
)

// maxDepth is how deep replies may nest; the deepest of Redis have a handful of levels.
const maxDepth = 64

// A reply is what is kept of one reply.
type reply struct {
	kind  byte   // first byte: '+', '-', ':', '$', '*', '>' and so on
	null  bool   // nothing, or an aggregate of no elements
	err   string // text of an error, cut to keptBytes
	first string // first element of an aggregate, cut to 64 bytes; "" where that is null
	inner int64  // errors among the elements, for EXEC
	size  int64
}

// empty is whether the reply says that there was nothing: null, an empty list, or a list that begins
// with nothing.
func (r *reply) empty() bool {
	return r.null || (r.kind == '*' || r.kind == '~') && (r.first == "" || r.first == "0")
}

// message is whether the reply came unasked: a push, or what a subscriber of RESP2 gets.
func (r *reply) message(subscribed bool) bool {
	if r.kind == '>' {
		return !subscription(r.first)
	}
	if r.kind != '*' || !subscribed {
		return false
	}
	switch r.first {
	case "message", "pmessage", "smessage":
		return true
	}
	return false
}

// subscription is whether name says that one channel was subscribed or left.
func subscription(name string) bool {
	switch name {
	case "subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe":
		return true
	}
	return false
}

// copyReply copies one reply from in to out. It writes nothing before in has a byte.
func copyReply(in *bufio.Reader, out io.Writer) (*reply, error) {
	r := &reply{}
	for {
		attribute, err := r.frame(in, out, 0, 0)
		if err != nil {
			return nil, err
		}
		if !attribute {
			return r, nil
		}
		*r = reply{size: r.size} // what follows is the reply
	}
}

// frame copies one value: the at-th element of what lies depth above. It reports an attribute, which is
// followed by the value that it belongs to.
func (r *reply) frame(in *bufio.Reader, out io.Writer, depth, at int) (attribute bool, err error) {
	line, err := readLine(in)
	if err != nil {
		if depth > 0 {
			err = unexpected(err)
		}
		return false, err
	}
	if depth > maxDepth || len(line) < 3 {
		return false, errProtocol
	}
	r.size += int64(len(line))
	kind := line[0]
	text := strings.TrimRight(string(line[1:min(len(line), keptBytes)]), "\r\n")
	if _, err := out.Write(line); err != nil {
		return false, err
	}
	if depth == 0 {
		r.kind = kind
	}
	switch kind {
	case '+', ':', ',', '#', '(', '_', '-':
		r.note(kind, text, kind == '_', depth, at)
		return false, nil
	case '$', '=', '!':
		return false, r.bulk(in, out, kind, text, depth, at)
	case '*', '~', '>', '%', '|':
		n, ok := number([]byte(text))
		if !ok || n > maxBulk {
			return false, errProtocol
		}
		if kind == '%' || kind == '|' {
			n *= 2
		}
		if depth == 0 {
			r.null = n <= 0
		}
		for i := range max(n, 0) {
			if _, err := r.frame(in, out, depth+1, int(min(i, 1))); err != nil {
				return false, err
			}
		}
		return kind == '|', nil
	}
	return false, errProtocol
}

// bulk copies a value of a stated length.
func (r *reply) bulk(in *bufio.Reader, out io.Writer, kind byte, text string, depth, at int) error {
	n, ok := number([]byte(text))
	if !ok || n > maxBulk {
		return errProtocol
	}
	if n < 0 {
		r.note(kind, "", true, depth, at)
		return nil
	}
	r.size += n + 2
	head := make([]byte, min(n, keptBytes))
	if _, err := io.ReadFull(in, head); err != nil {
		return unexpected(err)
	}
	if _, err := out.Write(head); err != nil {
		return err
	}
	if _, err := io.CopyN(out, in, n-int64(len(head))+2); err != nil {
		return unexpected(err)
	}
	r.note(kind, string(head), false, depth, at)
	return nil
}

// note keeps what is needed of a value that has no elements.
func (r *reply) note(kind byte, text string, null bool, depth, at int) {
	failed := kind == '-' || kind == '!'
	switch {
	case depth == 0:
		r.null = null
		if failed {
			r.err = text
		}
	case depth == 1 && failed:
		r.inner++
	case depth == 1 && at == 0:
		r.first = text[:min(len(text), 64)]
	}
}
