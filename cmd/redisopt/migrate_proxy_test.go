package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A moment is when the proxy acts on the command that it waits for.
type moment int

const (
	beforeForwarding moment = iota // the server never sees it
	beforeTheReply                 // the server ran it, the client never hears
)

// A killProxy stands between one client process and a real Redis and calls kill at one script call: all
// that a migration changes, and every entry of its journal's mirror, is one.
type killProxy struct {
	addr string // where the client connects
	to   string

	mu    sync.Mutex
	calls int    // script calls seen
	at    int    // the call to act on, counted from 0; negative: never
	when  moment // of that call
	kill  func()
	dead  bool
	conns []net.Conn
	wait  sync.WaitGroup
}

// startProxy listens on loopback until the test ends.
func startProxy(t *testing.T, to string, at int, when moment) *killProxy {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &killProxy{addr: l.Addr().String(), to: to, at: at, when: when, kill: func() {}}
	p.wait.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.wait.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.closeAll()
		p.wait.Wait()
	})
	return p
}

func (p *killProxy) url() string { return "redis://" + p.addr }

// seen is how many script calls came by.
func (p *killProxy) seen() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

func (p *killProxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
}

// die kills the client, once, and lets nothing through any more.
func (p *killProxy) die() {
	p.mu.Lock()
	if p.dead {
		p.mu.Unlock()
		return
	}
	p.dead = true
	kill := p.kill
	p.mu.Unlock()
	kill()
	p.closeAll()
}

// act counts one script call and tells whether it is the one.
func (p *killProxy) act() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	return p.calls-1 == p.at
}

func (p *killProxy) serve(client net.Conn) {
	server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", p.to)
	if err != nil {
		_ = client.Close()
		return
	}
	p.mu.Lock()
	p.conns = append(p.conns, client, server)
	dead := p.dead
	p.mu.Unlock()
	if dead {
		p.closeAll()
		return
	}
	armed := make(chan struct{}) // closed when the next reply must not arrive
	p.wait.Go(func() { p.replies(client, server, armed) })
	in := bufio.NewReader(client)
	for {
		raw, name, err := readCommand(in)
		if err != nil {
			_ = server.Close()
			return
		}
		if strings.HasPrefix(name, "EVAL") && p.act() {
			if p.when == beforeForwarding {
				p.die()
				return
			}
			close(armed)
		}
		if _, err := server.Write(raw); err != nil {
			return
		}
	}
}

// replies copies what the server says until armed is closed; what comes then is kept from the client.
// A client that runs one command at a time has nothing else outstanding.
func (p *killProxy) replies(client, server net.Conn, armed <-chan struct{}) {
	defer func() { _ = client.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if n > 0 {
			select {
			case <-armed:
				p.die()
				return
			default:
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

// readCommand reads one command as clients send them and returns its bytes and its name in capitals.
func readCommand(in *bufio.Reader) (raw []byte, name string, err error) {
	var out bytes.Buffer
	head, err := in.ReadString('\n')
	if err != nil {
		return nil, "", err
	}
	out.WriteString(head)
	n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(head, "*")))
	if err != nil || !strings.HasPrefix(head, "*") {
		return nil, "", fmt.Errorf("not a command: %q", head)
	}
	for i := range n {
		size, err := in.ReadString('\n')
		if err != nil {
			return nil, "", err
		}
		out.WriteString(size)
		length, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(size, "$")))
		if err != nil || length < 0 {
			return nil, "", errors.New("not an argument: " + size)
		}
		arg := make([]byte, length+2)
		if _, err := io.ReadFull(in, arg); err != nil {
			return nil, "", err
		}
		out.Write(arg)
		if i == 0 {
			name = strings.ToUpper(string(arg[:length]))
		}
	}
	return out.Bytes(), name, nil
}
