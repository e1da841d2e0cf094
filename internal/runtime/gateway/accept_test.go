package gateway

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"
)

// A scarce listener has a hundred connections, then a moment without descriptors, and then its end.
type scarce struct {
	net.Listener
	calls int
}

func (s *scarce) Accept() (net.Conn, error) {
	switch s.calls++; {
	case s.calls <= 100:
		return new(net.TCPConn), nil
	case s.calls == 101:
		return nil, errors.New("accept: too many open files")
	}
	return nil, net.ErrClosed
}

// Connections that loops took must not make the pause longer that follows when there are no descriptors.
func TestAMomentWithoutDescriptorsIsShortAfterManyConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := &loops{s: &fastServer{g: &Gateway{}}, srv: &fasthttp.Server{}, all: []*loop{{}}} // it takes all, and refuses them
		begin := time.Now()
		if nc, err := (&listener{Listener: &scarce{}, loops: full}).Accept(); err == nil {
			t.Errorf("Accept = %v, want the end", nc)
		}
		if took := time.Since(begin); took != acceptPause {
			t.Errorf("it paused %s, want %s", took, acceptPause)
		}
	})
}
