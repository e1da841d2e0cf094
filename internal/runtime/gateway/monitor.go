package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
)

// longestLine is the most of one monitored command that is shown.
const longestLine = 256 << 10

// monitor answers with every command that the Redis runs, until the client goes. There is one connection
// for it, so one client at a time.
func (x *exchange) monitor(ctx context.Context) {
	switch {
	case x.who.readOnly:
		x.fail(400, textNoPermission(pathMonitor))
		return
	case x.g.opts.NoMonitor:
		x.fail(400, textNoMonitor)
		return
	case !x.g.monitoring.CompareAndSwap(false, true):
		x.fail(429, textMonitored)
		x.rep.RetryAfter = 1
		return
	}
	m, status, text := x.g.openMonitor(ctx)
	if m == nil {
		x.g.monitoring.Store(false)
		x.fail(status, text)
		return
	}
	x.stream(m.run)
}

// A monitor is the lane while it carries MONITOR.
type monitor struct {
	g      *Gateway
	stream *mux.Stream
	lines  *bufio.Reader
}

// openMonitor starts one, or says why not.
func (g *Gateway) openMonitor(ctx context.Context) (m *monitor, status int, text string) {
	ctx, cancel := context.WithTimeout(ctx, g.opts.Timeout)
	defer cancel()
	stream, err := g.mux.Stream(ctx, meter.Gateway, []byte("MONITOR"))
	if err != nil {
		status, text = statusOf(err)
		return nil, status, text
	}
	m = &monitor{g: g, stream: stream, lines: bufio.NewReaderSize(stream, 16<<10)}
	if deadline, ok := ctx.Deadline(); ok {
		_ = stream.SetReadDeadline(deadline)
	}
	first, err := m.line()
	switch {
	case err == nil && string(first) == "+OK":
		_ = stream.SetReadDeadline(time.Time{})
		return m, 0, ""
	case err == nil && len(first) > 0 && first[0] == '-':
		status, text = 400, string(first[1:])
	case err == nil:
		status, text = 502, textReply
	default:
		status, text = 504, textTimeout
	}
	_ = stream.Close()
	return nil, status, text
}

// line is the next line without its end, cut at longestLine.
func (m *monitor) line() ([]byte, error) {
	var whole []byte
	for {
		part, err := m.lines.ReadSlice('\n')
		if room := longestLine - len(whole); room > 0 {
			whole = append(whole, part[:min(len(part), room)]...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return bytes.TrimRight(whole, "\r\n"), err
		}
	}
}

// run writes the lines as events.
func (m *monitor) run(ctx context.Context, write func([]byte) error) error {
	defer m.g.monitoring.Store(false)
	stop := context.AfterFunc(ctx, func() { _ = m.stream.SetReadDeadline(time.Now()) })
	lines := make(chan []byte, 64)
	ended := make(chan struct{})
	defer func() {
		stop()
		_ = m.stream.Close()
		for range lines { // lets the reader end
		}
		<-ended
	}()
	go func() {
		defer close(ended)
		defer close(lines)
		for {
			line, err := m.line()
			if err != nil || ctx.Err() != nil {
				return
			}
			lines <- line
		}
	}()
	if err := write([]byte("data: \"OK\"\n\n")); err != nil {
		return err
	}
	heart := time.NewTicker(m.g.opts.Listener.Heartbeat)
	defer heart.Stop()
	var event []byte
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return ctx.Err()
			}
			event = appendEvent(event[:0], bytes.TrimPrefix(line, []byte{'+'}))
			if err := write(event); err != nil {
				return err
			}
		case <-heart.C:
			if err := write([]byte(heartbeat)); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
