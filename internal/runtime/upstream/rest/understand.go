package rest

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// understand appends the replies in a to dst as RESP. Refusals of the whole request in words become
// the reply of each command, as every one of them was refused; other answers are an Error.
func (t *Transport) understand(r *request, a answer, dst []byte) ([]byte, *Error) {
	fail := func(k Kind, err error) ([]byte, *Error) {
		return dst[:0], &Error{Kind: k, Status: a.status, Err: err, Unsent: a.nothingRan()}
	}
	text, worded := errorText(a.body)
	text = t.redact(text)
	a.unsent = worded && strings.Contains(text, "the command was not sent")
	switch {
	case a.status == http.StatusOK, a.status == http.StatusBadRequest && !worded:
		dst, err := r.replies(dst, a)
		if err == nil {
			return dst, nil
		}
		switch {
		case errors.Is(err, errShort):
			return fail(Lost, err)
		case a.wantsTLS():
			return fail(NeedsTLS, nil)
		}
		return fail(NotREST, t.described(a, err))
	case a.status == http.StatusBadRequest, a.status == http.StatusUnauthorized && worded, a.status == http.StatusForbidden && worded:
		return r.refused(dst, text, a.status), nil
	case a.status == http.StatusRequestEntityTooLarge:
		if !strings.Contains(text, "size exceeded") {
			text = strings.TrimSuffix("ERR max request size exceeded: "+strings.TrimPrefix(text, "ERR "), ": ")
		}
		return r.refused(dst, text, a.status), nil
	case a.status == http.StatusUnauthorized:
		return fail(NoAuth, nil)
	case a.status == http.StatusForbidden:
		return fail(Forbidden, nil)
	case a.status == http.StatusTooManyRequests:
		if a.retry != "" {
			text = strings.TrimPrefix(text+", retry after "+a.retry, ", ")
		}
		return fail(TooMany, words(text))
	case a.status == http.StatusServiceUnavailable:
		return fail(NotReady, words(text))
	case a.status == http.StatusBadGateway:
		return fail(NoBackend, words(text))
	case a.status == http.StatusGatewayTimeout:
		return fail(TimedOut, words(text))
	case a.status >= http.StatusInternalServerError:
		return fail(Broken, words(text))
	case worded:
		return fail(NotREST, words(text))
	}
	return fail(NotREST, t.described(a, nil))
}

// nothingRan is whether the endpoint says that no command was run, by the status or in words.
func (a answer) nothingRan() bool {
	return a.unsent || a.status >= 300 && a.status < 500 && a.status != http.StatusBadRequest && a.status != http.StatusRequestTimeout
}

// wantsTLS is whether a is what servers say, in words of their own, to http where they speak https.
func (a answer) wantsTLS() bool {
	return a.status == http.StatusBadRequest && bytes.Contains(a.body, []byte("HTTP request")) && bytes.Contains(a.body, []byte("HTTPS"))
}

func words(text string) error {
	if text == "" {
		return nil
	}
	return errors.New(text)
}

// described says what came instead of replies.
func (t *Transport) described(a answer, err error) error {
	what := "an empty answer"
	if len(a.body) > 0 {
		what = fmt.Sprintf("the answer begins with %q", t.redact(string(a.body[:min(len(a.body), 48)])))
	}
	if a.kind != "" {
		what += ", of type " + strconv.Quote(t.redact(a.kind))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return errors.New(what)
}

// refused appends text as the error reply of each command.
func (r *request) refused(dst []byte, text string, status int) []byte {
	if r.tx && status == http.StatusBadRequest && !strings.HasPrefix(text, "EXECABORT") {
		return appendError(dst, abortedBy+text)
	}
	for range r.replyCount() {
		dst = appendError(dst, text)
	}
	return dst
}

// replyCount is the number of replies that are still to be given: of a transaction only that of EXEC.
func (r *request) replyCount() int {
	if r.tx {
		return 1
	}
	return len(r.cmds)
}

var (
	errShort = errors.New("the reply is not whole")
	errCount = errors.New("the number of replies is not that of the commands")
	errForm  = errors.New("it is neither RESP nor JSON")
)

// replies appends the replies in a, one for each command.
func (r *request) replies(dst []byte, a answer) ([]byte, error) {
	body := bytes.TrimLeft(a.body, " \t\r\n")
	if len(body) == 0 {
		if a.status == http.StatusOK {
			return dst, errShort
		}
		return dst, errForm
	}
	isJSON := body[0] == '[' || body[0] == '{'
	switch {
	case isJSON && r.tx:
		inner, err := appendResults(nil, body, len(r.body()), a.encoded)
		if err != nil {
			return dst, jsonError(body, err)
		}
		dst = append(strconv.AppendInt(append(dst, '*'), int64(len(r.body())), 10), "\r\n"...)
		return append(dst, inner...), nil
	case isJSON:
		dst, err := appendResults(dst, body, len(r.cmds), a.encoded)
		return dst, jsonError(body, err)
	case bytes.IndexByte([]byte("+-:$*"), body[0]) < 0 || strings.HasPrefix(a.kind, "text/"):
		return dst, errForm
	}
	end := skip(a.body, 0, 0)
	switch {
	case end == -1:
		return dst, errShort
	case end < 0:
		return dst, errForm
	case end < len(a.body):
		return dst, errMoreText
	case r.tx:
		return append(dst, a.body...), nil
	case a.body[0] == '-': // one error for the whole request
		for range r.cmds {
			dst = append(dst, a.body...)
		}
		return dst, nil
	}
	line, after := cutLine(a.body, 0)
	if n, ok := parseLength(line, '*', maxBulk); !ok || n != len(r.cmds) {
		return dst, errCount
	}
	return append(dst, a.body[after:]...), nil
}

// jsonError is errShort for a body that stops before its end.
func jsonError(body []byte, err error) error {
	if err == nil {
		return nil
	}
	if last := bytes.TrimRight(body, " \t\r\n"); last[len(last)-1] != ']' && last[len(last)-1] != '}' {
		return errShort
	}
	return err
}
