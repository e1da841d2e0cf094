package mover

import (
	"fmt"
	"strings"
)

// decide says what shall become of one job that was seen in a container. It reads nothing and writes
// nothing. A job with a problem is held: its claim leaves it where it is.
func (m *Mover) decide(l lane, e entry) (claim, *Problem, []Loss) {
	if m.opts.To.Layout == Asynq {
		return m.decideEnter(l, e)
	}
	if m.opts.From.Layout == Asynq {
		return m.decideLeave(l, e)
	}
	k := claim{id: e.id, newID: e.id, action: statusHeld, score: e.score, seen: e.seen}
	from, to := m.opts.From, m.opts.To
	v, problem := parseSeen(e.seen, fieldsOf(from.Layout, m.inPlace()))
	if problem != nil {
		if problem.Rule == "missing-hash" && from.Layout == BullMQ && strings.HasPrefix(e.id, "0:") {
			problem.Rule = "marker-like-id"
			problem.Message = "a marker that an old BullMQ left, not a job"
		}
		problem.JobID = e.id
		problem.Message += fmt.Sprintf(" (%s, in %s)", from.Key(e.id), from.Key(l.from))
		return k, problem, nil
	}
	j, c, problem := convert(from.Layout, to.Layout, e.id, l.state, e.score, v, e.undo)
	if problem != nil {
		problem.Message += fmt.Sprintf(" (%s, in %s)", from.Key(e.id), from.Key(l.from))
		return k, problem, nil
	}
	if j.before.has[fieldParentKey] && from.Layout == BullMQ && !j.finished() && !m.opts.LeaveFlows {
		return k, &Problem{JobID: e.id, Rule: "flow", Blocking: m.inPlace(), Message: fmt.Sprintf(
			"%s is a child in a flow and %s waits for it: %s, let it finish first",
			from.Key(e.id), j.before.val[fieldParentKey], noFlows(to.Layout))}, nil
	}
	if m.opts.Reverse && m.inPlace() && targetID(from.Layout, c.newID) != c.newID && c.newID[0] != '0' {
		c.newID = e.id // the source's own key has this name still, and is deleted in the end
	}
	k.newID, k.undo, k.losses, k.hset, k.hdel, k.dedupID = c.newID, c.undo, len(c.losses), c.hset, c.hdel, j.DedupID
	switch {
	case m.opts.Reverse && m.inPlace() && k.newID != e.id:
		k.undo = e.undo // in place it is met again, under its old name, and must be known as restored
	case m.opts.Reverse:
		k.undo = "" // there is no way back from the way back
	case m.inPlace() && k.newID == e.id && len(k.hset)+len(k.hdel) == 0 && isConverted(to.Layout, j):
		k.undo = "" // in place it is met again, and its line is written
	}
	switch {
	case j.finished():
	case m.inPlace() && j.rescheduled: // its scheduler has been converted, and this job with it
		k.newID, k.undo, k.losses, k.hset, k.hdel = e.id, "", 0, nil, nil
	default:
		k.scheduler = j.SchedulerKey
	}
	k.action = statusMoved
	if l.edit {
		k.action = statusEdited
	}
	waits := l.state == Waiting || l.state == Paused
	switch {
	case to.Layout == BullMQ && m.opts.Order == ByPriority && waits && j.prioritized():
		k.action = statusPriority
		k.priority, _ = clampPriority(j.Priority)
	case to.Layout == Bull && (l.state == Prioritized || l.isList() && j.prioritized()):
		k.priority = c.after.val[fieldPriority]
		if l.state == Prioritized && k.priority == j.Priority {
			k.priority = scorePriority(e.score, j.Priority) // what BullMQ goes by
		}
	}
	return k, nil, c.losses
}
