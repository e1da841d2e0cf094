package queue

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// withDefaults is the request with what its queue says where it says nothing.
func (r EnqueueRequest) withDefaults(q Queue) EnqueueRequest {
	if r.Name == "" {
		r.Name = q.Name
	}
	if r.ID == "" {
		r.ID = randomID()
	}
	if r.Priority == "" {
		r.Priority = Normal
	}
	if r.Attempts == 0 {
		r.Attempts = q.Attempts
	}
	if r.Timeout == 0 {
		r.Timeout = q.Timeout
	}
	if r.Backoff != nil {
		b := r.Backoff.withDefaults()
		r.Backoff = &b
	}
	return r
}

// validate reports every problem of a request that has its defaults, the payload's aside.
func (r EnqueueRequest) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for field, text := range map[string]string{
		"name": r.Name, "id": r.ID, "unique": r.Unique, "batch": r.Batch, "schedule": r.Schedule,
	} {
		switch {
		case len(text) > nameLimit:
			bad("%s: %d bytes, want at most %d", field, len(text), nameLimit)
		case !utf8.ValidString(text):
			bad("%s: want UTF-8", field)
		}
	}
	if strings.TrimSpace(r.Name) == "" {
		bad("name: blank")
	}
	if r.Priority != High && r.Priority != Normal && r.Priority != Low {
		bad("priority: got %q, want high, normal or low", r.Priority)
	}
	if r.Delay < 0 {
		bad("delay: got %s, want 0 or more", r.Delay)
	}
	if r.Attempts < 1 || r.Attempts > 1000 {
		bad("attempts: got %d, want 1 to 1000", r.Attempts)
	}
	if r.Timeout < time.Millisecond || r.Timeout > 30*24*time.Hour {
		bad("timeout: got %s, want 1ms to 30 days", r.Timeout)
	}
	if r.Backoff != nil {
		if err := r.Backoff.validate(); err != nil {
			bad("backoff: %w", err)
		}
	}
	bytes := 0
	for name, value := range r.Headers {
		bytes += len(name) + len(value)
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			bad("headers: want UTF-8")
		}
		if strings.HasPrefix(strings.ToLower(name), envelopeHeader) {
			bad("headers: %q: names that begin with %s are taken", name, envelopeHeader)
		}
	}
	if len(r.Headers) > headersMost || bytes > headersLimit {
		bad("headers: %d with %d bytes, want at most %d with %d", len(r.Headers), bytes, headersMost, headersLimit)
	}
	return errors.Join(errs...)
}
