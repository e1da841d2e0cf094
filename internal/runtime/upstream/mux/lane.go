package mux

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

var (
	errNoLane   = errors.New("there is no connection for WATCH and MONITOR here")
	errLaneHeld = errors.New("a transaction with WATCH took too long")
)

// A lane is the one further connection, for what cannot share. Whoever has the token has it alone.
type lane struct {
	token chan struct{} // of capacity 1: there when nobody has the lane

	mu     sync.Mutex
	wire   *wire // kept after WATCH for a while
	idle   *time.Timer
	stream *Stream // that has the lane
}

// A lease is the lane in the hands of one client.
type lease struct {
	m     *Mux
	wire  *wire
	limit *time.Timer
	once  sync.Once // the lane is given back once
	multi bool
}

// takeLane waits for the lane.
func (m *Mux) takeLane(ctx context.Context) error {
	if m.opts.Lane == nil {
		return errNoLane
	}
	select {
	case <-m.lane.token:
		return nil
	default:
	}
	begin := time.Now()
	select {
	case <-m.lane.token:
		return nil
	case <-ctx.Done():
	}
	if m.ctx.Err() != nil {
		return ErrClosed
	}
	return &BusyError{What: "lane", After: time.Since(begin)}
}

func (m *Mux) freeLane() { m.lane.token <- struct{}{} }

// lease takes the lane for WATCH.
func (m *Mux) lease(ctx context.Context) (*lease, error) {
	if err := m.takeLane(ctx); err != nil {
		return nil, err
	}
	m.lane.mu.Lock()
	w := m.lane.wire
	if m.lane.idle != nil {
		m.lane.idle.Stop()
	}
	m.lane.mu.Unlock()
	if w == nil || w.isBroken() {
		conn, err := m.dialLane(ctx)
		if err != nil {
			m.freeLane()
			return nil, err
		}
		w = m.newWire(conn)
		m.lane.mu.Lock()
		m.lane.wire = w
		m.lane.mu.Unlock()
		go func() {
			defer m.wg.Done()
			w.run()
		}()
		if m.ctx.Err() != nil {
			w.fail(ErrClosed)
		}
	}
	l := &lease{m: m, wire: w}
	l.limit = time.AfterFunc(m.opts.LaneHold, func() { l.end(errLaneHeld) })
	return l, nil
}

// end gives back a lane that nobody can use as it is.
func (l *lease) end(err error) {
	l.once.Do(func() {
		l.wire.fail(err)
		l.m.freeLane()
	})
}

// dialLane makes the connection, and counts it among what Close waits for.
func (m *Mux) dialLane(ctx context.Context) (net.Conn, error) {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil, ErrClosed
	}
	m.wg.Add(1)
	m.mu.Unlock()
	conn, err := m.opts.Lane(ctx)
	if err != nil {
		m.wg.Done()
		return nil, err
	}
	return conn, nil
}

// send queues f on the lane.
func (l *lease) send(f *flight) error {
	if err := l.m.admit(f); err != nil {
		f.end(err)
		return err
	}
	room, err := l.wire.submit(f)
	if err == nil && room != nil {
		err = &BusyError{What: "bytes"}
	}
	if err != nil {
		l.m.opts.Refund(len(f.cmds))
		f.end(&OutcomeError{Err: err})
	}
	return err
}

// giveBack is for a lane that is as clean as it was.
func (l *lease) giveBack() {
	l.limit.Stop()
	l.once.Do(func() {
		la := &l.m.lane
		la.mu.Lock()
		if la.wire != nil {
			la.idle = time.AfterFunc(l.m.opts.LaneIdle, l.m.closeIdleLane)
		}
		la.mu.Unlock()
		l.m.freeLane()
	})
}

// drop is for a lane on which something is still watched or under way.
func (l *lease) drop() {
	l.limit.Stop()
	l.end(ErrClosed)
}

func (m *Mux) closeIdleLane() {
	select {
	case <-m.lane.token:
	default:
		return // in use
	}
	m.closeLane(ErrClosed)
	m.freeLane()
}

// closeLane ends the connection that is kept.
func (m *Mux) closeLane(err error) {
	m.lane.mu.Lock()
	w := m.lane.wire
	s := m.lane.stream
	m.lane.wire = nil
	if m.lane.idle != nil {
		m.lane.idle.Stop()
	}
	m.lane.mu.Unlock()
	if w != nil {
		w.fail(err)
	}
	if s != nil {
		_ = s.Close()
	}
}

func (w *wire) isBroken() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.broken != nil
}

// A Stream is a connection of its own on which one command was sent and whose replies are read as
// they come.
type Stream struct {
	m      *Mux
	conn   net.Conn
	once   sync.Once
	series *meter.Series
	begin  time.Time
	mu     sync.Mutex
	got    bool
}

// Stream takes the lane, waiting for it until ctx ends, sends one command on a new connection, and
// returns what the server answers for as long as it does: MONITOR, or a reply that is too large for
// Do. Deadlines and the end are the caller's; Close gives the lane back. There is one lane, so WATCH
// has to wait meanwhile. It costs a connection and the command.
func (m *Mux) Stream(ctx context.Context, component meter.Component, args ...[]byte) (*Stream, error) {
	if len(args) == 0 {
		return nil, errNoCommand
	}
	var buf [2*maxName + 1]byte
	cmd := m.namesOf(component).lookup(appendName(buf[:0], args))
	if cmd.name != "monitor" {
		if err := cmd.mayTravel(args, false); err != nil {
			return nil, err
		}
	}
	f := m.newFlight()
	f.component = component
	defer m.recycle(f)
	if err := f.append(cmd, args); err != nil {
		return nil, err
	}
	if err := m.admit(f); err != nil {
		return nil, err
	}
	conn, err := m.streamConn(ctx)
	if err != nil {
		m.opts.Refund(1)
		return nil, err
	}
	s := &Stream{m: m, conn: conn, series: cmd.series, begin: time.Now()}
	m.lane.mu.Lock()
	m.lane.stream = s
	m.lane.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if m.ctx.Err() != nil { // Close has looked for streams already
		return nil, errors.Join(ErrClosed, s.Close())
	}
	n, err := conn.Write(f.req)
	if err != nil {
		m.opts.Sent(0, 0, int64(n))
		m.opts.Refund(1)
		return nil, errors.Join(&OutcomeError{Err: err}, s.Close())
	}
	writes := int64(0)
	if cmd.writes {
		writes = 1
	}
	cmd.series.Sent(int64(n))
	m.opts.Sent(1, writes, int64(n))
	return s, nil
}

// streamConn takes the lane for a stream.
func (m *Mux) streamConn(ctx context.Context) (net.Conn, error) {
	if err := m.takeLane(ctx); err != nil {
		return nil, err
	}
	m.closeLane(ErrClosed) // it would be one connection too many
	conn, err := m.dialLane(ctx)
	if err != nil {
		m.freeLane()
		return nil, &OutcomeError{Err: err}
	}
	return conn, nil
}

// Read reads what the server sends.
func (s *Stream) Read(p []byte) (int, error) {
	n, err := s.conn.Read(p)
	if n > 0 {
		s.answered(meter.OK, int64(n))
	}
	return n, err
}

// answered counts the end of the command once, with the first bytes that come or without any.
func (s *Stream) answered(o meter.Outcome, n int64) {
	s.mu.Lock()
	first := !s.got
	s.got = true
	s.mu.Unlock()
	if first {
		s.series.Ended(o, time.Since(s.begin), n)
		if o == meter.Lost {
			s.m.opts.Received(0, 1)
		}
	}
	s.m.opts.Received(n, 0)
}

// SetReadDeadline bounds reads, those under way included.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.conn.SetReadDeadline(t) }

// Close ends the stream and gives the lane back. A Read under way fails.
func (s *Stream) Close() error {
	var err error
	s.once.Do(func() {
		s.answered(meter.Lost, 0)
		err = s.conn.Close()
		s.m.lane.mu.Lock()
		s.m.lane.stream = nil
		s.m.lane.mu.Unlock()
		s.m.freeLane()
		s.m.wg.Done()
	})
	return err
}
