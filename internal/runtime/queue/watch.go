package queue

import (
	"context"
	"sync"
	"time"
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
	case !down(err):
		w.last, w.silent, w.err = time.Now(), time.Time{}, nil
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
