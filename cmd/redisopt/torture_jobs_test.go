package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// The states of a job, whatever its library calls them.
const (
	isWaiting   = "waiting"
	isActive    = "active"
	isDelayed   = "delayed"
	isCompleted = "completed"
	isFailed    = "failed"
)

// A madeJob is a job as the campaign put it into a queue.
type madeJob struct {
	id, name, data string
	state          string
	attempts, made int
	priority       int
	due            time.Time // of a delayed one
	result, reason string    // of a completed and of a failed one
	unsure         bool      // whether it was added is not known: the server died before it answered
}

// makeJobs makes some jobs in every state; ids are numbers of the counter, and here and there the
// application's own.
func makeJobs(rng *rand.Rand, n int, ended bool) []madeJob {
	states := []string{isWaiting, isWaiting, isWaiting, isDelayed, isCompleted, isFailed}
	if ended {
		states = states[4:]
	}
	jobs := make([]madeJob, 0, n)
	for i := 1; i <= n; i++ {
		j := madeJob{id: strconv.Itoa(i), name: "__default__", state: states[rng.IntN(len(states))], attempts: 1 + rng.IntN(5)}
		switch rng.IntN(12) {
		case 0:
			j.id = fmt.Sprintf("order-%d", i)
		case 1:
			j.id, j.name = fmt.Sprintf("user:%d", i), "welcome"
		}
		if i == n && !ended {
			j.state = isActive // its worker has died
		}
		j.made = rng.IntN(j.attempts)
		j.data = fmt.Sprintf(`{"n":%d,"to":"é☃ %x","list":[1,null,%d.50]}`, i, rng.Uint64(), rng.IntN(100))
		switch j.state {
		case isFailed:
			j.made, j.reason = j.attempts, fmt.Sprintf("smtp %d", rng.IntN(1000))
		case isCompleted:
			j.result = fmt.Sprintf(`{"ok":%d}`, rng.IntN(1000))
		case isDelayed:
			j.due = time.Now().Add(time.Hour + time.Duration(rng.IntN(3_600_000))*time.Millisecond).Truncate(time.Millisecond)
		case isWaiting:
			if rng.IntN(4) == 0 {
				j.priority = 1 + rng.IntN(5)
			}
		}
		jobs = append(jobs, j)
	}
	return jobs
}

// putBull adds jobs to a queue of Bull 4, as Bull leaves them.
func putBull(ctx context.Context, client redis.UniversalClient, queue string, jobs []madeJob, paused bool) error {
	base := "bull:" + queue + ":"
	wait := base + "wait"
	if paused {
		wait = base + "paused"
	}
	_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		if paused {
			p.Set(ctx, base+"meta-paused", 1, 0)
		}
		p.Set(ctx, base+"id", len(jobs), 0)
		for i, j := range jobs {
			stamp := time.Now().Add(-time.Hour).UnixMilli() + int64(i)
			delay := int64(0)
			if j.state == isDelayed {
				delay = j.due.UnixMilli() - stamp
			}
			fields := []any{
				"name", j.name, "data", j.data, "timestamp", stamp, "delay", delay, "priority", j.priority,
				"opts", fmt.Sprintf(`{"attempts":%d,"delay":%d,"timestamp":%d}`, j.attempts, delay, stamp),
			}
			if j.made > 0 {
				fields = append(fields, "attemptsMade", j.made)
			}
			if j.made > 0 || j.state == isActive || j.state == isCompleted {
				fields = append(fields, "processedOn", stamp+10)
			}
			if j.state == isWaiting && j.priority > 0 {
				p.ZAdd(ctx, base+"priority", redis.Z{Score: float64(j.priority), Member: j.id})
			}
			fields = append(fields, j.list(ctx, p, base, stamp, i)...)
			p.HSet(ctx, base+j.id, fields...)
		}
		// Bull keeps prioritized jobs at the right end, the most urgent one outermost.
		for _, j := range jobs {
			if j.state == isWaiting && j.priority == 0 {
				p.LPush(ctx, wait, j.id)
			}
		}
		for priority := 5; priority > 0; priority-- {
			for _, j := range slices.Backward(jobs) {
				if j.state == isWaiting && j.priority == priority {
					p.RPush(ctx, wait, j.id)
				}
			}
		}
		return nil
	})
	return err
}

// list puts a job that does not wait into its container, which Bull and BullMQ call and score alike, and returns the
// fields that its end has left.
func (j madeJob) list(ctx context.Context, p redis.Pipeliner, base string, stamp int64, i int) (fields []any) {
	switch j.state {
	case isWaiting:
	case isActive:
		p.LPush(ctx, base+"active", j.id)
	case isDelayed:
		p.ZAdd(ctx, base+"delayed", redis.Z{Score: float64(j.due.UnixMilli()*4096 + int64(i)), Member: j.id})
	case isCompleted:
		fields = []any{"finishedOn", stamp + 20, "returnvalue", j.result}
		p.ZAdd(ctx, base+"completed", redis.Z{Score: float64(stamp + 20), Member: j.id})
	case isFailed:
		fields = []any{"finishedOn", stamp + 20, "failedReason", j.reason, "stacktrace", `["Error: ` + j.reason + `"]`}
		p.ZAdd(ctx, base+"failed", redis.Z{Score: float64(stamp + 20), Member: j.id})
	}
	return fields
}

// putBullMQ adds jobs to a queue of BullMQ 5, as BullMQ leaves them.
func putBullMQ(ctx context.Context, client redis.UniversalClient, queue string, jobs []madeJob) error {
	base := "bullmq:" + queue + ":"
	_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, base+"meta", "version", "bullmq:5.81.5", "opts.maxLenEvents", 10000)
		p.Set(ctx, base+"id", len(jobs), 0)
		for i, j := range jobs {
			stamp := time.Now().Add(-time.Hour).UnixMilli() + int64(i)
			delay := int64(0)
			if j.state == isDelayed {
				delay = j.due.UnixMilli() - stamp
			}
			made := j.made
			if j.state == isCompleted {
				made++ // it counts the attempt that succeeded
			}
			fields := []any{
				"name", j.name, "data", j.data, "timestamp", stamp, "delay", delay, "priority", j.priority,
				"opts", fmt.Sprintf(`{"attempts":%d,"delay":%d}`, j.attempts, delay),
			}
			if made > 0 {
				fields = append(fields, "atm", made, "ats", made)
			}
			if made > 0 || j.state == isActive {
				fields = append(fields, "processedOn", stamp+10)
			}
			switch {
			case j.state == isWaiting && j.priority > 0:
				p.ZAdd(ctx, base+"prioritized", redis.Z{Score: float64(int64(j.priority)<<32 + int64(i)), Member: j.id})
			case j.state == isWaiting:
				p.LPush(ctx, base+"wait", j.id)
			}
			fields = append(fields, j.list(ctx, p, base, stamp, i)...)
			p.HSet(ctx, base+j.id, fields...)
		}
		return nil
	})
	return err
}
