package migrate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// lookForApproval is how often it is looked whether the file that approves has appeared.
const lookForApproval = 10 * time.Second

// keep waits as await does, and while every step is in place lets the phase do meanwhile what it has to. begin is
// whether a run is to begin.
func (h *host) keep(ctx context.Context, s State, begin bool, until time.Time) error {
	var told <-chan struct{} // nil where next does not follow it: a closed one would wake it for ever
	if s.Stage == Complete && !begin {
		told = h.opts.Leave
	}
	k, ok := h.phase.(Keeper)
	if !ok || s.Stage != Complete {
		return h.await(ctx, told, until)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var kept error
	var keeping sync.WaitGroup
	keeping.Go(func() {
		if kept = k.Keep(ctx); kept != nil {
			cancel(kept)
		}
	})
	var err error
	for err == nil {
		if err = h.await(ctx, told, until); err != nil {
			break
		}
		if next, _, _ := h.next(s, false, time.Now()); next != wait {
			break
		}
	}
	cancel(nil)
	keeping.Wait()
	return errors.Join(kept, err)
}

// await returns nil when the intents were read, when told is closed, when until has come, and after a while in
// which the approval may have appeared; and the cause of ctx when that ends. It sends no command.
func (h *host) await(ctx context.Context, told <-chan struct{}, until time.Time) error {
	limit := lookForApproval
	if h.opts.Sweep > 0 {
		limit = min(limit, h.opts.Sweep)
	}
	if !until.IsZero() {
		limit = max(0, min(limit, time.Until(until)))
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		if cause := context.Cause(ctx); !errors.Is(cause, ctx.Err()) {
			return fmt.Errorf("%w: %w", ctx.Err(), cause)
		}
		return ctx.Err()
	case <-h.changed:
	case <-told:
	case <-timer.C:
	}
	if h.opts.Approval != "" {
		if _, err := os.Stat(h.opts.Approval); err == nil {
			h.mu.Lock()
			h.approved = true
			h.mu.Unlock()
		}
	}
	return nil
}
