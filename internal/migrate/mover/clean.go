package mover

import (
	"context"
	_ "embed" // the script is compiled in
	"fmt"

	"github.com/redis/go-redis/v9"
)

//go:embed clean.lua
var cleanLua string

// cleanPage is how many jobs one script of Clean looks at.
const cleanPage = 100

// Leftovers is how many jobs Clean would look at, 0 where neither end is asynq. Price: 18 commands.
func (m *Mover) Leftovers(ctx context.Context) (int64, error) {
	e, ok := m.asynqEnd()
	if !ok {
		return 0, nil
	}
	all, err := counts(ctx, m.client, e)
	if err != nil {
		return 0, err
	}
	total := int64(0)
	for _, n := range all {
		total += n
	}
	return total, nil
}

// asynqEnd is the end of the move that is asynq.
func (m *Mover) asynqEnd() (Endpoint, bool) {
	if m.opts.To.Layout == Asynq {
		return m.opts.To, true
	}
	return m.opts.From, m.opts.From.Layout == Asynq
}

// Clean takes out of the jobs at asynq what only the way back needs: moved_from, and the fields of the library
// that they came from. Only a job that has moved_from is touched. It returns how many there were, goes no
// faster than the pace of the move, may run twice and while workers run: what they finish meanwhile goes with
// the job. A job that asynq puts from one container into another just then may be overlooked; asynq and
// redisopt's own queues do not read what is left in it. It returns ErrFenced when the lease was lost.
//
// Price: two commands a job, and three for each 100.
func (m *Mover) Clean(ctx context.Context) (int64, error) {
	e, ok := m.asynqEnd()
	if !ok {
		return 0, nil
	}
	args := []any{m.opts.Fence.Token}
	for f := range fieldState {
		args = append(args, f.String())
	}
	args = append(args, "data", "returnvalue", "stacktrace")
	c := cleaner{Mover: m, script: redis.NewScript(cleanLua), args: args}
	for _, part := range e.parts() {
		for _, l := range containersOf(Asynq) {
			if err := c.container(ctx, part, l); err != nil {
				return c.cleaned, fmt.Errorf("clean %q: %w", part.Key(l.from), err)
			}
		}
	}
	return c.cleaned, nil
}

type cleaner struct {
	*Mover
	script  *redis.Script
	args    []any
	cleaned int64
}

// container goes over a list from the end where jobs come in, so that none is passed over when others leave
// it, and over a sorted set in whatever order it has.
func (c *cleaner) container(ctx context.Context, part Endpoint, l lane) error {
	key := part.Key(l.from)
	if !l.isList() {
		for cursor := uint64(0); ; {
			words, next, err := c.client.ZScan(ctx, key, cursor, "", cleanPage).Result()
			if err != nil {
				return err
			}
			ids := make([]string, 0, len(words)/2)
			for i := 0; i < len(words); i += 2 {
				ids = append(ids, words[i])
			}
			for len(ids) > 0 { // a small set comes as a whole
				n := min(len(ids), cleanPage)
				if err := c.jobs(ctx, part, ids[:n]); err != nil {
					return err
				}
				ids = ids[n:]
			}
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	}
	for at := int64(0); ; at += cleanPage {
		ids, err := c.client.LRange(ctx, key, at, at+cleanPage-1).Result()
		if err != nil || len(ids) == 0 {
			return err
		}
		if err := c.jobs(ctx, part, ids); err != nil {
			return err
		}
	}
}

func (c *cleaner) jobs(ctx context.Context, part Endpoint, ids []string) error {
	if err := c.pace(ctx, len(ids)); err != nil {
		return err
	}
	keys := []string{c.fenceKey()}
	for _, id := range ids {
		keys = append(keys, part.jobKey(id))
	}
	reply, err := c.run(ctx, c.script, keys, c.args...)
	if err != nil {
		return err
	}
	n, _ := reply.(int64)
	c.cleaned += n
	return nil
}
