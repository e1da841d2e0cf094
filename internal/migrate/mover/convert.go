package mover

import (
	"strconv"
	"strings"
)

// A writer collects what a job becomes and what is lost on the way.
type writer struct {
	id     string
	after  view
	losses []Loss
}

// lose records a loss; a value that was not there is none.
func (w *writer) lose(what, was, becomes, why string) {
	if was == "" {
		return
	}
	w.losses = append(w.losses, Loss{JobID: w.id, Field: what, Was: clip(was), Becomes: becomes, Why: why, Reversible: true})
}

// backoff names the backoffs that mean something else in the target library.
func (w *writer) backoff(backoff object, j *Job, target Layout) {
	if j.finished() {
		return
	}
	kind, _ := backoff.text("type")
	delay, _ := backoff.get("delay")
	switch kind {
	case "fixed", "":
	case "exponential":
		was, becomes := "1d, 3d, 7d, 15d", "1d, 2d, 4d, 8d"
		if target == Bull {
			was, becomes = becomes, was
		}
		w.lose("opts.backoff", was, becomes, "an exponential backoff of d="+delay+" ms waits differently")
	default:
		w.lose("opts.backoff.type", kind, kind, "a backoff of its own type needs a strategy of that name in the new worker, or the job fails")
	}
}

// A change is what a move does to one job besides taking it to another container.
type change struct {
	newID  string
	hset   []string // field, value, ...
	hdel   []string
	undo   string // ledger line for the way back; empty when the rules alone restore the job
	losses []Loss
	after  view
}

// read and write are the two halves of every conversion: as many readers and writers as layouts.
func read(layout Layout, id string, state State, score string, v view) (*Job, *Problem) {
	if layout == Bull {
		return readBull(id, state, score, v)
	}
	return readBullMQ(id, state, score, v)
}

func write(layout Layout, j *Job) (view, []Loss) {
	if layout == Bull {
		return writeBull(j)
	}
	return writeBullMQ(j)
}

// fieldsOf are the fields a reader needs. opts and timestamp come first, as the script expects.
func fieldsOf(layout Layout, inPlace bool) []field {
	if layout == Bull {
		return bullFields(inPlace)
	}
	return bullMQFields(inPlace)
}

// fields are those that a reader of o.From needs for a writer of o.To.
func (o *Options) fields(inPlace bool) []field {
	switch {
	case o.From.Layout == Asynq:
		return asynqJobFields()
	case o.To.Layout == Asynq:
		return append(fieldsOf(o.From.Layout, false), asynqFields()...)
	}
	return fieldsOf(o.From.Layout, inPlace)
}

// convert says what happens to the hash of a job on its way from one layout to the other. It is
// pure. An undo line, given on the way back, restores what the rules alone cannot.
func convert(from, to Layout, id string, state State, score string, v view, undo string) (*Job, change, *Problem) {
	j, problem := read(from, id, state, score, v)
	if problem != nil {
		problem.JobID = id
		return nil, change{}, problem
	}
	if from == to { // BullMQ 5 and 6: a job is the same in both
		return j, change{newID: id, after: v}, nil
	}
	after, losses := write(to, j)
	c := change{newID: targetID(to, id), losses: losses, after: after}
	if c.newID != id {
		c.losses = append(c.losses, Loss{
			JobID: id, Field: "id", Was: id, Becomes: c.newID, Reversible: true,
			Why: "BullMQ drops a job with such an id, or keeps a key of its own under that name",
		})
	}
	if undo != "" {
		c.restore(from, to, j, undo)
	}
	c.hset, c.hdel = difference(&v, &c.after)
	if undo == "" {
		c.undo = undoLine(from, to, j, &c)
	}
	return j, c, nil
}

// isConverted says whether the hash of j holds something that only the layout to writes: in place
// such a job has been converted before.
func isConverted(to Layout, j *Job) bool {
	fields, options := []field{fieldAtm, fieldAts, fieldStc}, []string{"de", "repeatJobKey"}
	if to == Bull {
		fields, options = []field{fieldAttemptsMade, fieldStalledCounter}, []string{"debounce", "prevMillis"}
	}
	for _, f := range fields {
		if j.before.has[f] {
			return true
		}
	}
	opts, err := parseObject(j.before.val[fieldOpts])
	if err != nil {
		return false
	}
	for _, key := range options {
		if _, ok := opts.get(key); ok {
			return true
		}
	}
	return false
}

// difference is how to get from one view to the other.
func difference(before, after *view) (hset, hdel []string) {
	for f := range numFields {
		switch {
		case after.has[f] && (!before.has[f] || before.val[f] != after.val[f]):
			hset = append(hset, f.String(), after.val[f])
		case before.has[f] && !after.has[f]:
			hdel = append(hdel, f.String())
		}
	}
	return hset, hdel
}

// targetID is what a job with this id is called at the target. BullMQ takes ids that begin with 0:
// for markers and drops them; and a job must not be called like a key of the queue itself.
func targetID(to Layout, id string) string {
	if to == Asynq {
		return id // see asynqID
	}
	if to == BullMQ && (strings.HasPrefix(id, "0:") || id == "0") {
		return "x" + id
	}
	switch id {
	case "wait", "paused", "active", "delayed", "completed", "failed", "repeat", "id", "meta",
		"stalled", "stalled-check", "limiter":
		return "x" + id
	case "marker", "events", "prioritized", "pc", "waiting-children":
		if to == BullMQ {
			return "x" + id
		}
	case "priority", "meta-paused":
		if to == Bull {
			return "x" + id
		}
	}
	return id
}

// digits returns the number that id is, if the library's own counter could ever produce it.
func digits(id string) (int64, bool) {
	const most = 14 // longer ones the libraries' scripts cannot write without an exponent
	if id == "" || len(id) > most || (id[0] == '0' && id != "0") {
		return 0, false
	}
	for i := range len(id) {
		if id[i] < '0' || id[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(id, 10, 64)
	return n, err == nil
}
