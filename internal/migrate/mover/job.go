package mover

import (
	"fmt"
	"strconv"
	"strings"
)

// A field is one of the hash fields that matter to a move. Every other field of a job, its data
// first of all, stays where it is and is never read.
type field int

// The fields that the layouts give a meaning to, other than the payload. Those from state on are
// asynq's and redisopt's own; of msg, the message, the payload is cut out.
const (
	fieldOpts field = iota
	fieldTimestamp
	fieldPriority
	fieldProcessedOn
	fieldDeid
	fieldAttemptsMade
	fieldStalledCounter
	fieldRetriedOn
	fieldAtm
	fieldAts
	fieldStc
	fieldPb
	fieldRjk
	fieldNrjid
	fieldDefa
	fieldParent
	fieldParentKey
	fieldName
	fieldDelay
	fieldFinishedOn
	fieldFailedReason
	fieldState
	fieldPendingSince
	fieldMovedFrom
	fieldUniqueKey
	fieldSchedule
	fieldItems
	fieldMsg
	numFields
)

func (f field) String() string {
	return [numFields]string{
		"opts", "timestamp", "priority", "processedOn", "deid", "attemptsMade", "stalledCounter",
		"retriedOn", "atm", "ats", "stc", "pb", "rjk", "nrjid", "defa", "parent", "parentKey",
		"name", "delay", "finishedOn", "failedReason",
		"state", "pending_since", "moved_from", "unique_key", "schedule", "items", "msg",
	}[f]
}

// A view is what is known of a job hash: the fields that matter and whether each is there.
type view struct {
	val [numFields]string
	has [numFields]bool
}

func (v *view) set(f field, s string) { v.val[f], v.has[f] = s, true }
func (v *view) drop(f field)          { v.val[f], v.has[f] = "", false }

// What the move script shows of a hash: the values joined by one separator, absent ones as a mark.
const (
	seenSeparator = "\x1e"
	seenAbsent    = "\x1f"
	seenError     = "\x1d"
)

// parseSeen reads what the script saw of a hash; fields are in the order they were asked for.
func parseSeen(seen string, fields []field) (view, *Problem) {
	var v view
	switch {
	case seen == "":
		return v, &Problem{Rule: "missing-hash", Message: "the id is in its container, but its hash is gone"}
	case strings.HasPrefix(seen, seenError):
		return v, &Problem{Rule: "wrong-type", Message: "the key of this job is not a hash"}
	case strings.Count(seen, seenSeparator) != len(fields)-1:
		return v, &Problem{Rule: "malformed-field", Message: "a field of this job holds a control character"}
	}
	rest := seen
	for _, f := range fields {
		var s string
		s, rest, _ = strings.Cut(rest, seenSeparator)
		if s != seenAbsent {
			v.set(f, s)
		}
	}
	return v, nil
}

// A Job is one job in no library's layout: what a reader understood and a writer can express. The
// payload (data, return value, stack trace, progress, name) is not in it: it moves untouched.
type Job struct {
	// ID is the job's id at the source.
	ID string

	// State is where the job is in its life.
	State State

	// Score is the job's score in its container, as the server writes it; empty in lists.
	Score string

	// Timestamp is when the job was added, Unix milliseconds as text.
	Timestamp string

	// Priority is the priority as text; empty or "0" means none, 1 is the most urgent.
	Priority string

	// Tried is how often the job has failed so far; Counted says that the source keeps that count.
	Tried   int64
	Counted bool

	// Stalled is how often the job stalled, as text; empty when never.
	Stalled string

	// Processed says that the job has been started at least once.
	Processed bool

	// DedupID is the deduplication (debounce) id, and Dedup its options as raw JSON; empty if none.
	DedupID, Dedup string

	// SchedulerKey names the scheduler this job is an occurrence of; empty if none.
	SchedulerKey string

	// rescheduled says that SchedulerKey stood where the other layout keeps it: in place the scheduler and this
	// job have been converted.
	rescheduled bool

	// opts are the job's options, less what is named above; values keep their exact bytes.
	opts object

	before view

	occurrence *occurrence // set when the job is the next run of a scheduler that moves with it
}

// An occurrence is what the next run of a scheduler is called at the target.
type occurrence struct {
	id         string // the job's
	repeat     string // opts.repeat
	scheduler  string // BullMQ's scheduler id
	prevMillis int64  // Bull's note of when it runs
}

// prioritized says whether the job has a priority.
func (j *Job) prioritized() bool {
	if j.Priority == "" || j.Priority == "0" {
		return false
	}
	p, err := strconv.ParseFloat(j.Priority, 64)
	return err == nil && p > 0
}

// finished says whether the job has come to its end.
func (j *Job) finished() bool { return j.State == Completed || j.State == Failed }

// number reads the field f, which must be a whole number if it is there.
func (v *view) number(f field) (int64, *Problem) {
	if !v.has[f] {
		return 0, nil
	}
	n, err := strconv.ParseInt(v.val[f], 10, 64)
	if err != nil {
		return 0, &Problem{
			Rule:    "malformed-field",
			Message: fmt.Sprintf("field %s is %q, want a whole number", f, clip(v.val[f])),
		}
	}
	return n, nil
}

// clip shortens s for a message.
func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// readCommon reads opts and checks the fields every layout has.
func readCommon(v *view, j *Job) *Problem {
	if !v.has[fieldOpts] {
		return &Problem{Rule: "malformed-opts", Message: "the hash has no field opts"}
	}
	opts, err := parseObject(v.val[fieldOpts])
	if err != nil {
		return &Problem{
			Rule:    "malformed-opts",
			Message: fmt.Sprintf("opts is not a JSON object: %q", clip(v.val[fieldOpts])),
		}
	}
	if _, p := v.number(fieldTimestamp); p != nil {
		return p
	}
	if !v.has[fieldTimestamp] {
		return &Problem{Rule: "malformed-field", Message: "the hash has no field timestamp"}
	}
	if v.has[fieldPriority] && !isPriority(v.val[fieldPriority]) {
		return &Problem{
			Rule:    "malformed-field",
			Message: fmt.Sprintf("field priority is %q, want a number", clip(v.val[fieldPriority])),
		}
	}
	j.opts = opts
	j.before = *v
	j.Timestamp = v.val[fieldTimestamp]
	j.Priority = v.val[fieldPriority]
	j.Processed = v.has[fieldProcessedOn]
	j.DedupID = v.val[fieldDeid]
	return nil
}

// isPriority says whether s is a plain decimal number, which the scripts can calculate with.
func isPriority(s string) bool {
	whole, fraction, _ := strings.Cut(s, ".")
	for _, b := range []byte(whole + fraction) {
		if b < '0' || b > '9' {
			return false
		}
	}
	return whole != "" && len(s) <= 18
}
