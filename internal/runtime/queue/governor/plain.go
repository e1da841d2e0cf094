package governor

import (
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// plain is a command that is no script.
func (g *Governor) plain(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
	args := cmd.Args()
	if len(args) < 2 {
		return next(ctx, cmd)
	}
	key := text(args[1])
	queue, part, ofQueue := takeApart(key)
	switch cmd.Name() {
	case "zadd":
		switch {
		case key == serversKey || key == workersKey:
			return g.registration(ctx, cmd, next)
		case ofQueue && part == leasePart && slices.Contains(args, any("xx")):
			return g.extend(ctx, queue, cmd, next)
		}
	case "zrem":
		if key == serversKey || key == workersKey {
			return g.registration(ctx, cmd, next)
		}
	case "smembers":
		if ofQueue && part == groupsPart {
			return g.groupNames(ctx, queue, cmd, next)
		}
	case "hset", "hmset":
		if id, ok := taskOf(part); ofQueue && ok {
			g.before(call{keys: []string{keyOf(queue, taskPrefix+id)}})
		}
	}
	err := next(ctx, cmd)
	if ofQueue && (cmd.Name() == "del" || cmd.Name() == "unlink") {
		// An operator lets a queue go on, or whatever else.
		g.mu.Lock()
		if q := g.queues[queue]; q != nil {
			g.suspected(q)
			g.signal(q)
		}
		g.mu.Unlock()
	}
	return err
}

// groupNames answers which groups a queue has, which asynq asks every few seconds when it aggregates.
func (g *Governor) groupNames(ctx context.Context, queue string, cmd redis.Cmder, next redis.ProcessHook) error {
	reply, ok := cmd.(*redis.StringSliceCmd)
	if ok && !g.groupsKnown(queue) {
		reply.SetVal([]string{})
		return nil
	}
	begin := time.Now()
	err := next(ctx, cmd)
	if !ok || err != nil || len(reply.Val()) > 0 {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	// A set that was being made while its maker died comes back as a group when its time is over.
	if q := g.queues[queue]; q != nil && begin.Sub(q.groupsAt) > setsTimeout {
		q.groups = false
	}
	return nil
}

// setsTimeout is a little more than what asynq gives an aggregation.
const setsTimeout = 3 * time.Minute

// groupsKnown is whether jobs of a queue may wait in groups.
func (g *Governor) groupsKnown(queue string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.queues[queue]
	return q == nil || q.groups
}
