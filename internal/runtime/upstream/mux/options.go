package mux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// Defaults of Options.
const (
	DefaultMaxInFlight      = 65536
	DefaultMaxInFlightBytes = 64 << 20
	DefaultMaxReplyBytes    = 64 << 20
	DefaultTimeout          = 5 * time.Second
	DefaultDialTimeout      = 10 * time.Second
	DefaultMaxBackoff       = time.Second
	DefaultLaneIdle         = 10 * time.Second
	DefaultLaneHold         = 30 * time.Second
)

// Options say how to connect and what to bound. Dial is required.
type Options struct {
	// Dial makes a connection that is ready for commands: authenticated, its database selected,
	// speaking RESP2. It is called for the first command and again after a loss.
	Dial func(ctx context.Context) (net.Conn, error)

	// Lane is Dial for the one connection of WATCH and of streams, made when somebody needs it and
	// closed soon after. Nil: those are refused.
	Lane func(ctx context.Context) (net.Conn, error)

	// Meter is told of every command. Default: one of its own.
	Meter *meter.Meter

	// Counted is true when the connections of Dial count for themselves, and learn the component
	// from the write deadline, which Deadline makes. The Mux then counts nothing on them, sends nothing
	// twice and does not pause after a loss: they do that, too.
	Counted bool

	// Unsent is whether an error of such a connection means that nothing of what waits for a reply ran.
	// Nil: it never does.
	Unsent func(error) bool

	// Deadline makes a write deadline that carries a component, and ComponentOf is its inverse, used
	// on what an in-process connection is given. Nil: no tags.
	Deadline    func(meter.Component) time.Time
	ComponentOf func(time.Time) (meter.Component, bool)

	// Sent is told of commands as their last byte is handed to the socket, and of all bytes handed to
	// it; writes are those that are not known to leave data alone. Received is told of bytes that
	// came, and of commands whose reply never will. Both must be quick and take no lock. May be nil.
	Sent     func(commands, writes, bytes int64)
	Received func(bytes, unanswered int64)

	// Outcome is the outcome of an error reply, given its text without the dash. Nil: "server".
	Outcome func(text string) meter.Outcome

	// Admit may refuse a command, just before it is queued; Refund gives back the number of admitted
	// commands that did not leave. Nil: everything is admitted.
	Admit  func(c meter.Component, command string) error
	Refund func(commands int)

	// Allow are further commands that may travel on a shared connection, lower case, as operators
	// name those of modules. They count as writes. What Kind knows to be unsafe stays refused.
	Allow []string

	// DB is the number of the database that Dial selects; SELECT of it is answered in process.
	DB int

	// MaxInFlight is the most commands that are under way at a time; callers wait for room. A single
	// Call with more is let through alone. Default 65536.
	MaxInFlight int

	// MaxInFlightBytes bounds the bytes of requests that are under way likewise. Default 64 MiB.
	MaxInFlightBytes int64

	// MaxReplyBytes is the most bytes of all replies of one Call, and the most that an in-process
	// client may leave unread before its connection is closed. Default 64 MiB.
	MaxReplyBytes int64

	// Timeout is how long the server may leave commands unanswered, without sending anything, before
	// the connection is given up. Default 5s.
	Timeout time.Duration

	// DialTimeout is how long one attempt to connect may take. Default 10s.
	DialTimeout time.Duration

	// MaxBackoff bounds the random pause between attempts to connect, during which commands fail at
	// once. Default 1s.
	MaxBackoff time.Duration

	// LaneIdle is how long the lane's connection is kept after its last use, default 10s; LaneHold how
	// long one client may have it with WATCH, default 30s.
	LaneIdle time.Duration
	LaneHold time.Duration
}

func (o Options) withDefaults() Options {
	if o.Meter == nil {
		o.Meter = meter.New()
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = DefaultMaxInFlight
	}
	if o.MaxInFlightBytes == 0 {
		o.MaxInFlightBytes = DefaultMaxInFlightBytes
	}
	if o.MaxReplyBytes == 0 {
		o.MaxReplyBytes = DefaultMaxReplyBytes
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&o.Timeout, DefaultTimeout},
		{&o.DialTimeout, DefaultDialTimeout},
		{&o.MaxBackoff, DefaultMaxBackoff},
		{&o.LaneIdle, DefaultLaneIdle},
		{&o.LaneHold, DefaultLaneHold},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.Sent == nil {
		o.Sent = func(int64, int64, int64) {}
	}
	if o.Received == nil {
		o.Received = func(int64, int64) {}
	}
	if o.Outcome == nil {
		o.Outcome = func(string) meter.Outcome { return "server" }
	}
	if o.Unsent == nil {
		o.Unsent = func(error) bool { return false }
	}
	if o.Refund == nil {
		o.Refund = func(int) {}
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if o.Dial == nil {
		errs = append(errs, errors.New("dial: nil, want a way to connect"))
	}
	if o.Counted && o.Deadline == nil {
		errs = append(errs, errors.New("deadline: nil, but connections that count for themselves need it"))
	}
	if o.DB < 0 {
		errs = append(errs, fmt.Errorf("database: got %d, want 0 or more", o.DB))
	}
	if o.MaxInFlight < 1 {
		errs = append(errs, fmt.Errorf("max in flight: got %d, want 1 or more", o.MaxInFlight))
	}
	if o.MaxInFlightBytes < 1 {
		errs = append(errs, fmt.Errorf("max in-flight bytes: got %d, want 1 or more", o.MaxInFlightBytes))
	}
	if o.MaxReplyBytes < 1 {
		errs = append(errs, fmt.Errorf("max reply bytes: got %d, want 1 or more", o.MaxReplyBytes))
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"timeout", o.Timeout},
		{"dial timeout", o.DialTimeout},
		{"max backoff", o.MaxBackoff},
		{"lane idle", o.LaneIdle},
		{"lane hold", o.LaneHold},
	} {
		if d.value < time.Millisecond {
			errs = append(errs, fmt.Errorf("%s: got %s, want at least 1ms", d.name, d.value))
		}
	}
	for _, name := range o.Allow {
		if k := Kind(name); k != Unknown && !k.Shared() {
			errs = append(errs, fmt.Errorf("allow: %w", &PolicyError{name, k}))
		}
	}
	return errors.Join(errs...)
}
