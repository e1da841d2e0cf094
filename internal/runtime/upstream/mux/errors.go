package mux

import (
	"errors"
	"fmt"
	"time"
)

// ErrClosed reports that the Mux, or one of its in-process connections, was closed.
var ErrClosed = errors.New("the shared connection is closed")

// An OutcomeError reports that the replies of a Call did not all come.
type OutcomeError struct {
	// Sent is true when at least one command of the Call left whole, or may have: the server may
	// have run it. It must then not be sent again unless it only reads. False: nothing ran.
	Sent bool

	// Err is why: the context's error, a failure to connect, the end of the connection.
	Err error
}

func (e *OutcomeError) Error() string {
	if e.Sent {
		return fmt.Sprintf("no reply, and the server may have run the command: %v", e.Err)
	}
	return fmt.Sprintf("not sent: %v", e.Err)
}

func (e *OutcomeError) Unwrap() error { return e.Err }

// A PolicyError reports that a command may not travel on a shared connection. Nothing was sent.
type PolicyError struct {
	Command  string   // lower case, with its subcommand
	Category Category // why not
}

func (e *PolicyError) Error() string {
	switch e.Category {
	case Blocking:
		return fmt.Sprintf("%s waits, and would make everybody on the shared connection wait; connect to the server directly", e.Command)
	case PubSub:
		return e.Command + " would turn the shared connection into a subscriber; subscribe through the bell"
	case Connection, Transaction:
		return e.Command + " changes the state of its connection, which is shared; connect to the server directly"
	case Unknown, Read, Write, Script, Admin:
	}
	return e.Command + " is not known to be safe on a shared connection; allow it by name, or connect to the server directly"
}

// A ReplyTooLargeError reports that the replies of a Call, or what an in-process client has not read,
// exceed Options.MaxReplyBytes. The commands ran.
type ReplyTooLargeError struct {
	Limit int64 // bytes
}

func (e *ReplyTooLargeError) Error() string {
	return fmt.Sprintf("the reply is larger than %d bytes; ask for less, or read it through a stream of its own", e.Limit)
}

// A BusyError reports that there was no room on the shared connection within the caller's time.
// Nothing was sent.
type BusyError struct {
	What  string // "commands", "bytes" or "lane"
	After time.Duration
}

func (e *BusyError) Error() string {
	if e.What == "lane" {
		return fmt.Sprintf("the one connection for WATCH, MONITOR and bulk is in use, and was not free after %s; keep transactions short", e.After.Round(time.Millisecond))
	}
	return fmt.Sprintf("too many %s under way on the shared connection, no room after %s; the server is slow, or callers are too many", e.What, e.After.Round(time.Millisecond))
}

// A ProtocolError reports that what answered does not speak RESP, or answered what was not asked.
type ProtocolError struct {
	First []byte // the beginning of what came
}

func (e *ProtocolError) Error() string {
	return fmt.Sprintf("the answer is not RESP, or answers nothing: it begins with %q", e.First)
}
