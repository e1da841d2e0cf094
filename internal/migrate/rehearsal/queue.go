package rehearsal

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
)

// A QueueCopy is what was copied of one queue.
type QueueCopy struct {
	Queue mover.Endpoint `json:"queue"`

	// There are the jobs that the queue has by container, and Copied those of them that were copied.
	There  map[string]int64 `json:"there"`
	Copied map[string]int64 `json:"copied"`

	// Whole is whether every job was copied.
	Whole bool `json:"whole"`

	// Hollow is how many ids have no job.
	Hollow int64 `json:"hollow"`
}

// containersOf are where a layout keeps the ids of jobs.
func containersOf(layout mover.Layout) []string {
	switch layout {
	case mover.Asynq:
		return []string{"pending", "active", "scheduled", "retry", "archived", "completed"}
	case mover.BullMQ:
		return []string{"wait", "paused", "active", "delayed", "prioritized", "waiting-children", "completed", "failed"}
	case mover.Bull:
	}
	return []string{"wait", "paused", "active", "delayed", "completed", "failed"}
}

// besides are the keys of a queue that belong to no job. What a worker writes anew every few seconds
// (locks, the mark of the last look for stalled jobs) is not among them.
func besides(layout mover.Layout) []string {
	switch layout {
	case mover.Asynq:
		return []string{"lease", "paused"}
	case mover.BullMQ:
		return []string{"id", "meta", "pc", "marker", "repeat", "events", "limiter", "delay", "metrics:completed", "metrics:failed"}
	case mover.Bull:
	}
	return []string{"id", "meta", "meta-paused", "priority", "repeat", "limiter", "limiter:index", "limiter:limited"}
}

// partsOf are the keys of one job besides the first.
func partsOf(layout mover.Layout) []string {
	switch layout {
	case mover.Asynq:
		return nil
	case mover.BullMQ:
		return []string{":logs", ":dependencies", ":processed", ":failed", ":unsuccessful"}
	case mover.Bull:
	}
	return []string{":logs"}
}

// queue copies the keys of one queue: of every container at most r's number of jobs, half of them from
// either end, with all that belongs to these jobs. Price: that of reader.read for about 15 keys and for each
// job, twice for a job that may have logs, and for each schedule 2 more.
func (r *reader) queue(ctx context.Context, e mover.Endpoint, jobs int) ([]capture.Key, QueueCopy, error) {
	copied := QueueCopy{Queue: e, There: map[string]int64{}, Copied: map[string]int64{}, Whole: true}
	var all []capture.Key
	for _, part := range bandsOf(e) {
		keys, err := r.band(ctx, part, jobs, &copied)
		if err != nil {
			return nil, copied, fmt.Errorf("copy %s: %w", e, err)
		}
		all = append(all, keys...)
	}
	if e.Layout == tend.Asynq {
		known, err := r.read(ctx, []string{"asynq:queues"}, maxElements)
		if err != nil {
			return nil, copied, err
		}
		all = append(all, known...)
	}
	return all, copied, nil
}

// bandsOf are the queues that belong together: those of asynq's bands.
func bandsOf(e mover.Endpoint) []mover.Endpoint {
	if e.Layout != mover.Asynq {
		return []mover.Endpoint{e}
	}
	high, low := e, e
	high.Queue, low.Queue = e.Queue+":high", e.Queue+":low"
	return []mover.Endpoint{e, high, low}
}

func (r *reader) band(ctx context.Context, e mover.Endpoint, jobs int, copied *QueueCopy) ([]capture.Key, error) {
	names := []string{}
	for _, c := range slices.Concat(containersOf(e.Layout), besides(e.Layout)) {
		names = append(names, e.Key(c))
	}
	keys, err := r.read(ctx, names, jobs)
	if err != nil {
		return nil, err
	}
	var ids []string
	for i := range keys {
		container := strings.TrimPrefix(keys[i].Name, e.Key(""))
		if !slices.Contains(containersOf(e.Layout), container) {
			continue
		}
		some := idsOf(keys[i], e.Layout)
		copied.Copied[container] += int64(len(some))
		there := int64(len(some))
		if r.cut[keys[i].Name] {
			copied.Whole = false
			if there, err = r.count(ctx, keys[i]); err != nil {
				return nil, err
			}
			if container == "delayed" {
				if some, err = r.schedules(ctx, e, keys, &keys[i], some); err != nil {
					return nil, err
				}
			}
		}
		copied.There[container] += there
		ids = append(ids, some...)
	}
	if err := r.priorities(ctx, e, keys, ids); err != nil {
		return nil, err
	}
	more, err := r.jobs(ctx, e, ids, copied)
	if err != nil {
		return nil, err
	}
	repeats, err := r.repeats(ctx, e, keys)
	return slices.Concat(keys, more, repeats), err
}

// idsOf are the ids in a container, without what BullMQ marks its lists with.
func idsOf(k capture.Key, layout mover.Layout) []string {
	var out []string
	switch v := k.Value.(type) {
	case []string:
		for _, id := range v {
			if layout != mover.BullMQ || !strings.HasPrefix(id, "0:") {
				out = append(out, id)
			}
		}
	case [][2]string:
		for _, m := range v {
			out = append(out, m[0])
		}
	}
	return out
}

// count is how many ids a container has. Price: 1 command.
func (r *reader) count(ctx context.Context, k capture.Key) (int64, error) {
	if k.Type == "zset" {
		return r.client.ZCard(ctx, k.Name).Result()
	}
	return r.client.LLen(ctx, k.Name).Result()
}

// dueFactor is by what both libraries multiply a time before it becomes a score.
const dueFactor = 4096

// schedules adds to a part of the delayed jobs the next run of every schedule, without which the schedule
// would look broken. Price: 1 command a schedule.
func (r *reader) schedules(ctx context.Context, e mover.Endpoint, keys []capture.Key, delayed *capture.Key, ids []string) ([]string, error) {
	at := slices.IndexFunc(keys, func(k capture.Key) bool { return k.Name == e.Key("repeat") })
	if at < 0 {
		return ids, nil
	}
	all, _ := keys[at].Value.([][2]string)
	have, _ := delayed.Value.([][2]string)
	for page := range slices.Chunk(all, readPage) {
		cmds := make([]*redis.ZSliceCmd, 0, len(page))
		if _, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, m := range page {
				ms, err := strconv.ParseFloat(m[1], 64)
				if err != nil {
					continue
				}
				low := strconv.FormatFloat(ms*dueFactor, 'f', -1, 64)
				high := strconv.FormatFloat(ms*dueFactor+dueFactor-1, 'f', -1, 64)
				cmds = append(cmds, p.ZRangeByScoreWithScores(ctx, delayed.Name, &redis.ZRangeBy{Min: low, Max: high, Count: readPage}))
			}
			return nil
		}); err != nil && !isReply(err) {
			return nil, fmt.Errorf("find the next runs of schedules: %w", err)
		}
		for _, cmd := range cmds {
			for _, m := range pairs(cmd.Val()) {
				if strings.HasPrefix(m[0], "repeat:") && !slices.Contains(ids, m[0]) {
					ids, have = append(ids, m[0]), append(have, m)
				}
			}
		}
	}
	delayed.Value = have
	return ids, nil
}

// priorities makes the index of priorities that of the jobs that were copied. Price: 1 command a job,
// where only a part of the index was copied.
func (r *reader) priorities(ctx context.Context, e mover.Endpoint, keys []capture.Key, ids []string) error {
	at := slices.IndexFunc(keys, func(k capture.Key) bool { return k.Name == e.Key("priority") && r.cut[k.Name] })
	if at < 0 {
		return nil
	}
	var have [][2]string
	for page := range slices.Chunk(ids, readPage) {
		cmds := make([]*redis.FloatCmd, len(page))
		if _, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, id := range page {
				cmds[i] = p.ZScore(ctx, keys[at].Name, id)
			}
			return nil
		}); err != nil && !isReply(err) {
			return fmt.Errorf("read priorities: %w", err)
		}
		for i, cmd := range cmds {
			if cmd.Err() == nil {
				have = append(have, [2]string{page[i], strconv.FormatFloat(cmd.Val(), 'f', -1, 64)})
			}
		}
	}
	keys[at].Value = have
	return nil
}

// jobs copies jobs and what belongs to each.
func (r *reader) jobs(ctx context.Context, e mover.Endpoint, ids []string, copied *QueueCopy) ([]capture.Key, error) {
	var names, parts []string
	for _, id := range ids {
		if e.Layout == mover.Asynq {
			names = append(names, e.Key("t:"+id))
			continue
		}
		names = append(names, e.Key(id))
		for _, part := range partsOf(e.Layout) {
			parts = append(parts, e.Key(id+part))
		}
	}
	found, err := r.read(ctx, names, maxElements)
	if err != nil {
		return nil, err
	}
	if !r.full {
		copied.Hollow += int64(len(names) - len(found))
	}
	for _, k := range found {
		fields, _ := k.Value.(map[string]string)
		for _, field := range []string{"deid", "debounceId"} {
			if id := fields[field]; id != "" {
				parts = append(parts, e.Key("de:"+id))
			}
		}
		if unique := fields["unique_key"]; unique != "" {
			parts = append(parts, unique)
		}
	}
	more, err := r.read(ctx, parts, maxElements)
	return append(found, more...), err
}

// repeats copies what schedules keep besides their next run.
func (r *reader) repeats(ctx context.Context, e mover.Endpoint, keys []capture.Key) ([]capture.Key, error) {
	at := slices.IndexFunc(keys, func(k capture.Key) bool { return k.Name == e.Key("repeat") })
	if at < 0 {
		return nil, nil
	}
	var names []string
	for _, id := range idsOf(keys[at], e.Layout) {
		names = append(names, e.Key("repeat:"+id))
	}
	return r.read(ctx, names, maxElements)
}
