package gateway

import "context"

// A Request is one HTTP request as the core sees it. The byte slices belong to Handle for the length of
// the call: it decodes percent-encoding and JSON escapes in place.
type Request struct {
	// Method is the HTTP method in upper case.
	Method string

	// Path is the path as it was sent, percent-encoded, without the query.
	Path []byte

	// Query is the query as it was sent, without the question mark.
	Query []byte

	// Authorization is the header of that name.
	Authorization []byte

	// Encoding is the header Upstash-Encoding: empty or "base64".
	Encoding []byte

	// Format is the header Upstash-Response-Format: empty, "json" or "resp2".
	Format []byte

	// RequestID is the header X-Request-Id. It is taken over when it is 1 to 64 letters, digits, dots,
	// dashes and underscores, and replaced otherwise.
	RequestID []byte

	// Body is the whole body. Adapters never read more than Options.MaxBodyBytes of it.
	Body []byte

	// TooLarge says that the body was longer than Options.MaxBodyBytes and was not read.
	TooLarge bool
}

// reset empties r for the next request.
func (r *Request) reset() { *r = Request{} }

// A Reply is the answer of Handle. A zero Reply is ready; a Reply may be used again, and then keeps the
// memory of its Body.
type Reply struct {
	// Status is the HTTP status: 200, 400, 401, 405, 413, 429, 502, 503 or 504.
	Status int

	// ContentType is the header of that name, never empty.
	ContentType string

	// RequestID is the header X-Request-Id.
	RequestID []byte

	// RetryAfter is the header Retry-After in seconds; 0 means none.
	RetryAfter int

	// Body is the whole answer, unless Stream is set.
	Body []byte

	// Stream, when not nil, writes the answer piece by piece, as server-sent events. The adapter calls
	// it once the headers are out, with a function that writes and flushes one piece and returns an
	// error when the client is gone. It returns when ctx ends, when the client is gone, or when there is
	// nothing more to come.
	Stream func(ctx context.Context, write func([]byte) error) error
}

const (
	jsonType   = "application/json"
	resp2Type  = "application/octet-stream"
	streamType = "text/event-stream"
)

func (r *Reply) reset() {
	r.Status, r.ContentType, r.RetryAfter, r.Stream = 200, jsonType, 0, nil
	r.RequestID, r.Body = r.RequestID[:0], r.Body[:0]
}
