package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// A Problem is the body of every answer that is an error (RFC 9457, application/problem+json).
type Problem struct {
	Type      string       `json:"type" doc:"urn:redisopt:problem: and the code"`
	Title     string       `json:"title" doc:"What kind of problem it is, in words"`
	Status    int          `json:"status" doc:"The HTTP status again"`
	Code      string       `json:"code" doc:"What kind of problem it is, for programs; never changes its meaning"`
	Detail    string       `json:"detail" doc:"What happened, on what"`
	Hint      string       `json:"hint,omitempty" doc:"What to do about it"`
	RequestID string       `json:"request_id" doc:"The X-Request-Id of this answer"`
	Errors    []FieldError `json:"errors,omitempty" doc:"Every part of the request that is wrong"`
	Limit     *LimitResult `json:"limit,omitempty" doc:"Of rate_limited and limiter_unavailable: the result"`
}

// A FieldError says what is wrong with one part of a request. It does not repeat what was sent, which
// may be a secret.
type FieldError struct {
	Location string `json:"location" doc:"Where: body.requests[2].cost, query.ttl"`
	Message  string `json:"message" doc:"What is wrong there"`
}

// A problemError is a Problem on its way to the client.
type problemError struct {
	problem Problem
	headers http.Header
}

func newProblem(status int, code, title, detail, hint string) *problemError {
	return &problemError{problem: Problem{
		Type: "urn:redisopt:problem:" + code, Title: title, Status: status, Code: code, Detail: detail, Hint: hint,
	}}
}

func (p *problemError) with(header, value string) *problemError {
	if p.headers == nil {
		p.headers = http.Header{}
	}
	p.headers.Set(header, value)
	return p
}

func (p *problemError) at(location, message string) *problemError {
	p.problem.Errors = append(p.problem.Errors, FieldError{location, message})
	return p
}

// Error, GetStatus, GetHeaders and ContentType are what huma asks of an error.
func (p *problemError) Error() string             { return p.problem.Code + ": " + p.problem.Detail }
func (p *problemError) GetStatus() int            { return p.problem.Status }
func (p *problemError) GetHeaders() http.Header   { return p.headers }
func (p *problemError) ContentType(string) string { return problemType }

const problemType = "application/problem+json"

// write answers a request that no operation of huma got to see.
func (p *problemError) write(w http.ResponseWriter, r *http.Request) {
	maps.Copy(w.Header(), p.headers)
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.problem.Status)
	if r.Method == http.MethodHead {
		return
	}
	body := p.problem
	body.RequestID = infoOf(r.Context()).id
	if text, err := json.Marshal(body); err == nil {
		_, _ = w.Write(append(text, '\n')) // the client may be gone
	}
}

// asProblem turns the errors of huma into ours and adds the request id: what is written is always a
// Problem.
func asProblem(ctx huma.Context, _ string, v any) (any, error) {
	var p Problem
	switch e := v.(type) {
	case *problemError:
		p = e.problem
	case *huma.ErrorModel:
		p = fromHuma(e)
	default:
		return v, nil
	}
	p.RequestID = infoOf(ctx.Context()).id
	return p, nil
}

// fromHuma is for what huma's validation found, and for errors of operations that are no problemError,
// whose text stays inside.
func fromHuma(e *huma.ErrorModel) Problem {
	if e.Status >= http.StatusInternalServerError {
		return internal().problem
	}
	p := newProblem(e.Status, "invalid_request", "Invalid request", "the request does not fit the description in /openapi.json",
		"compare with /openapi.json; unknown fields and parameters are refused so that no misspelling goes unnoticed")
	if e.Status == http.StatusBadRequest {
		p = newProblem(e.Status, "malformed_body", "Malformed body", "the body cannot be read", "send one JSON document")
		if len(e.Errors) == 0 {
			p.problem.Detail = e.Detail
		}
	}
	for _, d := range e.Errors {
		if d != nil {
			p = p.at(d.Location, clean(d.Message))
		}
	}
	return p.problem
}

// clean shortens messages of libraries, which may quote what was sent.
func clean(message string) string {
	if i := strings.IndexByte(message, '\n'); i >= 0 {
		message = message[:i]
	}
	if len(message) > 300 {
		message = strings.ToValidUTF8(message[:300], "") + "…"
	}
	return message
}

func internal() *problemError {
	return newProblem(http.StatusInternalServerError, "internal", "Internal error", "the server could not answer; this is a fault of the server",
		"report it with the request id")
}

func invalid(location, format string, args ...any) *problemError {
	message := fmt.Sprintf(format, args...)
	return newProblem(http.StatusUnprocessableEntity, "invalid_request", "Invalid request", location+": "+message,
		"compare with /openapi.json").at(location, message)
}
