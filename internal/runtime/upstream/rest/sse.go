package rest

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

var errLineTooLong = errors.New("an event is longer than allowed")

// An eventReader reads a stream of server-sent events, of which only the data counts.
type eventReader struct {
	r     *bufio.Reader
	limit int
	data  []byte
}

func newEventReader(r io.Reader, limit int) *eventReader {
	return &eventReader{r: bufio.NewReader(r), limit: limit}
}

// missedComment is how a gateway of this program says that its own connection was made anew. To
// everybody else it is a comment.
const missedComment = ": messages may have been missed"

// next is the data of the next event, valid until the call after it. Its lines are joined by a line
// feed, as the specification wants. In place of an event it may say that events were missed.
func (e *eventReader) next() (data []byte, missed bool, err error) {
	e.data = e.data[:0]
	has := false
	for {
		line, err := e.line()
		if err != nil {
			return nil, false, err // an event is dispatched by the empty line after it
		}
		if len(line) == 0 {
			if has {
				return e.data, false, nil
			}
			continue
		}
		if string(line) == missedComment && !has {
			return nil, true, nil
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		if string(field) != "data" {
			continue // a comment, or a field that nothing here asks for
		}
		if has {
			e.data = append(e.data, '\n')
		}
		has = true
		if len(value) > 0 && value[0] == ' ' {
			value = value[1:]
		}
		if len(e.data)+len(value) > e.limit {
			return nil, false, errLineTooLong
		}
		e.data = append(e.data, value...)
	}
}

// line is the next line, without its end.
func (e *eventReader) line() ([]byte, error) {
	var long []byte
	for {
		part, err := e.r.ReadSlice('\n')
		if err == nil && long == nil {
			return trimEnd(part), nil
		}
		if len(long)+len(part) > e.limit {
			return nil, errLineTooLong
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		long = append(long, part...)
		if err == nil {
			return trimEnd(long), nil
		}
	}
}

func trimEnd(line []byte) []byte {
	line = bytes.TrimSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r"))
}
