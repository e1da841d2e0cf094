package limit

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/limit/window"
)

// Peek is the Result that a Check would give, as Redis counts, without consuming anything. It only reads:
// 2 commands, TIME and GET, and 1 more for a former limiter's set or for a subject that is carried. Unlike Check it reports when Redis does
// not answer.
func (l *Limiter) Peek(ctx context.Context, req Request) (Result, error) {
	it, err := l.prepare(req)
	if err != nil {
		return Result{}, err
	}
	if l.side(it.other).client == nil {
		return Result{}, errNoClient
	}
	now, text, others, commands, err := l.look(ctx, &it)
	if err != nil {
		return Result{}, fmt.Errorf("peek at %s: %w", it.key, err)
	}
	p := it.plan.policy
	l.clock.learn(now, l.clock.now())
	d := p.Peek(window.Decode(p, text), now, it.cost, others)
	r := Result{
		Rule: it.rule.Name, Tier: req.Tier, Subject: it.subject, Reason: ReasonChecked,
		Allowed: d.Granted > 0 || it.soft(), OverLimit: d.Granted == 0, Warning: d.Granted == 0 && it.rule.Mode == Warn,
		Limit: p.Capacity(), Used: d.Used - d.Granted, Period: p.Span(now),
		ResetAfter: micros(d.Reset), ResetAt: time.UnixMicro(now + d.Reset).UTC(), RetryAfter: micros(d.Retry), Commands: commands,
	}
	if r.Used == 0 && d.Granted > 0 && p.Algorithm != window.Fixed && p.Algorithm != window.Calendar {
		r.ResetAfter, r.ResetAt = 0, time.UnixMicro(now).UTC() // nothing counts yet
	}
	if it.cost > r.Limit {
		r.Reason, r.RetryAfter = ReasonTooLarge, 0
	}
	r.Remaining = max(0, r.Limit-r.Used)
	r.NearLimit = float64(r.Used) >= it.rule.NearRatio*float64(r.Limit)
	return r, nil
}

// look reads the server's time, the state of the item and how many the former limiter counts.
func (l *Limiter) look(ctx context.Context, it *item) (now int64, text string, others, commands int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, max(l.opts.Deadline, time.Second))
	defer cancel()
	on := l.side(it.other)
	pipe := on.client.Pipeline()
	clock := pipe.Time(ctx)
	var state *redis.StringCmd
	commands = 1
	if !it.rule.LegacyShare {
		state = pipe.Get(ctx, it.key)
		commands++
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	at, err := clock.Result()
	if err != nil {
		return 0, "", 0, commands, err
	}
	now = at.UnixMicro()
	if state != nil {
		if text, err = state.Result(); err != nil && err != redis.Nil { //nolint:errorlint // go-redis returns it as it is
			return 0, "", 0, commands, err
		}
	}
	if it.former != "" {
		where := on
		if l.formerAcross(it) {
			where = l.side(false)
		}
		commands++
		if others, err = where.client.ZCount(ctx, it.former, it.since(now), "+inf").Result(); err != nil {
			return 0, "", 0, commands, err
		}
	}
	there, err := l.elsewhere(ctx, it)
	if it.carried {
		commands++
	}
	p := it.plan.policy
	if l.bucket(it) {
		return now, it.plan.fuller(text, there, now), others, commands, err
	}
	return now, text, others + p.Peek(window.Decode(p, there), now, 0, 0).Used, commands, err
}

// Reset forgets what a request's subject has used: 1 command, UNLINK, on each side. Other replicas may go on denying
// from memory until the time they were told, and may spend what they took in advance. A former limiter's
// set is removed only where it is shared.
func (l *Limiter) Reset(ctx context.Context, req Request) error {
	it, err := l.prepare(req)
	if err != nil {
		return err
	}
	sides := []bool{it.other}
	if l.opts.Other != nil && !l.opts.Other.SameDatabase {
		sides = []bool{false, true}
	}
	for _, other := range sides {
		on := l.side(other)
		if on.client == nil {
			return errNoClient
		}
		l.locals.drop(l.memory(it.key, other))
		if err := on.client.Unlink(ctx, it.key).Err(); err != nil {
			return fmt.Errorf("reset %s: %w", it.key, err)
		}
	}
	return nil
}

// Key is the Redis key in which a request is counted, and the former limiter's key if its rule has one.
func (l *Limiter) Key(req Request) (key, former string, err error) {
	it, err := l.prepare(req)
	return it.key, it.former, err
}
