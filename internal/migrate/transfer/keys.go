package transfer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/portable"
)

// copy copies keys, each whole or not at all. It returns how many, and how many the target kept.
func (r *running) copy(ctx context.Context, names []string) (copied, kept int64, err error) {
	if len(names) == 0 {
		return 0, 0, nil
	}
	if r.byType {
		return r.typed(ctx, names)
	}
	small, large, err := r.divide(ctx, names)
	if err != nil {
		return 0, 0, err
	}
	copied, kept, rest, err := r.dumped(ctx, small)
	if err != nil {
		return copied, kept, err
	}
	if len(rest) > 0 || len(large) > 0 {
		more, stay, err := r.typed(ctx, append(rest, large...))
		return copied + more, kept + stay, err
	}
	return copied, kept, nil
}

// divide tells small keys from large ones, which must not be in memory at once.
func (r *running) divide(ctx context.Context, names []string) (small, large []string, err error) {
	sizes := make([]*redis.IntCmd, len(names))
	_, err = r.o.Source.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range names {
			sizes[i] = p.MemoryUsage(ctx, name)
		}
		return nil
	})
	if _, refused := errors.AsType[redis.Error](err); err != nil && !refused && !errors.Is(err, redis.Nil) {
		return nil, nil, fmt.Errorf("read sizes: %w", err)
	}
	for i, name := range names {
		switch err := sizes[i].Err(); {
		case errors.Is(err, redis.Nil): // gone
		case err != nil:
			r.refuse(err) // how large it is nobody knows
			large = append(large, name)
		case sizes[i].Val() > largeKey:
			large = append(large, name)
		default:
			small = append(small, name)
		}
	}
	return small, large, nil
}

// refuse notes that a server does not take what DUMP needs, so that it is not tried again.
func (r *running) refuse(err error) {
	r.byType = true
	if r.s.Result.Why == "" {
		r.s.Result.Why = err.Error()
	}
}

// dumped copies keys as their DUMP. rest are those that have to be copied by their type.
func (r *running) dumped(ctx context.Context, names []string) (copied, kept int64, rest []string, err error) {
	if len(names) == 0 {
		return 0, 0, nil, nil
	}
	dumps, ttls := make([]*redis.StringCmd, len(names)), make([]*redis.DurationCmd, len(names))
	var clock *redis.TimeCmd // as what is left is read: the values may take long to get here
	_, err = r.o.Source.Pipelined(ctx, func(p redis.Pipeliner) error {
		clock = p.Time(ctx)
		for i, name := range names {
			ttls[i] = p.PTTL(ctx, name)
		}
		for i, name := range names {
			dumps[i] = p.Dump(ctx, name)
		}
		return nil
	})
	if _, refused := errors.AsType[redis.Error](err); err != nil && !refused && !errors.Is(err, redis.Nil) {
		return 0, 0, nil, fmt.Errorf("read the source: %w", err)
	}
	if clock.Err() != nil {
		return 0, 0, nil, fmt.Errorf("read the source's clock: %w", clock.Err())
	}
	read := clock.Val().Add(r.skew) // by the target's clock
	replies := make([]*redis.Cmd, len(names))
	_, err = r.o.Target.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range names {
			if dumps[i].Err() != nil || ttls[i].Err() != nil {
				continue
			}
			at := int64(0) // it does not expire
			switch left := ttls[i].Val(); {
			case left == -1:
			case left < time.Millisecond: // it is gone, or about to be
				continue
			default: // a moment, because what is left would be less when it gets there
				at = read.Add(left).UnixMilli()
			}
			args := []any{"restore", name, at, dumps[i].Val(), "absttl"}
			if r.s.Existing != Keep || r.s.Empty {
				args = append(args, "replace")
			}
			replies[i] = p.Do(ctx, args...)
		}
		return nil
	})
	if _, refused := errors.AsType[redis.Error](err); err != nil && !refused {
		return 0, 0, nil, fmt.Errorf("write the target: %w", err)
	}
	for i, name := range names {
		switch err := dumps[i].Err(); {
		case errors.Is(err, redis.Nil):
			continue
		case err != nil:
			r.refuse(err)
			rest = append(rest, name)
			continue
		}
		if replies[i] == nil {
			continue
		}
		switch err := replies[i].Err(); {
		case err == nil:
			copied++
		case redis.HasErrorPrefix(err, "BUSYKEY"):
			kept++
		case notTaken(err):
			r.refuse(err)
			rest = append(rest, name)
		default:
			return copied, kept, nil, fmt.Errorf("write %q: %w", name, err)
		}
	}
	return copied, kept, rest, nil
}

// notTaken is true for what a server says that does not take a DUMP, or this one.
func notTaken(err error) bool {
	text := err.Error()
	for _, part := range []string{"DUMP payload version", "Bad data format", "unknown command", "NOPERM"} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// shifted is a Sink for a Redis whose clock is ahead.
type shifted struct {
	portable.Sink
	by time.Duration
}

// Begin begins a key that expires by the other clock.
func (s shifted) Begin(k portable.Key) error {
	if !k.ExpireAt.IsZero() {
		k.ExpireAt = k.ExpireAt.Add(s.by)
	}
	return s.Sink.Begin(k)
}

// Expiries has fields expire by the other clock.
func (s shifted) Expiries(fields []portable.FieldExpiry) error {
	told, ok := s.Sink.(portable.FieldSink)
	if !ok {
		return nil
	}
	moved := make([]portable.FieldExpiry, len(fields))
	for i, f := range fields {
		moved[i] = portable.FieldExpiry{Field: f.Field, At: f.At.Add(s.by)}
	}
	return told.Expiries(moved)
}

// typed copies keys by their type.
func (r *running) typed(ctx context.Context, names []string) (copied, kept int64, err error) {
	writer := portable.NewWriter(ctx, r.o.Target)
	if r.s.Existing != Keep || r.s.Empty {
		writer.Existing = portable.Replace
	}
	writer.Written = func(_ portable.Key, err error) {
		if err != nil {
			kept++
			return
		}
		copied++
	}
	writer.Refused = func(_ portable.Key, err error) bool {
		if notTaken(err) {
			r.refuse(err) // a later pass lists it as missing
		}
		return notTaken(err)
	}
	if _, err = r.reader.Read(ctx, names, shifted{writer, r.skew}); err == nil {
		err = writer.Flush()
	}
	r.s.Result.ByType += copied
	if err != nil {
		return copied, kept, fmt.Errorf("copy by type: %w", err)
	}
	return copied, kept, nil
}
