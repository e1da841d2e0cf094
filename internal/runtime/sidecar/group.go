package sidecar

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// A group is what runs together and stops together. It outlives the context that started it, because
// groups stop one after the other.
type group struct {
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	fatal   func(error)

	mu   sync.Mutex
	errs []error
}

// newGroup begins a group. Fatal is called when something in it ends before it was told to.
func newGroup(parent context.Context, fatal func(error)) *group {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	return &group{ctx: ctx, cancel: cancel, fatal: fatal}
}

// start runs f until stop.
func (g *group) start(name string, f func(ctx context.Context) error) {
	g.running.Go(func() {
		err := f(g.ctx)
		early := g.ctx.Err() == nil
		switch {
		case err != nil && (early || !errors.Is(err, context.Canceled)):
			err = fmt.Errorf("%s: %w", name, err)
		case early:
			err = fmt.Errorf("%s ended by itself", name)
		default:
			return
		}
		g.mu.Lock()
		g.errs = append(g.errs, err)
		g.mu.Unlock()
		if early {
			g.fatal(err)
		}
	})
}

// stop ends all of it and waits. The result is what went wrong, at any time.
func (g *group) stop() error {
	g.cancel()
	g.running.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	return errors.Join(g.errs...)
}
