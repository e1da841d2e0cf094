package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// A hinter is an error that was made by a command and knows what to type next.
type hinter interface{ hint() string }

// hintedError adds the next thing to type to an error.
type hintedError struct {
	err  error
	next string
}

func (e *hintedError) Error() string { return e.err.Error() }
func (e *hintedError) Unwrap() error { return e.err }
func (e *hintedError) hint() string  { return e.next }

// withHint is err with what to type next, for commands that know better than its class. Nil stays
// nil.
func withHint(err error, next string) error {
	if err == nil {
		return nil
	}
	return &hintedError{err, next}
}

// usageHint is for a line of which not even the command is known.
const usageHint = "redisopt help lists the commands, redisopt COMMAND --help shows examples"

// usageHintOf is usageHint for cmd, nil for none: how it is used.
func usageHintOf(cmd *cobra.Command) string {
	if cmd == nil || !cmd.HasParent() || cmd.HasSubCommands() && !cmd.Runnable() {
		return usageHint
	}
	return fmt.Sprintf("the command is %s; %s --help shows examples", strings.TrimSuffix(cmd.UseLine(), " [flags]"), cmd.CommandPath())
}

// hintFor says what to type next after err. It is empty where the message already says so.
func hintFor(err error, code int) string {
	var h hinter
	if errors.As(err, &h) {
		return h.hint()
	}
	if code == exitInterrupted {
		return "nothing is lost; run the same command again to go on"
	}
	if len(config.Problems(err)) > 0 {
		return "redisopt config check reads the configuration without connecting, redisopt config show says where each value came from"
	}
	if hint := serveHint(err); hint != "" {
		return hint
	}
	if code == exitUsage {
		return usageHint
	}
	return upstreamHint(upstreamClass(err))
}

// upstreamHint says what to do about a Redis that could not be used.
func upstreamHint(class upstream.Class) string {
	switch class {
	case upstream.TLSMismatch:
		return "use rediss:// where the server speaks TLS and redis:// where it does not; managed Redis nearly always does"
	case upstream.TLSUntrusted:
		return "set upstream.tls_files.ca to the authority that signed the server's certificate, and check the host name in the URL"
	case upstream.Refused:
		return "check host and port, and that the server runs: redis-cli -h HOST -p PORT ping"
	case upstream.Reset, upstream.IdleClose:
		return "the server or something on the way closed the connection; run the command again, and check CLIENT KILL, maxclients and proxies"
	case upstream.Auth:
		return "put user and password into REDIS_URL (rediss://USER:PASSWORD@HOST:PORT), with @ : / in them escaped as %40 %3A %2F"
	case upstream.Permission:
		return "use a user with the rights this command needs, on a primary and not on a replica; ACL WHOAMI and ACL GETUSER show what it may"
	case upstream.Quota:
		return "wait for the next billing period or raise the plan; redisopt audit commands shows who spends"
	case upstream.RequestSize:
		return "split the value or raise the plan's request size"
	case upstream.Capacity:
		return "free memory or raise the plan; nothing can be written until then"
	case upstream.ConnectionLimit:
		return "redisopt audit connections shows who holds connections; close some or raise the limit"
	case upstream.Timedout:
		return "check network and load of the server, or wait longer with --timeout 30s"
	case upstream.DNS:
		return "check the host name in REDIS_URL"
	case upstream.Unreachable:
		return "check network, VPN and firewall between here and the server"
	case upstream.NotRedis:
		return "the address answers but is no Redis; for Upstash, REDIS_URL is the rediss:// address and not the https:// one"
	case upstream.Unavailable:
		return "the server does not offer this command; a managed plan may forbid it"
	case upstream.Loading:
		return "the server is starting or failing over; try again in a moment"
	case upstream.Spend:
		return "raise --max-commands, or leave it away for no limit"
	case upstream.None, upstream.ReadOnly, upstream.BadOptions, upstream.Canceled, upstream.Server, upstream.Unknown:
	}
	return ""
}
