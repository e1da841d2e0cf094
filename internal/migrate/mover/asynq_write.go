package mover

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	timeoutGrace    = 5000  // milliseconds that asynq gives an attempt beyond redisopt's own timeout
	noTimeout       = 86400 // seconds that asynq gives one without a timeout, where nothing else does
	maxFailure      = 2 << 10
	longestBackoff  = 366 * 24 * time.Hour
	shortestBackoff = time.Millisecond
)

// A placement is where a job goes at asynq, and as what.
type placement struct {
	band  int
	score string // in a sorted set; empty in pending
	msg   task
}

// asynqFields are the fields that a message is made of, beside those that a job is read by, and the last that
// a job has which is taken by its shape.
func asynqFields() []field { return []field{fieldName, fieldDelay, fieldFinishedOn, fieldFailedReason} }

// writeAsynq says what the message of j is, where it goes, and what asynq cannot express. Times that
// are counted from now are counted from it.
func writeAsynq(j *Job, from Layout, queue, newID string, now time.Time) (placement, []Loss, *Problem) {
	w := &writer{id: j.ID}
	p := placement{band: bandOf(j, from)}
	name := j.before.val[fieldName]
	if name == "" {
		name = "__default__"
	}
	if !utf8.ValidString(name) || !utf8.ValidString(newID) {
		return p, nil, &Problem{Rule: "malformed-field", Message: "its id or name is not valid UTF-8, which asynq cannot read"}
	}
	at, _ := strconv.ParseInt(j.Timestamp, 10, 64)
	env := envelope{Schema: envelopeSchema, Queue: queue, At: at}
	t := task{kind: name, id: newID, queue: Endpoint{Layout: Asynq, Queue: queue}.part(p.band).Queue}

	attempts, ok := j.opts.integer("attempts")
	if !ok || attempts < 1 {
		attempts = 1
	}
	t.retry, t.retried = attempts-1, j.Tried
	if j.State == Failed && t.retried > 0 {
		t.retried-- // the failure that ends a job is no retry
	}
	if j.Tried > 0 || j.State == Failed {
		t.failure = failureText(j.before.val[fieldFailedReason])
	}
	t.timeout = noTimeout
	if ms, ok := j.opts.integer("timeout"); ok && ms > 0 {
		env.Timeout, t.timeout = ms, (ms+timeoutGrace+999)/1000
	}
	if t.retry > 0 {
		env.Backoff = w.asynqBackoff(j, from)
	}
	t.retention = w.asynqRetention(j)
	if env.Schedule = scheduleOf(j); j.DedupID != "" && !j.finished() {
		t.uniqueKey = lockKey(queue, j.DedupID)
		w.lose("opts.deduplication", j.Dedup, "held until the job has ended, 30 days at most",
			"asynq lets the next one in as soon as this one has ended")
	}
	w.asynqDrops(j)
	finished := now.UnixMilli()
	if ms, err := strconv.ParseInt(j.before.val[fieldFinishedOn], 10, 64); err == nil {
		finished = ms
	}
	switch j.State {
	case Delayed:
		second, ok := dueSecond(j.Score)
		if !ok {
			return p, nil, &Problem{Rule: "malformed-field", Message: fmt.Sprintf("its score %q is no time", j.Score)}
		}
		env.Due = second * 1000
		p.score = strconv.FormatInt(second, 10)
	case Failed:
		t.failedAt = finished / 1000
		p.score = strconv.FormatInt(t.failedAt, 10)
	case Completed:
		t.completedAt = finished / 1000
		p.score = strconv.FormatInt(max(now.Unix(), t.completedAt)+keepFor(j), 10)
	case Waiting, Paused, Prioritized, Active, WaitingChildren:
	}
	text, err := json.Marshal(env)
	if err != nil {
		return p, nil, &Problem{Rule: "malformed-opts", Message: "its options cannot be kept: " + err.Error()}
	}
	t.envelope = string(text)
	p.msg = t
	return p, w.losses, nil
}

// bandOf is the band of a job. Bull runs those with a priority before the others, BullMQ after.
func bandOf(j *Job, from Layout) int {
	switch {
	case from == Bull && j.prioritized():
		return bandHigh
	case from == BullMQ && (j.State == Prioritized || j.prioritized() && j.State != Waiting && j.State != Paused):
		return bandLow
	}
	return bandNormal
}

func lockKey(queue, id string) string {
	return Endpoint{Layout: Asynq, Prefix: asynqPrefix, Queue: queue}.Key("unique:redisopt:" + id)
}

// scheduleOf is the schedule of redisopt's own that the job is a tick of; its id says so.
func scheduleOf(j *Job) string {
	rest, ok := strings.CutPrefix(j.ID, "cron:")
	if !ok {
		return ""
	}
	at := strings.LastIndexByte(rest, ':')
	if at <= 0 {
		return ""
	}
	if _, err := strconv.ParseInt(rest[at+1:], 10, 64); err != nil {
		return ""
	}
	return rest[:at]
}

func failureText(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > maxFailure {
		s = strings.ToValidUTF8(s[:maxFailure], "") + "…"
	}
	return s
}

// asynqBackoff is the pause between the attempts that the job has left.
func (w *writer) asynqBackoff(j *Job, from Layout) *backoff {
	b := &backoff{Kind: "fixed", Delay: int64(shortestBackoff), Max: int64(longestBackoff)}
	raw, ok := j.opts.get("backoff")
	if !ok {
		return b
	}
	given, err := parseObject(raw)
	if err != nil {
		if ms, err := strconv.ParseFloat(raw, 64); err == nil && ms >= 0 {
			b.Delay = delayOf(raw)
		}
		return b
	}
	delay, _ := given.get("delay")
	b.Delay = delayOf(delay)
	kind, _ := given.text("type")
	if from == Bull || kind != "exponential" { // BullMQ's grows as redisopt's own
		w.backoff(given, j, Asynq)
	}
	switch kind {
	case "fixed", "":
	case "exponential":
		b.Kind = "exponential"
	default:
		return nil // the queue's own
	}
	if raw, ok := given.get("jitter"); ok {
		if f, err := strconv.ParseFloat(raw, 64); err == nil && f > 0 && f <= 1 {
			b.Jitter = f
			w.lose("opts.backoff.jitter", raw, raw, "redisopt's own queues lengthen a pause by up to this share, BullMQ shortens it")
		}
	}
	return b
}

func delayOf(ms string) int64 {
	f, err := strconv.ParseFloat(ms, 64)
	if err != nil || f < 0 || math.IsNaN(f) {
		return int64(shortestBackoff)
	}
	return max(int64(shortestBackoff), int64(min(f*float64(time.Millisecond), float64(longestBackoff))))
}

// asynqRetention is how many seconds the job is kept after it was done.
func (w *writer) asynqRetention(j *Job) int64 {
	if j.finished() {
		return keepFor(j)
	}
	raw, ok := j.opts.get("removeOnComplete")
	if ok {
		if rule, err := parseObject(raw); err == nil {
			if count, ok := rule.get("count"); ok {
				w.lose("opts.removeOnComplete.count", count, "", "how many are kept is a setting of the queue, not of the job")
			}
		} else if _, err := strconv.ParseInt(raw, 10, 64); err == nil {
			w.lose("opts.removeOnComplete", raw, "", "how many are kept is a setting of the queue, not of the job")
		}
	}
	return keepFor(j)
}

// keepFor is removeOnComplete in seconds: what its age says, nothing for true.
func keepFor(j *Job) int64 {
	raw, _ := j.opts.get("removeOnComplete")
	if raw == "true" && !j.finished() {
		return 0
	}
	if rule, err := parseObject(orEmpty(raw)); err == nil {
		if age, ok := rule.integer("age"); ok && age > 0 {
			return age
		}
	}
	return keepResult
}

// asynqDrops names the options that mean nothing at asynq.
func (w *writer) asynqDrops(j *Job) {
	if j.finished() {
		return
	}
	for _, drop := range [][2]string{
		{"removeOnFail", "asynq keeps a dead letter until it is deleted or the archive is full"},
		{"kl", "asynq keeps no log lines"},
		{"fpof", "asynq has no flows"},
		{"cpof", "asynq has no flows"},
		{"idof", "asynq has no flows"},
		{"rdof", "asynq has no flows"},
		{"tm", "asynq has no place for it"},
		{"omc", "asynq has no place for it"},
	} {
		if raw, ok := j.opts.get(drop[0]); ok && raw != "false" {
			w.lose("opts."+drop[0], raw, "", drop[1])
		}
	}
	w.lose(fieldDefa.String(), j.before.val[fieldDefa], "", "asynq has no deferred failure: the job runs instead of failing")
	if j.prioritized() && j.State != Waiting && j.State != Paused {
		w.lose("priority", j.Priority, "a band", "asynq has three bands; inside one, jobs run in the order in which they came")
	}
}
