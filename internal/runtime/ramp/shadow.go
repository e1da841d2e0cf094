package ramp

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	shadowWorkers = 4
	shadowWaiting = 256                    // reads that wait to be compared
	shadowSettle  = 250 * time.Millisecond // after which a difference must still be there
)

// A look is what a reader of the old side was told.
type look struct {
	key   string
	value string
	there bool
}

// A shadow reads again from the new side what was read from the old one.
type shadow struct {
	c     *Client
	looks chan look
}

func newShadow(c *Client) *shadow { return &shadow{c: c, looks: make(chan look, shadowWaiting)} }

// offer has a read compared, unless too many wait. It never waits.
func (s *shadow) offer(key, value string, there bool) {
	select {
	case s.looks <- look{key, value, there}:
	default:
		s.c.opts.Ledger.Compared(s.c.opts.Route, Dropped, 1, "")
	}
}

func (s *shadow) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case l := <-s.looks:
			class := s.judge(ctx, l)
			if class == Differs || class == Extra {
				s.remove(ctx, l.key)
			}
			if ctx.Err() == nil {
				s.c.opts.Ledger.Compared(s.c.opts.Route, class, 1, Redact(l.key))
			}
		}
	}
}

// remove has the new side give up a key, since what is wrong there is not to be read from there, unless the key
// has moved there meanwhile.
func (s *shadow) remove(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(ctx, s.c.opts.Timeout)
	defer cancel()
	keys := []string{key}
	if s.c.turns.take(ctx, keys) != nil {
		return // somebody writes it for that long
	}
	defer s.c.turns.give(keys)
	if s.c.mirrored(key) && s.c.side(key) == Old {
		s.c.toNew.put(&copied{key: key, remove: true})
	}
}

// judge compares. A difference counts only when it is still there a moment later and both sides were read
// anew, because writes go on meanwhile.
func (s *shadow) judge(ctx context.Context, l look) Class {
	there, err := s.read(ctx, New, l.key)
	if err != nil {
		return Failed
	}
	here := l
	for late := false; ; late = true {
		switch {
		case here.there == there.there && here.value == there.value:
			if late {
				return Late
			}
			return Match
		case !there.there:
			return Absent
		case late && !here.there:
			return Extra
		case late:
			return Differs
		}
		timer := time.NewTimer(shadowSettle)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		// The new side first: a write in between has then reached the old one, and is compared next time.
		if there, err = s.read(ctx, New, l.key); err != nil {
			return Failed
		}
		if here, err = s.read(ctx, Old, l.key); err != nil {
			return Dropped // it is not the new side that failed
		}
		if s.c.side(l.key) != Old {
			return Dropped // the key has moved meanwhile: now the old side is the one that is told of writes
		}
	}
}

func (s *shadow) read(ctx context.Context, side Side, key string) (look, error) {
	ctx, cancel := context.WithTimeout(ctx, s.c.opts.Timeout)
	defer cancel()
	began := time.Now()
	value, err := s.c.client(side).Get(ctx, key).Result()
	there := err == nil
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	if side == New {
		// Whether it finds something says nothing about what callers find.
		s.c.opts.Ledger.Called(Call{Route: s.c.opts.Route, Side: New, Took: time.Since(began), Failed: err != nil}, 1)
	}
	return look{key, value, there}, err
}
