package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// The bounds on a connection that Options does not set: a header takes at most 5s to arrive and 16 KiB
// of room, a connection may be idle for 2 minutes, and an answer may take 10s longer than the operation
// and its body.
const (
	readHeaderTimeout = 5 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
	writeSlack        = 10 * time.Second
)

// An ExposedError means that the API was asked to serve where other machines can reach it without any
// token.
type ExposedError struct{ Addr string }

func (e *ExposedError) Error() string {
	return fmt.Sprintf("listen on %s: other machines reach this address and no tokens are configured; configure a token, or listen on 127.0.0.1", e.Addr)
}

// CheckListener is an *ExposedError if addr can be reached from other machines and tokens is empty, else
// nil. A loopback address and a unix socket are reached from this machine alone; an address without a
// host is every address of the machine.
func CheckListener(addr net.Addr, tokens []Token) error {
	if len(tokens) > 0 || addr.Network() == "unix" {
		return nil
	}
	return exposed(addr.String())
}

// CheckListen is CheckListener before there is a listener: for a host:port of the configuration, where
// a host may also be localhost.
func CheckListen(hostPort string, tokens []Token) error {
	if len(tokens) > 0 {
		return nil
	}
	return exposed(hostPort)
}

func exposed(hostPort string) error {
	if isLocal(hostPort) {
		return nil
	}
	return &ExposedError{hostPort}
}

// isLocal is whether a host, with or without a port, is this machine's loopback by its name or address.
func isLocal(hostPort string) bool {
	host := hostPort
	if h, _, err := net.SplitHostPort(hostPort); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// Serve answers requests from l until ctx ends. Then readiness says that it stops, no new connection is
// taken, requests that wait are answered, those under way have ShutdownTimeout to end, and what is left is cut off. It closes l. It
// returns nil when everything ended in time, and an *ExposedError, at once, where CheckListener has one.
// TLS, if any, is l's.
func (a *API) Serve(ctx context.Context, l net.Listener) error {
	if err := CheckListener(l.Addr(), a.opts.Tokens); err != nil {
		return errors.Join(err, l.Close())
	}
	server := &http.Server{
		Handler:           a,
		ReadHeaderTimeout: readHeaderTimeout,
		WriteTimeout:      a.opts.Timeout + a.opts.BodyTimeout + writeSlack,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		// Requests under way outlive ctx: they have ShutdownTimeout.
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ErrorLog:    slog.NewLogLogger(a.opts.Log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		_ = server.Close() // what it still has are connections that nobody serves any more
		a.wait()
		return fmt.Errorf("api: %w", err)
	case <-ctx.Done():
	}
	a.Retire()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.opts.ShutdownTimeout)
	defer cancel()
	err := server.Shutdown(drain)
	if err != nil {
		err = fmt.Errorf("api: requests were still under way after %s and were cut off", a.opts.ShutdownTimeout)
		_ = server.Close() // the listener is closed already
	}
	if closed := <-ended; !errors.Is(closed, http.ErrServerClosed) {
		err = errors.Join(err, closed)
	}
	a.wait()
	return err
}

// Retire has readiness say that the server stops, and answers requests that wait; all others are answered as
// before until Serve ends. It comes before Serve's end where what was handed out is still to be brought back.
func (a *API) Retire() {
	a.stopping.Store(true)
	a.stopNow()
}

// wait returns when no request is being answered. A request whose connection is gone ends within the time
// of its operation.
func (a *API) wait() {
	for _, slots := range []chan struct{}{a.slots, a.waiting} {
		for range cap(slots) {
			slots <- struct{}{}
		}
		for range cap(slots) {
			<-slots
		}
	}
}
