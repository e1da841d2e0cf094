package step

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
)

// How a staged resume goes: it begins with one job a second and doubles ten times within its length. A
// backlog that is no more than smallBacklog is let go at once.
const (
	stageSteps   = 10
	stageTick    = time.Second
	smallBacklog = 10
)

// catchUp prepares the backlog of a queue for the resume that follows: the queue is still paused when it
// returns, but for BullMQ's staged way, which resumes it with few jobs at a time and gives its own limit
// back.
func (p *Phase2) catchUp(ctx context.Context, q PausedQueue, note *pauseNote) error {
	switch q.CatchUp {
	case Newest, None:
		return p.prune(ctx, q)
	case Staged:
		switch q.Queue.Layout {
		case mover.Bull:
			return p.drip(ctx, q)
		case mover.BullMQ:
			return p.widen(ctx, q, note)
		case mover.Asynq: // its own queues begin slowly by themselves
		}
	case All:
	}
	return nil
}

// prune deletes runs of schedules that wait: all but the newest of each, or all but the one that the
// schedule lives in. That one stays in any case, because a schedule ends with it.
func (p *Phase2) prune(ctx context.Context, q PausedQueue) error {
	if q.Queue.Layout == tend.Asynq {
		return nil
	}
	queue := p.at(q)
	runs, err := waitingRuns(ctx, queue)
	if err != nil {
		return err
	}
	doomed := []string{}
	for _, times := range runs {
		slices.SortFunc(times, func(a, b scheduleRun) int { return cmp.Compare(b.dueMS, a.dueMS) })
		if q.CatchUp == Newest {
			times = times[1:]
		}
		for _, r := range times {
			doomed = append(doomed, r.id)
		}
	}
	slices.Sort(doomed)
	for ids := range slices.Chunk(doomed, 1000) {
		if err := p.fenced(ctx); err != nil {
			return err
		}
		selection, err := queue.Select(ctx, tend.Criteria{States: queue.Waits(), IDs: ids})
		if err != nil {
			return err
		}
		if _, err := queue.Act(ctx, tend.Delete, selection, tend.ActOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// A scheduleRun is one waiting run of a schedule.
type scheduleRun struct {
	id    string
	dueMS int64
}

// waitingRuns are the waiting runs of each schedule, by what their ids have in common. Both libraries call
// a run repeat:<schedule>:<ms>.
func waitingRuns(ctx context.Context, queue *tend.Queue) (map[string][]scheduleRun, error) {
	runs := map[string][]scheduleRun{}
	cursor := ""
	for {
		page, err := queue.Page(ctx, tend.PageOptions{States: queue.Waits(), Limit: 10000, Cursor: cursor})
		if err != nil {
			return nil, err
		}
		for i := range page.Jobs {
			id := page.Jobs[i].ID
			at := strings.LastIndexByte(id, ':')
			if !strings.HasPrefix(id, "repeat:") || at <= len("repeat:") {
				continue
			}
			if ms, err := strconv.ParseInt(id[at+1:], 10, 64); err == nil {
				runs[id[:at]] = append(runs[id[:at]], scheduleRun{id: id, dueMS: ms})
			}
		}
		if cursor = page.Cursor; cursor == "" {
			return runs, nil
		}
	}
}

// dripScript moves at most ARGV[1] ids from the paused list, whose right end is next, to the wait list, as
// long as that holds no more than as many. It answers how many are left.
var dripScript = redis.NewScript(`
local n = tonumber(ARGV[1])
for i = redis.call('LLEN', KEYS[2]) + 1, n do
  if not redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT') then break end
end
return redis.call('LLEN', KEYS[1])
`)

// gatherScript moves at most ARGV[1] ids that dripped and that no worker took back to the right end of the
// paused list of a queue that is still paused, since they are next. It answers how many are left.
var gatherScript = redis.NewScript(`
if redis.call('EXISTS', KEYS[3]) == 0 then return 0 end
for i = 1, tonumber(ARGV[1]) do
  if not redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT') then break end
end
return redis.call('LLEN', KEYS[1])
`)

// drip gives Bull's workers a few jobs a second from a queue that stays paused: they take what is in the
// wait list, and everybody else goes on adding to the paused one, so the order stays. It is over with the
// backlog or after StageMS; what is left then goes at once. A crash leaves the queue paused with a few
// jobs in the wait list, which run. Price: 1 script a second of 2 commands and one for each job, and 1 at the
// end.
func (p *Phase2) drip(ctx context.Context, q PausedQueue) error {
	if err := p.stage(ctx, q, func(rate int) (int64, error) {
		left, err := dripScript.Run(ctx, p.client, []string{q.Queue.Key("paused"), q.Queue.Key("wait")}, rate).Int64()
		if err != nil {
			return 0, fmt.Errorf("let jobs of %s go on: %w", q.Label(), err)
		}
		return left, nil
	}); err != nil {
		return err
	}
	return p.gather(ctx, q)
}

// gather brings what dripped and was not taken back in front of what did not, as the resume that follows
// expects. Price: 1 script of 3 commands and one for each job.
func (p *Phase2) gather(ctx context.Context, q PausedQueue) error {
	const atOnce = 1000
	keys := []string{q.Queue.Key("wait"), q.Queue.Key("paused"), q.Queue.Key("meta-paused")}
	for {
		if err := p.fenced(ctx); err != nil {
			return err
		}
		left, err := gatherScript.Run(ctx, p.client, keys, atOnce).Int64()
		if err != nil {
			return fmt.Errorf("gather jobs of %s: %w", q.Label(), err)
		}
		if left == 0 {
			return nil
		}
	}
}

// widenScript sets BullMQ's global limit of jobs that run at once, and wakes a worker. It answers how many
// jobs wait.
var widenScript = redis.NewScript(`
redis.call('HSET', KEYS[1], 'concurrency', ARGV[1])
local left = redis.call('LLEN', KEYS[2]) + redis.call('ZCARD', KEYS[3])
if left > 0 then redis.call('ZADD', KEYS[4], 0, '0') end
return left
`)

// widen resumes a BullMQ queue with few jobs at a time: its global concurrency, which bounds all workers
// together, begins at one and doubles. What the application had set there is noted first and given back.
// Price: 1 script a second of 4 commands.
func (p *Phase2) widen(ctx context.Context, q PausedQueue, note *pauseNote) error {
	meta := q.Queue.Key("meta")
	own := note.concurrency
	if own == "" {
		var err error
		own, err = p.client.HGet(ctx, meta, "concurrency").Result()
		switch {
		case errors.Is(err, redis.Nil):
			own = "-"
		case err != nil:
			return fmt.Errorf("read %s: %w", meta, err)
		}
	}
	backlog, err := p.backlog(ctx, q)
	if err != nil {
		return err
	}
	if backlog > smallBacklog || note.concurrency != "" {
		if err := p.client.HSetNX(ctx, PauseNoteKey(q), "concurrency", own).Err(); err != nil {
			return fmt.Errorf("write %s: %w", PauseNoteKey(q), err)
		}
		keys := []string{meta, q.Queue.Key("wait"), q.Queue.Key("prioritized"), q.Queue.Key("marker")}
		if err := p.client.HSet(ctx, meta, "concurrency", 1).Err(); err != nil {
			return fmt.Errorf("write %s: %w", meta, err)
		}
		if _, err := p.at(q).Resume(ctx); err != nil {
			return err
		}
		bound, _ := strconv.Atoi(own)
		err := p.stage(ctx, q, func(rate int) (int64, error) {
			if bound > 0 {
				rate = min(rate, bound)
			}
			left, err := widenScript.Run(ctx, p.client, keys, rate).Int64()
			if err != nil {
				return 0, fmt.Errorf("let jobs of %s go on: %w", q.Label(), err)
			}
			return left, nil
		})
		if err != nil {
			return err
		}
	}
	if own == "-" {
		err = p.client.HDel(ctx, meta, "concurrency").Err()
	} else {
		err = p.client.HSet(ctx, meta, "concurrency", own).Err()
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", meta, err)
	}
	return nil
}

// stage calls feed once a second with a rate that begins at one and doubles, until it says that nothing is
// left or StageMS has passed.
func (p *Phase2) stage(ctx context.Context, q PausedQueue, feed func(rate int) (left int64, err error)) error {
	length := time.Duration(p.plan.StageMS) * time.Millisecond
	backlog, err := p.backlog(ctx, q)
	if err != nil || backlog <= smallBacklog && q.Queue.Layout == mover.Bull {
		return err
	}
	began := time.Now()
	tick := time.NewTicker(min(stageTick, max(length/stageSteps, time.Millisecond)))
	defer tick.Stop()
	for {
		age := time.Since(began)
		if age >= length {
			return nil
		}
		if err := p.fenced(ctx); err != nil {
			return err
		}
		left, err := feed(1 << int(age*stageSteps/length))
		if err != nil || left == 0 {
			return err
		}
		p.env.Tell(migrate.Progress{
			Step: "phase2.resume", Part: "catch up " + q.Label(), Done: max(0, backlog-left), Total: backlog, Unit: "jobs",
		})
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// backlog is how many jobs of a queue wait for a worker. Price: about 3 commands.
func (p *Phase2) backlog(ctx context.Context, q PausedQueue) (int64, error) {
	queue := p.at(q)
	left, err := queue.Left(ctx, queue.Waits())
	if err != nil {
		return 0, err
	}
	n := int64(0)
	for _, one := range left {
		n += one
	}
	return n, nil
}
