package push

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// A wire is a network inside a synctest bubble: what is dialed there is accepted, and nothing takes time.
type wire struct {
	conns chan net.Conn
	over  chan struct{}
	end   func()
}

// newWire has everything that s dials arrive at one listener, past the bound on connections.
func newWire(s *Sender) *wire {
	w := &wire{conns: make(chan net.Conn), over: make(chan struct{})}
	w.end = sync.OnceFunc(func() { close(w.over) })
	s.transport.DialContext = w.dial
	return w
}

func (w *wire) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case w.conns <- far:
		return near, nil
	case <-w.over:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (w *wire) Accept() (net.Conn, error) {
	select {
	case conn := <-w.conns:
		return conn, nil
	case <-w.over:
		return nil, net.ErrClosed
	}
}

func (w *wire) Close() error   { w.end(); return nil }
func (w *wire) Addr() net.Addr { return &net.TCPAddr{} }

// serveWired is serve for what s sends inside a bubble.
func serveWired(t *testing.T, s *Sender, f http.HandlerFunc) string {
	t.Helper()
	server, listener := &http.Server{Handler: f, ReadHeaderTimeout: time.Minute}, newWire(s)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	return "http://wired"
}
