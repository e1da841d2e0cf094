package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// A sighting is one place where a job is, as somebody sees it who knows nothing of the mover: the layouts
// of Bull and BullMQ as their libraries read them, and asynq's through its own Inspector.
type sighting struct {
	where          string // "bull:mail:wait", "asynq mail:high pending"
	state          string
	data           string
	attempts, made int
	due            int64 // Unix milliseconds, of a delayed one
	result, reason string
}

// sightings are by what the job was called when it was added.
type sightings map[string][]sighting

// lookAt finds every job of queue, under each of prefixes and at asynq. What belongs to no container is an
// error in the answer's second part.
func lookAt(ctx context.Context, client redis.UniversalClient, addr, queue string, prefixes ...string) (sightings, []string, error) {
	seen, odd := sightings{}, []string{}
	for _, prefix := range prefixes {
		strays, err := lookAtHashes(ctx, client, prefix+":"+queue+":", prefix != "bull", seen)
		if err != nil {
			return nil, nil, err
		}
		odd = append(odd, strays...)
	}
	strays, err := lookAtAsynq(ctx, client, addr, queue, seen)
	return seen, append(odd, strays...), err
}

// lookAtHashes reads one queue of Bull or BullMQ.
func lookAtHashes(ctx context.Context, client redis.UniversalClient, base string, mq bool, seen sightings) (odd []string, err error) {
	containers := map[string]string{
		"wait": isWaiting, "paused": isWaiting, "prioritized": isWaiting, "active": isActive,
		"delayed": isDelayed, "completed": isCompleted, "failed": isFailed,
	}
	placed := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(containers)) {
		key := base + name
		kind, err := client.Type(ctx, key).Result()
		if err != nil {
			return nil, err
		}
		var ids []redis.Z
		switch kind {
		case "none":
		case "list":
			members, err := client.LRange(ctx, key, 0, -1).Result()
			if err != nil {
				return nil, err
			}
			for _, m := range members {
				ids = append(ids, redis.Z{Member: m})
			}
		case "zset":
			if ids, err = client.ZRangeWithScores(ctx, key, 0, -1).Result(); err != nil {
				return nil, err
			}
		default:
			odd = append(odd, fmt.Sprintf("%s is a %s", key, kind))
		}
		for _, z := range ids {
			id := fmt.Sprint(z.Member)
			if mq && strings.HasPrefix(id, "0:") && len(seen[id]) == 0 {
				continue // BullMQ's marker
			}
			placed[id] = true
			hash, err := client.HGetAll(ctx, base+id).Result()
			if err != nil {
				return nil, err
			}
			if len(hash) == 0 {
				odd = append(odd, fmt.Sprintf("%s has the id %s without a job", key, id))
			}
			s := sighting{where: key, state: containers[name], data: hash["data"], result: hash["returnvalue"], reason: hash["failedReason"]}
			s.attempts = numberIn(between(hash["opts"], `"attempts":`))
			s.made = numberIn(hash["attemptsMade"])
			if mq {
				s.made = numberIn(hash["atm"])
				if s.state == isCompleted {
					s.made-- // it counts the attempt that succeeded
				}
				if hash["attemptsMade"] != "" {
					odd = append(odd, fmt.Sprintf("%s%s has attemptsMade at BullMQ", base, id))
				}
			}
			if s.state == isDelayed {
				s.due = int64(z.Score / 4096)
			}
			seen[id] = append(seen[id], s)
		}
	}
	return odd, eachKey(ctx, client, base+"*", func(key string) error {
		id := strings.TrimPrefix(key, base)
		if placed[id] || containers[id] != "" {
			return nil
		}
		hash, err := client.HGet(ctx, key, "timestamp").Result()
		if err != nil || hash == "" {
			return nil //nolint:nilerr // not a job
		}
		odd = append(odd, fmt.Sprintf("%s is a job that is in no container", key))
		return nil
	})
}

// lookAtAsynq reads the three bands of a queue.
func lookAtAsynq(ctx context.Context, client redis.UniversalClient, addr, queue string, seen sightings) (odd []string, err error) {
	inspector := asynq.NewInspector(asynq.RedisClientOpt{Addr: addr})
	defer func() { _ = inspector.Close() }()
	for _, band := range []string{queue, queue + ":high", queue + ":low"} {
		placed := map[string]bool{}
		all := asynq.PageSize(10_000)
		for state, list := range map[string]func(string, ...asynq.ListOption) ([]*asynq.TaskInfo, error){
			isWaiting: inspector.ListPendingTasks, isActive: inspector.ListActiveTasks, isDelayed: inspector.ListScheduledTasks,
			"retry": inspector.ListRetryTasks, isFailed: inspector.ListArchivedTasks, isCompleted: inspector.ListCompletedTasks,
		} {
			tasks, err := list(band, all)
			if errors.Is(err, asynq.ErrQueueNotFound) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("%s of %s: %w", state, band, err)
			}
			for _, task := range tasks {
				placed[task.ID] = true
				s := sighting{
					where: "asynq " + band + " " + state, state: state, data: string(task.Payload),
					attempts: task.MaxRetry + 1, made: task.Retried, reason: task.LastErr, result: string(task.Result),
				}
				if state == isDelayed {
					s.due = task.NextProcessAt.UnixMilli()
				}
				if state == isFailed {
					s.made++ // the last attempt is no retry
				}
				id := strings.TrimPrefix(task.ID, queue+":")
				seen[id] = append(seen[id], s)
			}
		}
		base := "asynq:{" + band + "}:t:"
		if err := eachKey(ctx, client, base+"*", func(key string) error {
			if id := strings.TrimPrefix(key, base); !placed[id] {
				odd = append(odd, fmt.Sprintf("%s is a job that is in no container", key))
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return odd, nil
}

// eachKey calls f for every key that matches.
func eachKey(ctx context.Context, client redis.UniversalClient, match string, f func(key string) error) error {
	scan := client.Scan(ctx, 0, match, 1000).Iterator()
	for scan.Next(ctx) {
		if err := f(scan.Val()); err != nil {
			return err
		}
	}
	return scan.Err()
}

// between is the number in text behind mark.
func between(text, mark string) string {
	_, rest, _ := strings.Cut(text, mark)
	return rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
}

func numberIn(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

// A reckoning is what is wrong with the jobs of a queue.
type reckoning struct {
	lost, doubled int
	wrong         []string
}

func (r *reckoning) add(format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

// reckon compares what was put into a queue with what is found. at tells whether a job may be found where
// it was.
func reckon(jobs []madeJob, seen sightings, at func(j madeJob, s sighting) bool) reckoning {
	var r reckoning
	for _, j := range jobs {
		places := seen[j.id]
		delete(seen, j.id)
		switch {
		case len(places) == 0 && j.unsure:
			continue
		case len(places) == 0:
			r.lost++
			r.add("job %s (%s) is lost", j.id, j.state)
			continue
		case len(places) > 1:
			r.doubled++
			r.add("job %s (%s) is in %d places: %s, %s", j.id, j.state, len(places), places[0].where, places[1].where)
			continue
		}
		s := places[0]
		if !at(j, s) {
			r.add("job %s was %s and is in %s", j.id, j.state, s.where)
		}
		if s.data != j.data {
			r.add("job %s in %s has the data %q, want %q", j.id, s.where, s.data, j.data)
		}
		if s.attempts != j.attempts || s.made != j.made {
			r.add("job %s in %s has made %d of %d attempts, want %d of %d", j.id, s.where, s.made, s.attempts, j.made, j.attempts)
		}
		if s.state == isDelayed {
			due := j.due.UnixMilli()
			if strings.HasPrefix(s.where, "asynq") {
				due = (due + 999) / 1000 * 1000
			}
			if s.due != due {
				r.add("job %s in %s is due at %d, want %d", j.id, s.where, s.due, due)
			}
		}
		if s.state == isFailed && s.reason != j.reason {
			r.add("job %s in %s failed for %q, want %q", j.id, s.where, s.reason, j.reason)
		}
		if s.state == isCompleted && s.result != j.result {
			r.add("job %s in %s has the result %q, want %q", j.id, s.where, s.result, j.result)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(seen)) {
		r.add("nobody added job %s of %s", id, seen[id][0].where)
	}
	return r
}
