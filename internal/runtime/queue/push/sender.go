package push

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"time"
)

// Defaults and limits of Options and EndpointOptions.
const (
	DefaultMaxConnections = 64
	DefaultTimeout        = time.Minute
	DefaultMaxResult      = 64 << 10
	DefaultFailures       = 5
	DefaultMaxRetryAfter  = time.Hour

	maxTimeout = 24 * time.Hour
	maxResult  = 4 << 20
	maxHeaders = 64 << 10 // bytes of an answer's headers

	// keptAlive is how long a connection waits for another job: less than the 5 s after which Node
	// closes it, so that it is not closed under a request.
	keptAlive = 4 * time.Second

	dialTimeout = 10 * time.Second
	tlsTimeout  = 10 * time.Second
)

// Options say how a Sender connects. The zero value works.
type Options struct {
	// MaxConnections bounds the connections to all endpoints together, idle ones included. Default 64.
	MaxConnections int

	// TLS is the configuration of https; nil for the system's certificates. It is cloned.
	TLS *tls.Config
}

// A Sender holds the connections that its endpoints share.
type Sender struct {
	opts      Options
	transport *http.Transport
	client    *http.Client
	requests  chan struct{} // taken by a request under way
	slots     chan struct{} // taken by a connection

	mu        sync.Mutex
	endpoints []*Endpoint
	arriving  int  // answers that have begun and are not taken yet
	crowded   bool // idle connections are to be closed when none is arriving
}

// New returns a Sender. It connects with the first job.
func New(opts Options) (*Sender, error) {
	if opts.MaxConnections == 0 {
		opts.MaxConnections = DefaultMaxConnections
	}
	if opts.MaxConnections < 1 {
		return nil, fmt.Errorf("push: max_connections: got %d, want 1 or more", opts.MaxConnections)
	}
	s := &Sender{opts: opts, requests: make(chan struct{}, opts.MaxConnections), slots: make(chan struct{}, opts.MaxConnections)}
	s.transport = &http.Transport{
		DialContext:            s.dial,
		TLSHandshakeTimeout:    tlsTimeout,
		MaxIdleConns:           opts.MaxConnections,
		MaxIdleConnsPerHost:    opts.MaxConnections,
		IdleConnTimeout:        keptAlive,
		MaxResponseHeaderBytes: maxHeaders,
		DisableCompression:     true, // what is bounded is what is read
		ForceAttemptHTTP2:      true,
	}
	if opts.TLS != nil {
		s.transport.TLSClientConfig = opts.TLS.Clone()
	}
	s.client = &http.Client{
		Transport:     s.transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s, nil
}

// Close closes idle connections. Jobs under way go on.
func (s *Sender) Close() {
	s.makeWay()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.endpoints {
		e.circuit.stop()
	}
}

// Connections are those that are open, idle ones included.
func (s *Sender) Connections() int { return len(s.slots) }

// dial opens a connection when there is a slot for it; idle ones make way, because there are no more
// requests than slots.
func (s *Sender) dial(ctx context.Context, network, address string) (net.Conn, error) {
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case s.slots <- struct{}{}:
			dialer := net.Dialer{Timeout: dialTimeout}
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				<-s.slots
				return nil, err
			}
			return &slotConn{Conn: conn, free: sync.OnceFunc(func() { <-s.slots })}, nil
		default:
		}
		s.makeWay()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-again.C:
		}
	}
}

// makeWay closes idle connections, those of answers that are arriving apart: once the last of these was taken. net/http
// counts a connection among the idle ones before it hands over an answer without a body, and loses the answer when it is
// closed in between: the job would be run again.
func (s *Sender) makeWay() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.crowded = s.arriving > 0; !s.crowded {
		s.transport.CloseIdleConnections()
	}
}

// arrival returns a context for one request whose answer is arriving from its first byte until taken is called. It must
// be called once the request was sent, whatever came of it.
func (s *Sender) arrival(ctx context.Context) (_ context.Context, taken func()) {
	var begun, over bool // guarded by s.mu
	begin := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !begun && !over {
			begun = true
			s.arriving++
		}
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotFirstResponseByte: begin}), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		over = true
		if begun {
			s.arriving--
		}
		if s.crowded && s.arriving == 0 {
			s.crowded = false
			s.transport.CloseIdleConnections()
		}
	}
}

// A slotConn gives its slot back when it is closed.
type slotConn struct {
	net.Conn

	free func()
}

func (c *slotConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}

// EndpointOptions say where jobs of a queue go. URL and Secrets are required.
type EndpointOptions struct {
	// URL is where jobs are sent: http or https, with a host and without user and fragment. Required.
	URL string

	// Secrets sign the requests, each: one, or two while they are changed. At least 16 bytes. Required.
	Secrets [][]byte

	// Timeout bounds one attempt, besides the job's own timeout. Default 1m; 1ms to 24h.
	Timeout time.Duration

	// MaxResult is the most bytes of an answer that are kept as the result. Of a longer one nothing is
	// kept, and Notice is told; the job is done all the same. Default 64 KiB; at most 4 MiB; negative keeps
	// none.
	MaxResult int

	// Failures in a row open the circuit. Default 5; negative never opens it.
	Failures int

	// MaxRetryAfter is the longest Retry-After that is taken as it is. Default 1h; at least 1s.
	MaxRetryAfter time.Duration

	// Changed is called when Admit may answer otherwise than before; it must return at once. May be nil.
	Changed func()

	// Notice is told of a result that was not kept. May be nil.
	Notice func(error)
}

func (o EndpointOptions) withDefaults() EndpointOptions {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxResult == 0 {
		o.MaxResult = DefaultMaxResult
	}
	if o.Failures == 0 {
		o.Failures = DefaultFailures
	}
	if o.MaxRetryAfter == 0 {
		o.MaxRetryAfter = DefaultMaxRetryAfter
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	if o.Notice == nil {
		o.Notice = func(error) {}
	}
	return o
}

// validate never shows the query of the URL or a secret.
func (o EndpointOptions) validate() (*url.URL, error) {
	var errs []error
	u, err := url.Parse(o.URL)
	switch {
	case err != nil:
		errs = append(errs, errors.New("url: not a URL"))
	case u.Scheme != "http" && u.Scheme != "https":
		errs = append(errs, fmt.Errorf("url: got scheme %q, want http or https", u.Scheme))
	case u.Hostname() == "":
		errs = append(errs, errors.New("url: it has no host"))
	case u.User != nil:
		errs = append(errs, errors.New("url: want no user and password in it; requests are signed"))
	case u.Fragment != "":
		errs = append(errs, errors.New("url: want no fragment"))
	}
	if n := len(o.Secrets); n < 1 || n > 2 {
		errs = append(errs, fmt.Errorf("secrets: got %d, want 1, or 2 while they are changed", n))
	}
	for i, secret := range o.Secrets {
		if len(secret) < minSecret {
			errs = append(errs, fmt.Errorf("secrets[%d]: %d bytes, want at least %d", i, len(secret), minSecret))
		}
	}
	if o.Timeout < time.Millisecond || o.Timeout > maxTimeout {
		errs = append(errs, fmt.Errorf("timeout: got %s, want 1ms to %s", o.Timeout, maxTimeout))
	}
	if o.MaxResult > maxResult {
		errs = append(errs, fmt.Errorf("max_result: got %d, want at most %d", o.MaxResult, maxResult))
	}
	if o.MaxRetryAfter < time.Second {
		errs = append(errs, fmt.Errorf("max_retry_after: got %s, want at least 1s", o.MaxRetryAfter))
	}
	return u, errors.Join(errs...)
}
