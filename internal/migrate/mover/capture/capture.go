// Package capture loads and dumps whole Redis keys, and carries the keys that a real Bull 4.16.5
// left behind: three queues with a job in every state, recorded from a running library. The demo
// moves these keys and compares them afterwards; the tests do the same.
//
// A dump is for key spaces that fit in memory. Anything that moves real queues streams instead.
package capture

import (
	"context"
	_ "embed" // the capture is compiled in
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed testdata/bull-4.16.5.json
var bull4165 []byte

// A Key is one Redis key with everything in it.
type Key struct {
	// Name is the key's name.
	Name string

	// Type is string, hash, list, set, zset or stream, as TYPE says it.
	Type string

	// Value is the content, in the form of Type: a string; map[string]string for a hash; []string
	// for a list (left to right) and a set (sorted); [][2]string of member and score for a zset, in
	// order; []redis.XMessage for a stream.
	Value any

	// TTL is the remaining life in whole milliseconds; negative when the key does not expire.
	TTL time.Duration
}

// Bull returns the captured keys of Bull 4.16.5: queues bull:suggestion-generation (every state of a
// job), bull:calendar-sync (paused) and {bull}:token-refresh (repeatables, a rate limiter), 44 jobs.
// The values are fresh on every call.
func Bull() ([]Key, error) { return Parse(bull4165) }

// Parse reads a dump in the form of the capture: a JSON array of [name, type, value, pttl].
func Parse(dump []byte) ([]Key, error) {
	var rows [][4]json.RawMessage
	if err := json.Unmarshal(dump, &rows); err != nil {
		return nil, fmt.Errorf("parse dump: %w", err)
	}
	keys := make([]Key, 0, len(rows))
	for i, row := range rows {
		k, err := parseRow(row)
		if err != nil {
			return nil, fmt.Errorf("parse dump: row %d: %w", i, err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func parseRow(row [4]json.RawMessage) (Key, error) {
	var k Key
	var ms int64
	if err := json.Unmarshal(row[0], &k.Name); err != nil {
		return k, err
	}
	if err := json.Unmarshal(row[1], &k.Type); err != nil {
		return k, err
	}
	if err := json.Unmarshal(row[3], &ms); err != nil {
		return k, err
	}
	k.TTL = time.Duration(ms) * time.Millisecond
	var err error
	switch k.Type {
	case "string":
		k.Value, err = decode[string](row[2])
	case "hash":
		k.Value, err = decode[map[string]string](row[2])
	case "list", "set":
		k.Value, err = decode[[]string](row[2])
	case "zset":
		k.Value, err = decode[[][2]string](row[2])
	case "stream":
		k.Value, err = parseStream(row[2])
	default:
		err = fmt.Errorf("key %q has type %q, which a dump cannot hold", k.Name, k.Type)
	}
	return k, err
}

func decode[T any](raw json.RawMessage) (T, error) {
	var v T
	err := json.Unmarshal(raw, &v)
	return v, err
}

func parseStream(raw json.RawMessage) ([]redis.XMessage, error) {
	rows, err := decode[[][2]json.RawMessage](raw)
	if err != nil {
		return nil, err
	}
	messages := make([]redis.XMessage, 0, len(rows))
	for _, row := range rows {
		id, err := decode[string](row[0])
		if err != nil {
			return nil, err
		}
		flat, err := decode[[]string](row[1])
		if err != nil {
			return nil, err
		}
		values := make(map[string]any, len(flat)/2)
		for i := 0; i+1 < len(flat); i += 2 {
			values[flat[i]] = flat[i+1]
		}
		messages = append(messages, redis.XMessage{ID: id, Values: values})
	}
	return messages, nil
}

// Restore writes keys, in one pipeline. It does not delete first: restoring over an existing list
// appends. Price: one command per key, one per stream message, and one PEXPIRE per key with a TTL.
func Restore(ctx context.Context, client redis.UniversalClient, keys []Key) error {
	_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, k := range keys {
			if err := write(ctx, p, k); err != nil {
				return err
			}
			if k.TTL > 0 {
				p.PExpire(ctx, k.Name, k.TTL)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("restore %d keys: %w", len(keys), err)
	}
	return nil
}

func write(ctx context.Context, p redis.Pipeliner, k Key) error {
	switch v := k.Value.(type) {
	case string:
		p.Set(ctx, k.Name, v, 0)
	case map[string]string:
		flat := make([]any, 0, 2*len(v))
		for _, field := range sortedFields(v) {
			flat = append(flat, field, v[field])
		}
		p.HSet(ctx, k.Name, flat...)
	case []string:
		if k.Type == "set" {
			p.SAdd(ctx, k.Name, anys(v)...)
		} else {
			p.RPush(ctx, k.Name, anys(v)...)
		}
	case [][2]string:
		args := []any{"zadd", k.Name}
		for _, m := range v {
			args = append(args, m[1], m[0])
		}
		p.Do(ctx, args...)
	case []redis.XMessage:
		for _, m := range v {
			p.XAdd(ctx, &redis.XAddArgs{Stream: k.Name, ID: m.ID, Values: m.Values})
		}
	default:
		return fmt.Errorf("key %q holds a %T, which cannot be restored", k.Name, k.Value)
	}
	return nil
}

// Dump reads every key that matches the glob pattern match, sorted by name. Keys that expire while it
// reads are left out. Price: SCAN by 1,000 over the whole database, then three commands per key.
func Dump(ctx context.Context, client redis.UniversalClient, match string) ([]Key, error) {
	seen := map[string]bool{}
	var cursor uint64
	for {
		names, next, err := client.Scan(ctx, cursor, match, 1000).Result()
		if err != nil {
			return nil, fmt.Errorf("dump %q: %w", match, err)
		}
		for _, name := range names {
			seen[name] = true
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	names := slices.Sorted(maps.Keys(seen))
	keys := make([]Key, 0, len(names))
	for page := range slices.Chunk(names, 200) {
		some, err := readPage(ctx, client, page)
		if err != nil {
			return nil, fmt.Errorf("dump %q: %w", match, err)
		}
		keys = append(keys, some...)
	}
	return keys, nil
}

// readPage reads keys in two round trips: their types and times to live, then their content.
func readPage(ctx context.Context, client redis.UniversalClient, names []string) ([]Key, error) {
	types := make([]*redis.StatusCmd, len(names))
	ttls := make([]*redis.DurationCmd, len(names))
	if _, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range names {
			types[i], ttls[i] = p.Type(ctx, name), p.PTTL(ctx, name)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	var keys []Key
	var values []func() (any, error)
	_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range names {
			if types[i].Val() == "none" || ttls[i].Val() == -2 {
				continue
			}
			value, err := read(ctx, p, types[i].Val(), name)
			if err != nil {
				return err
			}
			keys = append(keys, Key{Name: name, Type: types[i].Val(), TTL: ttls[i].Val()})
			values = append(values, value)
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	alive := keys[:0]
	for i, k := range keys {
		k.Value, err = values[i]()
		if errors.Is(err, redis.Nil) {
			continue // expired between the two
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", k.Name, err)
		}
		alive = append(alive, k)
	}
	return alive, nil
}

// read queues the command that reads a key and returns how to get at its reply.
func read(ctx context.Context, p redis.Pipeliner, kind, name string) (func() (any, error), error) {
	switch kind {
	case "string":
		cmd := p.Get(ctx, name)
		return func() (any, error) { return cmd.Result() }, nil
	case "hash":
		cmd := p.HGetAll(ctx, name)
		return func() (any, error) { return cmd.Result() }, nil
	case "list":
		cmd := p.LRange(ctx, name, 0, -1)
		return func() (any, error) { return cmd.Result() }, nil
	case "set":
		cmd := p.SMembers(ctx, name)
		return func() (any, error) {
			members, err := cmd.Result()
			slices.Sort(members)
			return members, err
		}, nil
	case "zset":
		cmd := p.ZRangeWithScores(ctx, name, 0, -1)
		return func() (any, error) {
			members, err := cmd.Result()
			pairs := make([][2]string, 0, len(members))
			for _, m := range members {
				pairs = append(pairs, [2]string{fmt.Sprint(m.Member), formatScore(m.Score)})
			}
			return pairs, err
		}, nil
	case "stream":
		cmd := p.XRange(ctx, name, "-", "+")
		return func() (any, error) { return cmd.Result() }, nil
	default:
		return nil, fmt.Errorf("%q has type %q, which a dump cannot hold", name, kind)
	}
}
