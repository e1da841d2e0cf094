package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

const (
	// hold is how long a job that was taken waits for a circuit to close before it is put back.
	hold = 15 * time.Second

	// busyPause is after how long a job is tried again for which there was no connection.
	busyPause = time.Second

	// reasonBytes is how much of an answer becomes a reason.
	reasonBytes = 500
)

// An Endpoint sends jobs to one URL. It is a queue.Runner, and may serve several queues.
type Endpoint struct {
	sender  *Sender
	opts    EndpointOptions
	url     string
	shown   string // without the query
	circuit *circuit

	sent, done, dead, delayed, failed atomic.Uint64
}

// Endpoint returns a Runner that sends jobs to opts.URL.
func (s *Sender) Endpoint(opts EndpointOptions) (*Endpoint, error) {
	opts = opts.withDefaults()
	u, err := opts.validate()
	if err != nil {
		return nil, fmt.Errorf("push: %w", err)
	}
	failures := opts.Failures
	if failures < 0 {
		failures = math.MaxInt
	}
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	e := &Endpoint{sender: s, opts: opts, url: u.String(), shown: shown.String(), circuit: newCircuit(failures, opts.Changed)}
	s.mu.Lock()
	s.endpoints = append(s.endpoints, e)
	s.mu.Unlock()
	return e, nil
}

// Stats are an endpoint's counts and its circuit.
type Stats struct {
	URL     string    // without its query
	Sent    uint64    // attempts
	Done    uint64    // that ended well
	Dead    uint64    // that made a dead letter
	Delayed uint64    // that are to be repeated without counting
	Failed  uint64    // others
	Open    bool      // the circuit is
	Opened  uint64    // how often it was opened
	Until   time.Time // the next try of an open circuit; zero when at once
}

// Stats are the counts until now.
func (e *Endpoint) Stats() Stats {
	s := Stats{
		URL: e.shown, Sent: e.sent.Load(), Done: e.done.Load(), Dead: e.dead.Load(), Delayed: e.delayed.Load(), Failed: e.failed.Load(),
	}
	s.Open, s.Opened, s.Until = e.circuit.state(time.Now())
	return s
}

// Admit is whether a job would be sent now, besides ahead others that are about to be. Where it says no, jobs should
// stay in Redis, where they cost nothing; EndpointOptions.Changed tells when to ask again.
func (e *Endpoint) Admit(ahead int) bool {
	ok, _ := e.circuit.admitted(time.Now(), ahead)
	return ok
}

// Run sends one job and waits for the answer.
func (e *Endpoint) Run(ctx context.Context, job queue.Job) ([]byte, error) {
	tries, err := e.wait(ctx)
	if err != nil {
		return nil, err
	}
	result, v, err := e.send(ctx, job)
	e.circuit.done(v, tries, time.Now())
	if err == nil {
		e.done.Add(1)
		return result, nil
	}
	_, dead := errors.AsType[*queue.DeadError](err)
	_, delayed := errors.AsType[*queue.RetryAfterError](err)
	switch {
	case dead:
		e.dead.Add(1)
	case delayed:
		e.delayed.Add(1)
	default:
		e.failed.Add(1)
	}
	return nil, err
}

// wait holds a job while the circuit is open. When it returns nil the circuit must be told how it went,
// and whether it was the one that tries.
func (e *Endpoint) wait(ctx context.Context) (tries bool, err error) {
	end := time.Now().Add(hold)
	if deadline, ok := ctx.Deadline(); ok {
		end = time.Now().Add(min(hold, time.Until(deadline)/2)) // it must not run out of time here
	}
	for {
		ok, tries, wait, moved := e.circuit.begin(time.Now())
		if ok {
			return tries, nil
		}
		left := time.Until(end)
		if left <= 0 {
			return false, &queue.RetryAfterError{After: max(wait, time.Second), Reason: e.shown + " is left alone after it failed several times"}
		}
		timer := time.NewTimer(min(wait, left))
		select {
		case <-ctx.Done():
		case <-moved:
		case <-timer.C:
		}
		timer.Stop()
		if err := ctx.Err(); err != nil {
			return false, err
		}
	}
}

// send makes one attempt.
func (e *Endpoint) send(parent context.Context, job queue.Job) (result []byte, v verdict, err error) {
	now := time.Now()
	ctx, cancel := context.WithTimeout(parent, e.opts.Timeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	if !job.Deadline.IsZero() && job.Deadline.Before(deadline) {
		deadline = job.Deadline
	}
	select {
	case e.sender.requests <- struct{}{}:
		defer func() { <-e.sender.requests }()
	case <-ctx.Done():
		if parent.Err() != nil {
			return nil, unknown, parent.Err()
		}
		return nil, unknown, &queue.RetryAfterError{After: busyPause, Reason: fmt.Sprintf("all %d connections were busy for %s", e.sender.opts.MaxConnections, e.opts.Timeout)}
	}
	arrival, taken := e.sender.arrival(ctx)
	req, err := e.request(arrival, job, now, deadline)
	if err != nil {
		return nil, unknown, fmt.Errorf("request to %s: %w", e.shown, err)
	}
	e.sent.Add(1)
	resp, err := e.sender.client.Do(req)
	taken()
	if err != nil {
		return nil, e.blame(parent), e.failure(ctx, parent, "no answer", now, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(max(e.opts.MaxResult, reasonBytes))+1))
	if err != nil {
		return nil, e.blame(parent), e.failure(ctx, parent, resp.Status+", but not the whole answer", now, err)
	}
	return e.judge(resp, body, now)
}

// blame is whether a missing answer is the endpoint's doing: not when the job was taken back.
func (e *Endpoint) blame(parent context.Context) verdict {
	if errors.Is(parent.Err(), context.Canceled) {
		return unknown
	}
	return failing
}

// failure says what went wrong without the URL's query, which net/http would show.
func (e *Endpoint) failure(ctx, parent context.Context, what string, since time.Time, err error) error {
	if err := parent.Err(); err != nil {
		return fmt.Errorf("%s from %s after %s: %w", what, e.shown, time.Since(since).Round(time.Millisecond), err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s from %s within %s", what, e.shown, e.opts.Timeout)
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return fmt.Errorf("%s from %s: %w", what, e.shown, err)
}

// judge is what an answer means.
func (e *Endpoint) judge(resp *http.Response, body []byte, now time.Time) ([]byte, verdict, error) {
	code := resp.StatusCode
	answer := fmt.Sprintf("%s answered %s", e.shown, status(resp))
	if text := excerpt(body); text != "" {
		answer += ": " + text
	}
	after, asked := retryAfter(resp.Header.Get("Retry-After"), now)
	switch {
	case code >= 200 && code < 300:
		if len(body) > e.opts.MaxResult {
			if e.opts.MaxResult >= 0 {
				e.opts.Notice(fmt.Errorf("the answer of %s is longer than %d bytes; it is not kept as the result", e.shown, e.opts.MaxResult))
			}
			return nil, alive, nil
		}
		return body, alive, nil
	case code == http.StatusConflict || code == http.StatusUnprocessableEntity:
		return nil, alive, &queue.DeadError{Reason: answer}
	case asked && (code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable):
		return nil, alive, &queue.RetryAfterError{After: min(max(after, time.Second), e.opts.MaxRetryAfter), Reason: answer}
	case code >= 300 && code < 400:
		return nil, alive, fmt.Errorf("%s; redirects are not followed", answer)
	case code >= 500:
		return nil, failing, errors.New(answer)
	}
	return nil, alive, errors.New(answer)
}

// status is the code and its name, not the text that the other side made up.
func status(resp *http.Response) string {
	return strings.TrimSpace(strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode))
}

// retryAfter reads seconds or a date.
func retryAfter(text string, now time.Time) (time.Duration, bool) {
	text = strings.TrimSpace(text)
	if n, err := strconv.ParseUint(text, 10, 32); err == nil {
		return time.Duration(n) * time.Second, true //nolint:gosec // 32 bits of seconds
	}
	if at, err := http.ParseTime(text); err == nil {
		return at.Sub(now), true
	}
	return 0, false
}

// excerpt is the first bytes of an answer on one line.
func excerpt(body []byte) string {
	cut := len(body) > reasonBytes
	text := strings.ToValidUTF8(string(body[:min(len(body), reasonBytes)]), "")
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if cut && text != "" {
		text += " …"
	}
	return text
}
