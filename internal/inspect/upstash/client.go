package upstash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// DefaultURL is the address of the Developer API.
const DefaultURL = "https://api.upstash.com/v2"

// Options say whom to ask, and for how long. Email and APIKey are required.
type Options struct {
	// Email and APIKey are the credentials. The key is sent to the host of URL and nowhere else.
	Email  string
	APIKey string

	// URL is the base address. Default DefaultURL; without TLS only on a loopback address, because the
	// key would be read on the way.
	URL string

	// Timeout is the most that one call takes, retries and pauses included. Default 15s.
	Timeout time.Duration

	// MaxBytes is the longest answer that is read. Default 8 MiB.
	MaxBytes int64

	// Retries is how often a call is repeated when the API is throttled or down. Default 2; negative is
	// never.
	Retries int

	// Pause is how long to wait before the first repetition, doubled for every further one. A longer
	// Retry-After goes before it. Default 500ms.
	Pause time.Duration
}

// String hides the key.
func (o Options) String() string { return "credentials for " + o.URL }

// GoString hides the key.
func (o Options) GoString() string { return o.String() }

func (o Options) withDefaults() Options {
	if o.URL == "" {
		o.URL = DefaultURL
	}
	if o.Timeout == 0 {
		o.Timeout = 15 * time.Second
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 8 << 20
	}
	if o.Retries == 0 {
		o.Retries = 2
	}
	if o.Pause == 0 {
		o.Pause = 500 * time.Millisecond
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if o.Email == "" {
		errs = append(errs, errors.New("email: not given"))
	}
	if o.APIKey == "" {
		errs = append(errs, errors.New("API key: not given"))
	}
	if strings.ContainsFunc(o.Email+o.APIKey, unicode.IsControl) || strings.Contains(o.Email, ":") {
		errs = append(errs, errors.New("email or API key: holds a character that neither has, such as a line break"))
	}
	if o.Timeout < 0 || o.MaxBytes < 0 || o.Pause < 0 {
		errs = append(errs, errors.New("timeout, size and pause: want 0 or more"))
	}
	errs = append(errs, checkURL(o.URL))
	return errors.Join(errs...)
}

// checkURL refuses an address to which the key must not be sent. The error does not hold it.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("url: want https://HOST/PATH, without credentials and query")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && (u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()):
		return nil
	}
	return errors.New("url: want https://, because the key would be read on the way; http:// only on a loopback address")
}

// A Client asks the Developer API. It is safe for concurrent use and spends no Redis command.
type Client struct {
	opts Options
	base *url.URL
	http *http.Client
}

// New makes a client. It asks for nothing yet.
func New(opts Options) (*Client, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("upstash developer API: %w", err)
	}
	base, err := url.Parse(strings.TrimRight(opts.URL, "/"))
	if err != nil {
		return nil, errors.New("upstash developer API: url cannot be parsed")
	}
	return &Client{opts: opts, base: base, http: &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
			MaxIdleConns: 1, IdleConnTimeout: 10 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
		},
		// An answer that points elsewhere is an answer, and not a place to send the key to.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close closes connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Databases lists the databases of the account, without their credentials.
func (c *Client) Databases(ctx context.Context) ([]Database, error) {
	var all []Database
	err := c.ask(ctx, "/redis/databases", "", &all)
	return all, err
}

// Database is the one with this id, without its credentials.
func (c *Client) Database(ctx context.Context, id string) (*Database, error) {
	d := &Database{}
	if err := c.ask(ctx, "/redis/database/"+url.PathEscape(id), "credentials=hide", d); err != nil {
		return nil, err
	}
	return d, nil
}

// Stats is what Upstash counted for the database with this id.
func (c *Client) Stats(ctx context.Context, id string) (*Stats, error) {
	s := &Stats{}
	if err := c.ask(ctx, "/redis/stats/"+url.PathEscape(id), "", s); err != nil {
		return nil, err
	}
	return s, nil
}

// ask gets path and decodes the answer. It repeats what may be repeated: a GET that was throttled, that
// the API was not up for, or that was not answered.
func (c *Client) ask(ctx context.Context, path, query string, into any) error {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	pause := c.opts.Pause
	for attempt := 0; ; attempt++ {
		after, err := c.once(ctx, path, query, into)
		failed, ok := errors.AsType[*Error](err)
		if !ok {
			return err
		}
		failed.After = time.Since(begin)
		if attempt >= c.opts.Retries || failed.Class != Throttled && failed.Class != Unreachable {
			return failed
		}
		wait := max(pause, after)
		deadline, _ := ctx.Deadline()
		if time.Until(deadline) <= wait {
			return failed // the answer there is says more than a deadline would
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return failed
		case <-timer.C:
		}
		pause *= 2
	}
}

// once is one request. The duration is how long the API wants to be left alone.
func (c *Client) once(ctx context.Context, path, query string, into any) (time.Duration, error) {
	fail := &Error{Class: Unreachable, Path: path, Host: c.base.Host}
	address := *c.base
	address.Path, address.RawPath = c.base.Path+unescaped(path), c.base.EscapedPath()+path
	address.RawQuery = query
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), http.NoBody)
	if err != nil {
		fail.Class, fail.Err = Rejected, errors.New("the address cannot be made")
		return 0, fail
	}
	req.SetBasicAuth(c.opts.Email, c.opts.APIKey)
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		if canceled := context.Cause(ctx); errors.Is(canceled, context.Canceled) {
			return 0, canceled
		}
		fail.Err = withoutURL(err)
		return 0, fail
	}
	defer func() { _ = resp.Body.Close() }()
	fail.Status = resp.StatusCode
	text, err := io.ReadAll(io.LimitReader(resp.Body, c.opts.MaxBytes+1))
	switch {
	case err != nil:
		fail.Err = withoutURL(err)
		return 0, fail
	case int64(len(text)) > c.opts.MaxBytes:
		fail.Class, fail.Err = Malformed, fmt.Errorf("it is longer than %d bytes", c.opts.MaxBytes)
		return 0, fail
	case resp.StatusCode != http.StatusOK:
		fail.Class, fail.Said = classOf(resp.StatusCode), said(text, c.opts.APIKey)
		return retryAfter(resp.Header), fail
	}
	if err := json.Unmarshal(text, into); err != nil {
		fail.Class, fail.Err = Malformed, err
		return 0, fail
	}
	return 0, nil
}

func unescaped(path string) string {
	if p, err := url.PathUnescape(path); err == nil {
		return p
	}
	return path
}

// withoutURL is the reason of a failed request without its address.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// retryAfter is how many seconds a throttled client shall wait; 0 where the API does not say.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 || n > 3600 {
		return 0
	}
	return time.Duration(n) * time.Second
}

// said is the message in an error's body as one short printable line, in which the key is not.
func said(body []byte, key string) string {
	text := string(body)
	var e struct {
		Message string `json:"message"`
		Error   string `json:"error"`
	}
	if json.Unmarshal(body, &e) == nil && e.Message+e.Error != "" {
		text = e.Message
		if text == "" {
			text = e.Error
		}
	}
	text = strings.ReplaceAll(text, key, "********")
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if runes := []rune(text); len(runes) > 200 {
		text = string(runes[:200]) + "…"
	}
	return text
}
