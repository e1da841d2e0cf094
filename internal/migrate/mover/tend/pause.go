package tend

import (
	"context"
	_ "embed" // the scripts are compiled in
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover"
)

var (
	//go:embed pause_bull.lua
	pauseBullLua string
	//go:embed pause_bullmq.lua
	pauseBullMQLua string
)

// mergeSize is how many jobs one script moves where a queue has both its lists.
const mergeSize = 1000

// maxMerges bounds how often a script is called again for the rest: ten million jobs.
const maxMerges = 10000

// A Pausing is what pausing or resuming a queue did.
type Pausing struct {
	// Already is true when the queue was so before. It was made so again, which repairs what a crash or
	// another library left half done.
	Already bool `json:"already"`

	// Bands are asynq's bands this was done to; empty in other layouts.
	Bands []string `json:"bands,omitempty"`
}

// Pause makes the library's own workers take no further job; those that run go on. It is what the
// library's pause does for all workers. Price: one script of about ten commands, for asynq one command
// a band.
func (q *Queue) Pause(ctx context.Context) (Pausing, error) { return q.setPaused(ctx, true) }

// Resume lets workers take jobs again. Price: as Pause; for asynq one command more, and one for each
// redisopt that follows the queues.
func (q *Queue) Resume(ctx context.Context) (Pausing, error) { return q.setPaused(ctx, false) }

// Paused says whether the queue is paused; for asynq, whether each of its bands is. One command, for
// asynq one a band.
func (q *Queue) Paused(ctx context.Context) (bool, error) {
	switch q.at.Layout {
	case Asynq:
		for _, band := range q.bands {
			n, err := q.client.Exists(ctx, q.base(band)+"paused").Result()
			if err != nil {
				return false, fmt.Errorf("read %q: %w", q.base(band)+"paused", err)
			}
			if n == 0 {
				return false, nil
			}
		}
		return len(q.bands) > 0, nil
	case mover.Bull:
		n, err := q.client.Exists(ctx, q.at.Key("meta-paused")).Result()
		if err != nil {
			return false, fmt.Errorf("read %q: %w", q.at.Key("meta-paused"), err)
		}
		return n > 0, nil
	case mover.BullMQ:
	}
	is, err := q.client.HExists(ctx, q.at.Key("meta"), "paused").Result()
	if err != nil {
		return false, fmt.Errorf("read %q: %w", q.at.Key("meta"), wrongType(err, q.at.Key("meta")))
	}
	return is, nil
}

func (q *Queue) setPaused(ctx context.Context, pause bool) (Pausing, error) {
	if q.at.Layout == Asynq {
		return q.setTasksPaused(ctx, pause)
	}
	event, done := "resumed", Pausing{}
	if pause {
		event = "paused"
	}
	script, keys := redis.NewScript(pauseBullMQLua), []string{"wait", "paused", "meta", "prioritized", "events", "delayed", "marker"}
	if q.at.Layout == mover.Bull {
		script, keys = redis.NewScript(pauseBullLua), []string{"wait", "paused", "meta-paused", "meta", event}
	}
	for i := range keys {
		keys[i] = q.at.Key(keys[i])
	}
	for call := range maxMerges {
		reply, err := script.Run(ctx, q.client, keys, event, strconv.Itoa(mergeSize), strconv.Itoa(q.at.Major)).Int64Slice()
		if err != nil {
			return done, fmt.Errorf("%s: %w", event, scriptError(err))
		}
		if len(reply) != 3 {
			return done, errReply
		}
		if q.InScript != nil {
			q.InScript(reply[2])
		}
		if call == 0 {
			done.Already = reply[0] == 1
		}
		if reply[1] == 0 {
			return done, nil
		}
	}
	return done, fmt.Errorf("%s: others add to the list as fast as it is emptied; run it again", event)
}

// setTasksPaused sets or removes asynq's mark on each band.
func (q *Queue) setTasksPaused(ctx context.Context, pause bool) (Pausing, error) {
	done := Pausing{Already: true}
	for _, band := range q.bands {
		key := q.base(band) + "paused"
		var (
			changed bool
			err     error
		)
		if pause {
			changed, err = q.client.SetNX(ctx, key, time.Now().Unix(), 0).Result()
		} else {
			var n int64
			n, err = q.client.Del(ctx, key).Result()
			changed = n > 0
		}
		if err != nil {
			return done, fmt.Errorf("change %q: %w", key, err)
		}
		done.Already = done.Already && !changed
		done.Bands = append(done.Bands, q.bandName(band))
	}
	if !pause {
		q.ring(ctx, 0, q.bands...)
	}
	return done, nil
}
