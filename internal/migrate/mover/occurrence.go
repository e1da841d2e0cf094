package mover

import (
	"crypto/md5" //nolint:gosec // Bull names its occurrences by it; nothing is protected by it
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A scheduled is a scheduler at the source with the job that waits for its next run, and what both
// become.
type scheduled struct {
	repeat    Repeat
	name      string
	container string // where the job is: delayed, wait, paused, prioritized, active; empty if nowhere
	score     string // the job's score there; empty in lists
	jobSeen   string
	hashSeen  string // of the scheduler hash; BullMQ only
	job       *Job
	newID     string
	change    change
	hash      []string // words of the new scheduler hash; BullMQ only
	line      string   // for the ledger
	offset    int64    // phase of an interval of BullMQ, milliseconds
	drop      bool     // a scheduler of a kind that has no next run in the other library
}

// A schedulerLine is what the ledger keeps of a Bull repeatable.
type schedulerLine struct {
	Key   []byte `json:"key"`
	JobID []byte `json:"job_id,omitempty"`
	Opts  []byte `json:"opts"` // of the pending job
}

// bullRepeat fills s.repeat from the options of a pending Bull job.
func bullRepeat(key string, next int64, id, name string, j *Job) (Repeat, object, *Problem) {
	malformed := func(what string) *Problem {
		return &Problem{JobID: id, Rule: "malformed-opts", Message: "opts.repeat of the pending job: " + what}
	}
	r := Repeat{Key: key, Name: name, NextMS: next, PendingID: id}
	if parts := strings.Split(id, ":"); len(parts) == 3 {
		r.Hash = parts[1]
	}
	raw, _ := j.opts.get("repeat")
	rep, err := parseObject(raw)
	if err != nil {
		return r, nil, malformed("not an object")
	}
	r.JobID, _ = rep.text("jobId")
	r.Pattern, _ = rep.text("cron")
	r.EveryMS, _ = rep.integer("every")
	if (r.Pattern == "") == (r.EveryMS == 0) {
		return r, nil, malformed("want one of cron and every")
	}
	r.TZ, _ = rep.text("tz")
	r.Limit, _ = rep.integer("limit")
	r.Count, _ = rep.integer("count")
	var okEnd, okStart bool
	if r.EndMS, okEnd = dateMS(rep, "endDate"); !okEnd {
		return r, nil, malformed("endDate is not a date with its zone")
	}
	if r.StartMS, okStart = dateMS(rep, "startDate"); !okStart {
		return r, nil, malformed("startDate is not a date with its zone")
	}
	return r, rep, nil
}

// dateMS reads a date that JavaScript wrote: ISO 8601 in UTC, or milliseconds.
func dateMS(o object, key string) (int64, bool) {
	if ms, ok := o.integer(key); ok {
		return ms, true
	}
	s, ok := o.text(key)
	if !ok {
		raw, there := o.get(key)
		return 0, !there || raw == "null"
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UnixMilli(), true
		}
	}
	return 0, false
}

// toScheduler works out what a Bull repeatable becomes under the scheduler id s.repeat.TargetKey.
func (s *scheduled) toScheduler(rep object) {
	id := s.repeat.TargetKey
	s.newID = "repeat:" + id + ":" + strconv.FormatInt(s.repeat.NextMS, 10)
	out := object{}
	keep := func(from, to string) {
		if raw, ok := rep.get(from); ok {
			out = out.with(to, raw)
		}
	}
	number := func(key string, ms int64) {
		if ms != 0 {
			out = out.with(key, strconv.FormatInt(ms, 10))
		}
	}
	if s.repeat.Pattern != "" {
		keep("cron", "pattern")
	} else {
		keep("every", "every")
	}
	keep("tz", "tz")
	keep("limit", "limit")
	number("endDate", s.repeat.EndMS)
	number("startDate", s.repeat.StartMS)
	keep("count", "count")
	if s.repeat.EveryMS != 0 {
		out = out.with("offset", "0") // Bull's intervals are aligned to the epoch
	}
	j := *s.job
	j.SchedulerKey = id
	j.occurrence = &occurrence{id: s.newID, repeat: out.String(), scheduler: id}
	after, losses := writeBullMQ(&j)
	after.set(fieldRjk, id)
	s.change = change{newID: s.newID, after: after, losses: losses}
	s.change.hset, s.change.hdel = difference(&s.job.before, &after)
	s.hash = schedulerHash(s, rep, after.val[fieldOpts])
	line, err := json.Marshal(schedulerLine{
		Key: []byte(s.repeat.Key), JobID: []byte(s.repeat.JobID), Opts: []byte(s.job.before.val[fieldOpts]),
	})
	if err == nil {
		s.line = string(line)
	}
}

// schedulerHash is the hash that BullMQ schedules from; data is added by the script.
func schedulerHash(s *scheduled, rep object, opts string) []string {
	words := []string{"name", s.name}
	add := func(key, val string) {
		if val != "" && val != "0" {
			words = append(words, key, val)
		}
	}
	add("ic", strconv.FormatInt(s.repeat.Count, 10))
	add("pattern", s.repeat.Pattern)
	add("every", strconv.FormatInt(s.repeat.EveryMS, 10))
	add("tz", s.repeat.TZ)
	if limit, ok := rep.get("limit"); ok {
		add("limit", limit)
	}
	add("startDate", strconv.FormatInt(s.repeat.StartMS, 10))
	add("endDate", strconv.FormatInt(s.repeat.EndMS, 10))
	if s.repeat.EveryMS != 0 {
		words = append(words, "offset", "0")
	}
	template, err := parseObject(opts)
	if err != nil {
		return words
	}
	for _, key := range []string{"repeat", "jobId", "delay", "timestamp", "prevMillis", "repeatJobKey"} {
		template = template.without(key)
	}
	return append(words, "opts", template.String())
}

// schedulerFields are what a BullMQ scheduler is read by.
func schedulerFields() []string {
	return []string{"name", "ic", "pattern", "every", "tz", "limit", "startDate", "endDate", "offset", "opts"}
}

// bullMQRepeat fills a Repeat from a scheduler hash; values are in the order of schedulerFields.
func bullMQRepeat(id string, next int64, values []string) (Repeat, int64) {
	number := func(i int) int64 {
		n, err := strconv.ParseInt(values[i], 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	r := Repeat{
		Key: id, Name: values[0], Count: number(1), Pattern: values[2], EveryMS: number(3), TZ: values[4],
		Limit: number(5), StartMS: number(6), EndMS: number(7), NextMS: next,
		PendingID: "repeat:" + id + ":" + strconv.FormatInt(next, 10),
	}
	if r.Pattern != "" {
		r.EveryMS = 0
	}
	return r, number(8)
}

// toRepeatable works out what a BullMQ scheduler becomes in Bull. line is the ledger's, if it was a
// Bull repeatable before; offset is the phase of its interval in milliseconds.
func (s *scheduled) toRepeatable(line string, offset int64) {
	var kept schedulerLine
	back := line != "" && json.Unmarshal([]byte(line), &kept) == nil && len(kept.Key) > 0
	s.repeat.JobID = s.repeat.Key
	if back {
		s.repeat.JobID = string(kept.JobID)
	}
	s.repeat.TargetKey = repeatKey(s.name, s.repeat)
	s.repeat.Hash = occurrenceHash(s.name, s.repeat.JobID, s.repeat.TargetKey)
	s.newID = "repeat:" + s.repeat.Hash + ":" + strconv.FormatInt(s.repeat.NextMS, 10)
	j := *s.job
	j.SchedulerKey = s.repeat.TargetKey
	j.occurrence = &occurrence{id: s.newID, repeat: s.bullRepeatOpts(), prevMillis: s.repeat.NextMS}
	after, losses := writeBull(&j)
	s.change = change{newID: s.newID, after: after, losses: losses}
	if back && s.repeat.TargetKey == string(kept.Key) {
		s.restore(kept)
	}
	if strings.Contains(s.repeat.JobID, ":") {
		s.change.losses = append(s.change.losses, Loss{
			JobID: s.repeat.Key, Field: "scheduler.id", Was: s.repeat.Key, Becomes: s.repeat.TargetKey,
			Why: "Bull misreads a repeat key with a colon in its jobId: removeRepeatableByKey cannot delete it",
		})
	}
	if offset != 0 && s.repeat.EveryMS != 0 {
		s.change.losses = append(s.change.losses, Loss{
			JobID: s.repeat.Key, Field: "scheduler.offset", Was: strconv.FormatInt(offset, 10), Becomes: "0",
			Why: "Bull aligns intervals to the epoch after the next run",
		})
	}
	s.change.hset, s.change.hdel = difference(&s.job.before, &s.change.after)
}

// restore puts back the options of a Bull repeatable that the ledger kept: all of them if it has not
// run since, else those that BullMQ has no place for.
func (s *scheduled) restore(kept schedulerLine) {
	exact := s.change.after
	exact.set(fieldOpts, string(kept.Opts))
	orig, problem := readBull(s.newID, s.job.State, s.score, exact)
	if problem != nil {
		return
	}
	r, rep, problem := bullRepeat(s.repeat.TargetKey, s.repeat.NextMS, s.newID, s.name, orig)
	if problem == nil {
		r.TargetKey = s.repeat.Key
		forward := scheduled{repeat: r, name: s.name, job: orig}
		forward.toScheduler(rep)
		if forward.change.after.val[fieldOpts] == s.job.before.val[fieldOpts] {
			s.change.after = exact
			s.change.losses = nil
			return
		}
	}
	opts, err := parseObject(s.change.after.val[fieldOpts])
	if err != nil {
		return
	}
	for _, key := range []string{"timeout", "preventParsingData"} {
		if raw, ok := orig.opts.get(key); ok {
			opts = opts.with(key, raw)
		}
	}
	s.change.after.set(fieldOpts, opts.String())
}

// bullRepeatOpts is opts.repeat of the pending job in Bull.
func (s *scheduled) bullRepeatOpts() string {
	r := s.repeat
	o := object{}.with("count", strconv.FormatInt(r.Count, 10))
	if r.Pattern != "" {
		o = o.with("cron", quote(r.Pattern))
	} else {
		o = o.with("every", strconv.FormatInt(r.EveryMS, 10))
	}
	if r.TZ != "" {
		o = o.with("tz", quote(r.TZ))
	}
	for _, f := range []struct {
		key string
		n   int64
	}{{"limit", r.Limit}, {"endDate", r.EndMS}, {"startDate", r.StartMS}} {
		if f.n != 0 {
			o = o.with(f.key, strconv.FormatInt(f.n, 10))
		}
	}
	if r.JobID != "" {
		o = o.with("jobId", quote(r.JobID))
	}
	return o.with("key", quote(r.TargetKey)).String()
}

// repeatKey is Bull's name for a repeatable.
func repeatKey(name string, r Repeat) string {
	end, schedule := "", strconv.FormatInt(r.EveryMS, 10)
	if r.EndMS != 0 {
		end = strconv.FormatInt(r.EndMS, 10)
	}
	if r.Pattern != "" {
		schedule = r.TZ + ":" + r.Pattern
	}
	return fmt.Sprintf("%s:%s:%s:%s", name, r.JobID, end, schedule)
}

// occurrenceHash is the middle of the id that Bull gives to the runs of a repeatable.
func occurrenceHash(name, jobID, key string) string {
	return hexMD5(name + jobID + ":" + hexMD5(key))
}

func hexMD5(s string) string {
	sum := md5.Sum([]byte(s)) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:])
}

// pendingIDs are the ids that the next run of a Bull repeatable can have. The key alone does not
// tell where its name and jobId end, since both may hold colons; there are few ways to read it.
func pendingIDs(key string, next int64) []string {
	const most = 300
	ids := []string{}
	inner := hexMD5(key)
	for i := range len(key) {
		if key[i] != ':' {
			continue
		}
		name, rest := key[:i], key[i+1:]
		for k := range len(rest) {
			if rest[k] == ':' && len(ids) < most {
				ids = append(ids, fmt.Sprintf("repeat:%s:%d", hexMD5(name+rest[:k]+":"+inner), next))
			}
		}
	}
	return ids
}
