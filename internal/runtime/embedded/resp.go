package embedded

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// What Redis accepts in one command.
const (
	maxArgs      = 1 << 20
	maxBulk      = 512 << 20
	maxLine      = 64 << 10
	trustedAlloc = 1 << 20 // allocated on the sender's word; more only as it arrives
)

// A protocolError is what the peer did wrong; its text goes out to the peer.
type protocolError string

func (e protocolError) Error() string { return "Protocol error: " + string(e) }

// readCommand reads one command, as an array of bulk strings or as an inline line. It returns no
// arguments and no error for an empty one, which Redis ignores.
func readCommand(r *bufio.Reader) ([]string, int, error) {
	line, err := readLine(r)
	if err != nil {
		return nil, 0, err
	}
	size := len(line) + 2
	if !strings.HasPrefix(line, "*") {
		return strings.Fields(line), size, nil
	}
	n, err := strconv.Atoi(line[1:])
	if err != nil || n > maxArgs {
		return nil, size, protocolError("invalid multibulk length")
	}
	if n <= 0 {
		return nil, size, nil
	}
	args := make([]string, 0, min(n, 64))
	for range n {
		line, err := readLine(r)
		if err != nil {
			return nil, size, unexpected(err)
		}
		if !strings.HasPrefix(line, "$") {
			return nil, size, protocolError(fmt.Sprintf("expected '$', got '%.1s'", line))
		}
		length, err := strconv.Atoi(line[1:])
		if err != nil || length < 0 || length > maxBulk {
			return nil, size, protocolError("invalid bulk length")
		}
		arg, err := readBulk(r, length)
		if err != nil {
			return nil, size, err
		}
		size += len(line) + 2 + length + 2
		args = append(args, arg)
	}
	return args, size, nil
}

func readBulk(r *bufio.Reader, length int) (string, error) {
	var buf bytes.Buffer
	buf.Grow(min(length, trustedAlloc))
	if _, err := io.CopyN(&buf, r, int64(length)); err != nil {
		return "", unexpected(err)
	}
	var end [2]byte
	if _, err := io.ReadFull(r, end[:]); err != nil {
		return "", unexpected(err)
	}
	if end != [2]byte{'\r', '\n'} {
		return "", protocolError("bulk string does not end with CRLF")
	}
	return buf.String(), nil
}

// readLine reads up to a line feed, which is taken off with the carriage return before it.
func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLine {
			return "", protocolError("too big inline request")
		}
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if len(line) > 0 {
				err = unexpected(err)
			}
			return "", err
		}
	}
	line = bytes.TrimSuffix(line[:len(line)-1], []byte{'\r'})
	return string(line), nil
}

// unexpected turns the end of input inside a command into an error of its own.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
