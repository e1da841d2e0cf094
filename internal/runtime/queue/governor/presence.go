package governor

import (
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// presence is what is written of servers for asynq's inspector.
type presence struct {
	rounds map[string]time.Time // when each key was last written
}

// presenceTTL is how long what is written stays: a round may come late.
func (g *Governor) presenceTTL() time.Duration { return 2*g.opts.Presence + 10*time.Second }

// present is whether a write about key is due, and notes that it is done then.
func (g *Governor) present(key string) bool {
	if g.opts.Presence == 0 {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if last, ok := g.presence.rounds[key]; ok && now.Sub(last) < g.opts.Presence-time.Second {
		return false
	}
	if g.presence.rounds == nil {
		g.presence.rounds = map[string]time.Time{}
	}
	g.presence.rounds[key] = now
	return true
}

// absent is whether key was written, and forgets it.
func (g *Governor) absent(key string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.presence.rounds[key]
	delete(g.presence.rounds, key)
	return ok
}

// registration handles the entry of a server in the sets of servers and of workers.
func (g *Governor) registration(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
	const score, member = 2, 3
	args := cmd.Args()
	key := text(args[1]) + " " + text(args[len(args)-1])
	send := false
	switch {
	case cmd.Name() == "zrem":
		send = g.absent(key)
	case len(args) == member+1:
		if send = g.present(key); send {
			args[score] = float64(time.Now().Add(g.presenceTTL()).Unix())
		}
	default:
		send = true
	}
	if send {
		return next(ctx, cmd)
	}
	if n, ok := cmd.(*redis.IntCmd); ok {
		n.SetVal(0)
	}
	return nil
}

// strictPriority is the field of asynq's description of a server that says so, which is not true of one whose turns
// are shared here.
const strictPriority = 6

// serverState handles the scripts that write and clear what a server is doing.
func (g *Governor) serverState(ctx context.Context, c call, cmd redis.Cmder, next redis.ProcessHook) error {
	send := false
	if len(c.keys) > 0 {
		if c.script == clearServerScript {
			send = g.absent(c.keys[0])
		} else if send = g.present(c.keys[0]); send && len(c.args) > 1 {
			c.args[0] = int64(g.presenceTTL() / time.Second)
			if info, ok := c.args[1].([]byte); ok && g.groupOf(ctx).any {
				c.args[1] = slices.Concat(info, []byte{strictPriority << 3, 0}) // the last value counts
			}
		}
	}
	if !send {
		return answer(cmd, "OK")
	}
	err := next(ctx, cmd)
	if retriedByCaller(err) {
		// The text follows; it is the same round.
		g.mu.Lock()
		if c.script == writeServerScript {
			delete(g.presence.rounds, c.keys[0])
		} else {
			g.presence.rounds[c.keys[0]] = time.Now()
		}
		g.mu.Unlock()
		return err
	}
	if err == nil {
		g.opts.InScript(c.command, c.ran(cmd))
	}
	return err
}
