package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	backoffBase = 25 * time.Millisecond
	backoffMax  = time.Second
)

// do sends r until there is a reply, or none is to be had, and returns it as RESP in the memory of buf.
// What it returns beside an error are the replies to commands before a refused one.
func (t *Transport) do(ctx context.Context, r *request, deadline time.Time, buf []byte) ([]byte, error) {
	if limit := time.Now().Add(t.opts.Timeout); deadline.IsZero() || deadline.After(limit) {
		deadline = limit
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	refusal := t.claim(r)
	if len(r.cmds) == 0 {
		return buf[:0], refusal
	}
	t.budget.earn()
	body := appendBody(nil, r)
	for try := 1; ; try++ {
		reply, err := t.try(ctx, r, body, buf[:0])
		if err == nil {
			return reply, refusal
		}
		if !t.again(ctx, r, err, try) || !t.reclaim(r) {
			return buf[:0], err
		}
	}
}

// again waits until r may be sent once more, or says that it may not.
func (t *Transport) again(ctx context.Context, r *request, e *Error, try int) bool {
	if try >= t.opts.MaxAttempts || e.Open || !e.passing() || !e.Unsent && !r.repeatable() {
		return false
	}
	bound := min(backoffMax, backoffBase<<min(try-1, 16))
	d := rand.N(bound)
	deadline, _ := ctx.Deadline()
	if time.Until(deadline) <= d+t.breaker.expected() || !t.budget.take() {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// passing is whether the cause may be gone a moment later.
func (e *Error) passing() bool {
	switch e.Kind {
	case Unreached, Lost, NotReady, NoBackend:
		return true
	case TimedOut, NotREST, NeedsTLS, NoAuth, Forbidden, TooLarge, TooMany, Broken, Refused, Canceled:
	}
	return false
}

// repeatable is whether running r twice does no harm.
func (r *request) repeatable() bool {
	for _, cmd := range r.body() {
		if !cmd.kind.repeat {
			return false
		}
	}
	return true
}

// try sends r once, and counts it.
func (t *Transport) try(ctx context.Context, r *request, body, buf []byte) ([]byte, *Error) {
	begin := time.Now()
	if cause := t.breaker.allow(begin); cause != nil {
		open := *cause
		open.Open, open.Unsent, open.After = true, true, 0
		t.count(r, attempt{err: &open})
		return buf, &open
	}
	a := attempt{bytes: len(body)}
	a.answer, a.err = t.post(ctx, r.path(), body, t.opts.Format == RESP2 && !r.tx)
	if a.err == nil {
		a.reply, a.err = t.understand(r, a.answer, buf)
	}
	now := time.Now()
	a.after = now.Sub(begin)
	if a.err != nil {
		a.err.Addr, a.err.After = t.addr, a.after
		if a.err.isFailure() && t.breaker.failure(a.err, now) {
			t.freshSockets()
		}
	} else {
		t.breaker.success(a.after)
	}
	t.count(r, a)
	return a.reply, a.err
}

// path is where r goes. A single command goes to the pipeline too: its error comes with status 200
// there, which nothing on the way takes for a failure of HTTP.
func (r *request) path() string {
	if r.tx {
		return "/multi-exec"
	}
	return "/pipeline"
}

// isFailure is whether e says that the endpoint is down, rather than that it wants something else.
func (e *Error) isFailure() bool {
	switch e.Kind {
	case Unreached, TimedOut, Lost, NotReady, NoBackend, Broken:
		return true
	case NotREST, NeedsTLS, NoAuth, Forbidden, TooLarge, TooMany, Refused, Canceled:
	}
	return false
}

// An answer is what came back from an endpoint.
type answer struct {
	status  int
	kind    string // media type
	body    []byte
	retry   string // Retry-After
	encoded bool   // strings are base64
	unsent  bool   // it says that no command was run
}

// post sends body to path. An Error without Addr and After says why there is no answer.
func (t *Transport) post(ctx context.Context, path string, body []byte, resp bool) (answer, *Error) {
	var trace Trace
	ctx = trace.Context(ctx)
	if timed := t.opts.Observer.Timed; timed != nil {
		defer func() { timed(trace.Timing()) }()
	}
	req, err := t.newRequest(ctx, path, bytes.NewReader(body))
	if err != nil {
		return answer{}, &Error{Kind: Unreached, Err: err, Unsent: true}
	}
	if resp {
		req.Header["Upstash-Response-Format"] = []string{"resp2"}
	} else {
		req.Header["Upstash-Encoding"] = []string{"base64"}
	}
	res, err := t.http.Load().Do(req)
	if err != nil {
		return answer{}, t.transportError(ctx, err, trace.Connected())
	}
	defer func() { _ = res.Body.Close() }()
	t.note(res.Header)
	a := answer{status: res.StatusCode, retry: res.Header.Get("Retry-After"), encoded: !resp}
	a.kind, _, _ = strings.Cut(res.Header.Get("Content-Type"), ";")
	if a.body, err = readAll(res, t.opts.MaxReplyBytes); err != nil {
		if errors.Is(err, errTooLong) {
			return a, &Error{Kind: TooLarge, Status: a.status, Err: fmt.Errorf("more than %d bytes; ask for less at once, or allow more", t.opts.MaxReplyBytes)}
		}
		e := t.transportError(ctx, err, true)
		e.Status = a.status
		return a, e
	}
	return a, nil
}

func (t *Transport) newRequest(ctx context.Context, path string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.base.String()+path, body)
	if err != nil {
		return nil, errors.New("the request cannot be made")
	}
	req.Header["Authorization"] = []string{"Bearer " + t.opts.Token}
	req.Header["Content-Type"] = []string{"application/json"}
	req.Header["User-Agent"] = []string{"redisopt"}
	if s := t.token.Load(); s != nil {
		req.Header[syncHeader] = []string{*s}
	}
	return req, nil
}

// note keeps what a reply says of its sender.
func (t *Transport) note(h http.Header) {
	if s := h.Get(syncHeader); s != "" {
		if old := t.token.Load(); old == nil || *old != s {
			t.token.Store(&s)
		}
	}
	if s := h.Get(InstanceHeader); s != "" {
		if old := t.instance.Load(); old == nil || *old != s {
			t.instance.Store(&s)
		}
	}
}

var errTooLong = errors.New("too long")

// readAll reads the body of res, at most limit bytes.
func readAll(res *http.Response, limit int64) ([]byte, error) {
	if res.ContentLength > limit {
		return nil, errTooLong
	}
	var buf bytes.Buffer
	if res.ContentLength > 0 {
		buf.Grow(int(res.ContentLength) + bytes.MinRead)
	}
	n, err := buf.ReadFrom(io.LimitReader(res.Body, limit+1))
	if err == nil && n > limit {
		err = errTooLong
	}
	return buf.Bytes(), err
}

// transportError says what an error of the HTTP client means. Without a connection nothing was sent.
func (t *Transport) transportError(ctx context.Context, err error, connected bool) *Error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok { // its text has the URL
		err = wrapped.Err
	}
	e := &Error{Kind: Lost, Err: err, Unsent: !connected}
	if e.Unsent {
		e.Kind = Unreached
	}
	var timeout interface{ Timeout() bool }
	switch {
	case t.ctx.Err() != nil, errors.Is(context.Cause(ctx), context.Canceled):
		e.Kind = Canceled
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		e.Kind = TimedOut
	}
	return e
}

// redact hides the token, should an endpoint send it back.
func (t *Transport) redact(s string) string {
	return strings.ReplaceAll(s, t.opts.Token, "[token]")
}
