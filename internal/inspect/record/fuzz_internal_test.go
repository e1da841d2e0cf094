package record

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func FuzzRequestsPassUnchanged(f *testing.F) {
	for _, s := range []string{
		"*1\r\n$4\r\nPING\r\n", "PING\r\n", "\r\n*0\r\n*-1\r\n", "*2\r\n$4\r\nECHO\r\n$14\r\nredisopt:test:\r\n",
		"*3\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n$1\r\n0\r\n", "*1\r\n$-1\r\n", "*9999999999999\r\n", "*2\r\n$3\r\nGET\r\n$5\r\nabc",
		"*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$3\r\nabc\r\n", "*1\r\n$3\r\nGETxx", "get a b  c\n", "*1\n$4\nPING\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bufio.NewReaderSize(bytes.NewReader(data), 64)
		var out bytes.Buffer
		w := bufio.NewWriter(&out)
		whole := false // nothing but whole commands, written the usual way
		for range 100 {
			s := &sink{out: w}
			before := out.Len() + w.Buffered()
			r, err := readRequest(in, s, func(*request) bool { return false })
			if err != nil {
				whole = whole && errors.Is(err, io.EOF)
				break
			}
			if r == nil {
				whole = false
				break
			}
			if s.release() != nil || len(r.args) > keptArgs {
				t.Fatalf("%d arguments kept of %q", len(r.args), data)
			}
			_, _ = w.WriteString("\r\n")
			whole = int64(out.Len()+w.Buffered()-before) == r.size
			if !whole {
				break
			}
			name := r.name()
			if name != "?" && strings.ContainsAny(name, "\r\n ") {
				t.Errorf("name %q", name)
			}
			if got := prefixOf(r.firstKey(name)); len(got) > maxNameBytes {
				t.Errorf("prefix of %d bytes", len(got))
			}
		}
		_ = w.Flush()
		if whole && !bytes.Equal(data, out.Bytes()) {
			t.Errorf("%q passed as %q", data, out.Bytes())
		}
	})
}

func FuzzRepliesPassUnchanged(f *testing.F) {
	for _, s := range []string{
		"+OK\r\n", "-ERR no\r\n", ":1\r\n", "$-1\r\n", "$3\r\nabc\r\n", "*-1\r\n", "*2\r\n$1\r\na\r\n:1\r\n", ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n",
		"%1\r\n+a\r\n:1\r\n", "|1\r\n+a\r\n:1\r\n+OK\r\n", "_\r\n", "#t\r\n", "(123\r\n", "=5\r\ntxt:a\r\n", "!5\r\nERR a\r\n", "*99999999999\r\n",
		strings.Repeat("*1\r\n", 200),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bufio.NewReaderSize(bytes.NewReader(data), 64)
		var out bytes.Buffer
		size := int64(0)
		for range 100 {
			r, err := copyReply(in, &out)
			if err != nil {
				break
			}
			size += r.size
			if len(r.err) > keptBytes || len(r.first) > 64 {
				t.Errorf("too much kept of %q", data)
			}
		}
		if !bytes.HasPrefix(data, out.Bytes()) && !bytes.Contains(data, []byte("\n")) {
			t.Errorf("%q passed as %q", data, out.Bytes())
		}
		if size > int64(out.Len()) {
			t.Errorf("%d bytes counted, %d passed", size, out.Len())
		}
	})
}

func FuzzMarks(f *testing.F) {
	for _, s := range []string{"redisopt:test:a", "redisopt:test/conn:", "redisopt:source:x", "redisopt:", "redisopt:test", "redisopt:source/all:x", "redisopt:test/:a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, ok := ParseMark(text)
		if ok && (!strings.HasPrefix(text, markPrefix) || len(m.Name) > maxNameBytes+3) {
			t.Errorf("ParseMark(%q) = %+v", text, m)
		}
		if l, ok := parseHTTPName(HTTPClientName(Label{Source: text, Test: text, Process: 7})); !ok || len(text) < maxNameBytes && l.Source != strings.ToValidUTF8(text, "\uFFFD") {
			t.Errorf("label of %q came back as %+v", text, l)
		}
	})
}
