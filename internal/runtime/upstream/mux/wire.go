package mux

import (
	"errors"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// readBytes is how much is read from a connection at a time.
const readBytes = 64 << 10

// keepWireBytes is the largest buffer for writing that is kept for reuse.
const keepWireBytes = 1 << 20

// A wire is one connection with a shared buffer of what is to be written, and the order in which
// replies are due. One goroutine writes and one reads; both end with the connection.
type wire struct {
	m       *Mux
	conn    net.Conn
	counted bool // the connection counts for itself
	tally   tally

	mu        sync.Mutex
	out       []byte        // to be written
	outCmds   []sentCommand // the commands in out
	outRuns   []run         // their components, where the connection wants to know
	queue     []*flight     // in order, not yet taken by the reader
	seq       uint64        // number of the next command
	inFlight  int           // commands
	inBytes   int64
	busySince time.Time     // when inFlight became positive
	idle      bool          // nobody has the turn to write; the writer waits for wake
	room      chan struct{} // closed and replaced when commands end, if somebody waits
	broken    error         // why it ended

	pumped     atomic.Bool     // a Pump may carry it
	raw        syscall.RawConn // of conn; nil where there is no descriptor to watch
	gone       chan struct{}   // closed with broken
	wake       chan struct{}   // of capacity 1
	progress   atomic.Int64    // unix nanoseconds of the last read
	readerTurn readerTurn
	writerTurn writerTurn
}

// A run is how much of the buffer belongs to one component.
type run struct {
	component meter.Component
	end       int
}

// readerTurn is what only the reader touches.
type readerTurn struct {
	scanner   scanner
	flights   []*flight
	head      int
	stamp     stamp
	ended     int // commands since the last time the lock was taken
	endedSize int64
}

// writerTurn is what only who has the turn to write touches. The turn goes from hand to hand with idle,
// under the wire's lock: who finds idle and clears it has the turn until he sets it again or wakes the writer.
type writerTurn struct {
	out     []byte        // being written
	cmds    []sentCommand // the commands in out
	runs    []run
	held    bool // out is not written yet, or not all of it
	written int  // bytes of out, when a write was cut short
}

func (m *Mux) newWire(conn net.Conn) *wire {
	w := &wire{m: m, conn: conn, counted: m.opts.Counted, wake: make(chan struct{}, 1), gone: make(chan struct{}), idle: true}
	w.tally.sent, w.tally.meter = m.opts.Sent, !w.counted
	return w
}

// errBroken reports that a wire takes nothing any more.
var errBroken = errors.New("the connection is gone")

// submit queues f and has it written. It returns errBroken, or what to wait for when there is no room.
func (w *wire) submit(f *flight) (<-chan struct{}, error) { return w.put(f, true) }

// put queues f. Unless write is set, somebody has to call flush soon.
func (w *wire) put(f *flight, write bool) (<-chan struct{}, error) {
	o := &w.m.opts
	w.mu.Lock()
	if w.broken != nil {
		w.mu.Unlock()
		return nil, errBroken
	}
	n, size := len(f.cmds), int64(len(f.req))
	if w.inFlight > 0 && (w.inFlight+n > o.MaxInFlight || w.inBytes+size > o.MaxInFlightBytes) {
		if w.room == nil {
			w.room = make(chan struct{})
		}
		room := w.room
		w.mu.Unlock()
		return room, nil
	}
	if w.inFlight == 0 {
		w.busySince = time.Now()
	}
	f.wire, f.first, f.used, f.size = w, w.seq, true, size
	if f.closes {
		f.on.Store(w)
	}
	w.seq += uint64(n)
	w.inFlight += n
	w.inBytes += size
	w.out = append(w.out, f.req...)
	if w.counted {
		w.outRuns = append(w.outRuns, run{f.component, len(w.out)})
	}
	w.outCmds = append(w.outCmds, f.cmds...)
	w.queue = append(w.queue, f)
	wake := w.idle && write
	if wake {
		w.idle = false
	}
	w.mu.Unlock()
	if wake {
		w.wake <- struct{}{}
	}
	return nil, nil
}

// write is the writer. It does nothing before it is given the turn: until then whoever flushes has it. It ends
// with the turn, so that nobody is writing any more and all that has left is counted when it has ended. Before
// it takes what is there it lets everybody run once who can: on a busy Mux they add to the same write.
func (w *wire) write() {
	<-w.wake
	for {
		runtime.Gosched()
		t, err := w.take()
		switch {
		case err != nil:
			if t := &w.writerTurn; t.held { // what of a write that was cut short has left may have been run
				w.tally.settle(t.written, time.Now())
				t.written, t.held = 0, false
			}
			return
		case t == nil:
			<-w.wake
			continue
		}
		n, err := w.writeAll(t.out[t.written:], t.runs)
		w.tally.settle(t.written+n, time.Now())
		t.written, t.held = 0, false
		if err != nil {
			w.fail(err)
			return
		}
	}
}

// take is what is to be written next, by whoever has the turn: the rest of a write that was cut short, or
// all that has been put. When there is nothing the turn is over, and the result is nil.
func (w *wire) take() (*writerTurn, error) {
	t := &w.writerTurn
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.broken != nil:
		return nil, w.broken
	case t.held:
		return t, nil
	case len(w.out) == 0:
		w.idle = true
		return nil, nil
	}
	t.out, w.out = w.out, t.out[:0]
	if cap(w.out) > keepWireBytes {
		w.out = nil
	}
	t.cmds, w.outCmds = w.outCmds, trim(t.cmds)
	t.runs, w.outRuns = w.outRuns, t.runs[:0]
	t.held = true
	w.tally.begin(t.cmds, w.seq-uint64(len(t.cmds)))
	return t, nil
}

// writeAll writes b, run by run where the connection wants to know whose bytes they are.
func (w *wire) writeAll(b []byte, runs []run) (int, error) {
	if !w.counted {
		return w.conn.Write(b)
	}
	start := 0
	for i, r := range runs {
		if i+1 < len(runs) && runs[i+1].component == r.component {
			continue
		}
		if err := w.conn.SetWriteDeadline(w.m.opts.Deadline(r.component)); err != nil {
			return start, err
		}
		n, err := w.conn.Write(b[start:r.end])
		if err != nil {
			return start + n, err
		}
		start = r.end
	}
	return start, nil
}

// read is the reader, unless a Pump is.
func (w *wire) read() error {
	var buf []byte
	for {
		if p := w.m.pump.Load(); p != nil && w.pumped.Load() {
			if err := p.carry(w); err != nil {
				return err
			}
		}
		if buf == nil {
			buf = make([]byte, readBytes)
		}
		n, err := w.conn.Read(buf)
		if bad := w.received(buf[:n]); bad != nil {
			return bad
		}
		if w.raw != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			err = w.conn.SetReadDeadline(time.Time{}) // a Pump has come, and may have been refused meanwhile
		}
		if err != nil {
			return err
		}
	}
}

// received takes what was read.
func (w *wire) received(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	now := time.Now()
	w.progress.Store(now.UnixNano())
	if !w.counted {
		w.m.opts.Received(int64(len(b)), 0)
	}
	if bad := w.deliver(b, now); bad != nil {
		return bad
	}
	w.release()
	return nil
}

// deliver hands the replies in b to whom they are due.
func (w *wire) deliver(b []byte, now time.Time) error {
	r := &w.readerTurn
	for len(b) > 0 {
		f := w.head()
		if f == nil {
			return &ProtocolError{slices.Clone(b[:min(len(b), 64)])}
		}
		n, ev := r.scanner.scan(b)
		if ev == bad {
			return &ProtocolError{slices.Clone(b[:min(len(b), 64)])}
		}
		f = w.collect(f, b[:n])
		if ev == ended && !w.replied(f, now) {
			return &ProtocolError{slices.Clone(b[:min(n, 64)])}
		}
		b = b[n:]
	}
	return nil
}

// head is whom the next reply is due; nil if nobody.
func (w *wire) head() *flight {
	r := &w.readerTurn
	if r.head == len(r.flights) {
		clear(r.flights)
		w.mu.Lock()
		r.flights, w.queue = w.queue, r.flights[:0]
		w.mu.Unlock()
		r.head = 0
		if len(r.flights) == 0 {
			return nil
		}
	}
	return r.flights[r.head]
}

// collect adds a piece of a reply to f, and returns f or, when the caller was told that its reply is
// too large, what takes its place.
func (w *wire) collect(f *flight, b []byte) *flight {
	r := &w.readerTurn
	if f.state.Load() != waiting || f.next < f.skip {
		return f
	}
	limit := w.m.opts.MaxReplyBytes
	have, coming := int64(len(f.reply)+len(b)), int64(0)
	if r.scanner.state == inBody {
		coming = r.scanner.left
	}
	if f.unread != nil {
		have = f.unread.Add(int64(len(b)))
	}
	if have+coming > limit {
		rest := w.m.newFlight()
		rest.cmds = append(rest.cmds, f.cmds...)
		rest.component, rest.wire, rest.first, rest.next, rest.size = f.component, w, f.first, f.next, f.size
		rest.state.Store(left)
		r.flights[r.head] = rest
		w.over(f, &ReplyTooLargeError{limit})
		return rest
	}
	if coming > 0 {
		f.reply = slices.Grow(f.reply, len(b)+int(coming))
	}
	f.reply = append(f.reply, b...)
	return f
}

// replied takes note of a reply that came whole. False: it answers what has not been sent.
func (w *wire) replied(f *flight, now time.Time) bool {
	r := &w.readerTurn
	number := f.first + uint64(f.next)
	if number >= r.stamp.upTo {
		var sent bool
		if r.stamp, sent = w.tally.answered(number, now); !sent {
			return false
		}
	}
	if !w.counted {
		outcome := meter.OK
		if r.scanner.isError() {
			outcome = w.m.opts.Outcome(r.scanner.errorText())
		}
		f.cmds[f.next].series.Ended(outcome, now.Sub(r.stamp.at), r.scanner.size)
	}
	f.next++
	r.ended++
	if f.next < len(f.cmds) {
		return true
	}
	r.endedSize += f.size
	r.flights[r.head] = nil
	r.head++
	w.over(f, nil)
	return true
}

// over ends a flight, and takes it back if nobody waits for it.
func (w *wire) over(f *flight, err error) {
	if !f.end(err) && !f.closes {
		w.m.recycle(f)
	}
}

// release makes room for what has ended.
func (w *wire) release() {
	r := &w.readerTurn
	if r.ended == 0 {
		return
	}
	w.mu.Lock()
	w.inFlight -= r.ended
	w.inBytes -= r.endedSize
	room := w.room
	w.room = nil
	w.mu.Unlock()
	r.ended, r.endedSize = 0, 0
	if room != nil {
		close(room)
	}
}

// fail ends the wire: nothing more is taken, and the reader ends what is left. Whoever has the turn to write
// finds out and gives it to the writer.
func (w *wire) fail(err error) {
	w.mu.Lock()
	if w.broken != nil {
		w.mu.Unlock()
		return
	}
	w.broken = err
	room, wake := w.room, w.idle
	w.room, w.idle = nil, false
	w.mu.Unlock()
	if room != nil {
		close(room)
	}
	_ = w.conn.Close()
	close(w.gone)
	if wake {
		w.wake <- struct{}{}
	}
}

// run moves bytes until the connection ends, and then ends what was under way.
func (w *wire) run() {
	written := make(chan struct{})
	go func() {
		defer close(written)
		w.write()
	}()
	w.fail(w.read())
	<-written
	w.endAll()
}

// endAll ends every flight that is still under way.
func (w *wire) endAll() {
	r := &w.readerTurn
	w.mu.Lock()
	flights := append(slices.Clone(r.flights[r.head:]), w.queue...)
	w.queue = nil
	err := w.broken
	w.mu.Unlock()
	counted, unanswered := w.tally.counted.Load(), int64(0)
	unsent := &OutcomeError{Err: err}
	lost := &OutcomeError{Sent: true, Err: err}
	if w.m.opts.Unsent(err) {
		lost = unsent
	}
	for _, f := range flights {
		for i := f.next; i < len(f.cmds); i++ {
			if f.first+uint64(i) >= counted {
				w.m.opts.Refund(len(f.cmds) - i)
				break
			}
			if !w.counted {
				f.cmds[i].series.Ended(meter.Lost, 0, 0)
				unanswered++
			}
		}
		why := lost
		if f.first >= counted {
			why = unsent
		}
		w.over(f, why)
	}
	if unanswered > 0 {
		w.m.opts.Received(0, unanswered)
	}
}

// checkStall gives up a connection on which commands wait and nothing comes.
func (w *wire) checkStall() {
	w.mu.Lock()
	since, busy := w.busySince, w.inFlight > 0
	w.mu.Unlock()
	if last := time.Unix(0, w.progress.Load()); last.After(since) {
		since = last
	}
	if busy && time.Since(since) > w.m.opts.Timeout {
		w.fail(ErrStalled)
	}
}

// ErrStalled ends a connection on which commands wait and nothing came for Options.Timeout.
var ErrStalled = errors.New("the server has not answered for too long")
