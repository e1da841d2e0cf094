package scenario

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redisopt/redisopt/internal/bench"
)

// An Endpoint is one HTTP request that is sent again and again.
type Endpoint struct {
	// URL is http:// or https://. Required.
	URL string

	// Method is GET by default, or POST where there is a Body.
	Method string

	// Header is sent with each request; may be nil.
	Header http.Header

	// Body is sent with each request; may be nil.
	Body []byte

	// Redirects are followed when true; otherwise a redirect is an answer like any other, and no error.
	Redirects bool

	// Want is the status that is expected; 0 means any below 400.
	Want int
}

// String is where e is, without what may be a secret.
func (e Endpoint) String() string { return redact(e.URL) }

// A StatusError means that an endpoint answered with a status that was not wanted.
type StatusError struct {
	Status int
	Body   string // its beginning
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("HTTP %d %s", e.Status, http.StatusText(e.Status))
	if e.Body != "" {
		text += ": " + e.Body
	}
	return text
}

// Class is the name of err among a result's errors: the status, timeout or connection.
func Class(err error) string {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return fmt.Sprintf("http_%d", status.Status)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "timeout"
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		return "connection"
	}
	return "error"
}

// HTTP makes e ready. Each operation is one request, its answer read to the end, over connections that are
// kept; 429 is ErrLimited. Close closes the connections.
func HTTP(e Endpoint) (*Prepared, error) {
	u, err := url.Parse(e.URL)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		return nil, fmt.Errorf("url: got %q, want http://host/path or https://host/path", redact(e.URL))
	case u.User != nil:
		return nil, fmt.Errorf("url: %s holds a password: leave it out, and give a token by the environment", redact(e.URL))
	}
	if e.Method == "" {
		e.Method = http.MethodGet
		if e.Body != nil {
			e.Method = http.MethodPost
		}
	}
	client := httpClient()
	if e.Redirects {
		client.CheckRedirect = nil
	}
	return &Prepared{
		Operation: func(ctx context.Context, span *bench.Span) error { return e.once(ctx, client, span) },
		Check:     func(context.Context) (string, error) { return "", nil },
		Close: func(context.Context) error {
			client.CloseIdleConnections()
			return nil
		},
	}, nil
}

// httpClient keeps as many connections as there are operations at once, and follows no redirect.
func httpClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 100_000, IdleConnTimeout: 90 * time.Second, ForceAttemptHTTP2: true,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, Proxy: http.ProxyFromEnvironment,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// once sends the request and reads the answer.
func (e Endpoint) once(ctx context.Context, client *http.Client, span *bench.Span) error {
	var body io.Reader
	if e.Body != nil {
		body = strings.NewReader(string(e.Body))
	}
	var trace trace
	req, err := http.NewRequestWithContext(trace.with(ctx), e.Method, e.URL, body)
	if err != nil {
		return err
	}
	if e.Header != nil {
		req.Header = e.Header.Clone()
		if host := req.Header.Get("Host"); host != "" {
			req.Host = host
		}
	}
	answer, err := client.Do(req)
	if err != nil {
		if about, ok := errors.AsType[*url.Error](err); ok {
			about.URL = redact(about.URL) // a query may hold a token, and errors are kept in results
		}
		return err
	}
	defer answer.Body.Close()
	const shown = 120
	head := make([]byte, shown)
	n, err := io.ReadFull(answer.Body, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	trace.into(span)
	switch {
	case e.Want == answer.StatusCode, e.Want == 0 && answer.StatusCode < http.StatusBadRequest:
		return nil
	case answer.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("HTTP 429: %w", bench.ErrLimited)
	}
	return &StatusError{Status: answer.StatusCode, Body: strings.ToValidUTF8(strings.TrimSpace(string(head[:n])), "?")}
}

// A trace is where the time of one request goes. Its hooks may be called late, by a connection that was made
// for a request that was given up, so they share nothing with anybody else without care.
type trace struct {
	connecting, handshake, sent  atomic.Int64 // Unix nanoseconds
	connect, tls, untilFirstByte atomic.Int64 // nanoseconds; 0: did not happen
}

func (t *trace) with(ctx context.Context) context.Context {
	now := func(at *atomic.Int64) { at.Store(time.Now().UnixNano()) }
	since := func(from, into *atomic.Int64) { into.Store(time.Now().UnixNano() - from.Load()) }
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		ConnectStart: func(string, string) { now(&t.connecting) },
		ConnectDone: func(_, _ string, err error) {
			if err == nil {
				since(&t.connecting, &t.connect)
			}
		},
		TLSHandshakeStart: func() { now(&t.handshake) },
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			if err == nil {
				since(&t.handshake, &t.tls)
			}
		},
		WroteRequest:         func(httptrace.WroteRequestInfo) { now(&t.sent) },
		GotFirstResponseByte: func() { since(&t.sent, &t.untilFirstByte) },
	})
}

// into tells span.
func (t *trace) into(span *bench.Span) {
	span.Connect = time.Duration(t.connect.Load())
	span.TLS = time.Duration(t.tls.Load())
	span.Server = time.Duration(t.untilFirstByte.Load())
}

// redact is a URL without what may be a secret.
func redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(not a URL)"
	}
	u.User, u.RawQuery = nil, ""
	return u.String()
}
