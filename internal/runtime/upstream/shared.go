package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
)

// What further connections are for.
const (
	useShared = "shared commands"
	useLane   = "watch and bulk"
)

// A pool of connections in process, which cost no socket. The library keeps a buffer each way for
// every one of them.
const (
	inProcessPool    = 512
	inProcessBuffers = 4 << 10
)

// Mux is the shared connection to the Redis, for callers who speak RESP themselves. Over TCP it is
// made by its first command and counts in Options.MaxConnections; with Options.Shared it is the one
// that clients use too. Over REST what is sent at the same time shares a request. A Cluster has none:
// its commands go to the node that has the key, so use a client.
//
// What is sent through it is in Spent, and is admitted by Options.ReadOnly and Options.MaxCommands.
func (u *Upstream) Mux() (*mux.Mux, error) {
	if u.mux == nil {
		return nil, fmt.Errorf("%s: a cluster has no shared connection, since each node holds other keys; use a client", u.addr)
	}
	return u.mux, nil
}

// BinarySafe is whether arguments may be any bytes. Over REST they must be UTF-8.
func (u *Upstream) BinarySafe() bool { return u.rest == nil }

// Transport is how the Redis is reached: "tcp", unix sockets included, or "rest".
func (u *Upstream) Transport() string {
	if u.rest != nil {
		return "rest"
	}
	return "tcp"
}

// A dialer is how the client library gets its connections.
type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// dialInProcess makes a connection that takes no socket.
func (u *Upstream) dialInProcess(ctx context.Context, network, _ string) (net.Conn, error) {
	if name, ok := componentOfNetwork(network); ok {
		return u.bell.conn(name), nil
	}
	if u.opts.Shared {
		return u.mux.Conn(meter.Untagged), nil
	}
	return u.rest.Dial(ctx)
}

// inProcess fits the options of a client to connections in process: as many as there are callers, and
// nothing to be said when one is made.
func (u *Upstream) inProcess(o *redis.UniversalOptions) {
	o.PoolSize, o.MaxActiveConns = inProcessPool, inProcessPool
	o.ReadBufferSize, o.WriteBufferSize = inProcessBuffers, inProcessBuffers
	o.Username, o.Password, o.ClientName, o.DB = "", "", "", 0
	o.MasterName = ""
	o.Addrs = []string{u.addr}
}

// newMux makes the shared connection, which connects when it is used.
func (u *Upstream) newMux() (*mux.Mux, error) {
	o := mux.Options{
		Meter: u.opts.Meter, Allow: u.opts.Allow, DB: u.target.db,
		Timeout: u.opts.Timeout, DialTimeout: u.opts.DialTimeout,
		ComponentOf: tagOf,
		Outcome:     func(text string) meter.Outcome { return outcomeOf(replyError(text).Class) },
	}
	if u.rest != nil {
		o.Counted, o.Deadline = true, tagDeadline
		o.Unsent = restUnsent
		o.Dial = u.rest.Dial
		return mux.New(o)
	}
	o.Sent = u.muxSent
	o.Received = func(bytes, unanswered int64) {
		u.bytesIn.Add(bytes)
		u.unanswered.Add(unanswered)
	}
	if u.restricted() {
		o.Admit = func(c meter.Component, command string) error { return u.admit(command, c) }
		o.Refund = u.refund
	}
	o.Dial = func(ctx context.Context) (net.Conn, error) { return u.dialReady(ctx, useShared) }
	o.Lane = func(ctx context.Context) (net.Conn, error) { return u.dialReady(ctx, useLane) }
	return mux.New(o)
}

func (u *Upstream) muxSent(commands, writes, bytes int64) {
	if commands > 0 {
		u.commands.Add(commands)
	}
	if writes > 0 {
		u.writes.Add(writes)
	}
	if bytes > 0 {
		u.bytesOut.Add(bytes)
	}
}

// tagDeadline is a write deadline far away that carries a component.
func tagDeadline(c meter.Component) time.Time {
	return time.Now().Add(forever).In(newTag(c))
}

// A readyConn is a connection that was set up for commands: what goes over it from now on is counted by
// who writes it, and its end gives the place among the connections back.
type readyConn struct {
	net.Conn
	counted *conn
}

func (c readyConn) Close() error { return c.counted.Close() }

// SyscallConn is the way to the socket; above TLS there is none.
func (c readyConn) SyscallConn() (syscall.RawConn, error) {
	sc, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return sc.SyscallConn()
}

// dialReady makes a connection and sets it up: HELLO, or AUTH where the server is too old for it, and
// SELECT. That costs one to four commands, charged to Options.Component.
func (u *Upstream) dialReady(ctx context.Context, use string) (net.Conn, error) {
	addr, err := u.masterAddr(ctx)
	if err != nil {
		return nil, err
	}
	if err := u.reserve(ctx, use, u.opts.Component); err != nil {
		return nil, err
	}
	raw, err := u.connect(ctx, addr)
	if err != nil {
		u.conns.release()
		return nil, u.dialError(err, addr, 0)
	}
	c := u.newConn(raw, addr, use, u.opts.Component)
	if err := u.handshake(ctx, c); err != nil {
		_ = c.Close()
		return nil, err
	}
	u.connected.Store(true)
	return readyConn{raw, c}, nil
}

// handshake makes c ready for commands.
func (u *Upstream) handshake(ctx context.Context, c *conn) error {
	_, err := u.handshakeAs(ctx, c, "2")
	return err
}

// handshakeAs is handshake for a version of the protocol; spoken is whether the server knows it. Where it
// does not, the connection is ready all the same, for RESP2.
func (u *Upstream) handshakeAs(ctx context.Context, c *conn, version string) (spoken bool, err error) {
	deadline, ok := ctx.Deadline()
	if limit := time.Now().Add(u.opts.Timeout); !ok || deadline.After(limit) {
		deadline = limit
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	hello := []string{"hello", version}
	if u.target.password != "" {
		user := u.target.username
		if user == "" {
			user = "default"
		}
		hello = append(hello, "auth", user, u.target.password)
	}
	if u.opts.ClientName != "" {
		hello = append(hello, "setname", u.opts.ClientName)
	}
	reply, err := c.ask(deadline, hello...)
	if err != nil {
		return false, err
	}
	spoken = true
	if e := reply.failure(); e != nil {
		if e.Class != Unavailable && e.Class != Server {
			return false, e.at(c.addr)
		}
		spoken = false
		if err := u.oldHandshake(c, deadline); err != nil {
			return false, err
		}
	}
	if u.target.db != 0 {
		return spoken, c.demand(deadline, "select", strconv.Itoa(u.target.db))
	}
	return spoken, c.SetDeadline(time.Time{})
}

// oldHandshake is for servers that do not know HELLO.
func (u *Upstream) oldHandshake(c *conn, deadline time.Time) error {
	if u.target.password != "" {
		auth := []string{"auth", u.target.password}
		if u.target.username != "" {
			auth = []string{"auth", u.target.username, u.target.password}
		}
		if err := c.demand(deadline, auth...); err != nil {
			return err
		}
	}
	if u.opts.ClientName == "" {
		return nil
	}
	return c.demand(deadline, "client", "setname", u.opts.ClientName)
}

// A firstReply is a reply to a command that sets up a connection.
type firstReply []byte

// failure is the error reply that it may be.
func (r firstReply) failure() *Error {
	if len(r) == 0 || r[0] != '-' {
		return nil
	}
	return replyError(string(bytes.TrimRight(r[1:], "\r\n")))
}

// at says where an error came from.
func (e *Error) at(addr string) *Error {
	e.Addr, e.Unsent = addr, true
	return e
}

// demand sends a command that must succeed.
func (c *conn) demand(deadline time.Time, args ...string) error {
	reply, err := c.ask(deadline, args...)
	if err != nil {
		return err
	}
	if e := reply.failure(); e != nil {
		return e.at(c.addr)
	}
	return c.SetDeadline(time.Time{})
}

// ask sends a command and returns its reply.
func (c *conn) ask(deadline time.Time, args ...string) (firstReply, error) {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	if err := errors.Join(c.SetWriteDeadline(deadline), c.SetReadDeadline(deadline)); err != nil {
		return nil, err
	}
	if _, err := c.Write(b); err != nil {
		return nil, err
	}
	var all []byte
	var p replyParser
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		all = append(all, buf[:n]...)
		if _, ev := p.scan(buf[:n]); ev != more {
			return all, nil
		}
	}
}

// masterAddr is where to connect to: with Sentinels, where they say the master is.
func (u *Upstream) masterAddr(ctx context.Context) (string, error) {
	if len(u.opts.Sentinel.Addrs) == 0 {
		return u.target.addrs[0], nil
	}
	var errs []error
	for _, addr := range u.opts.Sentinel.Addrs {
		s := redis.NewSentinelClient(&redis.Options{
			Addr: addr, Username: u.opts.Sentinel.Username, Password: u.opts.Sentinel.Password,
			Dialer:   func(ctx context.Context, _, addr string) (net.Conn, error) { return u.dialOnce(ctx, addr) },
			PoolSize: 1, MaxRetries: -1, DialerRetries: 1, PipelinePoolSize: -1, DisableIdentity: true,
			ReadTimeout: u.opts.Timeout, ContextTimeoutEnabled: true,
		})
		master, err := s.GetMasterAddrByName(ctx, u.opts.Sentinel.Master).Result()
		_ = s.Close()
		if err == nil && len(master) == 2 {
			return net.JoinHostPort(master[0], master[1]), nil
		}
		errs = append(errs, fmt.Errorf("sentinel %s: %w", addr, err))
	}
	// Not wrapped: a Sentinel that does not know the master answers redis.Nil, which is no missing key.
	return "", &Error{Class: Unreachable, Addr: u.addr, Err: errors.New(errors.Join(errs...).Error()), Unsent: true}
}
