package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
)

const (
	pageDefault = 20
	pageMost    = 500
)

// A Found is a job as it is kept.
type Found struct {
	Queue     string            `json:"queue"`
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	State     State             `json:"state"`
	Priority  Priority          `json:"priority"`
	Payload   []byte            `json:"payload"`
	Headers   map[string]string `json:"headers"`
	Attempt   int               `json:"attempt"`  // attempts that failed before the last one
	Attempts  int               `json:"attempts"` // that there are in all
	Reason    string            `json:"reason,omitempty"`
	FailedAt  time.Time         `json:"failed_at,omitzero"` // and Reason: of the last failure
	Enqueued  time.Time         `json:"enqueued_at,omitzero"`
	RunAt     time.Time         `json:"run_at,omitzero"` // of Scheduled and Retry
	Completed time.Time         `json:"completed_at,omitzero"`
	Result    []byte            `json:"result,omitempty"`
	Progress  json.RawMessage   `json:"progress,omitempty"`
	Schedule  string            `json:"schedule,omitempty"`
	Items     int               `json:"items,omitempty"`  // of a batch
	Schema    int               `json:"schema,omitempty"` // of its envelope; 0 for a job that something else added
}

// found reads a job. A newer envelope, and one that is damaged, leave out what is in it.
func (l *line) found(band int64, msg string, s State, score string) (Found, error) {
	m, err := decode([]byte(msg))
	if err != nil || band < 1 || int(band) > len(l.bands) {
		return Found{}, errReply
	}
	v, headers, _ := unseal(m.Headers)
	f := Found{
		Queue: l.def.Name, ID: m.ID, Name: m.Type, State: s, Priority: priorities()[band-1], Payload: m.Payload,
		Headers: headers, Attempt: int(m.Retried), Attempts: int(m.Retry) + 1, Reason: m.Error,
		Enqueued: v.enqueued(), Schedule: v.Schedule, Schema: v.Schema,
	}
	if m.LastFailedAt > 0 {
		f.FailedAt = time.Unix(m.LastFailedAt, 0)
	}
	if m.CompletedAt > 0 {
		f.Completed = time.Unix(m.CompletedAt, 0)
	}
	if n, err := strconv.ParseFloat(score, 64); err == nil && (s == Scheduled || s == Retry) {
		f.RunAt = time.Unix(int64(n), 0)
	}
	return f, nil
}

// beside reads what is kept beside the message.
func (f *Found) beside(result, progress, items string) {
	if result != "" {
		f.Result = []byte(result)
	}
	if json.Valid([]byte(progress)) {
		f.Progress = json.RawMessage(progress)
	}
	f.Items, _ = strconv.Atoi(items)
}

// Find looks one job up by its id, in all bands. It costs 1 script of at most 4 commands. Errors:
// *UnknownQueueError, *NotFoundError, *RefusedError, *UncertainError.
func (e *Engine) Find(ctx context.Context, queue, id string) (Found, error) {
	l, err := e.line(queue)
	if err != nil {
		return Found{}, err
	}
	for _, bands := range e.together(l) {
		var keys []string
		for _, band := range bands {
			keys = append(keys, taskKey(band, id))
		}
		reply, err := e.run(ctx, e.scripts.find, keys, id)
		if err != nil {
			return Found{}, e.explain(queue, id, err)
		}
		if len(reply) == 0 {
			continue
		}
		v, err := texts(reply[0])
		if err != nil || len(v) != 7 {
			return Found{}, errReply
		}
		which, _ := strconv.Atoi(v[0])
		if which < 1 || which > len(bands) {
			return Found{}, errReply
		}
		f, err := l.found(int64(slices.Index(l.bands, bands[which-1]))+1, v[1], State(v[2]), v[6])
		f.beside(v[3], v[4], v[5])
		return f, err
	}
	return Found{}, &NotFoundError{Queue: queue, ID: id}
}

// together are the bands that one script can look at: all, or each alone on a Redis Cluster.
func (e *Engine) together(l *line) [][]string {
	if !e.cluster {
		return [][]string{l.bands}
	}
	var each [][]string
	for _, band := range l.bands {
		each = append(each, []string{band})
	}
	return each
}

// A Page says which part of a list is wanted.
type Page struct {
	Offset int
	Limit  int // default 20, at most 500
}

// List shows the jobs of a state, band by band: those first that run next, and of those that have ended the
// newest. total is how many there are. It costs 1 script of 4 commands and 1 for each job. Errors: as Find,
// and *RequestError.
func (e *Engine) List(ctx context.Context, queue string, s State, p Page) (jobs []Found, total int, err error) {
	l, err := e.line(queue)
	if err != nil {
		return nil, 0, err
	}
	order := map[State]string{Pending: "list", Active: "list", Scheduled: "up", Retry: "up", Archived: "down", Completed: "down"}[s]
	if p.Limit == 0 {
		p.Limit = pageDefault
	}
	if order == "" || p.Offset < 0 || p.Limit < 1 || p.Limit > pageMost {
		return nil, 0, &RequestError{Queue: queue, Err: fmt.Errorf("list %q from %d, %d: want a state, and 1 to %d jobs", s, p.Offset, p.Limit, pageMost)}
	}
	jobs = []Found{}
	skip, want := p.Offset, p.Limit
	for _, bands := range e.together(l) {
		var keys []string
		for _, band := range bands {
			keys = append(keys, key(band, string(s)))
		}
		for _, band := range bands {
			keys = append(keys, key(band, "t:"))
		}
		reply, err := e.run(ctx, e.scripts.list, keys, order, skip, want)
		if err != nil {
			return nil, 0, e.explain(queue, "", err)
		}
		if len(reply) == 0 {
			return nil, 0, errReply
		}
		n, _ := reply[0].(int64)
		total += int(n)
		skip = max(0, skip-int(n))
		for _, one := range reply[1:] {
			v, err := texts(one)
			if err != nil || len(v) != 6 {
				return nil, 0, errReply
			}
			which, _ := strconv.Atoi(v[0])
			if which < 1 || which > len(bands) {
				return nil, 0, errReply
			}
			f, err := l.found(int64(slices.Index(l.bands, bands[which-1]))+1, v[1], s, v[2])
			if err != nil {
				continue // nothing of asynq's: it is counted, and cannot be shown
			}
			f.beside(v[3], v[4], v[5])
			jobs = append(jobs, f)
			want--
		}
	}
	return jobs, total, nil
}

// A Depth is how much a queue has to do.
type Depth struct {
	Queue     string        `json:"queue"`
	Pending   int           `json:"pending"`
	Scheduled int           `json:"scheduled"`
	Retry     int           `json:"retry"`
	Active    int           `json:"active"`
	Archived  int           `json:"archived"`
	Completed int           `json:"completed"`
	Oldest    time.Duration `json:"oldest"` // how long the oldest pending job has been ready
	Paused    bool          `json:"paused"` // by Pause or asynq's tools, or by the control document
}

// Depth asks Redis. It costs 1 script of at most 27 commands. Errors: as Find.
func (e *Engine) Depth(ctx context.Context, queue string) (Depth, error) {
	l, err := e.line(queue)
	if err != nil {
		return Depth{}, err
	}
	d := Depth{Queue: queue, Paused: l.snapshot().Paused}
	for _, bands := range e.together(l) {
		var keys []string
		for _, band := range bands {
			for _, part := range []string{"pending", "scheduled", "retry", "active", "archived", "completed", "paused", "t:"} {
				keys = append(keys, key(band, part))
			}
		}
		reply, err := e.run(ctx, e.scripts.depth, keys)
		if err != nil {
			return Depth{}, e.explain(queue, "", err)
		}
		v, err := texts(reply)
		if err != nil || len(v) != 8 {
			return Depth{}, errReply
		}
		for i, sum := range []*int{&d.Pending, &d.Scheduled, &d.Retry, &d.Active, &d.Archived, &d.Completed} {
			n, _ := strconv.Atoi(v[i])
			*sum += n
		}
		d.Paused = d.Paused || v[6] != "0"
		if since, err := strconv.ParseFloat(v[7], 64); err == nil && since > 0 {
			d.Oldest = max(d.Oldest, time.Since(time.Unix(0, int64(since))))
		}
	}
	return d, nil
}
