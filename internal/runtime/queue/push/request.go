package push

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

// request is one attempt as the application gets it. The answer must be there by deadline.
func (e *Endpoint) request(ctx context.Context, job queue.Job, now, deadline time.Time) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(job.Payload))
	if err != nil {
		return nil, err
	}
	h := req.Header
	for name, value := range job.Headers {
		switch strings.ToLower(name) {
		case "traceparent", "tracestate", "baggage":
			h.Set(name, visible(value))
		default:
			if token(name) {
				h.Set(headerOther+name, visible(value))
			}
		}
	}
	h.Set(headerQueue, visible(job.Queue))
	h.Set(headerID, visible(job.ID))
	h.Set(headerName, visible(job.Name))
	h.Set(headerAttempt, strconv.Itoa(job.Attempt))
	h.Set(headerAttempts, strconv.Itoa(job.Attempts))
	h.Set(headerDeadline, deadline.UTC().Format("2006-01-02T15:04:05.000Z"))
	// Under its usual spelling net/http takes it as leave to send the request again when a kept connection ends
	// instead of an answer: an attempt that nobody counts.
	h[strings.ToLower(headerKey)] = []string{visible(job.Queue) + "/" + visible(job.ID)}
	h.Set("User-Agent", "redisopt")
	h.Set("Content-Type", "application/octet-stream")
	if json.Valid(job.Payload) {
		h.Set("Content-Type", "application/json")
	}
	h.Set(headerSignature, signature(e.opts.Secrets, now, h, job.Payload))
	return req, nil
}

// visible percent-encodes everything but visible ASCII, and the percent sign. Spaces inside stay, as
// baggage and tracestate may have them.
func visible(text string) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if c > ' ' && c < 0x7f && c != '%' || c == ' ' && i > 0 && i < len(text)-1 {
			b.WriteByte(c)
			continue
		}
		const digits = "0123456789ABCDEF"
		b.WriteByte('%')
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}

// token is whether a name can be part of a header's name.
func token(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
}
