// Package rest speaks to a Redis over HTTP, in the way of Upstash's REST API. A Transport dials
// connections that carry RESP in process and send it as requests, so that a Redis client library works
// over HTTP unchanged: what was written before a read leaves as one request.
//
// What HTTP cannot do is refused by name and with the reason, as an error reply to that command:
// blocking commands, WATCH, subscriptions on a connection, MONITOR, and arguments that are not UTF-8.
package rest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// InstanceHeader is the header in which a gateway says which process it is.
const InstanceHeader = "Redisopt-Instance"

const syncHeader = "Upstash-Sync-Token"

// errClosed is why nothing works after Close.
var errClosed = errors.New("the REST transport is closed")

// A Transport is the way to one REST endpoint. It is safe for concurrent use. It sends nothing by
// itself.
type Transport struct {
	opts Options // with defaults
	base *url.URL
	addr string // host:port, for errors

	http    atomic.Pointer[http.Client]
	breaker breaker
	budget  budget

	instance atomic.Pointer[string]
	token    atomic.Pointer[string] // the sync token of the latest reply

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup // streams
}

// New prepares a Transport and connects to nothing. It reports all problems of o at once.
func New(o Options) (*Transport, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	base, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	addr := base.Host
	if base.Port() == "" {
		port := "443"
		if strings.EqualFold(base.Scheme, "http") {
			port = "80"
		}
		addr = net.JoinHostPort(base.Hostname(), port)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &Transport{
		opts: o, base: base, addr: addr, ctx: ctx, cancel: cancel,
		breaker: breaker{after: o.BreakAfter, cooldown: o.Cooldown},
		budget:  budget{share: o.RetryShare},
	}
	t.http.Store(t.newHTTP())
	return t, nil
}

// newHTTP makes a client with sockets of its own.
func (t *Transport) newHTTP() *http.Client {
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 15 * time.Second, Count: 3}}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            dialer.DialContext,
			TLSClientConfig:        t.opts.TLS.Clone(),
			ForceAttemptHTTP2:      true,
			DisableCompression:     true,
			MaxConnsPerHost:        t.opts.MaxConnections + 2, // two for streams
			MaxIdleConnsPerHost:    t.opts.MaxConnections,
			IdleConnTimeout:        55 * time.Second, // common servers close after 60s
			MaxResponseHeaderBytes: 64 << 10,
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
		},
		// Following a redirect would hand the token to whoever it names.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// freshSockets leaves the sockets in use to those who use them and makes new ones for everybody else:
// after failures in a row the old ones may lead nowhere, and TCP takes minutes to say so.
func (t *Transport) freshSockets() {
	old := t.http.Swap(t.newHTTP())
	old.CloseIdleConnections()
}

// Addr is the endpoint's host:port.
func (t *Transport) Addr() string { return t.addr }

// Instance is which process answered last, as it says itself in InstanceHeader; "" when it does not
// say, or has not answered yet. A sidecar refuses an upstream that is itself by it.
func (t *Transport) Instance() string {
	if s := t.instance.Load(); s != nil {
		return *s
	}
	return ""
}

// Dial makes a connection that carries RESP. It sends nothing and takes no socket: it fails only after
// Close, or when ctx has ended. What is sent over it is counted by Options.Observer.
//
// Commands of one connection run in order, one request at a time. A Read with nothing written before
// it waits for a Write, and what is written during a request leaves together in the next one, so a
// multiplexer can write and read at once. The deadline for reading bounds the request. After an error
// other than an error reply the connection is of no use any more, as with a socket.
func (t *Transport) Dial(ctx context.Context) (net.Conn, error) { return t.dial(ctx, true) }

// DialUncounted is Dial for those who count by themselves what they send: Options.Observer is neither
// told nor asked.
func (t *Transport) DialUncounted(ctx context.Context) (net.Conn, error) { return t.dial(ctx, false) }

func (t *Transport) dial(ctx context.Context, counted bool) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if t.ctx.Err() != nil {
		return nil, errClosed
	}
	return newConn(t, counted), nil
}

// Close ends every stream and request under way and closes the sockets. It waits for the streams.
func (t *Transport) Close() error {
	t.cancel()
	t.work.Wait()
	t.http.Load().CloseIdleConnections()
	return nil
}
