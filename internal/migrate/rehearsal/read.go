package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
)

// readPage is how many keys are read in one round trip.
const readPage = 50

// A reader copies keys with commands that only read, so that no key is touched, and counts what it holds.
type reader struct {
	client redis.UniversalClient
	pace   *migrate.Pace
	bytes  int
	full   bool // maxBytes is reached, so nothing more is copied
	left   map[string]int64
	cut    map[string]bool // keys of which only a part was copied
	asked  int64
	tell   func(keys int64) // may be nil
}

// A reading is one key that is being read.
type reading struct {
	key  capture.Key
	ttl  *redis.DurationCmd
	size *redis.IntCmd
	most int
	take func() (any, error)
}

// read copies keys of any type, of a collection at most the given number of elements, half of them from
// either end, and none twice where it shrank meanwhile. Missing ones are not in the result. Price: 4 commands a key that is there, 1 for one that is
// not, and 1 more for a list or sorted set of which only the ends are taken.
func (r *reader) read(ctx context.Context, names []string, most int) ([]capture.Key, error) {
	var out []capture.Key
	for page := range slices.Chunk(names, readPage) {
		if r.full {
			r.left["the copy is full"] += int64(len(page))
			continue
		}
		if err := r.pace.Wait(ctx, len(page)); err != nil {
			return nil, err
		}
		keys, err := r.page(ctx, page, most)
		if err != nil {
			return nil, err
		}
		out = append(out, keys...)
		if r.asked += int64(len(page)); r.tell != nil {
			r.tell(r.asked)
		}
	}
	return out, nil
}

func (r *reader) page(ctx context.Context, names []string, most int) ([]capture.Key, error) {
	types := make([]*redis.StatusCmd, len(names))
	if _, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range names {
			types[i] = p.Type(ctx, name)
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read types: %w", err)
	}
	var all []*reading
	for i, name := range names {
		if kind := types[i].Val(); kind != "none" {
			all = append(all, &reading{key: capture.Key{Name: name, Type: kind}, most: most})
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	if _, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, one := range all {
			one.ttl = p.PTTL(ctx, one.key.Name)
			one.size = sizeOf(ctx, p, one.key)
		}
		return nil
	}); err != nil && !isReply(err) {
		return nil, fmt.Errorf("read sizes: %w", err)
	}
	all = slices.DeleteFunc(all, r.leaves)
	if len(all) == 0 {
		return nil, nil
	}
	if _, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, one := range all {
			one.take = valueOf(ctx, p, one)
		}
		return nil
	}); err != nil && !isReply(err) {
		return nil, fmt.Errorf("read values: %w", err)
	}
	return r.taken(all)
}

// isReply is whether err is what the server said of one command, such as nil or a wrong type: the key
// changed meanwhile.
func isReply(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok
}

// leaves is whether a key is not copied, and notes why.
func (r *reader) leaves(one *reading) bool {
	switch one.key.Type {
	case "string":
		if one.size.Val() > maxValueBytes {
			r.left[fmt.Sprintf("strings over %d bytes", maxValueBytes)]++
			return true
		}
	case "list", "hash", "set", "zset", "stream":
		if one.size.Val() > int64(one.most) {
			r.cut[one.key.Name] = true
		}
	default:
		r.left["keys of type "+one.key.Type]++
		return true
	}
	return one.ttl.Val() == -2 || one.size.Err() != nil // it ended meanwhile
}

// taken are the keys as they were read.
func (r *reader) taken(all []*reading) ([]capture.Key, error) {
	var out []capture.Key
	for _, one := range all {
		value, err := one.take()
		if err != nil {
			if isReply(err) {
				continue
			}
			return nil, fmt.Errorf("read %q: %w", one.key.Name, err)
		}
		one.key.Value, one.key.TTL = value, one.ttl.Val()
		if one.key.TTL <= 0 {
			one.key.TTL = -1
		}
		if r.bytes += weight(one.key); r.bytes > maxBytes {
			r.full = true
		}
		if !empty(value) {
			out = append(out, one.key)
		}
	}
	return out, nil
}

// empty is whether a collection ended meanwhile.
func empty(value any) bool {
	switch v := value.(type) {
	case map[string]string:
		return len(v) == 0
	case []string:
		return len(v) == 0
	case [][2]string:
		return len(v) == 0
	case []redis.XMessage:
		return len(v) == 0
	}
	return false
}

// weight is about how many bytes a key takes.
func weight(k capture.Key) int {
	n := len(k.Name)
	switch v := k.Value.(type) {
	case string:
		n += len(v)
	case map[string]string:
		for field, value := range v {
			n += len(field) + len(value)
		}
	case []string:
		for _, e := range v {
			n += len(e)
		}
	case [][2]string:
		for _, e := range v {
			n += len(e[0]) + len(e[1])
		}
	case []redis.XMessage:
		n += 100 * len(v)
	}
	return n
}

func sizeOf(ctx context.Context, p redis.Pipeliner, k capture.Key) *redis.IntCmd {
	switch k.Type {
	case "string":
		return p.StrLen(ctx, k.Name)
	case "list":
		return p.LLen(ctx, k.Name)
	case "hash":
		return p.HLen(ctx, k.Name)
	case "set":
		return p.SCard(ctx, k.Name)
	case "zset":
		return p.ZCard(ctx, k.Name)
	case "stream":
		return p.XLen(ctx, k.Name)
	}
	return p.Exists(ctx, k.Name)
}

// valueOf queues what reads a key, or its ends, and returns how to get at it.
func valueOf(ctx context.Context, p redis.Pipeliner, one *reading) func() (any, error) {
	name, half := one.key.Name, int64(max(1, one.most/2))
	whole := one.size.Val() <= int64(one.most)
	switch one.key.Type {
	case "list":
		if whole {
			cmd := p.LRange(ctx, name, 0, -1)
			return func() (any, error) { return cmd.Result() }
		}
		head, tail := p.LRange(ctx, name, 0, half-1), p.LRange(ctx, name, -half, -1)
		return func() (any, error) {
			return ends(head.Val(), tail.Val(), func(e string) string { return e }), errors.Join(head.Err(), tail.Err())
		}
	case "zset":
		if whole {
			cmd := p.ZRangeWithScores(ctx, name, 0, -1)
			return func() (any, error) { return pairs(cmd.Val()), cmd.Err() }
		}
		head, tail := p.ZRangeWithScores(ctx, name, 0, half-1), p.ZRangeWithScores(ctx, name, -half, -1)
		return func() (any, error) {
			return ends(pairs(head.Val()), pairs(tail.Val()), func(m [2]string) string { return m[0] }), errors.Join(head.Err(), tail.Err())
		}
	case "hash":
		if whole {
			cmd := p.HGetAll(ctx, name)
			return func() (any, error) { return cmd.Result() }
		}
		cmd := p.HScan(ctx, name, 0, "", int64(one.most))
		return func() (any, error) {
			flat, _, err := cmd.Result()
			fields := map[string]string{}
			for i := 0; i+1 < len(flat); i += 2 {
				fields[flat[i]] = flat[i+1]
			}
			return fields, err
		}
	case "set":
		if whole {
			cmd := p.SMembers(ctx, name)
			return func() (any, error) { slices.Sort(cmd.Val()); return cmd.Result() }
		}
		cmd := p.SScan(ctx, name, 0, "", int64(one.most))
		return func() (any, error) {
			members, _, err := cmd.Result()
			slices.Sort(members)
			return members, err
		}
	case "stream":
		cmd := p.XRevRangeN(ctx, name, "+", "-", int64(one.most))
		return func() (any, error) { slices.Reverse(cmd.Val()); return cmd.Result() }
	}
	cmd := p.GetRange(ctx, name, 0, -1)
	return func() (any, error) { return cmd.Result() }
}

// ends is head, and what tail has that head has not: they overlap where the collection has become shorter since
// its size was asked for, or moved on between the two.
func ends[E any](head, tail []E, name func(E) string) []E {
	have := map[string]bool{}
	for _, e := range head {
		have[name(e)] = true
	}
	return append(head, slices.DeleteFunc(tail, func(e E) bool { return have[name(e)] })...)
}

func pairs(members []redis.Z) [][2]string {
	out := make([][2]string, len(members))
	for i, m := range members {
		out[i] = [2]string{fmt.Sprint(m.Member), strconv.FormatFloat(m.Score, 'f', -1, 64)}
	}
	return out
}

// shorter is keys with so much less time to live; those whose time is over by then are left out.
func shorter(keys []capture.Key, age time.Duration) []capture.Key {
	out := make([]capture.Key, 0, len(keys))
	for _, k := range keys {
		if k.TTL > 0 {
			if k.TTL -= age; k.TTL < time.Millisecond {
				continue
			}
		}
		out = append(out, k)
	}
	return out
}
