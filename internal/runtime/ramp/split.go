package ramp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// A part is what one side does of one command.
type part struct {
	side Side
	cmd  redis.Cmder
	keys []string
	read bool
}

// A job is one command of the engine on its way.
type job struct {
	cmd   redis.Cmder
	keys  []string
	parts []*part

	// then makes the engine's reply of the parts' replies, and says what the other side must be told.
	then func(ctx context.Context)

	turn   *claim
	place  int       // among the commands of its turn
	writes []*copied // that the other side was told
	strict bool      // the command fails unless the other side has taken them
	again  []*part   // to be asked next, since the new side had nothing or no answer
	ended  func()    // makes the reply of again
}

// do has commands done. Each has its reply or error afterwards.
func (c *Client) do(ctx context.Context, cmds []redis.Cmder) {
	began := time.Now()
	c.settle(ctx, c.inTurn(ctx, cmds))
	c.opts.Ledger.Answered(c.opts.Route, time.Since(began))
}

// inTurn has commands done, but for what is told to the other side, while nobody else writes their keys.
func (c *Client) inTurn(ctx context.Context, cmds []redis.Cmder) []*job {
	turn := c.claim(cmds)
	if err := c.turns.take(ctx, turn.keys); err != nil {
		for _, cmd := range cmds {
			cmd.SetErr(err)
		}
		return nil
	}
	defer c.turns.give(turn.keys)
	jobs := make([]*job, len(cmds))
	for i, cmd := range cmds {
		jobs[i] = c.plan(&job{cmd: cmd, turn: turn, place: i})
	}
	c.send(ctx, jobs, func(j *job) []*part { return j.parts })
	again := false
	for _, j := range jobs {
		if j.then != nil {
			j.then(ctx)
		}
		again = again || len(j.again) > 0
	}
	if again {
		c.send(ctx, jobs, func(j *job) []*part { return j.again })
		for _, j := range jobs {
			if len(j.again) > 0 {
				j.ended()
			}
		}
	}
	return jobs
}

// settle waits for the other side to take what was written.
func (c *Client) settle(ctx context.Context, jobs []*job) {
	var patient, brief []*copied
	for _, j := range jobs {
		if j.strict {
			patient = append(patient, j.writes...)
		} else {
			brief = append(brief, j.writes...)
		}
	}
	if len(brief) > 0 {
		short, cancel := context.WithTimeout(ctx, c.opts.MirrorWait)
		_ = wait(short, brief) // it goes on in the background
		cancel()
	}
	if len(patient) == 0 {
		return
	}
	if err := wait(ctx, patient); err != nil {
		for _, j := range jobs {
			if j.strict && j.cmd.Err() == nil {
				j.cmd.SetErr(err)
			}
		}
	}
}

// send has parts done, both sides at the same time, and counts them.
func (c *Client) send(ctx context.Context, jobs []*job, of func(*job) []*part) {
	bySide := map[Side][]*part{}
	for _, j := range jobs {
		for _, p := range of(j) {
			bySide[p.side] = append(bySide[p.side], p)
		}
	}
	var group sync.WaitGroup
	for side, parts := range bySide {
		if len(bySide) == 1 {
			c.sendTo(ctx, side, parts)
			return
		}
		group.Go(func() { c.sendTo(ctx, side, parts) })
	}
	group.Wait()
}

func (c *Client) sendTo(ctx context.Context, side Side, parts []*part) {
	began := time.Now()
	if len(parts) == 1 {
		_ = c.client(side).Process(ctx, parts[0].cmd) // the error is in the command
	} else {
		pipe := c.client(side).Pipeline()
		for _, p := range parts {
			_ = pipe.Process(ctx, p.cmd)
		}
		_, _ = pipe.Exec(ctx) // as above
	}
	took := time.Since(began)
	for _, p := range parts {
		call := Call{Route: c.opts.Route, Side: side, Took: took, Failed: failed(p.cmd.Err())}
		if !call.Failed && p.read {
			hits, misses := found(p.cmd)
			call.Hit = hits > 0
			call.Miss = misses > 0 && hits == 0
		}
		c.opts.Ledger.Called(call, 1)
	}
}

// failed is whether err is more than "there is nothing".
func failed(err error) bool { return err != nil && !errors.Is(err, redis.Nil) }

// found is how many values a read brought, and how many it did not.
func found(cmd redis.Cmder) (hits, misses int) {
	switch cmd := cmd.(type) {
	case *redis.SliceCmd:
		for _, v := range cmd.Val() {
			if v == nil {
				misses++
			} else {
				hits++
			}
		}
	default:
		if cmd.Err() == nil {
			hits = 1
		} else {
			misses = 1
		}
	}
	return hits, misses
}

// plan says who does what of a command.
func (c *Client) plan(j *job) *job {
	cmd, args := j.cmd, j.cmd.Args()
	name := strings.ToLower(cmd.Name())
	switch name {
	case "get", "getrange", "strlen", "exists", "ttl", "pttl", "type":
		c.planRead(j, text(args, 1), name == "get" || name == "exists")
	case "mget":
		c.planMGet(j)
	case "set", "setnx", "setex", "psetex":
		c.planSet(j, name)
	case "mset":
		c.planMSet(j)
	case "del", "unlink":
		c.planDelete(j)
	case "eval", "evalsha":
		c.planScript(j)
	case "scan":
		c.planScan(j)
	case "dbsize":
		c.planSize(j)
	case "publish", "ping", "command", "script":
		j.parts = []*part{{side: Old, cmd: cmd}} // what is told is told where everybody listens
	default:
		cmd.SetErr(fmt.Errorf("%s cannot be divided between the two upstreams of a ramp", name))
	}
	return j
}

// text is an argument as a string.
func text(args []any, i int) string {
	if i >= len(args) {
		return ""
	}
	switch v := args[i].(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return fmt.Sprint(args[i])
}

func blob(args []any, i int) []byte {
	if i < len(args) {
		if b, ok := args[i].([]byte); ok {
			return b
		}
	}
	return []byte(text(args, i))
}

func (c *Client) planRead(j *job, key string, compares bool) {
	mirrored := c.mirrored(key)
	side := c.side(key)
	j.keys = []string{key}
	j.parts = []*part{{side: side, cmd: j.cmd, keys: j.keys, read: true}}
	j.then = func(ctx context.Context) {
		err := j.cmd.Err()
		value, isText := j.cmd.(*redis.StringCmd)
		switch {
		case side == New && err != nil && isText && compares && ctx.Err() == nil:
			next, asks := c.next(key, mirrored, failed(err))
			if !asks {
				return
			}
			retry := redis.NewStringCmd(ctx, j.cmd.Args()...)
			j.again = []*part{{side: next, cmd: retry, keys: j.keys, read: true}}
			j.ended = func() { c.takeOver(value, retry, next, failed(err)) }
		case side == Old && isText && compares && !failed(err):
			c.compare(key, value.Val(), err == nil)
		}
	}
}

// next is who is asked for key once the new side had nothing, or no answer: the old one, where the only value may
// be. Where that has not taken a delete or a newer value yet, the new side had it just after it was asked, and is
// asked again. mirrored is whether the key was when the read was sent: since then the ramp may have gone back and
// ended its mirror.
func (c *Client) next(key string, mirrored, noAnswer bool) (side Side, asks bool) {
	switch {
	case !mirrored && !c.mirrored(key):
		return New, false
	case c.toOld.behind(key):
		return New, !noAnswer
	}
	return Old, true
}

// takeOver gives a reader what the side that was asked next has in place of what the new one did not.
func (c *Client) takeOver(to, from *redis.StringCmd, side Side, wasFailure bool) {
	if from.Err() != nil && !wasFailure {
		return // neither has it
	}
	to.SetErr(from.Err())
	to.SetVal(from.Val())
	if side == Old {
		c.opts.Ledger.FellBack(c.opts.Route, 1, count(!wasFailure))
	}
}

// compare has what the old side said compared with the new one, if it is sampled.
func (c *Client) compare(key, value string, there bool) {
	if c.sampled() {
		c.shadow.offer(key, value, there)
	}
}

func (c *Client) planMGet(j *job) {
	args := j.cmd.Args()
	where := map[Side][]int{}
	var mirrored []bool // when the read is sent
	for i := range args[1:] {
		key := text(args, i+1)
		j.keys, mirrored = append(j.keys, key), append(mirrored, c.mirrored(key))
		side := c.side(key)
		where[side] = append(where[side], i)
	}
	out := make([]any, len(j.keys))
	of := func(side Side, at []int) *part {
		list := make([]any, 1, len(at)+1)
		list[0] = "mget"
		keys := make([]string, 0, len(at))
		for _, i := range at {
			list, keys = append(list, j.keys[i]), append(keys, j.keys[i])
		}
		return &part{side: side, cmd: redis.NewSliceCmd(context.Background(), list...), keys: keys, read: true}
	}
	fill := func(p *part, at []int) error {
		values, err := p.cmd.(*redis.SliceCmd).Result()
		if err == nil && len(values) != len(at) {
			err = fmt.Errorf("MGET of %d keys had %d values", len(at), len(values))
		}
		if err != nil {
			return err
		}
		for n, i := range at {
			out[i] = values[n]
		}
		return nil
	}
	byPart := map[*part][]int{}
	for side, at := range where {
		p := of(side, at)
		j.parts, byPart[p] = append(j.parts, p), at
	}
	reply := j.cmd.(*redis.SliceCmd)
	j.then = func(ctx context.Context) {
		missing := map[Side][]int{} // by who is asked next
		unanswered := false
		for _, p := range j.parts {
			at := byPart[p]
			err := fill(p, at)
			if err != nil && p.side == Old {
				reply.SetErr(err)
				return
			}
			for _, i := range at {
				value, there := out[i].(string)
				next, asks := New, false
				if p.side == New && !there {
					next, asks = c.next(j.keys[i], mirrored[i], err != nil)
				}
				switch {
				case asks:
					missing[next] = append(missing[next], i)
				case err != nil:
					reply.SetErr(err)
					return
				case p.side == Old:
					c.compare(j.keys[i], value, there)
				}
			}
			unanswered = unanswered || err != nil
		}
		reply.SetVal(out)
		if len(missing) == 0 || ctx.Err() != nil {
			return
		}
		retries := map[Side]*part{}
		for side, at := range missing {
			retries[side] = of(side, at)
			j.again = append(j.again, retries[side])
		}
		j.ended = func() {
			for side, retry := range retries {
				if err := fill(retry, missing[side]); err != nil {
					reply.SetErr(err)
					return
				}
			}
			if len(missing[Old]) > 0 {
				var filled int64
				for _, i := range missing[Old] {
					filled += count(out[i] != nil && !unanswered)
				}
				c.opts.Ledger.FellBack(c.opts.Route, max(filled, count(unanswered)), filled)
			}
			reply.SetVal(out)
		}
	}
}

func count(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
