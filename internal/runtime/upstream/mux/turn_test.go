package mux

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// put makes a connection to theirs, not yet run, with one command that is queued and that nobody writes.
func put(t *testing.T) (w *wire, f *flight, theirs net.Conn) {
	t.Helper()
	m, err := New(Options{Dial: func(context.Context) (net.Conn, error) { return nil, errors.New("not dialed") }})
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _, _, _ = m.Close(), ours.Close(), theirs.Close() })
	c := m.NewCall(meter.Gateway)
	if err := c.Append([]byte("INCR"), []byte("k")); err != nil {
		t.Fatal(err)
	}
	w, f = m.newWire(ours), c.f
	f.done = c.done
	if _, err := w.put(f, false); err != nil {
		t.Fatal(err)
	}
	return w, f, theirs
}

// takeTurn is what flush does before it writes.
func takeTurn(t *testing.T, w *wire) *writerTurn {
	t.Helper()
	w.mu.Lock()
	had := w.idle
	w.idle = false
	w.mu.Unlock()
	turn, err := w.take()
	if !had || turn == nil || err != nil {
		t.Fatalf("the turn was free: %t, and what is to be written is %v, %v", had, turn, err)
	}
	return turn
}

// Two who write at once would send commands twice. On a connection that was just made nobody has the turn:
// the writer, which has just begun too, must not take it from whoever flushes first.
func TestTheWriterOfANewConnectionWritesNothingBeforeItHasTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, _ := put(t)
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

// What somebody is writing when the connection ends may have arrived: were the command ended before that is
// known, it would count as never sent, and be sent again.
func TestCommandsEndOnlyWhenNobodyIsWritingThemAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f, theirs := put(t)
		turn := takeTurn(t, w)
		go w.run()
		_ = theirs.Close()
		synctest.Wait()
		if f.state.Load() != waiting {
			t.Errorf("the command ended with %v while it was being written", f.err)
		}
		w.tally.settle(len(turn.out), time.Now()) // all of it left
		turn.held = false
		w.wake <- struct{}{}
		synctest.Wait()
		if o, ok := errors.AsType[*OutcomeError](f.err); !ok || !o.Sent || retryable(f.err, f) {
			t.Errorf("the command ended with %v, which may be sent again: %t; want that it was sent", f.err, retryable(f.err, f))
		}
	})
}

// The socket took the command and then was full; the connection ends before the writer goes on.
func TestWhatLeftInAWriteThatWasCutShortCountsAsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f, _ := put(t)
		turn := takeTurn(t, w)
		turn.written = len(turn.out)
		w.fail(errors.New("over"))
		w.wake <- struct{}{}
		go w.run()
		synctest.Wait()
		if o, ok := errors.AsType[*OutcomeError](f.err); !ok || !o.Sent || retryable(f.err, f) {
			t.Errorf("the command ended with %v, which may be sent again: %t; want that it was sent", f.err, retryable(f.err, f))
		}
	})
}

// brokenRaw is a socket on which nothing can be written.
type brokenRaw struct{}

func (brokenRaw) Control(func(uintptr)) error    { return net.ErrClosed }
func (brokenRaw) Read(func(uintptr) bool) error  { return net.ErrClosed }
func (brokenRaw) Write(func(uintptr) bool) error { return net.ErrClosed }

func TestAFlushThatFailsEndsTheConnectionAndItsCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f, _ := put(t)
		w.raw = brokenRaw{}
		w.pumped.Store(true)
		go w.run()
		w.flush()
		synctest.Wait()
		if o, ok := errors.AsType[*OutcomeError](f.err); !ok || o.Sent {
			t.Errorf("the command ended with %v, want that it was not sent", f.err)
		}
	})
}

func TestAReplyToWhatHasNotBeenWrittenIsAProtocolError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f, _ := put(t)
		var protocol *ProtocolError
		if err := w.received([]byte("-ERR idle for too long\r\n")); !errors.As(err, &protocol) {
			t.Fatalf("received = %v, want a *ProtocolError", err)
		}
		if f.state.Load() != waiting {
			t.Errorf("the command got a reply that was not its own")
		}
	})
}

var _ syscall.RawConn = brokenRaw{}

// The deadline with which a Pump wakes the reader may come after that Pump has been refused.
func TestALateWakeUpOfTheReaderIsNotTheEndOfTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, theirs := put(t)
		w.raw = brokenRaw{}
		var err error
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			err = w.read()
		}()
		synctest.Wait()
		_ = w.conn.SetReadDeadline(time.Unix(1, 0))
		synctest.Wait()
		_ = theirs.Close()
		<-ended
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read = %v, want the end", err)
		}
	})
}

// The reader of a connection that has broken may come late, when the next one is carried already: nobody would
// read that any more.
func TestABrokenConnectionDoesNotTakeThePumpFromTheNextOne(t *testing.T) {
	old, _, _ := put(t)
	next, _, _ := put(t)
	old.raw = brokenRaw{}
	old.fail(errors.New("over"))
	p := &Pump{m: old.m, watch: func(int) error { return nil }, stopped: make(chan struct{})}
	c := &carried{wire: next, over: make(chan error, 1)}
	p.now.Store(c)
	_ = p.carry(old)
	if p.now.Load() != c {
		t.Error("the next connection is carried no more")
	}
}
