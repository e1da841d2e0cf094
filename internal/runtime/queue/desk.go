package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	leaseMost  = 1000             // jobs in one answer
	waitMost   = 10 * time.Minute // of a long poll
	extendMost = time.Hour
	linger     = 10 * time.Millisecond // for further jobs once there is one
	unclaimed  = 5 * time.Second       // that a job waits at the desk for another application
	ticketsOld = 10 * time.Minute      // how long it is known of a token that its lease has ended
	ticketsMax = 10_000
)

// A Leased is a job that an application has fetched.
type Leased struct {
	Job   Job       `json:"job"`
	Token string    `json:"token"` // says in Complete, Fail, Progress and Extend which one it is
	Until time.Time `json:"until"` // the lease ends then
}

// A Failure is what an application says about a job that did not succeed.
type Failure struct {
	// Reason is kept with the job, at most 2 KiB of it.
	Reason string

	// Dead makes the job a dead letter without further attempts.
	Dead bool

	// RetryAfter, where positive, has it tried again then, without counting an attempt.
	RetryAfter time.Duration
}

// A desk hands jobs to applications. A job that was taken from Redis waits there for one of them, then for
// its word.
type desk struct {
	e *Engine

	mu      sync.Mutex
	closed  bool
	counter map[*line]*counter
	tickets map[string]*ticket
	old     []oldTicket
	ended   map[string]LeaseProblem
}

// A counter is where the applications of one queue wait. The desk's mutex guards it.
type counter struct {
	line    *line
	waiters []*waiter
	ready   []*ticket // jobs for which nobody waits any more
	here    int       // jobs at the desk, in whatever hands
	leased  int
}

// A waiter is one long poll.
type waiter struct {
	most int
	got  []*ticket
	more chan struct{} // of capacity 1
}

// A ticket is a job at the desk. The desk's mutex guards what changes.
type ticket struct {
	job   Job
	token string
	at    *attempt
	line  *line
	until time.Time
	moved chan struct{} // of capacity 1: until has changed
	word  chan error    // of capacity 1: what the application says
	said  bool          // the word is said, or none is taken any more
	value []byte
}

type oldTicket struct {
	token string
	at    time.Time
}

func newDesk(e *Engine) *desk {
	return &desk{e: e, counter: map[*line]*counter{}, tickets: map[string]*ticket{}, ended: map[string]LeaseProblem{}}
}

// A clerk is the Runner of a queue whose jobs are leased.
type clerk struct {
	d *desk
	l *line
}

// open opens a counter.
func (d *desk) open(l *line) Runner {
	d.counter[l] = &counter{line: l}
	return clerk{d, l}
}

// Run waits for an application, and for its word.
func (c clerk) Run(ctx context.Context, job Job) ([]byte, error) {
	t := &ticket{
		job: job, line: c.l, at: job.at, token: c.d.e.opts.Replica + "." + rand.Text(),
		moved: make(chan struct{}, 1), word: make(chan error, 1),
	}
	c.d.arrive(t)
	defer c.d.leave(t)
	timer := time.NewTimer(unclaimed)
	defer timer.Stop()
	for {
		select {
		case err := <-t.word:
			return t.value, err
		case <-ctx.Done():
			if c.d.revoke(t, LeaseGone) {
				return t.value, <-t.word
			}
			return nil, ctx.Err()
		case <-t.moved:
			timer.Reset(c.d.left(t))
		case <-timer.C:
			wait, err := c.d.expire(t)
			if err != nil {
				return nil, err
			}
			timer.Reset(wait)
		}
	}
}

// arrive gives a job to somebody who waits, or keeps it at hand.
func (d *desk) arrive(t *ticket) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.counter[t.line]
	c.here++
	for _, w := range c.waiters {
		if len(w.got) < w.most {
			d.hand(c, w, t)
			return
		}
	}
	c.ready = append(c.ready, t)
}

// hand gives a job to a waiter. The mutex is held.
func (d *desk) hand(c *counter, w *waiter, t *ticket) {
	w.got = append(w.got, t)
	t.until = d.until(t, 0)
	d.tickets[t.token] = t
	c.leased++
	poke(t.moved)
	poke(w.more)
}

// until is when a lease of d ends, 0 meaning the queue's. The mutex is held.
func (d *desk) until(t *ticket, length time.Duration) time.Time {
	if length <= 0 {
		length = t.line.def.Lease
	}
	end := time.Now().Add(min(length, extendMost))
	if t.job.Deadline.Before(end) {
		end = t.job.Deadline
	}
	return end
}

// left is how long the job may stay as it is.
func (d *desk) left(t *ticket) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t.until.IsZero() {
		return unclaimed
	}
	return time.Until(t.until)
}

// expire ends what is over: a lease, or the wait for an application. It returns an error then, and otherwise
// how long the job may still stay.
func (d *desk) expire(t *ticket) (time.Duration, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch wait := time.Until(t.until); {
	case t.said:
		return time.Second, nil // its word is on the way
	case t.until.IsZero():
		t.said = true
		return 0, planned("no application was there to take it", toHead())
	case wait > 0:
		return wait, nil
	}
	t.said = true
	d.remember(t.token, LeaseEnded)
	return 0, errors.New("its lease ended, and nothing was heard from the application that had it")
}

// revoke ends a lease from this side, unless the application has just said its word: then that counts.
func (d *desk) revoke(t *ticket, why LeaseProblem) (said bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t.said {
		return true
	}
	t.said = true
	if !t.until.IsZero() {
		d.remember(t.token, why)
	}
	return false
}

// leave takes a job from the desk.
func (d *desk) leave(t *ticket) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.counter[t.line]
	c.here--
	if !t.until.IsZero() {
		c.leased--
	}
	delete(d.tickets, t.token)
	for i, other := range c.ready {
		if other == t {
			c.ready = append(c.ready[:i], c.ready[i+1:]...)
			break
		}
	}
	for _, w := range c.waiters {
		for i, other := range w.got {
			if other == t {
				w.got = append(w.got[:i], w.got[i+1:]...)
				break
			}
		}
	}
}

// remember knows for a while why a token is not taken. The mutex is held.
func (d *desk) remember(token string, why LeaseProblem) {
	now := time.Now()
	for len(d.old) > 0 && (len(d.old) >= ticketsMax || now.Sub(d.old[0].at) > ticketsOld) {
		delete(d.ended, d.old[0].token)
		d.old = d.old[1:]
	}
	d.old = append(d.old, oldTicket{token, now})
	d.ended[token] = why
}

// wants is whether somebody waits for a job beyond those that are on their way, and ahead others.
func (d *desk) wants(l *line, ahead int) bool {
	running := 0
	l.count(func(s *Stats) { running = s.Running })
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.counter[l]
	if d.closed || c == nil {
		return false
	}
	open := 0
	for _, w := range c.waiters {
		open += w.most - len(w.got)
	}
	return open > len(c.ready)+max(0, running-c.here)+ahead
}

func (d *desk) counts(l *line) (waiting, leased int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.counter[l]
	if c == nil {
		return 0, 0
	}
	for _, w := range c.waiters {
		waiting += w.most - len(w.got)
	}
	return waiting, c.leased
}

// close sends away those who wait: no further job comes.
func (d *desk) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, c := range d.counter {
		for _, w := range c.waiters {
			poke(w.more)
		}
	}
}

// Lease hands out up to most jobs of a queue of mode Lease, at most 1,000. It waits up to wait, at most 10
// minutes, for the first one and returns none without an error when there is none. Jobs are taken from Redis
// only while somebody waits. Errors: *UnknownQueueError, *RequestError, ErrStopped, that of ctx.
func (e *Engine) Lease(ctx context.Context, queue string, most int, wait time.Duration) ([]Leased, error) {
	l, err := e.line(queue)
	if err != nil {
		return nil, err
	}
	if l.def.Mode != Lease {
		return nil, &RequestError{Queue: queue, Err: fmt.Errorf("its jobs are not leased, its mode is %q", l.def.Mode)}
	}
	if most < 1 || most > leaseMost {
		return nil, &RequestError{Queue: queue, Err: fmt.Errorf("max: got %d, want 1 to %d", most, leaseMost)}
	}
	return e.desk.wait(ctx, l, most, min(wait, waitMost))
}

// wait is one long poll.
func (d *desk) wait(ctx context.Context, l *line, most int, wait time.Duration) ([]Leased, error) {
	w := &waiter{most: most, more: make(chan struct{}, 1)}
	d.mu.Lock()
	c := d.counter[l]
	if d.closed {
		d.mu.Unlock()
		return nil, ErrStopped
	}
	for len(c.ready) > 0 && len(w.got) < most {
		t := c.ready[0]
		c.ready = c.ready[1:]
		d.hand(c, w, t)
	}
	c.waiters = append(c.waiters, w)
	d.mu.Unlock()
	d.e.governor.Admitted(l.bands...)

	end := time.NewTimer(max(wait, linger))
	defer end.Stop()
	lingers := false
	for {
		d.mu.Lock()
		got, closed := len(w.got), d.closed
		d.mu.Unlock()
		if got >= most || closed {
			break
		}
		if got > 0 && !lingers {
			lingers = true
			end.Reset(linger)
		}
		select {
		case <-w.more:
			continue
		case <-end.C:
		case <-ctx.Done():
		}
		break
	}
	return d.take(ctx, c, w)
}

// take ends a long poll. Nobody hears the answer when ctx has ended, so the jobs stay then.
func (d *desk) take(ctx context.Context, c *counter, w *waiter) ([]Leased, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, other := range c.waiters {
		if other == w {
			c.waiters = append(c.waiters[:i], c.waiters[i+1:]...)
			break
		}
	}
	if err := ctx.Err(); err != nil {
		for _, t := range w.got {
			d.back(c, t)
		}
		return nil, err
	}
	if len(w.got) == 0 && d.closed {
		return nil, ErrStopped
	}
	all := make([]Leased, 0, len(w.got))
	for _, t := range w.got {
		t.until = d.until(t, 0)
		poke(t.moved)
		all = append(all, Leased{Job: t.job, Token: t.token, Until: t.until})
	}
	return all, nil
}

// back gives a job that nobody has seen to the next who waits. The mutex is held.
func (d *desk) back(c *counter, t *ticket) {
	if t.said {
		return
	}
	delete(d.tickets, t.token)
	t.until = time.Time{}
	c.leased--
	for _, w := range c.waiters {
		if len(w.got) < w.most {
			d.hand(c, w, t)
			return
		}
	}
	c.ready = append(c.ready, t)
	poke(t.moved)
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
