package mover

import (
	"context"
	_ "embed" // the script is compiled in
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed enter_repeat.lua
var enterRepeatLua string

const (
	cronKey      = "redisopt:cron" // where redisopt keeps its own schedules
	cronChannel  = cronKey + ":changed"
	cronSchema   = 1
	cronSchedule = "schedule:" // of a field of it
	tickRetain   = 3600        // seconds that the id of a tick stays taken
	maxTickData  = 1 << 20
)

// A Timetable says when a schedule of redisopt's own is due after an instant; the zero time is never.
type Timetable func(after time.Time) time.Time

// A cronJob is a schedule as redisopt keeps it, the fields that matter to a move.
type cronJob struct {
	Name   string    `json:"name"`
	Cron   string    `json:"cron,omitempty"`
	EveryS int64     `json:"every_s,omitempty"`
	Zone   string    `json:"zone,omitempty"`
	Queue  string    `json:"queue"`
	Job    *tickJob  `json:"job,omitempty"`
	Paused bool      `json:"paused,omitempty"`
	Since  time.Time `json:"since,omitzero"`
}

// A tickJob is what a tick adds, as redisopt's API writes it.
type tickJob struct {
	Name     string          `json:"name,omitempty"`
	Payload  json.RawMessage `json:"payload,omitempty"`
	Priority string          `json:"priority,omitempty"`
	Attempts int             `json:"attempts,omitempty"`
}

// A keptScheduler is what the ledger keeps of a scheduler on its way to asynq: all of it.
type keptScheduler struct {
	Layout Layout            `json:"layout"`
	Member []byte            `json:"member"`
	NextMS int64             `json:"next_ms"`
	TickAt int64             `json:"tick_at"` // of the id that its pending job got, seconds
	JobID  []byte            `json:"job_id"`
	Score  string            `json:"score"` // of the job in delayed; empty when it waited elsewhere
	Job    map[string][]byte `json:"job"`
	Hash   map[string][]byte `json:"hash,omitempty"` // of BullMQ's scheduler
}

// scheduleName is what a scheduler is called among redisopt's own schedules, which are one list for all
// queues.
func scheduleName(choose func(Repeat) string, queue string, r Repeat) string {
	id := ""
	switch {
	case choose != nil:
		id = choose(r)
	case r.JobID != "":
		id = r.JobID
	case r.Name != "" && r.Name != "__default__":
		id = r.Name
	}
	if id == "" {
		id = r.Hash
	}
	if id == "" {
		id = r.Key
	}
	name := queue + ":" + id
	if ok, err := regexp.MatchString(`^[\w.:/@-]{1,128}$`, name); err != nil || !ok {
		name = hexMD5(queue + ":" + r.Key)
	}
	return name
}

// toCron works out the schedule that s becomes, and its first tick. What redisopt's own schedules cannot
// say keeps the scheduler where it is.
func (s *scheduled) toCron(opts *Options, data string, offset int64) (*cronJob, *Problem) {
	r := &s.repeat
	r.TargetKey = scheduleName(opts.SchedulerID, opts.To.Queue, *r)
	stays := func(format string, args ...any) *Problem {
		return &Problem{JobID: r.Key, Rule: "scheduler-unlike", Message: fmt.Sprintf("scheduler %q: ", r.Key) + fmt.Sprintf(format, args...)}
	}
	now := time.Now()
	switch {
	case r.Limit > 0 || r.EndMS > 0:
		return nil, stays("redisopt's own schedules have no end: remove its limit and end date, or add it again by hand")
	case r.StartMS > now.UnixMilli():
		return nil, stays("redisopt's own schedules have no later start: move it when it has begun")
	case r.EveryMS != 0 && (r.EveryMS%1000 != 0 || r.EveryMS < 1000):
		return nil, stays("every %d ms is no whole number of seconds", r.EveryMS)
	case len(data) > maxTickData || !json.Valid([]byte(data)):
		return nil, stays("its data is not JSON of at most 1 MiB")
	}
	c := &cronJob{Name: r.TargetKey, Queue: opts.To.Queue, Zone: r.TZ, EveryS: r.EveryMS / 1000, Job: &tickJob{Payload: json.RawMessage(data)}}
	if r.Pattern != "" {
		var ok bool
		if c.Cron, ok = fiveFields(r.Pattern); !ok {
			return nil, stays("%q counts seconds, redisopt's own schedules count minutes", r.Pattern)
		}
		if r.TZ == "" {
			s.lose("tz", "the worker's own", "UTC", "redisopt's own schedules have a time zone each")
		}
	}
	if r.Name != "__default__" {
		c.Job.Name = r.Name
	}
	if opts.Timetable != nil {
		if _, err := opts.Timetable(c.Cron, c.Zone, time.Duration(c.EveryS)*time.Second); err != nil {
			return nil, stays("%s", strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
	if attempts, ok := s.job.opts.integer("attempts"); ok && attempts > 0 {
		c.Job.Attempts = int(attempts)
	} else {
		c.Job.Attempts = 1
	}
	c.Job.Priority = [numBands]string{"", "high", "low"}[bandOf(s.job, opts.From.Layout)]
	for _, name := range []string{"backoff", "timeout", "removeOnComplete"} {
		if raw, ok := s.job.opts.get(name); ok {
			s.lose("opts."+name, raw, "as the queue says", "the jobs of a schedule have the options of their queue")
		}
	}
	if r.EveryMS != 0 && offset != 0 {
		s.lose("scheduler.offset", strconv.FormatInt(offset, 10), "0", "intervals are aligned to the epoch after the next run")
	}
	c.Since = time.UnixMilli(max(now.UnixMilli(), r.NextMS)).UTC().Truncate(time.Second)
	return c, nil
}

func (s *scheduled) lose(what, was, becomes, why string) {
	s.change.losses = append(s.change.losses, Loss{
		JobID: s.repeat.Key, Field: what, Was: clip(was), Becomes: becomes, Why: why, Reversible: true,
	})
}

// fiveFields is a cron expression without seconds, if it has none or they are 0.
func fiveFields(pattern string) (string, bool) {
	words := strings.Fields(pattern)
	switch {
	case len(words) == 6 && words[0] == "0":
		return strings.Join(words[1:], " "), true
	case len(words) == 5 || len(words) == 1:
		return strings.Join(words, " "), true
	}
	return "", false
}

// tickSecond names the tick that the pending job of a scheduler stands for: its time, or for an interval
// with a phase of its own the multiple before it, which redisopt's schedule would otherwise add as well.
func (r *Repeat) tickSecond() int64 {
	if r.EveryMS > 0 {
		return r.NextMS / r.EveryMS * r.EveryMS / 1000
	}
	return (r.NextMS + 999) / 1000
}

// enterScheduled moves one scheduler to redisopt's own schedules and returns the script's letter.
func (r *run) enterScheduled(ctx context.Context, s *scheduled) (string, *Problem, error) {
	from, to := r.opts.From, r.opts.To
	fields, err := r.client.HGetAll(ctx, from.Key(s.job.ID)).Result()
	if err != nil {
		return "", nil, fmt.Errorf("read %q: %w", from.Key(s.job.ID), ignoreReplies(err))
	}
	data := fields["data"]
	c, problem := s.toCron(&r.opts, data, s.offset)
	if problem != nil {
		return "", problem, nil
	}
	tick := s.repeat.tickSecond()
	s.newID = "cron:" + c.Name + ":" + strconv.FormatInt(tick, 10)
	named := *s.job
	named.ID = s.newID // so that the message knows its schedule
	p, losses, problem := writeAsynq(&named, from.Layout, to.Queue, s.newID, time.Now())
	if problem != nil {
		return "", problem, nil
	}
	s.change.losses = append(s.change.losses, losses...)
	p.msg.retention = max(p.msg.retention, tickRetain)
	state, kind, part := "pending", "l", to.part(p.band)
	container := "pending"
	if s.container == "delayed" {
		state, container = "scheduled", "scheduled"
	}
	if s.score != "" {
		kind = "z"
	}
	line := keptScheduler{
		Layout: from.Layout, Member: []byte(s.repeat.Key), NextMS: s.repeat.NextMS, TickAt: tick, JobID: []byte(s.job.ID),
		Job: bytesOf(fields),
	}
	if s.container == "delayed" {
		line.Score = s.score
	}
	hashKey := ""
	var hashFields []string
	if from.Layout == BullMQ {
		hashKey, hashFields = from.Key("repeat:"+s.repeat.Key), schedulerFields()
		all, err := r.client.HGetAll(ctx, hashKey).Result()
		if err != nil {
			return "", nil, fmt.Errorf("read %q: %w", hashKey, ignoreReplies(err))
		}
		line.Hash = bytesOf(all)
	}
	kept, err := json.Marshal(line)
	if err != nil {
		return "", nil, err
	}
	plan, err := json.Marshal(c)
	if err != nil {
		return "", nil, err
	}
	score := s.score
	if score == "" {
		score = "-"
	}
	jobFields := r.opts.fields(false)
	keys := []string{
		from.Key("repeat"), from.Key(s.container), from.Key("priority"), cronKey, part.jobKey(s.newID), part.Key(container),
		r.ledgerKey("counts"), r.ledgerKey("schedulers"), r.fenceKey(),
	}
	args := []any{
		r.opts.Fence.Token, from.Key(""), s.repeat.Key, strconv.FormatInt(s.repeat.NextMS, 10), s.job.ID, s.newID, kind, s.score,
		s.jobSeen, data, s.hashSeen, hashKey, c.Name, string(plan), strconv.FormatInt(tick, 10), messageOf(&p.msg, data), state, p.score,
		fmt.Sprintf("%s %s %s 1 %s", from.Layout, s.job.State, score, s.job.ID), cronSchema, cronChannel, string(kept),
		r.counter(s.job.State), strconv.Itoa(len(s.change.losses)), strconv.Itoa(len(jobFields)), strconv.Itoa(len(hashFields)),
	}
	for _, f := range jobFields {
		args = append(args, f.String())
	}
	for _, f := range hashFields {
		args = append(args, f)
	}
	reply, err := r.run(ctx, redis.NewScript(enterRepeatLua), keys, args...)
	if err != nil {
		return "", nil, err
	}
	letter, ok := reply.(string)
	if !ok {
		return "", nil, errReply
	}
	if letter == "v" {
		return "", nil, errors.New("a newer redisopt keeps the schedules: use that one")
	}
	return letter, nil, nil
}

// messageOf is a whole message; jobs get theirs from the script.
func messageOf(t *task, data string) string {
	return t.head() + string(appendText(nil, 2, data)) + string(appendText(nil, 3, t.id)) + t.tail()
}

func bytesOf(fields map[string]string) map[string][]byte {
	all := make(map[string][]byte, len(fields))
	for name, v := range fields {
		all[name] = []byte(v)
	}
	return all
}
