package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A cut is what happens to the network.
type cut int

const (
	cutReset  cut = iota // connections are reset, new ones work
	cutClosed            // connections end in order, new ones work
	cutSilent            // nothing arrives any more, either way, and nobody says so; new connections are as silent
	cutNoWay             // connections are reset, and for a while new ones are too
	cutHalf              // what the program sends arrives, what it is answered does not
)

func (c cut) String() string {
	return [...]string{"reset", "closed", "silent", "refused for a while", "answers lost"}[c]
}

// A wire is the network between one program and one Redis. It is told what to do at which command.
type wire struct {
	addr string
	to   string

	mu    sync.Mutex
	watch func(command []string) (drop bool) // called before a command is passed on
	gate  func() (drop bool)                 // called before an answer is passed on; nil: every one is
	mute  map[bool]bool                      // by direction (true: to the server), what is swallowed
	deny  bool                               // new connections are reset
	conns map[net.Conn]bool
	wait  sync.WaitGroup
}

// newWire listens on loopback until the test ends.
func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{addr: l.Addr().String(), to: to, mute: map[bool]bool{}, conns: map[net.Conn]bool{}}
	w.wait.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			w.wait.Go(func() { w.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		w.drop(false)
		w.wait.Wait()
	})
	return w
}

func (w *wire) url() string { return "redis://" + w.addr }

// on has watch asked before every command, and nothing else from now on.
func (w *wire) on(watch func(command []string) (drop bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watch, w.gate = watch, nil
}

// hold has gate asked before every answer.
func (w *wire) hold(gate func() (drop bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gate = gate
}

// drop ends all connections, by a reset or in order.
func (w *wire) drop(reset bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		if tcp, ok := c.(*net.TCPConn); ok && reset {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
	clear(w.conns)
}

// strike cuts the network.
func (w *wire) strike(c cut) {
	w.mu.Lock()
	switch c {
	case cutSilent:
		w.mute[true], w.mute[false] = true, true
	case cutHalf:
		w.mute[false] = true
	case cutNoWay:
		w.deny = true
	case cutReset, cutClosed:
	}
	w.mu.Unlock()
	if c == cutReset || c == cutClosed || c == cutNoWay {
		w.drop(c != cutClosed)
	}
}

// heal makes the network whole: what was swallowed is lost, as are the connections that it was lost on.
func (w *wire) heal() {
	w.mu.Lock()
	silent := w.mute[true] || w.mute[false]
	w.deny, w.watch, w.gate = false, nil, nil
	clear(w.mute)
	w.mu.Unlock()
	if silent {
		w.drop(true)
	}
}

// keep notes a connection, and tells whether it may be used.
func (w *wire) keep(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deny {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
		return false
	}
	w.conns[c] = true
	return true
}

func (w *wire) forget(conns ...net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
		delete(w.conns, c)
	}
}

func (w *wire) serve(client net.Conn) {
	if !w.keep(client) {
		return
	}
	server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", w.to)
	if err != nil {
		w.forget(client)
		return
	}
	if !w.keep(server) {
		w.forget(client)
		return
	}
	defer w.forget(client, server)
	w.wait.Go(func() {
		defer w.forget(client, server)
		w.answers(client, server)
	})
	in := bufio.NewReader(client)
	for {
		raw, command, err := readWords(in)
		if err != nil {
			return
		}
		w.mu.Lock()
		watch := w.watch
		w.mu.Unlock()
		if watch != nil && watch(command) {
			return
		}
		if w.swallows(true) {
			continue
		}
		if _, err := server.Write(raw); err != nil {
			return
		}
	}
}

func (w *wire) swallows(toServer bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mute[toServer]
}

// answers copies what the server says.
func (w *wire) answers(client, server net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if n > 0 {
			w.mu.Lock()
			gate := w.gate
			w.mu.Unlock()
			if gate != nil && gate() {
				return
			}
			if w.swallows(false) {
				continue
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// readWords reads one command as clients send them: its bytes, and its words.
func readWords(in *bufio.Reader) (raw []byte, words []string, err error) {
	size := func(mark byte) (int, error) {
		line, err := in.ReadString('\n')
		if err != nil {
			return 0, err
		}
		raw = append(raw, line...)
		if line[0] != mark {
			return 0, strconv.ErrSyntax
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := size('*')
	if err != nil {
		return nil, nil, err
	}
	for range n {
		length, err := size('$')
		if err != nil {
			return nil, nil, err
		}
		word := make([]byte, length+2)
		if _, err := io.ReadFull(in, word); err != nil {
			return nil, nil, err
		}
		raw, words = append(raw, word...), append(words, string(word[:length]))
	}
	return raw, words, nil
}

// journalWrite is the number of the journal's entry that command mirrors in key, 0 when it does not.
func journalWrite(command []string, key string) int {
	if len(command) < 5 || !strings.HasPrefix(strings.ToUpper(command[0]), "EVAL") || command[3] != key {
		return 0
	}
	keys, err := strconv.Atoi(command[2])
	if err != nil || len(command) < 5+keys {
		return 0
	}
	n, err := strconv.Atoi(command[3+keys])
	if err != nil {
		return 0
	}
	return n
}
