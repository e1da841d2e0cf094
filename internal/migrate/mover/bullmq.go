package mover

import (
	"strconv"
)

// maxPriority is the largest priority whose score BullMQ can keep exactly.
const maxPriority = 2097151

// bullMQFields are what a BullMQ job is read by. In place there are also Bull's, of jobs that were
// converted back before.
func bullMQFields(inPlace bool) []field {
	fields := []field{
		fieldOpts, fieldTimestamp, fieldPriority, fieldProcessedOn, fieldDeid, fieldAtm, fieldAts, fieldStc,
		fieldPb, fieldRjk, fieldNrjid, fieldDefa, fieldParent, fieldParentKey, fieldAttemptsMade,
	}
	if inPlace {
		fields = append(fields, fieldStalledCounter, fieldRetriedOn)
	}
	return fields
}

// readBullMQ reads a job of BullMQ 5 or 6.
func readBullMQ(id string, state State, score string, v view) (*Job, *Problem) {
	j := &Job{ID: id, State: state, Score: score}
	if p := readCommon(&v, j); p != nil {
		return nil, p
	}
	switch {
	case v.has[fieldAtm]:
		n, p := v.number(fieldAtm)
		if p != nil {
			return nil, p
		}
		if state == Completed { // BullMQ counts the try that succeeded
			n--
		}
		j.Tried, j.Counted = n, true
	case v.has[fieldAttemptsMade]: // converted already
		n, p := v.number(fieldAttemptsMade)
		if p != nil {
			return nil, p
		}
		j.Tried, j.Counted = n, true
	}
	if _, p := v.number(fieldStc); p != nil {
		return nil, p
	}
	j.Stalled = v.val[fieldStc]
	if j.Stalled == "" {
		j.Stalled = v.val[fieldStalledCounter]
	}
	j.Dedup = lift(&j.opts, "de")
	if j.Dedup == "" {
		j.Dedup = lift(&j.opts, "debounce") // BullMQ 5 accepted it on add; or converted already
	}
	j.SchedulerKey = v.val[fieldRjk]
	if j.SchedulerKey == "" {
		j.SchedulerKey, _ = j.opts.text("repeatJobKey")
	}
	if raw, ok := j.opts.get("repeat"); ok && j.SchedulerKey == "" {
		if repeat, err := parseObject(raw); err == nil {
			j.SchedulerKey, j.rescheduled = repeat.text("key") // converted already
		}
	}
	return j, nil
}

// writeBullMQ says what the hash of j is in BullMQ's layout, and what BullMQ cannot express.
func writeBullMQ(j *Job) (view, []Loss) {
	w := &writer{id: j.ID, after: j.before}
	// BullMQ reads attemptsMade before atm but counts in atm: left behind, it makes a job retry forever.
	w.after.drop(fieldAttemptsMade)
	w.after.drop(fieldStalledCounter)
	w.lose("retriedOn", lifted(&w.after, fieldRetriedOn), "", "BullMQ does not keep when a job was retried by hand")
	tried := j.Tried
	if j.State == Completed {
		tried++
	}
	w.after.drop(fieldAtm)
	if j.Counted || j.State == Completed {
		w.after.set(fieldAtm, strconv.FormatInt(tried, 10))
	}
	if j.Processed && !w.after.has[fieldAts] {
		w.after.set(fieldAts, strconv.FormatInt(tried, 10))
	}
	w.after.drop(fieldStc)
	if j.Stalled != "" {
		w.after.set(fieldStc, j.Stalled)
	}
	if p, over := clampPriority(j.Priority); over {
		w.lose("priority", j.Priority, p, "BullMQ knows priorities up to 2097151")
		w.after.set(fieldPriority, p)
	}
	w.after.set(fieldOpts, w.bullMQOpts(j).String())
	if j.State == Delayed && j.prioritized() {
		w.lose("order", "before plain jobs", "after plain jobs",
			"a delayed job with a priority runs after the plain waiting ones once it is due, not before them")
	}
	return w.after, w.losses
}

func clampPriority(raw string) (string, bool) {
	p, err := strconv.ParseFloat(raw, 64)
	if err != nil || p <= maxPriority {
		return raw, false
	}
	return strconv.Itoa(maxPriority), true
}

func (w *writer) bullMQOpts(j *Job) object {
	o := j.opts.clone()
	w.lose("opts.timeout", lift(&o, "timeout"), "", "BullMQ has no job timeout: the processor must stop itself")
	w.lose("opts.preventParsingData", lift(&o, "preventParsingData"), "", "BullMQ always parses the data")
	if j.occurrence != nil {
		o = o.with("repeat", j.occurrence.repeat).with("jobId", quote(j.occurrence.id))
	} else {
		o = o.without("repeat") // an occurrence of the past, or of a scheduler that is gone
	}
	if raw, ok := o.get("priority"); ok {
		if p, over := clampPriority(raw); over {
			w.lose("opts.priority", raw, p, "BullMQ knows priorities up to 2097151")
			o = o.with("priority", p)
		}
	}
	if raw, ok := o.get("backoff"); ok {
		if backoff, err := parseObject(raw); err == nil {
			w.backoff(backoff, j, BullMQ)
		}
	}
	if j.Dedup != "" {
		o = o.with("de", j.Dedup)
	}
	if j.occurrence != nil {
		o = o.with("repeatJobKey", quote(j.occurrence.scheduler))
	}
	return o
}
