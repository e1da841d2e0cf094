package mover

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The fields of a job at asynq: those that its message does not hold are left in its hash when it comes
// from Bull or BullMQ, so that it can go back as it was. The message comes last, since it is bytes.
func asynqJobFields() []field {
	return []field{
		fieldOpts, fieldTimestamp, fieldPriority, fieldProcessedOn, fieldDeid, fieldAttemptsMade, fieldStalledCounter,
		fieldRetriedOn, fieldAtm, fieldAts, fieldStc, fieldPb, fieldRjk, fieldNrjid, fieldDefa, fieldParent, fieldParentKey,
		fieldName, fieldDelay, fieldFinishedOn, fieldFailedReason,
		fieldState, fieldPendingSince, fieldMovedFrom, fieldUniqueKey, fieldSchedule, fieldItems, fieldMsg,
	}
}

// An origin is a job of asynq as a hash of the library it came from; of one that was added at asynq, as
// Bull would keep it.
type origin struct {
	layout  Layout
	id      string
	state   State  // when it left
	score   string // when it left, in a sorted set
	hash    view
	task    task
	env     envelope
	noData  bool  // the hash had no field data
	kept    *kept // what moved_from says of a hash that is no longer there
	touched bool  // something happened to it at asynq
	born    bool  // it was added at asynq
}

// parseMovedFrom reads the field that marks a job that came from Bull or BullMQ: layout, state, score,
// whether there was data, and the id; of one that was taken by its shape also what its hash held, behind a
// line feed.
func (o *origin) parseMovedFrom(s string) bool {
	parts := strings.SplitN(s, " ", 5)
	if len(parts) != 5 {
		return false
	}
	o.layout, o.state, o.id, o.noData = Layout(parts[0]), State(parts[1]), parts[4], parts[3] == "0"
	if o.score = parts[2]; o.score == "-" {
		o.score = ""
	}
	if parts[3] == "2" {
		id, text, _ := strings.Cut(o.id, "\n")
		o.id, o.kept = id, &kept{}
		if json.Unmarshal([]byte(text), o.kept) != nil {
			return false
		}
	}
	return o.layout == Bull || o.layout == BullMQ
}

// readAsynq reads a job of asynq in one band.
func readAsynq(id string, state State, band int, score string, v view, queue string) (*origin, *Problem) {
	raw := unescape(v.val[fieldMsg])
	t, err := parseTask(raw)
	if !v.has[fieldMsg] || err != nil {
		return nil, &Problem{Rule: "malformed-field", Message: "its message is none of asynq's"}
	}
	env, problem := t.unseal()
	if problem != nil {
		return nil, problem
	}
	if (env.Batch != "" || v.has[fieldItems]) && state != Completed && state != Failed {
		return nil, &Problem{Rule: "batch", Message: "it is a batch of items: let it run first"}
	}
	o := &origin{task: t, env: env}
	known, at := v.has[fieldMovedFrom] && o.parseMovedFrom(v.val[fieldMovedFrom]), strconv.FormatInt(env.At, 10)
	if known && o.kept != nil {
		known = o.kept.fill(&v, o.id, at)
	}
	if known && v.has[fieldOpts] && v.val[fieldTimestamp] == at {
		o.hash = v
		for f := fieldState; f < numFields; f++ {
			o.hash.drop(f)
		}
		problem = o.catchUp(state, score, queue)
	} else {
		o.invent(id, state, band, score, &v)
	}
	return o, problem
}

// catchUp brings the hash that was kept up to what has become of the job since.
func (o *origin) catchUp(state State, score, queue string) *Problem {
	was, problem := read(o.layout, o.id, o.state, o.score, o.hash)
	if problem != nil {
		return problem
	}
	then, _, problem := writeAsynq(was, o.layout, queue, o.task.id, time.Unix(0, 0))
	if problem != nil {
		return problem
	}
	same := sameState(o.state, state)
	tries := o.task.retried - then.msg.retried
	if state == Failed && o.state != Failed {
		tries++
	}
	failed := o.task.failure != then.msg.failure || o.task.failedAt != then.msg.failedAt
	o.touched = !same || tries != 0 || failed || (state == Delayed && score != then.score)
	if !o.touched {
		return nil
	}
	if tries > 0 {
		f := fieldAttemptsMade
		if o.layout == BullMQ {
			f = fieldAtm
		}
		o.hash.set(f, strconv.FormatInt(was.Tried+tries, 10))
		if state == Completed && o.layout == BullMQ {
			o.hash.set(f, strconv.FormatInt(was.Tried+tries+1, 10))
		}
	}
	if failed && o.task.failure != "" {
		o.hash.set(fieldFailedReason, o.task.failure)
	}
	if o.state == Delayed && !same || (o.state == Failed && state != Failed) {
		o.hash.set(fieldDelay, "0")
	}
	o.end(state)
	return nil
}

// sameState says whether a job is still where it was put.
func sameState(was, is State) bool {
	switch is {
	case Waiting:
		return was == Waiting || was == Paused || was == Prioritized || was == Active
	case Paused, Prioritized, Active, Delayed, Completed, Failed, WaitingChildren:
	}
	return was == is
}

// end sets when a job ended; one that is to run again has not.
func (o *origin) end(state State) {
	at := int64(0)
	switch state {
	case Completed:
		at = o.task.completedAt
	case Failed:
		at = o.task.failedAt
	case Waiting, Paused, Prioritized, Active, Delayed, WaitingChildren:
		o.hash.drop(fieldFinishedOn)
		return
	}
	if o.state == state && o.hash.has[fieldFinishedOn] {
		return
	}
	ms := strconv.FormatInt(at*1000, 10)
	o.hash.set(fieldFinishedOn, ms)
	if !o.hash.has[fieldProcessedOn] {
		o.hash.set(fieldProcessedOn, ms)
	}
}

// invent makes a hash of Bull for a job that was added at asynq.
func (o *origin) invent(id string, state State, band int, score string, v *view) {
	o.layout, o.id, o.state, o.born, o.touched = Bull, id, state, true, true
	t := &o.task
	at := o.env.At
	for _, other := range []int64{pendingMS(v.val[fieldPendingSince]), t.failedAt * 1000, t.completedAt * 1000, secondsMS(score)} {
		if at == 0 {
			at = other
		}
	}
	stamp := strconv.FormatInt(at, 10)
	due := int64(0)
	if state == Delayed {
		due = max(0, secondsMS(score)-at)
	}
	opts := object{}
	if _, ok := digits(id); !ok {
		opts = opts.with("jobId", quote(id))
	}
	opts = opts.with("attempts", strconv.FormatInt(t.retry+1, 10))
	if b := o.env.Backoff; b != nil && b.Delay > int64(shortestBackoff) {
		kind := "exponential"
		if b.Kind == "fixed" {
			kind = "fixed"
		}
		given := object{}.with("type", quote(kind)).with("delay", strconv.FormatInt(b.Delay/int64(time.Millisecond), 10))
		opts = opts.with("backoff", given.String())
	}
	if o.env.Timeout > 0 {
		opts = opts.with("timeout", strconv.FormatInt(o.env.Timeout, 10))
	}
	if t.retention > 0 {
		opts = opts.with("removeOnComplete", fmt.Sprintf(`{"age":%d}`, t.retention))
	} else {
		opts = opts.with("removeOnComplete", "true")
	}
	priority := "0"
	if band == bandHigh {
		priority = "1"
		opts = opts.with("priority", priority)
	}
	o.hash.set(fieldPriority, priority)
	if key, ok := strings.CutPrefix(t.uniqueKey, lockKey(strings.TrimSuffix(strings.TrimSuffix(t.queue, ":high"), ":low"), "")); ok {
		opts = opts.with("debounce", object{}.with("id", quote(key)).String())
		o.hash.set(fieldDeid, key)
	}
	opts = opts.with("delay", strconv.FormatInt(due, 10)).with("timestamp", stamp)
	o.hash.set(fieldOpts, opts.String())
	o.hash.set(fieldTimestamp, stamp)
	o.hash.set(fieldName, t.kind)
	o.hash.set(fieldDelay, strconv.FormatInt(due, 10))
	tried := t.retried
	if state == Failed {
		tried++
	}
	if tried > 0 {
		o.hash.set(fieldAttemptsMade, strconv.FormatInt(tried, 10))
	}
	if t.failure != "" {
		o.hash.set(fieldFailedReason, t.failure)
	}
	o.end(state)
}

func pendingMS(ns string) int64 {
	n, err := strconv.ParseInt(ns, 10, 64)
	if err != nil {
		return 0
	}
	return n / int64(time.Millisecond)
}

func secondsMS(score string) int64 {
	f, err := strconv.ParseFloat(score, 64)
	if err != nil || f < 0 || f > 1<<50 {
		return 0
	}
	return int64(f) * 1000
}

// bornLosses are those of a job that was added at asynq, on its way to layout.
func (o *origin) bornLosses(w *writer, band int, to Layout) {
	if o.env.Deadline > 0 || o.task.deadline > 0 {
		w.lose("deadline", strconv.FormatInt(max(o.env.Deadline, o.task.deadline*1000), 10), "", "there is no deadline: the job runs however late")
	}
	if b := o.env.Backoff; b != nil && b.Jitter > 0 && to == Bull {
		w.lose("backoff.jitter", strconv.FormatFloat(b.Jitter, 'g', -1, 64), "", "Bull waits the same time after every try")
	}
	if o.env.Backoff == nil && o.task.retry > 0 {
		w.lose("backoff", "as the queue says", "none", "the pause between attempts is an option of the job there")
	}
	if band == bandLow && to == Bull {
		w.lose("band", "low", "normal", "Bull has nothing behind its plain jobs")
	}
	if band == bandHigh && to == BullMQ {
		w.lose("band", "high", "normal", "BullMQ has nothing before its plain jobs")
	}
	if o.task.uniqueKey != "" && !o.hash.has[fieldDeid] {
		w.lose("unique", o.task.uniqueKey, "", "what the key is made of cannot be told from it")
	}
	if o.task.otherHeader {
		w.lose("headers", "some", "", "there are no headers")
	}
}

// leave says what becomes of a job of asynq in another layout: its hash, id and score there.
func (o *origin) leave(to Layout, id string, state State, band int, score string) (j *Job, c change, outScore, priority string, problem *Problem) {
	if o.touched {
		score = scoreAway(state, score, &o.hash)
	} else {
		score = o.score
	}
	j, problem = read(o.layout, o.id, state, score, o.hash)
	if problem != nil {
		return nil, c, "", "", problem
	}
	w := &writer{id: id}
	if o.born {
		o.bornLosses(w, band, to)
	}
	c.newID = targetID(to, o.id)
	if !o.born && o.layout == to {
		c.newID, c.after = o.id, o.hash
	} else {
		if o.born && to == BullMQ && state != Completed && state != Failed {
			j.Priority = "0"
			j.opts = j.opts.without("priority")
			j.before.set(fieldPriority, "0")
			if band == bandLow {
				j.Priority = "1"
				j.opts = j.opts.with("priority", "1")
				j.before.set(fieldPriority, "1")
			}
		}
		var losses []Loss
		if o.born && to == Bull {
			c.after = o.hash
		} else {
			c.after, losses = write(to, j)
		}
		w.losses = append(w.losses, losses...)
	}
	c.losses = w.losses
	return j, c, score, c.after.val[fieldPriority], nil
}

// scoreAway is the score in Bull's sorted sets: milliseconds, and for what is delayed times 4096.
func scoreAway(state State, score string, hash *view) string {
	switch state {
	case Delayed:
		return strconv.FormatInt(secondsMS(score)*4096, 10)
	case Completed, Failed:
		return hash.val[fieldFinishedOn]
	case Waiting, Paused, Prioritized, Active, WaitingChildren:
	}
	return ""
}
