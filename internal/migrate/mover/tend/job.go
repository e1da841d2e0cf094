package tend

import (
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/redisopt/redisopt/internal/migrate/mover"
)

// A Job is one job as it is, whichever library owns it. Times are Unix milliseconds; 0 means that the
// library keeps none.
type Job struct {
	ID    string      `json:"id"`
	State mover.State `json:"state"`
	Band  string      `json:"band,omitempty"` // asynq: high or low
	Name  string      `json:"name"`

	// AddedMS is when the job was added. asynq keeps no such time: of a task that redisopt's own queues
	// did not add it is since when the task is pending, last failed, or completed, whichever is known.
	AddedMS    int64 `json:"added_ms,omitempty"`
	StartedMS  int64 `json:"started_ms,omitempty"`
	FinishedMS int64 `json:"finished_ms,omitempty"`
	DueMS      int64 `json:"due_ms,omitempty"` // of a delayed job, or one that is tried again: when

	// Attempts is how often the job was tried, as the library counts: Bull and asynq count failures,
	// BullMQ every try. MaxAttempts is how often it may be; 0 where its options do not say.
	Attempts    int64 `json:"attempts"`
	MaxAttempts int64 `json:"max_attempts,omitempty"`
	Priority    int64 `json:"priority,omitempty"`

	Reason string `json:"reason,omitempty"` // why it failed last

	// Data is the payload where it was asked for. What is no JSON is shown as text, and what is no text
	// as base64 in DataBase64.
	Data       json.RawMessage `json:"data,omitempty"`
	DataBase64 []byte          `json:"data_base64,omitempty"`

	Parent    string `json:"parent,omitempty"`    // of a flow's child: the key of its parent
	Scheduler string `json:"scheduler,omitempty"` // of a schedule's run: the schedule
	Unique    string `json:"unique,omitempty"`    // the id or key that keeps others like it out

	// Hollow says that the id is in its container, but there is no job under it; Problem says what else
	// keeps it from being read.
	Hollow  bool   `json:"hollow,omitempty"`
	Problem string `json:"problem,omitempty"`

	// Fields are all fields of the job's hash, in an export.
	Fields map[string]string `json:"fields,omitempty"`

	// FieldsBase64 are those that are not valid UTF-8.
	FieldsBase64 map[string][]byte `json:"fields_base64,omitempty"`
}

// hashFields are the fields of a job's hash that n needs, in this layout.
func (q *Queue) hashFields(n needs) []string {
	if q.at.Layout == Asynq {
		return []string{"msg", "state", "pending_since"}
	}
	fields := []string{"name", "timestamp", "delay", "priority", "failedReason", "processedOn", "finishedOn", "opts"}
	if q.at.Layout == mover.Bull {
		fields = append(fields, "attemptsMade", "deid")
	} else {
		fields = append(fields, "atm", "deid", "rjk", "parentKey")
	}
	if n.data {
		fields = append(fields, "data")
	}
	return fields
}

// decode reads a job from the fields of its hash. An empty hash makes it hollow.
func (q *Queue) decode(p placed, c container, fields map[string]string, n needs) Job {
	j := Job{ID: p.id, State: c.state, Band: c.band, Hollow: len(fields) == 0}
	if c.state == mover.Delayed || c.state == Retrying {
		j.DueMS = q.due(p.score)
	}
	if !j.Hollow {
		if q.at.Layout == Asynq {
			q.decodeTask(&j, fields, p.score, n)
		} else {
			q.decodeBull(&j, fields, n)
		}
	}
	if n.all {
		j.keep(fields)
	}
	return j
}

// due is when a score means.
func (q *Queue) due(score float64) int64 {
	if q.at.Layout == Asynq {
		return int64(score) * 1000
	}
	return int64(score / 4096) // the low bits keep the order within a millisecond
}

func (q *Queue) decodeBull(j *Job, fields map[string]string, n needs) {
	j.Name, j.Reason = fields["name"], fields["failedReason"]
	j.AddedMS, j.StartedMS, j.FinishedMS = number(fields["timestamp"]), number(fields["processedOn"]), number(fields["finishedOn"])
	j.Priority, j.Unique = number(fields["priority"]), fields["deid"]
	j.Attempts = number(fields["attemptsMade"])
	if q.at.Layout == mover.BullMQ {
		j.Attempts = number(fields["atm"])
		j.Parent, j.Scheduler = fields["parentKey"], fields["rjk"]
	}
	var opts struct {
		Attempts int64 `json:"attempts"`
		Repeat   struct {
			Key string `json:"key"`
		} `json:"repeat"`
	}
	if err := json.Unmarshal([]byte(fields["opts"]), &opts); err == nil {
		j.MaxAttempts = opts.Attempts
		if q.at.Layout == mover.Bull {
			j.Scheduler = opts.Repeat.Key
		}
	}
	if n.data {
		j.setData([]byte(fields["data"]))
	}
}

func (q *Queue) decodeTask(j *Job, fields map[string]string, score float64, n needs) {
	m, err := decodeMessage([]byte(fields["msg"]))
	if err != nil {
		j.Problem = "its message cannot be read: " + err.Error()
		return
	}
	j.Name, j.Reason, j.Unique = m.kind, m.errorMsg, m.uniqueKey
	j.Attempts, j.MaxAttempts = m.retried, m.retry+1
	switch j.State {
	case mover.Failed:
		j.FinishedMS = int64(score) * 1000
		j.Attempts++ // the last failure is not a retry
	case mover.Completed:
		j.FinishedMS = m.doneAt * 1000
	case mover.Waiting, mover.Active, mover.Delayed, mover.Paused, mover.Prioritized, mover.WaitingChildren, Retrying, Aggregating:
	}
	for _, ms := range []int64{enqueuedAt(m.headers), number(fields["pending_since"]) / int64(time.Millisecond), m.failedAt * 1000, m.doneAt * 1000} {
		if ms > 0 {
			j.AddedMS = ms
			break
		}
	}
	if n.data {
		j.setData(m.payload)
	}
}

// enqueuedAt is when redisopt's own queues added a task, by the envelope they keep among its headers.
func enqueuedAt(headers map[string]string) int64 {
	var envelope struct {
		At int64 `json:"at"`
	}
	if json.Unmarshal([]byte(headers["redisopt"]), &envelope) != nil {
		return 0
	}
	return envelope.At
}

// setData keeps a payload as JSON, as text, or as bytes.
func (j *Job) setData(raw []byte) {
	switch {
	case json.Valid(raw):
		j.Data = raw
	case utf8.Valid(raw):
		j.Data, _ = json.Marshal(string(raw)) //nolint:errchkjson // text always can
	default:
		j.DataBase64 = raw
	}
}

// keep keeps every field of the hash.
func (j *Job) keep(fields map[string]string) {
	for name, value := range fields {
		if utf8.ValidString(value) {
			if j.Fields == nil {
				j.Fields = map[string]string{}
			}
			j.Fields[name] = value
			continue
		}
		if j.FieldsBase64 == nil {
			j.FieldsBase64 = map[string][]byte{}
		}
		j.FieldsBase64[name] = []byte(value)
	}
}

// number reads a number that may be absent or no number at all.
func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || f != f || f > 1<<62 || f < -(1<<62) {
			return 0
		}
		return int64(f)
	}
	return n
}
