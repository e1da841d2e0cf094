package governor

import (
	"context"
	_ "embed"
	"time"

	"github.com/redis/go-redis/v9"
)

// tidyAtMost is how many jobs one script deletes: Lua hands over no more than a few thousand at once, and
// others wait meanwhile.
const tidyAtMost = 500

//go:embed tidy.lua
var tidyText string

// deleteExpired deletes completed jobs whose retention has ended, many at a time, when asynq asks for it.
// It costs one EVAL and three commands in it for up to 500 jobs, where asynq's own has two for each.
func (g *Governor) deleteExpired(ctx context.Context, c call, cmd redis.Cmder, next redis.ProcessHook) error {
	g.mu.Lock()
	q, now := g.queues[c.queue()], time.Now()
	idle := q != nil && (g.retired || !q.completed.ready(now, g.opts.Tidy))
	g.mu.Unlock()
	if q == nil {
		return next(ctx, cmd)
	}
	if idle {
		return answer(cmd, int64(0))
	}
	n, err := redis.NewScript(tidyText).Run(ctx, g.opts.Client, []string{keyOf(q.name, completedPart)},
		now.Unix(), keyOf(q.name, taskPrefix), tidyAtMost).Int64()
	if err != nil {
		cmd.SetErr(err)
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stats.Deleted += n
	ran := int64(1)
	if n > 0 {
		ran = 3
	}
	g.opts.InScript("evalsha", ran)
	if n < tidyAtMost {
		q.completed.swept(now)
	}
	return answer(cmd, n)
}
