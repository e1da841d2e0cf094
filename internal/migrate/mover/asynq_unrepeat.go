package mover

import (
	"context"
	_ "embed" // the script is compiled in
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed leave_repeat.lua
var leaveRepeatLua string

// A leaving is a schedule of redisopt's own on its way to Bull or BullMQ.
type leaving struct {
	raw    string // as it is stored
	plan   cronJob
	member string
	nextMS int64
	jobID  string
	score  string
	job    map[string]string
	hash   map[string]string // BullMQ's scheduler
	tickID string            // the tick that waits at asynq, in tickAt
	tickAt Endpoint
	losses []Loss
}

// cronFields reads the schedules that redisopt keeps for the queue of e. Price: 1 command.
func cronFields(ctx context.Context, client redis.UniversalClient, e Endpoint) (map[string]string, error) {
	fields, err := client.HGetAll(ctx, cronKey).Result()
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", cronKey, err)
	}
	mine := map[string]string{}
	for field, raw := range fields {
		name, ok := strings.CutPrefix(field, cronSchedule)
		if !ok {
			continue
		}
		if c, ok := readCronJob(raw); ok && c.Queue == e.Queue && c.Name == name {
			mine[name] = raw
		}
	}
	return mine, nil
}

func readCronJob(raw string) (cronJob, bool) {
	var c cronJob
	err := json.Unmarshal([]byte(raw), &c)
	return c, err == nil
}

// sourceSchedulers counts the schedulers at the source.
func (m *Mover) sourceSchedulers(ctx context.Context) (int64, error) {
	if m.opts.From.Layout == Asynq {
		mine, err := cronFields(ctx, m.client, m.opts.From)
		return int64(len(mine)), err
	}
	n, err := m.client.ZCard(ctx, m.opts.From.Key("repeat")).Result()
	if err != nil {
		return 0, fmt.Errorf("count %q: %w", m.opts.From.Key("repeat"), err)
	}
	return n, nil
}

// leaveRepeats moves every schedule of the queue that can be moved and returns how many it moved.
func (r *run) leaveRepeats(ctx context.Context) (int64, error) {
	mine, err := cronFields(ctx, r.client, r.opts.From)
	if err != nil {
		return 0, err
	}
	moved := int64(0)
	for _, name := range slices.Sorted(maps.Keys(mine)) {
		done, err := r.leaveRepeat(ctx, name, mine[name])
		if err != nil {
			return moved, fmt.Errorf("schedule %q: %w", name, err)
		}
		if done {
			moved++
		}
		if err := r.pace(ctx, 1); err != nil {
			return moved, err
		}
	}
	return moved, nil
}

func (r *run) leaveRepeat(ctx context.Context, name, raw string) (bool, error) {
	var problem *Problem
	for range repeatTries {
		var l *leaving
		var err error
		if l, problem, err = r.readLeaving(ctx, name, raw); err != nil {
			return false, err
		}
		if problem != nil {
			break
		}
		letter, err := r.leaveScheduled(ctx, l)
		if err != nil {
			return false, err
		}
		switch letter {
		case "m":
			if l.jobID != "" {
				r.result.Moved[Delayed]++
			}
			r.result.Losses += int64(len(l.losses))
			return true, nil
		case "x":
			problem = &Problem{JobID: name, Rule: "collision", Message: fmt.Sprintf(
				"the target already has a scheduler %q or a job %q", l.member, l.jobID)}
		default:
			problem = &Problem{JobID: name, Rule: "scheduler-pending", Message: fmt.Sprintf("schedule %q keeps changing", name)}
		}
		if letter == "x" {
			break
		}
		if raw, err = r.client.HGet(ctx, cronKey, cronSchedule+name).Result(); errors.Is(err, redis.Nil) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	r.skipped = append(r.skipped, *problem)
	return false, nil
}

// readLeaving works out what a schedule becomes.
func (m *Mover) readLeaving(ctx context.Context, name, raw string) (*leaving, *Problem, error) {
	l := &leaving{raw: raw}
	unlike := func(format string, args ...any) *Problem {
		return &Problem{JobID: name, Rule: "scheduler-unlike", Message: fmt.Sprintf("schedule %q: ", name) + fmt.Sprintf(format, args...)}
	}
	var ok bool
	if l.plan, ok = readCronJob(raw); !ok {
		return nil, unlike("it is damaged"), nil
	}
	if l.plan.Paused {
		return nil, unlike("it is paused, which %s has no form for: resume or remove it", libraryName(m.opts.To.Layout)), nil
	}
	if m.opts.Timetable == nil {
		return nil, unlike("when it runs next cannot be told"), nil
	}
	next, err := m.opts.Timetable(l.plan.Cron, l.plan.Zone, time.Duration(l.plan.EveryS)*time.Second)
	if err != nil {
		return nil, unlike("%s", err), nil
	}
	line, err := m.client.HGet(ctx, m.ledgerKey("schedulers"), name).Result()
	if err = ignoreReplies(err); err != nil {
		return nil, nil, fmt.Errorf("read ledger: %w", err)
	}
	var kept keptScheduler
	known := line != "" && json.Unmarshal([]byte(line), &kept) == nil && kept.Layout == m.opts.To.Layout
	now := time.Now()
	l.nextMS = next(now).UnixMilli()
	waits := int64(0)
	if known {
		waits = kept.TickAt
	}
	if err := m.findTick(ctx, l, name, waits); err != nil {
		return nil, nil, err
	}
	due := false
	if known && l.tickID == "" {
		if due, err = m.tickIsDue(ctx, l, name, waits); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case due:
		l.asItWas(kept)
		l.jobID, l.job = "", nil
	case known && l.tickID != "" && kept.Score != "" && waits == tickOf(l.tickID):
		l.asItWas(kept)
	case known:
		l.asItIs(kept, m.opts.To, now)
	default:
		l.anew(m.opts.To, now)
	}
	return l, nil, nil
}

// findTick finds the tick of the schedule that waits at asynq: the one that was brought along, or the next.
func (m *Mover) findTick(ctx context.Context, l *leaving, name string, brought int64) error {
	for _, at := range []int64{brought, l.nextMS / 1000} {
		if at == 0 {
			continue
		}
		id := "cron:" + name + ":" + strconv.FormatInt(at, 10)
		for _, part := range m.opts.From.parts() {
			_, err := m.client.ZScore(ctx, part.Key("scheduled"), id).Result()
			if err == nil {
				l.tickID, l.tickAt = id, part
				return nil
			}
			if err = ignoreReplies(err); err != nil {
				return fmt.Errorf("read %q: %w", part.Key("scheduled"), err)
			}
		}
	}
	return nil
}

// tickIsDue finds the tick that was brought along among the jobs that wait to be run.
func (m *Mover) tickIsDue(ctx context.Context, l *leaving, name string, brought int64) (bool, error) {
	id := "cron:" + name + ":" + strconv.FormatInt(brought, 10)
	for _, part := range m.opts.From.parts() {
		state, err := m.client.HGet(ctx, part.jobKey(id), fieldState.String()).Result()
		if err = ignoreReplies(err); err != nil {
			return false, fmt.Errorf("read %q: %w", part.jobKey(id), err)
		}
		if state == "pending" {
			l.tickID, l.tickAt = id, part
			return true, nil
		}
	}
	return false, nil
}

func tickOf(id string) int64 {
	n, err := strconv.ParseInt(id[strings.LastIndexByte(id, ':')+1:], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// asItWas restores a scheduler that has not run since.
func (l *leaving) asItWas(kept keptScheduler) {
	l.member, l.nextMS, l.jobID, l.score = string(kept.Member), kept.NextMS, string(kept.JobID), kept.Score
	l.job, l.hash = textsOf(kept.Job), textsOf(kept.Hash)
}

// asItIs restores one that has run: its next run is another job.
func (l *leaving) asItIs(kept keptScheduler, to Endpoint, now time.Time) {
	l.member, l.job, l.hash = string(kept.Member), textsOf(kept.Job), textsOf(kept.Hash)
	cut := strings.LastIndexByte(string(kept.JobID), ':')
	l.jobID = string(kept.JobID[:cut+1]) + strconv.FormatInt(l.nextMS, 10)
	l.score = strconv.FormatInt(l.nextMS*4096, 10)
	delay, stamp := strconv.FormatInt(max(0, l.nextMS-now.UnixMilli()), 10), strconv.FormatInt(now.UnixMilli(), 10)
	if opts, err := parseObject(l.job["opts"]); err == nil {
		opts = opts.with("jobId", quote(l.jobID)).with("prevMillis", strconv.FormatInt(l.nextMS, 10)).
			with("delay", delay).with("timestamp", stamp)
		if raw, ok := opts.get("repeat"); ok {
			if rep, err := parseObject(raw); err == nil {
				count, _ := rep.integer("count")
				opts = opts.with("repeat", rep.with("count", strconv.FormatInt(count+1, 10)).String())
			}
		}
		l.job["opts"] = opts.String()
	}
	l.job["delay"], l.job["timestamp"] = delay, stamp
	for _, name := range []string{"processedOn", "finishedOn", "failedReason", "attemptsMade", "atm", "ats", "stc", "stalledCounter", "pb", "progress"} {
		delete(l.job, name)
	}
	if to.Layout == BullMQ {
		if n, err := strconv.ParseInt(l.hash["ic"], 10, 64); err == nil {
			l.hash["ic"] = strconv.FormatInt(n+1, 10)
		}
	}
}

// anew makes a scheduler of a schedule that was added at redisopt, in Bull's form or BullMQ's.
func (l *leaving) anew(to Endpoint, now time.Time) {
	name, data, attempts := l.plan.Queue, "{}", 1
	priority := "0"
	opts := object{}
	if j := l.plan.Job; j != nil {
		if j.Name != "" {
			name = j.Name
		}
		if len(j.Payload) > 0 {
			data = string(j.Payload)
		}
		attempts = max(1, j.Attempts)
		if j.Priority == "high" && to.Layout == Bull || j.Priority == "low" && to.Layout == BullMQ {
			priority = "1"
			opts = opts.with("priority", priority)
		}
	}
	r := Repeat{
		Key: l.plan.Name, Name: name, JobID: strings.ReplaceAll(l.plan.Name, ":", "-"), Pattern: l.plan.Cron,
		EveryMS: l.plan.EveryS * 1000, TZ: l.plan.Zone, Count: 1, NextMS: l.nextMS,
	}
	if r.Pattern != "" && r.TZ == "" {
		r.TZ = "UTC"
	}
	r.TargetKey = repeatKey(name, r)
	r.Hash = occurrenceHash(name, r.JobID, r.TargetKey)
	s := scheduled{repeat: r, name: name}
	rep := s.bullRepeatOpts()
	stamp := strconv.FormatInt(now.UnixMilli(), 10)
	delay := strconv.FormatInt(max(0, l.nextMS-now.UnixMilli()), 10)
	l.member, l.jobID = r.TargetKey, "repeat:"+r.Hash+":"+strconv.FormatInt(l.nextMS, 10)
	l.score = strconv.FormatInt(l.nextMS*4096, 10)
	opts = opts.with("repeat", rep).with("jobId", quote(l.jobID)).with("attempts", strconv.Itoa(attempts)).
		with("delay", delay).with("timestamp", stamp).with("prevMillis", strconv.FormatInt(l.nextMS, 10))
	l.job = map[string]string{
		"name": name, "data": data, "opts": opts.String(), "timestamp": stamp, "delay": delay, "priority": priority,
	}
	if to.Layout == BullMQ {
		l.inBullMQ(&s, rep)
	}
}

// inBullMQ turns the repeatable of Bull that anew made into a job scheduler.
func (l *leaving) inBullMQ(s *scheduled, rep string) {
	var v view
	for _, f := range append(bullFields(false), fieldName, fieldDelay) {
		if text, ok := l.job[f.String()]; ok {
			v.set(f, text)
		}
	}
	given, err := parseObject(rep)
	if err != nil {
		return
	}
	job, problem := readBull(l.jobID, Delayed, l.score, v)
	if problem != nil {
		return
	}
	s.job, s.repeat.TargetKey = job, s.repeat.JobID
	s.toScheduler(given)
	for f := range numFields {
		if s.change.after.has[f] {
			l.job[f.String()] = s.change.after.val[f]
		}
	}
	l.member, l.jobID, l.losses = s.repeat.TargetKey, s.newID, s.change.losses
	l.hash = map[string]string{"data": l.job["data"]}
	for i := 0; i+1 < len(s.hash); i += 2 {
		l.hash[s.hash[i]] = s.hash[i+1]
	}
}

func textsOf(fields map[string][]byte) map[string]string {
	all := make(map[string]string, len(fields))
	for name, v := range fields {
		all[name] = string(v)
	}
	return all
}

// leaveScheduled runs the script for one schedule and returns its letter.
func (r *run) leaveScheduled(ctx context.Context, l *leaving) (string, error) {
	to := r.opts.To
	hashKey := ""
	if to.Layout == BullMQ {
		hashKey = to.Key("repeat:" + l.member)
	}
	part := l.tickAt
	if l.tickID == "" {
		part = r.opts.From
	}
	keys := []string{
		cronKey, to.Key("repeat"), to.Key("delayed"), to.Key("marker"), r.ledgerKey("counts"), r.ledgerKey("schedulers"),
		r.fenceKey(), part.jobKey(l.tickID), part.Key("scheduled"),
	}
	args := []any{
		r.opts.Fence.Token, to.Key(""), strconv.Itoa(to.major()), l.plan.Name, l.raw, l.member, strconv.FormatInt(l.nextMS, 10),
		l.jobID, l.score, hashKey, l.tickID, cronChannel, r.counter(Delayed), strconv.Itoa(len(l.losses)),
		strconv.Itoa(2 * len(l.job)), strconv.Itoa(2 * len(l.hash)),
	}
	for _, fields := range []map[string]string{l.job, l.hash} {
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			args = append(args, name, fields[name])
		}
	}
	reply, err := r.run(ctx, redis.NewScript(leaveRepeatLua), keys, args...)
	if err != nil {
		return "", err
	}
	letter, ok := reply.(string)
	if !ok {
		return "", errReply
	}
	return letter, nil
}
