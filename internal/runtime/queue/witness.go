package queue

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// remembered is how long what is known of an attempt is kept after who ran it has returned, while asynq
// writes down what became of it.
const remembered = time.Minute

// A place names a job as asynq does.
type place struct{ band, id string }

// An attempt is a job that was taken from Redis here. The witness's mutex guards it, except what never
// changes.
type attempt struct {
	place
	line  *line
	msg   message
	begun time.Time
	over  chan struct{} // closed when what became of it is known, or never will be

	held      bool        // asynq has it
	handled   bool        // a handler has it
	returned  time.Time   // when who ran it returned; zero while it runs
	plan      *settlement // what to do instead of what asynq does with a failed attempt
	uncertain error       // it is not known whether it was put somewhere else
	err       error       // of writing down what became of it; valid once over is closed
	closed    bool        // over is
}

// A witness is a hook on asynq's client, inside the governor's: it sees what is really sent. It knows which
// jobs were taken, and tells what became of them once Redis has confirmed it.
type witness struct {
	e      *Engine
	mu     sync.Mutex
	at     map[place]*attempt
	held   int             // attempts that asynq has
	names  map[string]name // of jobs that asynq has in hand
	pruned time.Time       // when what is over was last forgotten
	still  []chan struct{} // closed when nothing runs
}

func newWitness(e *Engine) *witness {
	return &witness{e: e, at: map[place]*attempt{}, names: map[string]name{}}
}

// DialHook changes nothing.
func (w *witness) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessPipelineHook changes nothing: asynq's workers send no pipelines.
func (w *witness) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// ProcessHook looks at scripts by the keys they are given, which are what they are about.
func (w *witness) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		s, ok := look(cmd)
		if !ok {
			return next(ctx, cmd)
		}
		// asynq does not try again: its second attempts have a context that has ended. So it is done here,
		// where that is safe, for as long as the lease is sure to be ours.
		for pause := endFirst; ; pause = min(2*pause, endMost) {
			err := w.end(ctx, s, cmd, next)
			if err == nil || !w.again(ctx, s, err, pause) {
				return err
			}
		}
	}
}

// How long to wait before what ends an attempt is tried again.
const (
	endFirst = 100 * time.Millisecond
	endMost  = 2 * time.Second
)

// end has what ends an attempt written, by asynq's script or by ours.
func (w *witness) end(ctx context.Context, s sighting, cmd redis.Cmder, next redis.ProcessHook) error {
	if w.ours(ctx, s, cmd) {
		return cmd.Err()
	}
	err := next(ctx, cmd)
	if err == nil || !strings.HasPrefix(err.Error(), "NOSCRIPT") {
		w.ended(s, err)
	}
	return err
}

// again waits, and returns whether what could not be written can be tried again: a job can be said to be done
// twice, and can be put somewhere else when it was not for sure. That it is not ours any more is an answer.
func (w *witness) again(ctx context.Context, s sighting, err error, pause time.Duration) bool {
	deadline, limited := ctx.Deadline()
	text := err.Error()
	// Where there is no lease, as when asynq recovers a job, asynq looks again by itself.
	if !limited || time.Until(deadline) > time.Hour || strings.HasPrefix(text, "NOSCRIPT") || strings.Contains(text, "NOT FOUND") || strings.HasPrefix(text, "WRONGTYPE") {
		return false
	}
	if _, gone := errors.AsType[*LeaseError](err); gone {
		return false
	}
	_, unknown := errors.AsType[*UncertainError](err)
	if repeatable := s.deed == finished || s.deed == kept; !repeatable && (unknown || !w.e.unsent(err)) {
		return false
	}
	if time.Until(deadline) < pause+time.Second {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-w.e.interrupt.Done():
	}
	return false
}

// What a script of asynq's does, as far as it matters here.
type deed int

const (
	finished deed = iota + 1
	kept          // finished, and stays for its retention
	requeued
	retried
	archived
)

// A sighting is a script taken apart.
type sighting struct {
	deed deed
	place
	args []any
}

// look takes a command apart; ok is false for one that is none of the scripts that matter.
func look(cmd redis.Cmder) (sighting, bool) {
	args := cmd.Args()
	if name := cmd.Name(); name != "evalsha" && name != "eval" || len(args) < 4 {
		return sighting{}, false
	}
	n, ok := args[2].(int)
	if !ok || n < 3 || len(args) < 3+n {
		return sighting{}, false
	}
	var s sighting
	var parts [4]string
	for i, k := range args[3 : 3+n] {
		k, _ := k.(string)
		rest, ok := strings.CutPrefix(k, "asynq:{")
		if !ok {
			return sighting{}, false
		}
		band, part, _ := strings.Cut(rest, "}:")
		if i == 0 {
			s.band = band
		}
		if id, ok := strings.CutPrefix(part, "t:"); ok && id != "" {
			s.id, part = id, "t"
		}
		if i < len(parts) {
			parts[i] = part
		}
	}
	s.args = args[3+n:]
	switch {
	case parts == [4]string{"active", "lease", "completed", "t"}:
		s.deed = kept
	case parts == [4]string{"active", "lease", "pending", "t"}:
		s.deed = requeued
	case parts == [4]string{"t", "active", "lease", "retry"}:
		s.deed = retried
	case parts == [4]string{"t", "active", "lease", "archived"}:
		s.deed = archived
	case parts[0] == "active" && parts[1] == "lease" && parts[2] == "t":
		s.deed = finished
	}
	return s, s.deed != 0
}

// ours answers what must not be sent: what asynq would do with a failed attempt for which there is another
// plan, and a second try to put a job somewhere else when nobody knows what the first has done, since the
// job may be somebody else's by now.
func (w *witness) ours(ctx context.Context, s sighting, cmd redis.Cmder) bool {
	if s.deed == finished || s.deed == kept {
		return false
	}
	w.mu.Lock()
	a := w.at[s.place]
	var plan *settlement
	var uncertain error
	if a != nil {
		plan, uncertain = a.plan, a.uncertain
	}
	w.mu.Unlock()
	reply, ok := cmd.(*redis.Cmd)
	switch {
	case !ok || uncertain == nil && plan == nil:
		return false
	case uncertain != nil:
		reply.SetErr(uncertain)
		return true
	}
	if err := w.e.settle(ctx, a, *plan); err != nil {
		reply.SetErr(err)
		return true
	}
	w.forget(s.place)
	reply.SetVal("OK")
	return true
}

// looked is told by the governor of each job that was taken, before asynq has it. It returns whether asynq is to
// have it.
func (w *witness) looked(ctx context.Context, band string, msg []byte) bool {
	l := w.e.byBand[band]
	if l == nil {
		return true
	}
	m, err := decode(msg)
	if err != nil {
		return true // asynq cannot read it either
	}
	if w.refused(ctx, l, band, m) {
		return false
	}
	w.took(l, band, m)
	return true
}

// empty is told of a band that gave no job, and when it was asked.
func (w *witness) empty(band string, asked time.Time) {
	if l := w.e.byBand[band]; l != nil {
		l.seenEmpty(band, asked)
	}
}

// spare is how many more jobs asynq can begin at once, as far as is seen here: what it holds longer counts until
// then.
func (w *witness) spare() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.e.opts.Concurrency - w.held
}

// ended notes what was written at the end of an attempt.
func (w *witness) ended(s sighting, err error) {
	l := w.e.byBand[s.band]
	if l == nil {
		return
	}
	w.mu.Lock()
	a := w.at[s.place]
	w.mu.Unlock()
	if err != nil {
		w.failed(a, w.e.explain(l.def.Name, s.id, err), s.deed == finished || s.deed == kept)
		return
	}
	w.e.told(l, s, a)
	w.close(a, nil)
	w.forget(s.place)
}

// took notes a job that asynq is given.
func (w *witness) took(l *line, band string, m message) {
	now := time.Now()
	a := &attempt{place: place{band, m.ID}, line: l, msg: m, begun: now, over: make(chan struct{}), held: true}
	l.began(now)
	w.mu.Lock()
	defer w.mu.Unlock()
	if old := w.at[a.place]; old != nil {
		if old.returned.IsZero() && !old.handled {
			l.stopped() // it was never run, and will not be
		}
		w.free(old)
	}
	w.at[a.place] = a
	w.held++
	w.forgetOld(now)
	w.names[m.ID] = name{band: band}
}

// forgetOld forgets what is over now and then, not at each job: at thousands a second that would be most of what
// a job costs. The mutex is held.
func (w *witness) forgetOld(now time.Time) {
	if now.Sub(w.pruned) < nameRests {
		return
	}
	w.pruned = now
	w.forgetNames(now)
	for p, old := range w.at {
		if !old.returned.IsZero() && now.Sub(old.returned) > remembered {
			w.shut(old, errForgotten)
			delete(w.at, p)
		}
	}
}

// free notes that asynq does not have it any more. The mutex is held.
func (w *witness) free(a *attempt) {
	if a.held {
		a.held = false
		w.held--
	}
}

var errForgotten = errors.New("its lease ended before what became of it was written")

// handle hands the attempt to a handler; nil when nobody saw it being taken.
func (w *witness) handle(p place) *attempt {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.at[p]
	if a != nil {
		a.handled = true
	}
	return a
}

// returned notes that who ran it has returned.
func (w *witness) returned(a *attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.returned.IsZero() {
		w.gone(a)
	}
	if a.closed && w.at[a.place] == a {
		delete(w.at, a.place)
	}
}

// failing notes that asynq ends an attempt as failed, and what to do instead, if anything. One that no
// handler has is over.
func (w *witness) failing(p place, plan *settlement) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.at[p]
	if a == nil {
		return
	}
	a.plan = plan
	if !a.handled && a.returned.IsZero() {
		w.gone(a)
	}
}

// failed notes that what became of the attempt could not be written. What asynq says again after a while is
// sent again only where that is safe.
func (w *witness) failed(a *attempt, err error, repeatable bool) {
	if a == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, unknown := errors.AsType[*UncertainError](err); unknown && !repeatable {
		a.uncertain = err
	}
	a.err = err
}

// close makes known what became of the attempt.
func (w *witness) close(a *attempt, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shut(a, err)
}

// shut is close with the mutex held.
func (w *witness) shut(a *attempt, err error) {
	if a != nil && !a.closed {
		w.free(a)
		w.unnamed(a.place)
		a.closed, a.err = true, err
		close(a.over)
	}
}

// forget removes the attempt, unless who runs it has not returned: it still counts then.
func (w *witness) forget(p place) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a := w.at[p]; a != nil && !a.returned.IsZero() {
		w.shut(a, nil)
		delete(w.at, p)
	}
}

// idle is closed when nothing runs.
func (w *witness) idle() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := make(chan struct{})
	w.still = append(w.still, c)
	w.rest()
	return c
}

// rest tells those who wait that nothing runs, if so. The mutex is held.
func (w *witness) rest() {
	if len(w.still) == 0 {
		return
	}
	for _, a := range w.at {
		if a.returned.IsZero() {
			return
		}
	}
	for _, c := range w.still {
		close(c)
	}
	w.still = nil
}

// gone notes that an attempt does not run any more. The mutex is held.
func (w *witness) gone(a *attempt) {
	a.returned = time.Now()
	a.line.stopped()
	w.e.governor.Admitted(a.line.bands...)
	w.rest()
}

// done is whether it is known what became of the attempt.
func (w *witness) done(a *attempt) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return a.closed
}

// outcome is why what became of the attempt could not be written, once over is closed.
func (w *witness) outcome(a *attempt) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return a.err
}
