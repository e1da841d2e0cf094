package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// diagnose says why the first command failed. Error replies become an *Error here, because a Redis
// that answers PING with an error cannot be used. Where the connection just ended or nothing came,
// it makes one connection more, to see whether the other side speaks TLS while we do not, or the
// other way round; that connection carries no credentials.
func (u *Upstream) diagnose(ctx context.Context, err error, begin time.Time) error {
	if server, ok := errors.AsType[redis.Error](err); ok {
		e := replyError(server.Error())
		e.Addr, e.Err = u.addr, err
		return e
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || !slices.Contains([]Class{Reset, Timedout, Unknown}, e.Class) {
		return err
	}
	if u.bytesIn.Load() > 0 || ctx.Err() != nil || len(u.target.addrs) != 1 || u.target.network != "tcp" {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, u.opts.diagnosis)
	defer cancel()
	raw, dialErr := (&net.Dialer{}).DialContext(ctx, "tcp", u.addr)
	if dialErr != nil {
		return err
	}
	defer func() { _ = raw.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = raw.SetDeadline(deadline)
	}
	reason := ""
	switch {
	case u.target.tls == nil && speaksTLS(ctx, raw):
		reason = "the server speaks TLS; use rediss:// instead of redis://"
	case u.target.tls != nil && speaksPlain(raw):
		reason = "the server does not speak TLS; use redis:// instead of rediss://"
	default:
		return err
	}
	return &Error{Class: TLSMismatch, Addr: u.addr, After: time.Since(begin), Err: errors.New(reason), Unsent: true}
}

// speaksTLS is whether a handshake gets an answer in TLS, whatever the answer says.
func speaksTLS(ctx context.Context, raw net.Conn) bool {
	err := tls.Client(raw, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx) // nothing is sent over it
	return err == nil || isAlert(err)
}

// speaksPlain is whether a PING in clear gets an answer in RESP.
func speaksPlain(raw net.Conn) bool {
	if _, err := raw.Write([]byte("*1\r\n$4\r\nPING\r\n")); err != nil {
		return false
	}
	answer := make([]byte, 1)
	n, err := raw.Read(answer)
	return err == nil && n == 1 && (answer[0] == '+' || answer[0] == '-')
}
