package ramp

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// tell has the other side of key take a write. Where a later command of the same turn writes the key too, it is
// only removed there, and left to that one.
func (c *Client) tell(j *job, side Side, w *copied) {
	if !j.last(w.key) {
		w.value, w.remove = nil, true
	}
	c.across(side).put(w)
	j.writes = append(j.writes, w)
}

// planSet is for writes of one value, with or without a condition.
func (c *Client) planSet(j *job, name string) {
	args := j.cmd.Args()
	key := text(args, 1)
	side := c.side(key)
	value, ttl, plain := setOf(name, args)
	var until time.Time
	if ttl > 0 {
		until = time.Now().Add(ttl)
	}
	j.keys = []string{key}
	j.parts = []*part{{side: side, cmd: j.cmd, keys: j.keys}}
	if !j.mirrored(key) {
		return
	}
	j.then = func(ctx context.Context) {
		err := j.cmd.Err()
		stored := err == nil
		if b, ok := j.cmd.(*redis.BoolCmd); ok {
			stored = stored && b.Val()
		}
		switch {
		case stored && plain:
			c.tell(j, side, &copied{key: key, value: slices.Clone(value), until: until})
		case stored:
			c.tell(j, side, &copied{key: key, remove: true})
		case failed(err) && side == New && plain && !conditional(name, args) && j.last(key) && ctx.Err() == nil:
			c.fallBack(ctx, j, key, value, ttl)
		case failed(err):
			c.doubt(key, side)
		}
	}
}

// fallBack has the old side take a SET that the new one did not, which must not keep what it has then. Where the
// old side does not take it either, or not in time, key is removed there: the new one may have what is newer.
func (c *Client) fallBack(ctx context.Context, j *job, key string, value []byte, ttl time.Duration) {
	if err := c.toOld.hold(ctx, key); err != nil {
		c.toOld.release(key, false)
		return
	}
	retry := redis.NewStatusCmd(ctx, "set", key, value)
	if ttl > 0 {
		retry = redis.NewStatusCmd(ctx, "set", key, value, "px", ttl.Milliseconds())
	}
	j.again = []*part{{side: Old, cmd: retry, keys: j.keys}}
	j.ended = func() {
		taken := retry.Err() == nil
		if taken && c.toNew.put(&copied{key: key, remove: true}) {
			if status, ok := j.cmd.(*redis.StatusCmd); ok {
				status.SetVal(retry.Val())
			}
			j.cmd.SetErr(nil)
			c.opts.Ledger.FellBack(c.opts.Route, 1, 0)
		}
		c.toOld.release(key, taken)
	}
}

// doubt is for a write of which nobody knows whether side has taken it: the other side must not keep what
// it has, which may be older.
func (c *Client) doubt(key string, side Side) {
	c.across(side).put(&copied{key: key, remove: true})
}

// setOf is what a command stores. It is not plain where it does not say all that there will be.
func setOf(name string, args []any) (value []byte, ttl time.Duration, plain bool) {
	number := func(i int) time.Duration {
		n, err := strconv.ParseInt(text(args, i), 10, 64)
		plain = plain && err == nil
		return time.Duration(n)
	}
	plain = true
	switch name {
	case "setex":
		return blob(args, 3), number(2) * time.Second, plain
	case "psetex":
		return blob(args, 3), number(2) * time.Millisecond, plain
	}
	for i := 3; i < len(args); i++ {
		switch strings.ToLower(text(args, i)) {
		case "ex":
			ttl = number(i+1) * time.Second
			i++
		case "px":
			ttl = number(i+1) * time.Millisecond
			i++
		case "nx":
		default:
			plain = false
		}
	}
	return blob(args, 2), ttl, plain
}

// conditional is whether a command stores only where there is nothing.
func conditional(name string, args []any) bool {
	return name == "setnx" || slices.ContainsFunc(args[min(3, len(args)):], func(a any) bool {
		s, ok := a.(string)
		return ok && strings.EqualFold(s, "nx")
	})
}

func (c *Client) planMSet(j *job) {
	args := j.cmd.Args()
	lists := map[Side][]any{}
	keys := map[Side][]string{}
	for i := 1; i+1 < len(args); i += 2 {
		key := text(args, i)
		side := c.side(key)
		lists[side] = append(lists[side], key, args[i+1])
		keys[side] = append(keys[side], key)
	}
	for side, list := range lists {
		j.parts = append(j.parts, &part{
			side: side, keys: keys[side], cmd: redis.NewStatusCmd(context.Background(), append([]any{"mset"}, list...)...),
		})
	}
	reply, _ := j.cmd.(*redis.StatusCmd)
	j.then = func(context.Context) {
		for _, p := range j.parts {
			if err := p.cmd.Err(); err != nil {
				j.cmd.SetErr(err)
				for _, key := range p.keys {
					if j.mirrored(key) {
						c.doubt(key, p.side)
					}
				}
				continue
			}
			for n, key := range p.keys {
				if j.mirrored(key) {
					c.tell(j, p.side, &copied{key: key, value: slices.Clone(blob(lists[p.side], 2*n+1))})
				}
			}
		}
		if j.cmd.Err() == nil && reply != nil {
			reply.SetVal("OK")
		}
	}
}

// removeAgain is after how long it is looked whether a deleted key has come back on the other side: a write
// of another replica just before the delete may have been on its way there.
const removeAgain = time.Second

// removeAgain removes keys across from side that are not there on side itself: 1 command for all, and 1
// for each where some are.
func (c *Client) removeAgain(side Side, keys []string) {
	ctx, cancel := context.WithTimeout(context.Background(), c.opts.Timeout)
	defer cancel()
	keys = slices.Compact(slices.Sorted(slices.Values(keys)))
	if c.turns.take(ctx, keys) != nil {
		return // they are written anew for that long
	}
	defer c.turns.give(keys)
	keys = slices.DeleteFunc(slices.Clone(keys), func(key string) bool {
		return !c.mirrored(key) || c.toward(side).behind(key) // it is no longer kept on both, or written anew across
	})
	if len(keys) == 0 {
		return
	}
	n, err := c.client(side).Exists(ctx, keys...).Result()
	if err != nil {
		return
	}
	for _, key := range keys {
		if n > 0 {
			if there, err := c.client(side).Exists(ctx, key).Result(); err != nil || there > 0 {
				continue
			}
		}
		c.across(side).put(&copied{key: key, remove: true})
	}
}

// planDelete removes keys on both sides: where they are, and where they may be next.
func (c *Client) planDelete(j *job) {
	args := j.cmd.Args()
	keys, twice := map[Side][]any{}, map[Side][]string{}
	for i := 1; i < len(args); i++ {
		key := text(args, i)
		side := c.side(key)
		keys[side] = append(keys[side], key)
		if j.mirrored(key) {
			j.strict = true
			c.tell(j, side, &copied{key: key, remove: true})
			twice[side] = append(twice[side], key)
		}
	}
	for side, keys := range twice {
		time.AfterFunc(removeAgain, func() { c.removeAgain(side, keys) })
	}
	for side, list := range keys {
		j.parts = append(j.parts, &part{side: side, cmd: redis.NewIntCmd(context.Background(), append([]any{args[0]}, list...)...)})
	}
	j.then = func(context.Context) {
		var sum int64
		for _, p := range j.parts {
			n, err := p.cmd.(*redis.IntCmd).Result()
			if err != nil {
				j.cmd.SetErr(err)
				return
			}
			sum += n
		}
		if reply, ok := j.cmd.(*redis.IntCmd); ok {
			reply.SetVal(sum)
		}
	}
}

// planScript is for scripts of one key. What they change is removed on the other side.
func (c *Client) planScript(j *job) {
	args := j.cmd.Args()
	if text(args, 2) != "1" {
		j.cmd.SetErr(errScriptKeys)
		return
	}
	key := text(args, 3)
	side := c.side(key)
	j.keys = []string{key}
	j.parts = []*part{{side: side, cmd: j.cmd, keys: j.keys}}
	if !j.mirrored(key) {
		return
	}
	j.then = func(context.Context) {
		switch err := j.cmd.Err(); {
		case !failed(err):
			c.tell(j, side, &copied{key: key, remove: true})
		case !redis.HasErrorPrefix(err, "NOSCRIPT"): // then it has not run
			c.doubt(key, side)
		}
	}
}

// newSide marks the cursors of a SCAN that has come to the new side.
const newSide = uint64(1) << 63

// planScan goes through the old side and then the new one, as one.
func (c *Client) planScan(j *job) {
	args := slices.Clone(j.cmd.Args())
	cursor, err := strconv.ParseUint(text(args, 1), 10, 64)
	if err != nil {
		j.cmd.SetErr(err)
		return
	}
	side := Old
	if cursor&newSide != 0 {
		side = New
	}
	args[1] = cursor &^ newSide
	inner := redis.NewScanCmd(context.Background(), nil, args...)
	j.parts = []*part{{side: side, cmd: inner}}
	j.then = func(context.Context) {
		keys, next, err := inner.Result()
		if err == nil && next&newSide != 0 {
			err = errCursor
		}
		if err != nil {
			j.cmd.SetErr(err)
			return
		}
		switch {
		case side == New && next != 0:
			next |= newSide
		case side == Old && next == 0 && !c.opts.SameDatabase:
			next = newSide
		}
		if reply, ok := j.cmd.(*redis.ScanCmd); ok {
			reply.SetVal(keys, next)
		}
	}
}

func (c *Client) planSize(j *job) {
	sides := []Side{Old, New}
	if c.opts.SameDatabase {
		sides = sides[:1]
	}
	for _, side := range sides {
		j.parts = append(j.parts, &part{side: side, cmd: redis.NewIntCmd(context.Background(), "dbsize")})
	}
	j.then = func(context.Context) {
		var sum int64
		for _, p := range j.parts {
			n, err := p.cmd.(*redis.IntCmd).Result()
			if err != nil {
				j.cmd.SetErr(err)
				return
			}
			sum += n
		}
		if reply, ok := j.cmd.(*redis.IntCmd); ok {
			reply.SetVal(sum)
		}
	}
}
