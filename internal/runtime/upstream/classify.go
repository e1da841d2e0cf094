package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// Classify says what an error of a client of an Upstream means: None for nil and for redis.Nil.
// It also understands errors of plain go-redis clients.
func Classify(err error) Class {
	if err == nil {
		return None
	}
	var (
		ours     *Error
		spend    *SpendError
		readOnly *ReadOnlyError
		limit    *CapError
		options  *OptionsError
		server   redis.Error
	)
	switch {
	case errors.As(err, &ours):
		return ours.Class
	case errors.As(err, &spend):
		return Spend
	case errors.As(err, &readOnly):
		return ReadOnly
	case errors.As(err, &limit):
		return ConnectionLimit
	case errors.As(err, &options):
		return BadOptions
	case errors.Is(err, redis.Nil):
		return None
	case errors.As(err, &server):
		return replyError(server.Error()).Class
	}
	return classifyTransport(err)
}

// Detail is the *Error in err, or one made from it: the class, and what the server said about limit
// and usage. It is nil for nil and redis.Nil.
func Detail(err error) *Error {
	c := Classify(err)
	if c == None {
		return nil
	}
	if ours, ok := errors.AsType[*Error](err); ok {
		return ours
	}
	if server, ok := errors.AsType[redis.Error](err); ok {
		e := replyError(server.Error())
		e.Err = err
		return e
	}
	return &Error{Class: c, Err: err}
}

// classifyTransport is for errors that did not come from the server as a reply.
func classifyTransport(err error) Class {
	if c, ok := muxClass(err); ok {
		return c
	}
	if c, ok := restClass(err); ok {
		return c
	}
	var (
		dns    *net.DNSError
		record tls.RecordHeaderError
	)
	switch {
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.As(err, &dns):
		return DNS
	case errors.As(err, &record):
		return TLSMismatch
	case isUntrusted(err), isAlert(err):
		return TLSUntrusted
	case isAny(err, syscall.ECONNREFUSED, syscall.ENOENT): // ENOENT: a unix socket that is not there
		return Refused
	case isAny(err, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED), isAny(err, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed):
		return Reset
	case isAny(err, syscall.EHOSTUNREACH, syscall.ENETUNREACH):
		return Unreachable
	case isTimeout(err), errors.Is(err, redis.ErrPoolTimeout):
		return Timedout
	case strings.Contains(err.Error(), "actively refused it"): // Windows has error numbers of its own
		return Refused
	case strings.Contains(err.Error(), "forcibly closed by the remote host"):
		return Reset
	}
	return Unknown
}

func isAny[E error](err error, targets ...E) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}

// isAlert is whether the other side ended the handshake with a TLS alert.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

func isUntrusted(err error) bool {
	var (
		verify  *tls.CertificateVerificationError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	return errors.As(err, &verify) || errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid)
}

// replyError classifies the text of an error reply. Providers tell their limits apart only by words,
// so words it must be; each is taken from what a provider or Redis itself sends.
func replyError(text string) *Error {
	e := &Error{Class: Server, Err: errors.New(text)}
	code, _, _ := strings.Cut(text, " ")
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	switch {
	case has("max requests limit exceeded", "max daily request limit exceeded"):
		e.Class = Quota
		e.Limit, e.Usage = numberAfter(text, "Limit:"), numberAfter(text, "Usage:")
	case has("max request size exceeded", "max single record size exceeded", "max key size exceeded"):
		e.Class = RequestSize
		e.Limit, e.Usage = numberAfter(text, "Limit:"), numberAfter(text, "Actual:")
	case has("DB capacity quota exceeded"), code == "OOM":
		e.Class = Capacity
	case has("max concurrent connections exceeded", "max number of clients reached", "max number of clients + cluster"):
		e.Class = ConnectionLimit
	case has("Command is not available", "unknown command", "unknown subcommand", "is not allowed in REST", "cluster support disabled"):
		e.Class = Unavailable
	case code == "NOAUTH", code == "WRONGPASS", has("invalid password", "without any password configured", "invalid username-password"):
		e.Class = Auth
	case code == "NOPERM", code == "READONLY", code == "DENIED":
		e.Class = Permission
	case code == "LOADING", code == "MASTERDOWN", code == "CLUSTERDOWN", code == "TRYAGAIN", code == "BUSY", code == "NOREPLICAS":
		e.Class = Loading
	}
	return e
}

// numberAfter is the first number after label in text, 0 if there is none.
func numberAfter(text, label string) int64 {
	_, rest, ok := strings.Cut(text, label)
	if !ok {
		return 0
	}
	rest = strings.TrimLeft(rest, " ")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	n, err := strconv.ParseInt(rest[:end], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// outcomeOf is the outcome under which a command that ended with class c is counted.
func outcomeOf(c Class) meter.Outcome {
	if c == None {
		return meter.OK
	}
	if c == Timedout {
		return meter.Timeout
	}
	if c == Reset || c == IdleClose {
		return meter.Lost
	}
	return meter.Outcome(c)
}
