package upstream

import (
	"fmt"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// A Class says why a Redis could not be used, in terms of what to do about it.
type Class string

// The classes. None is the class of a nil error and of redis.Nil, which is an answer.
const (
	None            Class = ""
	TLSMismatch     Class = "tls_mismatch"     // one side speaks TLS, the other does not
	TLSUntrusted    Class = "tls_untrusted"    // the certificate does not verify
	Refused         Class = "refused"          // nothing listens there, or a firewall says no
	Reset           Class = "reset"            // the connection ended while it was in use
	IdleClose       Class = "idle_close"       // the connection ended while it was idle
	Auth            Class = "auth"             // no or wrong credentials
	Permission      Class = "permission"       // the user may not, or the server is a read-only replica
	Quota           Class = "quota"            // the plan's commands are used up; see Error.Limit
	RequestSize     Class = "request_size"     // one command, key or value is larger than the plan allows
	Capacity        Class = "capacity"         // the plan's storage, or the server's memory, is used up
	ConnectionLimit Class = "connection_limit" // the server, or our own cap, allows no further connection
	Timedout        Class = "timeout"          // no reply in time; the command may have run
	DNS             Class = "dns"              // the host name does not resolve
	Unreachable     Class = "unreachable"      // no route to the host or network
	NotRedis        Class = "not_redis"        // something else answers there, such as an HTTP server
	Unavailable     Class = "unavailable"      // the server does not have the command
	Loading         Class = "loading"          // the server is starting, or a cluster slot is down: try later
	Spend           Class = "spend"            // our own limit on commands is reached
	ReadOnly        Class = "read_only"        // our own read-only mode refused the command
	BadOptions      Class = "options"          // the configuration is wrong
	Canceled        Class = "canceled"         // the caller gave up
	Server          Class = "server"           // any other error reply: WRONGTYPE, NOSCRIPT, ERR syntax …
	Unknown         Class = "unknown"          // none of the above
)

// An Error reports that a Redis could not be reached or used. It unwraps to its cause.
type Error struct {
	Class Class
	Addr  string        // host:port or a socket's path, never with credentials
	After time.Duration // time spent, attempts to connect included; 0 when it does not matter
	Err   error         // the cause; its text has no credentials

	// Limit and Usage are what the server said about a Quota, RequestSize or ConnectionLimit, and
	// what our cap is for a ConnectionLimit of our own. 0 when nothing was said.
	Limit int64
	Usage int64

	// Unsent is true when provably no command ran, because none left whole.
	Unsent bool
}

func (e *Error) Error() string {
	s := e.Addr + ": " + e.what()
	if e.After > 0 {
		s += fmt.Sprintf(" after %s", e.After.Round(time.Millisecond))
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// what is the class in words.
func (e *Error) what() string {
	switch e.Class {
	case TLSMismatch:
		return "one side speaks TLS and the other does not"
	case TLSUntrusted:
		return "the server's certificate is not trusted"
	case Refused:
		return "connection refused"
	case Reset:
		return "connection lost"
	case IdleClose:
		return "connection was closed while idle"
	case Auth:
		return "not authenticated"
	case Permission:
		return "not permitted"
	case Quota:
		return "the plan's command quota is used up"
	case RequestSize:
		return "request too large for the plan"
	case Capacity:
		return "no capacity left"
	case ConnectionLimit:
		return "no further connection allowed"
	case Timedout:
		return "no reply"
	case DNS:
		return "host name does not resolve"
	case Unreachable:
		return "no route"
	case NotRedis:
		return "not a Redis"
	case Unavailable:
		return "command not available"
	case Loading:
		return "not ready yet"
	case Server:
		return "answered with an error"
	case None, Spend, ReadOnly, BadOptions, Canceled, Unknown:
	}
	return "unusable"
}

// An OptionsError reports every problem of Options, one per line.
type OptionsError struct{ err error }

func (e *OptionsError) Error() string { return e.err.Error() }
func (e *OptionsError) Unwrap() error { return e.err }

// A SpendError reports that a command was not sent because it would have exceeded
// Options.MaxCommands.
type SpendError struct {
	Limit     int64           // Options.MaxCommands
	Spent     int64           // commands sent so far
	Command   string          // the first one refused, lower case
	Wanted    int64           // commands in the refused batch; 1 for a single command
	Component meter.Component // who asked
}

func (e *SpendError) Error() string {
	what := e.Command
	if e.Wanted > 1 {
		what = fmt.Sprintf("a batch of %d commands that begins with %s", e.Wanted, e.Command)
	}
	return fmt.Sprintf("%d of %d commands spent, %s by %s not sent; allow more, or ask for less", e.Spent, e.Limit, what, e.Component)
}

// A ReadOnlyError reports that a command was not sent because Options.ReadOnly is set.
type ReadOnlyError struct {
	Command   string          // lower case, with its subcommand: "client|kill"
	Component meter.Component // who asked
}

func (e *ReadOnlyError) Error() string {
	return fmt.Sprintf("%s by %s not sent: only commands that change nothing are allowed here", e.Command, e.Component)
}

// A CapError reports that a connection was not made because Options.MaxConnections exist already.
type CapError struct {
	Cap     int             // Options.MaxConnections
	Asked   meter.Component // who asked for one more
	For     string          // what it was for: "commands", "pub/sub", "shared commands", "watch and bulk"
	Holders []Holder        // who has the connections, oldest first
	Cluster bool            // a cluster needs at least one connection for each node
}

// A Holder is one open connection.
type Holder struct {
	Component meter.Component `json:"component"` // who used it last
	For       string          `json:"for"`       // as CapError.For
	Addr      string          `json:"addr"`
}

func (e *CapError) Error() string {
	s := fmt.Sprintf("%s asked for a connection for %s, but max_connections is %d and all are in use", e.Asked, e.For, e.Cap)
	holders := make([]string, 0, len(e.Holders))
	for _, h := range e.Holders {
		holders = append(holders, h.For+" by "+string(h.Component))
	}
	if len(holders) > 0 {
		s += " (" + strings.Join(holders, ", ") + ")"
	}
	if e.Cluster {
		s += "; a cluster needs one for each node, so raise max_connections to the number of nodes plus one"
	}
	return s
}
