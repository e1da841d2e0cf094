package queue

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// A watch knows how long Redis has been silent. Silence counts only while something is asked, so a quiet
// engine sends nothing for its sake.
type watch struct {
	bound time.Duration

	mu      sync.Mutex
	last    time.Time // the last answer
	silent  time.Time // since when questions go unanswered; zero: they do not
	err     error
	changed chan struct{}
}

func newWatch(bound time.Duration) *watch {
	return &watch{bound: bound, last: time.Now(), changed: make(chan struct{}, 1)}
}

// heard notes how a command went.
func (w *watch) heard(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case answered(err):
		w.last, w.silent, w.err = time.Now(), time.Time{}, nil
	case errors.Is(err, context.Canceled):
		// Who asked has lost patience: that says nothing.
	default:
		w.err = err
		if w.silent.IsZero() {
			w.silent = time.Now()
			select {
			case w.changed <- struct{}{}:
			default:
			}
		}
	}
}

// silence is since when questions go unanswered, zero when they do not.
func (w *watch) silence() (since, last time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.silent, w.last, w.err
}

// guard waits until ctx ends, or until Redis was silent for the bound, reconnect was called, and it was silent
// for as long again.
func (w *watch) guard(ctx context.Context, reconnect func(context.Context) error, notice func(error)) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var tried time.Time // the silence for which reconnect was called
	for {
		since, last, err := w.silence()
		wait := time.Hour
		if !since.IsZero() {
			end := since.Add(w.bound)
			if tried.Equal(since) {
				end = end.Add(w.bound)
			}
			wait = time.Until(end)
			switch {
			case wait > 0:
			case tried.Equal(since):
				return &UnreachableError{Since: last, Err: err}
			default:
				tried = since
				if reconnect != nil {
					if err := reconnect(ctx); err != nil {
						notice(err)
					}
				}
				continue
			}
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-w.changed:
		case <-timer.C:
		}
	}
}

// An ear is a hook that tells the watch how commands went.
type ear struct{ w *watch }

// DialHook changes nothing.
func (e ear) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook listens to single commands.
func (e ear) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if !setsUp(cmd) {
			e.w.heard(err)
		}
		return err
	}
}

// ProcessPipelineHook listens to pipelines.
func (e ear) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if !slices.ContainsFunc(cmds, setsUp) {
			e.w.heard(err)
		}
		return err
	}
}

// setsUp is whether a command is of those that begin a connection, which a shared connection answers without
// asking anybody.
func setsUp(cmd redis.Cmder) bool {
	switch cmd.Name() {
	case "hello", "auth", "select", "client":
		return true
	}
	return false
}

// answered is whether err, or no error, is a word from the server.
func answered(err error) bool {
	_, reply := errors.AsType[redis.Error](err)
	return err == nil || reply
}
