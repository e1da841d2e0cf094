package portable

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// Portions in which keys are read.
const (
	pageElements = 200     // of a collection
	pieceBytes   = 1 << 20 // of a string
)

// A Reader reads keys. It is for one goroutine.
type Reader struct {
	client redis.Cmdable

	fieldless bool // the server does not tell when single fields of a hash expire
}

// NewReader returns a reader of the Redis behind client.
func NewReader(client redis.Cmdable) *Reader { return &Reader{client: client} }

// first is the beginning of one key.
type first struct {
	kind *redis.StatusCmd
	ttl  *redis.DurationCmd
	page redis.Cmder
}

// Read gives the named keys to sink, in this order, and returns those that are not there. A key that
// changes while it is read in several portions may be read in neither of its states; Seal tells whether it
// did. When single fields of a hash expire a FieldSink is told, where the server says so (Redis 7.4). Price: 3
// commands for each key, in two round trips for all, one more for each further portion, 1 in all for the server's
// clock where some key expires, and for a FieldSink 1 more for each portion of a hash.
func (r *Reader) Read(ctx context.Context, names []string, sink Sink) (gone []string, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	all := make([]first, len(names))
	_, err = r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range names {
			all[i].kind, all[i].ttl = p.Type(ctx, name), p.PTTL(ctx, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read types: %w", err)
	}
	now, err := r.clock(ctx, all)
	if err != nil {
		return nil, err
	}
	keys := make([]Key, len(names))
	pages := 0
	_, err = r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range names {
			keys[i] = Key{Name: name, Type: all[i].kind.Val()}
			if left := all[i].ttl.Val(); left > 0 {
				keys[i].ExpireAt = now.Add(left).Truncate(time.Millisecond)
			}
			if keys[i].Type != "none" {
				all[i].page = firstPage(ctx, p, keys[i])
				pages++
			}
		}
		return nil
	})
	if pages == 0 {
		return names, nil
	}
	if err != nil && !errors.Is(err, redis.Nil) {
		if _, refused := errors.AsType[redis.Error](err); !refused {
			return nil, fmt.Errorf("read values: %w", err)
		}
	}
	first := make([][]string, len(names))
	for i := range names {
		if all[i].page != nil && all[i].page.Err() == nil {
			first[i], _ = pageOf(all[i].page)
		}
	}
	expire, err := r.expiries(ctx, keys, first, sink)
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		if all[i].page == nil || errors.Is(all[i].page.Err(), redis.Nil) {
			gone = append(gone, name)
			continue
		}
		if err := all[i].page.Err(); err != nil {
			return nil, fmt.Errorf("read %q: %w", name, err)
		}
		there, err := r.give(ctx, keys[i], all[i].page, expire[i], sink)
		if err != nil {
			return nil, err
		}
		if !there {
			gone = append(gone, name)
		}
	}
	return gone, nil
}

// clock is the server's time, if some key expires.
func (r *Reader) clock(ctx context.Context, all []first) (time.Time, error) {
	for _, f := range all {
		if f.ttl.Val() > 0 {
			now, err := r.client.Time(ctx).Result()
			if err != nil {
				return now, fmt.Errorf("read the server's clock: %w", err)
			}
			return now, nil
		}
	}
	return time.Time{}, nil
}

// firstPage asks for the beginning of a key.
func firstPage(ctx context.Context, p redis.Pipeliner, k Key) redis.Cmder {
	switch k.Type {
	case String:
		return p.GetRange(ctx, k.Name, 0, pieceBytes-1)
	case List:
		return p.LRange(ctx, k.Name, 0, pageElements-1)
	case Set:
		return p.SScan(ctx, k.Name, 0, "", pageElements)
	case ZSet:
		return p.ZRangeWithScores(ctx, k.Name, 0, pageElements-1)
	case Hash:
		return p.HScan(ctx, k.Name, 0, "", pageElements)
	}
	return p.Dump(ctx, k.Name)
}

// give hands one key to sink, of which the beginning was read. It returns false when the key ended
// meanwhile: an empty collection is none.
func (r *Reader) give(ctx context.Context, k Key, page redis.Cmder, expire *redis.IntSliceCmd, sink Sink) (bool, error) {
	values, cursor := pageOf(page)
	if len(values) == 0 && cursor == 0 {
		if k.Type != String {
			return false, nil
		}
		if n, err := r.client.Exists(ctx, k.Name).Result(); err != nil || n == 0 {
			return false, wrap(k, err) // an empty string is a key, and a missing one reads the same
		}
	}
	if err := sink.Begin(k); err != nil {
		return true, err
	}
	for at := int64(len(values)); ; {
		if len(values) > 0 {
			if err := sink.Values(values); err != nil {
				return true, err
			}
			if expire == nil {
				more, err := r.expiries(ctx, []Key{k}, [][]string{values}, sink)
				if err != nil {
					return true, wrap(k, err)
				}
				expire = more[0]
			}
			if err := giveExpiries(sink, values, expire); err != nil {
				return true, err
			}
			expire = nil
		}
		next, more, err := r.next(ctx, k, at, cursor, values)
		if err != nil {
			return true, wrap(k, err)
		}
		if !more {
			return true, sink.End()
		}
		values, cursor = pageOf(next)
		at += int64(len(values))
		if len(values) == 0 && cursor == 0 {
			return true, sink.End()
		}
	}
}

// expiries asks when fields of the hashes expire of which pages were read, where sink wants to know it. It
// returns the answers in the order of pages, nil where there is none. Price: 1 command for each page of a hash,
// in one round trip, as long as the server knows the command.
func (r *Reader) expiries(ctx context.Context, keys []Key, pages [][]string, sink Sink) ([]*redis.IntSliceCmd, error) {
	out := make([]*redis.IntSliceCmd, len(keys))
	if _, wanted := sink.(FieldSink); !wanted || r.fieldless {
		return out, nil
	}
	asked := false
	_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, k := range keys {
			if k.Type != Hash || len(pages[i]) < k.Width() {
				continue
			}
			fields := make([]string, 0, len(pages[i])/2)
			for at := 0; at+1 < len(pages[i]); at += 2 {
				fields = append(fields, pages[i][at])
			}
			out[i], asked = p.HPExpireTime(ctx, k.Name, fields...), true
		}
		return nil
	})
	switch {
	case !asked:
		return out, nil
	case upstream.Classify(err) == upstream.Unavailable:
		r.fieldless = true
		return make([]*redis.IntSliceCmd, len(keys)), nil
	case err != nil:
		return nil, fmt.Errorf("read when fields expire: %w", err)
	}
	return out, nil
}

// giveExpiries hands to a sink when the fields of one page expire.
func giveExpiries(sink Sink, page []string, at *redis.IntSliceCmd) error {
	told, wanted := sink.(FieldSink)
	if !wanted || at == nil {
		return nil
	}
	var fields []FieldExpiry
	for i, ms := range at.Val() {
		if ms > 0 && 2*i < len(page) {
			fields = append(fields, FieldExpiry{Field: page[2*i], At: time.UnixMilli(ms)})
		}
	}
	if len(fields) == 0 {
		return nil
	}
	return told.Expiries(fields)
}

func wrap(k Key, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("read %q: %w", k.Name, err)
}

// next reads what follows the values read so far, if anything can.
func (r *Reader) next(ctx context.Context, k Key, at int64, cursor uint64, last []string) (redis.Cmder, bool, error) {
	var cmd redis.Cmder
	switch k.Type {
	case String:
		if len(last) == 0 || len(last[0]) < pieceBytes {
			return nil, false, nil
		}
		cmd = r.client.GetRange(ctx, k.Name, at*pieceBytes, (at+1)*pieceBytes-1)
	case List:
		if len(last) < pageElements {
			return nil, false, nil
		}
		cmd = r.client.LRange(ctx, k.Name, at, at+pageElements-1)
	case ZSet:
		if len(last) < 2*pageElements {
			return nil, false, nil
		}
		cmd = r.client.ZRangeWithScores(ctx, k.Name, at/2, at/2+pageElements-1)
	case Set, Hash:
		if cursor == 0 {
			return nil, false, nil
		}
		if k.Type == Set {
			cmd = r.client.SScan(ctx, k.Name, cursor, "", pageElements)
		} else {
			cmd = r.client.HScan(ctx, k.Name, cursor, "", pageElements)
		}
	default:
		return nil, false, nil
	}
	return cmd, true, cmd.Err()
}

// pageOf is what a command read: the values, and where to go on.
func pageOf(cmd redis.Cmder) ([]string, uint64) {
	switch c := cmd.(type) {
	case *redis.StringCmd:
		if c.Val() == "" {
			return nil, 0
		}
		return []string{c.Val()}, 0
	case *redis.StringSliceCmd:
		return c.Val(), 0
	case *redis.ScanCmd:
		return c.Val()
	case *redis.ZSliceCmd:
		out := make([]string, 0, 2*len(c.Val()))
		for _, z := range c.Val() {
			member, _ := z.Member.(string)
			out = append(out, member, exact(z.Score))
		}
		return out, 0
	}
	return nil, 0
}

// score writes a sorted set's score as ZADD takes it back exactly.
func score(text string) (string, error) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return "", err
	}
	return exact(f), nil
}

func exact(f float64) string { return strconv.FormatFloat(f, 'g', 17, 64) }
