package mux

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// Two who write at once would send commands twice. On a connection that was just made nobody has the turn:
// the writer, which has just begun too, must not take it from whoever flushes first.
func TestTheWriterOfANewConnectionWritesNothingBeforeItHasTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := New(Options{Dial: func(context.Context) (net.Conn, error) { return nil, errors.New("not dialed") }})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = m.Close() }()
		ours, theirs := net.Pipe()
		defer func() { _ = theirs.Close() }()
		w := m.newWire(ours)
		f := m.newFlight()
		f.req, f.component = append(f.req, "*1\r\n$4\r\nPING\r\n"...), meter.Gateway
		f.cmds = append(f.cmds, sentCommand{size: int32(len(f.req))})
		if _, err := w.put(f, false); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			w.write()
		}()
		synctest.Wait()
		w.mu.Lock()
		if len(w.out) == 0 || !w.idle {
			t.Errorf("%d bytes are left and idle is %t: the writer took them without the turn", len(w.out), w.idle)
		}
		w.mu.Unlock()
		w.fail(errors.New("over"))
		<-ended
	})
}
