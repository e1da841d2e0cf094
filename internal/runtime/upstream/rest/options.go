package rest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// Defaults of Options.
const (
	DefaultTimeout         = 5 * time.Second
	DefaultMaxConnections  = 64
	DefaultMaxReplyBytes   = 64 << 20
	DefaultMaxRequestBytes = 8 << 20
	DefaultMaxBatch        = 1000
	DefaultMaxAttempts     = 3
	DefaultRetryShare      = 0.1
	DefaultBreakAfter      = 5
	DefaultCooldown        = 500 * time.Millisecond
)

// A Format is how an endpoint is asked to write its replies.
type Format string

// The formats. RESP2 costs neither side a conversion and is the default; an endpoint that answers in
// JSON all the same is understood, though bytes that are not UTF-8 are lost then. JSON asks for
// base64, which every endpoint knows and which keeps all bytes.
const (
	RESP2 Format = "resp2"
	JSON  Format = "json"
)

// Options say which endpoint to use and how patient to be. Only URL and Token are required.
type Options struct {
	// URL is https://host or http://host[:port], a path allowed. It carries no credentials.
	URL string

	// Token is the bearer token.
	Token string

	// TLS is the configuration for https; nil is the system's certificate authorities.
	TLS *tls.Config

	// Format is the form of replies; default RESP2.
	Format Format

	// Timeout is the longest one request may take, its attempts together. Default 5s. A deadline that
	// is set on the connection and is earlier goes first.
	Timeout time.Duration

	// MaxConnections is the most sockets to the endpoint, which are no Redis connections. Default 64.
	// Over HTTP/2 one is enough. A Subscription takes one more for channels and one for patterns.
	MaxConnections int

	// MaxBatch is the most commands in one request, and MaxRequestBytes about the most bytes: a longer
	// pipeline becomes several requests, one after the other. A transaction is never divided. Default
	// 1,000 commands, as the provider's own clients have it, and 8 MiB.
	MaxBatch        int
	MaxRequestBytes int64

	// MaxReplyBytes is the most bytes in one reply to a request. Default 64 MiB. What is longer ends
	// in an error, and the commands have run.
	MaxReplyBytes int64

	// MaxAttempts is how often a request is sent at most. Default 3; 1 turns retries off. Only what
	// provably did not arrive, and what only reads, is sent again.
	MaxAttempts int

	// RetryShare bounds the extra load of retries, as a share of requests. Default 0.1; a burst of 10
	// retries is possible after that many requests went through without one.
	RetryShare float64

	// BreakAfter is the number of failures in a row after which requests fail at once. Default 5.
	BreakAfter int

	// Cooldown is the pause between two trials while requests fail at once: after it one request is let
	// through, and when that succeeds, all are. Default 500ms.
	Cooldown time.Duration

	// Observer is told what is spent, and may refuse it. Its zero value counts nothing.
	Observer Observer
}

// An Observer counts what leaves in requests. Every field may be nil; all are called from many
// goroutines at once.
type Observer struct {
	// Tag is who is charged, from the write deadline that the client library set; false means that it
	// does not say.
	Tag func(deadline time.Time) (meter.Component, bool)

	// Meter is told of every command and how it ended.
	Meter *meter.Meter

	// Outcome classifies the text of an error reply, for Meter. nil makes it "server".
	Outcome func(text string) meter.Outcome

	// Write is whether a command, lower case with its subcommand after a bar, may change data. nil
	// asks the table of this package.
	Write func(command string) bool

	// Admit is asked before a command is sent, and its error refuses it; what it claimed is given back
	// by Refund when the command did not leave after all.
	Admit  func(c meter.Component, command string) error
	Refund func(n int)

	// Spent is told of every request that left.
	Spent func(Spent)

	// Timed is told where the time of every attempt at a request went, of those that nobody counts too.
	Timed func(Timing)
}

// Spent is what one attempt at a request cost.
type Spent struct {
	Commands   int64 // that left
	Writes     int64 // those of Commands that may change data
	Unanswered int64 // those of Commands to which no reply came: they may have run
	BytesOut   int64 // body
	BytesIn    int64 // body
}

func (o Options) withDefaults() Options {
	if o.Format == "" {
		o.Format = RESP2
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = DefaultMaxConnections
	}
	if o.MaxBatch == 0 {
		o.MaxBatch = DefaultMaxBatch
	}
	if o.MaxRequestBytes == 0 {
		o.MaxRequestBytes = DefaultMaxRequestBytes
	}
	if o.MaxReplyBytes == 0 {
		o.MaxReplyBytes = DefaultMaxReplyBytes
	}
	if o.MaxAttempts == 0 {
		o.MaxAttempts = DefaultMaxAttempts
	}
	if o.RetryShare == 0 {
		o.RetryShare = DefaultRetryShare
	}
	if o.BreakAfter == 0 {
		o.BreakAfter = DefaultBreakAfter
	}
	if o.Cooldown == 0 {
		o.Cooldown = DefaultCooldown
	}
	return o
}

// Validate reports all problems of o at once, and never shows the token. Zero values are right where
// there is a default.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, err := parseURL(o.URL); err != nil {
		errs = append(errs, err)
	}
	switch {
	case o.Token == "":
		bad("token: empty, want the endpoint's REST token")
	case strings.TrimSpace(o.Token) != o.Token:
		bad("token: spaces or a line break around it; remove them")
	case strings.ContainsFunc(o.Token, func(r rune) bool { return r < ' ' || r > '~' }):
		bad("token: has characters that no HTTP header can carry")
	}
	if o.Format != RESP2 && o.Format != JSON {
		bad("format: got %q, want %q or %q", o.Format, RESP2, JSON)
	}
	if o.Timeout < time.Millisecond {
		bad("timeout: got %s, want at least 1ms", o.Timeout)
	}
	if o.MaxConnections < 1 {
		bad("max connections: got %d, want 1 or more", o.MaxConnections)
	}
	if o.MaxBatch < 1 {
		bad("max batch: got %d, want 1 or more", o.MaxBatch)
	}
	if o.MaxRequestBytes < 1 {
		bad("max request bytes: got %d, want 1 or more", o.MaxRequestBytes)
	}
	if o.MaxReplyBytes < 1 {
		bad("max reply bytes: got %d, want 1 or more", o.MaxReplyBytes)
	}
	if o.MaxAttempts < 1 {
		bad("max attempts: got %d, want 1 or more", o.MaxAttempts)
	}
	if o.RetryShare < 0 || o.RetryShare > 1 {
		bad("retry share: got %g, want 0 to 1", o.RetryShare)
	}
	if o.BreakAfter < 1 {
		bad("break after: got %d, want 1 or more", o.BreakAfter)
	}
	if o.Cooldown < time.Millisecond {
		bad("cooldown: got %s, want at least 1ms", o.Cooldown)
	}
	return errors.Join(errs...)
}

// parseURL never puts the URL itself into an error: people paste credentials into it.
func parseURL(raw string) (*url.URL, error) {
	switch {
	case raw == "":
		return nil, errors.New("url: empty, want https://host, the endpoint's REST address")
	case strings.TrimSpace(raw) != raw:
		return nil, errors.New("url: spaces or a line break around it; remove them")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("url: cannot be parsed, want https://host")
	}
	switch scheme := strings.ToLower(u.Scheme); scheme {
	case "http", "https":
	case "redis", "rediss":
		return nil, fmt.Errorf("url: %s:// is the address for TCP, but this needs the REST address, https://%s", scheme, u.Hostname())
	default:
		return nil, errors.New("url: want https://host or http://host")
	}
	switch {
	case u.Host == "" || u.Hostname() == "":
		return nil, errors.New("url: no host")
	case u.User != nil:
		return nil, errors.New("url: has a user or a password in it; remove them, the token is given apart")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("url: has a query or a fragment; remove it, the token is given apart")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	return u, nil
}
