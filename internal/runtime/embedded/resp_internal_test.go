package embedded

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestReadCommand(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     []string
		err      error
	}{
		{"an array of bulk strings", "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", []string{"GET", "k"}, nil},
		{"binary with line ends inside", "*1\r\n$4\r\n\r\n\x00\xff\r\n", []string{"\r\n\x00\xff"}, nil},
		{"an empty argument", "*2\r\n$3\r\nGET\r\n$0\r\n\r\n", []string{"GET", ""}, nil},
		{"an inline line", "SET  k v\r\n", []string{"SET", "k", "v"}, nil},
		{"an empty line", "\r\n", nil, nil},
		{"an empty array", "*0\r\n", nil, nil},
		{"nothing", "", nil, io.EOF},
		{"the end inside an array", "*2\r\n$3\r\nGET\r\n", nil, io.ErrUnexpectedEOF},
		{"the end inside a bulk string", "*1\r\n$9\r\nGET", nil, io.ErrUnexpectedEOF},
		{"the end inside a line", "*2", nil, io.ErrUnexpectedEOF},
		{"a bulk string that is longer than it says", "*1\r\n$1\r\nGET\r\n", nil, protocolError("bulk string does not end with CRLF")},
		{"a line without end", strings.Repeat("x", maxLine+2), nil, protocolError("too big inline request")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, _, err := readCommand(bufio.NewReader(strings.NewReader(tc.in)))
			if !errors.Is(err, tc.err) {
				t.Fatalf("readCommand: error %v, want %v", err, tc.err)
			}
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("readCommand (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzReadCommand(f *testing.F) {
	for _, seed := range []string{"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "PING\r\n", "*1\r\n$-1\r\n", "*9999\r\n", "\n", "*1\r\n$5\r\nab"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		r := bufio.NewReader(strings.NewReader(in))
		consumed := 0
		for {
			args, size, err := readCommand(r)
			if err != nil {
				return
			}
			consumed += size
			total := 0
			for _, a := range args {
				total += len(a)
			}
			if total > len(in) || size <= 0 {
				t.Fatalf("read %d bytes of arguments, size %d, from %d bytes", total, size, len(in))
			}
			if consumed > 2*len(in)+2 {
				t.Fatalf("consumed %d of %d bytes", consumed, len(in))
			}
		}
	})
}

func TestSetsTTL(t *testing.T) {
	for _, tc := range []struct {
		command string
		want    bool
	}{
		{"SET k v", false},
		{"SET k v EX 1", true},
		{"SET k v NX px 1", true},
		{"GETEX k PERSIST", false},
		{"PEXPIRE k 1", true},
		{"GET EX", false},
	} {
		args := strings.Fields(tc.command)
		if got := setsTTL(args[0], args[1:]); got != tc.want {
			t.Errorf("setsTTL(%s) = %v, want %v", tc.command, got, tc.want)
		}
	}
}
