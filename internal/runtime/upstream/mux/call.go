package mux

import (
	"context"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// keepBytes is the largest buffer that is kept for reuse.
const keepBytes = 64 << 10

// A Call is one or more commands that travel together and in order, and their replies. It is reused:
// one goroutine at a time appends commands, lets Mux.Do run it, reads Reply, and resets it. Do is the
// only method that waits.
type Call struct {
	m       *Mux
	names   *names
	f       *flight
	multi   bool
	timeout time.Duration
	until   time.Time // of what Start sent; zero: without end
	sentOn  *wire     // what Start sent it on
	watch   watch
	done    chan struct{} // of capacity 1: one token when the flight has ended, or was left at the deadline
}

// NewCall returns an empty Call whose commands are charged to component. Release gives it back.
func (m *Mux) NewCall(component meter.Component) *Call {
	c := m.calls.Get().(*Call)
	c.Reset(component)
	return c
}

// Release gives the Call back for reuse; neither it nor its Reply may be used any more.
func (c *Call) Release() {
	c.f.reset()
	c.m.calls.Put(c)
}

// Reset empties the Call. Its next commands are charged to component, and Do waits as long as its
// context says.
func (c *Call) Reset(component meter.Component) {
	c.f.reset()
	c.multi, c.timeout, c.until, c.sentOn = false, 0, time.Time{}, nil
	if c.names == nil || c.names.component != component {
		c.names = c.m.namesOf(component)
	}
	c.f.component = component
}

// SetTimeout bounds the next Do besides its context, for less than a context with a deadline costs.
// The error is then an *OutcomeError of context.DeadlineExceeded. 0 means no bound.
func (c *Call) SetTimeout(d time.Duration) { c.timeout = d }

var (
	errNoCommand    = errors.New("an empty command")
	errNestedMulti  = errors.New("MULTI calls can not be nested")
	errNoMulti      = errors.New("EXEC without MULTI")
	errOpenMulti    = errors.New("MULTI without EXEC")
	errLongArgument = errors.New("an argument longer than a Redis takes")
)

// Append adds one command. It is refused with a *PolicyError, and the Call left as it was, when it may
// not travel on a shared connection; between Multi and Exec a command that waits for data is fine,
// because the server does not let it wait. The arguments are copied.
func (c *Call) Append(args ...[]byte) error {
	if len(args) == 0 {
		return errNoCommand
	}
	var buf [2*maxName + 1]byte
	name := appendName(buf[:0], args)
	cmd := c.names.lookup(name)
	if err := cmd.mayTravel(args, c.multi); err != nil {
		return err
	}
	return c.f.append(cmd, args)
}

// Multi begins a transaction: MULTI, which is answered by +OK, and every command up to Exec by
// +QUEUED. Nothing of anybody else comes between.
func (c *Call) Multi() error {
	if c.multi {
		return errNestedMulti
	}
	c.multi = true
	c.f.raw(c.names.lookup([]byte("multi")), "*1\r\n$5\r\nMULTI\r\n")
	return nil
}

// Exec ends the transaction; its reply is the array of all replies, or an error, or null.
func (c *Call) Exec() error {
	if !c.multi {
		return errNoMulti
	}
	c.multi = false
	c.f.raw(c.names.lookup([]byte("exec")), "*1\r\n$4\r\nEXEC\r\n")
	return nil
}

// Len is the number of commands, and of the replies to come, MULTI and EXEC included.
func (c *Call) Len() int { return len(c.f.cmds) }

// Size is the number of bytes of all requests.
func (c *Call) Size() int { return len(c.f.req) }

// Reply is what the server answered: every reply in order, as RESP. It is valid until Reset, Release
// or the next Do.
func (c *Call) Reply() []byte { return c.f.reply }

// Do sends the Call and waits for all its replies, for the end of ctx, or for the Call's timeout.
// Error replies of the server are replies; an error means that the replies did not all come: an
// *OutcomeError, which says whether anything may have run, a *ReplyTooLargeError, a *BusyError, or
// what Options.Admit said.
//
// A caller that stops waiting loses nothing but its replies: its place in the order stays, the
// commands run, and the Call is empty. When the connection ends, Do sends again, once, what provably never left or only
// reads; nothing else is ever sent twice.
//
// It costs the commands of the Call. It is safe for concurrent use with different Calls.
func (m *Mux) Do(ctx context.Context, c *Call) error {
	if c.multi {
		return errOpenMulti
	}
	if len(c.f.cmds) == 0 {
		return nil
	}
	if c.f.used {
		c.f.rewind()
	}
	deadline := time.Time{}
	if c.timeout > 0 {
		deadline = time.Now().Add(c.timeout)
	}
	err := m.do(ctx, c, deadline)
	if err != nil && ctx.Err() == nil && retryable(err, c.f) {
		c.f.rewind()
		err = m.do(ctx, c, deadline)
	}
	return err
}

func (m *Mux) do(ctx context.Context, c *Call, deadline time.Time) error {
	f := c.f
	f.done = c.done
	if err := m.send(ctx, f, deadline); err != nil {
		return err
	}
	w, end, late := f.wire, ctx.Done(), !deadline.IsZero()
	if late {
		c.watch.begin(c, deadline)
	}
	if end == nil {
		<-c.done
		late = late && c.watch.over()
	} else {
		select {
		case <-c.done:
			late = late && c.watch.over()
		case <-end:
			if late = late && c.watch.over(); !late {
				return m.abandon(c, ctx.Err())
			}
			<-c.done
		}
	}
	if late {
		return m.lost(c, w, context.DeadlineExceeded)
	}
	return f.err
}

// abandon leaves the flight to the reader; the Call is empty then.
func (m *Mux) abandon(c *Call, why error) error {
	f, w := c.f, c.f.wire
	if !f.leave() {
		<-c.done // it ended at the same moment
		return f.err
	}
	return m.lost(c, w, why)
}

// lost gives a Call whose flight was left a new one.
func (m *Mux) lost(c *Call, w *wire, why error) error {
	c.f = m.newFlight()
	w.checkStall()
	return &OutcomeError{Sent: true, Err: why}
}

// retryable is whether a flight that ended with err may be sent once more.
func retryable(err error, f *flight) bool {
	var o *OutcomeError
	if !errors.As(err, &o) || f.wire == nil || f.wire.counted {
		return false
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrClosed) {
		return false
	}
	return !o.Sent || f.onlyReads()
}

// raw adds one command that is encoded already.
func (f *flight) raw(cmd *command, encoded string) {
	f.req = append(f.req, encoded...)
	f.cmds = append(f.cmds, sentCommand{cmd, int32(len(encoded))})
}

// append encodes one command.
func (f *flight) append(cmd *command, args [][]byte) error {
	before, b := len(f.req), f.req
	b = append(b, '*')
	b = strconv.AppendInt(b, int64(len(args)), 10)
	b = append(b, '\r', '\n')
	for _, a := range args {
		b = append(b, '$')
		b = strconv.AppendInt(b, int64(len(a)), 10)
		b = append(b, '\r', '\n')
		b = append(b, a...)
		b = append(b, '\r', '\n')
	}
	if len(b)-before > math.MaxInt32 {
		return errLongArgument
	}
	f.req = b
	f.cmds = append(f.cmds, sentCommand{cmd, int32(len(b) - before)})
	return nil
}
