package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// requestID is the client's own id if it is sane, else a new one. A sane id is 1 to 128 letters, digits
// and . _ : - characters, so that it can be logged and repeated as it is.
func requestID(sent string) string {
	if sent == "" || len(sent) > 128 {
		return rand.Text()
	}
	for _, c := range []byte(sent) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == ':', c == '-':
		default:
			return rand.Text()
		}
	}
	return sent
}

// The body an operation takes, in its Metadata under bodyKind.
const (
	bodyKind  = "body"
	scopeKind = "scope"
	waitKind  = "wait" // how long it may wait besides what it does

	jsonBody  = "json"  // one JSON document, described by the operation's input
	valueBody = "value" // JSON or bytes, read by the operation itself from requestInfo
)

// admit is what a request to an operation passes: scope, rate and body. It runs before huma reads
// anything.
func (a *API) admit(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	info := infoOf(r.Context())
	meta := ctx.Operation().Metadata
	if scope, ok := meta[scopeKind].(Scope); ok && (scope != ScopeMetrics || !a.opts.OpenMetrics) {
		c, refused := a.authorize(r, scope)
		if refused != nil {
			refused.write(w, r)
			return
		}
		info.caller = c
	}
	if refused := a.switchedOff(ctx.Operation().Tags); refused != nil {
		refused.write(w, r)
		return
	}
	kind, _ := meta[bodyKind].(string)
	if kind == "" {
		if r.ContentLength != 0 {
			w.Header().Set("Connection", "close") // nobody reads it
		}
		a.run(ctx, next)
		return
	}
	held := r.ContentLength
	if held < 0 || held > a.opts.MaxBodyBytes {
		held = a.opts.MaxBodyBytes
	}
	if !a.bodies.TryAcquire(held) {
		overloaded("the server holds as many bytes of requests as it may").with("Connection", "close").write(w, r)
		return
	}
	defer a.bodies.Release(held)
	body, isJSON, refused := a.readBody(w, r, kind)
	if refused != nil {
		refused.write(w, r)
		return
	}
	info.body, info.isJSON = body, isJSON
	r.Body = io.NopCloser(bytes.NewReader(body))
	a.run(ctx, next)
}

// run does the operation within its time, which begins when its body is there.
func (a *API) run(ctx huma.Context, next func(huma.Context)) {
	most := a.opts.Timeout
	if wait, ok := ctx.Operation().Metadata[waitKind].(time.Duration); ok {
		most += wait
		_, w := humago.Unwrap(ctx)
		// A server without deadlines, in tests, has no slow clients either.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(most + writeSlack))
	}
	bounded, cancel := context.WithTimeout(ctx.Context(), most)
	defer cancel()
	next(huma.WithContext(ctx, bounded))
}

// switchedOff is why an operation is not done: a kill switch of its feature, which is its first tag, is
// thrown.
func (a *API) switchedOff(tags []string) *problemError {
	if a.opts.Control == nil || len(tags) == 0 || tags[0] == "control" || tags[0] == "health" {
		return nil
	}
	d := a.opts.Control.Current()
	if !d.Killed(tags[0]) {
		return nil
	}
	return newProblem(http.StatusServiceUnavailable, "switched_off", "Switched off",
		"the kill switch "+tags[0]+" is thrown: "+clean(d.Reason), "go on without it, as while the server is away; GET /v1/control says who threw it").
		with("Retry-After", "60")
}

// readBody reads the whole body within its bounds of size and time, and checks that it is what its
// content type says.
func (a *API) readBody(w http.ResponseWriter, r *http.Request, kind string) (body []byte, isJSON bool, refused *problemError) {
	isJSON, refused = contentType(r, kind)
	if refused != nil {
		return nil, false, refused.with("Connection", "close")
	}
	tooLarge := newProblem(http.StatusRequestEntityTooLarge, "body_too_large", "Body too large",
		fmt.Sprintf("the body has more than %d bytes", a.opts.MaxBodyBytes),
		"send less at once, or raise the server's limit on bodies").with("Connection", "close")
	if r.ContentLength > a.opts.MaxBodyBytes {
		return nil, false, tooLarge
	}
	// A server without deadlines, in tests, has no slow clients either.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(a.opts.BodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.opts.MaxBodyBytes))
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	var (
		large *http.MaxBytesError
		slow  net.Error
	)
	switch {
	case errors.As(err, &large):
		return nil, false, tooLarge
	case errors.As(err, &slow) && slow.Timeout():
		return nil, false, newProblem(http.StatusRequestTimeout, "body_timeout", "Body too slow",
			fmt.Sprintf("the body was not complete after %s", a.opts.BodyTimeout), "send it at once").with("Connection", "close")
	case err != nil:
		return nil, false, newProblem(http.StatusBadRequest, "malformed_body", "Malformed body", "the body ended before it was complete",
			"send as many bytes as Content-Length says, or the last chunk").with("Connection", "close")
	case isJSON:
		refused = checkJSON(body)
	}
	return body, isJSON, refused
}

// contentType is whether the body is JSON, or why it cannot be taken. A body without a content type is
// refused: a page of another site can make a browser send one without asking first.
func contentType(r *http.Request, kind string) (isJSON bool, refused *problemError) {
	sent := r.Header.Get("Content-Type")
	media, params, err := mime.ParseMediaType(sent)
	want := "application/json"
	if kind == valueBody {
		want = "application/json for JSON or application/octet-stream for bytes"
	}
	unsupported := newProblem(http.StatusUnsupportedMediaType, "unsupported_content_type", "Unsupported content type",
		"the body's Content-Type is "+clip(quoted(sent)), "send Content-Type: "+want)
	charset := params["charset"]
	switch {
	case r.Header.Get("Content-Encoding") != "":
		return false, newProblem(http.StatusUnsupportedMediaType, "unsupported_content_encoding", "Unsupported content encoding",
			"the body has a Content-Encoding", "send it without")
	case err != nil:
		return false, unsupported
	case media == "application/json" && (charset == "" || charset == "utf-8" || charset == "UTF-8"):
		return true, nil
	case media == "application/octet-stream" && kind == valueBody:
		return false, nil
	}
	return false, unsupported
}

func quoted(s string) string {
	if s == "" {
		return "missing"
	}
	return `"` + s + `"`
}

// checkJSON refuses what encoding/json would take or change silently: a byte that is not UTF-8, and
// nothing at all.
func checkJSON(body []byte) *problemError {
	malformed := func(detail, hint string) *problemError {
		return newProblem(http.StatusBadRequest, "malformed_body", "Malformed body", detail, hint).at("body", detail)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return malformed("the body is empty", "send one JSON document")
	}
	if !utf8.Valid(body) {
		i := 0
		for i < len(body) {
			r, size := utf8.DecodeRune(body[i:])
			if r == utf8.RuneError && size == 1 {
				break
			}
			i += size
		}
		return malformed(fmt.Sprintf("byte %d of the body is not UTF-8", i), "send JSON in UTF-8, and bytes that are no text as base64 or as application/octet-stream")
	}
	if json.Valid(body) {
		return nil
	}
	var v any
	err := json.Unmarshal(body, &v)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		line := 1 + bytes.Count(body[:min(int(syntax.Offset), len(body))], []byte("\n"))
		return malformed(fmt.Sprintf("not JSON: %s at byte %d, line %d", syntax.Error(), syntax.Offset, line), "send one JSON document")
	}
	return malformed("not JSON", "send one JSON document")
}

// jsonFormat writes without a change to < > &. It reads what readBody has checked already, and refuses
// field names that differ from ours in case: encoding/json would take them, past the checks of the field.
func jsonFormat() huma.Format {
	format := huma.DefaultJSONFormat
	format.Unmarshal = func(data []byte, v any) error {
		if err := json.Unmarshal(data, v); err != nil {
			return err
		}
		if generic, ok := v.(*any); ok {
			return lowerCase(*generic)
		}
		return nil
	}
	return format
}

// lowerCase walks through a document as far as its field names are ours.
func lowerCase(v any) error {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if err := lowerCase(e); err != nil {
				return err
			}
		}
	case map[string]any:
		for name, field := range v {
			if strings.ToLower(name) != name {
				return fmt.Errorf("unexpected field %q: field names are lower case", clip(name))
			}
			if slices.Contains([]string{"value", "ramps", "payload", "result", "progress", "headers"}, name) {
				continue // what is in them is the caller's own
			}
			if err := lowerCase(field); err != nil {
				return err
			}
		}
	}
	return nil
}

// A recorder remembers how a request was answered. Writing to a client that is gone is no error: there
// is nobody left to tell.
type recorder struct {
	http.ResponseWriter
	status int
	gone   bool
}

// WriteHeader keeps the first status.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
		r.ResponseWriter.WriteHeader(status)
	}
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	if r.gone {
		return len(p), nil
	}
	if _, err := r.ResponseWriter.Write(p); err != nil {
		r.gone = true
	}
	return len(p), nil
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// discard keeps status and headers of an answer that is not sent.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
