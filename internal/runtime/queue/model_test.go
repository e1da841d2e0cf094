package queue_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

// A model is what the jobs of a queue must be like, whatever was done in whatever order.
type model struct {
	t      *testing.T
	r      *replica
	random *rand.Rand
	jobs   map[string]*modelJob
	owner  map[string]string // who took a unique key last
	paused bool
	trace  []string
}

// A modelJob is one job; the zero state is that it is not there.
type modelJob struct {
	state   queue.State
	unique  string
	attempt int // failed ones
	token   string
}

func TestAnyInterleavingLeavesTheJobsAsTheModelSays(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		q := leased()
		q.Backoff = queue.Backoff{Kind: queue.Fixed, Delay: time.Millisecond}
		q.Attempts, q.CatchUp, q.Lease = 2, queue.All, 10*time.Minute
		seed := rand.Uint64()
		m := &model{t: t, r: run(t, url, []queue.Queue{q}, impatient), random: rand.New(rand.NewPCG(seed, 1)), jobs: map[string]*modelJob{}, owner: map[string]string{}} //nolint:gosec // a test's order
		defer func() {
			if t.Failed() {
				t.Logf("seed %d, what was done:\n%v", seed, m.trace)
			}
		}()
		for range 150 {
			m.step()
			if t.Failed() {
				return
			}
		}
		for id := range m.jobs {
			m.check(id)
		}
	})
}

func (m *model) step() {
	id := fmt.Sprint("job-", m.random.IntN(12))
	j := m.jobs[id]
	if j == nil {
		j = &modelJob{}
		m.jobs[id] = j
	}
	switch n := m.random.IntN(100); {
	case n < 35:
		m.enqueue(id, j)
	case n < 55:
		m.lease()
	case n < 70:
		m.say(id, j, nil, queue.Completed)
	case n < 73:
		m.say(id, j, &queue.Failure{Reason: "no"}, queue.Retry)
	case n < 80:
		m.say(id, j, &queue.Failure{Reason: "dead", Dead: true}, queue.Archived)
	case n < 86:
		m.cancel(id, j)
	case n < 90:
		m.pause()
	case n < 93:
		m.dead(id, j, true)
	case n < 96:
		m.dead(id, j, false)
	default:
		m.check(id)
	}
}

func (m *model) did(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
}

// waiting is whether a job waits or runs.
func (j *modelJob) waiting() bool {
	return j.state == queue.Pending || j.state == queue.Retry || j.state == queue.Active
}

func (m *model) enqueue(id string, j *modelJob) {
	req := queue.EnqueueRequest{Queue: "q", ID: id, Priority: []queue.Priority{queue.High, queue.Normal, queue.Low}[m.random.IntN(3)]}
	if m.random.IntN(3) == 0 {
		req.Unique = fmt.Sprint("key-", m.random.IntN(3))
	}
	holder := ""
	if o := m.jobs[m.owner[req.Unique]]; req.Unique != "" && o != nil && o.unique == req.Unique && o.waiting() {
		holder = m.owner[req.Unique]
	}
	_, err := m.r.Enqueue(m.t.Context(), req)
	m.did("enqueue %s %s %q: %v", id, req.Priority, req.Unique, err)
	d, duplicate := errors.AsType[*queue.DuplicateError](err)
	switch want := j.waiting() || holder != ""; {
	case duplicate && want:
		if d.Key != "" && d.ID != holder {
			m.t.Errorf("Enqueue of %s = %v, want that %q holds the key", id, err, holder)
		}
	case err == nil && !want:
		*j = modelJob{state: queue.Pending, unique: req.Unique}
		m.owner[req.Unique] = id
	default:
		m.t.Errorf("Enqueue(%s, unique %q) = %v with the job %s and the key held by %q", id, req.Unique, err, j.state, holder)
	}
}

func (m *model) lease() {
	var ready []string
	for id, j := range m.jobs {
		if j.state == queue.Pending || j.state == queue.Retry {
			ready = append(ready, id)
		}
	}
	wait := patience
	if m.paused || len(ready) == 0 {
		wait = 20 * time.Millisecond
	}
	got, err := m.r.Lease(m.t.Context(), "q", 1, wait)
	m.did("lease: %d, %v", len(got), err)
	switch {
	case err != nil:
		m.t.Error(err)
	case len(got) == 0 && !m.paused && len(ready) > 0:
		m.t.Errorf("nothing was leased, though %v wait", ready)
	case len(got) == 0:
	case m.paused || !slices.Contains(ready, got[0].Job.ID):
		m.t.Errorf("leased %s, paused %v, want one of %v", got[0].Job.ID, m.paused, ready)
	default:
		j := m.jobs[got[0].Job.ID]
		if got[0].Job.Attempt != j.attempt+1 {
			m.t.Errorf("leased attempt %d of %s, want %d", got[0].Job.Attempt, got[0].Job.ID, j.attempt+1)
		}
		j.state, j.token = queue.Active, got[0].Token
	}
}

// say ends a leased job.
func (m *model) say(id string, j *modelJob, f *queue.Failure, then queue.State) {
	if j.state != queue.Active {
		return
	}
	var err error
	if f == nil {
		err = m.r.Complete(m.t.Context(), j.token, nil)
	} else {
		err = m.r.Fail(m.t.Context(), j.token, *f)
	}
	m.did("end %s as %s: %v", id, then, err)
	if err != nil {
		m.t.Errorf("end %s as %s: %v", id, then, err)
	}
	if then == queue.Retry {
		if j.attempt++; j.attempt > 1 {
			j.attempt, then = 1, queue.Archived
		}
	}
	j.state, j.token = then, ""
}

func (m *model) cancel(id string, j *modelJob) {
	if j.state == queue.Active {
		return // it would be done later
	}
	err := m.r.Cancel(m.t.Context(), "q", id)
	m.did("cancel %s: %v", id, err)
	_, missing := errors.AsType[*queue.NotFoundError](err)
	_, ended := errors.AsType[*queue.StateError](err)
	switch {
	case j.waiting() && err == nil:
		*j = modelJob{}
	case j.state == "" && missing, !j.waiting() && j.state != "" && ended:
	default:
		m.t.Errorf("Cancel(%s) = %v with the job %q", id, err, j.state)
	}
}

func (m *model) pause() {
	var err error
	if m.paused {
		err = m.r.Resume(m.t.Context(), "q", "")
	} else {
		err = m.r.Pause(m.t.Context(), "q", queue.PauseOptions{})
	}
	m.paused = !m.paused
	m.did("paused %v: %v", m.paused, err)
	if err != nil {
		m.t.Error(err)
	}
}

func (m *model) dead(id string, j *modelJob, again bool) {
	do, want := m.r.DeleteDead, 0
	if again {
		do = m.r.RetryDead
	}
	if j.state == queue.Archived {
		want = 1
	}
	n, err := do(m.t.Context(), "q", queue.Filter{IDs: []string{id}}, false)
	m.did("dead %s again %v: %d, %v", id, again, n, err)
	switch {
	case err != nil || n != want:
		m.t.Errorf("dead letter %s: %d, %v, want %d", id, n, err, want)
	case want == 0:
	case again:
		j.state = queue.Pending // and it has its key again, unless another took it
	default:
		*j = modelJob{}
	}
}

// check compares a job with the model.
func (m *model) check(id string) {
	j := m.jobs[id]
	f, err := m.r.Find(m.t.Context(), "q", id)
	if _, missing := errors.AsType[*queue.NotFoundError](err); missing {
		f.State, err = "", nil
	}
	// A job that is to be tried again is pending when its time has come.
	if err != nil || f.State != j.state && (f.State != queue.Pending || j.state != queue.Retry) {
		m.t.Errorf("job %s is %q, %v, want %q", id, f.State, err, j.state)
	}
}
