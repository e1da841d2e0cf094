package mux

import (
	"bytes"
	"context"
	"net"
	"testing"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// FuzzScanner cuts what a server sends at every place in turn: the replies must end at the same bytes.
func FuzzScanner(f *testing.F) {
	for _, seed := range []string{
		"+OK\r\n", "-ERR x\r\n:1\r\n", "$-1\r\n$0\r\n\r\n", "*2\r\n$1\r\na\r\n*0\r\n", "*-1\r\n", "%1\r\n+a\r\n_\r\n", "$5\r\nhel",
		"*1\r\n*1\r\n*1\r\n:1\r\n", "$x\r\n", ">2\r\n+a\r\n+b\r\n", "=4\r\ntxt:\r\n", "*1000000000000\r\n", "$--1\r\n",
	} {
		f.Add([]byte(seed), 1)
	}
	ends := func(b []byte, piece int) (at []int, broken bool) {
		var s scanner
		for start := 0; start < len(b); {
			n, ev := s.scan(b[start:min(len(b), start+piece)])
			start += n
			switch ev {
			case ended:
				at = append(at, start)
			case bad:
				return at, true
			case more:
			}
		}
		return at, false
	}
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		if piece < 1 || piece > 1<<20 {
			return
		}
		whole, badWhole := ends(b, len(b)+1)
		cut, badCut := ends(b, piece)
		if badWhole != badCut || len(whole) != len(cut) {
			t.Fatalf("%q in pieces of %d: %v %t, whole %v %t", b, piece, cut, badCut, whole, badWhole)
		}
		for i := range whole {
			if whole[i] != cut[i] {
				t.Fatalf("%q in pieces of %d: %v, whole %v", b, piece, cut, whole)
			}
		}
	})
}

// FuzzParseCommand: whatever a client writes, a command that is found encodes to the bytes it took.
func FuzzParseCommand(f *testing.F) {
	for _, seed := range []string{"*1\r\n$4\r\nPING\r\n", "*0\r\n", "*-1\r\n", "PING\r\n", "*1\r\n$-1\r\n", "*2\r\n$1\r\na\r\n$0\r\n\r\n", "*1\r\n$1\r\nab\r\n", "*01\r\n$01\r\na\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		args, n, err := ParseCommand(b, nil)
		if n < 0 || n > len(b) || err != nil && n != 0 {
			t.Fatalf("%q: %d, %v", b, n, err)
		}
		if len(args) == 0 || n == 0 {
			return
		}
		c := &flight{}
		if err := c.append(&command{}, args); err != nil {
			t.Fatal(err)
		}
		again, m, err := ParseCommand(c.req, nil)
		if err != nil || m != len(c.req) || len(again) != len(args) {
			t.Fatalf("%q became %q: %d, %v", b, c.req, m, err)
		}
		for i := range args {
			if !bytes.Equal(args[i], again[i]) {
				t.Fatalf("argument %d of %q: %q", i, b, again[i])
			}
		}
	})
}

// FuzzConn writes anything to an in-process connection: nothing but allowed commands may leave.
func FuzzConn(f *testing.F) {
	f.Add([]byte("*1\r\n$7\r\nMONITOR\r\n*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n"))
	f.Add([]byte("*1\r\n$5\r\nMULTI\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n*1\r\n$4\r\nEXEC\r\n"))
	f.Add([]byte("*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := New(Options{Dial: func(context.Context) (net.Conn, error) { return nil, net.ErrClosed }})
		if err != nil {
			t.Fatal(err)
		}
		w := m.newWire(nil) // takes everything, writes nothing
		m.main.Store(w)
		c := m.Conn(meter.Cache)
		_, _ = c.Write(b)
		multi := false
		for _, cmd := range w.outCmds {
			multi = cmd.name == "multi" || multi && cmd.name != "exec"
			inside := multi && cmd.category == Blocking || cmd.name == "multi" || cmd.name == "exec" || multi && cmd.name == "unwatch"
			if !cmd.category.Shared() && !inside {
				t.Fatalf("%q let %s through", b, cmd.name)
			}
		}
		if multi {
			t.Fatalf("%q left a transaction open on the shared connection", b)
		}
	})
}
