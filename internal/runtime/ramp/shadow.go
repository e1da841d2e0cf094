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
			if class := s.judge(ctx, l); ctx.Err() == nil {
				s.c.opts.Ledger.Compared(s.c.opts.Route, class, 1, Redact(l.key))
			}
		}
	}
}

// judge compares. A difference counts only when it is still there a moment later, because writes go on meanwhile.
func (s *shadow) judge(ctx context.Context, l look) Class {
	there, err := s.read(ctx, New, l.key)
	switch {
	case err != nil:
		return Failed
	case l.there == there.there && l.value == there.value:
		return Match
	case !there.there:
		return Absent
	}
	timer := time.NewTimer(shadowSettle)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return s.again(ctx, l.key)
}

// again reads both sides anew, in a turn of the key: nobody here writes it meanwhile. A write that is still on its
// way to the new side is no difference. What is wrong there is given up, since it is not to be read from there.
func (s *shadow) again(ctx context.Context, key string) Class {
	keys := []string{key}
	turn, cancel := context.WithTimeout(ctx, s.c.opts.Timeout)
	defer cancel()
	if s.c.turns.take(turn, keys) != nil {
		return Dropped // somebody writes it for that long
	}
	defer s.c.turns.give(keys)
	if s.c.toNew.behind(key) {
		return Dropped
	}
	// Another replica that writes the key between the two reads is not seen: that counts as a difference.
	there, err := s.read(ctx, New, key)
	if err != nil {
		return Failed
	}
	here, err := s.read(ctx, Old, key)
	class := Differs
	switch {
	case err != nil:
		return Dropped // it is not the new side that failed
	case s.c.side(key) != Old:
		return Dropped // the key has moved meanwhile: now the old side is the one that is told of writes
	case here.there == there.there && here.value == there.value:
		return Late
	case !there.there:
		return Absent
	case !here.there:
		class = Extra
	}
	if s.c.mirrored(key) {
		s.c.toNew.put(&copied{key: key, remove: true})
	}
	return class
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
