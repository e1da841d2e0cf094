package queue

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// find is the ticket with this token.
func (d *desk) find(token string) (*ticket, error) {
	replica, _, _ := strings.Cut(token, ".")
	if t := d.tickets[token]; t != nil && !t.said {
		return t, nil
	}
	if why, ok := d.ended[token]; ok {
		return nil, &LeaseError{Problem: why}
	}
	if replica != d.e.opts.Replica && replica != token && replica != "" {
		return nil, &LeaseError{Problem: LeaseElse, Replica: replica}
	}
	return nil, &LeaseError{Problem: LeaseUnknown}
}

// LeaseOf refuses a lease token of a job of another queue with a *LeaseError. What is not known of a token is left to
// what is done with it. It sends nothing.
func (e *Engine) LeaseOf(queue, token string) error {
	d := e.desk
	d.mu.Lock()
	defer d.mu.Unlock()
	if t := d.tickets[token]; t != nil && t.line.def.Name != queue {
		return &LeaseError{Problem: LeaseOther, Queue: t.line.def.Name}
	}
	return nil
}

// say passes on the application's word, and waits until Redis has what follows from it.
func (e *Engine) say(ctx context.Context, token string, value []byte, word error) error {
	d := e.desk
	d.mu.Lock()
	t, err := d.find(token)
	if err != nil {
		d.mu.Unlock()
		return err
	}
	t.said, t.value = true, value
	t.word <- word
	d.mu.Unlock()

	bound := time.NewTimer(2 * e.opts.CommandTimeout)
	defer bound.Stop()
	select {
	case <-t.at.over:
		return e.witness.outcome(t.at)
	case <-ctx.Done():
		return &UncertainError{Queue: t.job.Queue, ID: t.job.ID, Err: ctx.Err()}
	case <-bound.C:
		return &UncertainError{Queue: t.job.Queue, ID: t.job.ID, Err: errors.New("it is not written yet")}
	}
}

// Complete says that a leased job is done. It returns when Redis has it. The commands are the job's own, see
// EnqueueRequest; a result is 1 script of 2 more. Errors: *LeaseError, *UncertainError, *RefusedError.
func (e *Engine) Complete(ctx context.Context, token string, result []byte) error {
	return e.say(ctx, token, result, nil)
}

// Fail says that a leased job did not succeed. It returns when Redis has it. Errors: as Complete.
func (e *Engine) Fail(ctx context.Context, token string, f Failure) error {
	why := f.Reason
	if why == "" {
		why = "the application gave no reason"
	}
	var word error
	switch {
	case f.Dead:
		word = &DeadError{Reason: why}
	case f.RetryAfter > 0:
		word = &RetryAfterError{After: f.RetryAfter, Reason: why}
	default:
		word = errors.New(why)
	}
	return e.say(ctx, token, nil, word)
}

// Progress tells how far a leased job is, and extends its lease by the queue's. See Job.Progress. Errors:
// *LeaseError, *RequestError.
func (e *Engine) Progress(ctx context.Context, token string, progress json.RawMessage) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	e.desk.mu.Lock()
	t, err := e.desk.find(token)
	e.desk.mu.Unlock()
	if err != nil {
		return err
	}
	if err := t.job.Progress(progress); err != nil {
		return &RequestError{Queue: t.job.Queue, Err: err}
	}
	_, err = e.Extend(ctx, token, 0)
	return err
}

// Extend makes the lease end after length from now, at most 1h and never beyond the job's deadline; 0 means
// the queue's Lease. It sends nothing. Errors: *LeaseError.
func (e *Engine) Extend(ctx context.Context, token string, length time.Duration) (until time.Time, err error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, err
	}
	d := e.desk
	d.mu.Lock()
	defer d.mu.Unlock()
	t, err := d.find(token)
	if err != nil {
		return time.Time{}, err
	}
	t.until = d.until(t, length)
	poke(t.moved)
	return t.until, nil
}
