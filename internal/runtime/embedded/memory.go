package embedded

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// refuseFor is how long a refused connection may take to read why.
const refuseFor = time.Second

// memory is the in-process Redis: our own listener and connections in front of miniredis' commands.
type memory struct {
	db    *miniredis.Miniredis
	srv   *server.Server
	addr  string
	plan  Plan
	quota quota
	stats *stats
	clock clock
	luas  luas
	begun time.Time
	runID string

	listener net.Listener
	wg       sync.WaitGroup

	// script is the peer of the in-script command that runs now. Scripts run one at a time under
	// miniredis' lock, which guards it.
	script *server.Peer

	mu     sync.Mutex
	closed bool
	nextID int64
	conns  map[int64]*conn
	top    map[*server.Peer]struct{} // peers that are not a script's
}

func startMemory(ctx context.Context, opts Options) (*memory, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", opts.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w; leave the port out (127.0.0.1:0) to get a free one", opts.Addr, err)
	}
	m := &memory{
		db:       miniredis.NewMiniRedis(),
		addr:     l.Addr().String(),
		plan:     opts.Plan,
		stats:    newStats(),
		begun:    time.Now(),
		runID:    newRunID(),
		listener: l,
		conns:    map[int64]*conn{},
		top:      map[*server.Peer]struct{}{},
	}
	m.quota.limit = opts.Plan.MonthlyCommands
	m.clock.db = m.db
	// Dialling in memory starts miniredis without a listener of its own.
	pipe, err := m.db.Dial()
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("start the store: %w", err)
	}
	_ = pipe.Close()
	m.srv = m.db.Server()
	m.srv.SetPreHook(m.inScript)
	m.wg.Go(m.accept)
	return m, nil
}

func (m *memory) accept() {
	for {
		nc, err := m.listener.Accept()
		if err != nil {
			return
		}
		m.serve(nc)
	}
}

// serve makes nc a client, or tells it why not.
func (m *memory) serve(nc net.Conn) {
	m.stats.connections.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	c, refusal := m.admit(nc)
	if refusal != "" {
		m.stats.refused.Add(1)
		m.wg.Go(func() { refuse(nc, refusal) })
		return
	}
	c.start()
}

// admit makes nc a client, or says with which text to turn it away. m.mu is held, so that nothing
// starts once close has begun.
func (m *memory) admit(nc net.Conn) (*conn, string) {
	switch limit := m.plan.MaxConnections; {
	case m.closed:
		return nil, "ERR server is closing"
	case limit > 0 && len(m.conns) >= limit:
		return nil, errConnectionCap
	case len(m.conns) >= defaultMaxClients:
		return nil, errMaxClients
	}
	m.nextID++
	c := newConn(m, nc, m.nextID)
	m.conns[c.id] = c
	m.top[c.peer] = struct{}{}
	return c, ""
}

// refuse answers with text and closes. It reads what the client sends until the client hangs up:
// closing over unread input would reset the connection, and the client would never see the text.
func refuse(nc net.Conn, text string) {
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(refuseFor)); err != nil {
		return
	}
	if _, err := io.WriteString(nc, "-"+text+"\r\n"); err != nil {
		return
	}
	if half, ok := nc.(interface{ CloseWrite() error }); ok {
		if err := half.CloseWrite(); err != nil {
			return
		}
	}
	_, _ = io.Copy(io.Discard, nc)
}

// forget takes a connection off the list of clients.
func (m *memory) forget(c *conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.conns, c.id)
}

// retire is called when nothing runs for the connection any more.
func (m *memory) retire(c *conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.top, c.peer)
}

// clients are the connections in order of arrival.
func (m *memory) clients() []*conn {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.Collect(maps.Values(m.conns))
	slices.SortFunc(all, func(a, b *conn) int { return int(a.id - b.id) })
	return all
}

func (m *memory) isTop(p *server.Peer) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.top[p]
	return ok
}

// ask runs one command for the server itself, unseen by counters and plan, and returns the raw reply.
func (m *memory) ask(args ...string) string {
	var out replyBuffer
	p := server.NewPeer(bufio.NewWriter(&out))
	m.mu.Lock()
	m.top[p] = struct{}{}
	m.mu.Unlock()
	m.srv.Dispatch(p, args)
	p.Flush()
	m.mu.Lock()
	delete(m.top, p)
	m.mu.Unlock()
	return string(out)
}

// wake makes blocked commands look whether their client is still there: every finished command wakes
// them, so any does.
func (m *memory) wake() { m.ask("ECHO", "wake") }

func (m *memory) close() {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		m.wg.Wait()
		return
	}
	m.closed = true
	m.mu.Unlock()
	_ = m.listener.Close()
	for _, c := range m.clients() {
		c.kill()
	}
	m.wg.Wait()
	m.db.Close()
}

// replyBuffer collects a reply.
type replyBuffer []byte

func (b *replyBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

// A memoryConn is the server's end of a connection in memory, with the addresses it pretends.
type memoryConn struct {
	net.Conn
	local, remote net.Addr
}

func (c memoryConn) LocalAddr() net.Addr  { return c.local }
func (c memoryConn) RemoteAddr() net.Addr { return c.remote }

func (m *memory) dialFrom(from netip.AddrPort) (net.Conn, error) {
	m.mu.Lock()
	closed := m.closed
	m.mu.Unlock()
	if closed {
		return nil, net.ErrClosed
	}
	theirs, ours := net.Pipe()
	m.serve(memoryConn{Conn: ours, local: m.listener.Addr(), remote: net.TCPAddrFromAddrPort(from)})
	return theirs, nil
}
