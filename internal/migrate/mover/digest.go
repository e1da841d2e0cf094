package mover

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

const (
	digestPage  = 50  // jobs read at a time, since their payloads are read too
	sampleCount = 200 // jobs that are compared field by field
)

// A Digest is what a number of jobs come to, whatever their library. Sum does not depend on their order;
// Order does, and is that of the plain jobs that wait: those without a priority, in the order in which they
// run. Both are hexadecimal.
type Digest struct {
	Count int64  `json:"count"`
	Sum   string `json:"sum"`
	Order string `json:"order,omitempty"`

	sum, order uint64
}

// A Sample is one job, to be compared field by field: all that a move must keep.
type Sample struct {
	ID       string `json:"id"` // as the target calls it
	State    State  `json:"state"`
	Name     string `json:"name"`
	Payload  string `json:"payload_sha256"`
	AddedMS  string `json:"added_ms"`
	DueS     int64  `json:"due_s,omitempty"` // of a delayed job: the second that is not before its time
	Tried    int64  `json:"tried"`
	Attempts int64  `json:"attempts"`
}

// A Snapshot is a queue at one time, small whatever its size.
type Snapshot struct {
	Digests map[State]Digest `json:"digests"`

	// Samples are up to 200 jobs, chosen at random.
	Samples []Sample `json:"samples"`

	// NextRuns are when the schedulers run next, Unix milliseconds, by their name at the target.
	NextRuns map[string]int64 `json:"next_runs"`
}

// A Comparison is a snapshot of the source, taken before a move, beside the target after it.
type Comparison struct {
	Before Snapshot `json:"before"`
	After  Snapshot `json:"after"`

	// Same is whether all digests are equal. On a queue that is being worked on they are not; the samples
	// then say what can be said.
	Same bool `json:"same"`

	// Compared counts the samples that are at the target, Gone those that are not any more: they have run,
	// or stayed at the source.
	Compared int `json:"compared"`
	Gone     int `json:"gone"`

	// Differences are samples and next runs that are not what they were.
	Differences []Problem `json:"differences"`
}

// Snapshot reads the source, before a move: every job once, its payload included, a page at a time, in no
// more memory than 50 jobs need. It writes nothing. Jobs that are active count as waiting, which they are at
// the target. Price: one command a job, one for each page of 50, and that of the schedulers.
func (m *Mover) Snapshot(ctx context.Context) (Snapshot, error) {
	return m.snapshot(ctx, m.opts.From, true)
}

// Compare reads the target, after a move, and compares it with what the source was. Price: that of Snapshot,
// and at most one command a sample.
func (m *Mover) Compare(ctx context.Context, before Snapshot) (Comparison, error) {
	after, err := m.snapshot(ctx, m.opts.To, false)
	c := Comparison{Before: before, After: after, Differences: []Problem{}}
	if err != nil {
		return c, err
	}
	c.Same = len(before.Digests) == len(after.Digests)
	for state, d := range before.Digests {
		if a := after.Digests[state]; a.Count != d.Count || a.Sum != d.Sum || a.Order != d.Order {
			c.Same = false
		}
	}
	for _, s := range before.Samples {
		found, there, err := m.find(ctx, s)
		if err != nil {
			return c, err
		}
		if !there {
			c.Gone++
			continue
		}
		c.Compared++
		if found != s {
			c.Differences = append(c.Differences, Problem{JobID: s.ID, Rule: "differs", Message: fmt.Sprintf(
				"job %q was %+v and is %+v", s.ID, s, found)})
		}
	}
	for name, next := range before.NextRuns {
		if is, ok := after.NextRuns[name]; ok && is < next {
			c.Differences = append(c.Differences, Problem{JobID: name, Rule: "differs", Message: fmt.Sprintf(
				"scheduler %q was to run at %d and is to run at %d", name, next, is)})
		}
	}
	return c, nil
}

// find looks one sample up at the target.
func (m *Mover) find(ctx context.Context, s Sample) (Sample, bool, error) {
	d := &digester{Mover: m, at: m.opts.To}
	for _, p := range d.inRunOrder() {
		if stateClass(p.lane.state) != s.State {
			continue
		}
		e, there, err := m.inContainer(ctx, p, s.ID)
		if err != nil {
			return s, false, err
		}
		if !there {
			continue
		}
		reply := m.client.HMGet(ctx, p.part.jobKey(s.ID), digestFields(p.part.Layout)...)
		if err := ignoreReplies(reply.Err()); err != nil {
			return s, false, fmt.Errorf("read %q: %w", p.part.jobKey(s.ID), err)
		}
		found, _, ok := d.sample(p.part, p.lane, e, reply)
		return found, ok, nil
	}
	return s, false, nil
}

// inContainer says whether a job is in a container. Of a list that is told by the job's hash, since to search a
// long list would hold up the server.
func (m *Mover) inContainer(ctx context.Context, p partLane, id string) (entry, bool, error) {
	if !p.lane.isList() {
		score, err := m.client.ZScore(ctx, p.part.Key(p.lane.from), id).Result()
		if errors.Is(err, redis.Nil) {
			return entry{}, false, nil
		}
		return entry{id: id, score: strconv.FormatFloat(score, 'f', -1, 64)}, err == nil, err
	}
	key := p.part.jobKey(id)
	got, err := m.client.HMGet(ctx, key, fieldTimestamp.String(), fieldFinishedOn.String(), fieldState.String()).Result()
	if err != nil {
		return entry{}, false, fmt.Errorf("read %q: %w", key, err)
	}
	if p.part.Layout == Asynq {
		return entry{id: id}, got[2] == "pending" || got[2] == "active", nil
	}
	return entry{id: id}, got[0] != nil && got[1] == nil, nil
}
