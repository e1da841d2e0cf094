package scenario

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/rest"
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

// Class is the name of err among a result's errors: the status of HTTP, timeout, connection, or what
// upstream.Classify makes of an answer of a Redis.
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
	if class := upstream.Classify(err); class != upstream.None && class != upstream.Unknown {
		return string(class)
	}
	if is, _ := unanswered(err); is {
		return "unanswered"
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
	var trace rest.Trace
	req, err := http.NewRequestWithContext(trace.Context(ctx), e.Method, e.URL, body)
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
	into(span, trace.Timing())
	switch {
	case e.Want == answer.StatusCode, e.Want == 0 && answer.StatusCode < http.StatusBadRequest:
		return nil
	case answer.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("HTTP 429: %w", bench.ErrLimited)
	}
	return &StatusError{Status: answer.StatusCode, Body: strings.ToValidUTF8(strings.TrimSpace(string(head[:n])), "?")}
}

// into tells span where the time of a request went.
func into(span *bench.Span, t rest.Timing) {
	span.Connect, span.TLS, span.Server = t.Connect, t.TLS, t.Server
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
