package ramp

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Turns have the writes of one key go one after another, so that what the sides are told of it comes in the
// order in which it was done. They hold memory only while writes go on. The zero value works; it is safe for
// concurrent use.
type turns struct {
	mu   sync.Mutex
	keys map[string]*turn
}

// A turn is that of one key.
type turn struct {
	free  chan struct{} // has one element while nobody has the turn
	users int           // who has it, and who waits for it
}

// take waits until nobody else writes any of keys, which are sorted and have none twice: so no two callers wait for
// each other. An error says that ctx ended before; then there is nothing to give back.
func (t *turns) take(ctx context.Context, keys []string) error {
	for i, key := range keys {
		select {
		case <-t.join(key).free:
		case <-ctx.Done():
			t.leave(key)
			t.give(keys[:i])
			return fmt.Errorf("an earlier write of the key has not ended: %w", ctx.Err())
		}
	}
	return nil
}

// give lets the next one write.
func (t *turns) give(keys []string) {
	for _, key := range slices.Backward(keys) {
		t.leave(key).free <- struct{}{}
	}
}

func (t *turns) join(key string) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	own := t.keys[key]
	if own == nil {
		own = &turn{free: make(chan struct{}, 1)}
		own.free <- struct{}{}
		if t.keys == nil {
			t.keys = map[string]*turn{}
		}
		t.keys[key] = own
	}
	own.users++
	return own
}

func (t *turns) leave(key string) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	own := t.keys[key]
	if own.users--; own.users == 0 {
		delete(t.keys, key)
	}
	return own
}
