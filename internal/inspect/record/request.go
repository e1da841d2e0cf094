package record

import (
	"bufio"
	"bytes"
	"crypto/sha1" //nolint:gosec // Redis names scripts by SHA-1
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"strconv"
	"strings"
)

// What is read of a command, and what Redis accepts.
const (
	maxLine   = 64 << 10
	maxArgs   = 1 << 20
	maxBulk   = 512 << 20
	keptArgs  = 16
	keptBytes = 512
	maxHeld   = 64 << 10 // of a command that may be a mark
	maxVerb   = 32
)

var errProtocol = errors.New("what came is no RESP")

// A request is what is kept of one command: its first arguments, each cut to keptBytes.
type request struct {
	args  [][]byte
	count int    // all arguments, the name included
	size  int64  // bytes on the wire
	sha   string // of the script that EVAL or SCRIPT LOAD carries
}

// name is the command as INFO commandstats spells it.
func (r *request) name() string {
	if len(r.args) == 0 {
		return "?"
	}
	verb := word(r.args[0])
	if len(r.args) > 1 && container(verb) {
		return verb + "|" + word(r.args[1])
	}
	return verb
}

// word is b in lower case, or "?" where it cannot be the name of a command.
func word(b []byte) string {
	if len(b) == 0 || len(b) > maxVerb {
		return "?"
	}
	for _, c := range b {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return "?"
		}
	}
	return strings.ToLower(string(b))
}

// container is whether INFO commandstats counts the subcommands of verb apart.
func container(verb string) bool {
	switch verb {
	case "acl", "client", "cluster", "command", "config", "function", "latency", "memory", "module", "object",
		"pubsub", "script", "slowlog", "xgroup", "xinfo":
		return true
	}
	return false
}

// A sink is where the bytes of a command go.
type sink struct {
	out  *bufio.Writer
	held *bytes.Buffer // not nil while it is open whether the command is passed on
	drop bool          // it is not
}

func (s *sink) Write(p []byte) (int, error) {
	switch {
	case s.drop:
		return len(p), nil
	case s.held != nil:
		return s.held.Write(p)
	}
	return s.out.Write(p)
}

// release passes on what was held.
func (s *sink) release() error {
	if s.held == nil {
		return nil
	}
	held := s.held
	s.held = nil
	_, err := s.Write(held.Bytes())
	return err
}

// readRequest reads one command and passes its bytes on, but for the last line break, without which the
// server cannot answer: the caller books the command first and then writes it. It holds the bytes back as
// long as hold says so, which is asked once the name is known; nil is returned for an empty command.
func readRequest(in *bufio.Reader, s *sink, hold func(*request) bool) (*request, error) {
	line, err := readLine(in)
	if err != nil {
		return nil, err
	}
	r := &request{size: int64(len(line))}
	s.held = &bytes.Buffer{}
	if line[0] != '*' {
		return readInline(line, s, r, hold)
	}
	n, ok := number(line[1:])
	if !ok || n > maxArgs {
		return nil, errProtocol
	}
	if n <= 0 {
		return nil, nil //nolint:nilnil // the server ignores it, too
	}
	r.count = int(n)
	_, _ = s.Write(line)
	for i := range r.count {
		if err := r.readArg(in, s, i, hold); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func readInline(line []byte, s *sink, r *request, hold func(*request) bool) (*request, error) {
	fields := bytes.Fields(line)
	if len(fields) == 0 {
		return nil, nil //nolint:nilnil // the server ignores it, too
	}
	r.count = len(fields)
	for i := range min(len(fields), keptArgs) {
		r.args = append(r.args, bytes.Clone(fields[i][:min(len(fields[i]), keptBytes)]))
	}
	_, _ = s.Write(bytes.TrimRight(line, "\r\n"))
	if !hold(r) {
		return r, s.release()
	}
	return r, nil
}

// readArg reads the argument number i.
func (r *request) readArg(in *bufio.Reader, s *sink, i int, hold func(*request) bool) error {
	line, err := readLine(in)
	if err != nil {
		return unexpected(err)
	}
	n, ok := number(line[1:])
	if line[0] != '$' || !ok || n < 0 || n > maxBulk {
		return errProtocol
	}
	r.size += int64(len(line)) + n + 2
	if s.held != nil && i > 0 && int64(s.held.Len())+n > maxHeld {
		if err := s.release(); err != nil { // too long for a mark
			return err
		}
	}
	if _, err := s.Write(line); err != nil {
		return err
	}
	if err := r.readPayload(in, s, i, n); err != nil {
		return err
	}
	var end [2]byte
	if _, err := io.ReadFull(in, end[:]); err != nil {
		return unexpected(err)
	}
	if end != [2]byte{'\r', '\n'} {
		return errProtocol
	}
	if i == 0 && !hold(r) {
		if err := s.release(); err != nil {
			return err
		}
	}
	if i < r.count-1 {
		_, err = s.Write(end[:])
	}
	return err
}

// readPayload copies n bytes and keeps what is needed of them.
func (r *request) readPayload(in *bufio.Reader, s *sink, i int, n int64) error {
	var kept []byte
	script := r.scriptAt(i)
	into := io.Writer(s)
	if script != nil {
		into = io.MultiWriter(s, script)
	}
	if i < keptArgs {
		kept = make([]byte, min(n, keptBytes))
		if _, err := io.ReadFull(in, kept); err != nil {
			return unexpected(err)
		}
		if _, err := into.Write(kept); err != nil {
			return err
		}
		r.args = append(r.args, kept)
		n -= int64(len(kept))
	}
	if n > 0 {
		if _, err := io.CopyN(into, in, n); err != nil {
			return unexpected(err)
		}
	}
	if script != nil {
		r.sha = hex.EncodeToString(script.Sum(nil))
	}
	return nil
}

// scriptAt is a hash for argument i where that is the text of a script.
func (r *request) scriptAt(i int) hash.Hash {
	switch i {
	case 1:
		if v := word(r.args[0]); v == "eval" || v == "eval_ro" {
			return sha1.New() //nolint:gosec // Redis names scripts by SHA-1
		}
	case 2:
		if r.name() == "script|load" {
			return sha1.New() //nolint:gosec // Redis names scripts by SHA-1
		}
	}
	return nil
}

// readLine reads up to and with a line feed, at most maxLine bytes. The result is good until the next
// read where it is short, and a copy where it is not.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if err == nil {
		if len(line) == 1 && line[0] == '\n' {
			return []byte("\r\n"), nil
		}
		return line, nil
	}
	whole := bytes.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		if len(whole) > maxLine {
			return nil, errProtocol
		}
		line, err = in.ReadSlice('\n')
		whole = append(whole, line...)
	}
	if err != nil && len(whole) > 0 {
		err = unexpected(err)
	}
	return whole, err
}

// number reads the digits of a length line, its line break included.
func number(b []byte) (int64, bool) {
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte{'\n'}), []byte{'\r'})
	if len(b) == 0 || len(b) > 12 {
		return 0, false
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	return n, err == nil
}

// unexpected is the end of input inside a command or reply.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
