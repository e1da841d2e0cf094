package upstream

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"slices"
	"time"
)

// part closes conn at once for everybody here, and calls free, which gives its place back, when the
// server has closed its side too, at the latest after the registry's patience. Until then the server still counts
// the connection: whoever took the place earlier would make one too many. A second handle on the socket
// waits for that.
func (r *registry) part(conn net.Conn, free func()) error {
	handle := second(conn)
	err := conn.Close()
	if handle == nil {
		free()
		return err
	}
	r.mu.Lock()
	waits := !r.ended && handle.SetReadDeadline(time.Now().Add(r.patience)) == nil
	if waits {
		r.parting = append(r.parting, handle)
		r.farewells.Add(1)
	}
	r.mu.Unlock()
	if !waits {
		_ = handle.Close()
		free()
		return err
	}
	go func() {
		defer r.farewells.Done()
		_, _ = io.Copy(io.Discard, handle) // until the server has nothing more to say either
		r.mu.Lock()
		r.parting = slices.DeleteFunc(r.parting, func(h *os.File) bool { return h == handle })
		r.mu.Unlock()
		_ = handle.Close()
		free()
	}()
	return err
}

// second is another handle on the socket of conn, which keeps it open until it is closed itself, and says
// to the server that nothing more will come. It is nil where there is no socket, or no way to have two
// handles. The handle stays a file: making a connection of it would have the socket block for a moment,
// and whoever reads from it then would not be woken by Close.
func second(conn net.Conn) *os.File {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	socket, ok := conn.(interface {
		File() (*os.File, error)
		CloseWrite() error
	})
	if !ok {
		return nil
	}
	handle, err := socket.File()
	if err != nil {
		return nil
	}
	if socket.CloseWrite() != nil {
		_ = handle.Close()
		return nil
	}
	return handle
}

// An attempt is what came of trying to connect.
type attempt struct {
	conn net.Conn
	err  error
}

// connect makes one connection for a place that the caller has. When ctx ends meanwhile the caller goes
// on at once, but the server may have the connection already: another place is taken until that is known.
func (u *Upstream) connect(ctx context.Context, addr string) (net.Conn, error) {
	dialing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	made := make(chan attempt, 1)
	go func() {
		conn, err := u.dialOnce(dialing, addr)
		made <- attempt{conn, err}
	}()
	select {
	case a := <-made:
		cancel()
		return a.conn, a.err
	case <-ctx.Done():
	}
	if r := u.conns; r.expect() {
		go func() {
			defer r.farewells.Done()
			r.abandon(made, cancel)
		}()
	} else {
		cancel()
		if a := <-made; a.conn != nil {
			_ = a.conn.Close()
		}
	}
	return nil, &net.OpError{Op: "dial", Net: u.target.network, Err: ctx.Err()}
}

// expect takes the place of an attempt that nobody waits for any more, unless it is too late for that.
func (r *registry) expect() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return false
	}
	r.dialing++
	r.abandoned++
	r.farewells.Add(1)
	return true
}

// abandon waits a moment for such an attempt.
func (r *registry) abandon(made <-chan attempt, cancel func()) {
	defer cancel()
	timer := time.NewTimer(r.patience)
	defer timer.Stop()
	var a attempt
	select {
	case a = <-made:
	case <-timer.C:
		cancel()
		a = <-made
	case <-r.closing:
		cancel()
		a = <-made
	}
	free := func() {
		r.mu.Lock()
		r.abandoned--
		r.mu.Unlock()
		r.release()
	}
	if a.conn == nil {
		free()
		return
	}
	_ = r.part(a.conn, free)
}

// anyParting is whether a place is about to come free.
func (r *registry) anyParting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.parting)+r.abandoned > 0
}

// end makes connections part without waiting for the server, those that wait already included.
func (r *registry) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	r.ended = true
	close(r.closing)
	for _, h := range r.parting {
		_ = h.SetReadDeadline(time.Now())
	}
}

// wait waits for the farewells; after end that takes no time.
func (r *registry) wait() { r.farewells.Wait() }
