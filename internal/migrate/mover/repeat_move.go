package mover

import (
	"context"
	_ "embed" // the script is compiled in
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed repeat.lua
var repeatLua string

const (
	repeatPage    = 100 // schedulers read at a time
	repeatTries   = 5   // looks at one whose next run is just being made
	repeatTryWait = 20 * time.Millisecond
)

// repeats moves every scheduler that can be moved and returns how many it moved.
func (r *run) repeats(ctx context.Context) (int64, error) {
	if r.opts.From.Layout == Asynq {
		return r.leaveRepeats(ctx)
	}
	key := r.opts.From.Key("repeat")
	moved, skip := int64(0), int64(0)
	for {
		page, err := r.client.ZRangeWithScores(ctx, key, skip, skip+repeatPage-1).Result()
		if err != nil {
			return moved, fmt.Errorf("read %q: %w", key, err)
		}
		if len(page) == 0 {
			return moved, nil
		}
		for _, z := range page {
			member := fmt.Sprint(z.Member)
			done, err := r.repeat(ctx, member, int64(z.Score))
			if err != nil {
				return moved, fmt.Errorf("scheduler %q: %w", member, err)
			}
			if done {
				moved++
			}
			if !done || r.inPlace() {
				skip++
			}
			if err := r.pace(ctx, 1); err != nil {
				return moved, err
			}
		}
	}
}

// repeat moves one scheduler with its pending job. Between the moment a worker takes the pending job
// and the moment it has added the next one there is nothing to move: it looks again a few times.
func (r *run) repeat(ctx context.Context, member string, next int64) (bool, error) {
	var problem *Problem
	for try := range repeatTries {
		if try > 0 {
			if err := sleepUntil(ctx, time.Now().Add(repeatTryWait)); err != nil {
				return false, err
			}
			score, err := r.client.ZScore(ctx, r.opts.From.Key("repeat"), member).Result()
			if errors.Is(err, redis.Nil) {
				return false, nil // removed meanwhile
			}
			if err != nil {
				return false, err
			}
			next = int64(score)
		}
		var s *scheduled
		var err error
		s, problem, err = r.readScheduled(ctx, member, next)
		if err != nil {
			return false, err
		}
		if s == nil && problem == nil {
			return false, nil // converted already
		}
		if problem != nil {
			continue
		}
		if s.container == "active" {
			free, err := r.unattended(ctx)
			if err != nil {
				return false, err
			}
			if !free {
				problem = &Problem{JobID: s.job.ID, Rule: "scheduler-pending", Message: "its run is being processed at the source"}
				continue
			}
		}
		var status string
		if r.opts.To.Layout == Asynq {
			var unlike *Problem
			if status, unlike, err = r.enterScheduled(ctx, s); err == nil && unlike != nil {
				problem = unlike
				break
			}
		} else {
			status, err = r.moveScheduled(ctx, s)
		}
		if err != nil {
			return false, err
		}
		switch status {
		case "m":
			if !s.drop {
				r.result.Moved[s.job.State]++
			}
			r.result.Losses += int64(len(s.change.losses))
			return true, nil
		case "x":
			problem = &Problem{JobID: member, Rule: "collision", Message: fmt.Sprintf(
				"the target already has a scheduler %q or a job %q", s.repeat.TargetKey, s.newID)}
		case "l":
			problem = &Problem{JobID: s.job.ID, Rule: "live-lock", Message: "a worker holds the lock of its pending job"}
		default:
			problem = &Problem{JobID: member, Rule: "scheduler-pending", Message: "its next run keeps changing"}
		}
	}
	r.skipped = append(r.skipped, *problem)
	return false, nil
}

// readScheduled reads one scheduler and its pending job and works out what they become. Nil and no
// problem means that it is one of the target's already.
func (r *run) readScheduled(ctx context.Context, member string, next int64) (*scheduled, *Problem, error) {
	return readScheduled(ctx, r.client, &r.opts, r.inPlace(), r.ledgerKey("schedulers"), member, next)
}

func readScheduled(ctx context.Context, client redis.UniversalClient, opts *Options, inPlace bool, ledger, member string, next int64) (*scheduled, *Problem, error) {
	e := opts.From
	s := &scheduled{}
	missing := &Problem{JobID: member, Rule: "scheduler-without-job", Message: fmt.Sprintf(
		"no job waits for the next run of %q at %d: add the schedule again in the application", member, next)}
	var ids []string
	offset := int64(0)
	if e.Layout == Bull {
		if inPlace {
			if n, err := client.Exists(ctx, e.Key("repeat:"+member)).Result(); err != nil || n > 0 {
				return nil, nil, err
			}
		}
		ids = pendingIDs(member, next)
	} else {
		values, seen, err := readSeen(ctx, client, e.Key("repeat:"+member), schedulerFields())
		if err != nil {
			return nil, nil, err
		}
		if seen == "" && inPlace {
			return nil, nil, nil
		}
		s.hashSeen = seen
		s.repeat, offset = bullMQRepeat(member, next, values)
		ids = []string{s.repeat.PendingID}
		if s.repeat.Count == 0 && opts.To.Layout != BullMQ { // made by the API that BullMQ 5 still accepts
			if !inPlace {
				return nil, &Problem{JobID: member, Rule: "scheduler-legacy", Message: fmt.Sprintf(
					"%q was made with the old repeat option: upsert it as a job scheduler, or add it again after the move", member)}, nil
			}
			s.drop = true
			s.change.losses = []Loss{{
				JobID: member, Field: "scheduler", Was: s.repeat.Pattern,
				Why: "it was made with the old repeat option: its next run happens, and no other",
			}}
			return s, nil, nil
		}
	}
	id, values, seen, err := findPending(ctx, client, opts, inPlace, ids, member)
	if err != nil || id == "" {
		return nil, missing, err
	}
	if s.container, s.score, err = locate(ctx, client, e, id); err != nil {
		return nil, nil, err
	}
	if s.container == "" {
		return nil, missing, nil
	}
	state := containerState(s.container)
	fields := opts.fields(inPlace)
	v, problem := parseSeen(seen, fields)
	if problem == nil {
		s.job, problem = read(e.Layout, id, state, s.score, v)
	}
	if problem != nil {
		problem.JobID = id
		return nil, problem, nil
	}
	s.jobSeen, s.name, s.offset = seen, values[len(values)-1], offset
	if e.Layout == BullMQ && opts.To.Layout == Asynq {
		return s, nil, nil
	}
	if e.Layout == BullMQ && opts.To.Layout == BullMQ {
		return s, nil, s.sameScheduler(ctx, client, opts)
	}
	if e.Layout == BullMQ {
		line, err := client.HGet(ctx, ledger, member).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return nil, nil, fmt.Errorf("read ledger: %w", err)
		}
		s.toRepeatable(line, offset)
		return s, nil, nil
	}
	var rep object
	if s.repeat, rep, problem = bullRepeat(member, next, id, s.name, s.job); problem != nil {
		return nil, problem, nil
	}
	if opts.To.Layout == Asynq {
		return s, nil, nil
	}
	s.repeat.TargetKey = schedulerID(opts.SchedulerID, s.repeat)
	if strings.Count(s.repeat.TargetKey, ":") >= 4 {
		return nil, &Problem{JobID: member, Rule: "scheduler-id-colon", Message: fmt.Sprintf(
			"BullMQ takes the scheduler id %q for an old repeat key: choose one with fewer colons", s.repeat.TargetKey)}, nil
	}
	s.toScheduler(rep)
	return s, nil, nil
}

func schedulerID(choose func(Repeat) string, r Repeat) string {
	id := ""
	if choose != nil {
		id = choose(r)
	} else {
		id = r.JobID
	}
	if id == "" {
		id = r.Hash
	}
	return id
}

// findPending returns the id of the job among ids that belongs to the scheduler, what the script will
// see of it, and its fields with the name last; an empty id when there is none.
func findPending(ctx context.Context, client redis.UniversalClient, opts *Options, inPlace bool, ids []string, member string) (string, []string, string, error) {
	e := opts.From
	names := []string{}
	for _, f := range opts.fields(inPlace) {
		names = append(names, f.String())
	}
	for _, id := range ids {
		values, all, err := readSeen(ctx, client, e.Key(id), append(slices.Clip(names), "name"))
		if err != nil {
			return "", nil, "", err
		}
		if all == "" || strings.HasPrefix(all, seenError) {
			continue
		}
		seen := all[:strings.LastIndex(all, seenSeparator)]
		if e.Layout == Bull {
			opts, err := parseObject(values[0])
			if err != nil {
				continue
			}
			raw, _ := opts.get("repeat")
			rep, err := parseObject(raw)
			if err != nil {
				continue
			}
			if key, _ := rep.text("key"); key != member {
				continue
			}
		}
		return id, values, seen, nil
	}
	return "", nil, "", nil
}

// readSeen reads fields of a hash as the scripts show them.
func readSeen(ctx context.Context, client redis.UniversalClient, key string, fields []string) (values []string, seen string, err error) {
	raw, err := client.HMGet(ctx, key, fields...).Result()
	if refused, ok := errors.AsType[redis.Error](err); ok {
		return nil, seenError + refused.Error(), nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("read %q: %w", key, err)
	}
	values, seen = joinSeen(raw)
	return values, seen, nil
}

// joinSeen puts an HMGET reply into the form in which the scripts show a hash.
func joinSeen(raw []any) (values []string, seen string) {
	parts := make([]string, len(raw))
	values = make([]string, len(raw))
	anything := false
	for i, v := range raw {
		if s, ok := v.(string); ok {
			parts[i], values[i], anything = s, s, true
		} else {
			parts[i] = seenAbsent
		}
	}
	if !anything {
		return values, ""
	}
	return values, strings.Join(parts, seenSeparator)
}

// locate finds the container that a job waits in; score is empty in lists.
func locate(ctx context.Context, client redis.UniversalClient, e Endpoint, id string) (container, score string, err error) {
	sets := []string{"delayed"}
	if e.Layout == BullMQ {
		sets = append(sets, "prioritized")
	}
	for _, c := range sets {
		v, err := client.ZScore(ctx, e.Key(c), id).Result()
		if err == nil {
			return c, strconv.FormatFloat(v, 'f', -1, 64), nil
		}
		if !errors.Is(err, redis.Nil) {
			return "", "", fmt.Errorf("read %q: %w", e.Key(c), err)
		}
	}
	for _, c := range []string{"wait", "paused", "active"} {
		_, err := client.LPos(ctx, e.Key(c), id, redis.LPosArgs{}).Result()
		if err == nil {
			return c, "", nil
		}
		if !errors.Is(err, redis.Nil) {
			return "", "", fmt.Errorf("read %q: %w", e.Key(c), err)
		}
	}
	return "", "", nil
}

func containerState(container string) State {
	switch container {
	case "wait":
		return Waiting
	case "active":
		return Active
	default:
		return State(container)
	}
}

// moveScheduled runs the script for one scheduler and returns its letter.
func (r *run) moveScheduled(ctx context.Context, s *scheduled) (string, error) {
	from, to := r.opts.From, r.opts.To
	kind, put, priority := "z", "z", ""
	waits := s.container == "wait" || s.container == "paused"
	switch {
	case s.drop:
		s.job = &Job{}
	case waits && r.opts.Order == ByPriority && to.Layout == BullMQ && s.job.prioritized():
		kind, put = "l", "p"
		priority, _ = clampPriority(s.job.Priority)
	case waits && r.inPlace():
		kind, put = "l", "="
	case waits || s.container == "active":
		kind, put = "l", "r"
	case s.container == "prioritized" && to.Layout == BullMQ:
		put, priority = "p", scorePriority(s.score, s.job.Priority)
	case s.container == "prioritized":
		put, priority = "r", scorePriority(s.score, s.job.Priority)
	}
	if to.Layout == Bull && kind == "l" && s.job.prioritized() {
		priority = s.job.Priority
	}
	oldHash, newHash := "", ""
	if from.Layout == BullMQ {
		oldHash = "repeat:" + s.repeat.Key
	}
	if to.Layout == BullMQ {
		newHash = "repeat:" + s.repeat.TargetKey
	}
	flagKey, index := "meta", "prioritized"
	if to.Layout == Bull {
		flagKey, index = "meta-paused", "priority"
	}
	container := s.container
	if s.drop {
		container = "delayed"
	}
	keys := []string{
		from.Key("repeat"), to.Key("repeat"), from.Key(container), to.Key("wait"), to.Key("paused"), to.Key(flagKey),
		to.Key("marker"), to.Key(index), to.Key("pc"), to.Key("delayed"), from.Key("priority"),
		r.ledgerKey("counts"), r.ledgerKey("schedulers"), r.fenceKey(),
	}
	counter := r.counter(s.job.State)
	if r.inPlace() || s.drop {
		counter = ""
	}
	line := s.line
	if r.opts.Reverse {
		line = ""
	}
	var hashFields []string
	if from.Layout == BullMQ {
		hashFields = schedulerFields()
	}
	fields := r.opts.fields(r.inPlace())
	args := []any{
		r.opts.Fence.Token, from.Key(""), to.Key(""), strconv.Itoa(to.major()), s.repeat.Key,
		strconv.FormatInt(s.repeat.NextMS, 10), s.repeat.TargetKey, s.job.ID, s.newID, kind, s.score, put, priority,
		s.jobSeen, s.hashSeen, oldHash, newHash, line, counter, strconv.Itoa(len(s.change.losses)), flag(r.opts.Reverse),
		flag(s.drop), strconv.Itoa(len(fields)), strconv.Itoa(len(hashFields)),
		strconv.Itoa(len(s.change.hset)), strconv.Itoa(len(s.change.hdel)), strconv.Itoa(len(s.hash)),
	}
	for _, f := range fields {
		args = append(args, f.String())
	}
	for _, words := range [][]string{hashFields, s.change.hset, s.change.hdel, s.hash} {
		for _, w := range words {
			args = append(args, w)
		}
	}
	reply, err := r.run(ctx, r.scripts.repeat, keys, args...)
	if err != nil {
		return "", err
	}
	letter, ok := reply.(string)
	if !ok {
		return "", errReply
	}
	return letter, nil
}
