package mover

import "strconv"

// bullFields are what a Bull job is read by. In place there are also BullMQ's, of jobs that were
// converted before. The deduplication id is also in opts and not worth reading twice.
func bullFields(inPlace bool) []field {
	fields := []field{
		fieldOpts, fieldTimestamp, fieldPriority, fieldProcessedOn, fieldAttemptsMade, fieldStalledCounter, fieldRetriedOn,
	}
	if inPlace {
		fields = append(fields, fieldAtm, fieldAts, fieldStc)
	}
	return fields
}

// readBull reads a job of Bull 4.
func readBull(id string, state State, score string, v view) (*Job, *Problem) {
	j := &Job{ID: id, State: state, Score: score}
	if p := readCommon(&v, j); p != nil {
		return nil, p
	}
	switch {
	case v.has[fieldAttemptsMade]:
		n, p := v.number(fieldAttemptsMade)
		if p != nil {
			return nil, p
		}
		j.Tried, j.Counted = n, true
	case v.has[fieldAtm]: // converted already
		n, p := v.number(fieldAtm)
		if p != nil {
			return nil, p
		}
		if state == Completed {
			n--
		}
		j.Tried, j.Counted = n, true
	}
	if _, p := v.number(fieldStalledCounter); p != nil {
		return nil, p
	}
	j.Stalled = v.val[fieldStalledCounter]
	if j.Stalled == "" {
		j.Stalled = v.val[fieldStc]
	}
	j.Dedup = lift(&j.opts, "debounce")
	if j.Dedup == "" {
		j.Dedup = lift(&j.opts, "de") // converted already
	}
	if dedup, err := parseObject(orEmpty(j.Dedup)); err == nil && j.DedupID == "" {
		j.DedupID, _ = dedup.text("id")
	}
	if raw, ok := j.opts.get("repeat"); ok {
		if repeat, err := parseObject(raw); err == nil {
			j.SchedulerKey, _ = repeat.text("key")
		}
	}
	if j.SchedulerKey == "" {
		j.SchedulerKey, j.rescheduled = j.opts.text("repeatJobKey") // converted already
	}
	return j, nil
}

func orEmpty(raw string) string {
	if raw == "" {
		return "{}"
	}
	return raw
}

// lift takes a member out of o and returns its raw value.
func lift(o *object, key string) string {
	raw, ok := o.get(key)
	if !ok {
		return ""
	}
	*o = o.without(key)
	return raw
}

// writeBull says what the hash of j is in Bull's layout, and what Bull cannot express.
func writeBull(j *Job) (view, []Loss) {
	w := &writer{id: j.ID, after: j.before}
	for _, f := range []field{fieldAtm, fieldAts, fieldStc, fieldPb, fieldRjk, fieldNrjid, fieldParent, fieldParentKey} {
		w.after.drop(f)
	}
	w.lose(fieldDefa.String(), lifted(&w.after, fieldDefa), "", "Bull has no deferred failure: the job runs instead of failing")
	if j.before.has[fieldParentKey] {
		w.lose("parent", j.before.val[fieldParentKey], "", "Bull has no flows: the job becomes a plain job, its parent is not told")
	}
	w.after.drop(fieldAttemptsMade)
	if j.Counted && j.Tried > 0 {
		w.after.set(fieldAttemptsMade, strconv.FormatInt(j.Tried, 10))
	}
	w.after.drop(fieldStalledCounter)
	if j.Stalled != "" {
		w.after.set(fieldStalledCounter, j.Stalled)
	}
	w.after.set(fieldOpts, w.bullOpts(j).String())
	return w.after, w.losses
}

func lifted(v *view, f field) string {
	s := v.val[f]
	v.drop(f)
	return s
}

func (w *writer) bullOpts(j *Job) object {
	o := j.opts.clone()
	for _, drop := range [][2]string{
		{"kl", "Bull keeps every log line"},
		{"fpof", "Bull has no flows"},
		{"cpof", "Bull has no flows"},
		{"idof", "Bull has no flows"},
		{"rdof", "Bull has no flows"},
		{"tm", "Bull has no telemetry"},
		{"omc", "Bull has no telemetry"},
	} {
		w.lose("opts."+drop[0], lift(&o, drop[0]), "", drop[1])
	}
	o = o.without("parent").without("repeatJobKey")
	if j.occurrence != nil {
		o = o.with("repeat", j.occurrence.repeat).with("jobId", quote(j.occurrence.id))
	} else {
		o = o.without("repeat")
	}
	if raw, ok := o.get("backoff"); ok {
		if backoff, err := parseObject(raw); err == nil {
			if jitter, ok := backoff.get("jitter"); ok {
				w.lose("opts.backoff.jitter", jitter, "", "Bull waits the same time after every try")
				o = o.with("backoff", backoff.without("jitter").String())
			}
			w.backoff(backoff, j, Bull)
		}
	}
	if raw, ok := o.get("attempts"); !ok || raw == "0" {
		o = o.with("attempts", "1")
	}
	if _, ok := o.get("delay"); !ok {
		o = o.with("delay", "0")
	}
	if _, ok := o.get("timestamp"); !ok {
		o = o.with("timestamp", j.Timestamp)
	}
	if j.Dedup != "" {
		o = o.with("debounce", w.bullDebounce(j.Dedup))
	}
	if j.occurrence != nil {
		o = o.with("prevMillis", strconv.FormatInt(j.occurrence.prevMillis, 10))
	}
	return o
}

// bullDebounce keeps of BullMQ's deduplication what Bull has: the id and the time to live.
func (w *writer) bullDebounce(raw string) string {
	dedup, err := parseObject(raw)
	if err != nil {
		return raw
	}
	kept := dedup.clone()
	for _, m := range dedup {
		if m.key != "id" && m.key != "ttl" {
			kept = kept.without(m.key)
			w.lose("opts.deduplication."+m.key, m.val, "", "Bull's debounce has only an id and a time to live")
		}
	}
	return kept.String()
}
