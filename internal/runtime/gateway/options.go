package gateway

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
)

// Defaults and limits of Options.
const (
	DefaultMaxRequestBytes = 10 << 20
	DefaultMaxReplyBytes   = 10 << 20
	DefaultMaxBodyBytes    = 32 << 20
	DefaultMaxPipeline     = 1000
	DefaultTimeout         = 4 * time.Second

	// LongestTimeout is below the 5 seconds after which @upstash/ratelimit stops waiting and lets the
	// request pass.
	LongestTimeout = 4900 * time.Millisecond
)

// Options say what a Gateway serves, to whom and how much. Mux is required, and at least one token or
// Open; the zero value of every other field works.
type Options struct {
	// Mux carries the commands.
	Mux *mux.Mux

	// Bell carries the subscriptions. Without one /subscribe and /psubscribe are refused.
	Bell *upstream.Bell

	// Tokens are who may ask.
	Tokens []Token

	// Open answers everybody who can connect, with whatever token or none. It is for a loopback address
	// and excludes Tokens.
	Open bool

	// Allow names commands that the policy refuses and that every token with write access may run all
	// the same, such as "flushdb" or "config". Case does not matter. It cannot allow what a shared
	// connection cannot carry: blocking commands, WATCH, SUBSCRIBE and others that change a connection.
	Allow []string

	// MaxRequestBytes limits the arguments of one command, together. A larger one is answered with 413.
	// Default 10 MiB.
	MaxRequestBytes int

	// MaxReplyBytes limits the reply to one command. A larger one is replaced by an error in its place.
	// Default 10 MiB.
	MaxReplyBytes int

	// MaxBodyBytes limits the body of one HTTP request. A larger one is answered with 413 and not read.
	// Default 32 MiB, and never less than MaxRequestBytes.
	MaxBodyBytes int

	// MaxPipeline limits the commands of one /pipeline or /multi-exec. Default 1000.
	MaxPipeline int

	// Timeout is how long a request may wait for the Redis before it is answered with an error. Default
	// 4 seconds, at most 4.9.
	Timeout time.Duration

	// InstanceID names this process in the header Redisopt-Instance of every answer. Default: random.
	InstanceID string

	// NoMonitor refuses /monitor, which shows every command and every value of all clients.
	NoMonitor bool

	// NoLoop has Serve give every connection a goroutine of its own, as it does where there are no loops:
	// on systems other than Linux, on one core, with TLS. It answers the same, for more processor time.
	NoLoop bool

	// Listener are the limits of the listener that Serve runs.
	Listener Limits

	// patient lets Timeout be longer than LongestTimeout, for tests on a machine that has much else to do.
	patient bool
}

// A Token is one secret and what it may do.
type Token struct {
	// Name stands for the token in Stats; it is not secret. Default: "token-1", counted.
	Name string

	// Secret is what a client sends. At least 1 byte; white space around it is an error, since it is a
	// copying mistake.
	Secret string

	// ReadOnly limits the token to commands that only read, without the expensive ones: KEYS, SCAN,
	// RANDOMKEY, LCS, SORT_RO, the read-only script commands and /monitor.
	ReadOnly bool

	// Allow names further commands for this token alone. For a read-only token that may be an expensive
	// read, such as "scan"; it never makes it write.
	Allow []string

	// MaxPerSecond limits the HTTP requests a second, with bursts of as many. 0 is without limit.
	MaxPerSecond int

	// MaxConcurrent limits the requests being answered at once, streams among them. 0 is without limit.
	MaxConcurrent int
}

// Limits are what a listener takes from one client or from all.
type Limits struct {
	// ReadTimeout is the time for a whole request to arrive, from its first byte. Default 30 seconds.
	ReadTimeout time.Duration

	// WriteTimeout is the time for an answer to be taken, and for each piece of a stream. Default 30
	// seconds.
	WriteTimeout time.Duration

	// IdleTimeout is how long a connection may wait for its next request. Default 2 minutes.
	IdleTimeout time.Duration

	// MaxHeaderBytes limits the request line and the headers together. Default 16 KiB.
	MaxHeaderBytes int

	// MaxConnections limits the connections of all clients together. Default 10,000.
	MaxConnections int

	// MaxConnectionsPerIP limits those of one address. 0 is without limit.
	MaxConnectionsPerIP int

	// ShutdownTimeout is how long Serve waits for requests in progress once its context ends. Default
	// 10 seconds.
	ShutdownTimeout time.Duration

	// Heartbeat is the pause after which a silent stream is sent a comment line, so that a client that
	// is gone is noticed. Default 15 seconds.
	Heartbeat time.Duration
}

func (o Options) withDefaults() Options {
	o.MaxRequestBytes = orDefault(o.MaxRequestBytes, DefaultMaxRequestBytes)
	o.MaxReplyBytes = orDefault(o.MaxReplyBytes, DefaultMaxReplyBytes)
	o.MaxBodyBytes = orDefault(o.MaxBodyBytes, max(DefaultMaxBodyBytes, o.MaxRequestBytes))
	o.MaxPipeline = orDefault(o.MaxPipeline, DefaultMaxPipeline)
	o.Timeout = orDefault(o.Timeout, DefaultTimeout)
	o.Listener = o.Listener.withDefaults()
	return o
}

func (l Limits) withDefaults() Limits {
	l.ReadTimeout = orDefault(l.ReadTimeout, 30*time.Second)
	l.WriteTimeout = orDefault(l.WriteTimeout, 30*time.Second)
	l.IdleTimeout = orDefault(l.IdleTimeout, 2*time.Minute)
	l.MaxHeaderBytes = orDefault(l.MaxHeaderBytes, 16<<10)
	l.MaxConnections = orDefault(l.MaxConnections, 10_000)
	l.ShutdownTimeout = orDefault(l.ShutdownTimeout, 10*time.Second)
	l.Heartbeat = orDefault(l.Heartbeat, 15*time.Second)
	return l
}

func orDefault[T int | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

func (o Options) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Mux == nil {
		bad("mux: got none, want the one that carries the commands")
	}
	errs = append(errs, validateTokens(o.Tokens, o.Open))
	positive := func(name string, v int) {
		if v < 1 {
			bad("%s: got %d, want 1 or more", name, v)
		}
	}
	positive("max_request_bytes", o.MaxRequestBytes)
	positive("max_reply_bytes", o.MaxReplyBytes)
	positive("max_pipeline", o.MaxPipeline)
	if o.MaxBodyBytes < o.MaxRequestBytes {
		bad("max_body_bytes: got %d, want at least max_request_bytes, %d", o.MaxBodyBytes, o.MaxRequestBytes)
	}
	if o.Timeout < time.Millisecond || o.Timeout > LongestTimeout && !o.patient {
		bad("timeout: got %s, want between 1ms and %s", o.Timeout, LongestTimeout)
	}
	if !isHeaderWord(o.InstanceID) {
		bad("instance_id: got %q, want up to 64 letters, digits, dots, dashes and underscores", o.InstanceID)
	}
	errs = append(errs, o.Listener.validate())
	return errors.Join(errs...)
}

func (l Limits) validate() error {
	var errs []error
	longer := func(name string, d time.Duration) {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s: got %s, want more than 0", name, d))
		}
	}
	longer("read_timeout", l.ReadTimeout)
	longer("write_timeout", l.WriteTimeout)
	longer("idle_timeout", l.IdleTimeout)
	longer("shutdown_timeout", l.ShutdownTimeout)
	longer("heartbeat", l.Heartbeat)
	if l.MaxHeaderBytes < 1024 {
		errs = append(errs, fmt.Errorf("max_header_bytes: got %d, want at least 1024", l.MaxHeaderBytes))
	}
	if l.MaxConnections < 1 {
		errs = append(errs, fmt.Errorf("max_connections: got %d, want 1 or more", l.MaxConnections))
	}
	if l.MaxConnectionsPerIP < 0 {
		errs = append(errs, fmt.Errorf("max_connections_per_ip: got %d, want 0 or more", l.MaxConnectionsPerIP))
	}
	return errors.Join(errs...)
}

func validateTokens(tokens []Token, open bool) error {
	var errs []error
	switch {
	case open && len(tokens) > 0:
		errs = append(errs, errors.New("tokens: got some and open as well, want one of the two"))
	case !open && len(tokens) == 0:
		errs = append(errs, errors.New("tokens: got none, want at least one; open answers everybody, and must be asked for"))
	}
	for i, t := range tokens {
		errs = append(errs, t.validate(i))
		for j, u := range tokens[:i] {
			if t.Secret != "" && t.Secret == u.Secret {
				errs = append(errs, fmt.Errorf("tokens: %s and %s have the same secret", u.nameAt(j), t.nameAt(i)))
			}
		}
	}
	return errors.Join(errs...)
}

func (t Token) validate(i int) error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{t.nameAt(i)}, args...)...))
	}
	switch {
	case t.Secret == "":
		bad("secret: got nothing, want at least 1 byte")
	case strings.TrimSpace(t.Secret) != t.Secret:
		bad("secret: has white space around it, which no client will send")
	}
	if t.MaxPerSecond < 0 {
		bad("max_per_second: got %d, want 0 or more", t.MaxPerSecond)
	}
	if t.MaxConcurrent < 0 {
		bad("max_concurrent: got %d, want 0 or more", t.MaxConcurrent)
	}
	return errors.Join(errs...)
}

func (t Token) nameAt(i int) string {
	if t.Name != "" {
		return t.Name
	}
	return fmt.Sprintf("token-%d", i+1)
}

// isHeaderWord is whether s can stand in a header and in a log as it is; empty is allowed.
func isHeaderWord[T string | []byte](s T) bool {
	if len(s) > 64 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}
